"""The smallest real run: 8 ARC-AGI-1 training tasks on a CPU, in minutes.

drm train experiments/demo.py            (or: make demo)
"""

from drm_jax.arc.tasks import load_source, smallest_tasks
from drm_jax.config import Data, Evaluate, Experiment, Model, Optimizer, Train

CANVAS = 6


def demo(first_rank: int, last_rank: int) -> Experiment:
    tasks = smallest_tasks(load_source("arc1/training"), CANVAS, first_rank, last_rank)
    return Experiment(
        name="demo",
        data=Data(
            train=(),
            evaluate=("arc1/training",),
            only=tuple(task.id for task in tasks),
            canvas=CANVAS,
            num_augmentations=16,
        ),
        model=Model(hidden=64, heads=4, cycles=2, inner_steps=2, prefix=2, swiglu_multiple=64),
        optimizer=Optimizer(learning_rate=1e-3, warmup_steps=50),
        train=Train(steps=400, batch_size=32, log_every=50, checkpoint_every=200),
        evaluate=Evaluate(untrained=True, batch_size=64, denoise_steps=4),
    )


def experiment() -> Experiment:
    return demo(1, 8)
