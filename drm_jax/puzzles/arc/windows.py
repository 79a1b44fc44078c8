"""Windows of the canvas (canvas=fit): which one an example stands on, which one an answer needs."""

from collections.abc import Sequence

import numpy as np

from drm_jax.puzzles.arc.tasks import Pair, Task
from drm_jax.puzzles.arc.tokens import grid_sizes


def window_sides(largest_N: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """For grids of these longest sides: which window holds them and the EOS that closes them.

    The last one, the whole canvas, holds all; there a grid may reach the edge.

    Args:
      sides: ascending.
    """
    return np.minimum(np.searchsorted(np.asarray(sides), largest_N + 1), len(sides) - 1)


def pair_windows(pairs: Sequence[Pair], sides: Sequence[int]) -> np.ndarray:
    """`window_sides` of training pairs, each by the larger of its two grids."""
    largest = [max(*pair.input.shape, *pair.output.shape) for pair in pairs]
    return window_sides(np.array(largest, np.int64), sides)


def first_windows(tasks: Sequence[Task], rows: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """(R,) for each candidate the smallest window that may hold its answer, 0, 1, … of `sides`.

    It holds the test's input and an output of the `expected_shape`, with the EOS that closes them.

    Args:
      rows: from `arc.questions.evaluation_rows`.
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


def touches_border(predicted_BxS: np.ndarray, side: int) -> np.ndarray:
    """(B,) bool: whether the grid that is answered reaches the last row or column of its window.

    It may then go on outside: the EOS that would close it is missing. What stands beyond the EOS
    doesn't count: there the targets are PAD, which isn't trained, and any colour may be predicted.
    """
    return grid_sizes(predicted_BxS).max(axis=1) == side
