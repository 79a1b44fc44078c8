"""Scores a checkpoint: denoise -> undo augmentation -> vote -> pass@k, submission, tasks.

Training and `drm eval` both use `evaluate`. Only `drm eval`, when asked, pools the votes of several
checkpoints: `evaluate_together`.
"""

import dataclasses
import functools
import hashlib
import json
import math
import platform
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from drm_jax import __version__
from drm_jax.config import CARRIED, Experiment
from drm_jax.corruption.schedules import NUM_LEVELS, level_ratios
from drm_jax.data.evaluation import (
    Truths,
    evaluation_batches,
    evaluation_rows,
    first_windows,
    touches_border,
)
from drm_jax.evaluate.answers import (
    ANSWERS,
    TRAJECTORIES,
    Answers,
    Packed,
    Trajectory,
    answers_bytes,
    describe_answers,
    trajectories_bytes,
)
from drm_jax.evaluate.kept import Kept
from drm_jax.io.files import write_whole
from drm_jax.methods.denoising import Denoised, denoise, refine, remasked_levels
from drm_jax.model.network import Network, at_windows, compute_dtype, exact_products
from drm_jax.model.recursion import forward, one_pass
from drm_jax.parallel import processes, puzzle_table
from drm_jax.parallel.mesh import AXIS, SPECS, global_batch, placed, platform_of
from drm_jax.puzzles.arc import voting
from drm_jax.puzzles.arc.augment import PuzzleIds
from drm_jax.puzzles.arc.tasks import Task
from drm_jax.puzzles.arc.tokens import MASK, on_canvas
from drm_jax.train.state import TrainState

Progress = Callable[[Iterable[Any], int], Iterable[Any]]
DenoiseBatch = Callable[[TrainState, Mapping[str, jax.Array]], Denoised]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What one checkpoint answered, or several as an ensemble."""

    steps: tuple[int, ...]  # of the checkpoints, ascending
    metrics: dict[str, Any]
    submission: Mapping[str, Any]
    answers: Answers
    trajectories: tuple[Packed, ...]  # of the newest of them: what evaluate.trajectories keeps
    pictured: tuple[Packed, ...]  # of the newest: unaugmented, of the first test inputs

    @property
    def step(self) -> int:
        return self.steps[-1]

    @property
    def is_ensemble(self) -> bool:
        return len(self.steps) > 1

    def without_details(self) -> "Evaluation":
        """Its scores alone: what is written and shown needs no room any more."""
        answers = dataclasses.replace(self.answers, tasks=())
        return dataclasses.replace(self, answers=answers, trajectories=(), pictured=())


def abstract_candidates(
    experiment: Experiment, side: int | None = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a batch of `data.evaluation.evaluation_batches`.

    Args:
      side: of the window, with canvas=fit; None: of the whole canvas.
    """
    count, cells = experiment.evaluate.batch_size, (side or experiment.data.side) ** 2
    return {
        "inputs": jax.ShapeDtypeStruct((count, cells), np.uint8),
        "puzzle_id": jax.ShapeDtypeStruct((count,), np.int32),
        "row": jax.ShapeDtypeStruct((count,), np.int32),
    }


def compile_denoise(
    experiment: Experiment, network: Network, mesh: Mesh, shardings: TrainState
) -> Callable[[TrainState, Mapping[str, jax.Array]], Denoised]:
    """(state, batch of `evaluation_batches`) -> Denoised, jitted over the mesh.

    The averaged weights are used, with the puzzle table's current rows. With canvas=fit it is
    compiled once for each size of window.
    """
    config, seed = experiment.evaluate, experiment.seed
    schedule = "linear" if config.remask_schedule == "linear" else experiment.noise.schedule

    def on_device(params, constants, table, batch):
        with exact_products(network):
            return answers(params, constants, table, batch)

    def answers(params, constants, table, batch):
        rows_BxD = puzzle_table.lookup(table, batch["puzzle_id"])
        weights = (at_windows(network, batch["inputs"].shape[1]), params, constants)
        if experiment.objective in CARRIED:
            return refine(*weights, batch["inputs"], rows_BxD, steps=config.denoise_steps)
        key_B = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(seed), row))(batch["row"])
        return denoise(
            *weights,
            batch["inputs"],
            rows_BxD,
            key_B,
            steps=config.denoise_steps,
            remask=config.remask,
            first_remask=config.first_remask,
            shares=level_ratios(schedule),
            outside=config.outside,
            carry_z=config.carry_z,
            forward=one_pass if experiment.objective == "diffusion" else forward,
        )

    # Answers go to all processes, which count the same votes; paths stay where they are.
    over_batch, over_steps = P(AXIS), P(None, AXIS)
    whole, split = placed(mesh, "step"), NamedSharding(mesh, over_steps)
    sharded = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=tuple(SPECS[name] for name in ("ema", "constants", "table", "batch")),
        out_specs=Denoised(over_batch, over_batch, *[over_steps] * 4),
        check_vma=False,
    )
    return jax.jit(
        lambda state, batch: sharded(state.ema, state.constants, state.table, batch),
        in_shardings=(shardings, placed(mesh, "batch")),
        out_shardings=Denoised(whole, whole, *[split] * 4),
    )


