"""The methods, and what is the same for all of them: tasks, FLOPs, parameters, tuning.

Every run trains on the same number of FLOPs (by `drm_jax/run/flops.py`), so a method whose step
costs more takes fewer steps. All have the same block, and so nearly the same parameters.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from drm_jax.config import Data, Evaluate, Experiment, Model, Optimizer, Train, with_changes
from drm_jax.run.flops import count_flops
from experiments.study.tasks import CANVAS, chosen

FAMILIES = ("arc", "sudoku4", "sudoku6")
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
"""Each method is tried at all of them on the development tasks, with seed 0."""
SEEDS = (0, 1, 2)
TERAFLOPS = 15.0
"""10^12 FLOPs of training of each run."""
_CYCLES, _BATCH, _LOG = 2, 32, 50

METHODS: Mapping[str, Mapping[str, Any]] = {
    "drm": {},
    "trm": {"objective": "trm"},
    "sprm": {"objective": "sprm"},
    "diffusion": {"objective": "diffusion"},
    "drm_path": {"model.grad_cycles": _CYCLES, "supervision": "path"},
    "drm_all_cycles": {"model.grad_cycles": _CYCLES},
}
"""What each method changes of `drm`, by dotted field."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the study."""

    family: str
    method: str
    learning_rate: float
    seed: int
    held_out: bool  # of the final table; else for tuning

    @property
    def key(self) -> str:
        """Names its row and its work directory."""
        stage = "final" if self.held_out else "tuning"
        return f"{stage}-{self.family}-{self.method}-{self.learning_rate:g}-seed{self.seed}"


def tuning_runs() -> Iterator[Run]:
    """All methods at all learning rates, one family after the other."""
    for family in FAMILIES:
        for rate in LEARNING_RATES:
            for method in METHODS:
                yield Run(family, method, rate, 0, False)


def final_runs(rates: Mapping[tuple[str, str], float]) -> Iterator[Run]:
    """All seeds of all methods.

    Args:
      rates: the learning rate that did best in tuning, by family and method.
    """
    for seed in SEEDS:
        for family in FAMILIES:
            for method in METHODS:
                yield Run(family, method, rates[family, method], seed, True)


def data_of(family: str, held_out: bool) -> Data:
    """The tasks of a run. Sudoku has other puzzles for the final table."""
    if family == "arc":
        return Data(
            train=(), evaluate=("arc1/training",), only=chosen()[held_out], canvas=CANVAS,
            num_augmentations=16,
        )  # fmt: skip
    source = f"experiments.study.sudoku:{family}_{'final' if held_out else 'tuning'}"
    return Data(train=(), evaluate=(source,), canvas=int(family[-1]) + 1, num_augmentations=16)


def experiment_of(run: Run) -> Experiment:
    """The experiment of a run."""
    base = Experiment(
        name=run.key,
        seed=run.seed,
        data=data_of(run.family, run.held_out),
        model=Model(
            hidden=64, heads=2, cycles=_CYCLES, inner_steps=2, prefix=2, swiglu_multiple=64
        ),
        optimizer=Optimizer(learning_rate=run.learning_rate, warmup_steps=50, ema=0.99),
        train=Train(steps=1, batch_size=_BATCH, log_every=_LOG, checkpoint_every=1000, keep_best=0),
        evaluate=Evaluate(batch_size=64, denoise_steps=16),
    )
    changed = with_changes(base, METHODS[run.method])
    steps = TERAFLOPS * 1e12 / (_BATCH * count_flops(changed).train)
    return with_changes(changed, {"train.steps": round(steps)})
