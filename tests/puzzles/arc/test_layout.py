"""Many grids at once are what each of them is alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drm_jax.puzzles.arc.augment import Augmentation, augment
from drm_jax.puzzles.arc.layout import flatten, lay_out, turned_sizes
from drm_jax.puzzles.arc.tokens import to_tokens
from drm_jax.puzzles.dihedral import NUM_TRANSFORMS


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(0, 9), st.integers(1, 8))
def test_as_one_after_the_other(seed, num_grids, count, side):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, side, (num_grids, 2), endpoint=True)
    grids = [rng.integers(0, 10, size, np.uint8) for size in sizes]
    which = rng.integers(num_grids, size=count)
    transform = rng.integers(NUM_TRANSFORMS, size=count, dtype=np.uint8)
    colours = np.array([[0, *(1 + rng.permutation(9))] for _ in which], np.uint8).reshape(-1, 10)
    flat = flatten(grids)
    size = turned_sizes(flat, which, transform)
    offset = rng.integers(side - size, endpoint=True)
    laid = lay_out(flat, which, transform, colours, side, offset)
    cornered = lay_out(flat, which, transform, colours, side)
    assert laid.dtype == np.uint8
    assert laid.shape == (count, side**2)
    for n in range(count):
        grid = augment(grids[which[n]], Augmentation(int(transform[n]), colours[n]))
        assert grid.shape == tuple(size[n])
        np.testing.assert_array_equal(laid[n], to_tokens(grid, side, tuple(offset[n])))
        np.testing.assert_array_equal(cornered[n], to_tokens(grid, side))


def test_a_grid_that_leaves_the_canvas():
    flat = flatten([np.zeros((2, 3), np.uint8)])
    plain = np.zeros(1, int), np.zeros(1, int), np.arange(10, dtype=np.uint8)[None]
    lay_out(flat, *plain, 4, np.array([[2, 1]]))
    for offset in ([3, 1], [2, 2]):
        with pytest.raises(ValueError, match="leaves a canvas of side 4"):
            lay_out(flat, *plain, 4, np.array([offset]))
