"""Mazes of 9x9 from nothing, on a CPU, in minutes.

    drm train experiments/maze_demo.py
    drm train experiments/maze_demo.py --method trm --workdir runs/maze_demo_trm
    drm eval runs/maze_demo --data.least-difficulty 30      longer paths alone
    drm eval runs/maze_demo --denoise-steps 16              thinks longer

Mazes: 20,000 that are made from a seed, each in its eight symmetries, with one way from start to
goal of 6 moves or more. 1,000 others are tests.

Expected time: 23 minutes on 2 slow cores (125 GFLOP/s of products) beside other work; not measured
on faster ones, where it should be a third of that.
Expected memory: 1 GB.
Expected result: 82% of the 1,000 tests solved, 41% after 1,000 steps, 68% after 1,500 (seed 0); 87%
with 16 passes. TRM solves 1% (256 tests, 1,500 steps). docs/benchmarks.md has more.
"""

from drm_jax.config import Evaluate, Experiment, Optimizer, Train
from drm_jax.methods.denoising import Noise
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import TokenMixer
from drm_jax.puzzles.maze.family import Maze


def experiment() -> Experiment:
    return Experiment(
        name="maze_demo",
        data=Maze(
            side=9,
            least_difficulty=6,
            train_puzzles=20_000,
            test_puzzles=1000,
            num_augmentations=7,
        ),
        # A test begins with every cell masked, which noise alone hardly ever does.
        method=Drm(Recursion(cycles=2, inner_steps=1), noise=Noise(all_masked=0.5)),
        model=TokenMixer(hidden=64, prefix=2, swiglu_multiple=32),
        optimizer=Optimizer(learning_rate=2e-3, warmup_steps=50, ema=0.99, weight_decay=0.1),
        train=Train(steps=2000, batch_size=64, log_every=100, checkpoint_every=500),
        evaluate=Evaluate(every=500, batch_size=64, denoise_steps=4),
    )