def evaluate(
    experiment: Experiment,
    denoise_batch: DenoiseBatch,
    state: TrainState,
    mesh: Mesh,
    tasks: Sequence[Task],
    ids: PuzzleIds,
    progress: Progress = lambda batches, total: batches,
) -> Evaluation:
    """Answers every test input of the evaluation tasks and scores the answers.

    Args:
      denoise_batch: from `compile_denoise`.
      progress: wraps the batches of each size of window, given how many there are from there on.
    """
    answers = _answer(experiment, denoise_batch, state, mesh, tasks, ids, progress)
    return _judge(experiment, (int(state.step),), answers, mesh, tasks, ids)


def evaluate_together(
    experiment: Experiment,
    denoise_batch: DenoiseBatch,
    steps: Sequence[int],
    restore: Callable[[int], TrainState],
    mesh: Mesh,
    tasks: Sequence[Task],
    ids: PuzzleIds,
    progress: Progress = lambda batches, total: batches,
) -> tuple[Evaluation, ...]:
    """`evaluate` of each checkpoint, and last of their ensemble: the votes of all, pooled.

    A candidate's random draws are the same in each checkpoint, as when it is scored alone.

    Args:
      steps: ascending, at least two.
      restore: the state of a step; one is held at a time.
      progress: wraps the batches of each checkpoint in turn.
    """
    pooled: voting.Ballot = {}
    alone, accuracies = [], []
    for step in steps:
        answers = _answer(experiment, denoise_batch, restore(step), mesh, tasks, ids, progress)
        alone = [evaluation.without_details() for evaluation in alone]
        alone.append(_judge(experiment, (step,), answers, mesh, tasks, ids))
        voting.pool(pooled, answers.ballot)
        accuracies.append(answers.accuracy)
    accuracy = {key: statistics.fmean(of[key] for of in accuracies) for key in accuracies[0]}
    together = dataclasses.replace(answers, ballot=pooled, accuracy=accuracy)
    return *alone, _judge(experiment, tuple(steps), together, mesh, tasks, ids, alone)


@dataclasses.dataclass(frozen=True)
class _Answers:
    """What the candidates of one state answered."""

    rows: np.ndarray  # all candidates, from `evaluation_rows`
    ballot: voting.Ballot
    accuracy: Mapping[tuple[str, int], float]
    """Of a task's test input: the mean of `data.evaluation.Truths.accuracy` over candidates."""
    denoised: Mapping[int, int]  # candidates that were denoised on windows of each side
    trajectories: tuple[Packed, ...]  # those that are kept; none where another process keeps them
    pictured: tuple[Packed, ...]


