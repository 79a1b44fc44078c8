"""Sudoku puzzles with one solution each, made from a seed.

random solution ── clues are taken while singles alone solve it ──► "singles"
                └── then while there is one solution            ──► "search"
"""

import dataclasses
import hashlib
from typing import Literal

import numpy as np

from drm_jax.errors import InputError
from drm_jax.puzzles.made import keep, progress
from drm_jax.puzzles.sets import PuzzleSet
from drm_jax.puzzles.sudoku.solver import dig_by_search, dig_by_singles, fill, rate
from drm_jax.random_bits import draw_bits
from drm_jax.words import counted

_VERSION = 1
"""Raised when other code makes other puzzles."""
_PART = 512
"""Boards that are made at a time."""
_MOST_MISSES = 40
"""So many parts in a row without a new puzzle that is wanted: there are hardly more."""


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
    """Distinct puzzles, the same for the same arguments. The user's cache folder keeps them.

    Args:
      other_than: puzzles that none of them may equal.

    Raises:
      InputError: there are hardly so many.
    """
    taken = set() if other_than is None else {row.tobytes() for row in other_than.inputs_NxS}
    digest = hashlib.sha256(repr((_VERSION, wanted, count, seed)).encode())
    digest.update(b"".join(sorted(taken)))

    def make() -> dict[str, np.ndarray]:
        return _make(wanted, count, seed, taken)

    arrays = keep(f"sudoku_{digest.hexdigest()[:24]}", make)
    known_N = np.ones(count, bool)
    return PuzzleSet(arrays["inputs"], arrays["outputs"], known_N, arrays["difficulty"])


def _make(wanted: Wanted, count: int, seed: int, taken: set[bytes]) -> dict[str, np.ndarray]:
    found: dict[bytes, tuple[np.ndarray, np.ndarray, int]] = {}
    part = misses = 0
    with progress(f"Sudoku {wanted.side}x{wanted.side}", count) as advance:
        while len(found) < count:
            before = len(found)
            for puzzle_S, solution_S, difficulty in zip(*_part(wanted, seed, part), strict=True):
                key = puzzle_S.tobytes()
                if len(found) < count and key not in taken:
                    found.setdefault(key, (puzzle_S, solution_S, int(difficulty)))
            part, misses = part + 1, misses + 1 if len(found) == before else 0
            advance(len(found) - before)
            if misses > _MOST_MISSES:
                raise InputError(
                    f"data: only {len(found):,} of {counted(count, 'puzzle')} of this kind were "
                    "found: ask for fewer puzzles, fewer clues or another difficulty"
                )
    inputs, outputs, difficulty = zip(*found.values(), strict=True) if found else ((), (), ())
    cells = wanted.side**2
    return {
        "inputs": np.array(inputs, np.uint8).reshape(-1, cells),
        "outputs": np.array(outputs, np.uint8).reshape(-1, cells),
        "difficulty": np.array(difficulty, np.int64),
    }


def _part(wanted: Wanted, seed: int, part: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Puzzles (N, S), solutions and difficulties of one part of the endless row of them."""
    side, cells = wanted.side, wanted.side**2
    bits_NxB = draw_bits((seed, side), part * _PART, _PART, 2 * cells)
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
