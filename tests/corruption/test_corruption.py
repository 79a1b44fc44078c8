import numpy as np
import pytest

from drm_jax.corruption.masking import correlated_uniform, corrupt, noise_from, reverse_targets
from drm_jax.corruption.schedules import denoising_levels, ratio_table, reverse_levels
from drm_jax.errors import UsageError

MASK = 12
SCHEDULES = ("linear", "cosine", "sigmoid")
TARGET = np.arange(144, dtype=np.uint8) % 12


def drawn(seed, kind, canvas):
    """One noise draw."""
    return noise_from(
        np.random.default_rng(seed).random(canvas**2, np.float32), kind, (canvas, canvas)
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ratios_rise_from_almost_none_to_almost_all(schedule):
    ratio = ratio_table(schedule)
    assert (np.diff(ratio) > 0).all()
    assert 0 <= ratio[0] < 1e-3
    assert 0.99 < ratio[-1] < 1


def test_unknown_schedule():
    with pytest.raises(UsageError, match=r"method\.noise\.schedule.*square"):
        ratio_table("square")


@pytest.mark.parametrize("kind", ["uniform", "spatially_correlated"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_level_zero_is_the_identity_and_masks_nest(kind, schedule):
    noise = drawn(0, kind, 12)
    np.testing.assert_array_equal(corrupt(TARGET, noise, 0, schedule, MASK), TARGET)
    masked = np.array([corrupt(TARGET, noise, t, schedule, MASK) == MASK for t in range(1000)])
    assert (masked[1:] >= masked[:-1]).all()
    assert masked[0].sum() == 0
    assert masked[-1].mean() > 0.95
    kept = corrupt(TARGET, noise, 500, schedule, MASK)
    np.testing.assert_array_equal(kept[~masked[500]], TARGET[~masked[500]])


def test_a_ratio_of_one_masks_all():
    noise = np.zeros(144, np.float32)
    assert (corrupt(TARGET, noise, 1, "linear", MASK) == MASK).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_masked_share_follows_the_schedule(schedule):
    noise = drawn(2, "uniform", 30)
    masked = corrupt(np.zeros(900, np.uint8), noise, 400, schedule, MASK) == MASK
    assert masked.mean() == pytest.approx(float(ratio_table(schedule)[400]), abs=0.06)


def test_reverse_targets_lead_to_the_clean_grid():
    noise = drawn(3, "uniform", 12)
    assert reverse_levels(np.array(700), 3).tolist() == [466, 233, 0]
    path = reverse_targets(TARGET, noise, 700, 3, "cosine", MASK)
    assert path.shape == (3, 144)
    np.testing.assert_array_equal(path[-1], TARGET)
    np.testing.assert_array_equal(path[0], corrupt(TARGET, noise, 466, "cosine", MASK))
    begun = corrupt(TARGET, noise, 700, "cosine", MASK) == MASK
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
    many = noise_from(uniform, "spatially_correlated", (canvas, canvas))
    one_by_one = [noise_from(u, "spatially_correlated", (canvas, canvas)) for u in uniform]
    np.testing.assert_allclose(many, np.stack(one_by_one), atol=1e-6)


def test_correlated_noise_of_a_board_that_is_not_square():
    """Blurred over the neighbours that a cell has on the board."""
    uniform = np.random.default_rng(8).random((4000, 24), np.float32)
    draws = noise_from(uniform, "spatially_correlated", (3, 8)).reshape(-1, 3, 8)
    below = np.corrcoef(draws[:, 0, 7], draws[:, 1, 7])[0, 1]
    next_in_memory = np.corrcoef(draws[:, 0, 7], draws[:, 1, 0])[0, 1]
    assert below > 0.5
    assert next_in_memory < 0.1


def test_correlated_noise_is_made_of_normal_draws():
    """As if drawn by numpy: the same spread, and no cell tied to another but by the blur."""
    rng = np.random.default_rng(6)
    ours = noise_from(rng.random((16_000, 49), np.float32), "spatially_correlated", (7, 7))
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
    many = corrupt(target, noise, level, "cosine", MASK)
    paths = reverse_targets(target, noise, level, 3, "cosine", MASK)
    assert paths.shape == (5, 3, 16)
    for i in range(5):
        np.testing.assert_array_equal(
            many[i], corrupt(target[i], noise[i], level[i], "cosine", MASK)
        )
        alone = reverse_targets(target[i], noise[i], level[i], 3, "cosine", MASK)
        np.testing.assert_array_equal(paths[i], alone)
