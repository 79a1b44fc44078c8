"""All that a report shows of a run, from the files of its work directory alone.

config.json, history.jsonl   what was run, on what
metrics.jsonl                curves
eval/step_N/                 scores, answers, trajectories
"""

import base64
import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from etils import epath

from drm_jax.config import Experiment, part_name, to_json
from drm_jax.errors import InputError
from drm_jax.evaluate.answers import (
    Answers,
    Packed,
    Trajectory,
    answer_of,
    augmented,
    read_answers,
    read_trajectories,
    unpack,
)
from drm_jax.evaluate.curves import Curve, read_curves
from drm_jax.evaluate.files import (
    evaluation_folder,
    evaluations,
    other_evaluations,
    settings_in,
)
from drm_jax.evaluate.marks import conflicts_in, conflicts_of_steps, given_in
from drm_jax.io.metrics import read_metrics
from drm_jax.puzzles.boards import grid_of, grid_rows
from drm_jax.puzzles.family import PAD, Board, Family
from drm_jax.run.differences import in_words, options_of, plain
from drm_jax.run.history import read_history
from drm_jax.run.workdir import read_config

SHOWN_ANSWERS, SHOWN_PATHS = 6, 16
"""Of each test input."""
_PATIENCE_SECONDS = 20
Read = TypeVar("Read")


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What the files of a work directory say of a run and one of its evaluations.

    Without any, `answers` and `trajectories` are empty.
    """

    name: str  # of its folder
    experiment: Experiment
    history: Sequence[Mapping[str, Any]]
    log: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    answers: Answers
    trajectories: Sequence[Packed]
    settings: str = ""
    """Of the evaluation, where they are not the run's own."""
    thinking: Mapping[str, Curve] = dataclasses.field(default_factory=dict)
    """Curves of depth and of breadth on the same tests, by their kind."""


def read_run(workdir: epath.Path, steps: Sequence[int] = ()) -> Run:
    """Reads a run and one of its evaluations; where there is none yet, one without tasks or steps.

    Args:
      steps: of the evaluation, as in `evaluation_of`.

    Raises:
      InputError: it is not a work directory, an evaluation of these steps isn't there, or a file
        can't be used.
    """
    experiment = read_config(workdir)
    if not steps and not evaluations(workdir) and not other_evaluations(workdir):
        nothing = Answers((), part_name("method", experiment.method), {}, ())
        log, history = read_metrics(workdir), read_history(workdir)
        return Run(workdir.name, experiment, history, log, {"per_task": {}}, nothing, ())
    folder = evaluation_of(workdir, steps)
    vocabulary = experiment.data.vocabulary

    def read() -> tuple[dict[str, Any], Answers, list[Packed]]:
        metrics = _read_scores(folder / "metrics.json", experiment.data.headline)
        answers = read_answers(folder, vocabulary)
        return metrics, answers, _some(read_trajectories(folder, answers, vocabulary), answers)

    metrics, answers, trajectories = of_one_evaluation(folder, read)
    log = read_metrics(workdir)
    history, settings = read_history(workdir), settings_in(folder)
    thinking = {
        kind: curve
        for kind, curve in read_curves(folder).items()
        if curve.tests == metrics.get("tests")
    }
    return Run(
        workdir.name, experiment, history, log, metrics, answers, trajectories, settings, thinking
    )


