"""x"""

from drm_jax.config import Evaluate, Experiment, Optimizer, Train
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import TokenMixer
from drm_jax.puzzles.sudoku.family import Sudoku


def experiment() -> Experiment:
    return Experiment(
        name="sudoku_demo",
        data=Sudoku(
            logic="singles",
            clues=40,
            train_puzzles=5000,
            test_puzzles=256,
            num_augmentations=1_000_000,
        ),
        method=Drm(Recursion(cycles=2, inner_steps=1)),
        model=TokenMixer(hidden=64, prefix=2, swiglu_multiple=32),
        optimizer=Optimizer(learning_rate=2e-3, warmup_steps=50, ema=0.99, weight_decay=0.1),
        train=Train(steps=1500, batch_size=64, log_every=100, checkpoint_every=500),
        evaluate=Evaluate(every=500, batch_size=64, denoise_steps=4),
    )
