"""All that a report shows of a run, from the files of its work directory alone.

config.json, history.jsonl   what was run, on what
metrics.jsonl                curves
eval/step_N/                 scores, answers, trajectories
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from drm_jax.config import Experiment, to_json
from drm_jax.errors import InputError
from drm_jax.evaluate.answers import (
    Answers,
    Packed,
    Trajectory,
    grid_rows,
    read_answers,
    read_trajectories,
    unpack,
)
from drm_jax.evaluate.score import evaluation_folder, evaluations
from drm_jax.io.metrics import read_metrics
from drm_jax.puzzles.arc.augment import augment
from drm_jax.puzzles.arc.tokens import FIRST_COLOUR, grid_sizes, to_tokens
from drm_jax.run.history import read_history
from drm_jax.run.workdir import read_config

SHOWN_ANSWERS, SHOWN_PATHS = 6, 16
"""Of each test input."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What the files of a work directory say of a run and one of its evaluations."""

    name: str  # of its folder
    experiment: Experiment
    history: Sequence[Mapping[str, Any]]
    log: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    answers: Answers
    trajectories: Sequence[Packed]


def read_run(workdir: epath.Path, steps: Sequence[int] = ()) -> Run:
    """Reads a run and one of its evaluations.

    Args:
      steps: of the evaluation, as in `evaluation_of`.

    Raises:
      InputError: it is not a work directory, it was not evaluated, or a file can't be used.
    """
    experiment = read_config(workdir)
    folder = evaluation_of(workdir, steps)
    metrics = _read_scores(folder / "metrics.json")
    answers = read_answers(folder)
    trajectories = _some(read_trajectories(folder, answers), answers)
    log = read_metrics(workdir)
    return Run(workdir.name, experiment, read_history(workdir), log, metrics, answers, trajectories)


def _some(trajectories: Sequence[Packed], answers: Answers) -> list[Packed]:
    """At most `SHOWN_PATHS` of each test input: those of the best answers and the truth first."""
    rank = {
        (task["id"], t, answer["voters"][0][0]): answer["rank"]
        for task in answers.tasks
        for t, test in enumerate(task["tests"])
        for answer in reversed(test["answers"])
        if answer["voters"]
    }
    by_test: dict[tuple[str, int], list[Packed]] = {}
    for packed in trajectories:
        by_test.setdefault((packed.task_id, packed.test), []).append(packed)
    return [
        packed
        for (task_id, t), of_test in by_test.items()
        for packed in sorted(
            of_test, key=lambda p: rank.get((task_id, t, p.puzzle_id), len(rank) + 1)
        )[:SHOWN_PATHS]
    ]


def evaluation_of(workdir: epath.Path, steps: Sequence[int] = ()) -> epath.Path:
    """The folder of an evaluation in a work directory.

    Args:
      steps: ascending; several of an ensemble; none for that of the newest checkpoint.

    Raises:
      InputError: there is no such evaluation.
    """
    if len(steps) > 1:
        folder = evaluation_folder(workdir, steps)
        if not folder.exists():
            named = ",".join(map(str, steps))
            raise InputError(f"{folder}: is not there: drm eval {workdir} --steps {named} makes it")
        return folder
    found = evaluations(workdir)
    if not found:
        raise InputError(
            f"{workdir}: no checkpoint was scored there yet: drm eval {workdir} scores the newest"
        )
    if not steps:
        return found[max(found)]
    if steps[0] not in found:
        known = ", ".join(map(str, found))
        raise InputError(f"{workdir}: step {steps[0]} was not evaluated; evaluated: {known}")
    return found[steps[0]]


