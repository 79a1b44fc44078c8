"""The evaluation set: every test input of the evaluation tasks under its augmentations."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from drm_jax.data.windows import window_sides
from drm_jax.puzzles.arc.augment import PuzzleIds
from drm_jax.puzzles.arc.layout import flatten, lay_out
from drm_jax.puzzles.arc.tasks import Pair, Task
from drm_jax.puzzles.arc.tokens import PAD, grid_sizes


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


def first_windows(tasks: Sequence[Task], rows: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """(R,) for each candidate the smallest window that may hold its answer, 0, 1, … of `sides`.

    It holds the test's input and an output of the `expected_shape`, with the EOS that closes them.
    """
    largest = [
        max(*test.input.shape, *expected_shape(task, test)) for task in tasks for test in task.tests
    ]
    first_K = np.cumsum([0] + [len(task.tests) for task in tasks])
    return window_sides(np.array(largest, np.int64), sides)[first_K[rows[:, 0]] + rows[:, 1]]


def expected_shape(task: Task, test: Pair) -> tuple[int, int]:
    """Height and width that a test's output has if it follows what all demonstrations share.

    Each of the two is as long in all outputs, or stands in one ratio to the input's (where both
    hold, the smaller counts); else it is taken to be the largest that the demonstrations show.
    """
    known = [(p.input.shape, p.output.shape) for p in task.demonstrations if p.output is not None]
    sides = [0, 0]
    for axis, asked in enumerate(test.input.shape if known else ()):
        inputs, outputs = zip(*((i[axis], o[axis]) for i, o in known), strict=True)
        follows = {outputs[0]} if len(set(outputs)) == 1 else set()
        if all(o * inputs[0] == outputs[0] * i for i, o in zip(inputs, outputs, strict=True)):
            follows.add(asked * outputs[0] // inputs[0])
        sides[axis] = min(follows, default=max(outputs))
    return sides[0], sides[1]


def touches_border(predicted_BxS: np.ndarray) -> np.ndarray:
    """(B,) bool: whether the grid that is answered reaches the last row or column of its window.

    It may then go on outside: the EOS that would close it is missing. What stands beyond the EOS
    doesn't count: there the targets are PAD, which isn't trained, and any colour may be predicted.
    """
    side = math.isqrt(predicted_BxS.shape[1])
    return grid_sizes(predicted_BxS).max(axis=1) == side


def evaluation_batches(
    tasks: Sequence[Task],
    ids: PuzzleIds,
    rows: np.ndarray,
    which_N: np.ndarray,
    canvas: int,
    batch_size: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of `batch_size` candidates; the last one is filled up with rows of the blank id.

    Args:
      rows: all candidates, from `evaluation_rows`.
      which_N: the numbers of those that are wanted.
      canvas: side of the canvas, or of its window.

    Yields:
      inputs (B, S) uint8, laid at (0, 0); puzzle_id (B,) int32; row (B,) int32, the number of the
      candidate, so that its random draws don't depend on the batch it stands in; of a row that
      fills up, the number after the last.
    """
    if not len(which_N):
        return
    tests = [(k, t) for k, task in enumerate(tasks) for t in range(len(task.tests))]
    grids = flatten([tasks[k].tests[t].input for k, t in tests])
    first_K = np.cumsum([0] + [len(task.tests) for task in tasks])
    for start in range(0, len(which_N), batch_size):
        row_N = which_N[start : start + batch_size]
        k_N, t_N, id_N = rows[row_N].T
        blanks = batch_size - len(id_N)
        augmentations = ids.transform[id_N], ids.colours[id_N]
        inputs_NxS = lay_out(grids, first_K[k_N] + t_N, *augmentations, canvas)
        yield {
            "inputs": np.pad(inputs_NxS, [(0, blanks), (0, 0)]),
            "puzzle_id": np.pad(id_N, (0, blanks)).astype(np.int32),
            "row": np.pad(row_N, (0, blanks), constant_values=len(rows)).astype(np.int32),
        }


class Truths:
    """The outputs of all tests, as tokens under any augmentation; where one is hidden, all PAD."""

    def __init__(self, tasks: Sequence[Task], ids: PuzzleIds, rows: np.ndarray, canvas: int):
        self._ids, self._rows, self._canvas = ids, rows, canvas
        outputs = [test.output for task in tasks for test in task.tests]
        self._known = np.array([output is not None for output in outputs], bool)
        nothing = np.zeros((0, 0), np.uint8)
        self._grids = flatten([x if x is not None else nothing for x in outputs] or [nothing])
        self._first_K = np.cumsum([0] + [len(task.tests) for task in tasks])

    def tokens(self, row_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, S) uint8 the truths of candidates; (N, S) bool which of their tokens are scored."""
        k_N, t_N, id_N = self._rows[row_N].T
        grid_N, ids = self._first_K[k_N] + t_N, self._ids
        augmentations = ids.transform[id_N], ids.colours[id_N]
        truth_NxS = lay_out(self._grids, grid_N, *augmentations, self._canvas)
        return truth_NxS, (truth_NxS != PAD) & self._known[grid_N][:, None]

    def accuracy(self, row_N: np.ndarray, predicted_NxS: np.ndarray) -> np.ndarray:
        """(N,) share of the truth's tokens, colours and EOS, that each candidate has right.

        As in training, PAD is not scored. NaN where the output is hidden.

        Args:
          row_N: numbers of candidates.
          predicted_NxS: what they answered, on the whole canvas.
        """
        truth_NxS, scored_NxS = self.tokens(row_N)
        right_N = (scored_NxS & (predicted_NxS == truth_NxS)).sum(axis=1)
        count_N = scored_NxS.sum(axis=1)
        return np.where(count_N > 0, right_N / np.maximum(count_N, 1), np.nan)
