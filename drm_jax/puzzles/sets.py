"""Many puzzles of one size, as arrays."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from drm_jax.errors import InputError
from drm_jax.random_bits import bits_at
from drm_jax.words import counted

Pair = tuple[np.ndarray, np.ndarray | None]
"""Input and output, grids (h, w) uint8 of symbols; the output is None where it is hidden."""


@dataclasses.dataclass(frozen=True, eq=False)
class PuzzleSet:
    """N puzzles of one size."""

    inputs_NxS: np.ndarray  # uint8 symbols
    outputs_NxS: np.ndarray
    known_N: np.ndarray  # bool: whether the output is known
    difficulty_N: np.ndarray | None = None  # int; None: not known
    first_G: np.ndarray | None = None
    """(G + 1,) int: where copies of each puzzle under symmetries begin; None: each is its own."""

    def __len__(self) -> int:
        return len(self.inputs_NxS)

    def chosen(self, which: np.ndarray) -> "PuzzleSet":
        """The puzzles of these numbers; of a set without copies."""
        parts = (self.inputs_NxS, self.outputs_NxS, self.known_N, self.difficulty_N)
        return PuzzleSet(*(None if part is None else part[which] for part in parts))


def set_of(pairs: Sequence[Pair], cells: int) -> PuzzleSet:
    """Pairs of grids as arrays.

    Args:
      cells: of a board.
    """
    blank = np.zeros(cells, np.uint8)
    boards = [
        [blank if grid is None else np.asarray(grid, np.uint8).reshape(cells) for grid in pair]
        for pair in pairs
    ]
    both_Nx2xS = np.array(boards, np.uint8).reshape(-1, 2, cells)
    known_N = np.array([output is not None for _, output in pairs], bool)
    return PuzzleSet(both_Nx2xS[:, 0], both_Nx2xS[:, 1], known_N)


def choose(
    puzzles: PuzzleSet,
    count: int | None,
    seed: int,
    least_difficulty: int,
    most_difficulty: int | None,
    role: str,
) -> tuple[PuzzleSet, list[str]]:
    """Some of the puzzles of files, in their order, and notes on those that are left out.

    Args:
      count: how many are drawn, from the seed; all where there are no more, or for None.
      role: train or evaluate, for messages.

    Raises:
      InputError: a difficulty is asked for that isn't known, or none is left.
    """
    filtered = least_difficulty > 0 or most_difficulty is not None
    if puzzles.first_G is not None:
        if filtered:
            raise InputError(f"data.{role}: a dataset folder doesn't tell the difficulty")
        return _some_groups(puzzles, count, seed), []
    which_N, notes = np.arange(len(puzzles)), []
    if filtered:
        if puzzles.difficulty_N is None:
            raise InputError(f"data.{role}: its puzzles have no rating to choose them by")
        most = np.inf if most_difficulty is None else most_difficulty
        which_N = np.flatnonzero(
            (puzzles.difficulty_N >= least_difficulty) & (puzzles.difficulty_N <= most)
        )
        left_out = counted(len(puzzles) - len(which_N), "puzzle")
        notes = [f"data.{role}: {left_out} of another difficulty left out"]
    if count is not None and len(which_N) > count:
        key_N = bits_at((seed,), which_N, 1)[:, 0]
        which_N = np.sort(which_N[np.argsort(key_N, kind="stable")[:count]])
    if not len(which_N):
        raise InputError(f"data.{role}: no puzzle of this difficulty")
    return puzzles.chosen(which_N), notes


def _some_groups(puzzles: PuzzleSet, count: int | None, seed: int) -> PuzzleSet:
    """A set with symmetric copies; of so many puzzles with all their copies."""
    sizes_G = np.diff(puzzles.first_G)
    if count is None or len(sizes_G) <= count:
        return puzzles
    key_G = bits_at((seed,), np.arange(len(sizes_G)), 1)[:, 0]
    kept_G = np.zeros(len(sizes_G), bool)
    kept_G[np.argsort(key_G, kind="stable")[:count]] = True
    chosen = puzzles.chosen(np.flatnonzero(np.repeat(kept_G, sizes_G)))
    first_G = np.concatenate([[0], np.cumsum(sizes_G[kept_G])])
    return dataclasses.replace(chosen, first_G=first_G)
