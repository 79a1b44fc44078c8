"""Boards of tokens and grids of symbols, of any family."""

from collections.abc import Callable, Sequence

import numpy as np

from drm_jax.puzzles.family import Board


def place(tokens: np.ndarray, board: Board, whole: Board) -> np.ndarray:
    """Windows of tokens (…, S) in the corner of the whole board, PAD around them.

    Args:
      board: height and width of the windows.
      whole: of the board that they are windows of.
    """
    before = tokens.shape[:-1]
    around = [(0, 0)] * len(before) + [(0, w - b) for b, w in zip(board, whole, strict=True)]
    cells = whole[0] * whole[1]
    return np.pad(tokens.reshape(*before, *board), around).reshape(*before, cells)


def window_shares(board_N: np.ndarray, boards: Sequence[Board]) -> list[float]:
    """How much of N examples stands on each board; all on the last one where there is none."""
    if not len(board_N):
        return [0.0] * (len(boards) - 1) + [1.0]
    return (np.bincount(board_N, minlength=len(boards)) / len(board_N)).tolist()


def cell_accuracy(
    predicted_NxS: np.ndarray, truth_NxS: np.ndarray, scored_NxS: np.ndarray
) -> np.ndarray:
    """(N,) share of the scored tokens that each row has right; NaN where none is scored."""
    right_N = (scored_NxS & (predicted_NxS == truth_NxS)).sum(axis=1)
    count_N = scored_NxS.sum(axis=1)
    return np.where(count_N > 0, right_N / np.maximum(count_N, 1), np.nan)


def in_parts(function: Callable[..., np.ndarray], most: int, *arrays: np.ndarray) -> np.ndarray:
    """function(*arrays), whose rows don't depend on each other, for at most so many rows at a time:
    what it computes in between needs little memory, or stays in a CPU's cache."""
    parts = range(0, max(len(arrays[0]), 1), most)
    return np.concatenate([function(*(x[i : i + most] for x in arrays)) for i in parts])


def grid_rows(grid: np.ndarray | None, symbols: str) -> list[str] | None:
    """A grid of symbols as texts, one a row; None stays None."""
    return None if grid is None else ["".join(symbols[i] for i in row) for row in grid.tolist()]


def grid_of(rows: Sequence[str] | None, symbols: str) -> np.ndarray | None:
    """What `grid_rows` was made from, (h, w) uint8; a grid without cells is 0x0.

    Raises:
      ValueError: a character is none of the symbols, or rows are not as long as each other.
    """
    if rows is None:
        return None
    if not rows:
        return np.zeros((0, 0), np.uint8)
    return np.array([[symbols.index(character) for character in row] for row in rows], np.uint8)
