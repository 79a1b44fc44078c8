"""How much of a grid is masked at each noise level, and which levels denoising visits."""

import functools
from collections.abc import Callable, Mapping

import numpy as np

from drm_jax.errors import UsageError
from drm_jax.fields import NUM_LEVELS
from drm_jax.references import load


def linear(level_N: np.ndarray) -> np.ndarray:
    """Share of masked cells, float32, at integer noise levels 0..999."""
    return np.asarray(level_N, np.float32) / np.float32(NUM_LEVELS)


def cosine(level_N: np.ndarray) -> np.ndarray:
    """As `linear`; the papers' choice."""
    phase = np.clip((linear(level_N) + np.float32(0.008)) / np.float32(1.008), 0, 1)
    return 1 - np.cos(phase * np.float32(np.pi / 2)) ** 2


def sigmoid(level_N: np.ndarray) -> np.ndarray:
    """As `linear`; a sigmoid between -5 and 3, rescaled to 0..1."""
    start, end = (1 / (1 + np.exp(np.float32(-x))) for x in (-5, 3))
    ratio = (1 / (1 + np.exp(-(linear(level_N) * 8 - 5))) - start) / (end - start)
    return np.clip(ratio, 0, 1).astype(np.float32)


SCHEDULES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": linear,
    "cosine": cosine,
    "sigmoid": sigmoid,
}


@functools.cache
def ratio_table(schedule: str) -> np.ndarray:
    """The mask ratio of all levels (1000,) float32, computed once.

    Args:
      schedule: a built-in name, or a reference to a function of levels (N,) that gives ratios (N,).

    Raises:
      UsageError: the function can't be found, or gives no ratios in 0..1 that never fall.
    """
    if schedule in SCHEDULES:
        return SCHEDULES[schedule](np.arange(NUM_LEVELS))
    ratio = load(schedule, "method.noise.schedule")(np.arange(NUM_LEVELS))
    where = f"method.noise.schedule {schedule}"
    if not isinstance(ratio, np.ndarray) or ratio.dtype.kind not in "fiu":
        found = getattr(ratio, "dtype", type(ratio).__name__)
        raise UsageError(f"{where}: must return a numpy array of numbers, not {found}")
    if ratio.shape != (NUM_LEVELS,):
        raise UsageError(
            f"{where}: of {NUM_LEVELS} levels it must return as many ratios; it returned "
            f"shape {ratio.shape}"
        )
    outside = np.flatnonzero(~((ratio >= 0) & (ratio <= 1)))  # NaN too
    if outside.size:
        level = outside[0]
        raise UsageError(f"{where}: gives {ratio[level]} at level {level}; a ratio is 0 to 1")
    falls = np.flatnonzero(np.diff(ratio.astype(np.float32)) < -1e-6)  # rounding may wobble
    if falls.size:
        level = falls[0]
        raise UsageError(
            f"{where}: falls from {ratio[level]} at level {level} to {ratio[level + 1]} at level "
            f"{level + 1}; a higher level must mask at least as much"
        )
    return ratio.astype(np.float32)


@functools.cache
def level_ratios(schedule: str) -> np.ndarray:
    """(1001,) float32: the share of cells that is masked at each level, 0 at 0 and 1 at 1000."""
    ratios = np.append(ratio_table(schedule), np.float32(1))
    ratios[0] = 0
    return ratios


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
    """The levels t_k = floor(t * (H-k) / H), k = 1..H, of a reverse path: (..., H), last 0."""
    remaining = np.arange(num_steps - 1, -1, -1)
    return np.asarray(level)[..., None] * remaining // num_steps
