"""A method is tried on shapes alone, so that a mistake in a user's own shows at the start."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from drm_jax.errors import UsageError
from drm_jax.model.backbone import init_params
from drm_jax.model.precision import wide_type
from drm_jax.puzzles.family import Board
from drm_jax.training.batches import abstract_batch
from drm_jax.training.state import leaf_names
from drm_jax.training.step import Trained
from drm_jax.words import counted

_LOGGED = ("loss", "exact_accuracy", "count")  # what the training loop reads of the sums
# What it writes beside them.
_TAKEN = ("step", "kind", "grad_norm", "finite", "slot_ids", "examples_per_second")


def check_method(trained: Trained, boards: Sequence[Board], mask: int) -> None:
    """Traces the loss of a method and its gradient, and looks at what it returns.

    Raises:
      UsageError: it isn't what a training step needs.
    """
    method, network = trained.method, trained.network
    where = f"method {type(method).__name__}"
    params, constants = jax.eval_shape(lambda: init_params(network, jax.random.key(0)))
    size = trained.train.batch_size
    carry = jax.eval_shape(lambda: method.empty_carry(network, size))
    batch = abstract_batch(method, boards, mask, size)
    rows_BxD = jax.ShapeDtypeStruct((size, network.hidden), wide_type(network.dtype))

    def loss(params: Any, rows_BxD: Any, constants: Any, batch: Any, carry: Any) -> Any:
        carry, batch = method.refill(carry, batch, constants)
        window = network.at_window(batch["inputs"].shape[1], batch.get("corner"))
        return method.loss(window, params, rows_BxD, constants, batch, carry)

    arguments = (params, rows_BxD, constants, batch, carry)
    try:
        result = jax.eval_shape(loss, *arguments)
    except TypeError as error:
        if "not a valid JAX type" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise UsageError(f"{where}: its loss must return jax arrays: {reason}") from error
    if not (isinstance(result, tuple) and len(result) == 3 and isinstance(result[1], Mapping)):
        raise UsageError(
            f"{where}: its loss must return the loss, a dict of sums for the log, and the carry"
        )
    _check_sums(where, *result[:2])
    _check_carry(where, result[2], carry, size)
    if not method.trains_answers and "embed_answers" in params:
        _check_untrained(where, loss, arguments)


def _check_sums(where: str, loss: Any, sums: Mapping[str, Any]) -> None:
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


def _check_carry(where: str, returned: Any, given: Any, size: int) -> None:
    """Raises UsageError unless the carry keeps its form, a row for each slot: the next step and
    every checkpoint count on it."""
    if jax.tree.structure(returned) != jax.tree.structure(given):
        raise UsageError(
            f"{where}: the carry that its loss returns is not like the one it was given"
        )
    leaves = zip(leaf_names(given), jax.tree.leaves(given), jax.tree.leaves(returned), strict=True)
    for name, before, after in leaves:
        if before.shape[:1] != (size,):
            raise UsageError(
                f"{where}: empty_carry gives {name} of shape {before.shape}: it must have a row "
                f"for each of the {counted(size, 'slot')} of the batch"
            )
        if (before.shape, before.dtype) != (after.shape, after.dtype):
            raise UsageError(
                f"{where}: {name} of the carry is {before.dtype} {before.shape}, but {after.dtype} "
                f"{after.shape} after its loss"
            )


def _check_untrained(where: str, loss: Any, arguments: Sequence[Any]) -> None:
    """Raises UsageError if the answer table gets gradient, though the method says that it doesn't:
    it would silently never be updated."""

    def gradient(*arguments: Any) -> Any:
        return jax.grad(lambda *given: loss(*given)[0])(*arguments)["embed_answers"]

    jaxpr = jax.make_jaxpr(gradient)(*arguments).jaxpr
    # What depends on any input; a gradient that doesn't is all zeros.
    depends = set(jaxpr.invars) | set(jaxpr.constvars)
    for equation in jaxpr.eqns:
        inputs = [v for v in equation.invars if not hasattr(v, "val")]
        if depends.intersection(inputs):
            depends.update(equation.outvars)
    if not hasattr(jaxpr.outvars[0], "val") and jaxpr.outvars[0] in depends:
        raise UsageError(
            f"{where}: trains_answers is false, but its loss has a gradient for the answer table, "
            "which would never be updated: return True there"
        )
