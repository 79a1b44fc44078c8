"""Masking the other way round: a model's own answer, masked again for the next step of a test.

The functions take arrays of numpy or of jax, and give the same.
"""

from typing import Any, Literal

import numpy as np

from drm_jax.corruption.schedules import denoising_levels, level_ratios

LINEAR = level_ratios("linear")
"""(1001,) level/1000 in float32, as numpy rounds it.

Looked up, since XLA turns a division by a constant into a product with its inverse, and the last
bit decides how many cells are masked: 44 or 45 of 625 at level 72.
"""
PAD = 0


def remasked_levels(steps: int, first_remask: Literal["full", "skip"]) -> np.ndarray:
    """(N,) integers 0..1000: at which noise level each step's answer is remasked for the next."""
    levels = denoising_levels(steps).copy()
    if first_remask == "skip":
        levels[0] = 0
    return levels


def remask_uniform(predicted: Any, draw: Any, level: Any, mask: int, shares: Any = LINEAR) -> Any:
    """(B, S) tokens: MASK where the uniform draw in [0, 1) is below the level's share.

    Args:
      predicted, draw: (B, S).
      level: noise level, 0..1000.
      mask: the token MASK.
      shares: (1001,) float32, of each level.
    """
    xp = predicted.__array_namespace__()
    return xp.where(draw < xp.asarray(shares)[level], mask, predicted)


def remask_confidence(
    predicted: Any, confidence: Any, priority: Any, level: Any, mask: int, shares: Any = LINEAR
) -> Any:
    """(B, S) tokens: the cells of lowest confidence masked, and a few at random.

    Of the n = floor(share of the level * cells predicted other than PAD) cells to mask, the
    floor(0.99 n) of lowest confidence are taken, and the rest are those of lowest priority among
    the others. Cells predicted PAD take no part.

    Args:
      confidence: (B, S), the largest softmax probability of each cell.
      priority: (B, S) random numbers; only their order counts.
      predicted, level, mask, shares: as of `remask_uniform`.
    """
    xp = predicted.__array_namespace__()
    candidate_BxS = predicted != PAD
    count_Bx1 = candidate_BxS.sum(axis=-1, keepdims=True).astype(np.float32)
    total_Bx1 = xp.floor(xp.asarray(shares)[level] * count_Bx1).astype(np.int32)
    least_sure_Bx1 = total_Bx1 * 99 // 100
    taken_BxS = _lowest(confidence, candidate_BxS, least_sure_Bx1)
    chance_BxS = _lowest(priority, candidate_BxS & ~taken_BxS, total_Bx1 - least_sure_Bx1)
    return xp.where(taken_BxS | chance_BxS, mask, predicted)


def _lowest(value: Any, allowed: Any, count_Bx1: Any) -> Any:
    """Marks the `count` allowed cells of lowest value in each row; the first ones win ties."""
    xp = value.__array_namespace__()
    order = xp.argsort(xp.where(allowed, value, np.inf), axis=-1, stable=True)
    rank = xp.argsort(order, axis=-1)
    return rank < count_Bx1
