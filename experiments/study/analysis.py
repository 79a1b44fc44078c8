"""Rows of the study -> means, standard errors, paired differences with intervals.

A row's score at a setting holds the share of wrong cells of each test input, by task. Where two
runs are compared, they are paired by task and seed; of Sudoku, by puzzle and seed.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

Row = Mapping[str, Any]
Units = Mapping[str, Sequence[float]]
"""A measure of each test input, by what is drawn together: an ARC task, a puzzle."""


@dataclasses.dataclass(frozen=True)
class Mean:
    """Over seeds."""

    value: float
    error: float  # standard error of the mean; NaN of one seed

    def __str__(self) -> str:
        """In percent."""
        spread = "" if math.isnan(self.error) else f" ± {100 * self.error:.1f}"
        return f"{100 * self.value:.1f}{spread}"


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of a share, and its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """In points of percent."""
        shown = (round(100 * x, 1) + 0.0 for x in (self.value, self.low, self.high))  # no -0.0
        value, low, high = (f"{x:+.1f}" for x in shown)
        return f"{value} [{low}, {high}]"


def select(rows: Iterable[Row], stage: str, family: str, method: str) -> list[Row]:
    """The rows of a method, by learning rate and seed."""
    wanted = {"stage": stage, "family": family, "method": method}
    found = [row for row in rows if wanted.items() <= row["run"].items()]
    return sorted(found, key=lambda r: (r["run"]["learning_rate"], r["run"]["seed"]))


def mean(values: Sequence[float]) -> Mean:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Mean(statistics.fmean(values), error)


def mean_of(rows: Sequence[Row], setting: str, measure: str = "wrong_cells") -> Mean:
    """A measure at a setting of test time, over rows of several seeds.

    Args:
      measure: wrong_cells; or solved, which is pass@2 of ARC and the share of exact answers of
        Sudoku. (Of a single candidate, as of a Sudoku posed as an ARC task, pass@2 is that too.)
    """
    scores = [row["scores"][setting] for row in rows]
    if measure == "solved":
        return mean([of["exact"] if "exact" in of else of["pass@2"] for of in scores])
    return mean([of[measure] for of in scores])


def tuned(rows: Sequence[Row]) -> str:
    """The published setting with the passes that did best in tuning."""
    return f"published@{rows[0]['run']['denoise_steps']}"


def compare(
    rows: Sequence[Row], setting: str, against: Sequence[Row], against_setting: str
) -> Difference:
    """How many more cells are wrong in `rows` than in `against`: the same tasks and seeds.

    The interval is that of `paired`.
    """
    pairs = list(zip(rows, against, strict=True))
    if any(a["run"]["seed"] != b["run"]["seed"] for a, b in pairs):
        raise ValueError("rows of other seeds can't be paired")
    return paired([(_units(a, setting), _units(b, against_setting)) for a, b in pairs])


def paired(seeds: Sequence[tuple[Units, Units]]) -> Difference:
    """The mean of the first ones' values less that of the second ones', over seeds and units.

    The interval is Student's t: the variance of the mean over seeds and that over tasks (of Sudoku,
    puzzles) are added, with the degrees of freedom of Welch and Satterthwaite. (What seeds and
    tasks do together counts twice, so it is a little wide.) With one seed, over tasks alone.
    """
    names = sorted(seeds[0][0])
    sums_SxU = np.array([[sum(a[n]) - sum(b[n]) for n in names] for a, b in seeds])
    count_U = np.array([len(seeds[0][0][n]) for n in names])
    value = sums_SxU.sum() / (len(seeds) * count_U.sum())
    # a task's part in the mean over test inputs, of which it may have several
    part_U = (sums_SxU.mean(axis=0) - value * count_U) / count_U.mean()
    of_seeds = sums_SxU.sum(axis=1) / count_U.sum()
    parts = [(x.var(ddof=1) / len(x), len(x) - 1) for x in (of_seeds, part_U) if len(x) > 1]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Difference(value, value, value)
    freedom = variance**2 / sum(part**2 / n for part, n in parts)
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance)
    return Difference(value, value - half, value + half)


def _units(row: Row, setting: str) -> dict[str, list[float]]:
    """The shares of wrong cells of each task, or of each puzzle, which one task may hold."""
    per_task = row["scores"][setting]["per_task"]
    if len(per_task) > 1:
        return per_task
    (puzzles,) = per_task.values()
    return {f"{i:03}": [share] for i, share in enumerate(puzzles)}


def mean_line(rows: Sequence[Row], part: str, name: str) -> list[float]:
    """A number of each entry of `errors_by_level` or `path`, mean over rows; NaN for none."""
    lines = [[entry[name] for entry in row[part]] for row in rows]
    return [
        statistics.fmean(values) if None not in values else math.nan
        for values in zip(*lines, strict=True)
    ]
