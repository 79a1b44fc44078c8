"""drm_rollout: learns to undo what its own answers leave, along the path of a test.

a slot that was left  <- the example that arrives; all masked and z_init, or its noised target
a step                   one pass from the slot's tokens and z, scored as drm's
after the step           tokens <- the answer, masked again at the next level of the path; z stays
left again               after the last pass of the path; with `halts` sooner, when q_halt > 0

What a pass is shown in training is what a test shows it: its own mistakes. Ours, not the paper's.
"""

import dataclasses
import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from msgspec import Meta

from drm_jax.corruption.schedules import level_ratios
from drm_jax.fields import NUM_LEVELS, Share, check, check_fields
from drm_jax.methods import carried
from drm_jax.methods.carried import Halting, leaves_slot, slot_sums
from drm_jax.methods.denoising import (
    DenoisingMethod,
    Forward,
    Noise,
    draw_noised,
    remasked,
    shown,
    started_levels,
)
from drm_jax.methods.drm import RecursiveDenoising, recursive_forward
from drm_jax.methods.loss import score_examples
from drm_jax.methods.method import (
    Batch,
    Bits,
    Sums,
    Work,
    embedded,
    mask_of,
)
from drm_jax.methods.passes import where_rows
from drm_jax.model.backbone import Network, Params
from drm_jax.model.precision import widened
from drm_jax.model.recursion import Recursion, forward
from drm_jax.puzzles.family import PAD
from drm_jax.random_bits import unit


@struct.dataclass(eq=False)
class Carry:
    """One row a slot, split over devices like the batch."""

    example: dict[str, jax.Array]  # inputs, target (B, S) uint8; puzzle_id, weight (B,)
    tokens: jax.Array  # (B, S) uint8, what the next pass begins from
    z: jax.Array  # (B, T, D) float32
    seed: jax.Array  # (B,) uint32, of what the rollout masks again
    place: jax.Array  # (B,) int32, which pass of the path comes next, from 0
    steps: jax.Array  # (B,) int32, passes that the example has had
    left: jax.Array  # (B,) bool: the next step begins another example here


