"""docs/results.md: its tables and figures from the rows, its account from results.md.jinja."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.study import figures, thinking_results
from experiments.study.analysis import Row, compare, mean, mean_line, mean_of, select, tuned
from experiments.study.pages import rendered, table
from experiments.study.protocol import (
    FAMILIES,
    LEARNING_RATES,
    METHODS,
    OWN,
    OWN_AT_TEST,
    PUBLISHED_STEPS,
    TERAFLOPS,
    TEST_STEPS,
)
from experiments.study.scoring import LEVELS

_AT_16 = f"published@{PUBLISHED_STEPS}"


def write_results(
    rows: Sequence[Row], stage: str, folder: Path, of_thinking: Sequence[Row] = ()
) -> list[Path]:
    """Writes results.md, and the figures beside it in images/results; returns their paths."""
    images = folder / "images" / "results"
    figures.draw_all(rows, stage, images)
    if thinking_results.is_complete(of_thinking):
        thinking_results.draw(of_thinking, images)
    path = folder / "results.md"
    path.write_text(page(rows, stage, of_thinking), encoding="utf-8")
    return [path, *sorted(images.glob("*.svg"))]


def page(rows: Sequence[Row], stage: str, of_thinking: Sequence[Row] = ()) -> str:
    """The text of results.md: its first part, and the second one if it has rows."""
    first = _first_part(rows, stage)
    if not of_thinking:
        return first
    return f"{first}\n{thinking_results.page(of_thinking)}"


def _first_part(rows: Sequence[Row], stage: str) -> str:
    of_stage = [row for row in rows if row["run"]["stage"] == stage]
    tuning = [row for row in rows if row["run"]["stage"] == "tuning"]
    return rendered(
        "results.md.jinja",
        stage=stage,
        families=[(family, figures.TITLES[family]) for family in FAMILIES],
        teraflops=TERAFLOPS,
        main_tables={family: table(main_table(rows, stage, family)) for family in FAMILIES},
        own_table=table(own_table(rows, stage)),
        at_test_table=table(at_test_table(rows, stage)),
        tuning_table=table(tuning_table(tuning)) if tuning else "",
        levels_table=table(levels_table(rows, stage)),
        states_table=table(states_table(rows, stage)),
        made_with=_made_with(of_stage + tuning),
        as_arc_task=any("made_as" in row for row in of_stage + tuning),
        **_facts(rows, stage),
        hours=sum(row["seconds"] + row["seconds_of_scoring"] for row in of_stage + tuning) / 3600,
        runs=len(of_stage + tuning),
    )


def _facts(rows: Sequence[Row], stage: str) -> dict[str, Callable[..., str]]:
    """Functions of family and method by which the account names a number of the rows."""

    def wrong(family: str, method: str, setting: str | None = None) -> str:
        found = select(rows, stage, family, method)
        return f"{mean_of(found, setting or tuned(found))}%"

    def solved(family: str, method: str, setting: str | None = None) -> str:
        found = select(rows, stage, family, method)
        return f"{mean_of(found, setting or tuned(found), 'solved')}%"

    def against(family: str, method: str, other: str, *settings: str) -> str:
        found, others = (select(rows, stage, family, name) for name in (method, other))
        here, there = settings or (tuned(found), tuned(others))
        return str(compare(found, here, others, there))

    def in_path(family: str, method: str, part: str, number: int) -> str:
        line = mean_line(select(rows, stage, family, method), "path", part)
        return f"{100 * line[number - 1]:.1f}%"

    def at_level(family: str, method: str, level: int, part: str = "masked_wrong") -> str:
        line = mean_line(select(rows, stage, family, method), "errors_by_level", part)
        return f"{100 * line[LEVELS.index(level)]:.1f}%"

    def while_training(family: str, method: str, number: int) -> str:
        """At the n-th evaluation of a run: wrong cells, and after how many steps."""
        found = select(rows, stage, family, method)
        points = [row["evaluations"][number - 1] for row in found]
        return f"{mean([wrong for _, wrong, _ in points])}% after {points[0][0]:,} steps"

    return {
        "while_training": while_training, "wrong": wrong, "solved": solved, "against": against,
        "in_path": in_path, "at_level": at_level,
    }  # fmt: skip


def main_table(rows: Sequence[Row], stage: str, family: str) -> Iterator[Sequence[Any]]:
    """All methods at the passes that did best in tuning, and at the published 16."""
    solved = "pass@2, %" if family == "arc" else "solved, %"
    yield (
        "method", "steps", "rate", "passes", "wrong cells, %", solved, "wrong at 16 passes, %",
        "wrong cells against drm, points",
    )  # fmt: skip
    drm = select(rows, stage, family, "drm")
    for method in METHODS:
        of_method = select(rows, stage, family, method)
        run = of_method[0]["run"]
        setting = tuned(of_method)
        difference = compare(of_method, setting, drm, tuned(drm))
        yield (
            f"`{method}`", f"{of_method[0]['steps']:,}", f"{run['learning_rate']:g}",
            run["denoise_steps"], mean_of(of_method, setting),
            mean_of(of_method, setting, "solved"), mean_of(of_method, _AT_16),
            "" if method == "drm" else difference,
        )  # fmt: skip


def own_table(rows: Sequence[Row], stage: str) -> Iterator[Sequence[Any]]:
    """Our own changes in training against `drm`, at 16 passes and at each one's tuned passes."""
    yield (
        "change", "tasks", "wrong at 16 passes, %", "against drm at 16, points", "passes",
        "wrong cells, %", "pass@2 or solved, %", "against drm, each as tuned, points",
    )  # fmt: skip
    for method, family in itertools.product(("drm", *OWN), FAMILIES):
        drm, changed = (select(rows, stage, family, name) for name in ("drm", method))
        names = tuned(changed), tuned(drm)
        own = method != "drm"
        yield (
            f"`{method}`", figures.TITLES[family], mean_of(changed, _AT_16),
            compare(changed, _AT_16, drm, _AT_16) if own else "",
            changed[0]["run"]["denoise_steps"], mean_of(changed, names[0]),
            mean_of(changed, names[0], "solved"),
            compare(changed, names[0], drm, names[1]) if own else "",
        )  # fmt: skip


