"""Runs the study, as far as it has not been run: python -m experiments.study [--stage tuning].

Each run is a `drm train` in runs/study/NAME, which goes on where it was stopped; a finished one is
scored and leaves a row, experiments/study/rows/NAME.json. What has a row is not run again: delete
it and the run's folder to. Once all rows are there, docs/results.md and its figures are written
from them, which needs matplotlib: pip install -e '.[study]'.

  tuning   every method at every learning rate, on the tasks for development
  final    every method as it did best in tuning, and changes of our own: 3 seeds, tasks held out
  quick    everything once, with few FLOPs and nothing tuned, on the tasks for development; rows
           and results are in runs/study/quick

On 2 cores of an AMD EPYC tuning takes 40 minutes, final 75, quick 10.
"""

import argparse
import dataclasses
import datetime
import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from rich.console import Console
from rich.progress import track

from drm_jax.config import Experiment, to_json
from drm_jax.errors import UsageError
from drm_jax.io.files import work_path, write_whole
from drm_jax.io.metrics import read_metrics
from drm_jax.parallel.mesh import use_cpu_cores
from drm_jax.run.history import read_history
from drm_jax.run.workdir import claim
from drm_jax.runtime.programs import keep_programs
from experiments.study import scoring
from experiments.study.analysis import select
from experiments.study.protocol import (
    FAMILIES,
    LEARNING_RATES,
    METHODS,
    OWN,
    TERAFLOPS,
    TEST_STEPS,
    Run,
    Tuned,
    experiment_of,
    final_runs,
    flops_per_step,
    own_tuning_runs,
    quick_runs,
    tuning_runs,
)
from experiments.study.rows import read_rows as read_all

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "runs" / "study"
ROWS = Path(__file__).parent / "rows"
AS_ARC_TASK = "an ARC task, before Sudoku was a family"
"""`made_as` of rows of Sudoku that were made when its puzzles were posed as an ARC task, with ARC's
tokens. They are kept as they are, whatever the protocol of Sudoku is now."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--stage", choices=TERAFLOPS, help="only this one; by default tuning and then final"
    )
    parser.add_argument("--quick", action="store_const", dest="stage", const="quick")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[], help="runs whose name "
                        "holds one of these, such as tuning-arc")  # fmt: skip
    options = parser.parse_args()
    keep_programs()
    try:
        return run_stages(options.stage, options.only)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130


def run_stages(stage: str | None, words: Sequence[str]) -> int:
    """Runs one stage, or tuning and final; returns the exit code."""
    if stage == "quick":
        folder = RUNS / "quick"
        runs = list(quick_runs())
        check_words(words, runs)
        run_all(runs, words, folder / "rows")
        return write(runs, read_rows(runs, folder / "rows"), folder)
    tuning = list(tuning_runs())
    if stage != "final":
        run_all(tuning, words, ROWS)
    own = list(own_tuning_runs(best(read_rows(tuning, ROWS), METHODS)))
    if stage != "final":
        run_all(own, words, ROWS)
    if stage == "tuning":
        check_words(words, tuning + own)
        return 0
    tuning += own
    runs = list(final_runs(best(read_rows(tuning, ROWS), (*METHODS, *OWN))))
    check_words(words, runs if stage == "final" else tuning + runs)
    run_all(runs, words, ROWS)
    return write(runs, read_rows(tuning + runs, ROWS), ROOT / "docs")


def check_words(words: Sequence[str], runs: Sequence[Run]) -> None:
    """Exits with code 2 if one of the words is in no run's name."""
    for word in words:
        if not any(word in run.key for run in runs):
            print(f"--only: no run's name holds {word}; one is {runs[0].key}", file=sys.stderr)
            sys.exit(2)


def write(runs: Sequence[Run], rows: Sequence[dict[str, Any]], folder: Path) -> int:
    """Writes results.md and its figures if all runs of a stage have rows; returns the exit code."""
    missing = {run.key for run in runs} - {row["run"]["key"] for row in rows}
    if missing:
        some = ", ".join(sorted(missing)[:3])
        print(f"no results.md yet: {len(missing)} runs have no row, such as {some}")
        return 0
    try:
        from experiments.study import thinking
        from experiments.study.results import write_results
    except ModuleNotFoundError as error:
        print(f"the figures need {error.name}: pip install -e '.[study]'", file=sys.stderr)
        return 1
    of_thinking = read_all(thinking.ROWS) if runs[0].stage == "final" else ()
    for path in write_results(rows, runs[0].stage, folder, of_thinking):
        print(path)
    return 0


def run_all(runs: Sequence[Run], words: Sequence[str], folder: Path) -> None:
    """Makes the rows that are missing in a folder, one run after the other."""
    there = {row["run"]["key"] for row in read_rows(runs, folder)}
    missing = [
        run
        for run in runs
        if run.key not in there and (not words or any(word in run.key for word in words))
    ]
    check_unmixed(missing, folder)
    console = Console(stderr=True)
    for run in track(missing, "study", console=console):
        row = make_row(run, folder)
        score = row["scores"][f"published@{run.denoise_steps}"]
        console.print(f"{run.key}: {score['wrong_cells']:.1%} of the cells wrong", highlight=False)


def check_unmixed(runs: Iterable[Run], folder: Path) -> None:
    """Exits with a message where runs of a family would be compared with rows made otherwise."""
    for family in sorted({run.family for run in runs}):
        of_family = sorted(folder.glob(f"*-{family}-*.json"))
        if any("made_as" in json.loads(path.read_text(encoding="utf-8")) for path in of_family):
            sys.exit(
                f"{folder}: rows of {family} were made as {AS_ARC_TASK}, and new ones can't be "
                f"compared with them: delete all of {family}, or none"
            )


