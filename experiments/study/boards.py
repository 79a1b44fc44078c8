"""Does recursion pay once puzzles need a search? Sudoku and mazes, by difficulty.

    python -m experiments.study.boards                   all rows that are missing
    python -m experiments.study.boards --only sudoku     those whose name holds a word
    python -m experiments.study.boards --write           the rows that are there, as tables in
                                                         docs/benchmarks.md

Four methods, three seeds; Sudoku of 9x9 with the token mixer, Sudoku of 6x6 and mazes of 7x7 with
attention: 36 runs. Methods train on the same puzzles for as many FLOPs, and have the same block.
Each run is a `drm train` in runs/study_boards/NAME, which goes on where it was stopped; a finished
one is scored on unseen puzzles of each difficulty with 1, 4 and 16 passes, and leaves a row in
experiments/study/board_rows/. Nothing is tuned: one learning rate for all.

Expected time: about 10 minutes a run on 2 cores that multiply matrices at 125 GFLOP/s, a third of
that where they do so at 430.
"""

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from drm_jax.config import Evaluate, Experiment, Optimizer, Train, with_changes
from drm_jax.io.files import work_path, write_whole
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import TokenMixer, Transformer
from drm_jax.plan.flops import count_flops
from drm_jax.puzzles.maze.family import Maze
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.run.evaluation import evaluate_workdir
from drm_jax.runtime.programs import keep_programs
from drm_jax.words import counted
from experiments.study.__main__ import ROOT, trained
from experiments.study.rows import make_missing, mean_and_range, parser_of, read_rows

RUNS, ROWS = ROOT / "runs" / "study_boards", Path(__file__).parent / "board_rows"
TERAFLOPS = 20.0
"""10^12 FLOPs of training of each run."""
SEEDS = (0, 1, 2)
PASSES = (1, 4, 16)
DOCUMENT = ROOT / "docs" / "benchmarks.md"
BEGIN, END = (
    f"<!-- {word} of the rows of experiments/study/boards.py -->" for word in ("begin", "end")
)
PUZZLES = {
    "sudoku": Sudoku(
        logic="singles", clues=34, train_puzzles=5000, test_puzzles=512, num_augmentations=1_000_000
    ),
    "sudoku6": Sudoku(
        side=6,
        logic="singles",
        clues=12,
        train_puzzles=5000,
        test_puzzles=512,
        num_augmentations=1_000_000,
    ),
    "maze": Maze(
        side=9, least_difficulty=6, train_puzzles=20_000, test_puzzles=1000, num_augmentations=7
    ),
    "maze7": Maze(
        side=7, least_difficulty=5, train_puzzles=20_000, test_puzzles=1000, num_augmentations=7
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
    "sudoku6": {
        "20 clues": {"data.test_clues": 20},
        "16 clues": {"data.test_clues": 16},
        "12 clues": {},
        "search, minimal": {"data.test_logic": "search", "data.test_clues": 0},
    },
    "maze": {"9x9": {}},
    "maze7": {"7x7": {}},
}
"""What of the run's own tests is changed, by name; mazes are told apart by their moves."""
NETWORKS = {
    "mixer": TokenMixer(hidden=64, prefix=2, swiglu_multiple=32),
    "attention": Transformer(hidden=64, heads=2, prefix=2, swiglu_multiple=32),
}
SETTINGS = (("sudoku", "mixer"), ("sudoku6", "attention"), ("maze7", "attention"))
"""Puzzles and networks that are put together. In so few FLOPs attention learns neither Sudoku nor
mazes of 9x9, as a row of each shows."""
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
    for seed, (puzzles, network) in itertools.product(SEEDS, SETTINGS):
        for method in METHODS:
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
    workdir = trained(experiment, RUNS / run.key)
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


def exact_of(row: Mapping[str, Any], test: str, passes: int) -> float:
    """The share of puzzles of a kind that a run solved, in per cent."""
    return 100 * row["scores"][f"{test}@{passes}"]["exact"]


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The tables of docs/benchmarks.md."""
    tables = [
        ("sudoku", itertools.product(TESTS["sudoku"], [4])),
        ("sudoku", itertools.product(["34 clues", "search, 28 clues"], PASSES)),
        ("sudoku6", itertools.product(TESTS["sudoku6"], [4])),
        ("sudoku6", itertools.product(["12 clues", "search, minimal"], PASSES)),
        ("maze7", itertools.product(TESTS["maze7"], PASSES)),
        ("maze", itertools.product(TESTS["maze"], [4])),
    ]
    parts = [_table(rows, puzzles, list(columns)) for puzzles, columns in tables]
    return "\n".join(filter(None, parts))


def _table(
    rows: Sequence[Mapping[str, Any]], puzzles: str, columns: Sequence[tuple[str, int]]
) -> str:
    """Exact match by network and method: the mean over seeds, and the least and the most."""
    names = [f"{test}, {counted(passes, 'pass', 'passes')}" for test, passes in columns]
    lines = [
        f"| {puzzles} | seeds | {' | '.join(names)} |",
        "|---|---|" + "---|" * len(columns),
    ]
    for network, method in itertools.product(NETWORKS, METHODS):
        named = {"puzzles": puzzles, "network": network, "method": method}
        found = [row for row in rows if named.items() <= row["run"].items()]
        if found:
            cells = [
                mean_and_range([exact_of(row, *column) for row in found]) for column in columns
            ]
            lines.append(f"| {network}, `{method}` | {len(found)} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""]) if len(lines) > 2 else ""


def with_tables(text: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The text of docs/benchmarks.md with these rows between its two marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{page(rows)}{END}{rest.split(END)[1]}"


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if not options.write:
        keep_programs()
        make_missing(every_run(), ROWS, options.only, make_row)
    path = work_path(DOCUMENT)
    write_whole(path, with_tables(path.read_text(encoding="utf-8"), read_rows(ROWS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
