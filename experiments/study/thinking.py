"""Does more thinking help? Scores by passes and by rollouts, where puzzles need a search.

    python -m experiments.study.thinking                     all rows that are missing
    python -m experiments.study.thinking --only maze trm     those whose name holds all words
    python -m experiments.study.thinking --table             what the rows say

    tried   other settings of drm_rollout, drm and trm; as in tuning
    tuning  every method at three learning rates, and at more of them until the best one has worse
       |    neighbours; one seed, fewer FLOPs, puzzles of their own
    final   every method at its rate, three seeds or more, on other puzzles, used once
    options of the network, the noise and the optimiser, on one family: `drm` at its rate without
            and with each, the FLOPs of tuning, the puzzles of the final runs

Four families: Sudoku of 6x6 (attention) and of 9x9 (token mixer), mazes of 9x9 (token mixer),
ARC tasks of up to 8x8 (attention). All methods have the same block, the same puzzles, the same
FLOPs. Each run is a `drm train` in runs/study_thinking/NAME, which goes on where it was stopped; a
finished one is scored with 1, 2, 4, … 32 passes, a final one on the hardest tests also with 16
rollouts by each way to choose, and leaves a row in experiments/study/thinking_rows/: which tests
were solved, and what the 32 passes have answered.

Expected time: about 18 minutes a final run on one core that multiplies matrices at 50 GFLOP/s, 6
minutes each of the others; about 25 hours of one core in all. Run two at a time, on a core each.
"""

import dataclasses
import functools
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
from drm_jax.evaluate.loop import answer_rollouts, pooled_rollouts
from drm_jax.evaluate.sweep import choices_of
from drm_jax.io.files import work_path, write_whole
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import TokenMixer, Transformer
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tasks import load_source, smallest_tasks
from drm_jax.puzzles.family import Judge
from drm_jax.puzzles.maze.family import Maze
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.run.evaluation import read_to_evaluate
from drm_jax.run.history import read_history
from drm_jax.run.setup import answerer, set_up_to_evaluate
from drm_jax.run.start import restore_own
from drm_jax.runtime.programs import keep_programs
from experiments.study import paths
from experiments.study.__main__ import ROOT, made_with, seconds_of, trained
from experiments.study.protocol import flops_per_step
from experiments.study.rows import make_missing, mean_and_range, parser_of, read_rows

