"""TrainState: everything that a resume needs, as one pytree."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh, NamedSharding

from drm_jax.dist.mesh import replicated, split_rows
from drm_jax.dist.puzzle_table import padded_rows
from drm_jax.model.network import Network, Params, init_params


@struct.dataclass
class TrainState:
    """The data order and every random draw follow from (seed, step): no generator is kept."""

    step: jax.Array  # () int32, training steps done
    params: Params  # the network, float32
    constants: Params  # y_init and z_init (D,): saved, never trained
    opt_state: optax.OptState
    ema: Params  # average of params; evaluation uses it
    table: jax.Array  # (rows, D) float32 puzzle rows, initially zero


def init_state(
    network: Network, optimizer: optax.GradientTransformation, num_ids: int, seed: int
) -> TrainState:
    """A fresh state; the table holds `num_ids` rows, padded to a fixed multiple."""
    params, constants = init_params(network, jax.random.key(seed))
    return TrainState(
        step=jnp.zeros([], jnp.int32),
        params=params,
        constants=constants,
        opt_state=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, params),
        table=jnp.zeros((padded_rows(num_ids), network.config.hidden), jnp.float32),
    )


def state_shardings(state: TrainState, mesh: Mesh) -> TrainState:
    """The state's tree with a sharding for each leaf: all replicated but the table."""
    tree: TrainState = jax.tree.map(lambda _: replicated(mesh), state)
    return tree.replace(table=split_rows(mesh))


def make_sharded(make_state: Callable[[], TrainState], shardings: TrainState) -> TrainState:
    """The state, made in place: no device ever holds more than its part of the table."""
    return jax.jit(make_state, out_shardings=shardings)()


def abstract_state(make_state: Callable[[], TrainState], shardings: TrainState) -> TrainState:
    """Shapes, types and shardings of a state: what a restore aims at."""

    def leaf(shape: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)

    return jax.tree.map(leaf, jax.eval_shape(make_state), shardings)
