"""What a batch is trained on: the start of the recursion, and the loss.

`drm` (Denoising Recursion Models, arXiv 2604.18839): y starts from the target with a random part
masked, z from z_init; one gradient step an example, on the grid after the last cycle.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from drm_jax.arc.tokens import PAD
from drm_jax.config import Experiment
from drm_jax.errors import UsageError
from drm_jax.extension import load_function
from drm_jax.model.network import Network, Params, init_params
from drm_jax.model.recursion import forward

Objective = Callable[
    [Network, Params, jax.Array, Params, Mapping[str, jax.Array]],
    tuple[jax.Array, dict[str, jax.Array]],
]
"""As `drm_loss`: (network, params, rows, constants, batch) -> loss summed over the batch, sums."""
_LOGGED = ("loss", "exact_accuracy", "count")  # what the training loop reads of the sums
_TAKEN = (
    "step",
    "kind",
    "grad_norm",
    "finite",
    "examples_per_second",
)  # what it writes beside them


def stablemax_cross_entropy(logits_BxSxV: jax.Array, target_BxS: jax.Array) -> jax.Array:
    """-log p[target], (B, S) float32, for p = s/sum(s), s(x) = x+1 for x >= 0, else 1/(1-x).

    As log1p(sum of the other s / s[target]), which keeps float32's relative accuracy however
    small the loss. The branch not taken is fed 0, since its gradient there would be infinite.
    """
    x = logits_BxSxV.astype(jnp.float32)
    positive = x >= 0
    s = jnp.where(positive, x + 1, 1 / (1 - jnp.where(positive, 0, x)))
    is_target = jax.nn.one_hot(target_BxS, x.shape[-1], dtype=jnp.bool_)
    others = jnp.where(is_target, 0, s).sum(axis=-1)
    return jnp.log1p(others / jnp.where(is_target, s, 0).sum(axis=-1))


def score(
    logits_BxSxV: jax.Array,
    q_Bx2: jax.Array,
    target_BxS: jax.Array,
    scored_BxS: jax.Array,
    weight_B: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss that all objectives share, summed over the batch, and sums for metrics.

    Per example: the mean cross-entropy of its scored cells, and half the sigmoid cross-entropy of
    q_halt against "every scored cell is right".

    Returns:
      () float32; sums over the batch, weighted: loss, cell and halting losses, accuracies, count.
    """
    cells_B = jnp.maximum(scored_BxS.sum(axis=-1), 1)
    cell_loss_BxS = stablemax_cross_entropy(logits_BxSxV, target_BxS)
    cell_loss_B = jnp.where(scored_BxS, cell_loss_BxS, 0).sum(axis=-1) / cells_B
    right_BxS = (jnp.argmax(logits_BxSxV, axis=-1) == target_BxS) & scored_BxS
    exact_B = right_BxS.sum(axis=-1) == scored_BxS.sum(axis=-1)
    q_halt_B = q_Bx2[:, 0]
    halt_loss_B = optax.sigmoid_binary_cross_entropy(q_halt_B, exact_B.astype(jnp.float32))
    loss_B = cell_loss_B + 0.5 * halt_loss_B
    sums = {
        "loss": loss_B,
        "cell_loss": cell_loss_B,
        "halt_loss": halt_loss_B,
        "accuracy": right_BxS.sum(axis=-1) / cells_B,
        "exact_accuracy": exact_B,
        "halt_accuracy": (q_halt_B >= 0) == exact_B,
        "count": jnp.ones_like(loss_B),
    }
    return (loss_B * weight_B).sum(), {k: (v * weight_B).sum() for k, v in sums.items()}


def drm_loss(
    network: Network,
    params: Params,
    rows_BxD: jax.Array,
    constants: Params,
    batch: Mapping[str, jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The `drm` loss of a batch, summed over its examples, and metric sums.

    Args:
      rows_BxD: the batch's puzzle rows.
      batch: as `data.stream.make_example` gives, with a leading axis B.
    """
    variables = {"params": params}
    x = network.apply(variables, batch["inputs"], rows_BxD, method="embed")
    y = network.apply(variables, batch["noised"], rows_BxD, answers=True, method="embed")
    z = jnp.broadcast_to(constants["z_init"].astype(x.dtype), x.shape)
    logits_BxSxV, q_Bx2, _ = forward(network, params, x, y, z)
    target_BxS = batch["target"]
    return score(logits_BxSxV, q_Bx2, target_BxS, target_BxS != PAD, batch["weight"])


def find_objective(name: str) -> Objective:
    """The objective of a built-in name, or of a reference to a user's function.

    Raises:
      UsageError: the function can't be found.
    """
    return drm_loss if name == "drm" else load_function(name, "objective")


def abstract_batch(experiment: Experiment) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a training batch: of `data.stream.make_example`, a leading axis B."""
    count, cells = experiment.train.batch_size, experiment.data.canvas**2
    shapes = {
        "inputs": ((count, cells), jnp.uint8),
        "target": ((count, cells), jnp.uint8),
        "noised": ((count, cells), jnp.uint8),
        "level": ((count,), jnp.int32),
        "reverse_targets": ((count, experiment.model.cycles, cells), jnp.uint8),
        "puzzle_id": ((count,), jnp.int32),
        "weight": ((count,), jnp.float32),
    }
    return {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}


def check_objective(experiment: Experiment, network: Network) -> None:
    """Traces the experiment's objective on shapes alone, so that a mistake shows at the start.

    Raises:
      UsageError: it can't be found, raises, or doesn't return what a training step needs.
    """
    where, objective = f"objective {experiment.objective}", find_objective(experiment.objective)
    params, constants = jax.eval_shape(lambda: init_params(network, jax.random.key(0)))
    batch = abstract_batch(experiment)
    rows_shape = (experiment.train.batch_size, experiment.model.hidden)
    rows_BxD = jax.ShapeDtypeStruct(rows_shape, jnp.float32)
    try:
        result = jax.eval_shape(
            lambda *arrays: objective(network, *arrays), params, rows_BxD, constants, batch
        )
    except TypeError as error:  # what it raises itself is a UsageError by now
        reason = str(error).splitlines()[0]
        raise UsageError(f"{where}: must return jax arrays: {reason}") from error
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise UsageError(f"{where}: must return the loss and a dict of sums for the log")
    loss, sums = result
    if getattr(loss, "shape", None) != () or not jnp.issubdtype(loss.dtype, jnp.floating):
        raise UsageError(f"{where}: the loss must be one float, summed over the batch, not {loss}")
    for name in _LOGGED:
        if name not in sums:
            raise UsageError(f"{where}: the sums lack {name!r}; needed are {', '.join(_LOGGED)}")
    for name, value in sums.items():
        if name in _TAKEN:
            raise UsageError(f"{where}: the log has a {name!r} of its own; use another name")
        if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.number):
            raise UsageError(
                f"{where}: {name!r} must be one number, summed over the batch, not {value}"
            )
