import numpy as np
import pytest

from drm_jax.corruption.masking import correlated_uniform, corrupt, noise_from, reverse_targets
from drm_jax.corruption.schedules import denoising_levels, mask_ratio, reverse_levels
from drm_jax.puzzles.arc.tokens import MASK

SCHEDULES = ("linear", "cosine", "sigmoid")
TARGET = np.arange(144, dtype=np.uint8) % 12


def drawn(seed, kind, canvas):
    """One noise draw."""
    return noise_from(np.random.default_rng(seed).random(canvas**2, np.float32), kind, canvas)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ratios_rise_from_almost_none_to_almost_all(schedule):
    ratio = mask_ratio(schedule, np.arange(1000))
    assert (np.diff(ratio) > 0).all()
    assert 0 <= ratio[0] < 1e-3
    assert 0.99 < ratio[-1] < 1


def test_unknown_schedule():
    with pytest.raises(ValueError, match="no noise schedule 'square'"):
        mask_ratio("square", np.arange(3))


@pytest.mark.parametrize("kind", ["uniform", "spatially_correlated"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_level_zero_is_the_identity_and_masks_nest(kind, schedule):
    noise = drawn(0, kind, 12)
    np.testing.assert_array_equal(corrupt(TARGET, noise, 0, schedule), TARGET)
    masked = np.array([corrupt(TARGET, noise, t, schedule) == MASK for t in range(1000)])
    assert (masked[1:] >= masked[:-1]).all()
    assert masked[0].sum() == 0
    assert masked[-1].mean() > 0.95
    kept = corrupt(TARGET, noise, 500, schedule)
    np.testing.assert_array_equal(kept[~masked[500]], TARGET[~masked[500]])


def test_a_ratio_of_one_masks_all():
    noise = np.zeros(144, np.float32)
    assert (corrupt(TARGET, noise, 1, "linear") == MASK).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_masked_share_follows_the_schedule(schedule):
    noise = drawn(2, "uniform", 30)
    masked = corrupt(np.zeros(900, np.uint8), noise, 400, schedule) == MASK
    assert masked.mean() == pytest.approx(float(mask_ratio(schedule, 400)), abs=0.06)


def test_reverse_targets_lead_to_the_clean_grid():
    noise = drawn(3, "uniform", 12)
    assert reverse_levels(np.array(700), 3).tolist() == [466, 233, 0]
    path = reverse_targets(TARGET, noise, 700, 3, "cosine")
    assert path.shape == (3, 144)
    np.testing.assert_array_equal(path[-1], TARGET)
    np.testing.assert_array_equal(path[0], corrupt(TARGET, noise, 466, "cosine"))
    begun = corrupt(TARGET, noise, 700, "cosine") == MASK
    assert begun.sum() > (path[0] == MASK).sum() > (path[1] == MASK).sum() > 0
    assert ((path[0] == MASK) <= begun).all()
    assert ((path[1] == MASK) <= (path[0] == MASK)).all()


def test_correlated_noise_is_uniform_and_correlated():
    rng = np.random.default_rng(4)
    draws = correlated_uniform(rng.standard_normal((20, 30, 30), np.float32)).reshape(-1, 30, 30)
    assert draws.min() >= 0
    assert draws.max() <= 1
    assert draws.mean() == pytest.approx(0.5, abs=0.02)
    neighbours = np.corrcoef(draws[:, :, 1:].ravel(), draws[:, :, :-1].ravel())[0, 1]
    far = np.corrcoef(draws[:, :, 10:].ravel(), draws[:, :, :-10].ravel())[0, 1]
    assert neighbours > 0.7
    assert abs(far) < 0.15


def test_denoising_levels():
    assert denoising_levels(16)[[0, 1, 2, -2, -1]].tolist() == [1000, 871, 751, 5, 1]
    assert denoising_levels(1).tolist() == [1000]


@pytest.mark.parametrize("canvas", [2, 5, 30])
def test_noise_of_many_canvases_is_that_of_each(canvas):
    uniform = np.random.default_rng(5).random((6, canvas**2), np.float32)
    many = noise_from(uniform, "spatially_correlated", canvas)
    one_by_one = [noise_from(u, "spatially_correlated", canvas) for u in uniform]
    np.testing.assert_allclose(many, np.stack(one_by_one), atol=1e-6)


def test_correlated_noise_is_made_of_normal_draws():
    """As if drawn by numpy: the same spread, and no cell tied to another but by the blur."""
    rng = np.random.default_rng(6)
    ours = noise_from(rng.random((16_000, 49), np.float32), "spatially_correlated", 7)
    numpys = correlated_uniform(rng.standard_normal((16_000, 7, 7), np.float32))
    np.testing.assert_allclose(np.corrcoef(ours.T), np.corrcoef(numpys.T), atol=0.08)
    np.testing.assert_allclose(
        np.quantile(ours, [0.01, 0.25, 0.5, 0.75, 0.99]),
        np.quantile(numpys, [0.01, 0.25, 0.5, 0.75, 0.99]),
        atol=0.01,
    )


def test_many_grids_are_corrupted_as_each_of_them():
    rng = np.random.default_rng(7)
    target = rng.integers(0, 12, (5, 16), np.uint8)
    noise, level = rng.random((5, 16), np.float32), np.array([0, 1, 500, 900, 999])
    many = corrupt(target, noise, level, "cosine")
    paths = reverse_targets(target, noise, level, 3, "cosine")
    assert paths.shape == (5, 3, 16)
    for i in range(5):
        np.testing.assert_array_equal(many[i], corrupt(target[i], noise[i], level[i], "cosine"))
        alone = reverse_targets(target[i], noise[i], level[i], 3, "cosine")
        np.testing.assert_array_equal(paths[i], alone)
