"""Sudoku of 9x9, by drm_rollout: trained on its own answers, along the path of a test.

    drm train experiments/sudoku_demo_rollout.py
    drm eval runs/sudoku_demo_rollout --curve depth           the score by passes

Puzzles, network and steps are those of sudoku_demo.py. One cycle a pass, so that all of a pass has
gradient, and the learning rate are from the tuning of experiments/study/thinking.py.

Expected time: 5 minutes on one core of an AMD EPYC, 53 GFLOP/s.
Expected memory: 1.3 GB.
Expected result: 252 of the 256 tests solved, 98.4%; 97.3% after 500 steps; 254 with 8 passes or
more (seed 0). docs/benchmarks.md has harder tests.
"""

from sudoku_demo import experiment as published

from drm_jax.config import Experiment, with_changes


def experiment() -> Experiment:
    changes = {
        "name": "sudoku_demo_rollout",
        "method": "drm_rollout",
        "method.recursion.cycles": 1,
        "optimizer.learning_rate": 4e-3,
    }
    return with_changes(published(), changes)
