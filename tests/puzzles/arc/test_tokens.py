import numpy as np
import pytest

from drm_jax.puzzles.arc.tokens import EOS, PAD, crop, grid_sizes, to_tokens


def test_layout_by_hand():
    tokens = to_tokens(np.array([[0, 9]], np.uint8), 4, (1, 1)).reshape(4, 4)
    expected = [[0, 0, 0, 0], [0, 2, 11, 1], [0, 1, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(tokens, expected)


def test_a_full_canvas_has_no_end():
    tokens = to_tokens(np.full((3, 3), 4, np.uint8), 3)
    assert not np.isin(tokens, [PAD, EOS]).any()


def test_a_grid_must_fit():
    with pytest.raises(ValueError, match="leaves a canvas"):
        to_tokens(np.zeros((3, 3), np.uint8), 4, (2, 0))


def test_crop_inverts_layout():
    rng = np.random.default_rng(0)
    for _ in range(50):
        grid = rng.integers(0, 10, rng.integers(1, 8, 2)).astype(np.uint8)
        np.testing.assert_array_equal(crop(to_tokens(grid, 8)), grid)


def test_anything_can_be_cropped():
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 13, (200, 25)).astype(np.uint8)
    for size, tokens_S in zip(grid_sizes(tokens), tokens, strict=True):
        assert crop(tokens_S).shape == tuple(size)
        assert (tokens_S[0] in range(2, 12)) == (size.min() > 0)


def test_the_largest_rectangle_wins_and_the_lowest_of_equal_ones():
    # 1x4 and 2x2 have the same area; then a third row makes 3x2 the largest.
    tie = np.array([[2, 2, 2, 2], [2, 2, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    assert tuple(grid_sizes(tie.reshape(1, -1))[0]) == (1, 4)
    tie[2, :2] = 2
    assert tuple(grid_sizes(tie.reshape(1, -1))[0]) == (3, 2)
