"""The rules of Sudoku, of many boards of digits at once."""

import functools

import numpy as np

from drm_jax.puzzles.boards import in_parts
from drm_jax.puzzles.sudoku.solver import to_bits, units

_PART = 8192


def is_solved(question_NxS: np.ndarray, answer_NxS: np.ndarray, side: int) -> np.ndarray:
    """(N,) bool: every unit has every digit, and the clues are kept."""
    return in_parts(functools.partial(_is_solved, side), _PART, question_NxS, answer_NxS)


def _is_solved(side: int, question_NxS: np.ndarray, answer_NxS: np.ndarray) -> np.ndarray:
    kept_N = ((question_NxS == 0) | (question_NxS == answer_NxS)).all(axis=1)
    bits_NxUxC = to_bits(answer_NxS)[:, units(side)]
    full_N = (np.bitwise_or.reduce(bits_NxUxC, axis=2) == 2**side - 1).all(axis=1)
    return kept_N & full_N


def conflicts(question_LxL: np.ndarray, answer_LxL: np.ndarray) -> np.ndarray:
    """(n, n) bool: digits that stand twice in a row, column or box, and clues that were changed."""
    side = len(answer_LxL)
    answer_S, question_S = answer_LxL.reshape(-1), question_LxL.reshape(-1)
    found_S = (question_S > 0) & (question_S != answer_S)
    for cells in units(side):
        digits = answer_S[cells]
        twice = np.bincount(digits, minlength=side + 1)[digits] > 1
        found_S[cells[twice & (digits > 0)]] = True
    return found_S.reshape(side, side)
