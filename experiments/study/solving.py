"""What `drm solve` solves of tasks that no network has seen, by weights and by time.

    python -m experiments.study.solving                         all rows that are missing
    python -m experiments.study.solving --only development      those whose name holds a word
    python -m experiments.study.solving --table                 prints what the rows say
    python -m experiments.study.solving --leaks                 looks for answers trained on

Tasks: `development`, the 24 training tasks that the weights in the package were not trained on
(experiments/solve_small.py); `held_out_10`, the ARC-AGI-1 evaluation tasks whose largest side
is 10, on which nothing was chosen. Each run is a `drm solve` of all of them together, in
runs/study_solving/NAME, and leaves a row in experiments/study/solve_rows/: which test inputs it
solved with two attempts, at the end and by each earlier answer.

Rows of earlier weights and settings are shown, and not made again (docs/weights.md): `held_out` are
the evaluation tasks whose grids are all at most 9x9.

Expected time: the minutes of all runs together, with all cores. Nothing else may run meanwhile.
"""

import dataclasses
import itertools
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from drm_jax.io.files import work_path, write_whole
from drm_jax.puzzles.arc.leaks import leaks_from_digests
from drm_jax.puzzles.arc.tasks import Task, largest_side, load_source
from drm_jax.run.history import read_history
from drm_jax.solve.output import copying, solves
from drm_jax.solve.weights import find_source
from drm_jax.words import counted
from experiments.solve_small import development_tasks
from experiments.study.__main__ import ROOT, made_with
from experiments.study.analysis import Difference
from experiments.study.rows import make_missing, parser_of, read_rows

RUNS, ROWS = ROOT / "runs" / "study_solving", Path(__file__).parent / "solve_rows"
WEIGHTS = ("small", "nothing")
MINUTES = {"held_out_10": (20, 5, 1), "development": (5,)}
SEEDS = {"held_out_10": (0, 1, 2), "development": (0,)}
EARLIER = "earlier_"
"""What the names of tasks begin with in rows of earlier weights and settings."""
_SOURCES = {
    "held_out_10": "arc1/evaluation",
    "held_out": "arc1/evaluation",
    "development": "arc1/training",
}
_SIDES = {"held_out_10": range(10, 11), "held_out": range(1, 10)}
"""What the largest side of a task may be."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of `drm solve`."""

    tasks: str
    weights: str
    minutes: int
    seed: int

    @property
    def key(self) -> str:
        """Names its row and its folder."""
        return f"{self.tasks}-{self.weights}-{self.minutes}min-seed{self.seed}"


def every_run() -> Iterator[Run]:
    """All runs; the longest ones first."""
    for tasks in MINUTES:
        for minutes, seed, weights in itertools.product(MINUTES[tasks], SEEDS[tasks], WEIGHTS):
            yield Run(tasks, weights, minutes, seed)


def tasks_of(name: str) -> list[Task]:
    """The tasks of this name."""
    tasks = load_source(_SOURCES[name])
    if name == "development":
        chosen = set(development_tasks())
        return [task for task in tasks if task.id in chosen]
    return [task for task in tasks if largest_side(task) in _SIDES[name]]


