"""Scores one checkpoint: denoise -> undo augmentation -> vote -> pass@k, submission, tasks.

Training and `drm eval` both use `evaluate`.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from drm_jax.arc import voting
from drm_jax.arc.augment import PuzzleIds
from drm_jax.arc.tasks import Task
from drm_jax.config import Experiment
from drm_jax.data.evaluation import evaluation_batches, evaluation_rows
from drm_jax.dist import puzzle_table
from drm_jax.dist.mesh import AXIS, global_batch, split_rows
from drm_jax.io.files import write_whole
from drm_jax.model.denoise import Denoised, denoise
from drm_jax.model.network import Network
from drm_jax.train.state import TrainState

Progress = Callable[[Iterable[Any], int], Iterable[Any]]
PICTURED = 8
"""Test inputs whose denoising is kept for pictures."""


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """How one unaugmented test input was denoised, as canvases of tokens."""

    task_id: str
    test: int
    inputs_S: np.ndarray
    truth: np.ndarray | None  # grid of colours
    tokens_NxS: np.ndarray  # what each step began from
    predicted_NxS: np.ndarray  # what each step predicted


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What one checkpoint answered."""

    step: int
    metrics: dict[str, Any]
    submission: Mapping[str, Any]
    trajectories: tuple[Trajectory, ...]


def compile_denoise(
    experiment: Experiment, network: Network, mesh: Mesh, shardings: TrainState
) -> Callable[[TrainState, Mapping[str, jax.Array]], Denoised]:
    """(state, batch of `evaluation_batches`) -> Denoised, jitted over the mesh.

    The averaged weights are used, with the puzzle table's current rows.
    """
    config, seed = experiment.evaluate, experiment.seed

    def on_device(params, constants, table, batch):
        rows_BxD = puzzle_table.lookup(table, batch["puzzle_id"])
        key_B = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(seed), row))(batch["row"])
        return denoise(
            network,
            params,
            constants,
            batch["inputs"],
            rows_BxD,
            key_B,
            steps=config.denoise_steps,
            remask=config.remask,
            first_remask=config.first_remask,
        )

    over_batch, over_steps = P(AXIS), P(None, AXIS)
    sharded = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(P(), P(), P(AXIS), P(AXIS)),
        out_specs=Denoised(over_batch, over_batch, over_steps, over_steps),
        check_vma=False,
    )
    return jax.jit(
        lambda state, batch: sharded(state.ema, state.constants, state.table, batch),
        in_shardings=(shardings, split_rows(mesh)),
    )


def evaluate(
    experiment: Experiment,
    denoise_batch: Callable[[TrainState, Mapping[str, jax.Array]], Denoised],
    state: TrainState,
    mesh: Mesh,
    tasks: Sequence[Task],
    ids: PuzzleIds,
    progress: Progress = lambda batches, total: batches,
) -> Evaluation:
    """Answers every test input of the evaluation tasks and scores the answers.

    Args:
      denoise_batch: from `compile_denoise`.
      progress: wraps the batches, given how many there are.
    """
    config, canvas = experiment.evaluate, experiment.data.canvas
    rows = evaluation_rows(tasks, ids, config.num_augmentations)
    batches = evaluation_batches(tasks, ids, rows, canvas, config.batch_size)
    pictured = _pictured_rows(rows, ids)
    ballot: voting.Ballot = {}
    trajectories = []
    for batch in progress(batches, -(-len(rows) // config.batch_size)):
        result = denoise_batch(state, global_batch(batch, mesh))
        predicted_BxS, q_halt_B = jax.device_get((result.predicted, result.q_halt))
        voting.cast_votes(ballot, ids, batch["puzzle_id"], batch["inputs"], predicted_BxS, q_halt_B)
        here = [i for i, row in enumerate(batch["row"].tolist()) if row in pictured]
        if here:
            paths = jax.device_get((result.trajectory_tokens, result.trajectory_predicted))
            for i in here:
                k, t, _ = rows[batch["row"][i]].tolist()
                truth, (begun, predicted) = tasks[k].tests[t].output, (path[:, i] for path in paths)
                question = batch["inputs"][i]
                trajectories.append(Trajectory(tasks[k].id, t, question, truth, begun, predicted))
    asked = [task for task in tasks if task.role == "evaluate"]
    step = int(state.step)
    metrics = {"experiment": experiment.name, "seed": experiment.seed, "checkpoint_step": step}
    metrics |= {"candidates": len(rows), "evaluate": dataclasses.asdict(config)}
    metrics |= {"best_checkpoints_selected_on_test_labels": experiment.train.keep_best > 0}
    metrics |= scores(ballot, asked)
    return Evaluation(step, metrics, voting.submission(ballot, asked), tuple(trajectories))


def _pictured_rows(rows: np.ndarray, ids: PuzzleIds) -> set[int]:
    """Candidates that are pictured: the unaugmented copies of the first test inputs."""
    unaugmented = {int(of_task[0]) for of_task in ids.of_task}
    found = [r for r, puzzle_id in enumerate(rows[:, 2].tolist()) if puzzle_id in unaugmented]
    return set(found[:PICTURED])


def scores(ballot: voting.Ballot, tasks: Sequence[Task]) -> dict[str, Any]:
    """pass@k over tasks, test inputs solved within k, and both for each task.

    Tests without a known output are not scored; without any, only the votes are given.
    """
    ranks = {task.id: voting.truth_ranks(ballot, task) for task in tasks}
    flat = [rank for of_task in ranks.values() for rank in of_task]
    per_task = {
        task.id: {
            "test_inputs": len(task.tests),
            "rank_of_truth": [None if rank is None else rank + 1 for rank in ranks[task.id]],
            "votes_of_first_two": [
                [answer.votes for answer in voting.ranked(ballot, task.id, pair.input)[:2]]
                for pair in task.tests
            ],
            **pass_rates([ranks[task.id]]),
        }
        for task in tasks
    }
    solved = {
        f"solved@{k}": sum(rank is not None and rank < k for rank in flat) for k in voting.PASS_KS
    }
    return {
        "tasks": len(tasks),
        "test_inputs": len(flat),
        **pass_rates(list(ranks.values())),
        **(solved if flat else {}),
        "per_task": per_task,
    }


def pass_rates(ranks_by_task: Sequence[Sequence[int | None]]) -> dict[str, float]:
    """{"pass@k": …}; empty where no output is known."""
    if not any(ranks_by_task):
        return {}
    return {f"pass@{k}": voting.pass_at(ranks_by_task, k) for k in voting.PASS_KS}


def copy_baseline(tasks: Sequence[Task]) -> dict[str, Any]:
    """Scores of answering every test input with itself."""
    ballot: voting.Ballot = {}
    asked = [task for task in tasks if task.role == "evaluate"]
    for task in asked:
        for pair in task.tests:
            voting.cast_vote(ballot, task.id, pair.input, pair.input, score=1.0)
    return scores(ballot, asked)


def write_evaluation(workdir: epath.Path, evaluation: Evaluation) -> list[epath.Path]:
    """Writes WORKDIR/eval/step_N/metrics.json and submission.json; returns their paths."""
    folder = workdir / "eval" / f"step_{evaluation.step}"
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "metrics.json": json.dumps(evaluation.metrics, indent=2) + "\n",
        "submission.json": json.dumps(evaluation.submission) + "\n",
    }
    for name, text in contents.items():
        write_whole(folder / name, text)
    return [folder / name for name in contents]
