"""The weights that `drm solve maze` answers with: 9x9 mazes with one way from start to goal, made
from a seed.

    drm train experiments/solve_maze.py
    python -m drm_jax.solve.weights runs/solve_maze drm_jax/solve/shipped/maze.npz

It can be stopped at any time: rates are constant, and the averaged weights are what is used.

Expected time: 12 minutes for 1,000 steps on one slow core (52 GFLOP/s of products); a third of that
on a quick one.
Expected memory: 1 GB.
Expected result: docs/weights.md tells what they solve.
"""

from drm_jax.config import Evaluate, Experiment, Optimizer, Train
from drm_jax.methods.denoising import Noise
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import TokenMixer
from drm_jax.puzzles.maze.family import Maze


def experiment() -> Experiment:
    return Experiment(
        name="solve_maze",
        data=Maze(
            side=9,
            least_difficulty=2,
            train_puzzles=50_000,
            test_puzzles=256,
            num_augmentations=7,
        ),
        # A test begins with every cell masked, which noise alone hardly ever does.
        method=Drm(Recursion(cycles=2, inner_steps=1), noise=Noise(all_masked=0.5)),
        model=TokenMixer(hidden=64, prefix=2, swiglu_multiple=32),
        optimizer=Optimizer(learning_rate=2e-3, warmup_steps=50, ema=0.999, weight_decay=0.1),
        train=Train(steps=100_000, batch_size=64, log_every=100, checkpoint_every=500),
        evaluate=Evaluate(every=1000, batch_size=64, denoise_steps=8),
    )
