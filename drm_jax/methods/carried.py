"""What a slot of the batch takes over from one training step to the next (trm, sprm).

a slot that was left  <- the example that arrives at its place; y_init, z_init; 0 steps
a busy slot           keeps its example and latents; what arrives at its place is dropped
after the step        left again when q_halt > 0 or after max_steps, but not before least_steps

Slot j meets row j of every global batch and takes its random draws from there, so it holds the
same example whatever the devices. Deep supervision: section 2.4 of the TRM paper (arXiv
2510.04871); leaving early: its section 4.6, and section 2 of the HRM paper (arXiv 2506.21734).
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from drm_jax.errors import UsageError
from drm_jax.fields import Count, Share, check_fields
from drm_jax.methods.loss import Sums, score_examples, weighted_sums
from drm_jax.methods.method import AnswerPass, Batch, Passed, passed, spread
from drm_jax.methods.passes import where_rows
from drm_jax.model.backbone import Network, Params
from drm_jax.model.precision import wide_type, widened
from drm_jax.model.recursion import Latents, Recursion, forward
from drm_jax.puzzles.family import PAD
from drm_jax.random_bits import below, unit


@dataclasses.dataclass(frozen=True)
class Halting:
    """When an example leaves its slot of the batch."""

    max_steps: Count = 16
    """Training steps after which an example leaves at the latest."""
    exploration: Share = 0.1
    """Chance at each step that leaving needs a least number of steps, drawn from 2..max_steps."""

    def __post_init__(self):
        check_fields(self, "method.halting")


@struct.dataclass(eq=False)
class Carry:
    """One row a slot, split over devices like the batch."""

    example: dict[str, jax.Array]  # inputs, target (B, S) uint8; puzzle_id, weight (B,)
    y: jax.Array  # (B, T, D) float32, whatever the compute type: a checkpoint fits any device
    z: jax.Array  # (B, T, D) float32
    steps: jax.Array  # (B,) int32, training steps that the example has had
    left: jax.Array  # (B,) bool: the next step begins another example here


def check_carries(data: object) -> None:
    """Raises UsageError where puzzles stand on boards of several sizes."""
    if len(data.boards) > 1:
        raise UsageError(
            "data.canvas: fit is not for a method that carries latents of one size from example to "
            "example (trm, sprm, drm_rollout): give the canvas one side, such as 30"
        )


def draw_for_slots(bits_Bx2: np.ndarray, halting: Halting) -> dict[str, np.ndarray]:
    """What the slots of the batch that these examples meet need at this step, busy or not.

    Returns:
      least_steps (B,) int32, 0 for none.
    """
    explores_B = (unit(bits_Bx2[:, 0]) < halting.exploration) & (halting.max_steps > 1)
    least_steps_B = 2 + below(bits_Bx2[:, 1], max(halting.max_steps - 1, 1))
    return {"least_steps": np.where(explores_B, least_steps_B, 0).astype(np.int32)}


def empty_carry(network: Network, count: int) -> Carry:
    """A carry of `count` slots that are all left."""
    height, width = network.boards[-1]
    cells = height * width
    latents = (count, network.prefix + cells, network.hidden)
    return Carry(
        example={
            "inputs": jnp.zeros((count, cells), jnp.uint8),
            "target": jnp.zeros((count, cells), jnp.uint8),
            "puzzle_id": jnp.zeros(count, jnp.int32),
            "weight": jnp.zeros(count, jnp.float32),
        },
        y=jnp.zeros(latents, wide_type(network.dtype)),
        z=jnp.zeros(latents, wide_type(network.dtype)),
        steps=jnp.zeros(count, jnp.int32),
        left=jnp.ones(count, jnp.bool_),
    )


def refill(carry: Carry, batch: Batch, constants: Params) -> tuple[Carry, dict[str, jax.Array]]:
    """Slots that were left take the arriving rows.

    Returns:
      The carry to train on; the batch with each slot's own example in place of the arriving one.
    """
    chosen = functools.partial(where_rows, carry.left)
    example = {name: chosen(batch[name], kept) for name, kept in carry.example.items()}
    carry = Carry(
        example=example,
        y=chosen(constants["y_init"], carry.y),
        z=chosen(constants["z_init"], carry.z),
        steps=chosen(jnp.zeros_like(carry.steps), carry.steps),
        left=carry.left,
    )
    return carry, {**batch, **example}


def leaves_slot(
    q_halt_B: jax.Array, steps_B: jax.Array, least_steps_B: jax.Array, max_steps: int
) -> jax.Array:
    """(B,) bool: which examples leave their slots.

    Args:
      q_halt_B: halting logits.
      steps_B: training steps had, this one counted.
      least_steps_B: exploration: no example leaves before so many; 0 where none was drawn.
    """
    return ((q_halt_B > 0) | (steps_B >= max_steps)) & (steps_B >= least_steps_B)


def carried_loss(
    network: Network,
    params: Params,
    rows_BxD: jax.Array,
    batch: Batch,
    carry: Carry,
    recursion: Recursion,
    max_steps: int,
) -> tuple[jax.Array, Sums, Carry]:
    """The loss of a batch, metric sums, and the carry for the next step.

    Args:
      batch, carry: from `refill`; batch has least_steps (B,) int32 beside the examples.
      max_steps: training steps that an example has at most.

    The sums are those of `slot_sums`.
    """
    x = network.embed(params, batch["inputs"], rows_BxD)
    logits_BxSxV, q_Bx2, (y, z) = forward(
        network, recursion, params, x, carry.y.astype(x.dtype), carry.z.astype(x.dtype)
    )
    target_BxS, weight_B = batch["target"], batch["weight"]
    scored_BxS = target_BxS != PAD
    examples = score_examples(logits_BxSxV, q_Bx2, target_BxS, scored_BxS)
    steps_B = carry.steps + 1
    left_B = leaves_slot(q_Bx2[:, 0], steps_B, batch["least_steps"], max_steps)
    sums = slot_sums(examples, weight_B, steps_B, left_B & scored_BxS.any(axis=-1))
    y, z = lax.stop_gradient((widened(y), widened(z)))
    return sums["loss"], sums, carry.replace(y=y, z=z, steps=steps_B, left=left_B)


def slot_sums(
    examples: Mapping[str, jax.Array], weight_B: jax.Array, steps_B: jax.Array, left_B: jax.Array
) -> Sums:
    """Metric sums of a batch.

    Those that begin with `left` are over the examples that leave after this step: their number,
    accuracies and steps; as the published code logs them.

    Args:
      examples: from `score_examples`.
      steps_B: steps that each example has had, this one counted.
      left_B: bool, which examples leave, of those of which a cell is scored.
    """
    sums = weighted_sums(examples, weight_B)
    of_left = weighted_sums({**examples, "steps": steps_B}, weight_B * left_B)
    sums["left"] = of_left["count"]
    for name in ("steps", "accuracy", "exact_accuracy", "halt_accuracy"):
        sums[f"left_{name}"] = of_left[name]
    return sums


def refining_passes(
    network: Network,
    params: Params,
    constants: Params,
    inputs_BxS: jax.Array,
    rows_BxD: jax.Array,
    recursion: Recursion,
) -> tuple[Latents, AnswerPass]:
    """See `Method.passes`: y_init and z_init, and a pass of the carried recursion; nothing halts
    early.

    A pass begins from latents, not from tokens: `Passed.tokens` is what it predicted.
    """
    x = network.embed(params, inputs_BxS, rows_BxD)

    def one_pass(latents: Latents, index: jax.Array, level: jax.Array) -> tuple[Latents, Passed]:
        logits_BxSxV, q_Bx2, latents = forward(network, recursion, params, x, *latents)
        predicted_BxS = jnp.argmax(logits_BxSxV, axis=-1).astype(jnp.uint8)
        return latents, passed(logits_BxSxV, q_Bx2, predicted_BxS)

    return tuple(spread(constants[name], x) for name in ("y_init", "z_init")), one_pass