def of_one_evaluation(folder: epath.Path, read: Callable[[], Read]) -> Read:
    """What `read` gives, of several files in a folder; again where they are rewritten meanwhile."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        before, error = _times(folder), None
        try:
            found = read()
        except InputError as met:
            error = met
        if _times(folder) == before or time.monotonic() > until:
            break
    if error:
        raise error
    return found


def _times(folder: epath.Path) -> dict[str, float]:
    """When each file of a folder was written."""
    times = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            times[path.name] = path.stat().mtime
    return times


def _some(trajectories: Sequence[Packed], answers: Answers) -> list[Packed]:
    """At most `SHOWN_PATHS` of each test input: those of the best answers and the truth first."""
    rank = {
        (task["id"], t, answer["voters"][0][0]): answer["rank"]
        for task in answers.tasks
        for t, test in enumerate(task["tests"])
        for answer in reversed(test["answers"])
        if answer.get("voters")
    }
    by_test: dict[tuple[str, int], list[Packed]] = {}
    for packed in trajectories:
        by_test.setdefault((packed.task, packed.test), []).append(packed)
    return [
        packed
        for (task, t), of_test in by_test.items()
        for packed in sorted(
            of_test, key=lambda p: rank.get((task, t, p.puzzle_id), len(rank) + 1)
        )[:SHOWN_PATHS]
    ]


def evaluation_of(workdir: epath.Path, steps: Sequence[int] = ()) -> epath.Path:
    """The folder of an evaluation in a work directory.

    Args:
      steps: ascending; several of an ensemble; none for that of the newest checkpoint. Where none
        has the run's own settings, the only one with others is meant.

    Raises:
      InputError: there is no such evaluation.
    """
    own, others = evaluations(workdir), other_evaluations(workdir, steps)
    if not steps and own:
        return own[max(own)]
    if len(steps) == 1 and steps[0] in own:
        return own[steps[0]]
    ensemble = evaluation_folder(workdir, steps) if len(steps) > 1 else None
    if ensemble in others:
        return ensemble
    if len(others) == 1:
        return others[0]
    if others:
        names = ", ".join(path.name for path in others)
        raise InputError(
            f"{workdir / 'eval'}: nothing there has the run's own settings, and several have "
            f"others: {names}; write each to a folder of its own with drm eval --output"
        )
    if ensemble:
        named = ",".join(map(str, steps))
        raise InputError(f"{ensemble}: is not there: drm eval {workdir} --steps {named} makes it")
    if not own and not other_evaluations(workdir):
        raise InputError(
            f"{workdir}: no checkpoint was scored there yet: drm eval {workdir} scores the newest"
        )
    known = ", ".join([*map(str, own), *(path.name for path in other_evaluations(workdir))])
    raise InputError(f"{workdir}: step {steps[0]} was not evaluated; evaluated: {known}")


def _read_scores(path: epath.Path, headline: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        names = ("cell_accuracy", headline)
        shares = [value for name, value in found.items() if "@" in name or name in names]
        parts = [*found["per_task"].values(), found.get("evaluate", {})]
        if all(isinstance(of, dict) for of in parts) and all(
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
    begun_with = experiment.init_from
    options = options_of(experiment)
    before: dict[str, Any] = {}
    for line in run.history:
        for name, (was, _) in _changes(line).items():
            if line["event"] == "start" or (line["event"] == "change" and name in options):
                before.setdefault(name, was)
    # What was changed within the run is told apart, after which step.
    began = {name: was for _, name, was, _ in reversed(_within(run))}
    now = {name: began.get(name, _as_in_history(options.get(name))) for name in before}
    changed = {name: (was, now[name]) for name, was in before.items() if was != now[name]}
    of_file = next((str(line["from"]) for line in starts if "from" in line), None)
    return {
        "experiment": experiment.name,
        "method": part_name("method", experiment.method),
        "seed": experiment.seed,
        "steps": list(run.answers.steps),
        "step_0": f"the initial weights from {begun_with}" if begun_with else "untrained",
        "ensemble": len(run.answers.steps) > 1,
        "train_steps": experiment.train.steps,
        "headline": experiment.data.headline,
        "test_inputs": sum(len(task["tests"]) for task in run.answers.tasks),
        "scored": metrics.get("test_inputs", 0),
        "tasks": len(run.answers.tasks),
        "candidates": metrics.get("candidates", 0),
        "denoise_steps": metrics.get("evaluate", {}).get(
            "denoise_steps", experiment.evaluate.denoise_steps
        ),
        "settings": run.settings,
        "from": of_file,
        "changed": [[name, plain(was), plain(now)] for name, (was, now) in changed.items()],
        "within": [[*at, plain(was), plain(now)] for *at, was, now in _within(run)],
        "other_tests": [line["step"] for line in _on_other_tests(run)],
        "data": {
            "puzzles": part_name("data", data),
            **{f.name: in_words(getattr(data, f.name)) for f in dataclasses.fields(data)},
        },
        "trained_with": _made_with(starts[-1]) if starts else None,
        "evaluated_with": _made_with(run.answers.made_with),
        "config": to_json(experiment),
        "selected_on_test": bool(metrics.get("best_checkpoints_selected_on_test_labels")),
    }


def _as_in_history(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _changes(line: Mapping[str, Any]) -> dict[str, list[Any]]:
    changed = line.get("changed")
    pairs = changed.items() if isinstance(changed, dict) else ()
    return {name: pair for name, pair in pairs if isinstance(pair, list) and len(pair) == 2}


def _made_with(line: Mapping[str, Any]) -> str:
    names = {"drm_jax": "drm_jax ", "jax": "jax ", "python": "Python ", "devices": "", "dtype": ""}
    words = [f"{before}{line[name]}" for name, before in names.items() if name in line]
    several = f"{line['processes']} processes" if line.get("processes", 1) != 1 else ""
    return ", ".join([*words, several] if several else words)


def _on_other_tests(run: Run) -> list[Mapping[str, Any]]:
    """The lines of evaluations on other tests than those of the evaluation that is shown, or of the
    last line where none is shown."""
    scored = [line for line in run.log if line["kind"] == "eval"]
    shown = run.metrics.get("tests") or (scored[-1].get("tests") if scored else None)
    # Earlier versions didn't say.
    return [line for line in scored if shown and line.get("tests") not in (None, shown)]


def _within(run: Run) -> list[list[Any]]:
    """[after which step, what, before, now] of what was changed within a run, since it began."""
    found = []
    for line in run.history:
        if line["event"] == "anew":
            found = []
        if line["event"] == "change" and type(line.get("step")) is int:
            found += [[line["step"], name, *pair] for name, pair in _changes(line).items()]
    return found


NOT_SHARES = ("loss", "examples/s")
"""The curves that are no shares."""


def curves(run: Run) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each line of the log, by what is plotted."""
    headline = run.experiment.data.headline
    wanted = {
        "loss": ("train", "loss"),
        "exact accuracy": ("train", "exact_accuracy"),
        headline: ("eval", headline),
        "examples/s": ("train", "examples_per_second"),
    }
    others = _on_other_tests(run)
    return {
        title: [
            (line["step"], line[field])
            for line in run.log
            if line["kind"] == kind and line.get(field) is not None and line not in others
        ]
        for title, (kind, field) in wanted.items()
    }


