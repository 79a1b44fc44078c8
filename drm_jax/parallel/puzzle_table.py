"""The puzzle table: one row of D numbers an id, rows split over all devices.

Only rows of the batch ever move or change. No gradient, moment or average of table size exists.
Both functions run inside shard_map over the data axis, on one device's part of table and batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from drm_jax.parallel.mesh import AXIS

ROW_MULTIPLE = 4096


def padded_rows(num_ids: int) -> int:
    """Rows of the table: a fixed multiple, so that its shape doesn't depend on the devices."""
    return -(-num_ids // ROW_MULTIPLE) * ROW_MULTIPLE


def _local_rows(table_RxD: jax.Array, ids_N: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which of these ids this device owns (N,) bool, and their rows within its part."""
    local_N = ids_N - lax.axis_index(AXIS) * table_RxD.shape[0]
    return (local_N >= 0) & (local_N < table_RxD.shape[0]), local_N


def lookup(table_RxD: jax.Array, ids_B: jax.Array) -> jax.Array:
    """Rows (B, D) of this device's ids, gathered from whichever devices own them."""
    ids_N = lax.all_gather(ids_B, AXIS, tiled=True)
    mine_N, local_N = _local_rows(table_RxD, ids_N)
    rows_NxD = jnp.where(mine_N[:, None], table_RxD[jnp.where(mine_N, local_N, 0)], 0)
    return lax.psum_scatter(rows_NxD, AXIS, tiled=True)


def update(
    table_RxD: jax.Array,
    ids_B: jax.Array,
    grads_BxD: jax.Array,
    rule: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """The table with `rule(rows, summed gradients)` in place of the rows that the batch touches.

    Gradients of an id that stands in several places of the global batch are summed first.
    """
    ids_N = lax.all_gather(ids_B, AXIS, tiled=True)
    grads_NxD = lax.all_gather(grads_BxD, AXIS, tiled=True)
    same_NxN = (ids_N[:, None] == ids_N[None, :]).astype(grads_NxD.dtype)
    summed_NxD = jnp.matmul(same_NxN, grads_NxD, precision=lax.Precision.HIGHEST)
    mine_N, local_N = _local_rows(table_RxD, ids_N)
    new_NxD = rule(table_RxD[jnp.where(mine_N, local_N, 0)], summed_NxD)
    # Rows of other devices fall outside and are dropped; equal ids write equal rows.
    outside = table_RxD.shape[0]
    return table_RxD.at[jnp.where(mine_N, local_N, outside)].set(new_NxD, mode="drop")
