"""DRM: undo noise over several recursive steps.

y starts from the target with a random part masked, z from z_init; one gradient step an example.
Denoising Recursion Models, arXiv 2604.18839.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from drm_jax.fields import Count, added, check, check_fields
from drm_jax.methods.denoising import (
    Denoising,
    DenoisingMethod,
    Forward,
    Noise,
    denoising_loss,
    draw_noised,
    draw_path,
    shown_in_training,
)
from drm_jax.methods.loss import score
from drm_jax.methods.method import (
    Batch,
    Bits,
    Carry,
    Sums,
    Work,
    embedded,
    mask_of,
)
from drm_jax.model.backbone import Network, Params
from drm_jax.model.recursion import (
    Latents,
    Pass,
    Recursion,
    cycle,
    forward,
    read_out,
    sum_of_losses,
)
from drm_jax.puzzles.family import PAD


@dataclasses.dataclass(frozen=True)
class RecursiveDenoising(Denoising):
    """How a test goes from step to step, where a latent z can go along."""

    carry_z: bool = True
    """z goes on from step to step, as published; if false, each begins with z_init, as in
    training."""
    z_passes: Count | None = added(None)
    """After so many steps z begins anew with z_init, so that a long test doesn't carry it further
    than training does. None: never. Does nothing where z isn't carried."""


@dataclasses.dataclass(frozen=True)
class Drm(DenoisingMethod):
    """Undo noise over the cycles of one step."""

    recursion: Recursion = Recursion()
    noise: Noise = Noise()
    supervision: Literal["final", "path"] = "final"
    """Score the grid after the last cycle, or after every cycle k that of noise level t_k."""
    denoising: RecursiveDenoising = RecursiveDenoising()

    def __post_init__(self):
        check_fields(self, "method")
        cycles, grad_cycles = self.recursion.cycles, self.recursion.grad_cycles
        check(
            self.supervision == "final" or grad_cycles == cycles,
            "method.recursion.grad_cycles",
            f"supervision=path scores every cycle: must be {cycles}, not {grad_cycles}",
        )
        check(
            self.supervision == "final" or not self.noise.own_answers,
            "method.noise.own_answers",
            "is for supervision=final",
        )

    @property
    def trains_answers(self) -> bool:
        """With a gradient window shorter than the recursion the table of answers gets no gradient,
        as in the published code."""
        return self.recursion.grad_cycles == self.recursion.cycles

    def draw(
        self, bits: Bits, target_BxS: np.ndarray, board: tuple[int, int], mask: int
    ) -> dict[str, np.ndarray]:
        """As `draw_noised` and `draw_path`."""
        rows, noise_BxS = draw_noised(bits, target_BxS, board, mask, self.noise)
        cycles = self.recursion.cycles
        return rows | draw_path(target_BxS, noise_BxS, rows["level"], cycles, self.noise, mask)

    def loss(
        self,
        network: Network,
        params: Params,
        rows_BxD: jax.Array,
        constants: Params,
        batch: Batch,
        carry: Carry,
    ) -> tuple[jax.Array, Sums, Carry]:
        if self.supervision == "path":
            found = path_loss(network, params, rows_BxD, constants, batch, self.recursion)
        else:
            found = denoising_loss(network, params, rows_BxD, constants, batch, self.forward())
        return *found, carry

    def forward(self) -> Forward:
        return recursive_forward(self.recursion)

    def work(self) -> Work:
        recursion = self.recursion
        windows = recursion.cycles if self.supervision == "path" else 1
        return Work(
            blocks=recursion.blocks,
            grad_blocks=recursion.grad_blocks - (windows - 1) * recursion.cut_steps,
            scored=windows,
            answer_embeds=windows,
            plain_passes=1 if self.noise.own_answers else 0,
            test_blocks=recursion.blocks,
            test_answer_embeds=1,
        )


def recursive_forward(recursion: Recursion) -> Forward:
    """A forward pass of all cycles."""

    def run(network: Network, params: Params, x: jax.Array, y: jax.Array, z: jax.Array) -> Pass:
        return forward(network, recursion, params, x, y, z)

    return run


def path_loss(
    network: Network,
    params: Params,
    rows_BxD: jax.Array,
    constants: Params,
    batch: Batch,
    recursion: Recursion,
) -> tuple[jax.Array, Sums]:
    """The loss with supervision="path": every cycle is scored on what its noise level shows.

    Cycle k = 1..H is scored on the scored cells that the reverse target of level
    t_k = floor(t (H-k) / H) does not mask; the mean over k, and the halting loss of the last one.
    No gradient passes from cycle to cycle: each is a gradient window. cell_loss is the mean over
    the cycles, the other sums are of the last.
    """
    cycles, mask, target_BxS = recursion.cycles, mask_of(network), batch["target"]
    noised_BxS = shown_in_training(network, batch["noised"], batch)

    def cycle_loss(
        trained: tuple[Params, jax.Array], latents: Latents, k: jax.Array
    ) -> tuple[jax.Array, tuple[Sums, Latents]]:
        params, rows_BxD = trained
        x = network.embed(params, batch["inputs"], rows_BxD)
        y, z = latents
        y = jnp.where(k == 0, embedded(network, params, noised_BxS, rows_BxD), y)
        inner_steps, cut_steps = recursion.inner_steps, recursion.cut_steps
        y, z = cycle(network.block, params, x, (y, z), inner_steps, cut_steps)
        shown_BxS = jnp.take(batch["reverse_targets"], k, axis=1) != mask
        scored_BxS = (target_BxS != PAD) & shown_BxS
        _, sums = score(*read_out(network, params, y), target_BxS, scored_BxS, batch["weight"])
        loss = sums["cell_loss"] / cycles
        loss += jnp.where(k == cycles - 1, 0.5 * sums["halt_loss"], 0)
        return loss, (sums, (y, z))

    x_shape = (len(target_BxS), network.prefix + target_BxS.shape[1], network.hidden)
    z = jnp.broadcast_to(constants["z_init"].astype(network.dtype), x_shape)
    loss, sums_H = sum_of_losses(cycle_loss, (params, rows_BxD), (jnp.zeros_like(z), z), cycles)
    sums = {name: of_cycle[-1] for name, of_cycle in sums_H.items()}
    return loss, sums | {"loss": loss, "cell_loss": sums_H["cell_loss"].mean()}
