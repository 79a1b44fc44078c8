"""What holds for every target, noise draw, level and schedule."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drm_jax.corruption.masking import correlated_uniform, corrupt, noise_from, reverse_targets
from drm_jax.corruption.schedules import (
    denoising_levels,
    level_ratios,
    ratio_table,
    reverse_levels,
)

MASK = 12
SCHEDULES = st.sampled_from(["linear", "cosine", "sigmoid"])
KINDS = st.sampled_from(["uniform", "spatially_correlated"])
LEVELS = st.integers(0, 999)
SEEDS = st.integers(0, 2**32)
UNIT = st.floats(0, 1, width=32)


def drawn_noise(seed: int, kind: str, canvas: int) -> np.ndarray:
    return noise_from(
        np.random.default_rng(seed).random(canvas**2, np.float32), kind, (canvas, canvas)
    )


@st.composite
def targets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """(tokens (S,) uint8 without MASK, noise (S,) in [0, 1])."""
    canvas = draw(st.integers(2, 8))
    target_S = draw(hnp.arrays(np.uint8, canvas**2, elements=st.integers(0, 11)))
    any_noise = hnp.arrays(np.float32, canvas**2, elements=UNIT)
    drawn = st.builds(lambda seed, kind: drawn_noise(seed, kind, canvas), SEEDS, KINDS)
    return target_S, draw(any_noise | drawn)


@given(targets(), SCHEDULES)
def test_level_zero_is_the_clean_target(both, schedule):
    target_S, noise_S = both
    np.testing.assert_array_equal(
        corrupt(target_S, noise_S, 0, schedule, MASK), target_S, strict=True
    )


@given(targets(), LEVELS, SCHEDULES)
def test_masked_cells_are_mask_and_the_others_the_target(both, level, schedule):
    target_S, noise_S = both
    before = target_S.copy()
    corrupted_S = corrupt(target_S, noise_S, level, schedule, MASK)
    masked_S = corrupted_S != target_S
    assert corrupted_S.dtype == np.uint8
    assert (corrupted_S[masked_S] == MASK).all()
    if level:
        np.testing.assert_array_equal(masked_S, noise_S < ratio_table(schedule)[level])
    np.testing.assert_array_equal(target_S, before)


@given(targets(), LEVELS, LEVELS, SCHEDULES)
def test_masks_nest(both, level, other, schedule):
    low, high = (corrupt(*both, t, schedule, MASK) == MASK for t in sorted((level, other)))
    assert (low <= high).all()


@given(targets(), LEVELS, st.integers(1, 8), SCHEDULES)
def test_reverse_targets_nest_and_end_clean(both, level, num_steps, schedule):
    target_S, noise_S = both
    path_HxS = reverse_targets(target_S, noise_S, level, num_steps, schedule, MASK)
    assert path_HxS.shape == (num_steps, len(target_S))
    np.testing.assert_array_equal(path_HxS[-1], target_S, strict=True)
    masked = np.array([corrupt(target_S, noise_S, level, schedule, MASK), *path_HxS]) == MASK
    assert (masked[1:] <= masked[:-1]).all()
    for k, grid_S in enumerate(path_HxS, start=1):
        expected = corrupt(target_S, noise_S, level * (num_steps - k) // num_steps, schedule, MASK)
        np.testing.assert_array_equal(grid_S, expected)


@given(SCHEDULES)
def test_ratios_rise_within_zero_and_one(schedule):
    ratio = ratio_table(schedule)
    assert ratio.shape == (1000,)
    assert ratio.dtype == np.float32
    assert ratio.min() >= 0
    assert ratio.max() < 1
    assert (np.diff(ratio) > 0).all()
    every = level_ratios(schedule)
    assert every.dtype == np.float32
    np.testing.assert_array_equal(every[1:-1], ratio[1:])
    assert (every[0], every[-1]) == (0, 1)


@given(st.integers(2, 8), st.data())
def test_correlated_noise_keeps_to_zero_and_one(canvas, data):
    """Whatever the normal draw: extreme, constant, all zero."""
    normal = st.floats(-8, 8, width=32)
    noise_S = correlated_uniform(
        data.draw(hnp.arrays(np.float32, (canvas, canvas), elements=normal))
    )
    assert noise_S.shape == (canvas**2,)
    assert noise_S.dtype == np.float32
    assert noise_S.min() >= 0
    assert noise_S.max() <= 1


@given(SEEDS, KINDS, st.integers(2, 30))
def test_noise_is_a_function_of_its_draws(seed, kind, canvas):
    one, two, other = (drawn_noise(s, kind, canvas) for s in (seed, seed, seed + 1))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert one.shape == (canvas**2,)
    assert one.dtype == np.float32
    assert one.min() >= 0
    assert one.max() <= 1


@given(st.integers(1, 3000))
def test_denoising_falls_from_all_masked(steps):
    levels = denoising_levels(steps)
    assert levels.shape == (steps,)
    assert levels[0] == 1000
    assert (np.diff(levels) <= 0).all()
    assert levels[-1] == (1 if steps > 1 else 1000)


@given(hnp.arrays(np.int64, hnp.array_shapes(max_dims=2), elements=LEVELS), st.integers(1, 20))
def test_reverse_levels_fall_to_zero(levels, num_steps):
    path = reverse_levels(levels, num_steps)
    assert path.shape == (*levels.shape, num_steps)
    assert (np.diff(np.concatenate([levels[..., None], path], axis=-1)) <= 0).all()
    assert (path[..., -1] == 0).all()
