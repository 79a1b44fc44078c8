"""The puzzle table: one row of D numbers an id, rows split over all devices.

Only rows of the batch ever move or change. No gradient, moment or average of table size exists.
Both functions run inside shard_map over the axes that table and batch are split over, on one
device's part of them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from drm_jax.parallel.mesh import Axes

ROW_MULTIPLE = 3 * 4096
"""Divides by 1, 2, 3, 4, 6, 8, 12, … devices: by each power of two up to 4,096, and by three times
each."""


def padded_rows(num_ids: int) -> int:
    """Rows of the table: a fixed multiple, so that its shape doesn't depend on the devices."""
    return -(-num_ids // ROW_MULTIPLE) * ROW_MULTIPLE


def _local_rows(table_RxD: jax.Array, ids_N: jax.Array, axes: Axes) -> tuple[jax.Array, jax.Array]:
    """Which of these ids this device owns (N,) bool, and their rows within its part."""
    local_N = ids_N - lax.axis_index(axes) * table_RxD.shape[0]
    return (local_N >= 0) & (local_N < table_RxD.shape[0]), local_N


def lookup(table_RxD: jax.Array, ids_B: jax.Array, axes: Axes) -> jax.Array:
    """Rows (B, D) of this device's ids, gathered from whichever devices own them."""
    ids_N = lax.all_gather(ids_B, axes, tiled=True)
    mine_N, local_N = _local_rows(table_RxD, ids_N, axes)
    rows_NxD = jnp.where(mine_N[:, None], table_RxD[jnp.where(mine_N, local_N, 0)], 0)
    return lax.psum_scatter(rows_NxD, axes, tiled=True)


def update(
    table_RxD: jax.Array,
    ids_B: jax.Array,
    grads_BxD: jax.Array,
    rule: Callable[[jax.Array, jax.Array], jax.Array],
    axes: Axes,
) -> jax.Array:
    """The table with `rule(rows, summed gradients)` in place of the rows that the batch touches.

    Gradients of an id that stands in several places of the global batch are summed first.
    """
    ids_N = lax.all_gather(ids_B, axes, tiled=True)
    grads_NxD = lax.all_gather(grads_BxD, axes, tiled=True)
    ids_N, is_last_N, summed_NxD = _sum_of_equal_ids(ids_N, grads_NxD)
    mine_N, local_N = _local_rows(table_RxD, ids_N, axes)
    new_NxD = rule(table_RxD[jnp.where(mine_N, local_N, 0)], summed_NxD)
    # What is outside is dropped: rows of other devices, and all but the last of equal ids.
    outside = table_RxD.shape[0]
    row_N = jnp.where(mine_N & is_last_N, local_N, outside)
    return table_RxD.at[row_N].set(new_NxD, mode="drop")


def _sum_of_equal_ids(
    ids_N: jax.Array, grads_NxD: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The ids sorted (N,), which are the last of their equals (N,) bool, and sums (N, D).

    At the last of equal ids stands the sum of their gradients; at the others, a part of it. A scan,
    as `jax.ops.segment_sum` adds in no fixed order on a GPU, and runs are to repeat to the bit.
    """
    order_N = jnp.argsort(ids_N, stable=True)
    ids_N, grads_NxD = ids_N[order_N], grads_NxD[order_N]
    changes = ids_N[1:] != ids_N[:-1]
    is_first_N = jnp.pad(changes, (1, 0), constant_values=True)
    is_last_N = jnp.pad(changes, (0, 1), constant_values=True)

    def add(left, right):
        (left_first, left_sum), (right_first, right_sum) = left, right
        total = jnp.where(right_first, right_sum, left_sum + right_sum)
        return left_first | right_first, total

    _, summed_NxD = lax.associative_scan(add, (is_first_N[:, None], grads_NxD))
    return ids_N, is_last_N, summed_NxD
