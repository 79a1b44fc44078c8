"""TRM: y and z go on where the example's last gradient step ended, up to 16 of them.

Tiny Recursion Model, arXiv 2510.04871.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from drm_jax.fields import check_fields
from drm_jax.methods import carried
from drm_jax.methods.carried import Carry, Halting
from drm_jax.methods.method import AnswerPass, Batch, Bits, Method, Sums, Work
from drm_jax.model.backbone import Network, Params
from drm_jax.model.recursion import Recursion


@dataclasses.dataclass(frozen=True)
class Trm(Method):
    """Deep supervision: y and z start from y_init and z_init and are carried from step to step."""

    recursion: Recursion = Recursion()
    halting: Halting = Halting()
    mask_token: bool = True
    """Whether the vocabulary has a MASK, which this method never uses. TRM's own checkpoints have
    none."""

    def __post_init__(self):
        check_fields(self, "method")

    @property
    def has_mask(self) -> bool:
        return self.mask_token

    @property
    def draws_at_test(self) -> bool:
        return False

    @property
    def trains_answers(self) -> bool:
        """Answers are never embedded."""
        return False

    def check(self, data: Any, model: Any) -> None:
        carried.check_carries(data)

    def draw(
        self, bits: Bits, target_BxS: np.ndarray, board: tuple[int, int], mask: int
    ) -> dict[str, np.ndarray]:
        """least_steps (B,) int32."""
        return carried.draw_for_slots(bits(1, 2), self.halting)

    def empty_carry(self, network: Network, batch_size: int) -> Carry:
        return carried.empty_carry(network, batch_size)

    def refill(self, carry: Carry, batch: Batch, constants: Params) -> tuple[Carry, Batch]:
        return carried.refill(carry, batch, constants)

    def loss(
        self,
        network: Network,
        params: Params,
        rows_BxD: jax.Array,
        constants: Params,
        batch: Batch,
        carry: Carry,
    ) -> tuple[jax.Array, Sums, Carry]:
        return carried.carried_loss(
            network, params, rows_BxD, batch, carry, self.recursion, self.halting.max_steps
        )

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
        return carried.refining_passes(
            network, params, constants, inputs_BxS, rows_BxD, self.recursion
        )

    def work(self) -> Work:
        return Work(
            blocks=self.recursion.blocks,
            grad_blocks=self.recursion.grad_blocks,
            test_blocks=self.recursion.blocks,
        )
