"""From a question to an answer at test time, as one lax.scan.

`denoise` (drm, diffusion), from an all-masked grid:

tokens = MASK … MASK, z = z_init
for level in 1000, 871, …, 1:
    y = embed(tokens)                 puzzle prefix as at the start
    logits, q, (y, z) = forward(x, y, z)
    predicted = argmax(logits)
    tokens = remask(predicted, level)      z carries over
answer = the last predicted, score = the last q_halt

`refine` (trm, sprm): y and z, from y_init and z_init, are carried through N forward passes.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from drm_jax.arc.tokens import MASK, PAD
from drm_jax.model.network import Network, Params
from drm_jax.model.recursion import Forward, forward
from drm_jax.noise.schedules import NUM_LEVELS, denoising_levels


@struct.dataclass
class Denoised:
    """What denoising gives. Steps come first in the trajectory."""

    predicted: jax.Array  # (B, S) uint8, the answers
    q_halt: jax.Array  # (B,) float32, the halting logits of the last step
    trajectory_predicted: jax.Array  # (N, B, S) uint8, argmax of every step
    trajectory_tokens: jax.Array  # (N, B, S) uint8, what every step began from (`denoise`)
    trajectory_q_halt: jax.Array  # (N, B) float32, the halting logits of every step
    trajectory_confidence: jax.Array  # (N, B, S) uint8, percent: the largest softmax probability


def _percent(confidence_BxS: jax.Array) -> jax.Array:
    return jnp.round(100 * confidence_BxS).astype(jnp.uint8)


def remask_uniform(predicted_BxS: jax.Array, draw_BxS: jax.Array, level: jax.Array) -> jax.Array:
    """(B, S) tokens: MASK where the uniform draw in [0, 1) is below level/1000."""
    return jnp.where(draw_BxS < _share(level), MASK, predicted_BxS)


def remask_confidence(
    predicted_BxS: jax.Array,
    confidence_BxS: jax.Array,
    priority_BxS: jax.Array,
    level: jax.Array,
) -> jax.Array:
    """(B, S) tokens: the cells of lowest confidence masked, and a few at random.

    Of the n = floor(level/1000 * cells predicted other than PAD) cells to mask, the
    floor(0.99 n) of lowest confidence are taken, and the rest are those of lowest priority among
    the others. Cells predicted PAD take no part.

    Args:
      confidence_BxS: largest softmax probability of each cell.
      priority_BxS: random numbers; only their order counts.
      level: noise level, 0..1000.
    """
    candidate_BxS = predicted_BxS != PAD
    count_Bx1 = candidate_BxS.sum(axis=-1, keepdims=True).astype(jnp.float32)
    total_Bx1 = jnp.floor(_share(level) * count_Bx1).astype(jnp.int32)
    least_sure_Bx1 = total_Bx1 * 99 // 100
    taken_BxS = _lowest(confidence_BxS, candidate_BxS, least_sure_Bx1)
    chance_BxS = _lowest(priority_BxS, candidate_BxS & ~taken_BxS, total_Bx1 - least_sure_Bx1)
    return jnp.where(taken_BxS | chance_BxS, MASK, predicted_BxS)


def _share(level: jax.Array) -> jax.Array:
    """level/1000 in float32, as numpy rounds it.

    Looked up, since XLA turns a division by a constant into a product with its inverse, and the
    last bit decides how many cells are masked: 44 or 45 of 625 at level 72.
    """
    share = np.arange(NUM_LEVELS + 1, dtype=np.float32) / np.float32(NUM_LEVELS)
    return jnp.asarray(share)[level]


def _lowest(value_BxS: jax.Array, allowed_BxS: jax.Array, count_Bx1: jax.Array) -> jax.Array:
    """Marks the `count` allowed cells of lowest value in each row; the first ones win ties."""
    order = jnp.argsort(jnp.where(allowed_BxS, value_BxS, jnp.inf), axis=-1, stable=True)
    rank_BxS = jnp.argsort(order, axis=-1)
    return rank_BxS < count_Bx1


def remasked_levels(steps: int, first_remask: Literal["full", "skip"]) -> np.ndarray:
    """(N,) integers 0..1000: at which noise level each step's answer is remasked for the next."""
    levels = denoising_levels(steps).copy()
    if first_remask == "skip":
        levels[0] = 0
    return levels


