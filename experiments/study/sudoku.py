"""Sudoku puzzles with one solution each, made by a seeded generator: sources of tasks.

    drm data experiments.study.sudoku:sudoku4_tuning

A family is one task: its demonstrations are puzzles with their solutions, its tests other puzzles.
Digits are the colours 1 to 4 or 6, an empty cell is black. 4x4 has boxes of 2x2 and 4 clues on
average, 6x6 boxes of 2x3 and 10 clues.

4x4 has 288 solutions in all, so they are split: a test's solution is that of no demonstration, and
tests of `tuning` and of `final` have other ones. 6x6 has 28 million, which needs no split.
"""

import hashlib
import itertools
import random

Grid = list[list[int]]
TRAINED, TESTED = 1000, 64


def sudoku4_tuning() -> dict[str, dict]:
    """4x4, to choose settings by."""
    return {"sudoku4": family(2, 2, seed=40, tested_part=8)}


def sudoku4_final() -> dict[str, dict]:
    """4x4, for the final table."""
    return {"sudoku4": family(2, 2, seed=41, tested_part=9)}


def sudoku6_tuning() -> dict[str, dict]:
    """6x6, to choose settings by."""
    return {"sudoku6": family(2, 3, seed=60)}


def sudoku6_final() -> dict[str, dict]:
    """6x6, for the final table."""
    return {"sudoku6": family(2, 3, seed=61)}


def family(
    box_rows: int,
    box_columns: int,
    seed: int,
    trained: int = TRAINED,
    tested: int = TESTED,
    tested_part: int | None = None,
) -> dict[str, list[dict[str, Grid]]]:
    """An ARC task of distinct puzzles, as JSON has it.

    Args:
      tested_part: 8 or 9: which tenth of all solutions the tests have; demonstrations then have
        those of the tenths 0 to 7. None: any.
    """
    rng, train, test = random.Random(seed), {}, {}
    while len(train) < trained or len(test) < tested:
        puzzle, solution = make_puzzle(box_rows, box_columns, rng)
        part = part_of(solution)
        if tested_part is None:
            goes_to = train if len(train) < trained else test
        else:
            goes_to = test if part == tested_part else train if part < 8 else {}
        most = tested if goes_to is test else trained
        if len(goes_to) < most and str(puzzle) not in train and str(puzzle) not in test:
            goes_to[str(puzzle)] = {"input": puzzle, "output": solution}
    return {"train": list(train.values()), "test": list(test.values())}


def part_of(solution: Grid) -> int:
    """Which tenth of all solutions this one belongs to, 0 to 9."""
    return int(hashlib.sha256(str(solution).encode()).hexdigest(), 16) % 10


def make_puzzle(box_rows: int, box_columns: int, rng: random.Random) -> tuple[Grid, Grid]:
    """A puzzle from which no clue can be taken without a second solution, and its solution."""
    side = box_rows * box_columns
    (solution,) = solve([[0] * side for _ in range(side)], box_rows, 1, rng)
    puzzle = [row.copy() for row in solution]
    cells = [(r, c) for r in range(side) for c in range(side)]
    rng.shuffle(cells)
    for r, c in cells:
        kept, puzzle[r][c] = puzzle[r][c], 0
        if len(solve(puzzle, box_rows, 2)) > 1:
            puzzle[r][c] = kept
    return puzzle, solution


def solve(puzzle: Grid, box_rows: int, most: int, rng: random.Random | None = None) -> list[Grid]:
    """Up to `most` solutions; in random order with `rng`.

    The empty cell with the fewest digits left is filled first.
    """
    side = len(puzzle)
    every, used = 2 ** (side + 1) - 2, [0] * (3 * side)  # a bit for each digit; of each unit
    units, empty = {}, set()
    grid, found = [row.copy() for row in puzzle], []
    for r, c in itertools.product(range(side), repeat=2):
        box = r // box_rows * box_rows + c // (side // box_rows)
        units[r, c] = here = r, side + c, 2 * side + box
        digit = 1 << grid[r][c]
        if not grid[r][c]:
            empty.add((r, c))
        elif any(used[unit] & digit for unit in here):
            return []
        else:
            for unit in here:
                used[unit] |= digit

    def left(cell: tuple[int, int]) -> int:
        row, column, box = units[cell]
        return every & ~(used[row] | used[column] | used[box])

    def fill() -> None:
        if not empty:
            found.append([row.copy() for row in grid])
            return
        _, cell, digits = min((left(cell).bit_count(), cell, left(cell)) for cell in empty)
        empty.remove(cell)
        r, c = cell
        order = [digit for digit in range(1, side + 1) if digits >> digit & 1]
        if rng is not None:
            rng.shuffle(order)
        for grid[r][c] in order:
            for unit in units[cell]:
                used[unit] ^= 1 << grid[r][c]
            fill()
            for unit in units[cell]:
                used[unit] ^= 1 << grid[r][c]
            if len(found) >= most:
                break
        grid[r][c] = 0
        empty.add(cell)

    fill()
    return found
