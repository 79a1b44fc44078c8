"""The eight symmetries of a square maze, as a vector (1,) uint8: which one.

0 identity; 1, 2, 3 counter-clockwise turns; 4 mirror left-right; 5 mirror up-down; 6 transpose;
7 transpose over the other diagonal. The order of TRM's and HRM's builders differs in the last
one's name alone.
"""

import functools

import numpy as np

COUNT = 8
WORDS = (
    "as it is", "turned left", "turned 180°", "turned right", "mirrored left-right",
    "mirrored up-down", "transposed", "transposed over the other diagonal",
)  # fmt: skip


def transformed(grid_HxW: np.ndarray, which: int) -> np.ndarray:
    """A square grid under one of them."""
    if which < 4:
        return np.rot90(grid_HxW, which)
    if which == 4:
        return grid_HxW[:, ::-1]
    if which == 5:
        return grid_HxW[::-1]
    return grid_HxW.T if which == 6 else grid_HxW[::-1, ::-1].T


@functools.cache
def cells(side: int) -> np.ndarray:
    """(8, S) int: which cell comes to each place."""
    grid = np.arange(side * side).reshape(side, side)
    return np.stack([transformed(grid, which).reshape(-1) for which in range(COUNT)])


@functools.cache
def _back(side: int) -> np.ndarray:
    return np.argsort(cells(side), axis=1)


def augment(tokens_NxKxS: np.ndarray, which_N: np.ndarray, side: int) -> np.ndarray:
    """K boards of each of N puzzles under the puzzle's symmetry."""
    return np.take_along_axis(tokens_NxKxS, cells(side)[which_N][:, None], axis=2)


def undo(tokens_NxKxS: np.ndarray, which_N: np.ndarray, side: int) -> np.ndarray:
    """undo(augment(t, a), a) = t."""
    return np.take_along_axis(tokens_NxKxS, _back(side)[which_N][:, None], axis=2)


def invariant(symbols_NxS: np.ndarray, side: int) -> np.ndarray:
    """(N,) uint64, the same for a board under all symmetries; different for others, but by chance
    (1 in 2**61)."""
    rng = np.random.Philox(key=side)
    weight_S = rng.random_raw(side * side)
    forms = np.stack([symbols_NxS.astype(np.uint64) @ weight_S[np.argsort(c)] for c in cells(side)])
    return forms.min(axis=0)
