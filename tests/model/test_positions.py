"""Rotary positions by row and column."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drm_jax.errors import UsageError
from drm_jax.model.layers import board_angles, rotary_angles, rotate
from drm_jax.model.transformer import Transformer

PREFIX, SIZE = 3, 8
SIDE, CANVAS = 3, 5
BOARDS = ((SIDE, SIDE), (CANVAS, CANVAS))
MODEL = Transformer(
    hidden=16, heads=2, layers=1, prefix=PREFIX, swiglu_multiple=8, positions="board"
)


def products(cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """(T, T): of one query and one key, at each pair of places."""
    q, k = np.random.default_rng(0).standard_normal((2, 1, 1, SIZE)).astype(np.float32)
    turned = [np.asarray(rotate(np.tile(x, (1, len(cos), 1)), cos, sin))[0] for x in (q, k)]
    return turned[0] @ turned[1].T


def test_products_depend_on_the_differences_of_rows_and_columns_alone():
    found = products(*board_angles(PREFIX, (4, 6), SIZE))[PREFIX:, PREFIX:]
    rows, columns = np.indices((4, 6)).reshape(2, -1)
    apart = np.stack([rows[:, None] - rows, columns[:, None] - columns], axis=-1).reshape(-1, 2)
    of_difference = {}
    for difference, value in zip(map(tuple, apart.tolist()), found.ravel(), strict=True):
        of_difference.setdefault(difference, []).append(value)
    assert len(of_difference) == 7 * 11
    for values in of_difference.values():
        np.testing.assert_allclose(values, values[0], atol=1e-5)
    means = sorted(np.mean(values) for values in of_difference.values())
    assert np.diff(means).min() > 1e-6  # all differences are told apart


def test_half_of_a_head_turns_by_the_row_and_half_by_the_column():
    cos, sin = board_angles(PREFIX, (2, 3), SIZE)
    assert cos.dtype == sin.dtype == np.float32
    assert cos.shape == sin.shape == (PREFIX + 6, SIZE)
    row_T = [0, 1, 2, *[PREFIX] * 3, *[PREFIX + 1] * 3]
    column_T = [0, 1, 2, *range(PREFIX, PREFIX + 3), *range(PREFIX, PREFIX + 3)]
    of_half = [table[:, : SIZE // 4] for table in rotary_angles(PREFIX + 3, SIZE // 2)]
    for ours, line in zip((cos, sin), of_half, strict=True):
        expected = np.concatenate([line[row_T], line[column_T]], axis=-1)
        np.testing.assert_array_equal(ours, np.tile(expected, 2))


def test_no_two_tokens_share_a_place():
    both = np.concatenate(board_angles(16, (30, 30), SIZE), axis=-1)
    assert len(np.unique(both.round(5), axis=0)) == 916


def test_a_cell_keeps_its_place_in_a_window():
    network = MODEL.network(13, BOARDS, "cpu")
    whole = board_angles(PREFIX, BOARDS[-1], SIZE)
    corners = np.array([[0, 0], [1, 2], [2, 0]], np.int32)
    angles = network.at_window(SIDE**2, jnp.asarray(corners)).module.angles
    for i, (row, column) in enumerate(corners):
        inside = np.arange(CANVAS**2).reshape(CANVAS, CANVAS)[row:, column:][:SIDE, :SIDE]
        place_T = [*range(PREFIX), *(PREFIX + inside.ravel())]
        for table, of_window in zip(whole, angles, strict=True):
            np.testing.assert_array_equal(of_window[i, 0], table[place_T])
    among_cells = [
        products(*(np.asarray(table[i, 0, PREFIX:]) for table in angles)) for i in range(3)
    ]
    for moved in among_cells[1:]:
        np.testing.assert_allclose(moved, among_cells[0], atol=1e-5)
    at_origin = network.at_window(SIDE**2).module.angles
    for table, of_window in zip(at_origin, board_angles(PREFIX, BOARDS[0], SIZE), strict=True):
        np.testing.assert_array_equal(table, of_window)
    assert network.at_window(CANVAS**2) is network


def test_a_network_of_them():
    """The parameters are those without; the answers aren't."""
    line = Transformer(hidden=16, heads=2, layers=1, prefix=PREFIX, swiglu_multiple=8)
    networks = [model.network(13, BOARDS, "cpu") for model in (MODEL, line)]
    params = [jax.jit(network.init)(jax.random.key(0)) for network in networks]
    jax.tree.map(np.testing.assert_array_equal, *params)
    h = np.random.default_rng(0).standard_normal((2, PREFIX + 25, 16)).astype(np.float32)
    two, one = (jax.jit(network.block)(params[0], h, h) for network in networks)
    assert np.abs(two - one).max() > 1e-2


def test_heads_that_can_not_be_halved():
    with pytest.raises(UsageError, match=r"model\.positions: board needs heads of 4, 8, … numbers"):
        Transformer(hidden=12, heads=2, positions="board")
    assert Transformer(hidden=12, heads=2).positions == "sequence"
