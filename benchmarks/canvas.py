"""canvas=fit against the full canvas on the mix of grids of ARC-AGI-1, training and evaluation.

    python -m benchmarks.canvas                       widths 64 and 512 (the 7M model)
    python -m benchmarks.canvas --windows 10 16 22 30

Each window's step is timed, and weighed with its share of the training pairs, or of the test inputs
of the evaluation tasks. Evaluation again on a larger window, of answers that touch the border, is
not counted: how many do depends on the model.
"""

import statistics
from typing import Any

from benchmarks import harness, step
from benchmarks.harness import Column
from drm_jax.puzzles.arc.family import Arc


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=step.SIZES, default=["w64", "7m"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--windows", type=int, nargs="+", default=list(Arc.windows))
    parser.add_argument("--repeats", type=int, default=3, help="of each window, in turns")
    options = parser.parse_args()
    cases = [
        step.case_of(
            what=what, size=size, batch=options.batch, windows=options.windows,
            set=f"data.canvas=fit data.windows={','.join(map(str, options.windows))}",
            repeats=options.repeats,
        )
        for size in options.sizes
        for what in ("train", "evaluate")
    ]  # fmt: skip
    harness.report(
        f"Windows of {', '.join(map(str, options.windows))} against the whole canvas",
        harness.measure_all("benchmarks.canvas", cases, options.rounds),
        [
            Column("case", lambda r: f"{r['what']} {r['size']} batch {r['batch']}"),
            Column("share of each window", lambda r: _of_each(r["shares"], "{:.0%}")),
            Column("seconds of a batch", lambda r: _of_each(r["seconds"], "{:.3f}")),
            Column("full examples/s", lambda r: f"{r['full_rate']:.2f}"),
            Column("fit examples/s", lambda r: f"{r['fit_rate']:.2f}"),
            Column("times", lambda r: f"{r['fit_rate'] / r['full_rate']:.2f}"),
            Column("times by FLOPs", lambda r: f"{r['flops_ratio']:.2f}"),
        ],
        options,
    )


def _of_each(values: list[float], form: str) -> str:
    return " ".join(map(form.format, values))


def window_shares(what: str, windows: list[int]) -> list[float]:
    """Shares of windows: of the training pairs, or of where test inputs are answered first."""
    from drm_jax.puzzles import boards

    data = Arc(
        train=("arc1/training",), evaluate=("arc1/evaluation",), leaks="drop", num_augmentations=0,
        canvas="fit", windows=tuple(windows),
    )  # fmt: skip
    puzzles = data.load(seed=0, kept={})
    found = puzzles.board_E if what == "train" else puzzles.questions(0).board_R
    return boards.window_shares(found, data.boards)


def child(case: dict[str, Any]) -> dict[str, Any]:
    """The figures of one case, in this process."""
    windows, running = case["windows"], step.Running(case)
    jobs = [running.program(side)[0] for side in windows]
    for job in jobs:
        harness.timed(job, 1)
    turns = [[harness.timed(job, 1)[0] for job in jobs] for _ in range(case["repeats"])]
    seconds = [statistics.median(of_one) for of_one in zip(*turns, strict=True)]
    shares = window_shares(case["what"], windows)
    mean = sum(share * of_one for share, of_one in zip(shares, seconds, strict=True))
    flops = [step.flops_of(running.experiment, case["what"], side) for side in windows]
    return {
        "shares": shares,
        "seconds": seconds,
        "full_rate": case["batch"] / seconds[-1],
        "fit_rate": case["batch"] / mean,
        "flops_ratio": flops[-1] / sum(map(lambda s, f: s * f, shares, flops)),
    }


if __name__ == "__main__":
    harness.run(main, child)
