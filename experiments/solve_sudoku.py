"""The weights that `drm solve sudoku` answers with: 9x9 puzzles of 27 clues, made from a seed.

    drm train experiments/solve_sudoku.py
    python -m drm_jax.solve.weights runs/solve_sudoku drm_jax/solve/shipped/sudoku.npz

It can be stopped at any time: rates are constant, and the averaged weights are what is used.

Expected time: 12 minutes for 1,000 steps on one core that multiplies matrices at 52 GFLOP/s.
Expected memory: 1 GB.
Expected result: 53% of 256 unseen puzzles of 27 clues solved after 3,000 steps, 77% after 5,000.
docs/weights.md tells what they solve with symmetric copies.
"""

from drm_jax.config import Evaluate, Experiment, Optimizer, Train
from drm_jax.methods.trm import Trm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import TokenMixer
from drm_jax.puzzles.sudoku.family import Sudoku


def experiment() -> Experiment:
    return Experiment(
        name="solve_sudoku",
        data=Sudoku(
            logic="search",
            clues=27,
            train_puzzles=10_000,
            test_puzzles=256,
            num_augmentations=1_000_000,
        ),
        method=Trm(Recursion(cycles=2, inner_steps=1)),
        model=TokenMixer(hidden=64, prefix=2, swiglu_multiple=32),
        optimizer=Optimizer(learning_rate=2e-3, warmup_steps=50, ema=0.999, weight_decay=0.1),
        train=Train(steps=100_000, batch_size=64, log_every=100, checkpoint_every=500),
        evaluate=Evaluate(every=1000, batch_size=64),
    )
