"""Diffusion: undo noise in one pass through a stack of layers, the baseline without recursion."""

import dataclasses
from typing import Any

import jax
import numpy as np

from drm_jax.fields import check, check_fields
from drm_jax.methods.denoising import (
    Denoising,
    DenoisingMethod,
    Forward,
    Noise,
    denoising_loss,
    draw_noised,
)
from drm_jax.methods.method import Batch, Bits, Carry, Sums, Work
from drm_jax.model.backbone import Network, Params
from drm_jax.model.recursion import one_pass


@dataclasses.dataclass(frozen=True)
class Diffusion(DenoisingMethod):
    """Undo noise in one pass through all layers of the block."""

    noise: Noise = Noise()
    denoising: Denoising = Denoising()

    def __post_init__(self):
        check_fields(self, "method")

    def check_test(self, evaluate: Any) -> None:
        super().check_test(evaluate)
        check(
            not evaluate.latent_noise,
            "evaluate.latent_noise",
            "does nothing for diffusion, whose passes begin from tokens alone",
        )

    @property
    def trains_answers(self) -> bool:
        return True

    def draw(
        self, bits: Bits, target_BxS: np.ndarray, board: tuple[int, int], mask: int
    ) -> dict[str, np.ndarray]:
        """As `draw_noised`."""
        return draw_noised(bits, target_BxS, board, mask, self.noise)[0]

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

    def forward(self) -> Forward:
        return one_pass  # it leaves z as it is

    def work(self) -> Work:
        return Work(
            blocks=1,
            grad_blocks=1,
            answer_embeds=1,
            plain_passes=1 if self.noise.own_answers else 0,
            test_blocks=1,
            test_answer_embeds=1,
        )
