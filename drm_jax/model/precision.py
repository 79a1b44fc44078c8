"""Which type what is computed in."""

import jax
import jax.numpy as jnp


def wide_type(dtype: jnp.dtype) -> jnp.dtype:
    """The type of weights and of all that is too fine for bfloat16: float32, or float64's own."""
    return jnp.promote_types(dtype, jnp.float32)


def widened(x: jax.Array) -> jax.Array:
    return x.astype(wide_type(x.dtype))
