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

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from drm_jax.corruption.schedules import denoising_levels, level_ratios
from drm_jax.model.network import Network, Params
from drm_jax.model.recursion import Forward, forward
from drm_jax.puzzles.arc.tokens import FIRST_COLOUR, MASK, PAD


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


LINEAR = level_ratios("linear")
"""(1001,) level/1000 in float32, as numpy rounds it.

Looked up, since XLA turns a division by a constant into a product with its inverse, and the last
bit decides how many cells are masked: 44 or 45 of 625 at level 72.
"""


def remask_uniform(
    predicted_BxS: jax.Array, draw_BxS: jax.Array, level: jax.Array, shares: np.ndarray = LINEAR
) -> jax.Array:
    """(B, S) tokens: MASK where the uniform draw in [0, 1) is below the level's share."""
    return jnp.where(draw_BxS < jnp.asarray(shares)[level], MASK, predicted_BxS)


def remask_confidence(
    predicted_BxS: jax.Array,
    confidence_BxS: jax.Array,
    priority_BxS: jax.Array,
    level: jax.Array,
    shares: np.ndarray = LINEAR,
) -> jax.Array:
    """(B, S) tokens: the cells of lowest confidence masked, and a few at random.

    Of the n = floor(share of the level * cells predicted other than PAD) cells to mask, the
    floor(0.99 n) of lowest confidence are taken, and the rest are those of lowest priority among
    the others. Cells predicted PAD take no part.

    Args:
      confidence_BxS: largest softmax probability of each cell.
      priority_BxS: random numbers; only their order counts.
      level: noise level, 0..1000.
      shares: (1001,) float32, of each level.
    """
    candidate_BxS = predicted_BxS != PAD
    count_Bx1 = candidate_BxS.sum(axis=-1, keepdims=True).astype(jnp.float32)
    total_Bx1 = jnp.floor(jnp.asarray(shares)[level] * count_Bx1).astype(jnp.int32)
    least_sure_Bx1 = total_Bx1 * 99 // 100
    taken_BxS = _lowest(confidence_BxS, candidate_BxS, least_sure_Bx1)
    chance_BxS = _lowest(priority_BxS, candidate_BxS & ~taken_BxS, total_Bx1 - least_sure_Bx1)
    return jnp.where(taken_BxS | chance_BxS, MASK, predicted_BxS)


def _lowest(value_BxS: jax.Array, allowed_BxS: jax.Array, count_Bx1: jax.Array) -> jax.Array:
    """Marks the `count` allowed cells of lowest value in each row; the first ones win ties."""
    order = jnp.argsort(jnp.where(allowed_BxS, value_BxS, jnp.inf), axis=-1, stable=True)
    rank_BxS = jnp.argsort(order, axis=-1)
    return rank_BxS < count_Bx1


def pad_outside(predicted_BxS: jax.Array) -> jax.Array:
    """(B, S) tokens: PAD beyond the grid that is answered and the line that closes it.

    The grid is that of `arc.tokens.grid_sizes`. A target is PAD there, which is not scored, so that
    anything may be predicted.
    """
    side = math.isqrt(predicted_BxS.shape[1])
    canvas_BxCxC = predicted_BxS.reshape(-1, side, side)
    colour_BxCxC = (canvas_BxCxC >= FIRST_COLOUR) & (canvas_BxCxC < MASK)
    run_BxC = jnp.cumprod(colour_BxCxC.astype(jnp.int32), axis=2).sum(axis=2)
    width_BxC = lax.cummin(run_BxC, axis=1)  # widest rectangle of each height
    best_Bx1 = jnp.argmax(width_BxC * jnp.arange(1, side + 1), axis=1)[:, None]
    width_B = jnp.take_along_axis(width_BxC, best_Bx1, axis=1)[:, 0]
    height_B = jnp.where(width_B > 0, best_Bx1[:, 0] + 1, 0)
    height, width = (x[:, None, None] for x in (height_B, width_B))
    row, column = jnp.arange(side)[:, None], jnp.arange(side)
    kept = (row <= height) & (column <= width) & ((row < height) | (column < width))
    return jnp.where(kept, canvas_BxCxC, PAD).reshape(predicted_BxS.shape)


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
    shares: np.ndarray = LINEAR,
    outside: Literal["predicted", "pad"] = "predicted",
    carry_z: bool = True,
    forward: Forward = forward,
) -> Denoised:
    """Answers a batch of inputs.

    Args:
      inputs_BxS: tokens.
      rows_BxD: the puzzle rows.
      key_B: one random key a row, so that a row's draws don't depend on its batch.
      steps: N forward passes.
      remask, first_remask, outside, carry_z: see `config.Evaluate`.
      shares: (1001,) float32, of cells that are masked again at each level.
      forward: `recursion.forward`, or `one_pass` for diffusion.
    """
    variables = {"params": params}
    x = network.apply(variables, inputs_BxS, rows_BxD, method="embed")
    z_init = jnp.broadcast_to(constants["z_init"].astype(x.dtype), x.shape)

    def step(carry, step_input):
        tokens_BxS, z = carry
        index, level = step_input
        y = network.apply(variables, tokens_BxS, rows_BxD, answers=True, method="embed")
        logits_BxSxV, q_Bx2, (_, z) = forward(network, params, x, y, z)
        z = z if carry_z else z_init
        predicted_BxS = jnp.argmax(logits_BxSxV, axis=-1).astype(jnp.uint8)
        entering_BxS = predicted_BxS if outside == "predicted" else pad_outside(predicted_BxS)
        draw_BxS = jax.vmap(
            lambda key: jax.random.uniform(jax.random.fold_in(key, index), inputs_BxS.shape[1:])
        )(key_B)
        confidence_BxS = jax.nn.softmax(logits_BxSxV, axis=-1).max(axis=-1)
        if remask == "uniform":
            remasked = remask_uniform(entering_BxS, draw_BxS, level, shares)
        else:
            remasked = remask_confidence(entering_BxS, confidence_BxS, draw_BxS, level, shares)
        seen = predicted_BxS, tokens_BxS, q_Bx2[:, 0], _percent(confidence_BxS)
        return (remasked, z), seen

    levels = remasked_levels(steps, first_remask)
    start = jnp.full(inputs_BxS.shape, MASK, jnp.uint8), z_init
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
