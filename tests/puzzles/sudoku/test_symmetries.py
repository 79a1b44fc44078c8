"""Symmetries of Sudoku: they are undone, and keep the rules; copies are known again."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drm_jax.puzzles.sudoku.rules import is_solved
from drm_jax.puzzles.sudoku.solver import BOXES, dig_by_singles, fill
from drm_jax.puzzles.sudoku.symmetries import (
    augment,
    from_bits,
    identity,
    invariant,
    name,
    num_bits,
    undo,
    words,
)
from drm_jax.random_bits import draw_bits


def drawn(side: int, seed: int, count: int = 1) -> np.ndarray:
    return from_bits(draw_bits((seed,), 0, count, num_bits(side)), side)


def solved(side: int, count: int) -> np.ndarray:
    """(N, S) solved boards."""
    found = fill(draw_bits((side,), 0, 8 * count, side**2), side)
    return found[found[:, 0] > 0][:count]


@given(st.sampled_from(list(BOXES)), st.integers(0, 2**32), st.data())
def test_undo_inverts_augment_on_any_tokens(side, seed, data):
    elements = st.integers(0, 255)
    tokens = data.draw(hnp.arrays(np.uint8, (2, 3, side * side), elements=elements))
    symmetry_NxA = drawn(side, seed, 2)
    changed = augment(tokens, symmetry_NxA)
    np.testing.assert_array_equal(undo(changed, symmetry_NxA), tokens, strict=True)
    back = augment(undo(tokens, symmetry_NxA), symmetry_NxA)
    np.testing.assert_array_equal(back, tokens, strict=True)


@pytest.mark.parametrize("side", BOXES)
def test_a_solved_board_stays_solved(side):
    (solution_S,) = solved(side, 1)
    symmetry_NxA = drawn(side, 1, 50)
    tokens = np.tile(solution_S + np.uint8(1), (50, 1, 1))
    changed_NxS = augment(tokens, symmetry_NxA)[:, 0] - np.uint8(1)
    assert is_solved(np.zeros_like(changed_NxS), changed_NxS, side).all()
    assert len(np.unique(changed_NxS, axis=0)) > 30


def test_all_symmetries_of_4x4_are_drawn():
    """24 permutations of digits; 8 each of rows and columns; transposed or not."""
    symmetries = drawn(4, 0, 60_000)
    assert len(np.unique(symmetries, axis=0)) == 24 * 8 * 8 * 2
    assert len(np.unique(symmetries[:, 5:9], axis=0)) == 8
    assert symmetries[:, 0].mean() == pytest.approx(0.5, abs=0.01)
    assert not drawn(6, 0, 1000)[:, 0].any()  # boxes of 2x3 would become 3x2


@pytest.mark.parametrize("side", BOXES)
def test_the_identity(side):
    tokens = np.arange(side**2, dtype=np.uint8).reshape(1, 1, -1)
    np.testing.assert_array_equal(augment(tokens, identity(side)[None]), tokens, strict=True)
    assert (name(identity(side)), words(identity(side))) == ("", "as it is")


def test_by_hand():
    """Digits 1 and 2 change places, then the first two rows, then the board is transposed."""
    symmetry_A = np.array([1, 1, 0, 2, 3, 1, 0, 2, 3, 0, 1, 2, 3], np.uint8)
    tokens = np.array([[2, 3, 4, 5], [0, 1, 6, 2], [5, 5, 5, 5], [1, 1, 1, 1]], np.uint8)
    expected = [[0, 3, 5, 1], [1, 2, 5, 1], [6, 4, 5, 1], [3, 5, 5, 1]]
    changed = augment(tokens.reshape(1, 1, 16), symmetry_A[None])
    assert changed.reshape(4, 4).tolist() == expected
    assert name(symmetry_A) == "2134 r1023 t"
    assert words(symmetry_A) == "digits 2134, rows 1023, transposed"


# --- copies ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("side", [6, 9, 16])
def test_copies_have_one_form_and_other_puzzles_another(side):
    solution_NxS = solved(side, 40)
    order_NxS = np.argsort(draw_bits((5,), 0, len(solution_NxS), side**2), axis=1)
    puzzle_NxS = dig_by_singles(solution_NxS, order_NxS, np.zeros(len(order_NxS), int), side)
    tokens = puzzle_NxS[:, None] + np.uint8(1)
    copy_NxS = augment(tokens, drawn(side, 2, len(tokens)))[:, 0] - np.uint8(1)
    assert (copy_NxS != puzzle_NxS).any(axis=1).all()
    form_N = invariant(puzzle_NxS, side)
    np.testing.assert_array_equal(invariant(copy_NxS, side), form_N)
    assert len(np.unique(form_N)) == len(form_N)
    # one clue moved, or one digit changed, is another puzzle
    other_NxS = puzzle_NxS.copy()
    cell_N = (puzzle_NxS > 0).argmax(axis=1)
    rows = np.arange(len(other_NxS))
    other_NxS[rows, cell_N] = other_NxS[rows, cell_N] % side + 1
    assert (invariant(other_NxS, side) != form_N).all()


def test_the_form_says_what_a_search_for_a_symmetry_says():
    """Small puzzles, many of which are copies of each other by chance."""
    (grid_S,) = solved(4, 1)
    rng = np.random.default_rng(0)
    tokens = np.tile(grid_S + np.uint8(1), (60, 1, 1))
    boards_NxS = augment(tokens, drawn(4, 3, 60))[:, 0] - np.uint8(1)
    boards_NxS[rng.random(boards_NxS.shape) < 0.75] = 0
    form_N = invariant(boards_NxS, 4)
    pairs = [(a, b) for a in range(60) for b in range(a)]
    same = [a for a, b in pairs if form_N[a] == form_N[b]]
    assert 10 < len(same) < len(pairs) / 2
    for a, b in pairs:
        copies = is_copy(boards_NxS[a].reshape(4, 4), boards_NxS[b].reshape(4, 4))
        assert copies == (form_N[a] == form_N[b])


def is_copy(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether a puzzle of 4x4 is another one under some symmetry; tries all."""
    for grid in (other, other.T):
        for rows in line_orders():
            for columns in line_orders():
                if renamed(one, grid[rows][:, columns]):
                    return True
    return False


def line_orders() -> Iterator[list[int]]:
    for first, second in (((0, 1), (2, 3)), ((2, 3), (0, 1))):
        for a in (first, first[::-1]):
            for b in (second, second[::-1]):
                yield [*a, *b]


def renamed(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether boards are equal up to the names of their digits."""
    if not np.array_equal(one == 0, other == 0):
        return False
    pairs = {(a, b) for a, b in zip(one.ravel().tolist(), other.ravel().tolist()) if a}
    return len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