def make_row(run: Run, folder: Path) -> dict[str, Any]:
    """Trains a run in a process of its own, scores it, and writes its row."""
    experiment = experiment_of(run)
    workdir = trained(experiment, RUNS / run.key)
    before = time.perf_counter()
    row = row_of(run, workdir) | scoring.score_run(run, experiment, workdir)
    row["seconds_of_scoring"] = round(time.perf_counter() - before, 1)
    folder.mkdir(parents=True, exist_ok=True)
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(part)}" for name, part in row.items())
    write_whole(work_path(folder / f"{run.key}.json"), "{" + text + "}\n")
    return row


def trained(experiment: Experiment, folder: Path) -> epath.Path:
    """Trains an experiment to its end in a process of its own; this one may then score it."""
    workdir = work_path(folder)
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        claim(workdir, experiment)
    except UsageError:
        sys.exit(f"{workdir}: holds a run of another protocol: delete it")
    train(workdir)
    use_cpu_cores()
    return workdir


def train(workdir: epath.Path) -> None:
    """Trains a run to its end, in a process of its own; Ctrl-C reaches that too, and it saves."""
    command = [sys.executable, "-m", "drm_jax", "train", str(workdir)]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=said)
        try:
            code = child.wait()
        except KeyboardInterrupt:
            child.wait()
            raise
        said.seek(0)
        if code:
            sys.exit(f"{workdir.name}: {said.read()}")


def protocol_of(run: Run) -> str:
    """A digest of all that decides a run's row: its experiment, and what it is scored at.

    Of the experiment's options those that aren't at their defaults: a new option changes nothing.
    """
    own = json.loads(to_json(experiment_of(run)))
    decides = _without_defaults(experiment_of(run), own), run.denoise_steps
    text = json.dumps([*decides, dict(scoring.settings(run))])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_defaults(part: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """What `config.to_json` gives of a dataclass, without values that are defaults."""
    kept = {name: value for name, value in own.items() if name == "type"}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            kept[field.name] = _without_defaults(value, own[field.name])
        elif value != field.default:
            kept[field.name] = own[field.name]
    return kept


def row_of(run: Run, workdir: epath.Path) -> dict[str, Any]:
    """What is kept of a run's training."""
    experiment = experiment_of(run)
    lines, history = read_metrics(workdir), read_history(workdir)
    return {
        "run": {**vars(run), "key": run.key},
        "protocol": protocol_of(run),
        "steps": experiment.train.steps,
        "flops_per_step": flops_per_step(experiment),
        "loss": [[x["step"], round(x["loss"], 4)] for x in lines if x["kind"] == "train"][::8],
        "evaluations": [
            [x["step"], round(1 - x["cell_accuracy"], 4), round(x[experiment.data.headline], 4)]
            for x in lines
            if x["kind"] == "eval"
        ],
        "seconds": seconds_of(history),
        "made_with": made_with(history),
    }


def made_with(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """When a run began, and with which libraries and devices."""
    return {k: history[0].get(k) for k in ("time", "drm_jax", "jax", "python", "devices")}


def seconds_of(history: Iterable[Mapping[str, Any]]) -> float:
    """How long a run has trained, over all its starts that ended in order."""
    total, start = 0.0, None
    for line in history:
        time = datetime.datetime.fromisoformat(line["time"])
        if line["event"] == "end" and start is not None:
            total += (time - start).total_seconds()
        start = time if line["event"] == "start" else None
    return total


def read_rows(runs: Iterable[Run], folder: Path) -> list[dict[str, Any]]:
    """The rows of these runs, as far as they are there.

    Exits with a message where one is of another protocol.
    """
    rows = []
    for run in runs:
        path = folder / f"{run.key}.json"
        if path.exists():
            rows.append(json.loads(path.read_text(encoding="utf-8")))
            if not _is_of(rows[-1], run):
                sys.exit(f"{path}: is of another protocol: delete it and {RUNS / run.key}")
    return rows


def _is_of(row: Mapping[str, Any], run: Run) -> bool:
    """Whether a row is of this run, by today's protocol; of a row made as an ARC task, whether it
    was of this run when it was made."""
    if row.get("made_as") == AS_ARC_TASK and run.family != "arc":
        return row["run"] == {**vars(run), "key": run.key}
    return row["protocol"] == protocol_of(run)


def best(rows: Sequence[Mapping[str, Any]], methods: Iterable[str]) -> dict[tuple[str, str], Tuned]:
    """By family and method the learning rate and test steps of fewest wrong cells in tuning.

    Of equals, the one with fewer steps. Exits with a message where rows of tuning are missing.
    """
    tuned = {}
    for family, method in itertools.product(FAMILIES, methods):
        found = select(rows, "tuning", family, method)
        if len(found) < (len(LEARNING_RATES) if method in METHODS else 1):
            sys.exit(f"{family}, {method}: not all is tuned yet: run the stage tuning first")
        _, steps, rate = min(
            (row["scores"][f"published@{steps}"]["wrong_cells"], steps, row["run"]["learning_rate"])
            for row, steps in itertools.product(found, TEST_STEPS)
        )
        tuned[family, method] = Tuned(rate, steps)
    return tuned


if __name__ == "__main__":
    sys.exit(main())
