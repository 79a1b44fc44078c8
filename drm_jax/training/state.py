"""TrainState: everything that a resume needs, as one pytree."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import AbstractMesh, Mesh, NamedSharding

from drm_jax.methods.method import Carry, Method
from drm_jax.model.backbone import Network, Params, init_params
from drm_jax.model.precision import wide_type
from drm_jax.parallel.mesh import placed_leaf
from drm_jax.parallel.puzzle_table import padded_rows


@struct.dataclass(eq=False)
class TrainState:
    """The data order and every random draw follow from (seed, step): no generator is kept."""

    step: jax.Array  # () int32, training steps done
    params: Params  # the network, float32
    constants: Params  # y_init and z_init (D,): saved, never trained
    opt_state: optax.OptState
    ema: Params  # average of params; evaluation uses it
    table: jax.Array  # (rows, D) float32 puzzle rows, initially zero
    carry: Carry = None  # what the method carries over, a row for each slot of the batch


def init_state(
    method: Method,
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    batch_size: int,
    num_ids: int,
) -> TrainState:
    """A fresh state; the table holds `num_ids` rows, padded to a fixed multiple."""
    params, constants = init_params(network, jax.random.key(seed))
    return TrainState(
        step=jnp.zeros([], jnp.int32),
        params=params,
        constants=constants,
        opt_state=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, params),
        table=jnp.zeros((padded_rows(num_ids), network.hidden), wide_type(network.dtype)),
        carry=method.empty_carry(network, batch_size),
    )


def state_shardings(state: TrainState, mesh: Mesh | AbstractMesh) -> TrainState:
    """The state's tree with a sharding for each leaf, by `parallel.mesh.SPECS`."""
    leaves, structure = jax.tree.flatten(state)
    places = [
        placed_leaf(mesh, name, leaf.shape)
        for name, leaf in zip(leaf_names(state), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, places)


def make_sharded(make_state: Callable[[], TrainState], shardings: TrainState) -> TrainState:
    """The state, made in place: no device ever holds more than its part of the table."""
    return jax.jit(make_state, out_shardings=shardings)()


def abstract_state(make_state: Callable[[], TrainState], shardings: TrainState) -> TrainState:
    """Shapes, types and shardings of a state: what a restore aims at."""

    def leaf(shape: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)

    return jax.tree.map(leaf, jax.eval_shape(make_state), shardings)


def tree_bytes(tree: Any, shardings: Any = None) -> int:
    """Bytes of all arrays of a tree, or of their shapes; of what a device has of them, where
    shardings are given."""
    leaves = jax.tree.leaves(tree)
    shapes = [x.shape for x in leaves]
    if shardings is not None:
        places = zip(jax.tree.leaves(shardings), shapes, strict=True)
        shapes = [place.shard_shape(shape) for place, shape in places]
    return sum(math.prod(shape) * x.dtype.itemsize for shape, x in zip(shapes, leaves, strict=True))


def leaf_names(tree: Any) -> list[str]:
    """A name such as params/layer_0/attention/qkv/kernel for each leaf, in tree order."""
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]


def start_from(
    state: TrainState,
    params: Params,
    ema: Params,
    constants: Params,
    row_mean_D: jax.Array,
    num_ids: int,
) -> TrainState:
    """A fresh state with another run's network, and every puzzle row at the mean of its rows.

    The blank row and the padding rows stay zero; moments and the step count begin anew.

    Args:
      row_mean_D: see `mean_row`.
      num_ids: ids in use in this run, the blank one counted.
    """
    row_R = jnp.arange(state.table.shape[0])
    used_R = (row_R > 0) & (row_R < num_ids)
    table = jnp.where(used_R[:, None], row_mean_D, 0).astype(state.table.dtype)
    return state.replace(params=params, ema=ema, constants=constants, table=table)


def mean_row(table_RxD: jax.Array, num_ids: int) -> jax.Array:
    """The mean (D,) of the rows in use; the blank row and the padding rows are left out."""
    row_R = jnp.arange(table_RxD.shape[0])
    used_R = (row_R > 0) & (row_R < num_ids)
    return jnp.where(used_R[:, None], table_RxD, 0).sum(axis=0) / max(num_ids - 1, 1)
