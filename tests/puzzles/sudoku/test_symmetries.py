"""Symmetries of Sudoku: they are undone, and keep the rules."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drm_jax.puzzles.sudoku.generator import BOXES, make_puzzle
from drm_jax.puzzles.sudoku.symmetries import (
    augment,
    from_bits,
    identity,
    name,
    num_bits,
    undo,
    words,
)
from drm_jax.random_bits import draw_bits


def drawn(side: int, seed: int, count: int = 1) -> np.ndarray:
    return from_bits(draw_bits((seed,), 0, count, num_bits(side)), side)


@given(st.sampled_from(list(BOXES)), st.integers(0, 2**32), st.data())
def test_undo_inverts_augment_on_any_tokens(side, seed, data):
    tokens_HxW = data.draw(hnp.arrays(np.uint8, (side, side), elements=st.integers(0, 255)))
    (symmetry_A,) = drawn(side, seed)
    changed = augment(tokens_HxW, symmetry_A)
    np.testing.assert_array_equal(undo(changed, symmetry_A), tokens_HxW, strict=True)
    back = augment(undo(tokens_HxW, symmetry_A), symmetry_A)
    np.testing.assert_array_equal(back, tokens_HxW, strict=True)


@pytest.mark.parametrize("side", BOXES)
def test_a_solved_board_stays_solved(side):
    _, solution = make_puzzle(side, random.Random(0))
    rows, columns = BOXES[side]
    digits = list(range(2, side + 2))
    for symmetry_A in drawn(side, 1, 50):
        changed = augment(solution + np.uint8(1), symmetry_A)
        boxes = [
            changed[r : r + rows, c : c + columns].ravel()
            for r in range(0, side, rows)
            for c in range(0, side, columns)
        ]
        for unit in (*changed, *changed.T, *boxes):
            assert sorted(unit.tolist()) == digits


def test_all_symmetries_of_4x4_are_drawn():
    """24 permutations of digits; 8 each of rows and columns; transposed or not."""
    symmetries = drawn(4, 0, 60_000)
    assert len(np.unique(symmetries, axis=0)) == 24 * 8 * 8 * 2
    assert len(np.unique(symmetries[:, 5:9], axis=0)) == 8
    assert symmetries[:, 0].mean() == pytest.approx(0.5, abs=0.01)
    assert not drawn(6, 0, 1000)[:, 0].any()  # boxes of 2x3 would become 3x2


@pytest.mark.parametrize("side", BOXES)
def test_the_identity(side):
    tokens = np.arange(side**2, dtype=np.uint8).reshape(side, side)
    np.testing.assert_array_equal(augment(tokens, identity(side)), tokens, strict=True)
    assert (name(identity(side)), words(identity(side))) == ("", "as it is")


def test_by_hand():
    """Digits 1 and 2 change places, then the first two rows, then the board is transposed."""
    symmetry_A = np.array([1, 1, 0, 2, 3, 1, 0, 2, 3, 0, 1, 2, 3], np.uint8)
    tokens = np.array([[2, 3, 4, 5], [0, 1, 6, 2], [5, 5, 5, 5], [1, 1, 1, 1]], np.uint8)
    expected = [[0, 3, 5, 1], [1, 2, 5, 1], [6, 4, 5, 1], [3, 5, 5, 1]]
    assert augment(tokens, symmetry_A).tolist() == expected
    assert name(symmetry_A) == "2134 r1023 t"
    assert words(symmetry_A) == "digits 2134, rows 1023, transposed"
