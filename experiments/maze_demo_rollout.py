"""Mazes of 9x9, by drm_rollout: trained on its own answers, along the path of a test.

    drm train experiments/maze_demo_rollout.py
    drm eval runs/maze_demo_rollout --curve depth           the score by passes

Puzzles, network and steps are those of maze_demo.py. One cycle a pass, so that all of a pass has
gradient, and the learning rate are from the tuning of experiments/study/thinking.py.

Expected time: 7 minutes on one core of an AMD EPYC, 53 GFLOP/s.
Expected memory: 1.4 GB.
Expected result: 94% of the 1,000 tests solved, 28% after 1,000 steps, 72% after 1,500 (seed 0); 94%
with 8 to 32 passes. docs/benchmarks.md has more.
"""

from maze_demo import experiment as published

from drm_jax.config import Experiment, with_changes


def experiment() -> Experiment:
    changes = {
        "name": "maze_demo_rollout",
        "method": "drm_rollout",
        "method.recursion.cycles": 1,
        "method.noise.all_masked": 0.0,
        "optimizer.learning_rate": 4e-3,
    }
    return with_changes(published(), changes)