RUNS, ROWS = ROOT / "runs" / "study_thinking", Path(__file__).parent / "thinking_rows"
TERAFLOPS = {"tried": 15.0, "tuning": 15.0, "options": 15.0, "final": 40.0}
"""10^12 FLOPs of training of each run."""
RATES = (1e-3, 2e-3, 4e-3)
LEAST_RATE, MOST_RATE = 1.25e-4, 3.2e-2
SEEDS = (0, 1, 2)
PASSES = (1, 2, 4, 8, 16, 32)
ROLLOUTS, ROLLOUT_PASSES = (1, 4, 16), 8
LATENT_NOISE = 0.2
"""Of methods that draw nothing at a test, where rollouts are wanted."""
CHOICES = ("votes", "halting", "rules", "oracle")
TESTS = 512
_MIXER = TokenMixer(hidden=64, prefix=2, swiglu_multiple=32)
_ATTENTION = Transformer(hidden=64, heads=2, prefix=2, swiglu_multiple=32)
FAMILIES = {
    "sudoku6": (
        Sudoku(side=6, logic="singles", clues=12, train_puzzles=5000, num_augmentations=1_000_000),
        _ATTENTION,
    ),
    "sudoku9": (
        Sudoku(logic="singles", clues=34, train_puzzles=5000, num_augmentations=1_000_000),
        _MIXER,
    ),
    "maze9": (
        Maze(side=9, least_difficulty=6, train_puzzles=20_000, num_augmentations=7),
        _MIXER,
    ),
    "arc8": (
        Arc(train=(), evaluate=("arc1/training",), canvas=8, num_augmentations=16),
        _ATTENTION,
    ),
}
SEARCH: Mapping[str, Mapping[str, Any]] = {
    "sudoku6": {"data.test_logic": "search", "data.test_clues": 0},
    "sudoku9": {"data.test_logic": "search", "data.test_clues": 28},
}
"""Harder tests of a family, beside its own."""
_ROLLOUT = {"method": "drm_rollout", "method.recursion.cycles": 1}
_TWO_CYCLES = {"method": "drm_rollout", "method.denoising.z_passes": None}
_LONG_Z = {**_TWO_CYCLES, "method.recursion.cycles": 1}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "drm": {},
    "trm": {"method": "trm"},
    "diffusion": {"method": "diffusion"},
    "drm_rollout": _ROLLOUT,
}
"""What each changes: `drm` and `trm` have 2 cycles, the last of which has gradient, as published;
`drm_rollout` has one, so that all of a pass has gradient."""
TRIED: Mapping[str, Mapping[str, Any]] = {
    "drm_rollout_two_cycles_no_halts": {**_TWO_CYCLES, "method.halts": False},
    "drm_rollout_two_cycles": _TWO_CYCLES,
    "drm_rollout_full_gradient": {**_TWO_CYCLES, "method.recursion.grad_cycles": 2},
    "drm_rollout_long_z": _LONG_Z,
    "drm_rollout_from_target": {**_LONG_Z, "method.from_target": 0.75},
    "drm_rollout_8": {**_LONG_Z, "method.rollout": 8},
    "drm_rollout_fresh_z": {**_LONG_Z, "method.denoising.carry_z": False},
    "drm_rollout_skip": {**_LONG_Z, "method.denoising.first_remask": "skip"},
    "drm_one_cycle": {"method.recursion.cycles": 1},
    "drm_all_masked": {"method.noise.all_masked": 0.5},
    "trm_one_cycle": {"method": "trm", "method.recursion.cycles": 1},
}
"""What led to the setting of `drm_rollout` in METHODS, in the order in which it was tried; the
published methods with one cycle; and `drm` with half of the targets masked whole."""
TRIED_AT = (
    ("drm_rollout_two_cycles_no_halts", "sudoku9", (1e-3, 2e-3, 4e-3, 8e-3)),
    ("drm_rollout_two_cycles_no_halts", "maze9", (2e-3,)),
    ("drm_rollout_two_cycles", "sudoku9", (1e-3, 2e-3, 4e-3)),
    ("drm_rollout_two_cycles", "maze9", (1e-3,)),
    ("drm_rollout_two_cycles", "arc8", (2e-3,)),
    ("drm_rollout_full_gradient", "sudoku9", (4e-3,)),
    ("drm_rollout_full_gradient", "maze9", (4e-3,)),
    ("drm_rollout_long_z", "sudoku6", (4e-3,)),
    ("drm_rollout_long_z", "sudoku9", (4e-3,)),
    ("drm_rollout_long_z", "maze9", (2e-3, 4e-3)),
    ("drm_rollout_long_z", "arc8", (2e-3, 4e-3)),
    ("drm_rollout_from_target", "maze9", (4e-3,)),
    ("drm_rollout_8", "sudoku6", (4e-3,)),
    ("drm_rollout_8", "sudoku9", (4e-3,)),
    ("drm_rollout_8", "maze9", (4e-3,)),
    ("drm_rollout_fresh_z", "sudoku6", (4e-3,)),
    ("drm_rollout_fresh_z", "maze9", (4e-3,)),
    ("drm_rollout_skip", "maze9", (4e-3,)),
    ("drm_one_cycle", "maze9", (2e-3,)),
    ("drm_all_masked", "maze9", (2e-3, 4e-3)),
    ("trm_one_cycle", "maze9", (4e-3,)),
)
"""Setting, family, learning rates."""
OPTIONS_OF = "sudoku6"
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "drm_convolution": {"model.convolution": True},
    "drm_board_positions": {"model.positions": "board"},
    "drm_symbols": {"method.noise.replace": "symbols"},
    "drm_muon": {"optimizer.matrices": "muon"},
    "drm_inner2": {"method.recursion.inner_steps": 2},
    "drm_inner2_grad1": {
        "method.recursion.inner_steps": 2, "method.recursion.grad_inner_steps": 1,
    },
}  # fmt: skip
"""What each changes of `drm`, on this family; the last one is to be compared with that before."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the study."""

    stage: str
    family: str
    method: str
    learning_rate: float
    seed: int

    @property
    def key(self) -> str:
        """Names its row and its work directory."""
        parts = self.stage, self.family, self.method, f"{self.learning_rate:g}", f"seed{self.seed}"
        return "-".join(parts)


def tuning_runs(rows: Sequence[Mapping[str, Any]]) -> Iterator[Run]:
    """All methods at all rates, and beside the best one where it is at an end."""
    for family, method in itertools.product(FAMILIES, METHODS):
        for rate in rates_to_try(rows, family, method):
            yield Run("tuning", family, method, rate, 0)


def rates_to_try(rows: Sequence[Mapping[str, Any]], family: str, method: str) -> list[float]:
    """Those of RATES, those that were tried, and the next one where the best is at an end."""
    rates = {*RATES, *solved_by_rate(rows, family, method)}
    best = best_rate(rows, family, method)
    if best == max(rates) and best < MOST_RATE:
        rates.add(2 * best)
    if best == min(rates) and best > LEAST_RATE:
        rates.add(best / 2)
    return sorted(rates)


