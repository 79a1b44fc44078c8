"""Masks a target grid at a noise level, and gives the path back.

One noise draw u in [0, 1) a cell fixes the whole path: at level t the cells with u < m(t) are
masked, so the masks of lower levels lie inside those of higher ones.

      clean ...... t_K-1 ...... t_1 ...... t        noise level
      (t_K: all)  few masked   more      most
"""

import numpy as np

from drm_jax.arc.tokens import MASK
from drm_jax.config import NoiseKind
from drm_jax.noise.schedules import ratio_table, reverse_levels

_RADIUS, _SIGMA = 2, 1.5


def blur_kernel() -> np.ndarray:
    """The 5x5 Gaussian (sigma 1.5 cells, sum 1), float32."""
    line = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1, dtype=np.float32) ** 2) / (2 * _SIGMA**2))
    kernel = np.outer(line, line)
    return (kernel / kernel.sum()).astype(np.float32)


def correlated_uniform(normal_CxC: np.ndarray) -> np.ndarray:
    """Spatially correlated noise (S,) float32 in [0, 1] from white normal noise (C, C).

    Blurred with zero padding, standardised (std with n-1), mapped through the normal CDF.
    """
    from scipy import ndimage, special  # 0.2 s that uniform noise need not pay

    blurred_CxC = ndimage.correlate(normal_CxC, blur_kernel(), mode="constant")
    std = blurred_CxC.std(ddof=1) + np.float32(1e-8)
    return special.ndtr((blurred_CxC - blurred_CxC.mean()) / std).reshape(-1)


def draw_noise(rng: np.random.Generator, kind: NoiseKind, canvas: int) -> np.ndarray:
    """One noise draw (S,) float32 over all cells of a canvas."""
    if kind == "uniform":
        return rng.random(canvas * canvas, np.float32)
    return correlated_uniform(rng.standard_normal((canvas, canvas), np.float32))


def corrupt(target_S: np.ndarray, noise_S: np.ndarray, level: int, schedule: str) -> np.ndarray:
    """The target with every cell of noise < m(level) masked. Level 0 is the clean target.

    Exactly clean: the cosine schedule has m(0) = 1.6e-4, but level 0 means no corruption here.
    """
    if level == 0:
        return target_S.copy()
    return np.where(noise_S < ratio_table(schedule)[level], np.uint8(MASK), target_S)


def reverse_targets(
    target_S: np.ndarray, noise_S: np.ndarray, level: int, num_steps: int, schedule: str
) -> np.ndarray:
    """The K grids (K, S) that lead from noise level `level` back to the clean target.

    Grid k stands at level t_k = floor(t * (K-k) / K); the last one is the clean target.
    """
    return np.stack(
        [
            corrupt(target_S, noise_S, int(t), schedule)
            for t in reverse_levels(np.array(level), num_steps)
        ]
    )
