"""The papers' runs on Sudoku-Extreme and Maze-Hard: two methods, two ways to mix tokens.

    drm train experiments/sudoku_trm_mlp.py
    drm train experiments/sudoku_trm_mlp.py --data.train my/train.csv --data.evaluate my/test.csv
    drm plan experiments/sudoku_trm_mlp.py --topology 1xH100     (needs no data)

Settings: TRM's paper (arXiv 2510.04871) and its published code: 1,000 puzzles, 1,000 shuffles of
each Sudoku, 8 symmetries of each maze; 50,000 epochs, so 65,104 steps of 768 examples; both rates
1e-4, both decays 1.0, average 0.999; 3 cycles of 6 inner steps, of 4 for mazes. DRM's paper (arXiv
2604.18839) gives scores alone: drm has TRM's settings here.

Data: CSV files source,question,answer,rating, which drm doesn't fetch. They are on Hugging Face:
datasets/sapientinc/sudoku-extreme and datasets/sapientinc/maze-30x30-hard-1k, each a train.csv and
a test.csv; lay them in data/sudoku-extreme/ and data/maze-hard/, or say where they are, as above.

None of these was run to its end by us; docs/benchmarks.md has the published scores and the plans.
Expected time: of sudoku_trm_mlp 3 to 8 hours on one H100, at 20% to 40% of its peak.
Expected memory: 0.4 GB for the state, and activations on top, which `remat="layer"` keeps small.
Expected result: sudoku_trm_mlp 87.4, sudoku_trm_att 74.7, maze_trm 85.3 (TRM's paper); sudoku_drm
20, maze_drm 81 (DRM's paper, whose settings for these aren't known). In % of tests, exact match.
"""

from drm_jax.config import Evaluate, Experiment, Optimizer, Train
from drm_jax.methods.drm import Drm
from drm_jax.methods.trm import Trm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import TokenMixer, Transformer
from drm_jax.puzzles.maze.family import Maze
from drm_jax.puzzles.sudoku.family import Sudoku

PUZZLES = {
    "sudoku": Sudoku(
        train=("data/sudoku-extreme/train.csv",),
        evaluate=("data/sudoku-extreme/test.csv",),
        train_puzzles=1000,
        test_puzzles=422_786,  # all of them
        num_augmentations=1000,
    ),
    "maze": Maze(
        train=("data/maze-hard/train.csv",),
        evaluate=("data/maze-hard/test.csv",),
        train_puzzles=1000,
        test_puzzles=1000,  # all of them
        num_augmentations=7,
    ),
}
RECURSIONS = {"sudoku": Recursion(cycles=3, inner_steps=6), "maze": Recursion(3, inner_steps=4)}
NETWORKS = {
    "mlp": TokenMixer(hidden=512, remat="layer"),
    "att": Transformer(hidden=512, heads=8, remat="layer"),
}
STEPS = 65_104


def paper(name: str, puzzles: str, method: str, mixer: str) -> Experiment:
    """A run of the papers; what isn't said here is as by default."""
    recursion = RECURSIONS[puzzles]
    return Experiment(
        name=name,
        data=PUZZLES[puzzles],
        method=Trm(recursion, mask_token=False) if method == "trm" else Drm(recursion),
        model=NETWORKS[mixer],
        optimizer=Optimizer(
            learning_rate=1e-4,
            weight_decay=1.0,
            puzzle_learning_rate=1e-4,
            puzzle_weight_decay=1.0,
        ),
        train=Train(steps=STEPS),
        evaluate=Evaluate(),
    )
