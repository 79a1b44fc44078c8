"""The methods, and what is the same for all of them: tasks, FLOPs, parameters, tuning.

Every run of a family trains on the same number of FLOPs (by `drm_jax/plan/flops.py`), so a method
whose step costs more takes fewer steps. All have the same block, and so nearly the same parameters.

    tuning   every method at every learning rate, one seed, fewer FLOPs, tasks for development
       |     -> the rate and the number of test steps with the fewest wrong cells
    final    every method, and each change of our own, three seeds, all FLOPs, tasks held out
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from drm_jax.config import Evaluate, Experiment, Optimizer, Train, with_changes
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.plan.flops import count_flops
from drm_jax.puzzles.arc.family import Arc
from experiments.study.minimal_sudoku import MinimalSudoku
from experiments.study.tasks import CANVAS, chosen

FAMILIES = ("arc", "sudoku4", "sudoku6")
TERAFLOPS: Mapping[str, Mapping[str, float]] = {
    "tuning": {"arc": 5.0, "sudoku4": 1.25, "sudoku6": 3.0},
    "final": {"arc": 8.0, "sudoku4": 2.5, "sudoku6": 5.0},
    "quick": {"arc": 1.2, "sudoku4": 0.4, "sudoku6": 0.8},
}
"""10^12 FLOPs of training of each run, by stage and family."""
LEARNING_RATES = (1e-3, 3e-3, 3e-4)
"""Each method is tried at all of them on the tasks for development, with seed 0."""
TEST_STEPS = (1, 2, 4, 8, 16, 32)
"""Passes at test time: every run is scored at all of them, and each method tuned by them."""
PUBLISHED_STEPS = 16
SEEDS = (0, 1, 2)
_CYCLES, _BATCH, _CURVE_POINTS = 2, 32, 6

METHODS: Mapping[str, Mapping[str, Any]] = {
    "drm": {},
    "trm": {"method": "trm"},
    "sprm": {"method": "sprm"},
    "diffusion": {"method": "diffusion"},
    "drm_path": {"method.recursion.grad_cycles": _CYCLES, "method.supervision": "path"},
    "drm_all_cycles": {"method.recursion.grad_cycles": _CYCLES},
}
"""What each method changes of `drm`, by dotted field."""
OWN: Mapping[str, Mapping[str, Any]] = {
    "drm_all_masked": {"method.noise.all_masked": 0.25},
    "drm_own_answers": {"method.noise.own_answers": 0.5},
}
"""Changes of our own in training. They take the learning rate of `drm`; test steps are tuned."""
OWN_AT_TEST: Mapping[str, Mapping[str, Any]] = {
    "confidence": {"remask": "confidence"},
    "keep_first": {"first_remask": "skip"},
    "training_schedule": {"remask_schedule": "training"},
    "pad_outside": {"outside": "pad"},
    "fresh_z": {"carry_z": False},
    "pad_outside_fresh_z": {"outside": "pad", "carry_z": False},
}
"""Changes at test time alone, of a `drm` that is trained as published, by field of
method.denoising."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the study."""

    stage: str  # tuning, final or quick
    family: str
    method: str
    learning_rate: float
    seed: int
    denoise_steps: int = 4

    @property
    def key(self) -> str:
        """Names its row and its work directory."""
        parts = self.stage, self.family, self.method, f"{self.learning_rate:g}", f"seed{self.seed}"
        return "-".join(parts)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What did best in tuning."""

    learning_rate: float
    denoise_steps: int


def tuning_runs() -> Iterator[Run]:
    """All methods at all learning rates."""
    for rate in LEARNING_RATES:
        for family in FAMILIES:
            for method in METHODS:
                yield Run("tuning", family, method, rate, 0)


def own_tuning_runs(tuned: Mapping[tuple[str, str], Tuned]) -> Iterator[Run]:
    """Our own changes at the rate of `drm`, for their test steps."""
    for family in FAMILIES:
        for change in OWN:
            yield Run("tuning", family, change, tuned[family, "drm"].learning_rate, 0)


def final_runs(tuned: Mapping[tuple[str, str], Tuned]) -> Iterator[Run]:
    """All seeds of all methods and changes.

    Args:
      tuned: by family and method.
    """
    for seed in SEEDS:
        for family in FAMILIES:
            for method in (*METHODS, *OWN):
                best = tuned[family, method]
                yield Run("final", family, method, best.learning_rate, seed, best.denoise_steps)


def quick_runs() -> Iterator[Run]:
    """One seed of everything, on the tasks for development, with few FLOPs and nothing tuned."""
    for family in FAMILIES:
        for method in (*METHODS, *OWN):
            yield Run("quick", family, method, 1e-3, 0)


def data_of(family: str, held_out: bool) -> Arc | MinimalSudoku:
    """The puzzles of a run. Sudoku has others for the final table; at 4x4, which has 288 solutions
    in all, a test's solution is never that of a puzzle that is trained on."""
    if family == "arc":
        return Arc(
            train=(), evaluate=("arc1/training",), only=chosen()[held_out], canvas=CANVAS,
            num_augmentations=16,
        )  # fmt: skip
    side = int(family.removeprefix("sudoku"))
    return MinimalSudoku(
        side=side,
        train_puzzles=1000,
        test_puzzles=64,
        puzzles_seed=10 * side + held_out,
        tested_part=8 + held_out if side == 4 else None,
    )


def experiment_of(run: Run) -> Experiment:
    """The experiment of a run."""
    base = Experiment(
        name=run.key,
        seed=run.seed,
        data=data_of(run.family, run.stage == "final"),
        method=Drm(Recursion(cycles=_CYCLES, inner_steps=2)),
        model=Transformer(hidden=64, heads=2, prefix=2, swiglu_multiple=64),
        optimizer=Optimizer(learning_rate=run.learning_rate, warmup_steps=50, ema=0.99),
        train=Train(steps=1, batch_size=_BATCH, log_every=50, checkpoint_every=10_000, keep_best=0),
        evaluate=Evaluate(batch_size=64, denoise_steps=run.denoise_steps),
    )
    changed = with_changes(base, {**METHODS, **OWN}[run.method])
    flops = TERAFLOPS[run.stage][run.family] * 1e12
    steps = round(flops / flops_per_step(changed))
    every = 0 if run.stage == "tuning" else -(-steps // _CURVE_POINTS)
    return with_changes(changed, {"train.steps": steps, "evaluate.every": every})


def flops_per_step(experiment: Experiment) -> float:
    """FLOPs of one training step in which nothing is computed again."""
    method, data, model = experiment.method, experiment.data, experiment.model
    ((height, width),) = data.boards
    if isinstance(model, Transformer):  # other forms of attention compute the scores again
        model = dataclasses.replace(model, attention="plain")
    of_one = count_flops(
        method,
        model,
        vocab=data.vocabulary.size + method.has_mask,
        cells=height * width,
        denoise_steps=experiment.evaluate.denoise_steps,
        platform="cpu",
    )
    return experiment.train.batch_size * of_one.train
