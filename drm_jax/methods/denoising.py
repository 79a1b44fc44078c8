"""What methods that corrupt a target share (drm, diffusion): its noise, and denoising at test time.

tokens = MASK … MASK, z = z_init
for level in 1000, 871, …, 1:
    y = embed(tokens)                 puzzle prefix as at the start
    logits, q, (y, z) = forward(x, y, z)
    predicted = argmax(logits)
    tokens = remask(predicted, level)      z carries over
answer = the last predicted, score = the last q_halt

With `noise.replace=symbols` the network never sees MASK: at each MASK of its tokens stands a random
symbol instead (`shown`). All else, schedules, remasking, what is written of a test, is about MASK.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from drm_jax.corruption.masking import NoiseKind, corrupt, noise_from, reverse_targets
from drm_jax.corruption.remasking import remask_confidence, remask_uniform, remasked_levels
from drm_jax.corruption.schedules import SCHEDULES, level_ratios, ratio_table
from drm_jax.fields import NUM_LEVELS, Share, added, check_fields, check_name
from drm_jax.methods.loss import Sums, score
from drm_jax.methods.method import (
    AnswerPass,
    Batch,
    Bits,
    Method,
    Passed,
    embedded,
    mask_of,
    passed,
    spread,
)
from drm_jax.model.backbone import Network, Params
from drm_jax.model.recursion import Pass
from drm_jax.puzzles.family import PAD
from drm_jax.random_bits import below, unit

Forward = Callable[[Network, Params, jax.Array, jax.Array, jax.Array], Pass]
"""(network, params, x, y, z) -> a forward pass."""


@dataclasses.dataclass(frozen=True)
class Noise:
    """How training corrupts a target."""

    schedule: str = "cosine"
    """Share of masked cells by noise level: linear, cosine, sigmoid, or package.module:function."""
    kind: NoiseKind = "uniform"
    """Independent noise a cell, or noise blurred over neighbours."""
    all_masked: Share = 0.0
    """Share of examples whose target is masked whole, as every test begins. Levels below 1000
    hardly ever do that."""
    own_answers: Share = 0.0
    """Share of examples that start from the model's own answer to a grid masked whole, masked again
    at the level drawn, and from the z of that pass: like a later step of a test. Each step costs
    one forward pass more."""
    replace: Literal["mask", "symbols"] = added("mask")
    """What the network sees where a cell is masked, in training and at test time: MASK; or a random
    token, any but PAD and MASK, which it isn't told from a right one."""

    def __post_init__(self):
        check_fields(self, "method.noise")
        check_name(self.schedule, "method.noise.schedule", SCHEDULES)


@dataclasses.dataclass(frozen=True)
class Denoising:
    """How a test goes from step to step."""

    # Whether z goes on from step to step, and for how many of them. Not annotated, since these
    # are no options here: even a ClassVar would decide where the option of a derived class stands
    # among its fields.
    carry_z = True
    z_passes = None
    remask: Literal["uniform", "confidence"] = "uniform"
    """What is masked again after a step: random cells, or those the model is least sure of."""
    first_remask: Literal["full", "skip"] = "full"
    """The first remask is at level 1000 and masks all, as published; `skip` keeps step 1's grid."""
    remask_schedule: Literal["linear", "training"] = "linear"
    """Share of cells that are masked again at a level: level/1000, as published, or the mask ratio
    of the noise schedule, as in training."""
    outside: Literal["predicted", "pad"] = "predicted"
    """What a step finds outside of the grid that the step before answered: whatever was predicted
    there, as published; or PAD, as in training."""

    def __post_init__(self):
        check_fields(self, "method.denoising")

    def next_z(self, z: jax.Array, z_init: jax.Array, index: jax.Array) -> jax.Array:
        """What the next pass has as z.

        Args:
          z: (B, T, D), as the pass leaves it.
          z_init: broadcasts to z.
          index: of the pass, from 0; () or (B, 1, 1).
        """
        if not self.carry_z:
            return z_init
        if self.z_passes is None:
            return z
        return jnp.where((index + 1) % self.z_passes == 0, z_init, z)

    def shares(self, noise: Noise) -> np.ndarray:
        """(1001,) float32: the share of cells that is masked again at each level."""
        return level_ratios("linear" if self.remask_schedule == "linear" else noise.schedule)


