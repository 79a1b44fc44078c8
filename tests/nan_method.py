"""A method whose loss is not finite for a batch with a high noise level, for tests."""

import dataclasses

import jax.numpy as jnp

from drm_jax.methods.drm import Drm

HIGH = 997


@dataclasses.dataclass(frozen=True)
class NanDrm(Drm):
    """DRM, but for that."""

    def loss(self, network, params, rows_BxD, constants, batch, carry):
        total, sums, carry = super().loss(network, params, rows_BxD, constants, batch, carry)
        factor = jnp.where((batch["level"] > HIGH).any(), jnp.nan, 1.0)
        return total * factor, sums | {"loss": sums["loss"] * factor}, carry
