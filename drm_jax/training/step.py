"""One training step, pure: (state, batch) -> (state, metrics).

slots   <- examples and latents carried over, if any           each device its own
rows    <- table[puzzle ids]                                   batch-sized rows travel
weights <- gathered, where they are split over devices         once a step
loss, gradients of (network, rows)   each device its examples, in `train.accumulate` parts
gradients of the network             summed over devices once, after the backward pass; each keeps
                                     the part that it has of the weights
table rows  <- sign-SGD              only touched rows
network     <- AdamATan2 (or Muon);  average <- (1 - mu) network + mu average
finite?                              a flag for the loss, the gradients and each new parameter
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from drm_jax.config import Optimizer, Train
from drm_jax.methods.method import Batch, Carry, Method
from drm_jax.model.backbone import Network, Params, exact_products
from drm_jax.parallel import fsdp, puzzle_table
from drm_jax.parallel.mesh import BATCH_AXES, DATA, Axes, placed, spec_of
from drm_jax.training.optim import average, network_optimizer, sign_sgd, warmup
from drm_jax.training.state import TrainState, leaf_names

Metrics = dict[str, jax.Array]
FINITE, SLOT_IDS = "finite", "slot_ids"
"""The two metrics that are no sums: a flag for each of `watched`, (L,) bool; and the puzzle ids
(B,) int32 that the step trained on."""
_PART_NUMBERS = 2**20
"""Numbers that a latent (B, T, D) of a part has at most on a CPU, if it is of several examples: 4
MB in float32. The 7M model on the full canvas takes 2 examples at a time."""


def watched(params: Params) -> list[str]:
    """What each flag of the metric `FINITE` is about."""
    return [
        "loss",
        "gradient",
        "gradient of the puzzle rows",
        *(f"params/{x}" for x in leaf_names(params)),
    ]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What is trained, and how: all that a training step follows from."""

    method: Method
    network: Network
    optimizer: Optimizer
    train: Train

    def transformation(
        self, whole: Callable[[Any], Any] = lambda tree: tree
    ) -> optax.GradientTransformation:
        """The network's optimiser.

        Args:
          whole: puts matrices that are split over devices together.
        """
        return network_optimizer(self.optimizer, self.method.trains_answers, whole)


