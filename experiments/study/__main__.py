"""Runs the study, as far as it has not been run: python -m experiments.study [--stage tuning].

Each run is a `drm train` in runs/study/NAME, which goes on where it was stopped; a finished one
leaves a row, experiments/study/rows/NAME.json. What has a row is not run again: delete it to.

  tuning   every method at every learning rate, on the development tasks: 54 runs
  final    every method at the rate that did best in tuning, 3 seeds, on tasks held out: 54 runs

A run takes 1.5 to 2 minutes on 2 cores of an AMD EPYC.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from etils import epath
from rich.console import Console
from rich.progress import track

from drm_jax.io.files import work_path, write_whole
from drm_jax.io.metrics import read_metrics
from drm_jax.run.history import read_history
from drm_jax.run.workdir import claim
from experiments.study.protocol import Run, experiment_of, final_runs, tuning_runs

ROOT = Path(__file__).parents[2]
ROWS = Path(__file__).parent / "rows"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=("tuning", "final", "all"), default="all")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[], help="runs whose name "
                        "holds one of these, such as tuning-arc")  # fmt: skip
    options = parser.parse_args()
    if options.stage in ("tuning", "all"):
        run_all(tuning_runs(), options.only)
    if options.stage in ("final", "all"):
        run_all(final_runs(best_rates(read_rows())), options.only)
    return 0


def run_all(runs: Iterable[Run], words: Iterable[str]) -> None:
    """Makes the rows that are missing, one run after the other."""
    words = list(words)
    missing = [
        run
        for run in runs
        if not (ROWS / f"{run.key}.json").exists()
        and (not words or any(word in run.key for word in words))
    ]
    for run in track(missing, "study", console=Console(stderr=True)):
        make_row(run)


def make_row(run: Run) -> None:
    """Trains and scores one run, in a process of its own, and writes its row."""
    workdir = work_path(ROOT / "runs" / "study" / run.key)
    workdir.mkdir(parents=True, exist_ok=True)
    claim(workdir, experiment_of(run))
    before = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "drm_jax.cli", "train", str(workdir)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{run.key}: {done.stderr}")
    row = row_of(run, workdir, time.perf_counter() - before)
    ROWS.mkdir(exist_ok=True)
    write_whole(work_path(ROWS / f"{run.key}.json"), json.dumps(row, indent=1) + "\n")


def row_of(run: Run, workdir: epath.Path, seconds: float) -> dict[str, Any]:
    """What is kept of a run.

    The primary measure is `wrong_cells`: of each test input the share of wrong cells, mean over
    its candidates.
    """
    experiment = experiment_of(run)
    folder = workdir / "eval" / f"step_{experiment.train.steps}"
    metrics = json.loads((folder / "metrics.json").read_text())
    lines, starts = read_metrics(workdir), read_history(workdir)
    per_task = metrics["per_task"]
    return {
        "run": {**vars(run), "key": run.key},
        "steps": experiment.train.steps,
        "wrong_cells": {
            name: [1 - x for x in of["cell_accuracy"]] for name, of in per_task.items()
        },
        "rank_of_truth": {name: of["rank_of_truth"] for name, of in per_task.items()},
        "pass@1": metrics["pass@1"],
        "pass@2": metrics["pass@2"],
        "cell_accuracy": metrics["cell_accuracy"],
        "loss": [[x["step"], round(x["loss"], 4)] for x in lines if x["kind"] == "train"],
        "seconds": round(seconds, 1),
        "made_with": {k: starts[0].get(k) for k in ("drm_jax", "jax", "python", "devices")},
    }


def read_rows() -> list[dict[str, Any]]:
    """All rows that there are."""
    return [json.loads(path.read_text()) for path in sorted(ROWS.glob("*.json"))]


def best_rates(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """By family and method the learning rate of most cells right in tuning; the lower one of two.

    Exits with a message where rows of tuning are missing.
    """
    found = {}
    tuned = {row["run"]["key"]: row for row in rows}
    for run in tuning_runs():
        row = tuned.get(run.key)
        if row is None:
            sys.exit(f"{run.key}: has no row yet: run the stage tuning first")
        best = found.setdefault((run.family, run.method), (-1.0, 0.0))
        if row["cell_accuracy"] > best[0]:
            found[run.family, run.method] = (row["cell_accuracy"], run.learning_rate)
    return {key: rate for key, (_, rate) in found.items()}


if __name__ == "__main__":
    sys.exit(main())
