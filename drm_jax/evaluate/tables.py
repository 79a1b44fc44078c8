"""Score tables for the terminal."""

import textwrap
from collections.abc import Sequence

from rich.table import Table

from drm_jax.evaluate.score import Evaluation, copy_baseline
from drm_jax.puzzles.arc.tasks import Task
from drm_jax.puzzles.arc.voting import PASS_KS


def answers_of(evaluation: Evaluation) -> str:
    """Whose answers they are, in words."""
    if evaluation.is_ensemble:
        return f"ensemble of steps {', '.join(map(str, evaluation.steps))}"
    return f"step {evaluation.step}" if evaluation.step else "untrained model"


def score_table(evaluations: Sequence[Evaluation], tasks: Sequence[Task]) -> Table:
    """One row a checkpoint or ensemble, and the baseline that answers a test input with itself."""
    table = Table(title="Held-out test inputs solved with 2 attempts, and pass@k over tasks")
    table.add_column("answers of", no_wrap=True)
    table.add_column("solved", justify="right", no_wrap=True)
    for k in PASS_KS:
        table.add_column(f"pass@{k}" if k == PASS_KS[0] else f"@{k}", justify="right")
    rows = [("copying the input", copy_baseline(tasks))]
    width = len(rows[0][0])  # a long list of steps must leave room for the scores
    rows += [(textwrap.fill(answers_of(e), width), e.metrics) for e in evaluations]
    for name, metrics in rows:
        if not metrics["test_inputs"]:
            table.add_row(name, "unknown", *[""] * len(PASS_KS))
            continue
        solved = f"{metrics['solved@2']} of {metrics['test_inputs']}"
        table.add_row(name, solved, *(_percent(metrics[f"pass@{k}"]) for k in PASS_KS))
    return table


def _percent(share: float) -> str:
    """In five letters at most, so that a table of many fits 80 columns."""
    return "100%" if share > 0.9995 else f"{share:.1%}"


def task_table(evaluation: Evaluation) -> Table:
    """One row a task: at which rank the truth stands, and the votes of the first two answers."""
    of = (
        f"of the {answers_of(evaluation)}"
        if evaluation.is_ensemble
        else f"at step {evaluation.step}"
    )
    table = Table(title=f"Tasks {of}")
    for name in ("task", "rank of the truth", "votes of the first two", "pass@1", "pass@2"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task_id, row in evaluation.metrics["per_task"].items():
        ranks = ", ".join("–" if rank is None else str(rank) for rank in row["rank_of_truth"])
        votes = ", ".join("/".join(map(str, v)) or "–" for v in row["votes_of_first_two"])
        passed = [f"{row[f'pass@{k}']:.0%}" if f"pass@{k}" in row else "?" for k in (1, 2)]
        table.add_row(task_id, ranks, votes, *passed)
    return table
