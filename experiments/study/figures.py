"""The figures of docs/results.md, as SVG."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.ticker
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.study.analysis import Row, mean_line, mean_of, select, tuned
from experiments.study.protocol import FAMILIES, METHODS, OWN, PUBLISHED_STEPS, TEST_STEPS
from experiments.study.scoring import LEVELS, VOTERS

TITLES = {"arc": "ARC, up to 6×6", "sudoku4": "Sudoku 4×4", "sudoku6": "Sudoku 6×6"}
_COLOURS = dict(zip((*METHODS, *OWN), mpl.colormaps["tab10"].colors, strict=False))
mpl.rcParams.update(
    {
        "svg.fonttype": "none", "svg.hashsalt": "study", "font.size": 9, "axes.grid": True,
        "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False,
        "legend.frameon": False,
    }
)  # fmt: skip


def draw_all(rows: Sequence[Row], stage: str, folder: Path) -> None:
    """Writes all figures to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "learning": learning(rows, stage),
        "passes": passes(rows, stage),
        "remask": remask(rows, stage),
        "votes": votes(rows, stage),
        "levels": levels(rows, stage),
        "paths": paths(rows, stage),
    }
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
        plt.close(figure)


def panels(titles: Sequence[str], rows: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """A figure with a column a title, and its axes, row by row."""
    figure, axes = plt.subplots(
        rows, len(titles), figsize=(3.3 * len(titles), 2.7 * rows), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure, axes.flatten()


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One of all lines, below."""
    named = {}
    for axis in axes:
        named |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=4)


def learning(rows: Sequence[Row], stage: str) -> Figure:
    """Wrong cells on the test inputs while training, by FLOPs and by steps."""
    figure, axes = panels([TITLES[family] for family in FAMILIES], rows=2)
    for i, family in enumerate(FAMILIES):
        for method in (*METHODS, *OWN):
            of_method = select(rows, stage, family, method)
            steps = [step for step, *_ in of_method[0]["evaluations"]]
            wrong = [
                sum(column) / len(column)
                for column in zip(
                    *([w for _, w, _ in row["evaluations"]] for row in of_method), strict=True
                )
            ]
            flops = of_method[0]["flops_per_step"]
            for axis, scale in ((axes[i], flops / 1e12), (axes[i + len(FAMILIES)], 1)):
                x = [step * scale for step in steps]
                axis.plot(x, wrong, marker="o", markersize=3, **_look(method))
        axes[i].set_xlabel("10¹² FLOPs of training")
        lower = axes[i + len(FAMILIES)]
        lower.set(xlabel="gradient steps", xscale="log")
        lower.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    for axis in axes[:: len(FAMILIES)]:
        axis.set_ylabel("share of wrong cells")
    legend(figure, axes)
    return figure


def ticks(axis: Axes, values: Sequence[int], label: str) -> None:
    """These values, and no others, on a logarithmic axis."""
    axis.set(xlabel=label, xscale="log")
    axis.set_xticks(values, map(str, values))
    axis.minorticks_off()


def _look(method: str) -> dict[str, Any]:
    """Of a method's line, wherever it is drawn."""
    style = "--" if method in OWN else "-"
    return {"color": _COLOURS[method], "label": method, "linestyle": style}


def passes(rows: Sequence[Row], stage: str) -> Figure:
    """Wrong cells by passes at test time."""
    figure, axes = panels([TITLES[family] for family in FAMILIES])
    for axis, family in zip(axes, FAMILIES, strict=True):
        for method in (*METHODS, *OWN):
            of_method = select(rows, stage, family, method)
            means = [mean_of(of_method, f"published@{steps}") for steps in TEST_STEPS]
            axis.errorbar(
                TEST_STEPS, [m.value for m in means], [m.error for m in means],
                **_look(method), marker="o", markersize=3,
            )  # fmt: skip
        ticks(axis, TEST_STEPS, "passes at test time")
    axes[0].set_ylabel("share of wrong cells")
    legend(figure, axes)
    return figure


def remask(rows: Sequence[Row], stage: str) -> Figure:
    """Uniform remasking against confidence, by passes."""
    figure, axes = panels([TITLES[family] for family in FAMILIES])
    kinds = {"uniform": ("published", "-"), "confidence": ("confidence", ":")}
    steps = TEST_STEPS[1:-1]
    for axis, family in zip(axes, FAMILIES, strict=True):
        for method, (kind, (setting, style)) in itertools.product(
            ("drm", "diffusion"), kinds.items()
        ):
            of_method = select(rows, stage, family, method)
            line = [mean_of(of_method, f"{setting}@{n}").value for n in steps]
            axis.plot(
                steps, line, linestyle=style, marker="o", markersize=3, color=_COLOURS[method],
                label=f"{method}, {kind}",
            )  # fmt: skip
        ticks(axis, steps, "passes at test time")
    axes[0].set_ylabel("share of wrong cells")
    legend(figure, axes)
    return figure


def votes(rows: Sequence[Row], stage: str) -> Figure:
    """pass@2 by how many candidates of an ARC test input vote."""
    figure, axis = plt.subplots(figsize=(6, 2.7), layout="constrained")
    for method in (*METHODS, *OWN):
        of_method = select(rows, stage, "arc", method)
        passes = of_method[0]["run"]["denoise_steps"]
        names = [*(f"voters{n}@{passes}" for n in VOTERS[:-1]), tuned(of_method)]
        line = [mean_of(of_method, name, "solved").value for name in names]
        axis.plot(VOTERS, line, marker="o", markersize=3, **_look(method))
    ticks(axis, VOTERS, "candidates of a test input: itself, and augmentations")
    axis.set_ylabel("pass@2")
    figure.legend(loc="outside right center")
    return figure


def levels(rows: Sequence[Row], stage: str) -> Figure:
    """Errors of one pass from a state of training, by noise level."""
    figure, axes = panels([TITLES[family] for family in FAMILIES])
    for axis, family in zip(axes, FAMILIES, strict=True):
        for method in (*METHODS, *OWN):
            of_method = select(rows, stage, family, method)
            if "errors_by_level" in of_method[0]:
                axis.plot(
                    LEVELS,
                    mean_line(of_method, "errors_by_level", "masked_wrong"),
                    **_look(method),
                )
        axis.set(xlabel="noise level of the true output", ylim=(0, None))
    axes[0].set_ylabel("of the masked cells, wrong")
    legend(figure, axes)
    return figure


def paths(rows: Sequence[Row], stage: str) -> Figure:
    """What the 16 passes of a test begin from, and answer."""
    shown: Mapping[str, str] = {
        "answered_wrong": "of the cells, answered wrongly",
        "shown_wrong": "of the cells shown, wrong",
    }  # fmt: skip
    figure, axes = panels([TITLES[family] for family in FAMILIES], rows=len(shown))
    for row, (name, label) in enumerate(shown.items()):
        for i, family in enumerate(FAMILIES):
            axis = axes[row * len(FAMILIES) + i]
            for method in (*METHODS, *OWN):
                of_method = select(rows, stage, family, method)
                if "path" in of_method[0]:
                    axis.plot(
                        range(1, PUBLISHED_STEPS + 1),
                        mean_line(of_method, "path", name),
                        **_look(method),
                    )
            axis.set_ylim(0, None)
            axis.set(xlabel="pass", xticks=(1, 4, 8, 12, 16))
        axes[row * len(FAMILIES)].set_ylabel(label)
    legend(figure, axes)
    return figure
