"""The rules of mazes, of many boards of symbols at once: walls stay, and the path from start to
goal is connected and shortest."""

import functools

import numpy as np

from drm_jax.puzzles.boards import in_parts

WALL, FREE, START, GOAL, PATH = range(5)
SYMBOLS = "# SGo"
_PART = 256


def is_solved(question_NxS: np.ndarray, answer_NxS: np.ndarray, side: int) -> np.ndarray:
    """(N,) bool: whether answers are shortest paths of their mazes."""
    return in_parts(functools.partial(_is_solved, side), _PART, question_NxS, answer_NxS)


def _is_solved(side: int, question_NxS: np.ndarray, answer_NxS: np.ndarray) -> np.ndarray:
    path_NxS = answer_NxS == PATH
    kept_N = (without_path(answer_NxS) == question_NxS).all(axis=1)
    moves_N = moves(question_NxS, question_NxS != WALL, side)
    along_N = moves(question_NxS, path_NxS | (answer_NxS == START) | (answer_NxS == GOAL), side)
    # as many cells as a shortest path has, and connected: there is none beside the path
    return kept_N & (moves_N > 0) & (along_N == moves_N) & (path_NxS.sum(axis=1) == moves_N - 1)


def without_path(answers: np.ndarray) -> np.ndarray:
    """Boards of any shape with free cells where the path is."""
    return np.where(answers == PATH, np.uint8(FREE), answers)


def moves(question_NxS: np.ndarray, open_NxS: np.ndarray, side: int) -> np.ndarray:
    """(N,) int: moves of the shortest way from start to goal; 0 where there is none.

    Args:
      open_NxS: bool, the cells that may be walked on.
    """
    found_N = np.zeros(len(question_NxS), np.int64)
    reached, goal, walked = (
        cells_NxS.reshape(-1, side, side)
        for cells_NxS in (question_NxS == START, question_NxS == GOAL, open_NxS)
    )
    busy_N, step = np.arange(len(question_NxS)), 0
    while len(busy_N):
        step += 1
        spread = _spread(reached, walked)
        there_N = (spread & goal).any(axis=(1, 2))
        found_N[busy_N[there_N]] = step
        go_on_N = ~there_N & (spread != reached).any(axis=(1, 2))
        busy_N, reached = busy_N[go_on_N], spread[go_on_N]
        walked, goal = walked[go_on_N], goal[go_on_N]
    return found_N


def _spread(reached: np.ndarray, walked: np.ndarray) -> np.ndarray:
    """(…, H, W) bool: what was reached, and what lies beside it, of the cells that may be
    walked on."""
    spread = reached.copy()
    spread[..., 1:, :] |= reached[..., :-1, :]
    spread[..., :-1, :] |= reached[..., 1:, :]
    spread[..., :, 1:] |= reached[..., :, :-1]
    spread[..., :, :-1] |= reached[..., :, 1:]
    return spread & walked


def conflicts(question_HxW: np.ndarray, answer_HxW: np.ndarray) -> np.ndarray:
    """(H, W) bool: cells of the maze that were changed, and path cells that the start can't reach
    along the path."""
    changed = without_path(answer_HxW) != question_HxW
    walked = (answer_HxW == PATH) | (question_HxW == START) | (question_HxW == GOAL)
    reached, before = question_HxW == START, None
    while not np.array_equal(reached, before):
        reached, before = _spread(reached, walked), reached
    return changed | ((answer_HxW == PATH) & ~reached)
