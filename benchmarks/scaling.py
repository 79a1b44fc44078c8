"""How time and memory of a training step grow with batch, cells, width, cycles and table rows.

    python -m benchmarks.scaling

One quantity is varied at a time, from a network of width 128 with 3 cycles on windows of 16 x 16
cells, batches of 8, float32. The exponent is the slope of the best line through the logs: 1 means
that twice as much costs twice as much.
"""

import math
from typing import Any

from benchmarks import harness, step
from benchmarks.harness import Column

_BASE = {"size": "w128", "canvas": 16, "batch": 8, "rows": 4096}
VARIED = {
    "batch": [{"batch": n} for n in (2, 4, 8, 16, 32)],
    "cells": [{"canvas": n} for n in (8, 12, 16, 22, 30)],
    "width": [{"set": f"model.hidden={n} model.heads={n // 64}"} for n in (64, 128, 256, 512)],
    "cycles": [{"set": f"method.recursion.cycles={n}"} for n in (1, 2, 4, 8, 16)],
    "table rows": [{"rows": n} for n in (1_000, 10_000, 100_000, 1_000_000)],
}


def main() -> None:
    options = harness.parser(__doc__).parse_args()
    names = [name for name, changes in VARIED.items() for _ in changes]
    changes = [change for of_one in VARIED.values() for change in of_one]
    # One device: what is split over devices would hide how the whole grows.
    cases = [step.case_of(**{**_BASE, "devices": 1, "repeats": 9, **change}) for change in changes]
    results = harness.measure_all("benchmarks.step", cases, options.rounds)
    for name, change, result in zip(names, changes, results, strict=True):
        result |= {"varied": name, "value": value_of(name, change)}
    rows = []
    for name in VARIED:
        of_one = [result for result in results if result["varied"] == name]
        of_one[-1] |= {
            "time_exponent": slope(of_one, "seconds"),
            "peak_exponent": slope(of_one, "peak_bytes"),
            "scratch_exponent": slope(of_one, "scratch_bytes"),
        }
        rows += of_one
    harness.report(
        "How a training step grows",
        rows,
        [
            Column("varied", lambda r: r["varied"]),
            Column("value", lambda r: f"{r['value']:,}"),
            Column("ms", lambda r: f"{1e3 * r['seconds']:.1f}"),
            Column("exponent", lambda r: _exponent(r, "time_exponent")),
            Column("peak MB", lambda r: f"{r['peak_bytes'] / 1e6:,.0f}"),
            Column("exponent", lambda r: _exponent(r, "peak_exponent")),
            Column("scratch MB", lambda r: f"{r['scratch_bytes'] / 1e6:,.1f}"),
            Column("exponent", lambda r: _exponent(r, "scratch_exponent")),
            Column("of matmul", lambda r: f"{r['flops'] / r['seconds'] / r['matmul']:.0%}"),
        ],
        options,
    )


def value_of(name: str, change: dict[str, Any]) -> int:
    """What was varied, as a number."""
    value = next(iter(change.values()))
    if isinstance(value, str):
        value = int(value.split()[0].partition("=")[2])
    return value**2 if name == "cells" else value


def slope(results: list[dict[str, Any]], figure: str) -> float:
    """Of the line through the logs that has the least squares."""
    x = [math.log(result["value"]) for result in results]
    y = [math.log(result[figure]) for result in results]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - mean_x) ** 2 for a in x)


def _exponent(result: dict[str, Any], name: str) -> str:
    return f"{result[name]:.2f}" if name in result else ""


if __name__ == "__main__":
    main()