def denoise(
    network: Network,
    params: Params,
    constants: Params,
    inputs_BxS: jax.Array,
    rows_BxD: jax.Array,
    key_B: jax.Array,
    *,
    steps: int,
    remask: Literal["uniform", "confidence"],
    first_remask: Literal["full", "skip"] = "full",
    forward: Forward = forward,
) -> Denoised:
    """Answers a batch of inputs.

    Args:
      inputs_BxS: tokens.
      rows_BxD: the puzzle rows.
      key_B: one random key a row, so that a row's draws don't depend on its batch.
      steps: N forward passes.
      remask, first_remask: see `config.Evaluate`.
      forward: `recursion.forward`, or `one_pass` for diffusion.
    """
    variables = {"params": params}
    x = network.apply(variables, inputs_BxS, rows_BxD, method="embed")

    def step(carry, step_input):
        tokens_BxS, z = carry
        index, level = step_input
        y = network.apply(variables, tokens_BxS, rows_BxD, answers=True, method="embed")
        logits_BxSxV, q_Bx2, (_, z) = forward(network, params, x, y, z)
        predicted_BxS = jnp.argmax(logits_BxSxV, axis=-1).astype(jnp.uint8)
        draw_BxS = jax.vmap(
            lambda key: jax.random.uniform(jax.random.fold_in(key, index), inputs_BxS.shape[1:])
        )(key_B)
        confidence_BxS = jax.nn.softmax(logits_BxSxV, axis=-1).max(axis=-1)
        if remask == "uniform":
            remasked = remask_uniform(predicted_BxS, draw_BxS, level)
        else:
            remasked = remask_confidence(predicted_BxS, confidence_BxS, draw_BxS, level)
        seen = predicted_BxS, tokens_BxS, q_Bx2[:, 0], _percent(confidence_BxS)
        return (remasked, z), seen

    levels = remasked_levels(steps, first_remask)
    start = (
        jnp.full(inputs_BxS.shape, MASK, jnp.uint8),
        jnp.broadcast_to(constants["z_init"].astype(x.dtype), x.shape),
    )
    _, (predicted, tokens, q_halt, confidence) = lax.scan(
        step, start, (jnp.arange(steps), jnp.asarray(levels, jnp.int32))
    )
    return Denoised(predicted[-1], q_halt[-1], predicted, tokens, q_halt, confidence)


def refine(
    network: Network,
    params: Params,
    constants: Params,
    inputs_BxS: jax.Array,
    rows_BxD: jax.Array,
    *,
    steps: int,
) -> Denoised:
    """Answers a batch of inputs by `steps` passes of the carried recursion; nothing halts early.

    Returns:
      As `denoise`; but a pass begins from latents, not from tokens, so that both trajectories are
      what it predicted.
    """
    x = network.apply({"params": params}, inputs_BxS, rows_BxD, method="embed")

    def step(latents, _):
        logits_BxSxV, q_Bx2, latents = forward(network, params, x, *latents)
        confidence_BxS = _percent(jax.nn.softmax(logits_BxSxV, axis=-1).max(axis=-1))
        predicted_BxS = jnp.argmax(logits_BxSxV, axis=-1).astype(jnp.uint8)
        return latents, (predicted_BxS, q_Bx2[:, 0], confidence_BxS)

    start = tuple(
        jnp.broadcast_to(constants[name].astype(x.dtype), x.shape) for name in ("y_init", "z_init")
    )
    _, (predicted, q_halt, confidence) = lax.scan(step, start, length=steps)
    return Denoised(predicted[-1], q_halt[-1], predicted, predicted, q_halt, confidence)