@dataclasses.dataclass(frozen=True)
class DrmRollout(DenoisingMethod):
    """Undo noise pass by pass, from the model's own answers."""

    recursion: Recursion = Recursion(cycles=1)
    """One cycle by default: then all of a pass has gradient, which pays (docs/results.md)."""
    rollout: Annotated[int, Meta(ge=1, le=NUM_LEVELS)] = 4
    """Passes of a rollout: its path is that of a test of so many. A test may have more. An example
    has so many steps of training in a row, so that with more of them fewer examples are seen. z
    begins anew after `denoising.z_passes`: change that too."""
    from_target: Share = 0.25
    """Share of rollouts that begin within the path, from the target with a part masked, as `noise`
    has it; the others begin all masked."""
    halts: bool = True
    """A rollout also ends when the halting score says that its answer is right, so that more
    examples are seen, and more of those that it can't solve yet."""
    noise: Noise = Noise()
    denoising: RecursiveDenoising = RecursiveDenoising(z_passes=4)
    """Part of training too. In a longer test z begins anew as often as a new rollout would, since z
    that was carried further than in training spoils answers."""

    def __post_init__(self):
        check_fields(self, "method")
        check(
            not self.noise.own_answers,
            "method.noise.own_answers",
            "does nothing here: a rollout always goes on from its own answers",
        )
        check(
            self.from_target > 0
            or self.noise == Noise(self.noise.schedule, replace=self.noise.replace),
            "method.noise",
            "kind and all_masked do nothing where no rollout begins from a target",
        )

    @property
    def trains_answers(self) -> bool:
        """See `Drm`."""
        return self.recursion.grad_cycles == self.recursion.cycles

    def check(self, data: Any, model: Any) -> None:
        carried.check_carries(data)

    @property
    def _halting(self) -> Halting:
        return Halting(self.rollout) if self.halts else Halting(self.rollout, 0.0)

    def draw(
        self, bits: Bits, target_BxS: np.ndarray, board: tuple[int, int], mask: int
    ) -> dict[str, np.ndarray]:
        """What an example that arrives begins with: begin_tokens (B, S) uint8, begin_place (B,)
        int32, begin_seed (B,) uint32; and what its slot draws: least_steps (B,) int32."""
        # What stands where MASK does follows from begin_seed, as in a test.
        masking = dataclasses.replace(self.noise, replace="mask")
        rows, _ = draw_noised(bits, target_BxS, board, mask, masking)
        bits_Bx4 = bits(3, 4)
        from_target_B = unit(bits_Bx4[:, 0]) < self.from_target
        masked = np.full_like(target_BxS, mask)
        place_B = np.where(from_target_B, self.place_of(rows["level"]), 0)
        return {
            "begin_tokens": np.where(from_target_B[:, None], rows["noised"], masked),
            "begin_place": place_B.astype(np.int32),
            "begin_seed": bits_Bx4[:, 3].copy(),
            **carried.draw_for_slots(bits_Bx4[:, 1:3], self._halting),
        }

    def place_of(self, level_B: np.ndarray) -> np.ndarray:
        """(B,) int: which pass of the path begins with as large a share of masked cells as a target
        noised at a level has, or else the next smaller one."""
        # With first_remask=skip place 1 begins with no cell masked: it is passed over.
        full = dataclasses.replace(self.denoising, first_remask="full")
        share_N = self.denoising.shares(self.noise)[started_levels(self.rollout, full)]
        ratio_B = level_ratios(self.noise.schedule)[level_B]
        place_B = (share_N[None] > ratio_B[:, None] + 1e-6).sum(axis=1)
        return np.minimum(place_B, self.rollout - 1)

    def empty_carry(self, network: Network, batch_size: int) -> Carry:
        like = carried.empty_carry(network, batch_size)
        return Carry(
            example=like.example,
            tokens=jnp.zeros_like(like.example["inputs"]),
            z=like.z,
            seed=jnp.zeros(batch_size, jnp.uint32),
            place=jnp.zeros(batch_size, jnp.int32),
            steps=like.steps,
            left=like.left,
        )

    def refill(self, carry: Carry, batch: Batch, constants: Params) -> tuple[Carry, Batch]:
        chosen = functools.partial(where_rows, carry.left)
        example = {name: chosen(batch[name], kept) for name, kept in carry.example.items()}
        carry = Carry(
            example=example,
            tokens=chosen(batch["begin_tokens"], carry.tokens),
            z=chosen(constants["z_init"], carry.z),
            seed=chosen(batch["begin_seed"], carry.seed),
            place=chosen(batch["begin_place"], carry.place),
            steps=chosen(jnp.zeros_like(carry.steps), carry.steps),
            left=carry.left,
        )
        return carry, {**batch, **example}

    def loss(
        self,
        network: Network,
        params: Params,
        rows_BxD: jax.Array,
        constants: Params,
        batch: Batch,
        carry: Carry,
    ) -> tuple[jax.Array, Sums, Carry]:
        x = network.embed(params, batch["inputs"], rows_BxD)
        seen_BxS = carry.tokens
        if self.noise.replace == "symbols":
            key_B = jax.vmap(jax.random.key)(carry.seed)
            seen_BxS = shown(network, seen_BxS, key_B, carry.place)
        y = embedded(network, params, seen_BxS, rows_BxD)
        z = carry.z.astype(x.dtype)
        logits_BxSxV, q_Bx2, (_, z_after) = forward(network, self.recursion, params, x, y, z)
        target_BxS, weight_B = batch["target"], batch["weight"]
        scored_BxS = target_BxS != PAD
        examples = score_examples(logits_BxSxV, q_Bx2, target_BxS, scored_BxS)
        steps_B, place_B = carry.steps + 1, carry.place + 1
        q_B = q_Bx2[:, 0] if self.halts else jnp.full_like(q_Bx2[:, 0], -1)
        left_B = leaves_slot(q_B, steps_B, batch["least_steps"], self.rollout)
        left_B |= place_B >= self.rollout
        sums = slot_sums(examples, weight_B, steps_B, left_B & scored_BxS.any(axis=-1))
        index_Bx1x1 = carry.place[:, None, None]
        z_after = self.denoising.next_z(widened(z_after), constants["z_init"], index_Bx1x1)
        carry = carry.replace(
            tokens=self._remasked(network, logits_BxSxV, carry),
            z=lax.stop_gradient(jnp.broadcast_to(z_after, carry.z.shape).astype(carry.z.dtype)),
            place=place_B,
            steps=steps_B,
            left=left_B,
        )
        return sums["loss"], sums, carry

    def _remasked(self, network: Network, logits_BxSxV: jax.Array, carry: Carry) -> jax.Array:
        """(B, S) uint8: a pass's answer, masked again at the level that follows it, by the draws
        that a test with this key makes at this pass."""
        place_B = carry.place
        levels_N = jnp.asarray(self.remasked_levels(self.rollout), jnp.int32)
        level_Bx1 = levels_N[jnp.minimum(place_B, self.rollout - 1)][:, None]
        predicted_BxS = jnp.argmax(logits_BxSxV, axis=-1).astype(jnp.uint8)
        key_B = jax.vmap(jax.random.key)(carry.seed)
        tokens_BxS = remasked(
            self.denoising.remask, predicted_BxS, logits_BxSxV, key_B, place_B, level_Bx1,
            mask_of(network), self.denoising.shares(self.noise),
        )  # fmt: skip
        return lax.stop_gradient(tokens_BxS)

    def forward(self) -> Forward:
        return recursive_forward(self.recursion)

    def work(self) -> Work:
        return Work(
            blocks=self.recursion.blocks,
            grad_blocks=self.recursion.grad_blocks,
            answer_embeds=1,
            test_blocks=self.recursion.blocks,
            test_answer_embeds=1,
        )
