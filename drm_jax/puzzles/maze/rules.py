"""The rules of mazes, of many boards of symbols at once: walls stay, and the path from start to
goal is connected and shortest."""

import numpy as np

WALL, FREE, START, GOAL, PATH = range(5)
SYMBOLS = "# SGo"
_PART = 256


def is_solved(question_NxS: np.ndarray, answer_NxS: np.ndarray, side: int) -> np.ndarray:
    """(N,) bool: whether answers are shortest paths of their mazes."""
    parts = [slice(start, start + _PART) for start in range(0, len(answer_NxS), _PART)]
    found = [_is_solved(question_NxS[part], answer_NxS[part], side) for part in parts]
    return np.concatenate(found) if found else np.zeros(0, bool)


def _is_solved(question_NxS: np.ndarray, answer_NxS: np.ndarray, side: int) -> np.ndarray:
    path_NxS = answer_NxS == PATH
    kept_N = (_without_path(answer_NxS) == question_NxS).all(axis=1)
    moves_N = moves(question_NxS, question_NxS != WALL, side)
    along_N = moves(question_NxS, path_NxS | (answer_NxS == START) | (answer_NxS == GOAL), side)
    # as many cells as a shortest path has, and connected: there is none beside the path
    return kept_N & (moves_N > 0) & (along_N == moves_N) & (path_NxS.sum(axis=1) == moves_N - 1)


def _without_path(answer_NxS: np.ndarray) -> np.ndarray:
    return np.where(answer_NxS == PATH, FREE, answer_NxS)


def moves(question_NxS: np.ndarray, open_NxS: np.ndarray, side: int) -> np.ndarray:
    """(N,) int: moves of the shortest way from start to goal; 0 where there is none.

    Args:
      open_NxS: bool, the cells that may be walked on.
    """
    count = len(question_NxS)
    found_N = np.zeros(count, np.int64)
    padded = np.zeros((count, side + 2, side + 2), bool)
    open_NxHxW, reached, goal = padded.copy(), padded.copy(), padded
    inside = (slice(None), slice(1, -1), slice(1, -1))
    open_NxHxW[inside] = open_NxS.reshape(-1, side, side)
    reached[inside] = (question_NxS == START).reshape(-1, side, side)
    goal[inside] = (question_NxS == GOAL).reshape(-1, side, side)
    busy_N, step = np.arange(count), 0
    while len(busy_N):
        step += 1
        spread = reached.copy()
        spread[:, 1:] |= reached[:, :-1]
        spread[:, :-1] |= reached[:, 1:]
        spread[:, :, 1:] |= reached[:, :, :-1]
        spread[:, :, :-1] |= reached[:, :, 1:]
        spread &= open_NxHxW
        there_N = (spread & goal).any(axis=(1, 2))
        found_N[busy_N[there_N]] = step
        go_on_N = ~there_N & (spread != reached).any(axis=(1, 2))
        busy_N, reached = busy_N[go_on_N], spread[go_on_N]
        open_NxHxW, goal = open_NxHxW[go_on_N], goal[go_on_N]
    return found_N


def conflicts(question_HxW: np.ndarray, answer_HxW: np.ndarray) -> np.ndarray:
    """(H, W) bool: cells of the maze that were changed, and path cells that the start can't reach
    along the path."""
    changed = _without_path(answer_HxW) != question_HxW
    walked = (answer_HxW == PATH) | (question_HxW == START) | (question_HxW == GOAL)
    reached = question_HxW == START
    while True:
        spread = reached.copy()
        spread[1:] |= reached[:-1]
        spread[:-1] |= reached[1:]
        spread[:, 1:] |= reached[:, :-1]
        spread[:, :-1] |= reached[:, 1:]
        spread &= walked
        if np.array_equal(spread, reached):
            break
        reached = spread
    return changed | ((answer_HxW == PATH) & ~reached)
