"""Score tables for the terminal, and for notebooks."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from drm_jax.words import counted


class Scored(Protocol):
    """What is shown of an `evaluate.files.Evaluation`."""

    steps: tuple[int, ...]
    step: int
    is_ensemble: bool
    metrics: Mapping[str, Any]


class Plotted(Protocol):
    """What is shown of an `evaluate.curves.Curve`."""

    kind: str
    step: int
    headline: str
    test_inputs: int
    points: Sequence[Any]


def answers_of(evaluation: Scored) -> str:
    """Whose answers they are, in words."""
    if evaluation.is_ensemble:
        return f"ensemble of steps {', '.join(map(str, evaluation.steps))}"
    if evaluation.step:
        return f"step {evaluation.step}"
    begun_with = evaluation.metrics.get("initial_weights")
    return f"initial weights from {begun_with}" if begun_with else "untrained model"


def passes(metrics: Sequence[Mapping[str, Any]]) -> list[int]:
    """The k, ascending, of the scores pass@k that are shown: none is beyond the votes.

    Empty where answers aren't ranked by votes.
    """
    names = {name for of in metrics for name in of if name.startswith("pass@")}
    shown = (name for name in names if any(is_shown(name, of) for of in metrics))
    return sorted(int(name.removeprefix("pass@")) for name in shown)


def is_shown(name: str, metrics: Mapping[str, Any]) -> bool:
    """Whether metrics have a score, and it is not pass@k of more answers than there were votes."""
    votes = max(metrics.get("votes", math.inf), 1)  # earlier versions didn't count them
    of_votes = not name.startswith("pass@") or int(name.removeprefix("pass@")) <= votes
    return name in metrics and of_votes


def score_table(evaluations: Sequence[Scored], baselines: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row a checkpoint or ensemble, after those of answers that need no network.

    Args:
      baselines: from `Puzzles.baselines`.
    """
    width = max(map(len, baselines), default=20)  # a long list of steps must leave room for scores
    rows = list(baselines.items())
    rows += [(textwrap.fill(answers_of(e), width), e.metrics) for e in evaluations]
    ks = passes([metrics for _, metrics in rows])
    return _pass_table(rows, ks) if ks else _plain_table(rows)


_Rows = Sequence[tuple[str, Mapping[str, Any]]]


def _pass_table(rows: _Rows, ks: Sequence[int]) -> Table:
    table = Table(title="Held-out test inputs solved with 2 attempts, and pass@k over tasks")
    table.add_column("answers of", no_wrap=True)
    table.add_column("solved", justify="right", no_wrap=True)
    for k in ks:
        table.add_column(f"pass@{k}" if k == ks[0] else f"@{k}", justify="right")
    for name, metrics in rows:
        if not metrics["test_inputs"]:
            table.add_row(name, "unknown", *[""] * len(ks))
            continue
        solved = f"{metrics['solved@2']} of {metrics['test_inputs']}"
        names = [f"pass@{k}" for k in ks]
        passed = (_percent(metrics[x]) if is_shown(x, metrics) else "" for x in names)
        table.add_row(name, solved, *passed)
    return table


def _plain_table(rows: _Rows) -> Table:
    table = Table(title="Held-out test inputs")
    table.add_column("answers of", no_wrap=True)
    names = shares([metrics for _, metrics in rows]) or ["score"]
    for name in names:
        table.add_column(score_words(name), justify="right", no_wrap=True)
    for title, metrics in rows:
        table.add_row(title, *(_percent(metrics[x]) if x in metrics else "unknown" for x in names))
    return table


def shares(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of scores that are shares: numbers with a fraction. Counts are whole numbers."""
    found = dict.fromkeys(k for of in metrics for k, value in of.items() if type(value) is float)
    return sorted(found, key="cell_accuracy".__eq__)  # that one last


def score_words(name: str) -> str:
    """A score's name for people."""
    return "cells right" if name == "cell_accuracy" else name.replace("_", " ")


def _percent(share: float) -> str:
    """In five letters at most, so that a table of many fits 80 columns."""
    return "100%" if share > 0.9995 else f"{share:.1%}"


def task_table(evaluation: Scored) -> Table:
    """One row a task: where answers are ranked by votes, at which rank the truth stands, and the
    votes of the first two; else how much is right."""
    of = (
        f"of the {answers_of(evaluation)}"
        if evaluation.is_ensemble
        else f"at step {evaluation.step}"
    )
    title, per_task = f"Tasks {of}", evaluation.metrics["per_task"]
    if not any("votes_of_first_two" in row for row in per_task.values()):
        return _plain_task_table(title, per_task)
    table = Table(title=title)
    ks = [k for k in passes([evaluation.metrics]) if k <= 2]
    passed = [f"pass@{k}" for k in ks]
    for name in ("task", "rank of the truth", "votes of the first two", *passed):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task, row in per_task.items():
        ranks = ", ".join(map(_rank, row["rank_of_truth"], row["hidden"]))
        votes = ", ".join("/".join(map(str, v)) or "–" for v in row["votes_of_first_two"])
        shares_of_task = [f"{row[name]:.0%}" if name in row else "?" for name in passed]
        table.add_row(task, ranks, votes, *shares_of_task)
    return table


def _rank(rank: int | None, hidden: bool) -> str:
    """The rank of the truth: ? where it is hidden, – where it was not proposed."""
    if hidden:
        return "?"
    return "–" if rank is None else str(rank)


def _plain_task_table(title: str, per_task: Mapping[str, Mapping[str, Any]]) -> Table:
    table, names = Table(title=title), shares(list(per_task.values()))
    for name in ("task", *map(score_words, names), "cells right"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task, row in per_task.items():
        cells = ", ".join("?" if x is None else f"{x:.0%}" for x in row["cell_accuracy"])
        table.add_row(task, *(f"{row[x]:.0%}" if x in row else "?" for x in names), cells)
    return table


def difficulty_table(evaluation: Scored) -> Table | None:
    """Scores by band of difficulty; None where a family has no measure of it."""
    rows = evaluation.metrics.get("by_difficulty")
    if not rows:
        return None
    title = f"Test puzzles by difficulty, at step {evaluation.step}"
    table, names = Table(title=title), shares(rows)
    for name in ("difficulty", "puzzles", *map(score_words, names)):
        table.add_column(name, justify="right")
    for row in rows:
        scores = (_percent(row[name]) if name in row else "?" for name in names)
        table.add_row(row["difficulty"], f"{row['test_inputs']:,}", *scores)
    return table


def curve_table(curve: Plotted) -> Table:
    """One row a point of a curve."""
    asked = f"{counted(curve.test_inputs, 'test input')}, step {curve.step:,}"
    names = list(dict.fromkeys(name for point in curve.points for name in point.scores))
    if curve.kind == "depth":
        table = Table(title=asked)
        titles = ["passes", *map(score_words, names)]
        early = any(point.passes < point.at for point in curve.points)
    else:
        table = Table(title=f"{score_words(curve.headline)}: {asked}")
        titles, early = ["rollouts", *names], False
    for title in [*titles, *(["passes used"] if early else [])]:
        table.add_column(title, justify="right", no_wrap=True)
    for point in curve.points:
        scores = (_percent(point.scores[x]) if x in point.scores else "unknown" for x in names)
        table.add_row(str(point.at), *scores, *([f"{point.passes:.1f}"] if early else []))
    return table


def as_html(*tables: Table) -> str:
    """Tables as the HTML of a notebook's cell."""
    console = Console(file=io.StringIO(), record=True, width=100, force_jupyter=False)
    console.print(*tables)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
