"""Scores of answers to ARC tasks: votes, pass@k, and who gave which answer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drm_jax.puzzles.arc import voting
from drm_jax.puzzles.arc.augment import (
    Augmentation,
    PuzzleIds,
    augmentation_words,
    undo,
)
from drm_jax.puzzles.arc.tasks import Pair, Task
from drm_jax.puzzles.arc.tokens import FIRST_COLOUR, VOCABULARY, grid_sizes
from drm_jax.puzzles.boards import grid_rows
from drm_jax.puzzles.dihedral import NUM_TRANSFORMS, TRANSFORM_WORDS
from drm_jax.puzzles.family import Board
from drm_jax.puzzles.voting import (
    Ballot,
    Choice,
    Test,
    VotingJudge,
    ranked,
    with_cell_accuracy,
)

_VOTERS = 8
"""How many voters of an answer are kept for people."""


def plain_grids(
    tokens_NxS: np.ndarray, board: Board, augmentations: Sequence[Augmentation]
) -> list[np.ndarray]:
    """The grids of colours that canvases show, each with its augmentation undone."""
    sizes = grid_sizes(tokens_NxS).tolist()
    canvases = tokens_NxS.reshape(-1, *board)
    return [
        undo((canvas[:height, :width] - FIRST_COLOUR).astype(np.uint8), augmentation)
        for canvas, (height, width), augmentation in zip(
            canvases, sizes, augmentations, strict=True
        )
    ]


class ArcJudge(VotingJudge):
    """The votes of candidates on the test inputs of evaluation tasks; see `family.Judge`."""

    def __init__(self, tasks: Sequence[Task], ids: PuzzleIds, rows: np.ndarray):
        """Args: tasks: of a run; rows: all candidates, from `arc.questions.evaluation_rows`."""
        self._asked = [task for task in tasks if task.role == "evaluate"]
        self._ids, self._id_R = ids, rows[:, 2]
        tests = [Test(task.id, p.input, p.output) for task in self._asked for p in task.tests]
        counts = [len(task.tests) if task.role == "evaluate" else 0 for task in tasks]
        first_K = np.cumsum([0, *counts])
        super().__init__(tests, first_K[rows[:, 0]] + rows[:, 1])

    def add(
        self, row_N: np.ndarray, predicted_NxS: np.ndarray, q_halt_N: np.ndarray, board: Board
    ) -> None:
        augmentations = [self._ids.augmentation(i) for i in self._id_R[row_N].tolist()]
        self.cast(row_N, plain_grids(predicted_NxS, board, augmentations), q_halt_N)

    def scores(self, accuracy_R: np.ndarray) -> dict[str, Any]:
        found = {"candidates": self.candidates(), **scores(self.ballot, self._asked, self.choice)}
        return with_cell_accuracy(found, self.tests, self.cell_accuracies(accuracy_R))

    def copying(self) -> dict[str, Any]:
        """Scores of answering every test input with itself, to compare with."""
        return scores(voting.copying(self._asked), self._asked)

    def submission(self) -> Mapping[str, Any]:
        return voting.submission(self.ballot, self._asked, choice=self.choice)

    def answers(self) -> list[dict[str, Any]]:
        of_task: dict[str, list[dict[str, Any]]] = {}
        for test in self.tests:
            of_task.setdefault(test.task, []).append(self.described(test, VOCABULARY.symbols))
        return [
            {
                "id": task.id,
                "source": task.source,
                "demonstrations": [described_pair(pair) for pair in task.demonstrations],
                "tests": of_task.get(task.id, []),
            }
            for task in self._asked
        ]

    def describe_voters(self, voters: Sequence[int]) -> dict[str, Any]:
        """How many voted under each transform, and the first ones' augmentations."""
        ids, id_N = self._ids, self._id_R[list(voters)]
        votes = np.bincount(ids.transform[id_N], minlength=NUM_TRANSFORMS).tolist()
        by = zip(TRANSFORM_WORDS, votes, strict=True)
        first = id_N[:_VOTERS].tolist()
        return {
            "votes_by": {words: count for words, count in by if count},
            "voters": [[i, augmentation_words(ids.augmentation(i))] for i in first],
        }


def described_pair(pair: Pair) -> dict[str, Any]:
    """A pair for people, see `evaluate.answers.Answers`."""
    symbols = VOCABULARY.symbols
    return {"input": grid_rows(pair.input, symbols), "output": grid_rows(pair.output, symbols)}


def scores(ballot: Ballot, tasks: Sequence[Task], choice: Choice = "votes") -> dict[str, Any]:
    """pass@k over tasks, test inputs solved within k, and both for each task.

    Tests without a known output are not scored; without any, only the votes are given. No k is
    beyond the most votes on a test input, but for the two attempts, which are always handed in.
    """
    votes = voting.most_votes(ballot, tasks)
    ks = [k for k in voting.PASS_KS if k <= max(votes, voting.ATTEMPTS)]
    ranks = {task.id: voting.known_ranks(ballot, task, choice) for task in tasks}
    flat = [rank for of_task in ranks.values() for rank in of_task]
    per_task = {
        task.id: _of_task(ballot, task, choice) | pass_rates([ranks[task.id]], ks) for task in tasks
    }
    solved = {f"solved@{k}": sum(rank is not None and rank < k for rank in flat) for k in ks}
    return {
        "tasks": len(tasks),
        "test_inputs": len(flat),
        "votes": votes,
        **pass_rates(list(ranks.values()), ks),
        **(solved if flat else {}),
        "per_task": per_task,
    }


def _of_task(ballot: Ballot, task: Task, choice: Choice) -> dict[str, Any]:
    """Of each test input of a task, in order; a hidden output has no rank. Votes are of the answers
    that are handed in: not of a grid without cells."""
    ranks = voting.truth_ranks(ballot, task, choice)
    return {
        "test_inputs": len(task.tests),
        "hidden": [pair.output is None for pair in task.tests],
        "rank_of_truth": [None if rank is None else rank + 1 for rank in ranks],
        "votes_of_first_two": [
            [
                answer.votes
                for answer in ranked(ballot, task.id, pair.input, choice, pair.output)[:2]
                if answer.grid.size
            ]
            for pair in task.tests
        ],
    }


def pass_rates(
    ranks_by_task: Sequence[Sequence[int | None]], ks: Sequence[int]
) -> dict[str, float]:
    """{"pass@k": …}; empty where no output is known."""
    if not any(ranks_by_task):
        return {}
    return {f"pass@{k}": voting.pass_at(ranks_by_task, k) for k in ks}
