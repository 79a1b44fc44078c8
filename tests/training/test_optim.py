"""The optimiser's own arctangent, against numpy's in float64."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drm_jax.training.optim import arctan2

_sizes = st.floats(0, 2.0**100, width=32, allow_subnormal=False)


@given(_sizes, _sizes, st.booleans())
def test_arctan2(y, x, negative):
    y = -y if negative else y
    found = arctan2(np.array([y], np.float32), np.array([x], np.float32))
    np.testing.assert_allclose(found, [np.arctan2(y, x)], rtol=4e-7, atol=1e-37)


def test_arctan2_of_moments():
    rng = np.random.default_rng(0)
    m = (rng.standard_normal(100_000) * 10.0 ** rng.uniform(-9, 1, 100_000)).astype(np.float32)
    root = (abs(m) * 10.0 ** rng.uniform(-3, 3, 100_000)).astype(np.float32)
    np.testing.assert_allclose(arctan2(m, root), np.arctan2(m, root, dtype=float), rtol=4e-7)


def test_arctan2_at_the_ends():
    found = arctan2(
        np.array([0, 0, 1, -1, np.nan, 1], "f4"), np.array([0, 1, 0, 0, 1, np.nan], "f4")
    )
    np.testing.assert_array_equal(
        found, np.array([0, 0, np.pi / 2, -np.pi / 2, np.nan, np.nan], "f4")
    )