def at_test_table(rows: Sequence[Row], stage: str) -> Iterator[Sequence[Any]]:
    """Changes at test time alone, at 16 passes, against the published 16, of the same weights."""
    yield "change at 16 passes", *(f"{figures.TITLES[family]}, points" for family in FAMILIES)
    for change, options in OWN_AT_TEST.items():
        named = ", ".join(f"`{k}={str(v).lower()}`" for k, v in options.items())
        cells = []
        for family in FAMILIES:
            drm = select(rows, stage, family, "drm")
            cells.append(compare(drm, f"{change}@{PUBLISHED_STEPS}", drm, _AT_16))
        yield named, *cells


def tuning_table(tuning: Sequence[Row]) -> Iterator[Sequence[Any]]:
    """Wrong cells of every run of tuning, with the passes at which there were fewest."""
    rates = sorted(LEARNING_RATES)
    yield "tasks", "method", *(f"{rate:g}" for rate in rates)
    for family, method in itertools.product(FAMILIES, (*METHODS, *OWN)):
        found = {
            row["run"]["learning_rate"]: min(
                (row["scores"][f"published@{n}"]["wrong_cells"], n) for n in TEST_STEPS
            )
            for row in select(tuning, "tuning", family, method)
        }
        cells = {rate: f"{100 * wrong:.1f} ({passes})" for rate, (wrong, passes) in found.items()}
        if len(found) > 1:
            best = min(found, key=found.get)
            edge = "†" if best in (rates[0], rates[-1]) else ""
            cells[best] = f"**{cells[best]}**{edge}"
        yield figures.TITLES[family], f"`{method}`", *(cells.get(rate, "") for rate in rates)


def levels_table(rows: Sequence[Row], stage: str) -> Iterator[Sequence[Any]]:
    """Errors of one pass from the true output, masked at a level."""
    shown = [100, 300, 500, 700, 900, 1000]
    yield "tasks", "method", *(f"level {level}" for level in shown), "shown cells, at 500"
    for family, method in itertools.product(FAMILIES, ("drm", "diffusion", *OWN)):
        of_method = select(rows, stage, family, method)
        masked = mean_line(of_method, "errors_by_level", "masked_wrong")
        kept = mean_line(of_method, "errors_by_level", "shown_wrong")
        yield (
            figures.TITLES[family], f"`{method}`",
            *(f"{100 * masked[LEVELS.index(level)]:.1f}" for level in shown),
            f"{100 * kept[LEVELS.index(500)]:.1f}",
        )  # fmt: skip


def states_table(rows: Sequence[Row], stage: str) -> Iterator[Sequence[Any]]:
    """What some of the 16 passes of a test begin from, and answer."""
    yield (
        "tasks", "method", "pass", "masked, %", "of the shown cells wrong, %",
        "of those outside of the grid not PAD, %", "answered wrongly, %",
    )  # fmt: skip
    for family, method in itertools.product(FAMILIES, ("drm", "drm_own_answers")):
        of_method = select(rows, stage, family, method)
        for number in (1, 2, 3, 8, 16):
            parts = ("masked", "shown_wrong", "outside_not_pad", "answered_wrong")
            values = [mean_line(of_method, "path", part)[number - 1] for part in parts]
            cells = ("–" if x != x else f"{100 * x:.1f}" for x in values)
            yield figures.TITLES[family], f"`{method}`", number, *cells


def _made_with(rows: Sequence[Row]) -> str:
    """Versions and devices of the rows, and when they were made."""
    found = {
        tuple(row["made_with"][k] for k in ("drm_jax", "jax", "python", "devices")) for row in rows
    }
    days = sorted({row["made_with"]["time"][:10] for row in rows})
    texts = [f"drm_jax {d}, jax {j}, Python {p}, {c}" for d, j, p, c in sorted(found)]
    return f"{'; '.join(texts)}; {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else "")
