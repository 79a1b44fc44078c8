"""The second part of docs/results.md: its tables and figures from the rows of `thinking`."""

import functools
import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from drm_jax.evaluate.sweep import choices_of
from drm_jax.puzzles.arc.tasks import load_source
from experiments.study import paths
from experiments.study.analysis import Difference, Mean, Row, Units, mean, paired, select
from experiments.study.figures import legend, panels, ticks
from experiments.study.pages import rendered, table
from experiments.study.thinking import (
    FAMILIES,
    LATENT_NOISE,
    METHODS,
    OPTIONS,
    OPTIONS_OF,
    PASSES,
    ROLLOUT_PASSES,
    ROLLOUTS,
    SEEDS,
    TERAFLOPS,
    TESTS,
    TRIED,
    arc_tasks,
    best_rate,
    solved,
    solved_by_rate,
    tests_of,
)

TITLES = {
    "sudoku6": "Sudoku 6×6", "sudoku9": "Sudoku 9×9", "maze9": "mazes 9×9",
    "arc8": "ARC, up to 8×8",
}  # fmt: skip
KINDS = {"own": "as trained", "search": "that may need a search"}
Solved = Callable[[Row], str]
"""Which tests a row's run has solved: "1" or "0" of each."""


def is_complete(rows: Sequence[Row]) -> bool:
    """Whether there is a final row of every method, family, seed and option."""
    wanted = [("final", *of) for of in itertools.product(FAMILIES, METHODS)]
    wanted += [("options", OPTIONS_OF, name) for name in ("drm", *OPTIONS)]
    return all(len(select(rows, *of)) >= len(SEEDS) for of in wanted)


def page(rows: Sequence[Row]) -> str:
    """Its text; what needs the final runs is left out while one of them is missing."""
    complete = is_complete(rows)
    return rendered(
        "thinking.md.jinja",
        complete=complete, teraflops=TERAFLOPS, tests=TESTS,
        tuned_table=table(tuned_table(rows)), tried_table=table(tried_table(rows)),
        tuning_table=table(tuning_table(rows)), **(_of_final_runs(rows) if complete else {}),
    )  # fmt: skip


def _of_final_runs(rows: Sequence[Row]) -> dict[str, Any]:
    """What the page says of them."""
    titles = titles_of_tests()
    hardest = [(family, hardest_of(family)) for family in FAMILIES]
    return {
        "rollout_passes": ROLLOUT_PASSES,
        "latent_noise": LATENT_NOISE,
        "depth_tables": [(title, table(depth_table(rows, *of))) for of, title in titles.items()],
        "breadth_tables": [(titles[of], table(breadth_table(rows, *of))) for of in hardest],
        "errors_table": table(errors_table(rows)),
        "galleries": [(titles[of], gallery_name(*of)) for of in examples_of(rows)],
        "options_table": table(options_table(rows)),
    }


def hardest_of(family: str) -> str:
    """The kind of its hardest tests."""
    return [*tests_of(family)][-1]


def titles_of_tests() -> dict[tuple[str, str], str]:
    """By family and kind."""
    return {
        (family, kind): f"{TITLES[family]}, tests {KINDS[kind]}"
        for family in FAMILIES
        for kind in tests_of(family)
    }


def by_passes(kind: str, passes: int) -> Solved:
    return lambda row: row[kind]["depth"][str(passes)]


def by_rollouts(kind: str, count: int, choice: str) -> Solved:
    return lambda row: row[kind]["breadth"][str(count)][choice]


def share(rows: Sequence[Row], solved: Solved) -> Mean:
    """Of tests that were solved, over seeds."""
    return mean([solved(row).count("1") / len(solved(row)) for row in rows])


def passes_of(rows: Sequence[Row], family: str, method: str) -> int:
    """How many passes did best in tuning, at the rate that did best there; of equals the fewest."""
    best = best_rate(rows, family, method)
    tuned = select(rows, "tuning", family, method)
    (row,) = (row for row in tuned if row["run"]["learning_rate"] == best)
    return max(PASSES, key=lambda passes: solved(row, passes))


def compare(
    rows: Sequence[Row], solved: Solved, against: Sequence[Row], other: Solved
) -> Difference:
    """How many more tests are solved: the same tests, and as many seeds as both have."""
    both = {row["run"]["seed"] for row in rows} & {row["run"]["seed"] for row in against}
    first, second = ([r for r in of if r["run"]["seed"] in both] for of in (rows, against))
    family = rows[0]["run"]["family"]
    return paired(
        [
            (_units(family, solved(a)), _units(family, other(b)))
            for a, b in zip(first, second, strict=True)
        ]
    )


