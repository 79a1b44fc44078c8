"""Mazes with one way from start to goal, made from a seed.

Every second cell is a place; a walk from the start carves passages to places that it hasn't seen,
and goes back where there is none left (depth-first search). So each two places have one way
between them.
"""

import dataclasses
import functools

import numpy as np

from drm_jax.puzzles.made import draw_one, make_distinct
from drm_jax.puzzles.maze.rules import FREE, GOAL, PATH, START, WALL, without_path
from drm_jax.puzzles.sets import PuzzleSet
from drm_jax.random_bits import below, draw_bits

_VERSION = 1
"""Raised when other code makes other mazes."""
_PART, _FEW = 512, 16
"""Mazes that are made at a time, and where one is wanted."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which mazes to make."""

    side: int
    least_moves: int
    most_moves: int | None


def make_mazes(
    wanted: Wanted, count: int, seed: int, other_than: PuzzleSet | None = None
) -> PuzzleSet:
    """Distinct mazes, the same for the same arguments; see `made.make_distinct`."""
    return make_distinct(
        "maze",
        (_VERSION, wanted, seed),
        count,
        functools.partial(_part, wanted, seed),
        wanted.side,
        other_than,
        "ask for fewer, or for a shorter path",
    )


def draw_maze(wanted: Wanted, seed: int) -> np.ndarray:
    """One maze (S,) uint8 of symbols, the same for the same arguments; nothing is kept.

    Raises:
      InputError: there is hardly such a maze.
    """
    return draw_one(functools.partial(_part, wanted, seed, size=_FEW), "maze")


def _part(
    wanted: Wanted, seed: int, part: int, size: int = _PART
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mazes (N, S), solved ones and their moves, of one part of the endless row of them."""
    side = wanted.side
    bits_NxB = draw_bits((seed, side), part * size, size, num_bits(side))
    solved_NxS, moves_N = carve(bits_NxB, side, wanted.least_moves)
    fits_N = moves_N > 0
    if wanted.most_moves is not None:
        fits_N &= moves_N <= wanted.most_moves
    solved_NxS = solved_NxS[fits_N]
    return without_path(solved_NxS), solved_NxS, moves_N[fits_N]


def num_bits(side: int) -> int:
    """How many random numbers `carve` needs for a maze."""
    return 2 * _places(side) ** 2 + 3


def _places(side: int) -> int:
    """Places along a side."""
    return (side + 1) // 2


def carve(bits_NxB: np.ndarray, side: int, least_moves: int) -> tuple[np.ndarray, np.ndarray]:
    """Solved mazes (N, S) uint8 of symbols, and the moves (N,) of their ways; 0 where no place is
    so far from the start.

    Args:
      bits_NxB: uint32 random numbers: a maze is a function of its row.
    """
    count, places = len(bits_NxB), _places(side)
    rows, shift_N = np.arange(count), (bits_NxB[:, 0] >> np.uint32(31)) * (side % 2 == 0)
    shift2_N = (bits_NxB[:, 1] >> np.uint32(31)) * (side % 2 == 0)
    start_N = below(bits_NxB[:, 2], places * places)
    parent_NxP, depth_NxP, cells_NxHxW = _walk(bits_NxB[:, 3:], start_N, places)
    far_NxP = (2 * depth_NxP >= max(least_moves, 1)) & (depth_NxP > 0)
    # the goal is any of the places that are far enough: that with the largest mixed number
    mixed_P = np.arange(1, places * places + 1, dtype=np.uint32) * np.uint32(2654435761)
    mixed_NxP = (mixed_P ^ bits_NxB[:, 1:2]) * np.uint32(2246822519) | np.uint32(1)
    key_NxP = np.where(far_NxP, mixed_NxP, 0)
    goal_N = np.argmax(key_NxP, axis=1)
    moves_N = np.where(far_NxP.any(axis=1), 2 * depth_NxP[rows, goal_N], 0)
    _draw_path(cells_NxHxW, parent_NxP, start_N, goal_N, places)
    solved = np.full((count, side, side), WALL, np.uint8)
    span = 2 * places - 1
    for dy in (0, 1):
        for dx in (0, 1):
            here = np.flatnonzero((shift_N == dy) & (shift2_N == dx))
            if len(here):
                solved[here, dy : dy + span, dx : dx + span] = cells_NxHxW[here]
    return solved.reshape(count, -1), moves_N


def _walk(
    bits_NxB: np.ndarray, start_N: np.ndarray, places: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each place the one that it was reached from, and how far it is from the start, (N, P)
    each; (N, h, w) the cells, places and what lies between them."""
    count, span = len(start_N), 2 * places - 1
    rows = np.arange(count)
    cells = np.full((count, span, span), WALL, np.uint8)
    wide = places + 2  # a border of places that were seen
    seen = np.ones((count, wide * wide), bool)
    seen.reshape(count, wide, wide)[:, 1:-1, 1:-1] = False
    parent, depth = np.zeros((2, count, places * places), np.int64)
    steps = np.array([-wide, 1, wide, -1])
    row_N, column_N = np.divmod(start_N, places)
    here_N = (row_N + 1) * wide + column_N + 1
    seen[rows, here_N] = True
    cells[rows, 2 * row_N, 2 * column_N] = FREE
    for turn in range(2 * places * places - 2):
        open_Nx4 = ~seen[rows[:, None], here_N[:, None] + steps]
        ways_N = open_Nx4.sum(axis=1)
        nth_N = below(bits_NxB[:, turn], np.maximum(ways_N, 1))
        way_N = np.argmax(np.cumsum(open_Nx4, axis=1) > nth_N[:, None], axis=1)
        goes_N = ways_N > 0
        place_N = (here_N // wide - 1) * places + here_N % wide - 1
        there_N = here_N + steps[way_N]
        new_N = (there_N // wide - 1) * places + there_N % wide - 1
        on, at = rows[goes_N], new_N[goes_N]
        parent[on, at] = place_N[goes_N]
        depth[on, at] = depth[on, place_N[goes_N]] + 1
        seen[on, there_N[goes_N]] = True
        (y0, x0), (y1, x1) = np.divmod(place_N[goes_N], places), np.divmod(at, places)
        cells[on, y0 + y1, x0 + x1] = FREE
        cells[on, 2 * y1, 2 * x1] = FREE
        back_N = parent[rows, place_N]
        back_N = (back_N // places + 1) * wide + back_N % places + 1
        at_start_N = depth[rows, place_N] == 0
        here_N = np.where(goes_N, there_N, np.where(at_start_N, here_N, back_N))
    return parent, depth, cells


def _draw_path(
    cells: np.ndarray, parent: np.ndarray, start_N: np.ndarray, goal_N: np.ndarray, places: int
) -> None:
    """Marks start, goal and the way between them, in place."""
    rows, at_N = np.arange(len(start_N)), goal_N.copy()
    while (at_N != start_N).any():
        before_N = np.where(at_N == start_N, at_N, parent[rows, at_N])
        (y0, x0), (y1, x1) = np.divmod(at_N, places), np.divmod(before_N, places)
        cells[rows, y0 + y1, x0 + x1] = PATH
        cells[rows, 2 * y1, 2 * x1] = PATH
        at_N = before_N
    for place_N, symbol in ((goal_N, GOAL), (start_N, START)):
        y, x = np.divmod(place_N, places)
        cells[rows, 2 * y, 2 * x] = symbol
