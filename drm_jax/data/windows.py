"""Windows of the canvas (canvas=fit): which one an example stands on."""

from collections.abc import Sequence

import numpy as np

from drm_jax.puzzles.arc.tasks import Pair


def window_sides(largest_N: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """For grids of these longest sides: which window holds them and the EOS that closes them.

    The last one, the whole canvas, holds all; there a grid may reach the edge.

    Args:
      sides: ascending.
    """
    return np.minimum(np.searchsorted(np.asarray(sides), largest_N + 1), len(sides) - 1)


def pair_windows(pairs: Sequence[Pair], sides: Sequence[int]) -> np.ndarray:
    """`window_sides` of training pairs, each by the larger of its two grids."""
    largest = [max(*pair.input.shape, *pair.output.shape) for pair in pairs]
    return window_sides(np.array(largest, np.int64), sides)


def window_shares(window_N: np.ndarray, sides: Sequence[int]) -> list[float]:
    """How much of N examples stands on each window; all on the last one where there is none."""
    if not len(window_N):
        return [0.0] * (len(sides) - 1) + [1.0]
    return (np.bincount(window_N, minlength=len(sides)) / len(window_N)).tolist()
