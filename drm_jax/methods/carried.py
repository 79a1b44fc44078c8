"""What a slot of the batch takes over from one training step to the next (trm, sprm).

a slot that was left  <- the example that arrives at its place; y_init, z_init; 0 steps
a busy slot           keeps its example and latents; what arrives at its place is dropped
after the step        left again when q_halt > 0 or after max_steps, but not before least_steps

Slot j meets row j of every global batch and takes its random draws from there, so it holds the
same example whatever the devices. Deep supervision: section 2.4 of the TRM paper (arXiv
2510.04871); leaving early: its section 4.6, and section 2 of the HRM paper (arXiv 2506.21734).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from drm_jax.config import Experiment
from drm_jax.model.network import Network, Params
from drm_jax.model.precision import wide_type

Batch = Mapping[str, jax.Array]
MIN_LEVEL_BETA, MAX_LEVEL_BETA = 1e-4, 0.02


@struct.dataclass
class Carry:
    """One row a slot, split over devices like the batch."""

    example: dict[str, jax.Array]  # inputs, target (B, S) uint8; puzzle_id, weight (B,)
    y: jax.Array  # (B, T, D) float32, whatever the compute type: a checkpoint fits any device
    z: jax.Array  # (B, T, D) float32
    steps: jax.Array  # (B,) int32, training steps that the example has had
    left: jax.Array  # (B,) bool: the next step begins another example here


def empty_carry(experiment: Experiment, network: Network) -> Carry:
    """A carry of slots that are all left."""
    count, cells = experiment.train.batch_size, network.canvas**2
    latents = (count, network.config.prefix + cells, network.config.hidden)
    return Carry(
        example={
            "inputs": jnp.zeros((count, cells), jnp.uint8),
            "target": jnp.zeros((count, cells), jnp.uint8),
            "puzzle_id": jnp.zeros(count, jnp.int32),
            "weight": jnp.zeros(count, jnp.float32),
        },
        y=jnp.zeros(latents, wide_type(network.dtype)),
        z=jnp.zeros(latents, wide_type(network.dtype)),
        steps=jnp.zeros(count, jnp.int32),
        left=jnp.ones(count, jnp.bool_),
    )


def refill(carry: Carry, batch: Batch, constants: Params) -> tuple[Carry, dict[str, jax.Array]]:
    """Slots that were left take the arriving rows.

    Returns:
      The carry to train on; the batch with each slot's own example in place of the arriving one.
    """

    def chosen(fresh: jax.Array, kept: jax.Array) -> jax.Array:
        left = carry.left.reshape(-1, *[1] * (kept.ndim - 1))
        return jnp.where(left, fresh, kept)

    example = {name: chosen(batch[name], kept) for name, kept in carry.example.items()}
    carry = Carry(
        example=example,
        y=chosen(constants["y_init"], carry.y),
        z=chosen(constants["z_init"], carry.z),
        steps=chosen(jnp.zeros_like(carry.steps), carry.steps),
        left=carry.left,
    )
    return carry, {**batch, **example}


def leaves_slot(
    q_halt_B: jax.Array, steps_B: jax.Array, least_steps_B: jax.Array, max_steps: int
) -> jax.Array:
    """(B,) bool: which examples leave their slots.

    Args:
      q_halt_B: halting logits.
      steps_B: training steps had, this one counted.
      least_steps_B: exploration: no example leaves before so many; 0 where none was drawn.
    """
    return ((q_halt_B > 0) | (steps_B >= max_steps)) & (steps_B >= least_steps_B)


# --- sprm --------------------------------------------------------------------------------------
def kept_signal(level: jax.Array) -> jax.Array:
    """The DDPM schedule's alpha-bar at levels 0..999: 1000 steps, beta linear, 1e-4 to 0.02."""
    beta = jnp.linspace(MIN_LEVEL_BETA, MAX_LEVEL_BETA, 1000)
    return jnp.cumprod(1 - beta)[level]


def perturb(
    x_BxTxD: jax.Array, level_B: jax.Array, normal_BxTxD: jax.Array, axis: str | None = None
) -> jax.Array:
    """A latent moved towards noise of its own channels' mean and spread (sprm).

    x <- sqrt(a) x + sqrt(1 - a) (mean + std normal), a the DDPM schedule's at the level; mean and
    std (with n-1) of each channel over the whole batch and all tokens, the prefix too.

    Args:
      x_BxTxD: float32.
      level_B: 0..999.
      normal_BxTxD: standard normal draws.
      axis: mesh axis over which the batch is split, where called inside shard_map.
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


def perturb_latents(carry: Carry, batch: Batch, axis: str | None = None) -> Carry:
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
