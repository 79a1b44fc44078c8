"""The Sudoku puzzles of the study: made by a generator of its own, from which no clue can be taken.

It is slow (30 ms a 9x9 puzzle), but its puzzles must stay those of the committed rows.
"""

import dataclasses
import functools
import hashlib
import random
from typing import Annotated

import numpy as np
from msgspec import Meta

from drm_jax.errors import InputError
from drm_jax.puzzles.sets import PuzzleSet, set_of
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.puzzles.sudoku.solver import BOXES

_MOST_MISSES = 1000
"""So many puzzles in a row of which none is new and wanted: there are hardly more."""
Puzzle = tuple[np.ndarray, np.ndarray]
"""A grid (n, n) uint8 of digits, 0 where it is blank, and its solution."""
_Cells = list[int]  # row by row


@dataclasses.dataclass(frozen=True)
class MinimalSudoku(Sudoku):
    """Puzzles with one solution each, from which no clue can be taken; 4, 6 or 9 cells a side."""

    tested_part: Annotated[int, Meta(ge=8, le=9)] | None = None
    """8 or 9: which tenth of all solutions the tests have; training has the tenths 0 to 7. 4x4 has
    288 solutions in all, so that else most tests' solutions are those of other puzzles trained on;
    6x6 has 28 million. None: any."""

    def sets(self) -> tuple[PuzzleSet, PuzzleSet, list[str]]:
        """See `FixedBoard`.

        Raises:
          InputError: there are not so many puzzles.
        """
        counts = self.train_puzzles, self.test_puzzles or 0
        made = make_puzzles(self.side, *counts, self.puzzles_seed, self.tested_part)
        trained, tested = (set_of(puzzles, self.side**2) for puzzles in made)
        return trained, tested, []


def make_puzzles(
    side: int, train: int, test: int, seed: int, tested_part: int | None = None
) -> tuple[list[Puzzle], list[Puzzle]]:
    """Distinct puzzles to train on, and others to be solved; the same for the same arguments.

    Args:
      side: 4, 6 or 9.
      train, test: how many.
      tested_part: 8 or 9: which tenth of all solutions the tests have; those that are trained on
        then have the tenths 0 to 7. None: any.

    Raises:
      InputError: there are not so many.
    """
    rng = random.Random(seed)
    trained: dict[bytes, Puzzle] = {}
    tested: dict[bytes, Puzzle] = {}
    misses = 0
    while len(trained) < train or len(tested) < test:
        if misses > _MOST_MISSES:
            found = f"{len(trained)} to train on and {len(tested)} to test with"
            raise InputError(f"data.train, data.test: only {found} were found; ask for fewer")
        puzzle, solution = make_puzzle(side, rng)
        if tested_part is None:
            goes_to = trained if len(trained) < train else tested
        else:
            part = part_of(solution)
            goes_to = tested if part == tested_part else trained if part < 8 else {}
        most = test if goes_to is tested else train
        key, misses = puzzle.tobytes(), misses + 1
        if len(goes_to) < most and key not in trained and key not in tested:
            goes_to[key] = puzzle, solution
            misses = 0
    return list(trained.values()), list(tested.values())


def part_of(solution: np.ndarray) -> int:
    """Which tenth of all solutions this one belongs to, 0 to 9."""
    return int(hashlib.sha256(str(solution.tolist()).encode()).hexdigest(), 16) % 10


def make_puzzle(side: int, rng: random.Random) -> Puzzle:
    """A puzzle from which no clue can be taken without a second solution, and its solution."""
    solution = [0] * side**2
    _fill(solution, side, rng)
    puzzle, cells = solution.copy(), list(range(side**2))
    rng.shuffle(cells)
    for cell in cells:
        kept, puzzle[cell] = puzzle[cell], 0
        if _has_other(puzzle, side, cell, kept):
            puzzle[cell] = kept
    puzzle, solution = (np.array(x, np.uint8).reshape(side, side) for x in (puzzle, solution))
    return puzzle, solution


def _has_other(puzzle: _Cells, side: int, cell: int, digit: int) -> bool:
    """Whether there is a solution with another digit in this blank cell."""
    used = _used(puzzle, side)
    row, column, box = _units(side)[cell]
    left = _every(side) & ~(used[row] | used[column] | used[box]) & ~(1 << digit)
    while left:
        bit = left & -left
        left ^= bit
        trial = puzzle.copy()
        trial[cell] = bit.bit_length() - 1
        if _fill(trial, side):
            return True
    return False


def _fill(grid: _Cells, side: int, rng: random.Random | None = None) -> bool:
    """Fills the blanks in place, if there is a way; with `rng` in any of all ways.

    The blank with the fewest digits left is filled first.
    """
    units, every, used = _units(side), _every(side), _used(grid, side)
    blanks = [cell for cell, digit in enumerate(grid) if not digit]

    def fill() -> bool:
        if not blanks:
            return True
        fewest = side + 1
        for place, cell in enumerate(blanks):
            row, column, box = units[cell]
            left = every & ~(used[row] | used[column] | used[box])
            count = left.bit_count()
            if count < fewest:
                fewest, chosen, digits = count, place, left
                if count <= 1:
                    break
        if not digits:
            return False
        cell = blanks.pop(chosen)
        row, column, box = units[cell]
        order = [digit for digit in range(1, side + 1) if digits >> digit & 1]
        if rng is not None:
            rng.shuffle(order)
        for digit in order:
            bit = 1 << digit
            used[row] ^= bit
            used[column] ^= bit
            used[box] ^= bit
            if fill():
                grid[cell] = digit
                return True
            used[row] ^= bit
            used[column] ^= bit
            used[box] ^= bit
        blanks.insert(chosen, cell)
        return False

    return fill()


@functools.cache
def _units(side: int) -> list[tuple[int, int, int]]:
    """The row, column and box of each cell, as numbers of all units."""
    box_rows, box_columns = BOXES[side]
    return [
        (r, side + c, 2 * side + r // box_rows * box_rows + c // box_columns)
        for r in range(side)
        for c in range(side)
    ]


def _every(side: int) -> int:
    """A bit for each digit, from 1."""
    return 2 ** (side + 1) - 2


def _used(grid: _Cells, side: int) -> list[int]:
    """The digits that stand in each unit, as bits."""
    used = [0] * (3 * side)
    for digit, units in zip(grid, _units(side), strict=True):
        for unit in units if digit else ():
            used[unit] |= 1 << digit
    return used
