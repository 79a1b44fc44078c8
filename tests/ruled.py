"""Families with and without rules, for what pictures and reports mark: small stand-ins."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from drm_jax.evaluate.answers import answers_bytes, read_answers
from drm_jax.puzzles.boards import grid_of
from drm_jax.puzzles.family import Board, Vocabulary
from drm_jax.puzzles.fixed import FixedBoard, Pair
from drm_jax.puzzles.sudoku.family import Sudoku


@dataclasses.dataclass(frozen=True)
class Unruled(Sudoku):
    """Sudoku of which nothing is marked."""

    blocks = None
    difficulty = ""
    given = FixedBoard.given
    conflicts = FixedBoard.conflicts


WALL, FREE, START, GOAL, PATH = range(5)


@dataclasses.dataclass(frozen=True)
class Corridors(FixedBoard):
    """Mazes with one way through."""

    side: int = 12
    train_puzzles: int = 1
    test_puzzles: int = 5
    num_augmentations: int = 0
    difficulty = "length of the path"
    vocabulary = Vocabulary(
        "# SGo",
        colours=("#2B2D33", "#F3F1EA", "#2E9E5B", "#C2410C", "#3B82F6"),
        safe_colours=("#2B2D33", "#F3F1EA", "#117733", "#882255", "#DDCC77"),
        colour_names=("wall", "free", "start", "goal", "path"),
    )

    @property
    def board(self) -> Board:
        return self.side, self.side

    def pairs(self) -> tuple[Sequence[Pair], Sequence[Pair]]:
        made = [
            corridors(self.side, seed) for seed in range(self.train_puzzles + self.test_puzzles)
        ]
        return made[: self.train_puzzles], made[self.train_puzzles :]

    def given(self, question_HxW: np.ndarray) -> np.ndarray:
        return question_HxW != FREE

    def conflicts(self, question_HxW: np.ndarray, grid_HxW: np.ndarray) -> np.ndarray:
        changed = np.where(grid_HxW == PATH, FREE, grid_HxW) != question_HxW
        reached, on_path = grid_HxW == START, np.isin(grid_HxW, (START, PATH))
        while True:
            padded = np.pad(reached, 1)
            beside = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
            more = on_path & (reached | beside)
            if (more == reached).all():
                return changed | (grid_HxW == PATH) & ~reached
            reached = more


def corridors(side: int, seed: int) -> Pair:
    """A maze with one way between any two cells, and the way from its start to its goal."""
    rng, question = np.random.default_rng(seed), np.full((side, side), WALL, np.uint8)
    corner, goal = (1, 1), ((side - 2) // 2 * 2 - 1,) * 2
    question[corner] = FREE
    way, solution = [corner], []
    while way:
        row, column = way[-1]
        if (row, column) == goal:
            solution = list(way)
        around = [(row + r, column + c) for r, c in ((2, 0), (-2, 0), (0, 2), (0, -2))]
        new = [p for p in around if max(p) < side - 1 and min(p) > 0 and question[p] == WALL]
        if not new:
            way.pop()
            continue
        way.append(new[rng.integers(len(new))])
        question[way[-1]] = question[(row + way[-1][0]) // 2, (column + way[-1][1]) // 2] = FREE
    truth = question.copy()
    for (r, c), (s, d) in itertools.pairwise(solution):
        truth[r, c] = truth[(r + s) // 2, (c + d) // 2] = PATH
    for grid in (question, truth):
        grid[corner], grid[goal] = START, GOAL
    return question, truth


def with_difficulty(folder, family) -> list[int]:
    """Adds a difficulty to each test of an evaluation's folder, and to each answer whether it is
    valid; gives the difficulties."""
    answers, symbols = read_answers(folder, family.vocabulary), family.vocabulary.symbols
    levels = [7 * number % 23 for number in range(len(answers.tasks))]
    for task, level in zip(answers.tasks, levels, strict=True):
        (test,) = task["tests"]
        test["difficulty"] = level
        for answer in test["answers"]:
            question, grid = (grid_of(rows, symbols) for rows in (test["input"], answer["grid"]))
            answer["valid"] = not family.conflicts(question, grid).any()
    (folder / "answers.json.gz").write_bytes(answers_bytes(answers))
    return levels
