"""Grids on a square canvas of tokens, and back.

A canvas of side C is a row of S = C*C tokens, row-major. Token 0 is PAD, 1 is EOS, 2..11 are the
colours 0..9, and 12 is MASK. EOS closes a grid: below its last row and right of its last column.
"""

import math

import numpy as np

PAD, EOS, FIRST_COLOUR, MASK = 0, 1, 2, 12
NUM_COLOURS = 10


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


def on_canvas(tokens: np.ndarray, canvas: int) -> np.ndarray:
    """Windows of tokens (…, S) in the corner of a canvas of side `canvas`, PAD around them."""
    side = math.isqrt(tokens.shape[-1])
    tokens = tokens.reshape(*tokens.shape[:-1], side, side)
    around = [(0, 0)] * (tokens.ndim - 2) + [(0, canvas - side)] * 2
    return np.pad(tokens, around).reshape(*tokens.shape[:-2], canvas**2)


def grid_sizes(tokens_BxS: np.ndarray) -> np.ndarray:
    """(B, 2) height and width of the grid that each canvas shows.

    It is the largest rectangle of colours anchored at the top-left corner; the lowest one wins a
    tie. Anything may come in: a canvas without a colour in its corner holds a 0x0 grid.
    """
    canvas = int(tokens_BxS.shape[1] ** 0.5)
    is_colour_BxCxC = ((tokens_BxS >= FIRST_COLOUR) & (tokens_BxS < MASK)).reshape(
        -1, canvas, canvas
    )
    run_BxC = np.cumprod(is_colour_BxCxC, axis=2, dtype=np.int32).sum(axis=2)
    width_BxC = np.minimum.accumulate(run_BxC, axis=1)  # widest rectangle of each height
    area_BxC = width_BxC * np.arange(1, canvas + 1)
    best_B = np.argmax(area_BxC, axis=1)  # argmax takes the first: the lowest height
    width_B = np.take_along_axis(width_BxC, best_B[:, None], axis=1)[:, 0]
    return np.stack([np.where(width_B > 0, best_B + 1, 0), width_B], axis=1)


def crop(tokens_S: np.ndarray) -> np.ndarray:
    """The grid of colours (h, w) uint8 that one canvas shows; possibly 0x0. Never fails."""
    (height, width), canvas = grid_sizes(tokens_S[None])[0], int(tokens_S.size**0.5)
    grid = tokens_S.reshape(canvas, canvas)[:height, :width]
    return (grid - FIRST_COLOUR).astype(np.uint8)
