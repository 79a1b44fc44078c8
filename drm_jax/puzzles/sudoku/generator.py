"""Sudoku puzzles with one solution each, made from a seed.

random solution ── clues are taken while singles alone solve it ──► "singles"
                └── then while there is one solution            ──► "search"
"""

import dataclasses
import functools
from typing import Literal

import numpy as np

from drm_jax.puzzles.made import draw_one, make_distinct
from drm_jax.puzzles.sets import PuzzleSet
from drm_jax.puzzles.sudoku.solver import dig_by_search, dig_by_singles, fill, rate
from drm_jax.random_bits import draw_bits

_VERSION = 1
"""Raised when other code makes other puzzles."""
_PART = 512
"""Boards that are made at a time,"""
_FEW = 4
"""and where one is wanted."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which puzzles to make."""

    side: int
    logic: Literal["singles", "search"]
    clues: int  # at least
    least_difficulty: int  # backtracks
    most_difficulty: int | None


def make_puzzles(
    wanted: Wanted, count: int, seed: int, other_than: PuzzleSet | None = None
) -> PuzzleSet:
    """Distinct puzzles, the same for the same arguments; see `made.make_distinct`."""
    return make_distinct(
        "puzzle",
        (_VERSION, wanted, seed),
        count,
        functools.partial(_part, wanted, seed),
        wanted.side,
        other_than,
        "ask for fewer puzzles, fewer clues or another difficulty",
    )


def draw_puzzle(wanted: Wanted, seed: int) -> np.ndarray:
    """One puzzle (S,) uint8 of digits, the same for the same arguments; nothing is kept.

    Raises:
      InputError: there is hardly such a puzzle.
    """
    return draw_one(functools.partial(_part, wanted, seed, size=_FEW), "puzzle")


def _part(
    wanted: Wanted, seed: int, part: int, size: int = _PART
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Puzzles (N, S), solutions and difficulties of one part of the endless row of them."""
    side, cells = wanted.side, wanted.side**2
    bits_NxB = draw_bits((seed, side), part * size, size, 2 * cells)
    solution_NxS = fill(bits_NxB[:, :cells], side)
    filled_N = solution_NxS[:, 0] > 0
    solution_NxS, order_NxS = solution_NxS[filled_N], np.argsort(bits_NxB[filled_N, cells:], axis=1)
    clues_N = np.full(len(solution_NxS), wanted.clues)
    puzzle_NxS = dig_by_singles(solution_NxS, order_NxS, clues_N, side)
    if wanted.logic == "search":
        puzzle_NxS = dig_by_search(puzzle_NxS, order_NxS, clues_N, side)
        difficulty_N = rate(puzzle_NxS, side)
    else:
        difficulty_N = np.zeros(len(puzzle_NxS), np.int64)
    fits_N = difficulty_N >= wanted.least_difficulty
    if wanted.most_difficulty is not None:
        fits_N &= difficulty_N <= wanted.most_difficulty
    return puzzle_NxS[fits_N], solution_NxS[fits_N], difficulty_N[fits_N]
