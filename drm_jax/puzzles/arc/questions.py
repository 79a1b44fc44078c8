"""Every test input of the evaluation tasks under its augmentations."""

from collections.abc import Sequence

import numpy as np

from drm_jax.puzzles.arc.augment import PuzzleIds
from drm_jax.puzzles.arc.judge import ArcJudge
from drm_jax.puzzles.arc.layout import FlatGrids, flatten, lay_out
from drm_jax.puzzles.arc.tasks import Task
from drm_jax.puzzles.arc.windows import first_windows, touches_border
from drm_jax.puzzles.family import PAD, Board, Candidate


def evaluation_rows(
    tasks: Sequence[Task], ids: PuzzleIds, num_augmentations: int | None
) -> np.ndarray:
    """(R, 3) int64: task, test input and puzzle id of each candidate, task by task.

    Args:
      num_augmentations: how many beside the first, the identity if it has an id; None takes all.
    """
    stop = None if num_augmentations is None else num_augmentations + 1
    rows = [
        (k, t, puzzle_id)
        for k, task in enumerate(tasks)
        if task.role == "evaluate"
        for t in range(len(task.tests))
        for puzzle_id in ids.of_task[k][:stop].tolist()
    ]
    return np.array(rows, np.int64).reshape(-1, 3)


class ArcQuestions:
    """The candidates of a run; see `family.Questions`."""

    def __init__(
        self,
        tasks: Sequence[Task],
        ids: PuzzleIds,
        boards: Sequence[Board],
        num_augmentations: int | None,
    ):
        self._tasks, self._ids, self.whole = tasks, ids, boards[-1]
        self._rows = evaluation_rows(tasks, ids, num_augmentations)
        self.count = len(self._rows)
        self.task_R = self._rows[:, 0]
        """(R,) which of the tasks each candidate is of."""
        self.shown = range(self.count)
        self.board_R = first_windows(tasks, self._rows, [side for side, _ in boards])
        self.plain = np.flatnonzero(ids.is_identity[self._rows[:, 2]]).tolist()
        nothing = np.zeros((0, 0), np.uint8)
        tests = [test for task in tasks for test in task.tests]
        outputs = [nothing if test.output is None else test.output for test in tests]
        self._known = np.array([test.output is not None for test in tests], bool)
        self._inputs = flatten([test.input for test in tests] or [nothing])
        self._outputs = flatten(outputs or [nothing])
        self._first_K = np.cumsum([0] + [len(task.tests) for task in tasks])
        self.test_R = self._test(np.arange(self.count))
        """(R,) the number of each candidate's test among those of all tasks, ascending."""
        first_R = np.searchsorted(self.test_R, self.test_R)
        self.rank_R = np.arange(self.count) - first_R
        """(R,) which of its test's candidates each one is, from 0: the identity first."""

    def rows(self, row_N: np.ndarray, board: Board) -> tuple[np.ndarray, np.ndarray]:
        return self._lay_out(self._inputs, row_N, board), self._rows[row_N, 2].astype(np.int32)

    def reaches_border(self, predicted_NxS: np.ndarray, board: Board) -> np.ndarray:
        if board == self.whole:
            return np.zeros(len(predicted_NxS), bool)
        return touches_border(predicted_NxS, board[0])

    def truths(self, row_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        truth_NxS = self._lay_out(self._outputs, row_N, self.whole)
        return truth_NxS, (truth_NxS != PAD) & self._known[self._test(row_N)][:, None]

    def candidate(self, row: int) -> Candidate:
        k, t, puzzle_id = self._rows[row].tolist()
        task = self._tasks[k]
        augmentation = self._ids.transform[puzzle_id], *self._ids.colours[puzzle_id]
        return Candidate(
            task=task.id,
            test=t,
            question=task.tests[t].input,
            truth=task.tests[t].output,
            puzzle_id=puzzle_id,
            augmentation_A=np.array(augmentation, np.uint8),
        )

    def judge(self) -> ArcJudge:
        return ArcJudge(self._tasks, self._ids, self._rows)

    def _test(self, row_N: np.ndarray) -> np.ndarray:
        """The number of each candidate's test among those of all tasks."""
        return self._first_K[self._rows[row_N, 0]] + self._rows[row_N, 1]

    def _lay_out(self, grids: FlatGrids, row_N: np.ndarray, board: Board) -> np.ndarray:
        """Grids of these candidates' tests as tokens (N, S), each under its augmentation."""
        id_N = self._rows[row_N, 2]
        augmentations = self._ids.transform[id_N], self._ids.colours[id_N]
        return lay_out(grids, self._test(row_N), *augmentations, board[0])


class UnseenQuestions(ArcQuestions):
    """The candidates of a task that is none of the run's: all have the blank puzzle id."""

    def rows(self, row_N: np.ndarray, board: Board) -> tuple[np.ndarray, np.ndarray]:
        inputs_NxS, id_N = super().rows(row_N, board)
        return inputs_NxS, np.zeros_like(id_N)
