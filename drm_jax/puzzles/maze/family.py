"""The family of mazes: its options, and what the rest of the code asks of it."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from drm_jax.errors import InputError
from drm_jax.fields import Count, CountOrZero, check_fields
from drm_jax.puzzles.board_files import read_sources
from drm_jax.puzzles.dihedral import INVERSE, NUM_TRANSFORMS, TRANSFORM_WORDS, dihedral
from drm_jax.puzzles.family import Board, Vocabulary
from drm_jax.puzzles.fixed import FixedBoard, FixedPuzzles, blank_puzzles
from drm_jax.puzzles.maze import rules, symmetries
from drm_jax.puzzles.maze.generator import Wanted, draw_maze, make_mazes
from drm_jax.puzzles.sets import PuzzleSet, choose
from drm_jax.words import counted

_COLOURS = ("#2B2B33", "#F7F7F5", "#2CA02C", "#D62728", "#4C9BE8")
_SAFE_COLOURS = ("#2B2B33", "#F7F7F5", "#009E73", "#D55E00", "#56B4E9")


@dataclasses.dataclass(frozen=True)
class Maze(FixedBoard):
    """Mazes whose shortest path is asked for: from files, or made. Scored by exact match, and by
    whether the path is connected and shortest.

    A board has walls, free cells, a start, a goal and, in an answer, the path between them.
    Difficulty counts the moves of the shortest path.
    """

    side: Annotated[int, Meta(ge=3, le=30)] = 30
    """Cells along a side."""
    train: tuple[str, ...] = ()
    """Mazes that are trained on: CSV files source,question,answer,rating, or a folder that TRM's or
    HRM's builder wrote. None: they are made."""
    evaluate: tuple[str, ...] = ()
    """Mazes that are to be solved, likewise."""
    train_puzzles: Count = 1000
    """Mazes that are trained on; of files so many are drawn."""
    test_puzzles: CountOrZero | None = None
    """Mazes that are to be solved. None: all of the files, or 256 that are made."""
    puzzles_seed: CountOrZero = 0
    """Of what is made and of what is drawn from files."""
    least_difficulty: CountOrZero = 0
    """Mazes with a shorter path are left out."""
    most_difficulty: Count | None = None
    """Mazes with a longer path are left out."""
    num_augmentations: Annotated[int, Meta(ge=0, le=NUM_TRANSFORMS - 1)] = 0
    """Symmetric copies of each maze that is trained on, beside itself: turned and mirrored. 7 for
    all."""

    source_options = ("train", "evaluate", "test_puzzles")
    difficulty = "moves"
    difficulty_bands = (0, 10, 20, 30, 40, 60, 80, 110, 140, 170, 200)

    def __post_init__(self):
        check_fields(self, "data")

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(
            rules.SYMBOLS,
            colours=_COLOURS,
            safe_colours=_SAFE_COLOURS,
            colour_names=("wall", "free", "start", "goal", "path"),
        )

    @property
    def board(self) -> Board:
        return self.side, self.side

    def sets(self) -> tuple[PuzzleSet, PuzzleSet, list[str]]:
        """See `FixedBoard`.

        Raises:
          InputError: a file is wrong, or there are not so many mazes.
        """
        wanted = Wanted(self.side, self.least_difficulty, self.most_difficulty)
        notes: list[str] = []
        if self.train:
            trained, notes = self._from_files(self.train, "train", self.train_puzzles)
        else:
            trained = make_mazes(wanted, self.train_puzzles, 2 * self.puzzles_seed)
        if self.evaluate:
            tested, more = self._from_files(self.evaluate, "evaluate", self.test_puzzles)
            return trained, tested, notes + more
        count = 256 if self.test_puzzles is None else self.test_puzzles
        return trained, make_mazes(wanted, count, 2 * self.puzzles_seed + 1, trained), notes

    def _from_files(
        self, sources: tuple[str, ...], role: Literal["train", "evaluate"], count: int | None
    ) -> tuple[PuzzleSet, list[str]]:
        """Mazes of files, with their difficulty, and notes on what is odd or left out."""
        named = ", ".join(sources)
        found = read_sources(sources, role, self.side**2, rules.SYMBOLS)
        for symbol, what in ((rules.START, "start"), (rules.GOAL, "goal")):
            wrong_N = (found.inputs_NxS == symbol).sum(axis=1) != 1
            if wrong_N.any():
                number = int(np.argmax(wrong_N))
                raise InputError(f"{named}: maze {number + 1} must have one {what}")
        moves_N = rules.moves(found.inputs_NxS, found.inputs_NxS != rules.WALL, self.side)
        if (moves_N == 0).any():
            number = int(np.argmax(moves_N == 0))
            raise InputError(f"{named}: maze {number + 1} has no way from start to goal")
        odd = int((found.known_N & ~self.verify(found.inputs_NxS, found.outputs_NxS)).sum())
        hidden = int((~found.known_N).sum())
        if role == "train" and hidden:
            raise InputError(f"{named}: {counted(hidden, 'maze')} without an answer")
        found = dataclasses.replace(found, difficulty_N=moves_N)
        chosen, notes = choose(
            found, count, self.puzzles_seed, self.least_difficulty, self.most_difficulty, role
        )
        if odd:
            notes.append(f"data.{role}: no shortest path in the answer of {counted(odd, 'maze')}")
        return chosen, notes

    def blank_puzzles(self) -> FixedPuzzles | None:
        return blank_puzzles(self, (*self.train, *self.evaluate))

    # --- symmetries
    def symmetries(self, seed: int, puzzle_N: np.ndarray, variant_N: np.ndarray) -> np.ndarray:
        """Variant v is symmetry v; beyond the seventh they come again."""
        return (variant_N % NUM_TRANSFORMS).astype(np.uint8)[:, None]

    def augment_all(self, tokens_NxKxS: np.ndarray, symmetry_NxA: np.ndarray) -> np.ndarray:
        return symmetries.augment(tokens_NxKxS, symmetry_NxA[:, 0], self.side)

    def undo_all(self, tokens_NxKxS: np.ndarray, symmetry_NxA: np.ndarray) -> np.ndarray:
        return symmetries.undo(tokens_NxKxS, symmetry_NxA[:, 0], self.side)

    def augment(self, tokens_HxW: np.ndarray, augmentation_A: np.ndarray) -> np.ndarray:
        return dihedral(tokens_HxW, int(augmentation_A[0]))

    def undo(self, tokens_HxW: np.ndarray, augmentation_A: np.ndarray) -> np.ndarray:
        return dihedral(tokens_HxW, INVERSE[augmentation_A[0]])

    def augmentation_name(self, augmentation_A: np.ndarray) -> str:
        return f"t{augmentation_A[0]}" if augmentation_A[0] else ""

    def augmentation_words(self, augmentation_A: np.ndarray) -> str:
        return TRANSFORM_WORDS[augmentation_A[0]]

    # --- for people who play
    blank = rules.SYMBOLS[rules.FREE]
    unique_symbols = rules.SYMBOLS[rules.START] + rules.SYMBOLS[rules.GOAL]

    @property
    def question_symbols(self) -> str:
        return self.vocabulary.symbols.replace(rules.SYMBOLS[rules.PATH], "")

    @property
    def levels(self) -> Sequence[str]:
        return tuple(self._wanted_of_level)

    @property
    def _wanted_of_level(self) -> dict[str, Wanted]:
        """Moves in sides of the board: up to one, up to two, more."""
        side = self.side
        return {
            f"short: up to {side} moves": Wanted(side, 2, side),
            f"middling: up to {2 * side} moves": Wanted(side, side + 1, 2 * side),
            f"long: more than {2 * side} moves": Wanted(side, 2 * side + 1, None),
        }

    def draw(self, level: str, seed: int) -> np.ndarray:
        return draw_maze(self._wanted_of_level[level], seed).reshape(self.board)

    def remark(self, question_HxW: np.ndarray) -> str:
        for symbol, what in ((rules.START, "start"), (rules.GOAL, "goal")):
            count = int((question_HxW == symbol).sum())
            if count != 1:
                return f"a maze has one {what}, this one has {count or 'none'}"
        question_1xS = question_HxW.reshape(1, -1)
        if not rules.moves(question_1xS, question_1xS != rules.WALL, self.side)[0]:
            return "there is no way from start to goal"
        return ""

    # --- rules
    def given(self, question_HxW: np.ndarray) -> np.ndarray:
        return question_HxW != rules.FREE

    def conflicts(self, question_HxW: np.ndarray, grid_HxW: np.ndarray) -> np.ndarray:
        return rules.conflicts(question_HxW, grid_HxW)

    def verify(self, question_NxS: np.ndarray, answer_NxS: np.ndarray) -> np.ndarray:
        return rules.is_solved(question_NxS, answer_NxS, self.side)

    def canonical(self, question_NxS: np.ndarray) -> np.ndarray:
        return symmetries.invariant(question_NxS, self.side)