def unpacked(run: Run) -> dict[str, list[Trajectory]]:
    """The trajectories of a run by task."""
    of_task: dict[str, list[Trajectory]] = {}
    for packed in run.trajectories:
        of_task.setdefault(packed.task, []).append(unpack(packed))
    return of_task


def described_tasks(
    run: Run, trajectories: Mapping[str, Sequence[Trajectory]]
) -> list[dict[str, Any]]:
    """The tasks with answers and outcome, as the page's script wants them.

    Args:
      trajectories: of this run, from `unpacked`.
    """
    return [
        _task(task, run.metrics, trajectories.get(task["id"], []), run.experiment.data)
        for task in run.answers.tasks
    ]


def _task(
    task: Mapping[str, Any],
    metrics: Mapping[str, Any],
    trajectories: Sequence[Trajectory],
    family: Family,
) -> dict[str, Any]:
    scored = metrics["per_task"].get(task["id"], {})
    accuracy = scored.get("cell_accuracy") or [None] * len(task["tests"])
    tests = [
        {
            "input": test["input"],
            "output": test["output"],
            **_marks_of_test(test, family),
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
                    **({"valid": answer["valid"]} if "valid" in answer else {}),
                    **_conflicts(test["input"], answer["grid"], family),
                    "by": [[count, words] for words, count in answer.get("votes_by", {}).items()],
                    "voters": answer.get("voters", []),
                }
                for i, answer in enumerate(test["answers"])
                if i < SHOWN_ANSWERS or answer["rank"] == test["rank_of_truth"]
            ],
        }
        for t, test in enumerate(task["tests"])
    ]
    paths = [_path(of, task["tests"][of.test], family) for of in trajectories]
    grids = [rows for p in (*task["demonstrations"], *tests) for rows in (p["input"], p["output"])]
    levels = [test["difficulty"] for test in task["tests"] if "difficulty" in test]
    return {
        "id": task["id"],
        "source": task["source"],
        **({"difficulty": max(levels)} if levels else {}),
        "demos": task["demonstrations"],
        "tests": tests,
        "paths": paths,
        "outcome": _outcome(tests, paths, family.attempts),
        "side": max((len(x) for rows in grids if rows for x in (rows, rows[0])), default=0),
    }