def draw_noised(
    bits: Bits, target_BxS: np.ndarray, board: tuple[int, int], mask: int, noise: Noise
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What a corrupted example needs, and the noise (B, S) float32 that it is corrupted by.

    Returns:
      noised (B, S) uint8 and its level (B,) int32; with own_answers also own_answer (B,) bool; with
      replace=symbols also symbol_seed (B,) uint32.
    """
    bits_Bx3 = bits(1, 3)
    level_B = below(bits_Bx3[:, 0], NUM_LEVELS).astype(np.int32)
    level_B[unit(bits_Bx3[:, 1]) < noise.all_masked] = NUM_LEVELS
    noise_BxS = noise_from(unit(bits(2, target_BxS.shape[1])), noise.kind, board)
    noised_BxS = corrupt(target_BxS, noise_BxS, level_B, noise.schedule, mask)
    rows = {"noised": noised_BxS, "level": level_B}
    if noise.own_answers:
        rows["own_answer"] = unit(bits_Bx3[:, 2]) < noise.own_answers
    if noise.replace == "symbols":
        rows["symbol_seed"] = bits(_SYMBOLS, 1)[:, 0].copy()
    return rows, noise_BxS


_SYMBOLS = 4
"""The purpose of their bits; 3 is that of drm_rollout."""


def shown(
    network: Network, tokens_BxS: jax.Array, key_B: jax.Array, index: jax.Array | int
) -> jax.Array:
    """(B, S) uint8 tokens with a random one in the place of each MASK, uniform over all but PAD
    and MASK.

    Args:
      key_B: one random key a row.
      index: of the pass, () or (B,); each has draws of its own.
    """
    mask = mask_of(network)
    index_B = jnp.broadcast_to(index, key_B.shape)

    def draw(key: jax.Array, index: jax.Array) -> jax.Array:
        # Remasking folds in numbers of passes, which are smaller; noise on latents larger ones.
        of_pass = jax.random.fold_in(jax.random.fold_in(key, NUM_LEVELS), index)
        return jax.random.randint(of_pass, tokens_BxS.shape[1:], PAD + 1, mask)

    symbols_BxS = jax.vmap(draw)(key_B, index_B).astype(tokens_BxS.dtype)
    return jnp.where(tokens_BxS == mask, symbols_BxS, tokens_BxS)


def shown_in_training(
    network: Network, tokens_BxS: jax.Array, batch: Batch, index: int = 0
) -> jax.Array:
    """Tokens as the network sees them in a pass, of a batch that `draw_noised` has drawn for."""
    if "symbol_seed" not in batch:
        return tokens_BxS
    return shown(network, tokens_BxS, jax.vmap(jax.random.key)(batch["symbol_seed"]), index)


def draw_path(
    target_BxS: np.ndarray, noise_BxS: np.ndarray, level_B: np.ndarray, steps: int, noise: Noise,
    mask: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """reverse_targets (B, H, S) uint8: the grids that lead back from the corrupted one."""
    path = reverse_targets(target_BxS, noise_BxS, level_B, steps, noise.schedule, mask)
    return {"reverse_targets": path}


def user_ratios(noise: Noise) -> np.ndarray | None:
    """The ratios of a schedule of the user's own, which may change under its name. (Built-in ones
    don't, and their last bit differs between kinds of processors, which a run may well change.)"""
    return None if noise.schedule in SCHEDULES else ratio_table(noise.schedule)


def denoising_loss(
    network: Network,
    params: Params,
    rows_BxD: jax.Array,
    constants: Params,
    batch: Batch,
    forward: Forward,
) -> tuple[jax.Array, Sums]:
    """The loss of undoing the noise of a batch, summed over its examples, and metric sums.

    Args:
      batch: as `draw_noised` gives, beside the examples.
    """
    x = network.embed(params, batch["inputs"], rows_BxD)
    noised_BxS, z, index = batch["noised"], spread(constants["z_init"], x), 0
    if "own_answer" in batch:
        frozen = lax.stop_gradient((params, rows_BxD, x, z))
        noised_BxS, z = _own_answers(network, *frozen, batch, forward)
        index = 1
    seen_BxS = shown_in_training(network, noised_BxS, batch, index)
    y = embedded(network, params, seen_BxS, rows_BxD)
    logits_BxSxV, q_Bx2, _ = forward(network, params, x, y, z)
    target_BxS = batch["target"]
    return score(logits_BxSxV, q_Bx2, target_BxS, target_BxS != PAD, batch["weight"])


def _own_answers(
    network: Network,
    params: Params,
    rows_BxD: jax.Array,
    x: jax.Array,
    z: jax.Array,
    batch: Batch,
    forward: Forward,
) -> tuple[jax.Array, jax.Array]:
    """Start tokens and z of a batch, where `own_answer` as after a test's first step.

    The tokens are what the model answers from an all-masked grid, masked where the noised target
    is; z is that of this pass.
    """
    mask = mask_of(network)
    masked_BxS = jnp.full_like(batch["noised"], mask)
    seen_BxS = shown_in_training(network, masked_BxS, batch)
    y = embedded(network, params, seen_BxS, rows_BxD)
    logits_BxSxV, _, (_, z_after) = forward(network, params, x, y, z)
    answer_BxS = jnp.argmax(logits_BxSxV, axis=-1).astype(masked_BxS.dtype)
    own_B = batch["own_answer"]
    from_answer = own_B[:, None] & (batch["noised"] != mask)
    return jnp.where(from_answer, answer_BxS, batch["noised"]), jnp.where(
        own_B[:, None, None], z_after, z
    )


@dataclasses.dataclass(frozen=True)
class DenoisingMethod(Method):
    """What methods that denoise at test time have in common: options `noise` and `denoising`."""

    def forward(self) -> Forward:
        """A forward pass of a test."""
        raise NotImplementedError

    def level_ratios(self) -> np.ndarray | None:
        return user_ratios(self.noise)

    def passes(
        self,
        network: Network,
        params: Params,
        constants: Params,
        inputs_BxS: jax.Array,
        rows_BxD: jax.Array,
        key_B: jax.Array,
        *,
        pad_outside: Callable[[jax.Array], jax.Array],
    ) -> tuple[Any, AnswerPass]:
        mask, forward = mask_of(network), self.forward()
        denoising, shares = self.denoising, self.denoising.shares(self.noise)
        x = network.embed(params, inputs_BxS, rows_BxD)
        z_init = spread(constants["z_init"], x)

        def one_pass(carry: Any, index: jax.Array, level: jax.Array) -> tuple[Any, Passed]:
            tokens_BxS, z = carry
            seen_BxS = tokens_BxS
            if self.noise.replace == "symbols":
                seen_BxS = shown(network, tokens_BxS, key_B, index)
            y = embedded(network, params, seen_BxS, rows_BxD)
            logits_BxSxV, q_Bx2, (_, z) = forward(network, params, x, y, z)
            z = denoising.next_z(z, z_init, index)
            given = passed(logits_BxSxV, q_Bx2, tokens_BxS)
            entering = given.predicted
            if denoising.outside == "pad":
                entering = pad_outside(entering)
            of = logits_BxSxV, key_B, index, level, mask, shares
            return (remasked(denoising.remask, entering, *of), z), given

        return (jnp.full(inputs_BxS.shape, mask, jnp.uint8), z_init), one_pass

    def remasked_levels(self, steps: int) -> np.ndarray:
        return remasked_levels(steps, self.denoising.first_remask)

    def test_levels(self, steps: int) -> np.ndarray:
        return started_levels(steps, self.denoising)


def remasked(
    remask: Literal["uniform", "confidence"],
    entering_BxS: jax.Array,
    logits_BxSxV: jax.Array,
    key_B: jax.Array,
    index: jax.Array,
    level: jax.Array,
    mask: int,
    shares: np.ndarray,
) -> jax.Array:
    """(B, S) uint8: the answer of a pass, masked again for the next one.

    Args:
      remask: see `Denoising`.
      entering_BxS: the answer, or as much of it as goes on.
      logits_BxSxV: of the pass.
      key_B: one random key a row.
      index: of the pass, () or (B,); each has draws of its own.
      level: noise level, () or (B, 1).
      shares: (1001,) float32, of cells that are masked again at each level.
    """
    index_B = jnp.broadcast_to(index, key_B.shape)
    draw_BxS = jax.vmap(
        lambda key, index: jax.random.uniform(
            jax.random.fold_in(key, index), entering_BxS.shape[1:]
        )
    )(key_B, index_B)
    if remask == "uniform":
        tokens_BxS = remask_uniform(entering_BxS, draw_BxS, level, mask, shares)
    else:
        sure_BxS = jax.nn.softmax(logits_BxSxV, axis=-1).max(axis=-1)
        tokens_BxS = remask_confidence(entering_BxS, sure_BxS, draw_BxS, level, mask, shares)
    return tokens_BxS.astype(jnp.uint8)


def started_levels(steps: int, denoising: Denoising) -> np.ndarray:
    """(N,) int: the noise level of what each step of a test begins from."""
    return np.array([NUM_LEVELS, *remasked_levels(steps, denoising.first_remask)[:-1]])
