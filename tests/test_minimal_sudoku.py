"""Puzzles have one solution each, and the same seed gives the same ones."""

import hashlib
import itertools
import random

import numpy as np
import pytest

from drm_jax.errors import InputError
from experiments.study.minimal_sudoku import BOXES, make_puzzle, make_puzzles, part_of


def is_solved(grid: np.ndarray) -> bool:
    side = len(grid)
    rows, columns = BOXES[side]
    boxes = [
        grid[r : r + rows, c : c + columns].ravel()
        for r in range(0, side, rows)
        for c in range(0, side, columns)
    ]
    digits = list(range(1, side + 1))
    return all(sorted(unit.tolist()) == digits for unit in (*grid, *grid.T, *boxes))


SOLUTIONS = [
    grid
    for rows in itertools.product(itertools.permutations(range(1, 5)), repeat=4)
    if all(len(set(column)) == 4 for column in zip(*rows, strict=True))
    and is_solved(grid := np.array(rows, np.uint8))
]


def solutions_of(puzzle: np.ndarray) -> list[np.ndarray]:
    return [grid for grid in SOLUTIONS if ((puzzle == 0) | (puzzle == grid)).all()]


def test_puzzles_of_4x4_have_one_solution_and_no_clue_too_many():
    assert len(SOLUTIONS) == 288
    rng = random.Random(0)
    for _ in range(30):
        puzzle, solution = make_puzzle(4, rng)
        (found,) = solutions_of(puzzle)
        np.testing.assert_array_equal(found, solution, strict=True)
        for cell in zip(*np.nonzero(puzzle), strict=True):
            without = puzzle.copy()
            without[cell] = 0
            assert len(solutions_of(without)) > 1


@pytest.mark.parametrize("side", [4, 6, 9])
def test_solutions_are_solved_boards_that_fit_their_clues(side):
    puzzle, solution = make_puzzle(side, random.Random(side))
    assert is_solved(solution)
    clues = puzzle > 0
    assert side <= clues.sum() < side**2 / 2 + 1
    np.testing.assert_array_equal(puzzle[clues], solution[clues])


# Written down once, from the generator that made ARC tasks of the study.
BEFORE = {(4, 40, 8): "66df7b6b794126c2", (6, 60, None): "663cfadeda2f5e77"}


@pytest.mark.parametrize(("side", "seed", "part"), BEFORE)
def test_the_same_puzzles_for_the_same_seed(side, seed, part):
    train, test = make_puzzles(side, 20, 4, seed, part)
    assert (len(train), len(test)) == (20, 4)
    content = b"".join(grid.tobytes() for puzzle in (*train, *test) for grid in puzzle)
    assert hashlib.sha256(content).hexdigest()[:16] == BEFORE[side, seed, part]


def test_tests_have_solutions_of_their_own():
    train, test = make_puzzles(4, 200, 20, 0, tested_part=9)
    assert {part_of(solution) for _, solution in test} == {9}
    assert {part_of(solution) for _, solution in train} <= set(range(8))
    puzzles = [puzzle.tobytes() for puzzle, _ in (*train, *test)]
    assert len(set(puzzles)) == len(puzzles)


def test_more_puzzles_than_there_are(monkeypatch):
    monkeypatch.setattr("experiments.study.minimal_sudoku._MOST_MISSES", 5)
    puzzle = make_puzzle(4, random.Random(0))
    monkeypatch.setattr("experiments.study.minimal_sudoku.make_puzzle", lambda side, rng: puzzle)
    with pytest.raises(InputError, match="only 1 to train on and 0 to test with were found"):
        make_puzzles(4, 2, 0, 0)
