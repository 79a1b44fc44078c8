"""The single-GPU debug mode: the whole pipeline at a small size.

    drm train experiments/debug.py                            (or: launch/debug_gpu.sh)
    drm train experiments/debug.py --model.hidden 512 --model.heads 8    the 7M model's width

Everything that a full run does, on 16 real tasks of small grids: a checkpoint and an evaluation
every 100 steps; a NaN ends the run, as in every run, and is named with its step and tasks.

Expected time: 300 steps in about 4 minutes on 2 CPU cores (40 examples/s); not yet run on a GPU.
Expected memory: under 2 GB.
Expected result: the loss falls from about 2.2 to below 1.0; few or no test inputs are solved.
"""

from drm_jax.config import Evaluate, Experiment, Optimizer, Train
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tasks import load_source, smallest_tasks

CANVAS = 12


def experiment() -> Experiment:
    tasks = smallest_tasks(load_source("arc1/training"), CANVAS, 1, 16)
    return Experiment(
        name="debug",
        data=Arc(
            train=(),
            evaluate=("arc1/training",),
            only=tuple(task.id for task in tasks),
            canvas=CANVAS,
            num_augmentations=8,
        ),
        method=Drm(Recursion(cycles=2, inner_steps=2)),
        model=Transformer(hidden=128, heads=4, prefix=4, swiglu_multiple=64),
        optimizer=Optimizer(learning_rate=1e-3, warmup_steps=50, ema=0.99),
        train=Train(steps=300, batch_size=32, log_every=20, checkpoint_every=100),
        evaluate=Evaluate(every=100, batch_size=64, denoise_steps=4),
    )
