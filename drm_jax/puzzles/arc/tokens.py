"""Grids on a square canvas of tokens, and back.

A canvas of side C is a row of S = C*C tokens, row-major. Token 0 is PAD, 1 is EOS, 2..11 are the
colours 0..9, and 12 is MASK. EOS closes a grid: below its last row and right of its last column.
"""

import math
from typing import Any

import numpy as np

from drm_jax.puzzles.family import PAD, Vocabulary

EOS, FIRST_COLOUR, NUM_COLOURS = 1, 2, 10
VOCABULARY = Vocabulary(
    symbols="0123456789",
    first=FIRST_COLOUR,
    colours=(  # ARC's own
        "#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00",
        "#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25",
    ),
    # Near to ARC's, but any two differ by 30 in CIELAB at least (ARC's: by 8) for eyes of full
    # colour vision, protanopia, deuteranopia and tritanopia; found by search.
    safe_colours=(
        "#000000", "#0B3962", "#8F2500", "#7CDB8B", "#FFCC00",
        "#E8E8E8", "#9F8DA6", "#C67C0A", "#5A7CC9", "#714041",
    ),
    colour_names=(
        "black", "blue", "red", "green", "yellow",
        "grey", "magenta", "orange", "sky blue", "maroon",
    ),
)  # fmt: skip
MASK = VOCABULARY.mask


def to_tokens(grid_HxW: np.ndarray, canvas: int, offset: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Tokens (S,) uint8 of a grid of colours laid at `offset` = (row, column) of the canvas."""
    (height, width), (row, col) = grid_HxW.shape, offset
    bottom, right = row + height, col + width
    if bottom > canvas or right > canvas:
        raise ValueError(f"a {height}x{width} grid at {offset} leaves a canvas of side {canvas}")
    tokens_CxC = np.zeros((canvas, canvas), np.uint8)
    tokens_CxC[row:bottom, col:right] = grid_HxW + FIRST_COLOUR
    if bottom < canvas:
        tokens_CxC[bottom, col:right] = EOS
    if right < canvas:
        tokens_CxC[row:bottom, right] = EOS
    return tokens_CxC.reshape(-1)


def grid_sizes(tokens_BxS: Any) -> Any:
    """(B, 2) height and width of the grid that each canvas shows.

    It is the largest rectangle of colours anchored at the top-left corner; the lowest one wins a
    tie. Anything may come in: a canvas without a colour in its corner holds a 0x0 grid.

    Args:
      tokens_BxS: an array of numpy or of jax; sizes are one of the same kind.
    """
    xp, side = tokens_BxS.__array_namespace__(), math.isqrt(tokens_BxS.shape[1])
    is_colour_BxS = (tokens_BxS >= FIRST_COLOUR) & (tokens_BxS < MASK)
    is_colour_BxCxC = is_colour_BxS.reshape(-1, side, side).astype(np.int32)
    # 1 where all cells up to here, above and to the left, are colours
    filled_BxCxC = xp.cumprod(xp.cumprod(is_colour_BxCxC, axis=2, dtype=np.int32), axis=1)
    width_BxC = filled_BxCxC.sum(axis=2)  # widest rectangle of each height
    area_BxC = width_BxC * xp.arange(1, side + 1)
    best_Bx1 = xp.argmax(area_BxC, axis=1)[:, None]  # the first of equal ones: the lowest height
    width_Bx1 = xp.take_along_axis(width_BxC, best_Bx1, axis=1)
    return xp.concatenate([xp.where(width_Bx1 > 0, best_Bx1 + 1, 0), width_Bx1], axis=1)


def pad_outside(tokens_BxS: Any) -> Any:
    """(B, S) tokens with PAD beyond the grid that is shown and the line that closes it.

    A target is PAD there, which is not scored, so that anything may be predicted.

    Args:
      tokens_BxS: an array of numpy or of jax; tokens are one of the same kind.
    """
    xp, side = tokens_BxS.__array_namespace__(), math.isqrt(tokens_BxS.shape[1])
    height_Bx1x1, width_Bx1x1 = (size_B[:, None, None] for size_B in grid_sizes(tokens_BxS).T)
    row_Cx1, column_C = xp.arange(side)[:, None], xp.arange(side)
    inside = (row_Cx1 < height_Bx1x1) | (column_C < width_Bx1x1)  # the corner beyond is outside
    kept = (row_Cx1 <= height_Bx1x1) & (column_C <= width_Bx1x1) & inside
    return xp.where(kept.reshape(tokens_BxS.shape), tokens_BxS, tokens_BxS.dtype.type(PAD))


def crop(tokens_S: np.ndarray) -> np.ndarray:
    """The grid of colours (h, w) uint8 that one canvas shows; possibly 0x0. Never fails."""
    (height, width), side = grid_sizes(tokens_S[None])[0], math.isqrt(tokens_S.size)
    grid = tokens_S.reshape(side, side)[:height, :width]
    return (grid - FIRST_COLOUR).astype(np.uint8)
