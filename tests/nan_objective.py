"""An objective that is not finite for a batch with a high noise level, for tests."""

import jax.numpy as jnp

from drm_jax.methods.objectives import drm_loss

HIGH = 997


def loss(network, params, rows_BxD, constants, batch):
    total, sums = drm_loss(network, params, rows_BxD, constants, batch)
    factor = jnp.where((batch["level"] > HIGH).any(), jnp.nan, 1.0)
    return total * factor, sums | {"loss": sums["loss"] * factor}
