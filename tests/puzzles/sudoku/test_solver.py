"""Solving many boards: singles, search, puzzles from solutions; the generator."""

import itertools

import numpy as np
import pytest

from drm_jax.errors import InputError
from drm_jax.puzzles.sudoku.generator import Wanted, make_puzzles
from drm_jax.puzzles.sudoku.rules import conflicts, is_solved
from drm_jax.puzzles.sudoku.solver import (
    BOXES,
    dig_by_search,
    dig_by_singles,
    fill,
    propagate,
    rate,
    search,
    to_candidates,
    to_digits,
    units,
)
from drm_jax.random_bits import draw_bits


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def every_4x4() -> np.ndarray:
    """(288, 16) all solved boards."""
    rows = list(itertools.permutations(range(1, 5)))
    boards = np.array([sum(four, ()) for four in itertools.product(rows, repeat=4)], np.uint8)
    return boards[is_solved(np.zeros_like(boards), boards, 4)]


def solved(side: int, count: int) -> np.ndarray:
    found = fill(draw_bits((side,), 0, 4 * count, side**2), side)
    return found[found[:, 0] > 0][:count]


@pytest.mark.parametrize("side", BOXES)
def test_units(side):
    assert units(side).shape == (3 * side, side)
    assert np.bincount(units(side).ravel()).tolist() == [3] * side**2
    box = np.arange(side**2).reshape(side, side)[: BOXES[side][0], : BOXES[side][1]]
    assert units(side)[2 * side].tolist() == box.ravel().tolist()


@pytest.mark.parametrize("side", BOXES)
def test_filled_boards_are_solved_and_follow_from_their_bits(side):
    bits = draw_bits((1,), 0, 32, side**2)
    found = fill(bits, side)
    filled = found[:, 0] > 0
    assert filled.mean() > 0.3
    assert is_solved(np.zeros_like(found[filled]), found[filled], side).all()
    assert not found[~filled].any()
    np.testing.assert_array_equal(fill(bits[5:9], side), found[5:9], strict=True)


def test_search_counts_the_solutions_of_4x4():
    every = every_4x4()
    assert len(every) == 288
    rng = np.random.default_rng(0)
    puzzle_NxS = every[rng.integers(0, 288, 200)]
    puzzle_NxS[rng.random(puzzle_NxS.shape) < 0.7] = 0
    count_N = [((row == 0) | (row == every)).all(axis=1).sum() for row in puzzle_NxS]
    found = search(to_candidates(puzzle_NxS, 4), 4, limit=1000)
    assert not found.given_up_N.any()
    np.testing.assert_array_equal(found.solutions_N, count_N)
    assert is_solved(puzzle_NxS, found.first_NxS, 4).all()
    twice = puzzle_NxS.copy()
    twice[:, 0] = twice[:, 1] = 1  # no solution
    assert not search(to_candidates(twice, 4), 4).solutions_N.any()


@pytest.mark.parametrize("side", BOXES)
def test_puzzles_of_singles(side):
    solution_NxS = solved(side, 12)
    order_NxS = np.argsort(draw_bits((2,), 0, len(solution_NxS), side**2), axis=1)
    few = np.zeros(len(order_NxS), int)
    puzzle_NxS = dig_by_singles(solution_NxS, order_NxS, few, side)
    answered = to_digits(propagate(to_candidates(puzzle_NxS, side), side))
    np.testing.assert_array_equal(answered, solution_NxS, strict=True)
    assert (puzzle_NxS > 0).mean() < 0.6
    assert not rate(puzzle_NxS, side).any()
    many = dig_by_singles(solution_NxS, order_NxS, few + side**2 - 5, side)
    assert ((many > 0).sum(axis=1) == side**2 - 5).all()


def test_puzzles_of_search_have_one_solution_and_no_clue_too_many():
    solution_NxS = solved(6, 6)
    order_NxS = np.argsort(draw_bits((2,), 0, 6, 36), axis=1)
    few = np.zeros(6, int)
    puzzle_NxS = dig_by_search(solution_NxS, order_NxS, few, 6)
    found = search(to_candidates(puzzle_NxS, 6), 6)
    assert found.solutions_N.tolist() == [1] * 6
    np.testing.assert_array_equal(found.first_NxS, solution_NxS, strict=True)
    for puzzle_S in puzzle_NxS:
        for cell in np.flatnonzero(puzzle_S):
            without = puzzle_S.copy()
            without[cell] = 0
            assert search(to_candidates(without[None], 6), 6).solutions_N[0] > 1


