"""Windows of the canvas (canvas=fit): which one an example stands on."""

from collections.abc import Sequence

import numpy as np


def window_sides(largest_N: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """For grids of these longest sides: which window holds them and the EOS that closes them.

    The last one, the whole canvas, holds all; there a grid may reach the edge.

    Args:
      sides: ascending.
    """
    return np.minimum(np.searchsorted(np.asarray(sides), largest_N + 1), len(sides) - 1)