def _read_scores(path: epath.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        shares = [value for name, value in found.items() if "@" in name or name == "cell_accuracy"]
        if all(isinstance(of, dict) for of in found["per_task"].values()) and all(
            isinstance(share, int | float) and math.isfinite(share) for share in shares
        ):
            return found
    except FileNotFoundError as error:
        raise InputError(f"{path}: is not there; score the checkpoint with drm eval") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    raise InputError(f"{path}: can't be read; score the checkpoint again with drm eval")


def overview(run: Run) -> dict[str, Any]:
    """The run in words and numbers."""
    experiment, metrics, data = run.experiment, run.metrics, run.experiment.data
    starts = [line for line in run.history if line["event"] == "start"]
    before: dict[str, Any] = {}
    for line in starts:
        for name, (was, _) in _changes(line).items():
            before.setdefault(name, was)
    now = {name: _value(experiment, name) for name in before}
    changed = {name: (was, now[name]) for name, was in before.items() if was != now[name]}
    of_file = next((str(line["from"]) for line in starts if "from" in line), None)
    scores = {name: value for name, value in metrics.items() if "@" in name}
    return {
        "name": experiment.name,
        "objective": experiment.objective,
        "seed": experiment.seed,
        "steps": list(run.answers.steps),
        "ensemble": len(run.answers.steps) > 1,
        "train_steps": experiment.train.steps,
        "scores": scores,
        "test_inputs": sum(len(task["tests"]) for task in run.answers.tasks),
        "scored": metrics.get("test_inputs", 0),
        "tasks": len(run.answers.tasks),
        "candidates": metrics.get("candidates", 0),
        "cell_accuracy": metrics.get("cell_accuracy"),
        "denoise_steps": experiment.evaluate.denoise_steps,
        "from": of_file,
        "changed": [[name, _plain(was), _plain(now)] for name, (was, now) in changed.items()],
        "data": {
            "trained on": ", ".join(data.train) or "nothing whole",
            "evaluated on": ", ".join(data.evaluate) or "nothing",
            "tasks picked by id": str(len(data.only)) if data.only else "all",
            "canvas": " ".join(map(str, data.sides)) + (" (fit)" if data.canvas == "fit" else ""),
            "augmentations": f"up to {data.num_augmentations:,} of each task beside the identity"
            if data.identifiers is None
            else "those of a published list",
        },
        "trained_with": _made_with(starts[-1]) if starts else None,
        "evaluated_with": _made_with(run.answers.made_with),
        "config": to_json(experiment),
        "selected_on_test": bool(metrics.get("best_checkpoints_selected_on_test_labels")),
    }


def _changes(line: Mapping[str, Any]) -> dict[str, list[Any]]:
    changed = line.get("changed")
    pairs = changed.items() if isinstance(changed, dict) else ()
    return {name: pair for name, pair in pairs if isinstance(pair, list) and len(pair) == 2}


def _value(experiment: Experiment, name: str) -> Any:
    """A field by its dotted name, as JSON has it; None where this version has no such field."""
    value: Any = experiment
    for part in name.split("."):
        value = getattr(value, part, None)
    return list(value) if isinstance(value, tuple) else value


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _made_with(line: Mapping[str, Any]) -> str:
    names = {"drm_jax": "drm_jax ", "jax": "jax ", "python": "Python ", "devices": "", "dtype": ""}
    words = [f"{before}{line[name]}" for name, before in names.items() if name in line]
    several = f"{line['processes']} processes" if line.get("processes", 1) != 1 else ""
    return ", ".join([*words, several] if several else words)


PERCENT = ("exact accuracy", "pass@2")
"""The curves that are shares."""


def curves(run: Run) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each line of the log, by what is plotted."""
    wanted = {
        "loss": ("train", "loss"),
        "exact accuracy": ("train", "exact_accuracy"),
        "pass@2": ("eval", "pass@2"),
        "examples/s": ("train", "examples_per_second"),
    }
    return {
        title: [
            (line["step"], line[field])
            for line in run.log
            if line["kind"] == kind and line.get(field) is not None
        ]
        for title, (kind, field) in wanted.items()
    }


def unpacked(run: Run) -> dict[str, list[Trajectory]]:
    """The trajectories of a run by task."""
    of_task: dict[str, list[Trajectory]] = {}
    for packed in run.trajectories:
        of_task.setdefault(packed.task_id, []).append(unpack(packed))
    return of_task


def described_tasks(
    run: Run, trajectories: Mapping[str, Sequence[Trajectory]]
) -> list[dict[str, Any]]:
    """The tasks with answers and outcome, as the page's script wants them.

    Args:
      trajectories: of this run, from `unpacked`.
    """
    return [
        _task(task, run.metrics, trajectories.get(task["id"], [])) for task in run.answers.tasks
    ]


def _task(
    task: Mapping[str, Any], metrics: Mapping[str, Any], trajectories: Sequence[Trajectory]
) -> dict[str, Any]:
    scored = metrics["per_task"].get(task["id"], {})
    accuracy = scored.get("cell_accuracy") or [None] * len(task["tests"])
    tests = [
        {
            "input": test["input"],
            "output": test["output"],
            "candidates": test["candidates"],
            "distinct": test["distinct"],
            "rank": test["rank_of_truth"],
            "accuracy": accuracy[t] if t < len(accuracy) else None,
            "answers": [
                {
                    "rank": answer["rank"],
                    "grid": answer["grid"],
                    "votes": answer["votes"],
                    "score": answer["score"],
                    "right": answer["rank"] == test["rank_of_truth"],
                    "turns": answer["votes_by_transform"],
                    "voters": answer["voters"],
                }
                for i, answer in enumerate(test["answers"])
                if i < SHOWN_ANSWERS or answer["rank"] == test["rank_of_truth"]
            ],
        }
        for t, test in enumerate(task["tests"])
    ]
    paths = [_path(trajectory, task["tests"][trajectory.test]) for trajectory in trajectories]
    grids = [rows for p in (*task["demonstrations"], *tests) for rows in (p["input"], p["output"])]
    return {
        "id": task["id"],
        "source": task["source"],
        "demos": task["demonstrations"],
        "tests": tests,
        "paths": paths,
        "outcome": _outcomes(tests, paths),
        "side": max((len(x) for rows in grids if rows for x in (rows, rows[0])), default=0),
    }


OUTCOMES = {
    "solved": "solved",
    "solved2": "solved at 2",
    "unsolved": "not solved",
    "lost": "right, then lost",
    "shape": "wrong shape",
    "cells": "wrong cells",
    "unknown": "truth unknown",
}
"""What may become of a task, in words."""


def _outcomes(tests: Sequence[Mapping[str, Any]], paths: Sequence[Mapping[str, Any]]) -> list[str]:
    """What became of a task; several can hold where it has several test inputs."""
    known = [(t, test) for t, test in enumerate(tests) if test["output"] is not None]
    if not known:
        return ["unknown"]
    found = set()
    if all(test["rank"] is not None and test["rank"] <= 1 for _, test in known):
        found.add("solved")
    if all(test["rank"] is not None and test["rank"] <= 2 for _, test in known):
        found.add("solved2")
    for t, test in known:
        if test["rank"] is not None and test["rank"] <= 2:
            continue
        found.add("unsolved")
        if any(path["test"] == t and path["was_right"] and not path["right"] for path in paths):
            found.add("lost")
        first = test["answers"][0]["grid"] if test["answers"] else []
        same = _shape(first) == _shape(test["output"])
        found.add("cells" if same else "shape")
    return sorted(found)


def _shape(rows: Sequence[str]) -> tuple[int, int]:
    return len(rows), len(rows[0]) if rows else 0


def _path(trajectory: Trajectory, test: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs to know of a trajectory, but for its cells: see `path_cells`."""
    sizes_Nx2 = grid_sizes(trajectory.predicted_NxS)
    right_N = np.zeros(len(sizes_Nx2), bool)
    if trajectory.truth is not None:
        truth = augment(trajectory.truth, trajectory.augmentation)
        if max(truth.shape) <= trajectory.side:
            tokens_S = to_tokens(truth, trajectory.side)
            inside_S = tokens_S >= FIRST_COLOUR
            same_N = (trajectory.predicted_NxS == tokens_S)[:, inside_S].all(axis=1)
            right_N = same_N & (sizes_Nx2 == truth.shape).all(axis=1)
    rows = grid_rows(trajectory.answer)
    rank = next((answer["rank"] for answer in test["answers"] if answer["grid"] == rows), None)
    return {
        "test": trajectory.test,
        "rank": rank,
        "puzzle": trajectory.puzzle_id,
        "transform": trajectory.augmentation.transform,
        "colours": "".join(map(str, trajectory.augmentation.colours.tolist())),
        "levels": trajectory.levels_N.tolist(),
        "halt": [round(float(q), 4) for q in 1 / (1 + np.exp(-trajectory.q_halt_N.astype(float)))],
        "sizes": sizes_Nx2.tolist(),
        "box": np.maximum(sizes_Nx2.max(axis=0), 1).tolist(),  # what is shown: all any step said
        "right": bool(right_N[-1]),
        "was_right": bool(right_N.any()),
        "right_from": _right_from(right_N),
    }


def _right_from(right_N: np.ndarray) -> int | None:
    """The step, from 1, from which on the grid was the truth until the end."""
    if not right_N[-1]:
        return None
    wrong = np.flatnonzero(~right_N)
    return int(wrong[-1]) + 2 if len(wrong) else 1


def path_cells(trajectory: Trajectory, box: Sequence[int]) -> bytes:
    """The cells of a trajectory that the page shows, h x w of `_path`'s box at each of N steps.

    Predicted tokens, then masked as bits, then confidence in percent.
    """
    (height, width), side = box, trajectory.side

    def boxed(cells_NxS: np.ndarray) -> np.ndarray:
        return cells_NxS.reshape(-1, side, side)[:, :height, :width]

    parts = (
        boxed(trajectory.predicted_NxS),
        np.packbits(boxed(trajectory.masked_NxS)),
        boxed(trajectory.confidence_NxS),
    )
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