def _marks_of_test(test: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """What is marked on a test's own boards: `given`, `input_conflicts` and `output_conflicts`, as
    `packed_bits`; what there is nothing of is left out."""
    question = grid_of(test["input"], family.vocabulary.symbols)
    found = {"given": packed_bits(given_in(question, question.shape, family))}
    for name in ("input", "output"):
        bits = _conflicts(test["input"], test[name], family).get("conflicts", "")
        found[f"{name}_conflicts"] = bits
    return {name: bits for name, bits in found.items() if bits}


def _conflicts(
    question: Sequence[str], rows: Sequence[str] | None, family: Family
) -> dict[str, str]:
    """{"conflicts": `packed_bits`} of a board; {} where no cell breaks a rule."""
    symbols = family.vocabulary.symbols
    grid = grid_of(rows or [], symbols)
    bits = packed_bits(conflicts_in(grid_of(question, symbols), grid, family))
    return {"conflicts": bits} if bits else {}


def packed_bits(cells_hxw: np.ndarray) -> str:
    """Bool cells, row by row, as bits in base64; "" where none is set."""
    return base64.b64encode(np.packbits(cells_hxw)).decode() if cells_hxw.any() else ""


OUTCOMES = {
    "solved": "solved by attempt 1",
    "second": "solved by attempt 2",
    "lost": "not solved: right, then lost",
    "shape": "not solved: wrong shape",
    "cells": "not solved: wrong cells",
    "none": "not solved: no answer",
    "unknown": "truth unknown",
}
"""What may become of a task, in words: just one of these."""


def outcomes(family: Family) -> dict[str, str]:
    """`OUTCOMES`, as far as they can be in a family."""
    if family.attempts > 1:
        return OUTCOMES
    return {k: v for k, v in OUTCOMES.items() if k != "second"} | {"solved": "solved"}


def _outcome(
    tests: Sequence[Mapping[str, Any]], paths: Sequence[Mapping[str, Any]], attempts: int
) -> str:
    """What became of a task; of several test inputs those count that aren't solved."""
    known = [(t, test) for t, test in enumerate(tests) if test["output"] is not None]
    if not known:
        return "unknown"
    failed = [(t, test) for t, test in known if test["rank"] is None or test["rank"] > attempts]
    if not failed:
        return "solved" if all(test["rank"] == 1 for _, test in known) else "second"
    lost = {path["test"] for path in paths if path["was_right"] and not path["right"]}
    if any(t in lost for t, _ in failed):
        return "lost"
    first = [(test["answers"][0]["grid"] if test["answers"] else []) for _, test in failed]
    if not all(first):
        return "none"
    same = all(
        _shape(grid) == _shape(test["output"])
        for grid, (_, test) in zip(first, failed, strict=True)
    )
    return "cells" if same else "shape"


def _shape(rows: Sequence[str]) -> tuple[int, int]:
    return len(rows), len(rows[0]) if rows else 0


def _path(trajectory: Trajectory, test: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """What the page needs to know of a trajectory, but for its cells: see `path_cells`."""
    augmentation_A, board = trajectory.augmentation_A, trajectory.board
    sizes_Nx2 = family.grid_sizes(trajectory.predicted_NxS, board)
    box = np.maximum(sizes_Nx2.max(axis=0), 1).tolist()  # what is shown: all any step said
    truth, right_N = None, np.zeros(len(sizes_Nx2), bool)
    if trajectory.truth is not None:
        truth = augmented(trajectory.truth, augmentation_A, family)
        right_N = _is_grid(trajectory.predicted_NxS, sizes_Nx2, truth, trajectory.board, family)
    rows = grid_rows(answer_of(trajectory, family), family.vocabulary.symbols)
    rank = next((answer["rank"] for answer in test["answers"] if answer["grid"] == rows), None)
    undo = undo_map(family, augmentation_A, box)
    return {
        "test": trajectory.test,
        "rank": rank,
        "puzzle": trajectory.puzzle_id,
        "symmetry": family.augmentation_words(augmentation_A),
        "levels": trajectory.levels_N.tolist(),
        "halt": [round(float(q), 4) for q in 1 / (1 + np.exp(-trajectory.q_halt_N.astype(float)))],
        "sizes": sizes_Nx2.tolist(),
        "box": box,
        "undone": list(undo.shape),
        "tokens": undo.token_V.tolist(),
        "asked": list(augmented(trajectory.question, augmentation_A, family).shape),
        "truth": None if truth is None else list(truth.shape),
        "right": bool(right_N[-1]),
        "was_right": bool(right_N.any()),
        "right_from": _right_from(right_N),
    }


def _is_grid(
    tokens_NxS: np.ndarray, sizes_Nx2: np.ndarray, grid: np.ndarray, board: Board, family: Family
) -> np.ndarray:
    """(N,) bool: whether each board shows just this grid of symbols."""
    (height, width), first = grid.shape, np.uint8(family.vocabulary.first)
    inside = tokens_NxS.reshape(-1, *board)[:, :height, :width]
    if inside.shape[1:] != grid.shape:
        return np.zeros(len(tokens_NxS), bool)
    same_N = (inside == grid + first).all(axis=(1, 2))
    return same_N & (sizes_Nx2 == grid.shape).all(axis=1)


def _right_from(right_N: np.ndarray) -> int | None:
    """The step, from 1, from which on the grid was the truth until the end."""
    if not right_N[-1]:
        return None
    wrong = np.flatnonzero(~right_N)
    return int(wrong[-1]) + 2 if len(wrong) else 1


@dataclasses.dataclass(frozen=True, eq=False)
class UndoMap:
    """What undoing a symmetry does to part of a board: undone[i] = token_V[tokens[cell_I[i]]].

    Cells are counted row by row, in tokens and in what is undone.
    """

    shape: tuple[int, int]  # of what is undone
    cell_I: np.ndarray
    token_V: np.ndarray  # of all tokens, MASK too


def undo_map(family: Family, augmentation_A: np.ndarray, shape: Sequence[int]) -> UndoMap:
    """The map of `Family.undo` for parts of boards of this shape."""
    count, mask, first = shape[0] * shape[1], family.vocabulary.mask, family.vocabulary.first

    def undone(tokens_I: np.ndarray) -> np.ndarray:
        return family.undo(tokens_I.astype(np.uint8).reshape(shape), augmentation_A)

    all_first, cell_I = undone(np.full(count, first)), np.arange(count)
    source_I = np.zeros(count, np.int64)
    for bit in range(count.bit_length()):  # of each cell's number
        shown = undone(np.where(cell_I >> bit & 1, first, PAD))
        source_I |= (shown == all_first).reshape(-1).astype(np.int64) << bit
    token_V = np.arange(mask + 1)
    for start in range(0, mask + 1, count):
        asked_I = np.resize(np.arange(start, min(start + count, mask + 1)), count)
        token_V[asked_I[source_I]] = undone(asked_I).reshape(-1)
    return UndoMap(all_first.shape, source_I, token_V)


def path_cells(trajectory: Trajectory, path: Mapping[str, Any], family: Family) -> bytes:
    """The cells of a trajectory that the page shows, h x w of `_path`'s box at each of N steps.

    Predicted tokens, then masked as bits, then conflicts of what was predicted as bits, then
    confidence in percent; then, once, given cells as bits; `UndoMap.cell_I` as 16-bit numbers, low
    byte first; the tokens of the question and, if it is known, of the truth, as they were asked.
    """
    (height, width), augmentation_A = path["box"], trajectory.augmentation_A
    first = np.uint8(family.vocabulary.first)

    def boxed(cells_NxS: np.ndarray) -> np.ndarray:
        return cells_NxS.reshape(-1, *trajectory.board)[:, :height, :width]

    asked = augmented(trajectory.question, augmentation_A, family)
    conflicts_NxHxW = np.zeros((len(trajectory.levels_N), height, width), bool)
    for here, found in zip(
        conflicts_NxHxW, conflicts_of_steps(trajectory, family, True), strict=True
    ):
        here[: found.shape[0], : found.shape[1]] = found
    grids = [grid for grid in (trajectory.question, trajectory.truth) if grid is not None]
    parts = (
        boxed(trajectory.predicted_NxS),
        np.packbits(boxed(trajectory.masked_NxS)),
        np.packbits(conflicts_NxHxW),
        boxed(trajectory.confidence_NxS),
        np.packbits(given_in(asked, (height, width), family)),
        undo_map(family, augmentation_A, path["box"]).cell_I.astype("<u2"),
        *(augmented(grid, augmentation_A, family) + first for grid in grids),
    )
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