def tried_runs() -> Iterator[Run]:
    for setting, family, rates in TRIED_AT:
        for rate in rates:
            yield Run("tried", family, setting, rate, 0)


def final_runs(rows: Sequence[Mapping[str, Any]]) -> Iterator[Run]:
    """Every method that is tuned, at its best rate, and the options; first seeds first."""
    for seed, family, method in itertools.product(SEEDS, FAMILIES, METHODS):
        if is_tuned(rows, family, method):
            rate = best_rate(rows, family, method)
            yield Run("final", family, method, rate, seed)
            if (family, method) == (OPTIONS_OF, "drm"):
                for option in ("drm", *OPTIONS):
                    yield Run("options", family, option, rate, seed)


def is_tuned(rows: Sequence[Mapping[str, Any]], family: str, method: str) -> bool:
    """Whether the best learning rate of a method is known."""
    return {*rates_to_try(rows, family, method)} <= {*solved_by_rate(rows, family, method)}


def solved_by_rate(
    rows: Sequence[Mapping[str, Any]], family: str, method: str
) -> dict[float, float]:
    """By rate the share of tests that were solved in tuning, with the best number of passes."""
    wanted = {"stage": "tuning", "family": family, "method": method}
    found = [row for row in rows if wanted.items() <= row["run"].items()]
    return {row["run"]["learning_rate"]: max(solved(row, n) for n in PASSES) for row in found}


def best_rate(rows: Sequence[Mapping[str, Any]], family: str, method: str) -> float | None:
    """Of equals the lower one; None where nothing was tried."""
    found = solved_by_rate(rows, family, method)
    return max(sorted(found), key=found.__getitem__) if found else None


def tests_of(family: str) -> dict[str, Mapping[str, Any]]:
    """The kinds of tests of a family, the hardest one last, and what each changes."""
    return {"own": {}, **({"search": SEARCH[family]} if family in SEARCH else {})}


@functools.cache
def arc_tasks() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids for tuning and for the final runs: every second task of up to 8x8, by size."""
    fitting = smallest_tasks(load_source("arc1/training"), 8, 1, 400)
    ids = [task.id for task in fitting]
    return tuple(ids[::2]), tuple(ids[1::2])


def experiment_of(run: Run) -> Experiment:
    """The experiment of a run."""
    data, model = FAMILIES[run.family]
    held_out = run.stage not in ("tried", "tuning")
    if run.family == "arc8":
        data = dataclasses.replace(data, only=arc_tasks()[held_out])
    else:
        data = dataclasses.replace(data, puzzles_seed=int(held_out), test_puzzles=TESTS)
    base = Experiment(
        name=run.key,
        seed=run.seed,
        data=data,
        method=Drm(Recursion(cycles=2, inner_steps=1)),
        model=model,
        optimizer=Optimizer(learning_rate=run.learning_rate, warmup_steps=100, ema=0.995),
        train=Train(steps=1, batch_size=64, log_every=100, checkpoint_every=500, keep_best=0),
        evaluate=Evaluate(batch_size=64, denoise_steps=4, trajectories="off"),
    )
    changed = with_changes(base, {**METHODS, **TRIED, **OPTIONS}[run.method])
    steps = round(TERAFLOPS[run.stage] * 1e12 / flops_per_step(changed))
    return with_changes(changed, {"train.steps": steps})


# --- rows -----------------------------------------------------------------------------------------
def make_row(run: Run) -> None:
    """Trains a run in a process of its own, scores it, and writes its row."""
    experiment = experiment_of(run)
    workdir = trained(experiment, RUNS / run.key)
    row: dict[str, Any] = {"run": {**vars(run), "key": run.key}, "steps": experiment.train.steps}
    history = read_history(workdir)
    row |= {"seconds": seconds_of(history), "made_with": made_with(history)}
    for kind, changes in tests_of(run.family).items():
        row[kind] = by_passes(workdir, changes)
    if run.stage == "final":
        row[kind]["breadth"] = by_rollouts(workdir, changes)  # of the hardest tests
    ROWS.mkdir(exist_ok=True)
    write_whole(work_path(ROWS / f"{run.key}.json"), json.dumps(row, indent=1) + "\n")


def by_passes(workdir: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """`depth`, which tests are solved with so many passes, "1" or "0" of each; and `path`, what the
    passes of the longest test have answered, see `paths.summary`."""
    depth: dict[str, str] = {}
    for passes in PASSES:
        # Only with the most passes is it kept how each candidate was denoised.
        kept = {"evaluate.trajectories": "all"} if passes == PASSES[-1] else {}
        changed = {**changes, **kept, "evaluate.denoise_steps": passes}
        setup, state = _prepared(workdir, changed)
        questions = setup.puzzles.questions(None)
        judged = answer_rollouts(setup.experiment, answerer(setup), state, setup.mesh, questions)
        depth[str(passes)] = _bits(judged.judge, judged.accuracy_R)
    return {"depth": depth, "path": paths.summary(judged.trajectories, setup.experiment.data)}


def by_rollouts(workdir: Any, changes: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Which tests are solved by so many rollouts, by how an answer is chosen."""
    changes = {**changes, "evaluate.denoise_steps": ROLLOUT_PASSES}
    method = read_to_evaluate(workdir, {}).method
    if not method.draws_at_test:
        changes["evaluate.latent_noise"] = LATENT_NOISE
    setup, state = _prepared(workdir, changes)
    of = setup.experiment, answerer(setup), state, setup.mesh, setup.puzzles.questions(None)
    found = {}
    for count, judged in enumerate(pooled_rollouts(*of, ROLLOUTS[-1]), 1):
        if count in ROLLOUTS:
            found[str(count)] = {
                choice: _bits(judged.judge.choosing(choice), judged.accuracy_R)
                for choice in choices_of(setup.experiment.data)
            }
    return found


