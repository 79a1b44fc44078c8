"""Diffusion: undo noise in one pass through a stack of layers, the baseline without recursion."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from drm_jax.corruption.remasking import remasked_levels
from drm_jax.fields import check_fields
from drm_jax.methods.denoising import (
    Denoising,
    Noise,
    denoising_loss,
    denoising_passes,
    draw_noised,
    started_levels,
    user_ratios,
)
from drm_jax.methods.method import AnswerPass, Batch, Bits, Carry, Method, Sums, Work
from drm_jax.model.backbone import Network, Params
from drm_jax.model.recursion import one_pass


@dataclasses.dataclass(frozen=True)
class Diffusion(Method):
    """Undo noise in one pass through all layers of the block."""

    noise: Noise = Noise()
    denoising: Denoising = Denoising()

    def __post_init__(self):
        check_fields(self, "method")

    @property
    def trains_answers(self) -> bool:
        return True

    def draw(
        self, bits: Bits, target_BxS: np.ndarray, board: tuple[int, int], mask: int
    ) -> dict[str, np.ndarray]:
        """As `draw_noised`."""
        return draw_noised(bits, target_BxS, board, mask, self.noise)[0]

    def level_ratios(self) -> np.ndarray | None:
        return user_ratios(self.noise)

    def loss(
        self,
        network: Network,
        params: Params,
        rows_BxD: jax.Array,
        constants: Params,
        batch: Batch,
        carry: Carry,
    ) -> tuple[jax.Array, Sums, Carry]:
        return *denoising_loss(network, params, rows_BxD, constants, batch, one_pass), carry

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
        return denoising_passes(
            network,
            params,
            constants,
            inputs_BxS,
            rows_BxD,
            key_B,
            denoising=self.denoising,
            shares=self.denoising.shares(self.noise),
            carry_z=True,  # there is none: a pass leaves z as it is
            pad_outside=pad_outside,
            forward=one_pass,
        )

    def remasked_levels(self, steps: int) -> np.ndarray:
        return remasked_levels(steps, self.denoising.first_remask)

    def test_levels(self, steps: int) -> np.ndarray:
        return started_levels(steps, self.denoising)

    def work(self) -> Work:
        return Work(
            blocks=1,
            grad_blocks=1,
            answer_embeds=1,
            plain_passes=1 if self.noise.own_answers else 0,
            test_blocks=1,
            test_answer_embeds=1,
        )