def _answer(
    experiment: Experiment,
    denoise_batch: DenoiseBatch,
    state: TrainState,
    mesh: Mesh,
    tasks: Sequence[Task],
    ids: PuzzleIds,
    progress: Progress,
) -> _Answers:
    """The answers of a state's candidates.

    With canvas=fit each candidate is answered on the smallest window that may hold its answer, and
    again on the next one if it touches the border: only its last answer counts.
    """
    config, sides = experiment.evaluate, experiment.data.sides
    rows = evaluation_rows(tasks, ids, config.num_augmentations)
    window_R = first_windows(tasks, rows, sides)
    kept = Kept(experiment, tasks, ids, rows)
    truths, accuracy_R = Truths(tasks, ids, rows, sides[-1]), np.full(len(rows), np.nan)
    ballot: voting.Ballot = {}
    denoised = {}

    def ask(batch: Mapping[str, np.ndarray]) -> Denoised:
        return denoise_batch(state, global_batch(_rows_of_process(batch), mesh))

    def keep(result: Denoised, places: Sequence[int], row_N: Sequence[int]) -> None:
        paths = _paths(result, mesh, places) if row_N else []
        for row, *path in zip(row_N, *paths, strict=True) if paths else ():
            kept.add(row, _trajectory(experiment, tasks, ids, rows[row].tolist(), path))

    for window, side in enumerate(sides):
        waiting = np.bincount(window_R, minlength=len(sides))[window:]
        left = int((-(-waiting // config.batch_size)).sum())
        here_N = np.flatnonzero(window_R == window)
        denoised[side] = len(here_N)
        batches = evaluation_batches(tasks, ids, rows, here_N, side, config.batch_size)
        for batch, result in _one_ahead(progress(batches, left), ask):
            predicted_BxS, q_halt_B = jax.device_get((result.predicted, result.q_halt))
            answered_B = batch["row"] < len(rows)
            if side < sides[-1]:
                again_B = answered_B & touches_border(predicted_BxS)
                window_R[batch["row"][again_B]] += 1
                answered_B &= ~again_B
            votes = (batch["puzzle_id"], batch["inputs"], predicted_BxS, q_halt_B)
            row_N = batch["row"][answered_B]
            voting.cast_votes(ballot, ids, *(x[answered_B] for x in votes), row_N)
            on_canvas_NxS = on_canvas(predicted_BxS[answered_B], sides[-1])
            accuracy_R[row_N] = truths.accuracy(row_N, on_canvas_NxS)
            now = kept.choose(ballot, row_N)
            keep(result, np.flatnonzero(np.isin(batch["row"], now)), now)
    wanted = kept.wanted(ballot)
    missing_N = np.array(kept.missing(wanted), int)
    for window, side in enumerate(sides):
        here_N = missing_N[window_R[missing_N] == window]
        for batch in evaluation_batches(tasks, ids, rows, here_N, side, config.batch_size):
            row_N = batch["row"][batch["row"] < len(rows)]
            keep(ask(batch), range(len(row_N)), row_N.tolist())
    accuracy = {
        (tasks[k].id, t): float(accuracy_R[(rows[:, :2] == (k, t)).all(axis=1)].mean())
        for k, t in np.unique(rows[:, :2], axis=0).tolist()
    }
    packed = kept.chosen(wanted)
    pictured = tuple(packed[row] for row in kept.pictured if row in packed)
    return _Answers(rows, ballot, accuracy, denoised, tuple(packed.values()), pictured)


def _one_ahead(
    batches: Iterable[dict[str, np.ndarray]], ask: Callable[[Mapping[str, np.ndarray]], Denoised]
) -> Iterator[tuple[dict[str, np.ndarray], Denoised]]:
    """Each batch and its answers; the next one is under way while the host counts their votes."""
    before = None
    for batch in batches:
        now = batch, ask(batch)
        if before is not None:
            yield before
        before = now
    if before is not None:
        yield before


def _rows_of_process(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The rows that this process's devices answer."""
    share = len(batch["row"]) // processes.count()
    first = processes.index() * share
    return {name: value[first : first + share] for name, value in batch.items()}


def _paths(result: Denoised, mesh: Mesh, places: Sequence[int]) -> list[np.ndarray]:
    """What a trajectory holds of these rows of a batch: arrays (rows, N, …), on the first process.

    All processes must ask.
    """
    paths = (result.trajectory_predicted, result.trajectory_tokens,
             result.trajectory_confidence, result.trajectory_q_halt)  # fmt: skip
    if processes.count() > 1:
        paths = _whole(mesh)(paths)
    if not processes.is_first():
        return []
    return [np.asarray(path)[:, places].swapaxes(0, 1) for path in paths]


@functools.cache
def _whole(mesh: Mesh) -> Callable[[Any], Any]:
    """Gives every process all of arrays that lie split over the devices."""
    return jax.jit(lambda arrays: arrays, out_shardings=placed(mesh, "step"))


def _trajectory(
    experiment: Experiment,
    tasks: Sequence[Task],
    ids: PuzzleIds,
    row: Sequence[int],
    path: Sequence[np.ndarray],
) -> Trajectory:
    """The trajectory of one candidate, from its row of `evaluation_rows` and its `_paths`."""
    (k, t, puzzle_id), config = row, experiment.evaluate
    predicted_NxS, tokens_NxS, confidence_NxS, q_halt_N = path
    if experiment.objective in CARRIED:
        levels_N = np.full(config.denoise_steps, -1)
    else:
        remasked = remasked_levels(config.denoise_steps, config.first_remask)
        levels_N = np.array([NUM_LEVELS, *remasked[:-1]])
    pair = tasks[k].tests[t]
    return Trajectory(
        tasks[k].id, t, pair.input, pair.output, puzzle_id, ids.augmentation(puzzle_id), levels_N,
        q_halt_N, predicted_NxS, tokens_NxS == MASK, confidence_NxS,
    )  # fmt: skip


def _judge(
    experiment: Experiment,
    steps: tuple[int, ...],
    answers: _Answers,
    mesh: Mesh,
    tasks: Sequence[Task],
    ids: PuzzleIds,
    alone: Sequence[Evaluation] = (),
) -> Evaluation:
    """The scores of one checkpoint, or of an ensemble of those that were scored alone."""
    asked, ballot = [task for task in tasks if task.role == "evaluate"], answers.ballot
    candidates = sum(answer.votes for of in ballot.values() for answer in of.values())
    metrics: dict[str, Any] = {"experiment": experiment.name, "seed": experiment.seed}
    if alone:
        names = ("checkpoint_step", "candidates")
        each = [{k: v for k, v in e.metrics.items() if k in names or "@" in k} for e in alone]
        metrics |= {"ensemble": True, "checkpoint_steps": list(steps), "per_checkpoint": each}
    else:
        metrics["checkpoint_step"] = steps[0]
    metrics |= {"candidates": candidates, "evaluate": dataclasses.asdict(experiment.evaluate)}
    metrics |= {"best_checkpoints_selected_on_test_labels": experiment.train.keep_best > 0}
    if experiment.data.canvas == "fit" and not alone:
        metrics["denoised_on_windows"] = dict(answers.denoised)
    metrics |= scores(ballot, asked)
    metrics |= _cell_accuracies(answers.accuracy, metrics)
    described = describe_answers(ballot, asked, ids, answers.rows)
    return Evaluation(
        steps,
        metrics,
        voting.submission(ballot, asked),
        Answers(steps, experiment.objective, made_with(experiment, mesh), described),
        answers.trajectories,
        answers.pictured,
    )


def made_with(experiment: Experiment, mesh: Mesh) -> dict[str, Any]:
    """Versions and devices, for those who read of a run later."""
    return {
        "drm_jax": __version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "devices": f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
        "processes": processes.count(),
        "dtype": compute_dtype(experiment, platform_of(mesh)).name,
    }


def _cell_accuracies(
    accuracy: Mapping[tuple[str, int], float], metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """The mean over test inputs, and per_task with that of each; None where an output is hidden."""
    known = [value for value in accuracy.values() if not math.isnan(value)]
    of_tests = {
        name: [accuracy[name, t] for t in range(row["test_inputs"])]
        for name, row in metrics["per_task"].items()
    }
    per_task = {
        name: row | {"cell_accuracy": [None if math.isnan(x) else x for x in of_tests[name]]}
        for name, row in metrics["per_task"].items()
    }
    mean = {"cell_accuracy": statistics.fmean(known)} if known else {}
    return mean | {"per_task": per_task}


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


def evaluation_folder(
    workdir: epath.Path, steps: Sequence[int], changed: Mapping[str, Any] | None = None
) -> epath.Path:
    """WORKDIR/eval/step_N, or steps_N_M of an ensemble; a short name also for many steps.

    Args:
      changed: what of the run's own settings was changed, by field of `evaluate`: in the name.
    """
    name = "_".join(map(str, steps))
    if len(name) > 100:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{steps[0]}_to_{steps[-1]}_{len(steps)}_of_them_{digest}"
    settings = "".join(f"_{field}={value}" for field, value in (changed or {}).items())
    return workdir / "eval" / f"step{'s' * (len(steps) > 1)}_{name}{settings}"


def evaluations(workdir: epath.Path) -> dict[int, epath.Path]:
    """The folders of evaluations of single checkpoints, by step, ascending."""
    folder = workdir / "eval"
    found = {}
    for path in folder.iterdir() if folder.exists() else ():
        match = re.fullmatch("step_([0-9]+)", path.name)
        if match and (path / "metrics.json").exists():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def write_evaluation(folder: epath.Path, evaluation: Evaluation) -> list[epath.Path]:
    """Writes scores, submission, answers and trajectories to a folder, from `evaluation_folder`.

    Returns their paths. Without trajectories, those of an evaluation before are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "metrics.json": json.dumps(evaluation.metrics, indent=2) + "\n",
        "submission.json": json.dumps(evaluation.submission) + "\n",
        ANSWERS: answers_bytes(evaluation.answers),
    }
    if evaluation.trajectories:
        contents[TRAJECTORIES] = trajectories_bytes(evaluation.trajectories)
    elif (folder / TRAJECTORIES).exists():
        (folder / TRAJECTORIES).unlink()
    for name, content in contents.items():
        write_whole(folder / name, content)
    return [folder / name for name in contents]
