"""Products of dense layers in the one form that a CPU's bfloat16 units get.

XLA for CPUs gives a bfloat16 product to these units (Intel's AMX) where both operands lie in memory
row by row. The gradients of a dense layer are products with a transposed operand, which it reads in
place, by columns, 5 times slower than from a copy, the copy's time included. Results are written in
float32 and then rounded: written in bfloat16, wide ones take up to 2.5 times as long.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax.typing import DotGeneralT
from jax.experimental.layout import Layout, with_layout_constraint

from drm_jax.model.precision import cpu_multiplies_bfloat16, wide_type


def dense_product(dtype: jnp.dtype) -> DotGeneralT | None:
    """What a `flax.linen.Dense` of a compute type multiplies with; None: flax's own."""
    return _as_dot_general if dtype == jnp.bfloat16 and cpu_multiplies_bfloat16() else None


def _as_dot_general(x_NxD: jax.Array, kernel_DxE: jax.Array, *_: Any, **__: Any) -> jax.Array:
    return _product(x_NxD, kernel_DxE)


@jax.custom_vjp
def _product(x_NxD: jax.Array, kernel_DxE: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(x_NxD, kernel_DxE, cpu=_product_by_rows, default=jnp.matmul)


def _product_backward(kept: tuple[jax.Array, jax.Array], grad_NxE: jax.Array) -> tuple[Any, ...]:
    return jax.lax.platform_dependent(*kept, grad_NxE, cpu=_gradients_by_rows, default=_gradients)


_product.defvjp(lambda x, kernel: (_product(x, kernel), (x, kernel)), _product_backward)


def _gradients(x_NxD: jax.Array, kernel_DxE: jax.Array, grad_NxE: jax.Array) -> tuple[Any, ...]:
    return grad_NxE @ kernel_DxE.T, x_NxD.T @ grad_NxE


def _gradients_by_rows(
    x_NxD: jax.Array, kernel_DxE: jax.Array, grad_NxE: jax.Array
) -> tuple[Any, ...]:
    # Else what makes x would be computed once more, in the loop that copies it by columns.
    x_NxD = jax.lax.optimization_barrier(x_NxD)
    return _product_by_rows(grad_NxE, kernel_DxE.T), _product_by_rows(x_NxD.T, grad_NxE)


def _product_by_rows(a: jax.Array, b: jax.Array) -> jax.Array:
    wide = jnp.matmul(by_rows(a), by_rows(b), preferred_element_type=wide_type(a.dtype))
    return by_rows(wide).astype(a.dtype)


def by_rows(x: jax.Array) -> jax.Array:
    """x, row by row in memory: a transposed one is copied."""
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))
