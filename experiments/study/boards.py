"""Does recursion pay once puzzles need search? Sudoku and mazes of 9x9, by difficulty.

    python -m experiments.study.boards                   all rows that are missing
    python -m experiments.study.boards --only sudoku     those whose name holds a word
    python -m experiments.study.boards --table           prints the table of the rows that are there

Four methods, each with the token mixer and with attention, three seeds: 48 runs. All train on the
same puzzles and for as many FLOPs, and have the same block. Each run is a `drm train` in
runs/study_boards/NAME, which goes on where it was stopped; a finished one is scored on unseen
puzzles of each difficulty with 1, 4 and 16 passes, and leaves a row in
experiments/study/board_rows/. Nothing is tuned: one learning rate for all.

Expected time: about 10 minutes a run on 2 cores that multiply matrices at 125 GFLOP/s, a third of
that where they do so at 430.
"""

import argparse
import dataclasses
import itertools
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from drm_jax.config import Evaluate, Experiment, Optimizer, Train, with_changes
from drm_jax.io.files import work_path, write_whole
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import TokenMixer, Transformer
from drm_jax.parallel.mesh import use_cpu_cores
from drm_jax.plan.flops import count_flops
from drm_jax.puzzles.maze.family import Maze
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.run.evaluation import evaluate_workdir
from drm_jax.run.workdir import claim
from drm_jax.runtime.programs import keep_programs
from experiments.study.__main__ import ROOT, train

RUNS, ROWS = ROOT / "runs" / "study_boards", Path(__file__).parent / "board_rows"
TERAFLOPS = 20.0
"""10^12 FLOPs of training of each run."""
SEEDS = (0, 1, 2)
PASSES = (1, 4, 16)
PUZZLES = {
    "sudoku": Sudoku(
        logic="singles", clues=34, train_puzzles=5000, test_puzzles=512, num_augmentations=1_000_000
    ),
    "maze": Maze(
        side=9, least_difficulty=6, train_puzzles=20_000, test_puzzles=1000, num_augmentations=7
    ),
}
TESTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "sudoku": {
        "50 clues": {"data.test_clues": 50},
        "40 clues": {"data.test_clues": 40},
        "34 clues": {},
        "search, 28 clues": {"data.test_logic": "search", "data.test_clues": 28},
        "search, minimal": {"data.test_logic": "search", "data.test_clues": 0},
    },
    "maze": {"9x9": {}},
}
"""What of the run's own tests is changed, by name; mazes are told apart by their moves."""
NETWORKS = {
    "mixer": TokenMixer(hidden=64, prefix=2, swiglu_multiple=32),
    "attention": Transformer(hidden=64, heads=2, prefix=2, swiglu_multiple=32),
}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "drm": {},
    "drm_all_masked": {"method.noise.all_masked": 0.25},
    "trm": {"method": "trm"},
    "diffusion": {"method": "diffusion"},
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the study."""

    puzzles: str
    network: str
    method: str
    seed: int

    @property
    def key(self) -> str:
        """Names its row and its work directory."""
        return f"{self.puzzles}-{self.network}-{self.method}-seed{self.seed}"


def every_run() -> Iterator[Run]:
    """All runs; the first seed of everything first."""
    for seed, network in itertools.product(SEEDS, NETWORKS):
        for puzzles, method in itertools.product(PUZZLES, METHODS):
            yield Run(puzzles, network, method, seed)


def experiment_of(run: Run) -> Experiment:
    """The experiment of a run."""
    base = Experiment(
        name=run.key,
        seed=run.seed,
        data=PUZZLES[run.puzzles],
        method=Drm(Recursion(cycles=2, inner_steps=1)),
        model=NETWORKS[run.network],
        optimizer=Optimizer(learning_rate=2e-3, warmup_steps=50, ema=0.99),
        train=Train(steps=1, batch_size=64, log_every=100, checkpoint_every=500, keep_best=0),
        evaluate=Evaluate(batch_size=64, denoise_steps=4, trajectories="off"),
    )
    changed = with_changes(base, METHODS[run.method])
    height, width = changed.data.board
    of_one = count_flops(
        changed.method,
        changed.model,
        vocab=changed.data.vocabulary.size + changed.method.has_mask,
        cells=height * width,
        denoise_steps=1,
        platform="cpu",
    )
    steps = round(TERAFLOPS * 1e12 / (changed.train.batch_size * of_one.train))
    return with_changes(changed, {"train.steps": steps})


def make_row(run: Run) -> None:
    """Trains a run in a process of its own, scores it, and writes its row."""
    experiment = experiment_of(run)
    workdir = work_path(RUNS / run.key)
    workdir.mkdir(parents=True, exist_ok=True)
    claim(workdir, experiment)
    train(workdir)
    use_cpu_cores()
    row = {"run": {**vars(run), "key": run.key}, "steps": experiment.train.steps, "scores": {}}
    quiet = Console(quiet=True)
    for (name, changes), passes in itertools.product(TESTS[run.puzzles].items(), PASSES):
        changed = {**changes, "evaluate.denoise_steps": passes}
        report = evaluate_workdir(workdir, None, quiet, changes=changed)
        metrics = report.evaluations[-1].metrics
        kept = ("exact", "valid", "cell_accuracy", "by_difficulty")
        row["scores"][f"{name}@{passes}"] = {k: metrics[k] for k in kept if k in metrics}
    ROWS.mkdir(exist_ok=True)
    write_whole(work_path(ROWS / f"{run.key}.json"), json.dumps(row, indent=1) + "\n")


def read_rows() -> list[dict[str, Any]]:
    """All rows that are there."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(ROWS.glob("*.json"))]


def tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """Exact match by method, tests and passes: the mean over the seeds that are there."""
    for puzzles, tests in TESTS.items():
        of_puzzles = [row for row in rows if row["run"]["puzzles"] == puzzles]
        if not of_puzzles:
            continue
        table = Table(title=f"{puzzles}: exact match in %, mean over seeds")
        for column in ("network", "method", "seeds", *(f"{t}@{p}" for t in tests for p in PASSES)):
            table.add_column(column, justify="right")
        for network, method in itertools.product(NETWORKS, METHODS):
            named = {"network": network, "method": method}
            found = [row for row in of_puzzles if named.items() <= row["run"].items()]
            if found:
                names = [f"{test}@{passes}" for test in tests for passes in PASSES]
                means = [statistics.fmean(r["scores"][n]["exact"] for r in found) for n in names]
                shown = (f"{100 * mean:.1f}" for mean in means)
                table.add_row(network, method, str(len(found)), *shown)
        yield table


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    console = Console(stderr=True)
    if not options.table:
        keep_programs()
        there = {row["run"]["key"] for row in read_rows()}
        wanted = [run for run in every_run() if run.key not in there]
        wanted = [run for run in wanted if all(word in run.key for word in options.only)]
        for number, run in enumerate(wanted):
            console.print(f"{number + 1} of {len(wanted)}: {run.key}", highlight=False)
            make_row(run)
    for table in tables(read_rows()):
        Console(width=None).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