def make_row(run: Run) -> None:
    """Runs it in a process of its own, and writes its row."""
    folder, tasks = RUNS / run.key, tasks_of(run.tasks)
    shutil.rmtree(folder, ignore_errors=True)  # the time of a run that was stopped counts too
    command = [
        *(sys.executable, "-m", "drm_jax", "solve", _SOURCES[run.tasks], "--output", str(folder)),
        *("--minutes", str(run.minutes), "--seed", str(run.seed), "--from", run.weights),
        *("--only", *(task.id for task in tasks)),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{run.key}: {done.stdout}{done.stderr}")
    answers = {"copies": copying(tasks)}
    for path in sorted(folder.glob("eval/step_*/submission.json")):
        answers[path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
    answers["end"] = json.loads((folder / "submission.json").read_text(encoding="utf-8"))
    state = json.loads((folder / "solve.json").read_text(encoding="utf-8"))
    row = {
        "run": {**vars(run), "key": run.key},
        "seconds": round(state["seconds_used"], 1),
        "steps": json.loads((folder / "config.json").read_text(encoding="utf-8"))["train"]["steps"],
        "solved": {name: _solved(tasks, answer) for name, answer in answers.items()},
        "made_with": made_with(read_history(work_path(folder))),
    }
    ROWS.mkdir(exist_ok=True)
    write_whole(work_path(ROWS / f"{run.key}.json"), json.dumps(row) + "\n")


def _solved(tasks: Sequence[Task], submission: Mapping[str, Any]) -> dict[str, list[int]]:
    """Which test inputs of each task an attempt solves."""
    return {
        task.id: [
            int(solves(entry, test))
            for test, entry in zip(task.tests, submission[task.id], strict=True)
        ]
        for task in tasks
    }


def leaks(tasks: str) -> list[str]:
    """The ids of the tasks of which the weights in the package were trained on an answer."""
    asked = [dataclasses.replace(task, role="evaluate") for task in tasks_of(tasks)]
    return leaks_from_digests(find_source("small").trained_on, asked)


# --- what the rows say ----------------------------------------------------------------------------
def solved_of(row: Mapping[str, Any], answer: str = "end") -> np.ndarray:
    """(tests,) 0 or 1, in the order of the tasks' ids."""
    solved = row["solved"][answer]
    return np.array([one for task in sorted(solved) for one in solved[task]])


def paired(firsts: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> str:
    """The difference of two means over seeds, in points, with its 95% interval over test inputs."""
    difference_T = np.mean(firsts, axis=0) - np.mean(others, axis=0)
    half = stats.t.ppf(0.975, len(difference_T) - 1) * stats.sem(difference_T)
    mean = float(difference_T.mean())
    return str(Difference(mean, mean - half, mean + half))


def tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """Test inputs solved, by minutes and weights."""
    for tasks in (*MINUTES, *(EARLIER + name for name in _SOURCES)):
        here = [row for row in rows if row["run"]["tasks"] == tasks]
        if not here:
            continue
        inputs = len(solved_of(here[0]))
        copied = int(solved_of(here[0], "copies").sum())
        table = Table(title=f"{tasks}: solved of {inputs} test inputs; copies of inputs: {copied}")
        names = ("minutes", *WEIGHTS, f"{WEIGHTS[0]} - {WEIGHTS[1]}, points [95%]")
        for column in names:
            table.add_column(column, justify="right")
        unadapted = {  # the same at all minutes
            (row["run"]["weights"], row["run"]["seed"]): solved_of(row, "step_0")
            for row in here
            if "step_0" in row["solved"]
        }
        if unadapted:
            table.add_row("0", _cell(list(unadapted.values())), "-", "-")
        for minutes in sorted({row["run"]["minutes"] for row in here}):
            of_weights = [
                [solved_of(row) for row in here
                 if row["run"]["minutes"] == minutes and row["run"]["weights"] == weights]
                for weights in WEIGHTS
            ]  # fmt: skip
            difference = paired(*of_weights) if all(of_weights) else "-"
            table.add_row(str(minutes), *map(_cell, of_weights), difference)
        yield table


def _cell(solved: Sequence[np.ndarray]) -> str:
    """Each seed's number, and their mean in per cent."""
    if not solved:
        return "-"
    each = ", ".join(str(int(one.sum())) for one in solved)
    return f"{100 * statistics.fmean(float(one.mean()) for one in solved):.1f}% ({each})"


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--leaks", action="store_true")
    options = parser.parse_args()
    if options.leaks:
        for tasks in _SOURCES:
            found, count = leaks(tasks), counted(len(tasks_of(tasks)), "task")
            print(f"{tasks}: trained on answers of {len(found)} of {count}", *found)
        return 0
    if not options.table:
        make_missing(every_run(), ROWS, options.only, make_row)
    for table in tables(read_rows(ROWS)):
        Console(width=None).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
