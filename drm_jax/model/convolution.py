"""A depthwise convolution of 3 x 3 over the cells of a board: each channel by itself.

It is nine shifted products of arrays (B, tokens, F), summed in one loop. XLA for CPUs computes its
own grouped convolution, and slices of arrays of four axes, several times slower.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from drm_jax.model.backbone import Board
from drm_jax.model.precision import wide_type, widened

SIDE = 3
"""Of the kernel."""


def centre_init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """A kernel (3, 3, F) that leaves a board as it is: 1 in the centre, else 0.

    A fresh network then computes what it would without the convolution. Random taps would scale
    cells at the border, which have fewer neighbours, otherwise than those inside, and all cells
    otherwise than the prefix. No noise is needed for channels to differ: what comes in differs.
    """
    del key
    return jnp.zeros(shape, dtype).at[SIDE // 2, SIDE // 2].set(1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(cells_BxSxF: jax.Array, kernel_3x3xF: jax.Array, board: Board) -> jax.Array:
    """out[r, c] = sum of kernel[i, j] * cells[r + i - 1, c + j - 1], zeros beyond the board.

    Args:
      cells_BxSxF: of a board, row by row, in the compute type.
      kernel_3x3xF: of `wide_type`; rounded to the compute type, as dense layers do.

    Returns:
      (B, S, F) in the compute type; sums are of `wide_type`.
    """
    batch, cells, width = cells_BxSxF.shape
    tap_9xF = widened(kernel_3x3xF.astype(cells_BxSxF.dtype)).reshape(-1, width)
    products = (x * tap for x, tap in zip(_shifted(cells_BxSxF, board), tap_9xF, strict=True))
    summed = sum(products).astype(cells_BxSxF.dtype).reshape(batch, board[0], -1, width)
    return summed[:, :, : board[1]].reshape(batch, cells, width)


def _shifted(cells_BxSxF: jax.Array, board: Board) -> list[jax.Array]:
    """The cells that each tap meets, (B, height * (width + 2), F) of `wide_type`: rows end with two
    that no output is made of."""
    (height, width), step = board, board[1] + SIDE - 1
    rows = cells_BxSxF.reshape(-1, height, width, cells_BxSxF.shape[-1])
    # A row more at the end: the last taps of the last row's two would reach beyond it.
    padded = jnp.pad(rows, ((0, 0), (1, 2), (1, 1), (0, 0)))
    flat = widened(padded.reshape(len(rows), -1, rows.shape[-1]))
    starts = (i * step + j for i in range(SIDE) for j in range(SIDE))
    return [lax.slice_in_dim(flat, start, start + height * step, axis=1) for start in starts]


def _forward(
    cells_BxSxF: jax.Array, kernel_3x3xF: jax.Array, board: Board
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(cells_BxSxF, kernel_3x3xF, board), (cells_BxSxF, kernel_3x3xF)


def _backward(
    board: Board, kept: tuple[jax.Array, jax.Array], grad_BxSxF: jax.Array
) -> tuple[jax.Array, jax.Array]:
    cells_BxSxF, kernel_3x3xF = kept
    batch, _, width = cells_BxSxF.shape
    grad_rows = grad_BxSxF.reshape(batch, *board, width)
    grad = jnp.pad(grad_rows, ((0, 0), (0, 0), (0, SIDE - 1), (0, 0))).reshape(batch, -1, width)
    products = [x * widened(grad) for x in _shifted(cells_BxSxF, board)]
    # All taps in one loop, and an example at a time: on a CPU a sum over both axes takes longer.
    zero = jnp.zeros((), wide_type(grad.dtype))
    sums = lax.reduce(products, [zero] * SIDE**2, _added, (1,))
    grad_kernel = jnp.stack([x.sum(axis=0) for x in sums]).reshape(kernel_3x3xF.shape)
    return convolve(grad_BxSxF, kernel_3x3xF[::-1, ::-1], board), grad_kernel


def _added(xs: list[jax.Array], ys: list[jax.Array]) -> list[jax.Array]:
    return [x + y for x, y in zip(xs, ys, strict=True)]


convolve.defvjp(_forward, _backward)
