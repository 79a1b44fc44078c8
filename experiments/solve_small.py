"""What `drm solve` begins with: trained on ARC-AGI-1 training tasks and fresh pairs of their rules.

    pip install --no-deps reasoning-gym==0.1.25
    drm train experiments/solve_small.py
    python -m drm_jax.solve.weights runs/solve_small drm_jax/solve/shipped/small.npz

Tasks: those of ARC-AGI-1's training set, with all pairs that fit a canvas of 10x10, and 100 fresh
pairs of each rule, of up to 10x10 (`rearc`). 24 tasks are left out, rules and all: the settings of
`drm solve` are chosen on them. They are evenly spaced among the tasks of up to 9x9 in the order of
their largest grid.

It can be stopped at any time: rates are constant, and the averaged weights are what is used.

Expected time: 2 minutes for 1,000 steps on one core of an Intel Xeon with AMX, after 6 minutes in
which the pairs are made.
Expected memory: 1.5 GB.
Expected result: loss 0.34 in the end. docs/weights.md has the scores, and how exactly the weights
in the package were made.
"""

from drm_jax.config import Evaluate, Experiment, Optimizer, Train
from drm_jax.methods.diffusion import Diffusion
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tasks import load_source, smallest_tasks

DEVELOPMENT_TASKS = 24
DEVELOPMENT_SIDE = 9


def development_tasks() -> tuple[str, ...]:
    """The ids of the tasks that are left out."""
    fitting = smallest_tasks(load_source("arc1/training"), DEVELOPMENT_SIDE, 1, 400)
    spacing = len(fitting) / DEVELOPMENT_TASKS
    return tuple(fitting[int((n + 0.5) * spacing)].id for n in range(DEVELOPMENT_TASKS))


def experiment() -> Experiment:
    left_out = set(development_tasks())
    return Experiment(
        name="solve_small",
        data=Arc(
            train=("arc1/training", "rearc:pairs=100,side=10"),
            evaluate=(),
            only=tuple(t.id for t in load_source("arc1/training") if t.id not in left_out),
            mix=("arc1=1", "rearc=2"),
            unfit="drop_pairs",
            canvas="fit",
            windows=(6, 8, 10),
            num_augmentations=7,
        ),
        method=Diffusion(),
        model=Transformer(
            hidden=64, heads=2, layers=2, prefix=2, swiglu_multiple=64, positions="board"
        ),
        optimizer=Optimizer(learning_rate=1e-3, warmup_steps=200, ema=0.999, matrices="muon"),
        train=Train(steps=100_000, batch_size=64, log_every=100, checkpoint_every=500),
        evaluate=Evaluate(denoise_steps=4),
    )
