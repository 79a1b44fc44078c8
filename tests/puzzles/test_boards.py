import numpy as np
import pytest

from drm_jax.puzzles.boards import cell_accuracy, grid_of, grid_rows, place, window_shares


def test_a_window_is_placed_in_the_corner():
    windows = np.arange(1, 13, dtype=np.uint8).reshape(2, 6)
    placed = place(windows, (2, 3), (3, 4))
    assert placed.dtype == np.uint8
    expected = [[1, 2, 3, 0], [4, 5, 6, 0], [0, 0, 0, 0]]
    assert placed[0].reshape(3, 4).tolist() == expected
    assert place(windows[None], (2, 3), (2, 3)).tolist() == [windows.tolist()]


def test_shares_of_boards():
    boards = ((2, 2), (3, 3), (4, 4))
    assert window_shares(np.array([0, 2, 2, 2]), boards) == [0.25, 0, 0.75]
    assert window_shares(np.zeros(0, int), boards) == [0, 0, 1]


def test_accuracy_counts_what_is_scored():
    predicted, truth = np.array([[1, 2, 3], [1, 2, 3]]), np.array([[1, 2, 4], [1, 9, 9]])
    scored = np.array([[True, True, True], [False, False, False]])
    accuracy = cell_accuracy(predicted, truth, scored)
    assert accuracy[0] == pytest.approx(2 / 3)
    assert np.isnan(accuracy[1])


def test_grids_as_texts():
    grid = np.array([[0, 1], [2, 0]], np.uint8)
    assert grid_rows(grid, ".ab") == [".a", "b."]
    np.testing.assert_array_equal(grid_of([".a", "b."], ".ab"), grid, strict=True)
    assert grid_rows(None, ".ab") is None
    assert grid_of(None, ".ab") is None
    assert grid_of([], ".ab").shape == (0, 0)
    assert grid_rows(np.zeros((0, 0), np.uint8), ".ab") == []
    for rows in (["c"], ["a", "ab"]):
        with pytest.raises(ValueError, match=r"substring not found|inhomogeneous"):
            grid_of(rows, ".ab")
