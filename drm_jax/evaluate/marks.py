"""What is marked on a board, wherever one is shown: given cells, and cells that break a rule.

A family says which; see `Family.given` and `Family.conflicts`. ARC marks nothing.
"""

import numpy as np

from drm_jax.evaluate.answers import Answers, Trajectory, augmented, first_symbol
from drm_jax.puzzles.boards import grid_of
from drm_jax.puzzles.family import Family


def given_in(question: np.ndarray, shape: tuple[int, ...], family: Family) -> np.ndarray:
    """Bool, of this shape: the cells that the question fixes; none of a board of another shape."""
    same = question.size > 0 and question.shape == tuple(shape)
    return family.given(question) if same else np.zeros(shape, bool)


def conflicts_in(question: np.ndarray, grid: np.ndarray, family: Family) -> np.ndarray:
    """(h, w) bool: the cells of an answer that break a rule; none if it has another shape than the
    question."""
    same = question.size > 0 and question.shape == grid.shape
    return family.conflicts(question, grid) if same else np.zeros(grid.shape, bool)


def conflicts_of_steps(trajectory: Trajectory, family: Family, augment: bool) -> list[np.ndarray]:
    """`conflicts_in` the answer of each step.

    Args:
      augment: as the network saw it; else with the candidate's augmentation undone.
    """
    question, augmentation_A = trajectory.question, trajectory.augmentation_A
    asked = augmented(question, augmentation_A, family) if augment else question
    first, found = first_symbol(family), {}
    for tokens_S in trajectory.predicted_NxS:
        key = tokens_S.tobytes()  # most steps change nothing in the end
        if key not in found:
            grid = family.to_grid(tokens_S, trajectory.board)
            shown = grid if augment else family.undo(grid + first, augmentation_A) - first
            found[key] = conflicts_in(asked, shown, family)
    return [found[tokens_S.tobytes()] for tokens_S in trajectory.predicted_NxS]


def are_marked(answers: Answers, family: Family) -> bool:
    """Whether boards have given cells, and so may break rules too; as the first test tells."""
    tests = (test for task in answers.tasks for test in task["tests"])
    for test in tests:
        question = grid_of(test["input"], family.vocabulary.symbols)
        return bool(given_in(question, question.shape, family).any())
    return False
