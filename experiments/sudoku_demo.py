"""Sudoku of 9x9 from nothing, on a CPU, in minutes.

    drm train experiments/sudoku_demo.py
    drm train experiments/sudoku_demo.py --method trm --workdir runs/sudoku_demo_trm
    drm eval runs/sudoku_demo --data.test-clues 34          harder tests; 50 for easier ones
    drm eval runs/sudoku_demo --data.test-logic search --data.test-clues 28     some need a search

Puzzles: 5,000 that are made from a seed, with 40 clues, which singles alone solve; each comes in a
million symmetric copies. 256 others of the same kind are tests, none of them a copy of one that is
trained on.

Expected time: 11 minutes on 2 cores that multiply matrices at 125 GFLOP/s (an AMD EPYC beside other
machines' work); a third of that where they do so at 430.
Expected memory: 1 GB.
Expected result: 229 of the 256 tests solved, 89.5%; 69.9% after 500 steps, 88.7% after 1,000 (seed
0). TRM solves 255 of them, 249 after 500 steps. docs/benchmarks.md has harder tests.
"""

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