def make_train_step(
    trained: Trained, mesh: Mesh, rows_only: bool = False
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step function, not yet compiled; the batch is split over the mesh.

    Metrics are sums over the global batch, to be divided by "count", and the flags `FINITE` with
    `SLOT_IDS`, which tell the very step that made a NaN or an infinity, and what it was trained on,
    though metrics are fetched much later.

    Args:
      rows_only: trains the puzzle rows alone: network, moments and average stay as they are.
    """
    platform = mesh.devices.flat[0].platform

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        split = _Split(BATCH_AXES, fsdp.weight_specs(mesh, state.params))
        constants, table, carry, step, rows, metrics = map(
            spec_of, ("constants", "table", "carry", "step", "batch", "metrics")
        )
        parts = jax.shard_map(
            functools.partial(_on_device, trained, platform, rows_only, split),
            mesh=mesh,
            in_specs=(split.weights, constants, table, carry, step, rows),
            out_specs=({} if rows_only else split.weights, table, carry, metrics, metrics, rows),
            axis_names=set(BATCH_AXES),  # any other axis of the mesh is XLA's
            check_vma=False,  # gradients stay local until they are summed over the devices
        )(*_parts_of(state), batch)
        return _updated(trained, rows_only, fsdp.whole_on(mesh), state, *parts)

    return train_step


def make_single_step(
    trained: Trained, platform: str, rows_only: bool = False
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """As `make_train_step`, for one device and without a mesh, so that it may be vmapped."""

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        # The collectives over the devices need an axis: it has a single place.
        split = _Split(DATA, jax.tree.map(lambda _: P(), state.params))
        on_device = jax.vmap(
            functools.partial(_on_device, trained, platform, rows_only, split), axis_name=DATA
        )
        parts = on_device(*jax.tree.map(lambda x: x[None], (*_parts_of(state), batch)))
        here = jax.tree.map(lambda x: x[0], parts)
        return _updated(trained, rows_only, lambda tree: tree, state, *here)

    return train_step


@dataclasses.dataclass(frozen=True)
class _Split:
    """How the arrays of a step are split over the devices."""

    batch: Axes  # the axes of batch, slots and table
    weights: Any  # a spec for each


def _parts_of(state: TrainState) -> tuple[Any, ...]:
    """What of a state the devices share out among them."""
    return state.params, state.constants, state.table, state.carry, state.step


def _updated(
    trained: Trained,
    rows_only: bool,
    whole: Callable[[Any], Any],
    state: TrainState,
    grads: Params,
    table: jax.Array,
    carry: Carry,
    sums: Metrics,
    bad_rows: jax.Array,
    slot_ids: jax.Array,
) -> tuple[TrainState, Metrics]:
    """The state after a step, and its metrics, from what `_on_device` gives."""
    new_state = state.replace(step=state.step + 1, table=table, carry=carry)
    params = state.params
    if not rows_only:
        transformation = trained.transformation(whole)
        changes, opt_state = transformation.update(grads, state.opt_state, params)
        params = optax.apply_updates(params, changes)
        ema = average(state.ema, params, trained.optimizer.ema)
        new_state = new_state.replace(params=params, opt_state=opt_state, ema=ema)
    norm = optax.tree.norm(grads) if grads else jnp.zeros([])
    finite = [jnp.isfinite(sums["loss"]), jnp.isfinite(norm), bad_rows == 0]
    finite += [jnp.isfinite(x).all() for x in jax.tree.leaves(params)]
    sums["grad_norm"] = norm * sums["count"]  # a mean once divided
    return new_state, sums | {FINITE: jnp.stack(finite), SLOT_IDS: slot_ids}


def _on_device(
    trained: Trained,
    platform: str,
    rows_only: bool,
    split: _Split,
    params: Params,
    constants: Params,
    table: jax.Array,
    carry: Carry,
    step: jax.Array,
    batch: Batch,
) -> tuple[Any, ...]:
    """One device's part of a step: its examples, its slots, and its rows of the table.

    Returns:
      Gradients of the network, split as its weights are ({} where only rows are trained), and sums,
      both over all devices; table and carry after the step; how many gradients of puzzle rows are
      not finite; the puzzle ids (B,) that were trained on.
    """
    method, network, config = trained.method, trained.network, trained.optimizer
    carry, batch = method.refill(carry, batch, constants)
    rows_BxD = puzzle_table.lookup(table, batch["puzzle_id"], split.batch)
    params = fsdp.gathered(params, split.weights)

    def loss(params, rows_BxD, carry, batch):
        window = network.at_window(batch["inputs"].shape[1], batch.get("corner"))
        total, sums, carry = method.loss(window, params, rows_BxD, constants, batch, carry)
        return total / trained.train.batch_size, (sums, carry)

    def gradients(part):
        wanted = (1,) if rows_only else (0, 1)
        grads, (sums, carry) = jax.grad(loss, argnums=wanted, has_aux=True)(params, *part)
        return ({} if rows_only else grads[0], sums), (grads[-1], carry)

    with exact_products(network):
        parts = parts_of(trained, batch["inputs"].shape, platform)
        (param_grads, sums), (row_grads, carry) = _in_parts(
            gradients, (rows_BxD, carry, batch), parts
        )
    carry = method.carry_over(carry, batch, split.batch)
    bad_rows = (~jnp.isfinite(row_grads)).sum()
    param_grads, (sums, bad_rows) = fsdp.summed(
        param_grads, {} if rows_only else split.weights, (sums, bad_rows), split.batch
    )
    rate = warmup(config.puzzle_learning_rate, config.warmup_steps)(step)
    table = puzzle_table.update(
        table,
        batch["puzzle_id"],
        row_grads,
        lambda rows, row_grads: sign_sgd(rows, row_grads, rate, config.puzzle_weight_decay),
        split.batch,
    )
    return param_grads, table, carry, sums, bad_rows, batch["puzzle_id"]


def parts_of(trained: Trained, shape: tuple[int, int], platform: str) -> int:
    """Into how many parts a device's examples (B, S) are split; see `config.Train.accumulate`."""
    if trained.train.accumulate != "auto":
        return trained.train.accumulate
    if platform != "cpu":
        return 1
    examples, cells = shape
    most = _PART_NUMBERS // ((trained.network.prefix + cells) * trained.network.hidden)
    return next(
        n for n in range(1, examples + 1) if examples % n == 0 and examples // n <= max(1, most)
    )


def _in_parts(function: Callable[[Any], tuple[Any, Any]], rows: Any, parts: int) -> tuple[Any, Any]:
    """What `function` gives for trees of rows (B, …), from one part of the rows after the other.

    Args:
      function: rows -> (sums over the rows, a tree of rows).
    """
    if parts == 1:
        return function(rows)

    def add(total: Any, part: Any) -> tuple[Any, Any]:
        sums, new_rows = function(part)
        return jax.tree.map(jnp.add, total, sums), new_rows

    split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), rows)
    first = jax.tree.map(lambda x: x[0], split)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first)[0])
    total, new_rows = lax.scan(add, zeros, split)
    return total, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), new_rows)


def compile_train_step(
    trained: Trained, mesh: Mesh, shardings: TrainState, rows_only: bool = False
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step jitted over the mesh; the state is donated. Arguments as of `make_train_step`.

    It is compiled once for each size of board.
    """
    return jax.jit(
        make_train_step(trained, mesh, rows_only),
        in_shardings=(shardings, placed(mesh, "batch")),
        out_shardings=(shardings, placed(mesh, "metrics")),
        donate_argnums=0,
    )
