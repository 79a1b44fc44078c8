"""How much of a grid is masked at each noise level, and which levels denoising visits."""

import functools

import numpy as np

from drm_jax.config import Schedule

NUM_LEVELS = 1000


def mask_ratio(schedule: Schedule, level: np.ndarray) -> np.ndarray:
    """Share of masked cells (float32, the shape of `level`) at integer noise levels 0..999."""
    time = np.asarray(level, np.float32) / np.float32(NUM_LEVELS)
    match schedule:
        case "linear":
            return time
        case "cosine":
            phase = np.clip((time + np.float32(0.008)) / np.float32(1.008), 0, 1)
            return 1 - np.cos(phase * np.float32(np.pi / 2)) ** 2
        case "sigmoid":
            start, end = (1 / (1 + np.exp(np.float32(-x))) for x in (-5, 3))
            ratio = (1 / (1 + np.exp(-(time * 8 - 5))) - start) / (end - start)
            return np.clip(ratio, 0, 1).astype(np.float32)
    raise ValueError(f"there is no noise schedule {schedule!r}")


@functools.cache
def ratio_table(schedule: Schedule) -> np.ndarray:
    """`mask_ratio` of all levels (1000,) float32, computed once."""
    return mask_ratio(schedule, np.arange(NUM_LEVELS))


def denoising_levels(steps: int) -> np.ndarray:
    """The noise levels (steps,) int64 that test-time denoising visits, from 1000 down to 1.

    t_i = floor((i / (N-1))**2 * 999 + 1) in float32, i from N-1 down to 0. The quotient is a
    linspace that counts from both ends, as the published code's does: that decides the rounding.
    """
    if steps == 1:
        return np.array([NUM_LEVELS])
    index, step = np.arange(steps), np.float32(1) / np.float32(steps - 1)
    up = index.astype(np.float32) * step
    down = np.float32(1) - (steps - 1 - index).astype(np.float32) * step
    fraction = np.where(index < steps // 2, up, down)
    level = fraction**2 * np.float32(NUM_LEVELS - 1) + np.float32(1)
    return np.floor(level).astype(np.int64)[::-1]


def reverse_levels(level: np.ndarray, num_steps: int) -> np.ndarray:
    """The levels t_k = floor(t * (K-k) / K), k = 1..K, of a reverse path: (..., K), last 0."""
    remaining = np.arange(num_steps - 1, -1, -1)
    return np.asarray(level)[..., None] * remaining // num_steps