def _units(family: str, bits: str) -> Units:
    """Of ARC by task, otherwise by puzzle."""
    if family != "arc8":
        return {f"{i:04}": [float(bit)] for i, bit in enumerate(bits)}
    units: dict[str, list[float]] = {}
    for task, bit in zip(_task_of_test(), bits, strict=True):
        units.setdefault(task, []).append(float(bit))
    return units


@functools.cache
def _task_of_test() -> tuple[str, ...]:
    """The ids of the final ARC tasks, each once a test input, in the order of a row's tests."""
    count = {task.id: len(task.tests) for task in load_source("arc1/training")}
    return tuple(itertools.chain(*([task] * count[task] for task in sorted(arc_tasks()[1]))))


def rises(rows: Sequence[Row], kind: str) -> bool:
    """Whether the mean over seeds never falls from one number of passes to the next, and rises."""
    line = [share(rows, by_passes(kind, passes)).value for passes in PASSES]
    return all(a <= b for a, b in itertools.pairwise(line)) and line[0] < line[-1]


# --- tables: the first line is the head -----------------------------------------------------------
def depth_table(rows: Sequence[Row], family: str, kind: str) -> Iterator[Sequence[Any]]:
    """Solved by passes; with the passes that did best in tuning, against the published drm."""
    yield (
        "method", "rate", "seeds", *(f"{n}" for n in PASSES), "never falls", "passes as tuned",
        "solved so", "against `drm`, points",
    )  # fmt: skip
    drm = select(rows, "final", family, "drm")
    as_drm = by_passes(kind, passes_of(rows, family, "drm"))
    for method in METHODS:
        found = select(rows, "final", family, method)
        passes = passes_of(rows, family, method)
        as_tuned = by_passes(kind, passes)
        yield (
            f"`{method}`", f"{found[0]['run']['learning_rate']:g}", len(found),
            *(share(found, by_passes(kind, n)) for n in PASSES),
            "yes" if rises(found, kind) else "no", passes, share(found, as_tuned),
            "" if method == "drm" else compare(found, as_tuned, drm, as_drm),
        )  # fmt: skip


def breadth_table(rows: Sequence[Row], family: str, kind: str) -> Iterator[Sequence[Any]]:
    """Solved by so many rollouts, by how one is chosen."""
    choices = choices_of(FAMILIES[family][0])
    yield "method", "1 rollout", *(f"{n}, {c}" for n in ROLLOUTS[1:] for c in choices)
    for method in METHODS:
        found = select(rows, "final", family, method)
        yield (
            f"`{method}`", share(found, by_rollouts(kind, 1, "votes")),
            *(share(found, by_rollouts(kind, n, c)) for n in ROLLOUTS[1:] for c in choices),
        )  # fmt: skip


def errors_table(rows: Sequence[Row]) -> Iterator[Sequence[Any]]:
    """What 32 passes have answered; see `paths.summary`."""
    passes = (1, 4, 16)
    yield (
        "puzzles", "method", *(f"wrong after {n}, mended" for n in passes),
        *(f"right after {n}, spoiled" for n in passes), "was right, is lost",
        "wrong: cells", "wrong: still changing", "wrong: says it is right",
    )  # fmt: skip
    for (family, kind), title in titles_of_tests().items():
        for method in METHODS:
            found = [row[kind]["path"] for row in select(rows, "final", family, method)]
            cells = [of["wrong_cells"] for of in found if of["wrong_cells"] is not None]
            yield (
                title, f"`{method}`",
                *(_mean_of_known([of["mended"][n - 1] for of in found]) for n in passes),
                *(_mean_of_known([of["spoiled"][n - 1] for of in found]) for n in passes),
                _mean_of_known([of["lost"] for of in found]),
                f"{statistics.fmean(cells):.1f}" if cells else "–",
                _mean_of_known([of["moving"] for of in found]),
                _mean_of_known([of["sure_wrong"] for of in found]),
            )  # fmt: skip


def _mean_of_known(shares: Sequence[float | None]) -> str:
    """In per cent, over the rows that have one; a dash where none has."""
    known = [share for share in shares if share is not None]
    return str(mean(known)) if known else "–"


