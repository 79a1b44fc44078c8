"""From candidates to ranked answers, for families whose candidates vote.

Each augmented copy of a test input gives one candidate; each rollout of it gives an answer. The
answer, the augmentation undone, is grouped with equal ones. Answers are ranked by (votes, mean
sigmoid of the halting logit), or otherwise, see `best_first`; ties keep first-seen order. An answer
without cells can't be right, and stands behind all others.
"""

import copy
import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from drm_jax.puzzles.boards import grid_rows

_BEST = 10
"""How many answers to a test input are kept for people."""
Choice = Literal["votes", "halting", "rules", "oracle"]
"""By what answers are ranked: see `best_first`."""


@dataclasses.dataclass(eq=False)
class Answer:
    """One grid that was proposed for a test input, and who voted for it."""

    grid: np.ndarray
    voters: list[int] = dataclasses.field(default_factory=list)
    """Numbers of the candidates that proposed it, in the order in which they did."""
    voter_scores: list[float] = dataclasses.field(default_factory=list)
    """The halting probability of each of them."""
    score_sum: float = 0.0

    @property
    def votes(self) -> int:
        return len(self.voters)

    @property
    def score(self) -> float:
        """Mean halting probability of its voters."""
        return self.score_sum / self.votes

    @property
    def highest_score(self) -> float:
        """The halting probability of the surest of its voters."""
        return max(self.voter_scores)


def best_first(
    answers: Iterable[Answer],
    choice: Choice = "votes",
    *,
    truth: np.ndarray | None = None,
    valid: Callable[[Answer], bool] | None = None,
) -> list[Answer]:
    """Answers to one test input, ranked.

    Args:
      choice: by the votes, then the mean halting probability of the voters; `halting`: first by the
        halting probability of the surest voter; `rules`: first those that keep all rules; `oracle`:
        the truth first, if it was proposed. The oracle can't be had at a test: it says how much a
        better choice could gain.
      truth: for the oracle; None: it is hidden.
      valid: for the rules.
    """

    def first(answer: Answer) -> float:
        if choice == "halting":
            return answer.highest_score
        if choice == "rules":
            return valid(answer)
        return choice == "oracle" and truth is not None and np.array_equal(answer.grid, truth)

    def key(answer: Answer) -> tuple[bool, float, int, float]:
        return answer.grid.size > 0, first(answer), answer.votes, answer.score

    return sorted(answers, key=key, reverse=True)


# Proposed answers by (task id, input grid), then by grid: memory grows with distinct answers only.
Ballot = dict[tuple[str, bytes], dict[bytes, Answer]]


def _key(grid: np.ndarray) -> bytes:
    return bytes(grid.shape) + np.ascontiguousarray(grid, np.uint8).tobytes()


def cast_vote(
    ballot: Ballot,
    task_id: str,
    question: np.ndarray,
    grid: np.ndarray,
    score: float,
    voter: int = 0,
) -> None:
    """Adds one vote for answering the test input `question` with `grid`; score is in [0, 1]."""
    answers = ballot.setdefault((task_id, _key(question)), {})
    answer = answers.setdefault(_key(grid), Answer(grid))
    answer.voters.append(voter)
    answer.voter_scores.append(score)
    answer.score_sum += score


def pool(ballot: Ballot, other: Ballot) -> None:
    """Adds the votes of another ballot, as if they had been cast after those of this one.

    Args:
      ballot: changed in place; the other one is not.
    """
    for question, answers in other.items():
        here = ballot.setdefault(question, {})
        for key, answer in answers.items():
            pooled = here.setdefault(key, Answer(answer.grid))
            pooled.voters += answer.voters
            pooled.voter_scores += answer.voter_scores
            pooled.score_sum += answer.score_sum


def ranked(
    ballot: Ballot,
    task_id: str,
    test_input: np.ndarray,
    choice: Choice = "votes",
    truth: np.ndarray | None = None,
) -> list[Answer]:
    """The answers to one test input, best first; empty where nothing was proposed.

    Args:
      choice, truth: see `best_first`.
    """
    return best_first(ballot.get((task_id, _key(test_input)), {}).values(), choice, truth=truth)


def rank_of_truth(answers: Sequence[Answer], truth: np.ndarray | None) -> int | None:
    """How many answers stand before the right one; None where it was not proposed, or is hidden."""
    if truth is None:
        return None
    for rank, answer in enumerate(answers):
        if np.array_equal(answer.grid, truth):
            return rank
    return None


def leading_voters(answers: Sequence[Answer], truth: np.ndarray | None, best: int) -> set[int]:
    """Who first gave the best answers to a test, and the truth.

    Args:
      answers: best first.
    """
    rank = rank_of_truth(answers, truth)
    leading = [*answers[:best], *([] if rank is None else [answers[rank]])]
    return {answer.voters[0] for answer in leading}


def right_voters(answers: Sequence[Answer], truth: np.ndarray | None) -> set[int]:
    """All who gave the truth of a test."""
    rank = rank_of_truth(answers, truth)
    return set() if rank is None else {*answers[rank].voters}


