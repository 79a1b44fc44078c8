"""Many grids at once, augmented and laid on canvases of tokens.

The same as `augment` and `to_tokens` of one grid after the other, 20 times faster. The cells of all
grids of a batch stand in one long row; a dihedral transform is then a start and two strides:

    cell (i, j) of the augmented grid  =  cells[start + i * down + j * across]
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from drm_jax.puzzles.arc.tokens import EOS, FIRST_COLOUR

# A transform as what it does to rows and columns of the grid: turned or not (i runs along the
# columns), then which of the grid's rows and columns are read backwards.
_TURNED = np.array([0, 1, 0, 1, 0, 0, 1, 1], bool)
_ROWS_BACK = np.array([0, 0, 1, 1, 0, 1, 0, 1], bool)
_COLUMNS_BACK = np.array([0, 1, 1, 0, 1, 0, 0, 1], bool)


@dataclasses.dataclass(frozen=True, eq=False)
class FlatGrids:
    """The cells of G grids in one row; grid g is cells[start_G[g]:], size_Gx2[g] = (h, w)."""

    cells: np.ndarray  # uint8 colours
    start_G: np.ndarray  # int64
    size_Gx2: np.ndarray  # int32


def flatten(grids: Sequence[np.ndarray]) -> FlatGrids:
    """All of the grids, in order; there is at least one."""
    size_Gx2 = np.array([grid.shape for grid in grids], np.int32)
    cells = np.concatenate([np.ravel(grid) for grid in grids])
    end_G = np.cumsum(size_Gx2.prod(axis=1), dtype=np.int64)
    return FlatGrids(cells, end_G - size_Gx2.prod(axis=1), size_Gx2)


def turned_sizes(grids: FlatGrids, grid_N: np.ndarray, transform_N: np.ndarray) -> np.ndarray:
    """(N, 2) int32 height and width of these grids under their transforms."""
    size_Nx2 = grids.size_Gx2[grid_N]
    return np.where(_TURNED[transform_N][:, None], size_Nx2[:, ::-1], size_Nx2)


def lay_out(
    grids: FlatGrids,
    grid_N: np.ndarray,
    transform_N: np.ndarray,
    colours_Nx10: np.ndarray,
    canvas: int,
    offset_Nx2: np.ndarray | None = None,
) -> np.ndarray:
    """Tokens (N, S) uint8: grid `grid_N[n]` augmented and laid at its offset of a canvas.

    Args:
      grid_N: which grid of `grids` each canvas shows.
      transform_N, colours_Nx10: the augmentation of each, as in `arc.augment.Augmentation`.
      canvas: cells along a side.
      offset_Nx2: row and column; None lays all in the corner.

    Raises:
      ValueError: a grid leaves the canvas.
    """
    count = len(grid_N)
    offset_Nx2 = np.zeros((count, 2), np.int32) if offset_Nx2 is None else offset_Nx2
    height_N, width_N = turned_sizes(grids, grid_N, transform_N).T
    row_N, col_N = offset_Nx2.T
    bottom_N, right_N = row_N + height_N, col_N + width_N
    if count and max(bottom_N.max(), right_N.max()) > canvas:
        raise ValueError(f"a grid leaves a canvas of side {canvas}")
    start_N, down_N, across_N = _strides(grids, grid_N, transform_N)
    corner_N = np.arange(count) * canvas**2 + row_N * canvas + col_N
    tokens = np.zeros(count * canvas**2, np.uint8)
    # the rows of all augmented grids, then the cells of all rows
    n_R, i_R = _runs(height_N)
    width_R, place_R = width_N[n_R], corner_N[n_R] + i_R * canvas
    j_C = _runs(width_R)[1]
    place_C = np.repeat(place_R, width_R) + j_C
    source_C = np.repeat(start_N[n_R] + i_R * down_N[n_R], width_R)
    source_C += j_C * np.repeat(across_N[n_R], width_R)
    colour_C = np.repeat(10 * n_R, width_R) + grids.cells[source_C]
    tokens[place_C] = np.take(colours_Nx10.reshape(-1), colour_C) + np.uint8(FIRST_COLOUR)
    # EOS below and to the right, where the canvas goes on
    tokens[(place_R + width_R)[(right_N < canvas)[n_R]]] = EOS
    below_N = np.flatnonzero(bottom_N < canvas)
    m_E, j_E = _runs(width_N[below_N])
    tokens[(corner_N + height_N * canvas)[below_N][m_E] + j_E] = EOS
    return tokens.reshape(count, canvas**2)


def _strides(
    grids: FlatGrids, grid_N: np.ndarray, transform_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(start, down, across) of each augmented grid: see the head of this file."""
    height_N, width_N = grids.size_Gx2[grid_N].T
    rows_back_N, columns_back_N = _ROWS_BACK[transform_N], _COLUMNS_BACK[transform_N]
    start_N = grids.start_G[grid_N]
    start_N = start_N + np.where(rows_back_N, (height_N - 1) * width_N, 0)
    start_N = start_N + np.where(columns_back_N, width_N - 1, 0)
    along_rows_N = np.where(rows_back_N, -width_N, width_N)
    along_columns_N = np.where(columns_back_N, -1, 1)
    turned_N = _TURNED[transform_N]
    down_N = np.where(turned_N, along_columns_N, along_rows_N)
    return start_N, down_N, np.where(turned_N, along_rows_N, along_columns_N)


def _runs(length_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For runs of these lengths, one after the other: of each item its run, and its place in it."""
    run_I = np.repeat(np.arange(len(length_N)), length_N)
    return run_I, np.arange(len(run_I)) - np.repeat(np.cumsum(length_N) - length_N, length_N)
