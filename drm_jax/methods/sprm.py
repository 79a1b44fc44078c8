"""SPRM: as TRM, but y and z are perturbed before they are carried over."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from msgspec import Meta

from drm_jax.fields import NUM_LEVELS
from drm_jax.methods import carried
from drm_jax.methods.carried import Carry
from drm_jax.methods.method import Batch, Bits, Work
from drm_jax.methods.trm import Trm
from drm_jax.parallel.mesh import Axes
from drm_jax.random_bits import below

MIN_LEVEL_BETA, MAX_LEVEL_BETA = 1e-4, 0.02


@dataclasses.dataclass(frozen=True)
class Sprm(Trm):
    """TRM with noise on the latents that are carried over, in training alone."""

    latent_levels: Annotated[int, Meta(ge=1, le=NUM_LEVELS)] = 100
    """Levels that the noise is drawn from, the lowest of 1000. (The paper's own code draws from all
    1000.)"""

    def draw(
        self, bits: Bits, target_BxS: np.ndarray, board: tuple[int, int], mask: int
    ) -> dict[str, np.ndarray]:
        """least_steps (B,) int32; latent_level (B, 2) int32; latent_seed (B,) uint32."""
        bits_Bx5 = bits(1, 5)
        levels_Bx2 = below(bits_Bx5[:, 2:4], self.latent_levels).astype(np.int32)
        draws = carried.draw_for_slots(bits_Bx5, self.halting)
        return draws | {"latent_level": levels_Bx2, "latent_seed": bits_Bx5[:, 4].copy()}

    def carry_over(self, carry: Carry, batch: Batch, axis: Axes | None) -> Carry:
        return perturb_latents(carry, batch, axis)

    def work(self) -> Work:
        """Mean and spread of y and of z are summed over devices."""
        return dataclasses.replace(super().work(), reduced_rows=4)


def kept_signal(level: jax.Array) -> jax.Array:
    """The DDPM schedule's alpha-bar at levels 0..999: 1000 steps, beta linear, 1e-4 to 0.02."""
    beta = jnp.linspace(MIN_LEVEL_BETA, MAX_LEVEL_BETA, 1000)
    return jnp.cumprod(1 - beta)[level]


def perturb(
    x_BxTxD: jax.Array,
    level_B: jax.Array,
    normal_BxTxD: jax.Array,
    axis: Axes | None = None,
) -> jax.Array:
    """A latent moved towards noise of its own channels' mean and spread (sprm).

    x <- sqrt(a) x + sqrt(1 - a) (mean + std normal), a the DDPM schedule's at the level; mean and
    std (with n-1) of each channel over the whole batch and all tokens, the prefix too.

    Args:
      x_BxTxD: float32.
      level_B: 0..999.
      normal_BxTxD: standard normal draws.
      axis: mesh axes over which the batch is split, where called inside shard_map.
    """

    def total(x: jax.Array) -> jax.Array:
        summed = x.sum(axis=(0, 1))
        return summed if axis is None else lax.psum(summed, axis)

    count = x_BxTxD.shape[0] * x_BxTxD.shape[1] * (1 if axis is None else lax.axis_size(axis))
    mean_D = total(x_BxTxD) / count
    std_D = jnp.sqrt(total(jnp.square(x_BxTxD - mean_D)) / (count - 1))
    signal = kept_signal(level_B)[:, None, None]
    noise_BxTxD = mean_D + std_D * normal_BxTxD
    return jnp.sqrt(signal) * x_BxTxD + jnp.sqrt(1 - signal) * noise_BxTxD


def perturb_latents(carry: Carry, batch: Batch, axis: Axes | None = None) -> Carry:
    """The carry with y and z perturbed, each with noise and a level of its own (sprm).

    Args:
      batch: has latent_level (B, 2) int32, for y and z, and latent_seed (B,) uint32.
      axis: see `perturb`.
    """
    normal_2xBxTxD = latent_noise(batch["latent_seed"], carry.y.shape[1:])
    y, z = (
        perturb(latent, batch["latent_level"][:, i], normal_2xBxTxD[i], axis)
        for i, latent in enumerate((carry.y, carry.z))
    )
    return carry.replace(y=y, z=z)


def latent_noise(seed_B: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """(2, B, T, D) standard normal draws for y and z, from a seed (uint32) of each slot."""
    draw = jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), (2, *shape)))
    return draw(seed_B).swapaxes(0, 1)
