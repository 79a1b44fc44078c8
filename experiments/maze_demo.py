"""x"""

from drm_jax.config import Evaluate, Experiment, Optimizer, Train
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.maze.family import Maze


def experiment() -> Experiment:
    return Experiment(
        name="maze_demo",
        data=Maze(
            side=12,
            least_difficulty=6,
            train_puzzles=10_000,
            num_augmentations=7,
        ),
        method=Drm(Recursion(cycles=2, inner_steps=1)),
        model=Transformer(hidden=64, heads=2, prefix=2, swiglu_multiple=64),
        optimizer=Optimizer(learning_rate=2e-3, warmup_steps=50, ema=0.99),
        train=Train(steps=1000, batch_size=64, log_every=100, checkpoint_every=500),
        evaluate=Evaluate(every=250, batch_size=64, denoise_steps=4),
    )
