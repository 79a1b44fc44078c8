"""Votes on ARC tasks: pass@k and a Kaggle submission."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from drm_jax.puzzles.arc.tasks import Task
from drm_jax.puzzles.voting import Ballot, rank_of_truth, ranked

PASS_KS = (1, 2, 5, 10, 100, 1000)


def truth_ranks(ballot: Ballot, task: Task) -> list[int | None]:
    """`rank_of_truth` of each of a task's test inputs whose output is known."""
    return [
        rank_of_truth(ranked(ballot, task.id, pair.input), pair.output)
        for pair in task.tests
        if pair.output is not None
    ]


def pass_at(ranks_by_task: Iterable[Sequence[int | None]], k: int) -> float:
    """pass@k: the truth is among the first k; mean over a task's test inputs, then over tasks.

    Args:
      ranks_by_task: `truth_ranks` of each task. A task without a known output is left out; one
        without any candidate counts as 0. NaN where nothing is left.
    """
    solved = [np.mean([r is not None and r < k for r in ranks]) for ranks in ranks_by_task if ranks]
    return float(np.mean(solved)) if solved else float("nan")


def submission(
    ballot: Ballot, tasks: Iterable[Task], attempts: int = 2
) -> Mapping[str, list[dict[str, list[list[int]]]]]:
    """Kaggle form: {task id: [{"attempt_1": grid, "attempt_2": grid} for each test input]}.

    A missing later attempt repeats the first; a task without any candidate submits [].
    """
    entries = {}
    for task in tasks:
        entries[task.id] = []
        for pair in task.tests:
            grids = [a.grid.tolist() for a in ranked(ballot, task.id, pair.input)[:attempts]]
            if grids:
                grids += grids[:1] * (attempts - len(grids))
                entries[task.id].append({f"attempt_{i + 1}": g for i, g in enumerate(grids)})
    return entries
