"""The input pipeline: examples a second, and how long the first batch takes.

    python -m benchmarks.data

All of ARC-AGI-1 under 1,000 augmentations, with noise and reverse targets, as
experiments/arc1_drm_7m.py trains on it; Sudoku of 9x9 and mazes of 30x30, made, as
experiments/sudoku_drm.py and maze_drm.py train on theirs. "a core" is one thread alone; "read
ahead" is what the training loop gets from Grain's threads. The first batch counts from before any
import: then come the tasks, their augmentations, and the batch.
"""

import time
from typing import Any

from benchmarks import harness
from benchmarks.harness import Column


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--batches", type=int, default=60, help="of 768 examples")
    options = parser.parse_args()
    cases = [
        {"puzzles": "arc", "noise": noise, "canvas": canvas, "batches": options.batches}
        for noise in ("uniform", "spatially_correlated")
        for canvas in (30, "fit")
    ] + [
        {"puzzles": puzzles, "noise": "uniform", "batches": options.batches}
        for puzzles in ("sudoku", "maze")
    ]
    harness.report(
        "The input pipeline",
        harness.measure_all("benchmarks.data", cases, options.rounds),
        [
            Column("case", _name),
            Column("examples/s a core", lambda r: f"{r['rate']:,.0f}"),
            Column("read ahead", lambda r: f"{r['ahead_rate']:,.0f}"),
            Column("first batch s", lambda r: f"{r['first']:.2f}"),
            Column("of which imports", lambda r: f"{r['imported']:.2f}"),
            Column("peak GB", lambda r: f"{r['peak_bytes'] / 1e9:.2f}"),
        ],
        options,
    )


def _name(row: dict[str, Any]) -> str:
    canvas = f", canvas {row['canvas']}" if "canvas" in row else ""
    return f"{row['puzzles']}{canvas}, {row['noise'].replace('_', ' ')} noise"


def _data(case: dict[str, Any]) -> Any:
    """The puzzles of a case; those that are made come from the cache after the first time."""
    from drm_jax.puzzles.arc.family import Arc
    from drm_jax.puzzles.maze.family import Maze
    from drm_jax.puzzles.sudoku.family import Sudoku

    if case["puzzles"] == "sudoku":
        return Sudoku(logic="singles", num_augmentations=1000)
    if case["puzzles"] == "maze":
        return Maze(num_augmentations=7)
    return Arc(leaks="drop", canvas=case["canvas"])


def child(case: dict[str, Any]) -> dict[str, Any]:
    """The figures of one case, in this process."""
    started = time.perf_counter()
    from drm_jax.config import Experiment
    from drm_jax.data.stream import batches_from
    from drm_jax.methods.denoising import Noise
    from drm_jax.methods.drm import Drm
    from drm_jax.run.setup import set_up, training_stream

    imported = time.perf_counter() - started
    experiment = Experiment(
        "benchmark",
        data=_data(case),
        method=Drm(noise=Noise(kind=case["noise"])),
    )
    stream = training_stream(set_up(experiment))
    stream[0]
    first = time.perf_counter() - started
    examples = case["batches"] * experiment.train.batch_size
    before = time.thread_time()  # of this thread alone
    for i in range(case["batches"]):
        stream[1 + i]
    seconds = time.thread_time() - before
    batches = batches_from(stream, 1)
    next(batches)
    before = time.perf_counter()
    for _ in range(case["batches"]):
        next(batches)
    return {
        "rate": examples / seconds,
        "ahead_rate": examples / (time.perf_counter() - before),
        "first": first,
        "imported": imported,
        "peak_bytes": harness.peak_bytes(),
    }


if __name__ == "__main__":
    harness.run(main, child)
