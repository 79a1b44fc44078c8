"""Runs the study, as far as it has not been run: python -m experiments.study [--stage tuning].

Each run is a `drm train` in runs/study/NAME, which goes on where it was stopped; a finished one is
scored and leaves a row, experiments/study/rows/NAME.json. What has a row is not run again: delete
it to. Once all rows are there, docs/results.md and its figures are written from them, which needs
matplotlib: pip install -e '.[study]'.

  tuning   every method at every learning rate, on the tasks for development
  final    every method as it did best in tuning, and changes of our own: 3 seeds, tasks held out
  quick    everything once, with few FLOPs and nothing tuned, on the tasks for development: 15
           minutes; rows and results are in runs/study/quick
"""

import argparse
import datetime
import itertools
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

from drm_jax.dist.mesh import use_cpu_cores
from drm_jax.io.files import work_path, write_whole
from drm_jax.io.metrics import read_metrics
from drm_jax.io.programs import keep_programs
from drm_jax.run.history import read_history
from drm_jax.run.workdir import claim
from experiments.study.analysis import select
from experiments.study.protocol import (
    FAMILIES,
    METHODS,
    OWN,
    Run,
    Tuned,
    experiment_of,
    final_runs,
    flops_per_step,
    own_tuning_runs,
    quick_runs,
    tuning_runs,
)

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "runs" / "study"
ROWS = Path(__file__).parent / "rows"
STAGES = ("tuning", "final", "quick")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--stage", choices=STAGES, help="only this one; by default tuning and then final"
    )
    parser.add_argument("--quick", action="store_const", dest="stage", const="quick")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[], help="runs whose name "
                        "holds one of these, such as tuning-arc")  # fmt: skip
    options = parser.parse_args()
    keep_programs()
    if options.stage == "quick":
        folder = RUNS / "quick"
        run_all(quick_runs(), options.only, folder / "rows")
        return write(read_rows(folder / "rows"), "quick", folder)
    if options.stage in ("tuning", None):
        run_all(tuning_runs(), options.only, ROWS)
        run_all(own_tuning_runs(best(read_rows(ROWS), METHODS)), options.only, ROWS)
    if options.stage in ("final", None):
        run_all(final_runs(best(read_rows(ROWS), (*METHODS, *OWN))), options.only, ROWS)
    return write(read_rows(ROWS), "final", ROOT / "docs") if options.stage != "tuning" else 0


def write(rows: list[dict[str, Any]], stage: str, folder: Path) -> int:
    """Writes results.md and its figures, if every method has a row of each family."""
    missing = [
        f"{family}-{method}"
        for family, method in itertools.product(FAMILIES, (*METHODS, *OWN))
        if not select(rows, stage, family, method)
    ]
    if missing:
        print(f"no results.md yet: without a row of the stage {stage}: {', '.join(missing)}")
        return 0
    try:
        from experiments.study.results import write_results
    except ModuleNotFoundError as error:
        print(f"the figures need {error.name}: pip install -e '.[study]'", file=sys.stderr)
        return 1
    for path in write_results(rows, stage, folder):
        print(path)
    return 0


def run_all(runs: Iterable[Run], words: Iterable[str], folder: Path) -> None:
    """Makes the rows that are missing in a folder, one run after the other."""
    words = list(words)
    missing = [
        run
        for run in runs
        if not (folder / f"{run.key}.json").exists()
        and (not words or any(word in run.key for word in words))
    ]
    for run in track(missing, "study", console=Console(stderr=True)):
        make_row(run, folder)


def make_row(run: Run, folder: Path) -> None:
    """Trains a run in a process of its own, scores it, and writes its row."""
    from experiments.study.scoring import score_run

    experiment = experiment_of(run)
    workdir = work_path(RUNS / run.key)
    workdir.mkdir(parents=True, exist_ok=True)
    claim(workdir, experiment)
    done = subprocess.run(
        [sys.executable, "-m", "drm_jax.cli", "train", str(workdir)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{run.key}: {done.stderr}")
    use_cpu_cores(experiment.train.batch_size, experiment.evaluate.batch_size)
    before = time.perf_counter()
    row = row_of(run, workdir) | score_run(run, experiment, workdir)
    row["seconds_of_scoring"] = round(time.perf_counter() - before, 1)
    folder.mkdir(parents=True, exist_ok=True)
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(part)}" for name, part in row.items())
    write_whole(work_path(folder / f"{run.key}.json"), "{" + text + "}\n")


def row_of(run: Run, workdir: epath.Path) -> dict[str, Any]:
    """What is kept of a run's training."""
    experiment = experiment_of(run)
    lines, starts = read_metrics(workdir), read_history(workdir)
    return {
        "run": {**vars(run), "key": run.key},
        "steps": experiment.train.steps,
        "flops_per_step": flops_per_step(experiment),
        "loss": [[x["step"], round(x["loss"], 4)] for x in lines if x["kind"] == "train"][::8],
        "evaluations": [
            [x["step"], round(1 - x["cell_accuracy"], 4), round(x["pass@2"], 4)]
            for x in lines
            if x["kind"] == "eval"
        ],
        "seconds": _seconds(starts),
        "made_with": {k: starts[0].get(k) for k in ("time", "drm_jax", "jax", "python", "devices")},
    }


def _seconds(history: Iterable[Mapping[str, Any]]) -> float:
    """How long a run has trained, over all its starts that ended in order."""
    total, start = 0.0, None
    for line in history:
        time = datetime.datetime.fromisoformat(line["time"])
        if line["event"] == "end" and start is not None:
            total += (time - start).total_seconds()
        start = time if line["event"] == "start" else None
    return total


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows that there are."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def best(rows: Iterable[Mapping[str, Any]], methods: Iterable[str]) -> dict[tuple[str, str], Tuned]:
    """By family and method the learning rate and test steps of fewest wrong cells in tuning.

    Of equals, the one with fewer steps. Exits with a message where rows of tuning are missing.
    """
    of_method: dict[tuple[str, str], list[tuple[float, int, float]]] = {}
    for row in rows:
        run = row["run"]
        if run["stage"] == "tuning":
            for name, score in row["scores"].items():
                change, steps = name.split("@")
                if change == "published":
                    found = of_method.setdefault((run["family"], run["method"]), [])
                    found.append((score["wrong_cells"], int(steps), run["learning_rate"]))
    tuned = {}
    for key in ((family, method) for family in FAMILIES for method in methods):
        if key not in of_method:
            sys.exit(f"{'-'.join(key)}: has no rows yet: run the stage tuning first")
        _, steps, rate = min(of_method[key])
        tuned[key] = Tuned(rate, steps)
    return tuned


if __name__ == "__main__":
    sys.exit(main())
