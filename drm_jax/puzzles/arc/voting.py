"""From candidates to ranked answers, pass@k and a Kaggle submission.

Each augmented copy of a test input gives one candidate. It is cropped, its augmentation undone,
matched to the test input by its own input grid, and grouped with equal grids. Answers are ranked
by (votes, mean sigmoid of the halting logit); ties keep first-seen order.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from drm_jax.puzzles.arc.augment import PuzzleIds, undo
from drm_jax.puzzles.arc.tasks import Task
from drm_jax.puzzles.arc.tokens import FIRST_COLOUR, grid_sizes

PASS_KS = (1, 2, 5, 10, 100, 1000)


@dataclasses.dataclass
class Answer:
    """One grid that was proposed for a test input, and who voted for it."""

    grid: np.ndarray
    voters: list[int] = dataclasses.field(default_factory=list)
    """Numbers of the candidates that proposed it, in the order in which they did."""
    score_sum: float = 0.0

    @property
    def votes(self) -> int:
        return len(self.voters)

    @property
    def rank_key(self) -> tuple[int, float]:
        return self.votes, self.score_sum / self.votes


# Proposed answers by (task id, input grid), then by grid: memory grows with distinct answers only.
Ballot = dict[tuple[str, bytes], dict[bytes, Answer]]


def _key(grid: np.ndarray) -> bytes:
    return bytes(grid.shape) + np.ascontiguousarray(grid, np.uint8).tobytes()


def cast_votes(
    ballot: Ballot,
    ids: PuzzleIds,
    puzzle_id_B: np.ndarray,
    inputs_BxS: np.ndarray,
    predictions_BxS: np.ndarray,
    q_halt_B: np.ndarray,
    number_B: np.ndarray | None = None,
) -> None:
    """Adds a batch of candidates to the ballot, in order. Rows of no loaded task are dropped.

    Args:
      ballot: changed in place.
      ids: tells which task and augmentation each puzzle id stands for.
      puzzle_id_B: integers.
      inputs_BxS, predictions_BxS: tokens.
      q_halt_B: halting logits.
      number_B: of each candidate, for `Answer.voters`; its row of the batch where None.
    """
    canvas = int(inputs_BxS.shape[1] ** 0.5)
    input_size_Bx2, size_Bx2 = grid_sizes(inputs_BxS), grid_sizes(predictions_BxS)
    score_B = 1.0 / (1.0 + np.exp(-np.asarray(q_halt_B, np.float64)))

    def plain(tokens_S: np.ndarray, size: np.ndarray, puzzle_id: int) -> np.ndarray:
        grid = tokens_S.reshape(canvas, canvas)[: size[0], : size[1]]
        return undo((grid - FIRST_COLOUR).astype(np.uint8), ids.augmentation(puzzle_id))

    numbers = range(len(score_B)) if number_B is None else np.asarray(number_B).tolist()
    for row, (puzzle_id, number) in enumerate(zip(np.asarray(puzzle_id_B).tolist(), numbers)):
        if ids.task[puzzle_id] < 0:  # the blank id, or of a task that is not loaded
            continue
        question = plain(inputs_BxS[row], input_size_Bx2[row], puzzle_id)
        grid = plain(predictions_BxS[row], size_Bx2[row], puzzle_id)
        cast_vote(ballot, ids.task_id(puzzle_id), question, grid, float(score_B[row]), number)


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
            pooled.score_sum += answer.score_sum


def ranked(ballot: Ballot, task_id: str, test_input: np.ndarray) -> list[Answer]:
    """The answers to one test input, best first; empty where nothing was proposed."""
    answers = ballot.get((task_id, _key(test_input)), {})
    return sorted(answers.values(), key=lambda answer: answer.rank_key, reverse=True)


def rank_of_truth(answers: Sequence[Answer], truth: np.ndarray) -> int | None:
    """How many answers stand before the right one; None where it was not proposed."""
    for rank, answer in enumerate(answers):
        if np.array_equal(answer.grid, truth):
            return rank
    return None


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
