"""Masks target grids at noise levels, and gives the paths back; any number of grids at once.

One noise draw u in [0, 1) a cell fixes the whole path: at level t the cells with u < m(t) are
masked, so the masks of lower levels lie inside those of higher ones.

      clean ...... t_H-1 ...... t_1 ...... t        noise level
      (t_H: all)  few masked   more      most
"""

from typing import Literal

import numpy as np

from drm_jax.corruption.schedules import NUM_LEVELS, level_ratios, reverse_levels

NoiseKind = Literal["uniform", "spatially_correlated"]
_RADIUS, _SIGMA = 2, 1.5


def blur_line() -> np.ndarray:
    """The Gaussian (5,) along a row or a column: sigma 1.5 cells, sum 1, float32."""
    line = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1, dtype=np.float32) ** 2) / (2 * _SIGMA**2))
    return (line / line.sum()).astype(np.float32)


def correlated_uniform(normal: np.ndarray) -> np.ndarray:
    """Spatially correlated noise (…, S) float32 in [0, 1] from white normal noise (…, h, w).

    Blurred by a 5x5 Gaussian with zero padding, standardised over each board (std with n-1),
    mapped through the normal CDF.
    """
    from scipy import ndimage, special  # 0.2 s that uniform noise need not pay

    blurred = normal
    for axis in (-1, -2):  # rows, then columns: the 5x5 kernel is their product
        blurred = ndimage.correlate1d(blurred, blur_line(), axis=axis, mode="constant")
    blurred = blurred.reshape(*normal.shape[:-2], -1)
    std = blurred.std(axis=-1, ddof=1, keepdims=True) + np.float32(1e-8)
    return special.ndtr((blurred - blurred.mean(axis=-1, keepdims=True)) / std)


def noise_from(uniform: np.ndarray, kind: NoiseKind, board: tuple[int, int]) -> np.ndarray:
    """Noise (…, S) float32 of a kind from independent uniform draws (…, S) in [0, 1).

    Args:
      board: height and width, which neighbourhood is about.
    """
    if kind == "uniform":
        return uniform
    return correlated_uniform(_normal(uniform).reshape(*uniform.shape[:-1], *board))


def _normal(uniform: np.ndarray) -> np.ndarray:
    """Standard normal draws (…, S) float32 from uniform ones in [0, 1), by Box and Muller.

    Where S is odd, the last one is made of the first two draws again.
    """
    cells = uniform.shape[-1]
    pairs = -(-cells // 2)
    radius_draw = uniform[..., :pairs]
    angle_draw = np.take(uniform, np.arange(pairs, 2 * pairs) % cells, axis=-1)
    radius = np.sqrt(-2 * np.log1p(-radius_draw))
    angle = np.float32(2 * np.pi) * angle_draw
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return both[..., :cells]


def corrupt(
    target: np.ndarray, noise: np.ndarray, level: np.ndarray | int, schedule: str, mask: int
) -> np.ndarray:
    """Targets (…, S) with every cell of noise < m(level) masked. Level 0 is the clean target.

    Exactly clean: the cosine schedule has m(0) = 1.6e-4, but level 0 means no corruption here; and
    level 1000 masks all, whatever the schedule.

    Args:
      noise: (…, S) in [0, 1].
      level: (…), integers 0..1000.
      mask: the token MASK.
    """
    level = np.asarray(level)[..., None]
    masked = (noise < level_ratios(schedule)[level]) | (level == NUM_LEVELS)  # noise may be 1
    return np.where(masked, np.uint8(mask), target)


def reverse_targets(
    target: np.ndarray,
    noise: np.ndarray,
    level: np.ndarray | int,
    num_steps: int,
    schedule: str,
    mask: int,
) -> np.ndarray:
    """The grids (…, H, S) that lead from noise level `level` back to the clean target.

    H is `num_steps`. Grid k stands at level t_k = floor(t * (H-k) / H); the last one is the clean
    target.

    Args: as of `corrupt`.
    """
    levels = reverse_levels(np.asarray(level), num_steps)
    return corrupt(target[..., None, :], noise[..., None, :], levels, schedule, mask)
