"""Shapes of a training batch, without making one."""

from collections.abc import Sequence

import jax
import numpy as np

from drm_jax.methods.method import Method
from drm_jax.puzzles.family import Board


def abstract_batch(
    method: Method, boards: Sequence[Board], mask: int, batch_size: int, board: Board | None = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a batch, as `data.stream.BatchMaker` gives.

    Args:
      boards, mask: the family's boards, and the token MASK.
      board: of the batch; None: the whole one.
    """
    board = board or boards[-1]
    one = np.zeros((1, board[0] * board[1]), np.uint8)
    rows = {
        "inputs": one,
        "target": one,
        "puzzle_id": np.zeros(1, np.int32),
        "weight": np.ones(1, np.float32),
        **method.draw(lambda _, each: np.zeros((1, each), np.uint32), one, board, mask),
    }
    if len(boards) > 1:
        rows["corner"] = np.zeros((1, 2), np.int32)
    return {
        name: jax.ShapeDtypeStruct((batch_size, *row.shape[1:]), row.dtype)
        for name, row in rows.items()
    }
