"""Solves many Sudoku boards at once, by singles and by search. Numpy alone.

A board is a row of candidates: for each cell the digits that it may still have, as bits 1, 2, 4, …
Boards are searched breadth first: where singles lead no further, the cell with the fewest
candidates takes the lowest of them in one copy of the board, and loses it in another.
"""

import dataclasses
import functools

import numpy as np

from drm_jax.puzzles.boards import in_parts

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3), 16: (4, 4)}
"""Rows and columns of the boxes, by the side of the board."""
_MOST_OPEN = 256
"""A board's search is given up when so many of its copies are open."""


@functools.cache
def units(side: int) -> np.ndarray:
    """(3n, n) int: the cells of each row, column and box."""
    cells = np.arange(side * side).reshape(side, side)
    rows, columns = BOXES[side]
    boxes = cells.reshape(side // rows, rows, side // columns, columns).swapaxes(1, 2)
    return np.concatenate([cells, cells.T, boxes.reshape(side, side)])


@functools.cache
def unit_of(side: int) -> np.ndarray:
    """(3, S) int: the row, the column and the box that each cell stands in, among `units`."""
    of = np.empty((3, side * side), np.int64)
    for number, cells in enumerate(units(side)):
        of[number // side, cells] = number
    return of


@functools.cache
def _peers(side: int) -> np.ndarray:
    """(S, P) int: the other cells that share a unit with each cell."""
    every, of = units(side), unit_of(side)
    return np.array(
        [sorted({*every[of[:, cell]].ravel().tolist()} - {cell}) for cell in range(side**2)]
    )


def to_candidates(digits_NxS: np.ndarray, side: int) -> np.ndarray:
    """(N, S) uint32 candidates of boards of digits, 0 for a blank."""
    every = np.uint32(2**side - 1)
    placed = np.uint32(1) << (np.maximum(digits_NxS, 1) - 1).astype(np.uint32)
    return np.where(digits_NxS > 0, placed, every)


def to_digits(candidates_NxS: np.ndarray) -> np.ndarray:
    """(N, S) uint8 digits of solved boards; 0 where a cell has several candidates or none."""
    single = np.bitwise_count(candidates_NxS) == 1
    digits = np.log2(np.maximum(candidates_NxS, 1)).astype(np.uint8) + np.uint8(1)
    return np.where(single, digits, 0).astype(np.uint8)


def propagate(candidates_NxS: np.ndarray, side: int) -> np.ndarray:
    """Boards after all singles, naked and hidden; a row of zeros where there is no solution."""
    left = candidates_NxS.copy()
    busy_N = np.arange(len(left))
    while len(busy_N):
        before = left[busy_N]
        after = _singles(before, side)
        left[busy_N] = after
        changed_N = (after != before).any(axis=1)
        busy_N = busy_N[changed_N & (after[:, 0] > 0)]
    return left


def _singles(left: np.ndarray, side: int) -> np.ndarray:
    """One round: digits that are placed leave their units, and digits with one place take it."""
    every = np.uint32(2**side - 1)
    cells, of = units(side), unit_of(side)
    placed = np.where(np.bitwise_count(left) == 1, left, np.uint32(0))
    in_units_NxUxC = placed[:, cells]
    used_NxU = np.bitwise_or.reduce(in_units_NxUxC, axis=2)
    twice_N = (np.bitwise_count(in_units_NxUxC).sum(axis=2) != np.bitwise_count(used_NxU)).any(1)
    used_NxS = used_NxU[:, of[0]] | used_NxU[:, of[1]] | used_NxU[:, of[2]]
    left = np.where(placed > 0, left, left & ~used_NxS)

    once_NxU, more_NxU = np.zeros_like(used_NxU), np.zeros_like(used_NxU)
    open_NxUxC = left[:, cells]
    for place in range(side):
        here_NxU = open_NxUxC[:, :, place]
        more_NxU |= once_NxU & here_NxU
        once_NxU |= here_NxU
    wrong_N = twice_N | (once_NxU != every).any(axis=1) | (left == 0).any(axis=1)
    only_NxU = once_NxU & ~more_NxU
    only_NxS = (only_NxU[:, of[0]] | only_NxU[:, of[1]] | only_NxU[:, of[2]]) & left
    left = np.where(only_NxS > 0, only_NxS, left)
    left[wrong_N] = 0
    return left


def fill(bits_NxS: np.ndarray, side: int) -> np.ndarray:
    """Random solved boards (N, S) uint8 of digits; a row of zeros where a guess led nowhere.

    Args:
      bits_NxS: uint32 random numbers: a board is a function of its row.
    """
    left, order_NxS = _begun(bits_NxS, side), np.argsort(bits_NxS, axis=1)
    busy_N, turn = np.arange(len(left)), 0
    while len(busy_N):
        here = propagate(left[busy_N], side)
        open_N = (np.bitwise_count(here) > 1).any(axis=1)
        left[busy_N] = here
        busy_N = busy_N[open_N]
        if len(busy_N):
            left[busy_N] = _guess(here[open_N], order_NxS[busy_N], bits_NxS[busy_N], turn)
        turn += 1
    return to_digits(left)


def _begun(bits_NxS: np.ndarray, side: int) -> np.ndarray:
    """Candidates of boards whose boxes along the diagonal, which share no unit, are filled."""
    count, (rows, columns) = len(bits_NxS), BOXES[side]
    left = np.full((count, side * side), 2**side - 1, np.uint32)
    for box in range(min(rows, columns)):
        cells = units(side)[2 * side + box * (side // columns) + box]
        digit_NxC = np.argsort(bits_NxS[:, cells], axis=1)
        left[:, cells] = np.uint32(1) << digit_NxC.astype(np.uint32)
    return left


def _guess(left: np.ndarray, order: np.ndarray, bits: np.ndarray, turn: int) -> np.ndarray:
    """The cell with the fewest candidates, the first in the board's own order, takes one."""
    rows = np.arange(len(left))
    counts = np.bitwise_count(left).astype(np.int64)
    counts[counts <= 1] = 99
    cell_N = order[rows, np.argmin(counts[rows[:, None], order], axis=1)]
    candidates_N = left[rows, cell_N]
    mixed_N = (bits[rows, cell_N].astype(np.uint64) * np.uint64(2 * turn + 1)) >> np.uint64(7)
    skip_N = (mixed_N % np.bitwise_count(candidates_N)).astype(np.int64)
    while (skip_N > 0).any():
        candidates_N = np.where(skip_N > 0, candidates_N & (candidates_N - np.uint32(1)),
                                candidates_N)  # fmt: skip
        skip_N -= 1
    out = left.copy()
    out[rows, cell_N] = candidates_N & (~candidates_N + np.uint32(1))
    return out


@dataclasses.dataclass(frozen=True, eq=False)
class Searched:
    """What a search found of N boards."""

    solutions_N: np.ndarray  # int: how many there are, counted up to the limit
    backtracks_N: np.ndarray  # int: copies of the board that came to nothing
    first_NxS: np.ndarray  # uint8 digits of a solution; zeros where there is none
    given_up_N: np.ndarray  # bool: too many copies were open


def search(candidates_NxS: np.ndarray, side: int, limit: int = 2) -> Searched:
    """Searches boards until they have `limit` solutions, or have been searched whole."""
    count = len(candidates_NxS)
    solutions_N, backtracks_N = np.zeros((2, count), np.int64)
    first_NxS = np.zeros(candidates_NxS.shape, np.uint8)
    given_up_N = np.zeros(count, bool)
    left, owner = candidates_NxS, np.arange(count)
    while len(left):
        left = propagate(left, side)
        counts = np.bitwise_count(left)
        dead, solved = counts[:, 0] == 0, (counts == 1).all(axis=1)
        backtracks_N += np.bincount(owner[dead], minlength=count)
        solutions_N += np.bincount(owner[solved], minlength=count)
        first_NxS[owner[solved]] = to_digits(left[solved])
        given_up_N |= np.bincount(owner, minlength=count) > _MOST_OPEN
        done_N = (solutions_N >= limit) | given_up_N
        open_rows = ~dead & ~solved & ~done_N[owner]
        left, owner = left[open_rows], owner[open_rows]
        counts = counts[open_rows].astype(np.int64)
        counts[counts <= 1] = 99
        rows, cell = np.arange(len(left)), np.argmin(counts, axis=1)
        lowest = left[rows, cell] & (~left[rows, cell] + np.uint32(1))
        taken, others = left.copy(), left.copy()
        taken[rows, cell] = lowest
        others[rows, cell] &= ~lowest
        left, owner = np.concatenate([taken, others]), np.concatenate([owner, owner])
    return Searched(solutions_N, backtracks_N, first_NxS, given_up_N)


def rate(digits_NxS: np.ndarray, side: int) -> np.ndarray:
    """(N,) int: the difficulty of puzzles: copies that came to nothing in a whole search, 0 where
    singles alone solve it."""
    return in_parts(lambda part: search(to_candidates(part, side), side).backtracks_N, 512,
                    digits_NxS)  # fmt: skip


# --- puzzles from solutions -----------------------------------------------------------------------
def dig_by_singles(
    solution_NxS: np.ndarray, order_NxS: np.ndarray, clues_N: np.ndarray, side: int
) -> np.ndarray:
    """Puzzles (N, S) that singles alone solve: clues are taken while each is a single of the rest.

    Put back in the opposite order, each clue is a single of those that are there.

    Args:
      order_NxS: the order in which each board's cells are tried.
      clues_N: how many clues are left at least.
    """
    puzzle, rows = solution_NxS.copy(), np.arange(len(solution_NxS))
    peers, cells, of = _peers(side), units(side), unit_of(side)
    kept_N = np.full(len(puzzle), side * side)
    for cell_N in order_NxS.T:
        digit_N = puzzle[rows, cell_N]
        puzzle[rows, cell_N] = 0
        near_NxP = puzzle[rows[:, None], peers[cell_N]]
        seen_N = np.bitwise_or.reduce(to_bits(near_NxP), axis=1)
        naked_N = np.bitwise_count(seen_N) == side - 1
        # hidden: no other blank of a unit could have the digit
        holds_NxU = (puzzle[:, cells] == digit_N[:, None, None]).any(axis=2)
        shut_NxS = holds_NxU[:, of[0]] | holds_NxU[:, of[1]] | holds_NxU[:, of[2]] | (puzzle > 0)
        places_Nx3 = np.stack(
            [(~shut_NxS[rows[:, None], cells[of[k][cell_N]]]).sum(axis=1) for k in range(3)], axis=1
        )
        takes_N = (naked_N | (places_Nx3 == 1).any(axis=1)) & (kept_N > clues_N)
        kept_N -= takes_N
        puzzle[rows, cell_N] = np.where(takes_N, 0, digit_N)
    return puzzle


def to_bits(digits: np.ndarray) -> np.ndarray:
    """uint32: a bit for each digit; 0 for a blank."""
    return np.where(digits > 0, np.uint32(1) << (np.maximum(digits, 1) - 1).astype(np.uint32), 0)


def dig_by_search(
    puzzle_NxS: np.ndarray, order_NxS: np.ndarray, clues_N: np.ndarray, side: int
) -> np.ndarray:
    """Puzzles of one solution with fewer clues: each is taken where no other digit could stand.

    Args:
      puzzle_NxS: of one solution each.
      order_NxS, clues_N: as of `dig_by_singles`.
    """
    puzzle, rows = puzzle_NxS.copy(), np.arange(len(puzzle_NxS))
    for cell_N in order_NxS.T:
        digit_N = puzzle[rows, cell_N]
        try_N = np.flatnonzero((digit_N > 0) & ((puzzle > 0).sum(axis=1) > clues_N))
        if not len(try_N):
            continue
        without = puzzle[try_N]
        without[np.arange(len(try_N)), cell_N[try_N]] = 0
        other = to_candidates(without, side)
        other[np.arange(len(try_N)), cell_N[try_N]] &= ~to_bits(digit_N[try_N])
        found = search(other, side, limit=1)
        only_N = (found.solutions_N == 0) & ~found.given_up_N
        puzzle[try_N[only_N]] = without[only_N]
    return puzzle
