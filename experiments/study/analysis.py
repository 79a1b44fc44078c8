"""Rows of the study -> means, standard errors, paired differences with intervals.

A row's score at a setting holds the share of wrong cells of each test input, by task. Where two
runs are compared, they are paired by task and seed. Sudoku is one task of many puzzles: there the
puzzles are paired.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]
_RESAMPLES = 10_000


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
    """Of the share of wrong cells, and the interval that holds 95% of it resampled."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """In points of percent."""
        value, low, high = (f"{100 * x:+.1f}" for x in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"

    @property
    def is_clear(self) -> bool:
        """Whether all of the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def select(rows: Iterable[Row], stage: str, family: str, method: str) -> list[Row]:
    """The rows of a method, by learning rate and seed."""
    wanted = {"stage": stage, "family": family, "method": method}
    found = [row for row in rows if wanted.items() <= row["run"].items()]
    return sorted(found, key=lambda r: (r["run"]["learning_rate"], r["run"]["seed"]))


def mean(values: Sequence[float]) -> Mean:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Mean(statistics.fmean(values), error)


def mean_of(rows: Sequence[Row], setting: str, measure: str = "wrong_cells") -> Mean:
    """A measure at a setting of test time, over rows of several seeds."""
    return mean([row["scores"][setting][measure] for row in rows])


def compare(
    rows: Sequence[Row], setting: str, against: Sequence[Row], against_setting: str
) -> Difference:
    """How many more cells are wrong in `rows` than in `against`: the same tasks and seeds.

    The interval is a bootstrap's: seeds and tasks (of Sudoku, puzzles) are drawn anew, 10,000
    times, each by itself. With three seeds it says little about seeds that were not tried.
    """
    pairs = [
        (_units(a, setting), _units(b, against_setting)) for a, b in zip(rows, against, strict=True)
    ]
    names = sorted(pairs[0][0])
    sums_SxU = np.array([[sum(a[n]) - sum(b[n]) for n in names] for a, b in pairs])
    count_U = np.array([len(pairs[0][0][n]) for n in names])
    rng = np.random.default_rng(0)
    seeds, units = sums_SxU.shape
    times_RxS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), _RESAMPLES)
    times_RxU = rng.multinomial(units, np.full(units, 1 / units), _RESAMPLES)
    total_R = np.einsum("rs,su,ru->r", times_RxS, sums_SxU, times_RxU, optimize=True)
    drawn_R = total_R / (seeds * (times_RxU @ count_U))
    low, high = np.quantile(drawn_R, [0.025, 0.975])
    return Difference(sums_SxU.sum() / (seeds * count_U.sum()), float(low), float(high))


def _units(row: Row, setting: str) -> dict[str, list[float]]:
    """The shares of wrong cells of what is drawn anew: of each task, or of each puzzle."""
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