# A hard one, which singles alone don't solve: Arto Inkala's, 2010.
HARD = "..53.....8......2..7..1.5..4....53...1..7...6..32...8..6.5....9..4....3......97.."


def test_a_hard_puzzle():
    digits = np.array([[0 if c == "." else int(c) for c in HARD]], np.uint8)
    assert (to_digits(propagate(to_candidates(digits, 9), 9)) == 0).any()
    found = search(to_candidates(digits, 9), 9)
    assert found.solutions_N.tolist() == [1]
    assert is_solved(digits, found.first_NxS, 9).all()
    assert rate(digits, 9)[0] > 10


# --- the generator --------------------------------------------------------------------------------
def test_the_same_puzzles_for_the_same_seed_and_from_the_cache(tmp_path, monkeypatch):
    wanted = Wanted(6, "search", 0, 0, None)
    made = make_puzzles(wanted, 8, 3)
    (path,) = (tmp_path / "drm_jax/puzzles").iterdir()
    monkeypatch.setattr("drm_jax.puzzles.made._first", None)  # nothing is made again
    again = make_puzzles(wanted, 8, 3)
    for name in ("inputs_NxS", "outputs_NxS", "difficulty_N"):
        np.testing.assert_array_equal(getattr(again, name), getattr(made, name), strict=True)
    monkeypatch.undo()
    path.write_bytes(path.read_bytes()[:100])  # damaged: made again
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    np.testing.assert_array_equal(make_puzzles(wanted, 8, 3).inputs_NxS, made.inputs_NxS)
    longer = make_puzzles(wanted, 12, 3)
    np.testing.assert_array_equal(longer.inputs_NxS[:8], made.inputs_NxS)
    others = make_puzzles(wanted, 8, 3, other_than=made)
    assert not {x.tobytes() for x in others.inputs_NxS} & {x.tobytes() for x in made.inputs_NxS}
    np.testing.assert_array_equal(others.inputs_NxS[:4], longer.inputs_NxS[8:])


def test_difficulty_and_clues():
    hard = make_puzzles(Wanted(6, "search", 0, 1, 3), 4, 0)
    assert ((hard.difficulty_N >= 1) & (hard.difficulty_N <= 3)).all()
    np.testing.assert_array_equal(rate(hard.inputs_NxS, 6), hard.difficulty_N)
    easy = make_puzzles(Wanted(9, "singles", 50, 0, None), 4, 0)
    assert ((easy.inputs_NxS > 0).sum(axis=1) == 50).all()


def test_more_puzzles_than_there_are(monkeypatch):
    monkeypatch.setattr("drm_jax.puzzles.made.MOST_MISSES", 1)
    wanted = Wanted(4, "singles", 16, 0, None)
    with pytest.raises(InputError, match="only 288 of 1,000 puzzles of this kind were found"):
        make_puzzles(wanted, 1000, 0)


# --- rules ----------------------------------------------------------------------------------------
def test_rules():
    solution_NxS = solved(9, 3)
    question_NxS = solution_NxS.copy()
    question_NxS[:, ::2] = 0
    assert is_solved(question_NxS, solution_NxS, 9).all()
    wrong_NxS = solution_NxS.copy()
    wrong_NxS[0, 0] = wrong_NxS[0, 1]  # a digit twice
    wrong_NxS[1] = np.roll(solution_NxS[1].reshape(9, 9), 1, axis=0).ravel()  # other clues
    assert is_solved(question_NxS, wrong_NxS, 9).tolist() == [False, False, True]
    assert not conflicts(question_NxS[0].reshape(9, 9), solution_NxS[0].reshape(9, 9)).any()
    marked = conflicts(question_NxS[0].reshape(9, 9), wrong_NxS[0].reshape(9, 9))
    assert marked[0, :2].all()
    assert marked.sum() >= 2
    changed = question_NxS[0].reshape(9, 9).copy()
    row, column = np.argwhere(changed > 0)[0]
    answer = solution_NxS[0].reshape(9, 9).copy()
    answer[row, column] = 0
    assert conflicts(changed, answer)[row, column]