def described(
    question: np.ndarray,
    truth: np.ndarray | None,
    answers: Sequence[Answer],
    symbols: str,
    more: Callable[[Answer], Mapping[str, Any]],
) -> dict[str, Any]:
    """A test with its best answers, and the right one if it was proposed, for people.

    Args:
      answers: best first.
      more: what else to say of an answer.
    """
    right = rank_of_truth(answers, truth)
    kept = [rank for rank in range(len(answers)) if rank < _BEST or rank == right]
    return {
        "input": grid_rows(question, symbols),
        "output": grid_rows(truth, symbols),
        "candidates": sum(answer.votes for answer in answers),
        "distinct": len(answers),
        "rank_of_truth": None if right is None else right + 1,
        "answers": [
            {
                "rank": rank + 1,
                "grid": grid_rows(answers[rank].grid, symbols),
                "votes": answers[rank].votes,
                "score": round(answers[rank].score, 6),
                **more(answers[rank]),
            }
            for rank in kept
        ],
    }


# --- a judge of votes ----------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True, eq=False)
class Test:
    """A test input, grid of symbols, and its output; None where it is hidden."""

    task: str
    input: np.ndarray
    output: np.ndarray | None


class VotingJudge:
    """What the judges of such families have in common; see `family.Judge`."""

    def __init__(self, tests: Sequence[Test], test_R: np.ndarray):
        """Nothing answered yet.

        Args:
          tests: all that are answered.
          test_R: which of them each candidate answers; equal ones stand next to each other.
        """
        self.tests, self.ballot = tests, {}
        self._test_R = test_R
        self.choice: Choice = "votes"

    def cast(self, row_N: np.ndarray, grids: Sequence[np.ndarray], q_halt_N: np.ndarray) -> None:
        """One vote of each of these candidates, in order.

        Args:
          grids: of symbols, as the tests have them.
          q_halt_N: halting logits.
        """
        score_N = 1.0 / (1.0 + np.exp(-np.asarray(q_halt_N, np.float64)))
        rows = zip(row_N.tolist(), self._test_R[row_N].tolist(), score_N.tolist(), strict=True)
        for (row, number, score), grid in zip(rows, grids, strict=True):
            test = self.tests[number]
            cast_vote(self.ballot, test.task, test.input, grid, score, row)

    def pool(self, other: "VotingJudge") -> None:
        pool(self.ballot, other.ballot)

    def choosing(self, choice: Choice) -> "VotingJudge":
        judge = copy.copy(self)
        judge.choice = choice
        return judge

    def ranked(self, test: Test) -> list[Answer]:
        """The answers to a test, best first."""
        return ranked(self.ballot, test.task, test.input, self.choice, test.output)

    def leading(self, row_N: np.ndarray, best: int) -> set[int]:
        tests = self._tests_of(row_N)
        return set().union(*(leading_voters(self.ranked(t), t.output, best) for t in tests))

    def right(self, row_N: np.ndarray) -> set[int]:
        tests = self._tests_of(row_N)
        return set().union(*(right_voters(self.ranked(t), t.output) for t in tests))

    def _tests_of(self, row_N: np.ndarray) -> list[Test]:
        return [self.tests[number] for number in np.unique(self._test_R[row_N]).tolist()]

    def candidates(self) -> int:
        """How many have voted."""
        return sum(answer.votes for answers in self.ballot.values() for answer in answers.values())

    def cell_accuracies(self, accuracy_R: np.ndarray) -> list[float]:
        """For each test the mean over its candidates that were answered; NaN where its output is
        hidden, or none was."""
        first = np.flatnonzero(np.diff(self._test_R, prepend=-1))
        parts = [part[~np.isnan(part)] for part in np.split(accuracy_R, first[1:]) if len(part)]
        means = [float(part.mean()) if len(part) else math.nan for part in parts]
        of_test = dict(zip(self._test_R[first].tolist(), means, strict=True))
        return [of_test.get(number, math.nan) for number in range(len(self.tests))]

    def described(self, test: Test, symbols: str) -> dict[str, Any]:
        """A test with its best answers, and the right one if it was proposed, for people."""
        return described(
            test.input,
            test.output,
            self.ranked(test),
            symbols,
            lambda answer: self.describe_voters(answer.voters),
        )

    def describe_voters(self, voters: Sequence[int]) -> dict[str, Any]:
        """What else to say of those who gave an answer: nothing, if a family doesn't."""
        return {}


def with_cell_accuracy(
    scores: dict[str, Any], tests: Sequence[Test], accuracies: Sequence[float]
) -> dict[str, Any]:
    """Scores with the mean of what `VotingJudge.cell_accuracies` gives, and that of each test.

    None stands for a test whose output is hidden; without any known output there is no mean.
    """
    known = [accuracy for accuracy in accuracies if not math.isnan(accuracy)]
    of_task: dict[str, list[float | None]] = {}
    for test, accuracy in zip(tests, accuracies, strict=True):
        of_task.setdefault(test.task, []).append(None if math.isnan(accuracy) else accuracy)
    per_task = {
        name: row | {"cell_accuracy": of_task[name]} for name, row in scores["per_task"].items()
    }
    mean = {"cell_accuracy": statistics.fmean(known)} if known else {}
    return scores | mean | {"per_task": per_task}