def _prepared(workdir: Any, changes: Mapping[str, Any]) -> tuple[Any, Any]:
    """The setup of a work directory's run with other settings, and its newest state."""
    experiment = read_to_evaluate(workdir, changes)
    setup = set_up_to_evaluate(experiment, lambda text: None, workdir)
    return setup, restore_own(setup, workdir, True, lambda text: None).state


def _bits(judge: Judge, accuracy_R: Any) -> str:
    """Of each test "1" if it is solved; of ARC with two attempts."""
    rows = judge.scores(accuracy_R)["per_task"]
    solved_T = []
    for task in sorted(rows):
        if "exact" in rows[task]:
            solved_T.append(bool(rows[task]["exact"]))
        else:
            solved_T += [rank is not None and rank <= 2 for rank in rows[task]["rank_of_truth"]]
    return "".join(str(int(one)) for one in solved_T)


# --- what they say --------------------------------------------------------------------------------
def solved(row: Mapping[str, Any], passes: int) -> float:
    """The share of tests that a run solved; of both kinds of tests where there are two."""
    kinds = [name for name in ("own", "search") if name in row]
    return statistics.fmean(_share(row[name]["depth"][str(passes)]) for name in kinds)


def _share(bits: str) -> float:
    return bits.count("1") / len(bits)


def tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """By stage, family and tests: the share solved by passes, and by 16 rollouts."""
    for stage, family, kind in itertools.product(TERAFLOPS, FAMILIES, ("own", "search")):
        of = [r for r in rows if (r["run"]["stage"], r["run"]["family"]) == (stage, family)]
        of = [row for row in of if kind in row]
        if not of:
            continue
        table = Table(title=f"{stage}, {family}, {kind} tests: solved, %")
        has_breadth = "breadth" in of[0][kind]
        names = ["method", "rate", "seeds", *[f"{n} passes" for n in PASSES]]
        for name in names + (
            [f"16 rollouts, {choice}" for choice in CHOICES] if has_breadth else []
        ):
            table.add_column(name, justify="left" if name == "method" else "right")
        for (method, rate), group in itertools.groupby(
            sorted(of, key=_method_and_rate), _method_and_rate
        ):
            found = list(group)
            cells = [_cell([_share(r[kind]["depth"][str(n)]) for r in found]) for n in PASSES]
            if has_breadth:
                last = [r[kind]["breadth"][str(ROLLOUTS[-1])] for r in found]
                cells += [
                    _cell([_share(of[c]) for of in last]) if c in last[0] else "" for c in CHOICES
                ]
            table.add_row(method, f"{rate:g}", str(len(found)), *cells)
        yield table


def _method_and_rate(row: Mapping[str, Any]) -> tuple[str, float]:
    return row["run"]["method"], row["run"]["learning_rate"]


def _cell(shares: Sequence[float]) -> str:
    """In per cent, over seeds."""
    return mean_and_range([100 * share for share in shares])


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        keep_programs()
        before = None
        while before != (rows := read_rows(ROWS)):  # what is tuned decides what is run next
            before = rows
            make_missing(tuning_runs(rows), ROWS, options.only, make_row)
        runs = itertools.chain(final_runs(rows), tried_runs())
        make_missing(runs, ROWS, options.only, make_row)
    for table in tables(read_rows(ROWS)):
        Console(width=160).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
