"""Products of dense layers in the one form that a CPU's bfloat16 units get.

XLA for CPUs gives a bfloat16 product to these units (Intel's AMX) where both operands are
row-major. The gradients of a dense layer are products with a transposed operand, which it reads in
place, by columns, 5 times slower than from a copy, the copy's time included. Results are written in
float32 and then rounded: written in bfloat16, wide ones take up to 2.5 times as long.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax.typing import DotGeneralT
from jax.experimental.layout import Layout, with_layout_constraint

from drm_jax.model.precision import cpu_multiplies_bfloat16, wide_type


def find_dense_product(platform: str, dtype: jnp.dtype) -> DotGeneralT | None:
    """What a `flax.linen.Dense` of a compute type multiplies with on a platform; None: flax's own.

    Args:
      platform: "cpu", "tpu", …, as of `parallel.mesh.platform_of`.
    """
    in_units = platform == "cpu" and dtype == jnp.bfloat16 and cpu_multiplies_bfloat16()
    return dense_product if in_units else None


def dense_product(x_NxD: jax.Array, kernel_DxE: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """x @ kernel, (N, E), called as `lax.dot_general` is by a dense layer."""
    return _product(x_NxD, kernel_DxE)


def _row_major_product(a: jax.Array, b: jax.Array) -> jax.Array:
    wide = jnp.matmul(row_major(a), row_major(b), preferred_element_type=wide_type(a.dtype))
    return row_major(wide).astype(a.dtype)


_product = jax.custom_vjp(_row_major_product)


def _backward(
    kept: tuple[jax.Array, jax.Array], grad_NxE: jax.Array
) -> tuple[jax.Array, jax.Array]:
    # Else what makes x would be computed once more, in the loop that copies it by columns.
    x_NxD, kernel_DxE = jax.lax.optimization_barrier(kept[0]), kept[1]
    return _row_major_product(grad_NxE, kernel_DxE.T), _row_major_product(x_NxD.T, grad_NxE)


_product.defvjp(lambda x, kernel: (_row_major_product(x, kernel), (x, kernel)), _backward)


def row_major(x: jax.Array) -> jax.Array:
    """x, row by row in memory: a transposed one is copied."""
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))