def options_table(rows: Sequence[Row]) -> Iterator[Sequence[Any]]:
    """The effect of each option on one family, at the passes and the rate of `drm`."""
    yield "option", "steps", *(f"{KINDS[kind]}, points" for kind in tests_of(OPTIONS_OF))
    for option, changes in OPTIONS.items():
        before = "drm_inner2" if option == "drm_inner2_grad1" else "drm"
        found, against = (select(rows, "options", OPTIONS_OF, name) for name in (option, before))
        passes = passes_of(rows, OPTIONS_OF, "drm")
        named = ", ".join(f"`{k}={str(v).lower()}`" for k, v in changes.items())
        yield (
            f"{named}, against `{before}`", f"{found[0]['steps']:,}",
            *(
                compare(found, by_passes(kind, passes), against, by_passes(kind, passes))
                for kind in tests_of(OPTIONS_OF)
            ),
        )  # fmt: skip


def tuned_table(rows: Sequence[Row]) -> Iterator[Sequence[Any]]:
    """Of each method the run of tuning that did best: solved by passes."""
    yield "puzzles", "method", "rate", *(f"{n}" for n in PASSES)
    for (family, kind), title in titles_of_tests().items():
        for method in METHODS:
            rate = best_rate(rows, family, method)
            found = select(rows, "tuning", family, method)
            best = [row for row in found if row["run"]["learning_rate"] == rate]
            if best:
                cells = (share(best, by_passes(kind, n)) for n in PASSES)
                yield title, f"`{method}`", f"{rate:g}", *cells


def tried_table(rows: Sequence[Row]) -> Iterator[Sequence[Any]]:
    """Each run of a setting that was tried, and of `drm_rollout`: solved by passes, of the hardest
    tests."""
    yield "setting", "puzzles", "rate", *(f"{n}" for n in PASSES)
    for family, setting in itertools.product(FAMILIES, (*TRIED, "drm_rollout")):
        kind = hardest_of(family)
        found = select(rows, "tried" if setting in TRIED else "tuning", family, setting)
        for row in sorted(found, key=lambda row: row["run"]["learning_rate"]):
            cells = (share([row], by_passes(kind, n)) for n in PASSES)
            yield (
                f"`{setting}`", f"{TITLES[family]}, {KINDS[kind]}",
                f"{row['run']['learning_rate']:g}", *cells,
            )  # fmt: skip


def tuning_table(rows: Sequence[Row]) -> Iterator[Sequence[Any]]:
    """Of every run of tuning the share solved, with its best number of passes."""
    rates = sorted({r["run"]["learning_rate"] for r in rows if r["run"]["stage"] == "tuning"})
    yield "puzzles", "method", *(f"{rate:g}" for rate in rates)
    for family, method in itertools.product(FAMILIES, METHODS):
        found: Mapping[float, float] = solved_by_rate(rows, family, method)
        if found:
            best = best_rate(rows, family, method)
            cells = {rate: f"{100 * best_share:.1f}" for rate, best_share in found.items()}
            cells[best] = f"**{cells[best]}**"
            yield TITLES[family], f"`{method}`", *(cells.get(rate, "") for rate in rates)


# --- figures --------------------------------------------------------------------------------------
def depth_figure(rows: Sequence[Row]) -> Figure:
    """The share of tests solved by passes, a panel for each kind of tests."""
    titles = titles_of_tests()
    half = len(titles) // 2
    figure, axes = panels(list(titles.values())[:half], rows=2)
    for axis, ((family, kind), title) in zip(axes, titles.items(), strict=True):
        axis.set_title(title)
        for number, method in enumerate(METHODS):
            found = select(rows, "final", family, method)
            means = [share(found, by_passes(kind, n)) for n in PASSES]
            axis.errorbar(
                PASSES, [m.value for m in means], [m.error for m in means], label=method,
                color=f"C{number}", marker="o", markersize=3,
            )  # fmt: skip
        ticks(axis, PASSES, "passes at test time")
    for axis in axes[::half]:
        axis.set_ylabel("share solved")
    legend(figure, axes)
    return figure


def examples_of(rows: Sequence[Row]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """By family and its hardest kind: examples of what `drm_rollout` answers, first seed."""
    found = {}
    for family in FAMILIES:
        kind = hardest_of(family)
        first = select(rows, "final", family, "drm_rollout")[0]
        found[family, kind] = first[kind]["path"]["examples"]
    return found


def gallery_name(family: str, kind: str) -> str:
    """The file of its examples."""
    return f"thinking_paths_{family}_{kind}.png"


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Writes the figures to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for (family, kind), examples in examples_of(rows).items():
        picture = paths.gallery(examples, FAMILIES[family][0])
        (folder / gallery_name(family, kind)).write_bytes(picture)
    path = folder / "thinking_depth.svg"
    depth_figure(rows).savefig(path, metadata={"Date": None}, bbox_inches="tight")
