"""The symmetries of a square maze, many at once: which dihedral transform, a vector (1,) uint8."""

import functools

import numpy as np

from drm_jax.puzzles.dihedral import INVERSE, NUM_TRANSFORMS, dihedral


@functools.cache
def cells(side: int) -> np.ndarray:
    """(8, S) int: which cell comes to each place."""
    grid = np.arange(side * side).reshape(side, side)
    return np.stack([dihedral(grid, which).reshape(-1) for which in range(NUM_TRANSFORMS)])


def augment(tokens_NxKxS: np.ndarray, which_N: np.ndarray, side: int) -> np.ndarray:
    """K boards of each of N puzzles under the puzzle's symmetry."""
    return np.take_along_axis(tokens_NxKxS, cells(side)[which_N][:, None], axis=2)


def undo(tokens_NxKxS: np.ndarray, which_N: np.ndarray, side: int) -> np.ndarray:
    """undo(augment(t, a), a) = t."""
    return np.take_along_axis(
        tokens_NxKxS, cells(side)[np.array(INVERSE)[which_N]][:, None], axis=2
    )


def invariant(symbols_NxS: np.ndarray, side: int) -> np.ndarray:
    """(N,) uint64, the same for a board under all symmetries; different for others, but by chance
    (1 in 2**61)."""
    weight_S = np.random.Philox(key=side).random_raw(side * side)
    forms = np.stack([symbols_NxS.astype(np.uint64) @ weight_S[np.argsort(c)] for c in cells(side)])
    return forms.min(axis=0)
