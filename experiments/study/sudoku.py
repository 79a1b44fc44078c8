"""Sudoku puzzles with one solution each, made by a seeded generator: sources of tasks.

    drm data experiments.study.sudoku:sudoku4_tuning

A family is one task: its demonstrations are puzzles with their solutions, its tests other puzzles.
Digits are the colours 1 to 4 or 6, an empty cell is black. 4x4 has boxes of 2x2 and 4 clues on
average, 6x6 boxes of 2x3 and 10 clues. The tests of `tuning` and of `final` are other puzzles, and
so are their demonstrations.
"""

import random

Grid = list[list[int]]
TRAINED, TESTED = 512, 64


def sudoku4_tuning() -> dict[str, dict]:
    """4x4, to choose settings by."""
    return {"sudoku4": family(2, 2, seed=40)}


def sudoku4_final() -> dict[str, dict]:
    """4x4, for the final table."""
    return {"sudoku4": family(2, 2, seed=41)}


def sudoku6_tuning() -> dict[str, dict]:
    """6x6, to choose settings by."""
    return {"sudoku6": family(2, 3, seed=60)}


def sudoku6_final() -> dict[str, dict]:
    """6x6, for the final table."""
    return {"sudoku6": family(2, 3, seed=61)}


def family(
    box_rows: int, box_columns: int, seed: int, trained: int = TRAINED, tested: int = TESTED
) -> dict[str, list[dict[str, Grid]]]:
    """An ARC task of distinct puzzles, as JSON has it."""
    rng, puzzles = random.Random(seed), {}
    while len(puzzles) < trained + tested:
        puzzle, solution = make_puzzle(box_rows, box_columns, rng)
        puzzles.setdefault(str(puzzle), {"input": puzzle, "output": solution})
    pairs = list(puzzles.values())
    return {"train": pairs[:trained], "test": pairs[trained:]}


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
    box_columns = side // box_rows
    grid, found = [row.copy() for row in puzzle], []
    rows, columns, boxes = ([set() for _ in range(side)] for _ in range(3))

    def box(r: int, c: int) -> int:
        return r // box_rows * box_rows + c // box_columns

    for r in range(side):
        for c in range(side):
            if grid[r][c]:
                for seen in (rows[r], columns[c], boxes[box(r, c)]):
                    if grid[r][c] in seen:
                        return []
                    seen.add(grid[r][c])

    def left(cell: tuple[int, int]) -> list[int]:
        r, c = cell
        used = rows[r] | columns[c] | boxes[box(r, c)]
        return [digit for digit in range(1, side + 1) if digit not in used]

    def fill(empty: set[tuple[int, int]]) -> None:
        if not empty:
            found.append([row.copy() for row in grid])
            return
        cell = min(empty, key=lambda cell: (len(left(cell)), cell))
        digits = left(cell)
        if rng is not None:
            rng.shuffle(digits)
        r, c = cell
        for digit in digits:
            grid[r][c] = digit
            for seen in (rows[r], columns[c], boxes[box(r, c)]):
                seen.add(digit)
            fill(empty - {cell})
            grid[r][c] = 0
            for seen in (rows[r], columns[c], boxes[box(r, c)]):
                seen.remove(digit)
            if len(found) >= most:
                return

    fill({(r, c) for r in range(side) for c in range(side) if not grid[r][c]})
    return found
