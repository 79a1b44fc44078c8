"""Two settings compared by the cells that they have right, paired by seed and test input.

    python -m benchmarks.paired --a runs/full_0 runs/full_1 --b runs/fit_0 runs/fit_1

Reads what `drm train` or `drm eval` left in each work directory: the newest evaluation. The n-th of
--a is paired with the n-th of --b: they have one seed and the same tasks. The 95% interval is that
of Student's t over all pairs, and over test inputs, whose seeds are averaged first.
"""

import argparse
import json
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table
from scipy import stats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--a", nargs="+", type=Path, required=True, metavar="WORKDIR")
    parser.add_argument("--b", nargs="+", type=Path, required=True, metavar="WORKDIR")
    options = parser.parse_args()
    if len(options.a) != len(options.b):
        parser.error("--a and --b must name as many work directories")
    table = Table(title="Share of cells that candidates have right, mean over test inputs")
    for name in ("a", "b", "of a", "of b", "b - a"):
        table.add_column(name, justify="right")
    differences = []
    for a, b in zip(options.a, options.b, strict=True):
        of_a, of_b = accuracies(a), accuracies(b)
        if of_a.keys() != of_b.keys():
            parser.error(f"{a} and {b} have answered other test inputs")
        differences.append([of_b[key] - of_a[key] for key in of_a])
        means = [statistics.fmean(of.values()) for of in (of_a, of_b)]
        table.add_row(
            str(a),
            str(b),
            *(f"{mean:.1%}" for mean in means),
            f"{100 * (means[1] - means[0]):+.1f}",
        )
    Console().print(table)
    flat = [x for of_seed in differences for x in of_seed]
    of_tests = [statistics.fmean(of_test) for of_test in zip(*differences, strict=True)]
    for name, values in (("seeds and test inputs", flat), ("test inputs", of_tests)):
        middle, half = statistics.fmean(values), half_interval(values)
        print(
            f"b - a over {len(values)} {name}: {100 * middle:+.1f} points, 95% interval "
            f"{100 * (middle - half):+.1f} to {100 * (middle + half):+.1f}"
        )


def accuracies(workdir: Path) -> dict[tuple[str, int], float]:
    """The newest evaluation's accuracy of each test input whose output is known."""
    files = workdir.glob("eval/step_*/metrics.json")
    newest = max(files, key=lambda file: int(file.parent.name.removeprefix("step_")), default=None)
    if newest is None:
        raise SystemExit(f"{workdir}: has no evaluation: drm eval {workdir}")
    rows = json.loads(newest.read_text(encoding="utf-8"))["per_task"]
    found = {
        (name, t): value
        for name, row in rows.items()
        for t, value in enumerate(row["cell_accuracy"])
    }
    return {key: value for key, value in found.items() if value is not None}


def half_interval(values: list[float]) -> float:
    """Half of the 95% interval of the mean."""
    error = statistics.stdev(values) / len(values) ** 0.5
    return float(stats.t.ppf(0.975, len(values) - 1)) * error


if __name__ == "__main__":
    main()
