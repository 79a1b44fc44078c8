"""Curves as SVG: lines over training steps, of one run or several."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

WIDTH, HEIGHT = 320, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 24
_MOST_POINTS = 400

Series = Mapping[str, Sequence[tuple[int, float]]]


def curve(
    series: Series, percent: bool = False, places: Sequence[str] = ()
) -> dict[str, object] | None:
    """Where the lines of a chart go, for the template; None where there is no point.

    Each line has a number, that of its run. Lines after the first are dashed, later ones with
    longer gaps, and the first ones are thicker: where lines coincide, all of them are seen.

    Args:
      series: points (step, value) by the name of the run; one of a single point becomes a dot.
      percent: whether values are shares.
      places: what the steps 0, 1, … are called; none: steps are numbers.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return None
    steps, values = zip(*points, strict=True)
    x_ticks, y_ticks = _ticks(0, max(steps)), _ticks(min(0.0, *values), max(values))
    x_end, y_first, y_end = max(*steps, 1), min(y_ticks[0], *values), max(y_ticks[-1], *values)
    y_end = y_end if y_end > y_first else y_first + 1

    def place(step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * step / x_end
        y = HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - y_first) / (y_end - y_first)
        return round(x, 1), round(y, 1)

    return {
        "width": WIDTH,
        "height": HEIGHT,
        "x_ticks": [
            (place(x, y_first), places[int(x)] if places else _short(x))
            for x in (range(len(places)) if places else x_ticks)
            if x <= x_end
        ],
        "y_ticks": [
            (place(0, y), f"{y:.0%}" if percent else _short(y)) for y in y_ticks if y <= y_end
        ],
        "bottom": HEIGHT - _BOTTOM,
        "right": WIDTH - _RIGHT,
        "lines": [
            {
                "name": name,
                "number": number,
                "dash": dash(number),
                "thickness": _larger_before(1.8, 3.0, number, len(series)),
                "radius": _larger_before(3.0, 4.0, number, len(series)),
                "points": " ".join(f"{x},{y}" for x, y in (place(*p) for p in _thinned(line))),
                "end": place(*line[-1]),
                "last": f"{line[-1][1]:.1%}" if percent else _short(line[-1][1]),
            }
            for number, (name, line) in enumerate(series.items())
            if line
        ],
    }


def dash(number: int) -> str:
    """The dashes of a run's line, as SVG has them; those of the first are none."""
    return f"{max(2, 9 - number)} {4 + 2 * number}" if number else "none"


def _larger_before(least: float, range_: float, number: int, count: int) -> float:
    """A size that falls from line to line, to `least` of the last one."""
    return round(least + min(0.8, range_ / max(count - 1, 1)) * (count - 1 - number), 2)


def _thinned(line: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most some hundred points: means of neighbours."""
    if len(line) <= _MOST_POINTS:
        return list(line)
    return [
        (float(np.mean([x for x, _ in part])), float(np.mean([y for _, y in part])))
        for i in range(_MOST_POINTS)
        for part in [line[len(line) * i // _MOST_POINTS : len(line) * (i + 1) // _MOST_POINTS]]
    ]


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers from at most `low` to at most `high`."""
    span = high - low or 1.0
    unit = 10 ** math.floor(math.log10(span))
    step = next(unit * k for k in (0.2, 0.5, 1, 2) if span / (unit * k) <= 5)
    first = math.floor(low / step)
    return [round(step * i, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _short(value: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"
