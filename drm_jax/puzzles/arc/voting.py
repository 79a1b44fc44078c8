"""Votes on ARC tasks: pass@k and a Kaggle submission."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from drm_jax.puzzles.arc.tasks import Task
from drm_jax.puzzles.voting import Answer, Ballot, Choice, cast_vote, rank_of_truth, ranked

ATTEMPTS = 2
PASS_KS = (1, ATTEMPTS, 5, 10, 100, 1000)
_NO_ANSWER = [[0, 0], [0, 0]]
"""What Kaggle's sample submission holds."""


def most_votes(ballot: Ballot, tasks: Iterable[Task]) -> int:
    """How many candidates answered the test input with the most of them."""
    return max(
        (
            sum(answer.votes for answer in ranked(ballot, task.id, pair.input))
            for task in tasks
            for pair in task.tests
        ),
        default=0,
    )


def truth_ranks(ballot: Ballot, task: Task, choice: Choice = "votes") -> list[int | None]:
    """`rank_of_truth` of each of a task's test inputs; None also where its output is hidden."""
    return [
        rank_of_truth(ranked(ballot, task.id, pair.input, choice, pair.output), pair.output)
        for pair in task.tests
    ]


def known_ranks(ballot: Ballot, task: Task, choice: Choice = "votes") -> list[int | None]:
    """`truth_ranks` of those test inputs alone whose output is known."""
    ranks = zip(task.tests, truth_ranks(ballot, task, choice), strict=True)
    return [rank for pair, rank in ranks if pair.output is not None]


def pass_at(ranks_by_task: Iterable[Sequence[int | None]], k: int) -> float:
    """pass@k: the truth is among the first k; mean over a task's test inputs, then over tasks.

    Args:
      ranks_by_task: `known_ranks` of each task. A task without a known output is left out; one
        without any candidate counts as 0. NaN where nothing is left.
    """
    solved = [np.mean([r is not None and r < k for r in ranks]) for ranks in ranks_by_task if ranks]
    return float(np.mean(solved)) if solved else float("nan")


def copying(tasks: Iterable[Task]) -> Ballot:
    """One vote for answering each test input with itself."""
    ballot: Ballot = {}
    for task in tasks:
        for test in task.tests:
            cast_vote(ballot, task.id, test.input, test.input, score=1.0)
    return ballot


def submission(
    ballot: Ballot, tasks: Iterable[Task], attempts: int = ATTEMPTS, choice: Choice = "votes"
) -> Mapping[str, list[dict[str, list[list[int]]]]]:
    """Kaggle form: {task id: [{"attempt_1": grid, "attempt_2": grid} for each test input]}.

    A missing later attempt repeats the first. A test input to which no candidate gave a grid keeps
    its place, with the grid of Kaggle's sample submission.
    """
    return {
        task.id: [
            _entry(ranked(ballot, task.id, pair.input, choice, pair.output), attempts)
            for pair in task.tests
        ]
        for task in tasks
    }


def _entry(answers: Sequence[Answer], attempts: int) -> dict[str, list[list[int]]]:
    grids = [answer.grid.tolist() for answer in answers if answer.grid.size][:attempts]
    grids = grids or [_NO_ANSWER]
    grids += grids[:1] * (attempts - len(grids))
    return {f"attempt_{i + 1}": grid for i, grid in enumerate(grids)}
