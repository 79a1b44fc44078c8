"""The compiled program that answers a batch of candidates."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from drm_jax.config import Evaluate
from drm_jax.methods.method import Answered, Method
from drm_jax.methods.passes import Exit
from drm_jax.model.backbone import Network, exact_products
from drm_jax.parallel import fsdp, puzzle_table
from drm_jax.parallel.mesh import BATCH_AXES, Axes, placed, spec_of
from drm_jax.puzzles.family import Family
from drm_jax.training.state import TrainState

AnswerBatch = Callable[[TrainState, Mapping[str, jax.Array]], Answered]


def abstract_candidates(batch_size: int, cells: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a batch of `evaluate.loop.question_batches`."""
    return {
        "inputs": jax.ShapeDtypeStruct((batch_size, cells), np.uint8),
        "puzzle_id": jax.ShapeDtypeStruct((batch_size,), np.int32),
        "row": jax.ShapeDtypeStruct((batch_size,), np.int32),
    }


Answer = Callable[[Any, Any, jax.Array, Mapping[str, jax.Array]], Answered]
"""(averaged weights, constants, puzzle table, batch) -> Answered, on a device with its own part of
table and batch."""


def make_answer(
    method: Method,
    data: Family,
    network: Network,
    axes: Axes,
    *,
    test: Evaluate,
    seed: int,
) -> Answer:
    """What a device answers of a batch; not yet compiled.

    Args:
      axes: over which table and batch are split.
      test: denoise_steps, and what is added to the passes.
      seed: of the random draws, together with a candidate's number.
    """
    board_of = {height * width: (height, width) for height, width in data.boards}
    # An `answer` of a method of a user's own need not know of these.
    more: dict[str, Any] = {}
    if test.latent_noise:
        more["latent_noise"] = test.latent_noise
    if test.exits_early:
        more["exits"] = Exit(test.exit_change, test.exit_entropy)

    def answer(params, constants, table, batch):
        cells = batch["inputs"].shape[1]
        rows_BxD = puzzle_table.lookup(table, batch["puzzle_id"], axes)
        key_B = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(seed), row))(batch["row"])
        with exact_products(network):
            return method.answer(
                network.at_window(cells),
                params,
                constants,
                batch["inputs"],
                rows_BxD,
                key_B,
                steps=test.denoise_steps,
                pad_outside=lambda tokens_BxS: data.pad_outside(tokens_BxS, board_of[cells]),
                **more,
            )

    return answer


def compile_answer(
    method: Method,
    data: Family,
    network: Network,
    mesh: Mesh,
    shardings: TrainState,
    *,
    test: Evaluate,
    seed: int,
) -> AnswerBatch:
    """(state, batch of `evaluate.loop.question_batches`) -> Answered, jitted over the mesh.

    The averaged weights are used, with the puzzle table's current rows. It is compiled once for
    each of the family's boards.

    Args:
      shardings: of the state.
      test, seed: as of `make_answer`.
    """
    # Answers go to all processes, which judge the same ones; what each step gave stays where it is.
    over_batch, over_steps = P(BATCH_AXES), P(None, BATCH_AXES)
    whole, split = placed(mesh, "step"), NamedSharding(mesh, over_steps)
    answer = make_answer(method, data, network, BATCH_AXES, test=test, seed=seed)

    def run(state: TrainState, batch: Mapping[str, jax.Array]) -> Answered:
        weights = fsdp.weight_specs(mesh, state.ema)
        sharded = jax.shard_map(
            lambda params, *others: answer(fsdp.gathered(params, weights), *others),
            mesh=mesh,
            in_specs=(weights, *map(spec_of, ("constants", "table", "batch"))),
            out_specs=Answered(over_batch, over_batch, *[over_steps] * 4, over_batch),
            axis_names=set(BATCH_AXES),
            check_vma=False,
        )
        return sharded(state.ema, state.constants, state.table, batch)

    return jax.jit(
        run,
        in_shardings=(shardings, placed(mesh, "batch")),
        out_shardings=Answered(whole, whole, *[split] * 4, whole),
    )
