"""What a batch is trained on: the start of the recursion, and the loss.

drm        y starts from the target with a random part masked, z from z_init; one gradient step an
           example (Denoising Recursion Models, arXiv 2604.18839)
trm        y and z start from y_init and z_init, and go on where the example's last gradient step
           ended, up to 16 of them (deep supervision; Tiny Recursion Model, arXiv 2510.04871)
sprm       as trm; the latents are perturbed before they are carried over
diffusion  as drm, but one pass through a stack of layers instead of the recursion

docs/algorithm.md has all four side by side.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jax import lax

from drm_jax.config import CARRIED, Experiment
from drm_jax.errors import UsageError
from drm_jax.methods.carried import Carry, leaves_slot
from drm_jax.model.network import Network, Params, init_params
from drm_jax.model.precision import wide_type, widened
from drm_jax.model.recursion import (
    Forward,
    Latents,
    cycle,
    forward,
    network_block,
    one_pass,
    read_out,
    sum_of_losses,
)
from drm_jax.puzzles.arc.tokens import MASK, PAD
from drm_jax.references import load_function

Batch = Mapping[str, jax.Array]
Sums = dict[str, jax.Array]
Objective = Callable[[Network, Params, jax.Array, Params, Batch], tuple[jax.Array, Sums]]
"""As `drm_loss`: (network, params, rows, constants, batch) -> loss summed over the batch, sums."""
CarriedObjective = Callable[
    [Network, Params, jax.Array, Params, Batch, Carry], tuple[jax.Array, Sums, Carry]
]
"""As `trm_loss`: takes and returns the carry too."""
_LOGGED = ("loss", "exact_accuracy", "count")  # what the training loop reads of the sums
# What it writes beside them.
_TAKEN = ("step", "kind", "grad_norm", "finite", "slot_ids", "examples_per_second")


def stablemax_cross_entropy(logits_BxSxV: jax.Array, target_BxS: jax.Array) -> jax.Array:
    """-log p[target], (B, S) float32, for p = s/sum(s), s(x) = x+1 for x >= 0, else 1/(1-x).

    As log1p(sum of the other s / s[target]), which keeps float32's relative accuracy however
    small the loss. The branch not taken is fed 0, since its gradient there would be infinite.
    """
    x = widened(logits_BxSxV)
    positive = x >= 0
    s = jnp.where(positive, x + 1, 1 / (1 - jnp.where(positive, 0, x)))
    is_target = jax.nn.one_hot(target_BxS, x.shape[-1], dtype=jnp.bool_)
    others = jnp.where(is_target, 0, s).sum(axis=-1)
    return jnp.log1p(others / jnp.where(is_target, s, 0).sum(axis=-1))


def score_examples(
    logits_BxSxV: jax.Array, q_Bx2: jax.Array, target_BxS: jax.Array, scored_BxS: jax.Array
) -> dict[str, jax.Array]:
    """The loss that all objectives share, its parts and the accuracies, (B,) float32 or bool each.

    Per example: the mean cross-entropy of its scored cells, and half the sigmoid cross-entropy of
    q_halt against "every scored cell is right".
    """
    cells_B = jnp.maximum(scored_BxS.sum(axis=-1), 1)
    cell_loss_BxS = stablemax_cross_entropy(logits_BxSxV, target_BxS)
    cell_loss_B = jnp.where(scored_BxS, cell_loss_BxS, 0).sum(axis=-1) / cells_B
    right_BxS = (jnp.argmax(logits_BxSxV, axis=-1) == target_BxS) & scored_BxS
    exact_B = right_BxS.sum(axis=-1) == scored_BxS.sum(axis=-1)
    q_halt_B = q_Bx2[:, 0]
    halt_loss_B = optax.sigmoid_binary_cross_entropy(q_halt_B, exact_B.astype(q_halt_B.dtype))
    loss_B = cell_loss_B + 0.5 * halt_loss_B
    return {
        "loss": loss_B,
        "cell_loss": cell_loss_B,
        "halt_loss": halt_loss_B,
        "accuracy": right_BxS.sum(axis=-1) / cells_B,
        "exact_accuracy": exact_B,
        "halt_accuracy": (q_halt_B >= 0) == exact_B,
        "count": jnp.ones_like(loss_B),
    }


def weighted_sums(examples: Mapping[str, jax.Array], weight_B: jax.Array) -> Sums:
    """Sums over the batch, each example times its weight."""
    return {name: (value_B * weight_B).sum() for name, value_B in examples.items()}


def score(
    logits_BxSxV: jax.Array,
    q_Bx2: jax.Array,
    target_BxS: jax.Array,
    scored_BxS: jax.Array,
    weight_B: jax.Array,
) -> tuple[jax.Array, Sums]:
    """The loss summed over the batch, () float32, and all sums: `score_examples`, weighted."""
    sums = weighted_sums(score_examples(logits_BxSxV, q_Bx2, target_BxS, scored_BxS), weight_B)
    return sums["loss"], sums


def drm_loss(
    network: Network,
    params: Params,
    rows_BxD: jax.Array,
    constants: Params,
    batch: Batch,
    *,
    forward: Forward = forward,
) -> tuple[jax.Array, Sums]:
    """The `drm` loss of a batch, summed over its examples, and metric sums.

    Args:
      rows_BxD: the batch's puzzle rows.
      batch: as `data.stream.BatchMaker` gives.
      forward: `recursion.forward`; `one_pass` makes it the loss of `diffusion`.
    """
    variables = {"params": params}
    x = network.apply(variables, batch["inputs"], rows_BxD, method="embed")
    noised_BxS, z = batch["noised"], jnp.broadcast_to(constants["z_init"].astype(x.dtype), x.shape)
    if "own_answer" in batch:
        frozen = lax.stop_gradient((params, rows_BxD, x, z))
        noised_BxS, z = _own_answers(network, *frozen, batch, forward)
    y = network.apply(variables, noised_BxS, rows_BxD, answers=True, method="embed")
    logits_BxSxV, q_Bx2, _ = forward(network, params, x, y, z)
    target_BxS = batch["target"]
    return score(logits_BxSxV, q_Bx2, target_BxS, target_BxS != PAD, batch["weight"])


def _own_answers(
    network: Network,
    params: Params,
    rows_BxD: jax.Array,
    x: jax.Array,
    z: jax.Array,
    batch: Batch,
    forward: Forward,
) -> tuple[jax.Array, jax.Array]:
    """Start tokens and z of a batch, where `own_answer` as after a test's first step.

    The tokens are what the model answers from an all-masked grid, masked where the noised target
    is; z is that of this pass.
    """
    masked_BxS = jnp.full_like(batch["noised"], MASK)
    y = network.apply({"params": params}, masked_BxS, rows_BxD, answers=True, method="embed")
    logits_BxSxV, _, (_, z_after) = forward(network, params, x, y, z)
    answer_BxS = jnp.argmax(logits_BxSxV, axis=-1).astype(masked_BxS.dtype)
    own_B = batch["own_answer"]
    from_answer = own_B[:, None] & (batch["noised"] != MASK)
    return jnp.where(from_answer, answer_BxS, batch["noised"]), jnp.where(
        own_B[:, None, None], z_after, z
    )


def path_loss(
    network: Network, params: Params, rows_BxD: jax.Array, constants: Params, batch: Batch
) -> tuple[jax.Array, Sums]:
    """`drm` with supervision="path": every cycle is scored on what its noise level shows.

    Cycle k = 1..K (K = H cycles) is scored on the scored cells that the reverse target of level
    t_k = floor(t (K-k) / K) does not mask; the mean over k, and the halting loss of the last one.
    No gradient passes from cycle to cycle. As `drm_loss`; cell_loss is the mean over the cycles,
    the other sums are of the last.
    """
    cycles, inner_steps = network.config.cycles, network.config.inner_steps
    block, target_BxS = network_block(network), batch["target"]

    def cycle_loss(
        trained: tuple[Params, jax.Array], latents: Latents, k: jax.Array
    ) -> tuple[jax.Array, tuple[Sums, Latents]]:
        params, rows_BxD = trained
        variables = {"params": params}
        x = network.apply(variables, batch["inputs"], rows_BxD, method="embed")
        noised = network.apply(variables, batch["noised"], rows_BxD, answers=True, method="embed")
        y, z = latents
        y = jnp.where(k == 0, noised, y)
        y, z = cycle(block, params, x, (y, z), inner_steps)
        shown_BxS = jnp.take(batch["reverse_targets"], k, axis=1) != MASK
        scored_BxS = (target_BxS != PAD) & shown_BxS
        _, sums = score(*read_out(network, params, y), target_BxS, scored_BxS, batch["weight"])
        loss = sums["cell_loss"] / cycles
        loss += jnp.where(k == cycles - 1, 0.5 * sums["halt_loss"], 0)
        return loss, (sums, (y, z))

    x_shape = (len(target_BxS), network.config.prefix + target_BxS.shape[1], network.config.hidden)
    z = jnp.broadcast_to(constants["z_init"].astype(network.dtype), x_shape)
    loss, sums_K = sum_of_losses(cycle_loss, (params, rows_BxD), (jnp.zeros_like(z), z), cycles)
    sums = {name: of_cycle[-1] for name, of_cycle in sums_K.items()}
    return loss, sums | {"loss": loss, "cell_loss": sums_K["cell_loss"].mean()}


def trm_loss(
    network: Network,
    params: Params,
    rows_BxD: jax.Array,
    constants: Params,
    batch: Batch,
    carry: Carry,
    *,
    max_steps: int,
) -> tuple[jax.Array, Sums, Carry]:
    """The `trm` loss of a batch, metric sums, and the carry for the next step.

    Args:
      batch, carry: from `carry.refill`; batch has least_steps (B,) int32 beside the examples.
      max_steps: training steps that an example has at most.

    The sums that begin with `left` are over the examples that leave after this step: their
    number, accuracies and steps; as the published code logs them.
    """
    x = network.apply({"params": params}, batch["inputs"], rows_BxD, method="embed")
    logits_BxSxV, q_Bx2, (y, z) = forward(
        network, params, x, carry.y.astype(x.dtype), carry.z.astype(x.dtype)
    )
    target_BxS, weight_B = batch["target"], batch["weight"]
    examples = score_examples(logits_BxSxV, q_Bx2, target_BxS, target_BxS != PAD)
    sums, steps_B = weighted_sums(examples, weight_B), carry.steps + 1
    left_B = leaves_slot(q_Bx2[:, 0], steps_B, batch["least_steps"], max_steps)
    of_left = weighted_sums(examples | {"steps": steps_B}, weight_B * left_B)
    sums["left"] = of_left["count"]
    for name in ("steps", "accuracy", "exact_accuracy", "halt_accuracy"):
        sums[f"left_{name}"] = of_left[name]
    y, z = lax.stop_gradient((widened(y), widened(z)))
    return sums["loss"], sums, carry.replace(y=y, z=z, steps=steps_B, left=left_B)


def find_objective(experiment: Experiment) -> Objective | CarriedObjective:
    """The objective of an experiment: built in, or a reference to a user's function.

    Raises:
      UsageError: the function can't be found.
    """
    max_steps = experiment.halting.max_steps
    match experiment.objective:
        case "drm":
            return path_loss if experiment.supervision == "path" else drm_loss
        case "diffusion":
            return functools.partial(drm_loss, forward=one_pass)
        case "trm" | "sprm":  # sprm perturbs the latents after the step
            return functools.partial(trm_loss, max_steps=max_steps)
    return load_function(experiment.objective, "objective")


def trains_answers(experiment: Experiment) -> bool:
    """Whether the table of answers gets gradient; where not, it keeps its initial value.

    With a gradient window shorter than the recursion it gets none, as in the published code; trm
    and sprm don't embed answers.
    """
    if experiment.objective == "diffusion":
        return True
    whole = experiment.model.grad_cycles == experiment.model.cycles
    return whole and experiment.objective not in CARRIED


def abstract_batch(
    experiment: Experiment, side: int | None = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a training batch, as `data.stream.BatchMaker` gives.

    Args:
      side: of the window, with canvas=fit; None: of the whole canvas.
    """
    count, cells = experiment.train.batch_size, (side or experiment.data.side) ** 2
    shapes = {
        "inputs": ((count, cells), jnp.uint8),
        "target": ((count, cells), jnp.uint8),
        "puzzle_id": ((count,), jnp.int32),
        "weight": ((count,), jnp.float32),
    }
    if experiment.objective in CARRIED:
        shapes["least_steps"] = ((count,), jnp.int32)
    else:
        shapes["noised"] = ((count, cells), jnp.uint8)
        shapes["level"] = ((count,), jnp.int32)
        if experiment.noise.own_answers:
            shapes["own_answer"] = ((count,), jnp.bool_)
        shapes["reverse_targets"] = ((count, experiment.model.cycles, cells), jnp.uint8)
    if experiment.data.canvas == "fit":
        shapes["corner"] = ((count, 2), jnp.int32)
    if experiment.objective == "sprm":
        shapes["latent_level"] = ((count, 2), jnp.int32)
        shapes["latent_seed"] = ((count,), jnp.uint32)
    return {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}


def check_objective(experiment: Experiment, network: Network) -> None:
    """Traces a user's own objective on shapes alone, so that a mistake shows at the start.

    Raises:
      UsageError: it can't be found, raises, or doesn't return what a training step needs.
    """
    where, objective = f"objective {experiment.objective}", find_objective(experiment)
    params, constants = jax.eval_shape(lambda: init_params(network, jax.random.key(0)))
    batch = abstract_batch(experiment)
    rows_shape = (experiment.train.batch_size, experiment.model.hidden)
    rows_BxD = jax.ShapeDtypeStruct(rows_shape, wide_type(network.dtype))
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
