"""The family of Sudoku puzzles: its options, and what the rest of the code asks of it."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from drm_jax.errors import InputError
from drm_jax.fields import Count, CountOrZero, check, check_fields
from drm_jax.puzzles.board_files import read_sources
from drm_jax.puzzles.family import Board, Vocabulary
from drm_jax.puzzles.fixed import FixedBoard, FixedPuzzles, blank_puzzles
from drm_jax.puzzles.sets import PuzzleSet, choose
from drm_jax.puzzles.sudoku import rules, symmetries
from drm_jax.puzzles.sudoku.generator import Wanted, draw_puzzle, make_puzzles
from drm_jax.puzzles.sudoku.solver import BOXES, search, to_candidates
from drm_jax.random_bits import bits_at
from drm_jax.words import counted

Logic = Literal["singles", "search"]


@dataclasses.dataclass(frozen=True)
class Sudoku(FixedBoard):
    """Puzzles with one solution each: from files, or made. Scored by exact match, and by the rules.

    Difficulty counts backtracks: in a file it is the rating; of puzzles that are made, how many
    guesses come to nothing until a search has tried them all, 0 where singles alone solve it.
    """

    side: Annotated[int, Meta(ge=4, le=16)] = 9
    """Cells along a side: 4, 6, 9 or 16, in boxes of 2x2, 2x3, 3x3 or 4x4."""
    train: tuple[str, ...] = ()
    """Puzzles that are trained on: CSV files source,question,answer,rating, or a folder that TRM's
    or HRM's builder wrote. None: they are made."""
    evaluate: tuple[str, ...] = ()
    """Puzzles that are to be solved, likewise."""
    train_puzzles: Count = 1000
    """Puzzles that are trained on; of files so many are drawn."""
    test_puzzles: CountOrZero | None = None
    """Puzzles that are to be solved. None: all of the files, or 256 that are made."""
    puzzles_seed: CountOrZero = 0
    """Of what is made and of what is drawn from files."""
    logic: Logic = "search"
    """What puzzles that are made need: singles alone, or maybe a search. A single is a cell that
    can hold one digit only, or the only cell of a row, column or box that can hold a digit."""
    clues: CountOrZero = 0
    """Clues that puzzles that are made have at least. 0: as few as can be."""
    test_logic: Logic | None = None
    """`logic` of the tests; None: as in training."""
    test_clues: CountOrZero | None = None
    """`clues` of the tests; None: as in training."""
    least_difficulty: CountOrZero = 0
    """Easier puzzles are left out, in training and tests."""
    most_difficulty: CountOrZero | None = None
    """Harder puzzles are left out, in training and tests."""
    num_augmentations: CountOrZero = 0
    """Symmetric copies of each puzzle that is trained on, beside itself: other digits, lines in
    another order, transposed. 1,000 in the papers."""

    source_options = ("train", "evaluate", "test_puzzles", "test_logic", "test_clues")
    difficulty = "backtracks"
    difficulty_bands = (0, 1, 5, 20, 50, 100)

    def __post_init__(self):
        check_fields(self, "data")
        check(self.side in BOXES, "data.side", f"must be 4, 6, 9 or 16, not {self.side}")
        cells = self.side**2
        for name in ("clues", "test_clues"):
            check(
                (getattr(self, name) or 0) <= cells,
                f"data.{name}",
                f"a board has {counted(cells, 'cell')}",
            )
        for name, logic in (("logic", self.logic), ("test_logic", self.test_logic)):
            made = not (self.train if name == "logic" else self.evaluate)
            possible = not made or self.side < 16 or logic != "search"
            check(possible, f"data.{name}", "16x16 is made with singles alone: say singles")

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(".123456789ABCDEFG"[: self.side + 1])

    @property
    def board(self) -> Board:
        return self.side, self.side

    @property
    def blocks(self) -> Board:
        return BOXES[self.side]

    def sets(self) -> tuple[PuzzleSet, PuzzleSet, list[str]]:
        """See `FixedBoard`.

        Raises:
          InputError: a file is wrong, or there are not so many puzzles.
        """
        trained, notes = self._trained()
        tested, more = self._tested(trained)
        return trained, tested, notes + more

    def _trained(self) -> tuple[PuzzleSet, list[str]]:
        if not self.train:
            return make_puzzles(self._wanted(self.logic, self.clues), self.train_puzzles,
                                2 * self.puzzles_seed), []  # fmt: skip
        return self._from_files(self.train, "train", self.train_puzzles)

    def _tested(self, trained: PuzzleSet) -> tuple[PuzzleSet, list[str]]:
        if self.evaluate:
            return self._from_files(self.evaluate, "evaluate", self.test_puzzles)
        clues = self.clues if self.test_clues is None else self.test_clues
        wanted = self._wanted(self.test_logic or self.logic, clues)
        count = 256 if self.test_puzzles is None else self.test_puzzles
        return make_puzzles(wanted, count, 2 * self.puzzles_seed + 1, trained), []

    def _wanted(self, logic: Logic, clues: int) -> Wanted:
        return Wanted(self.side, logic, clues, self.least_difficulty, self.most_difficulty)

    def _from_files(
        self, sources: tuple[str, ...], role: Literal["train", "evaluate"], count: int | None
    ) -> tuple[PuzzleSet, list[str]]:
        """Puzzles of files, and notes on those that are left out."""
        cells, symbols = self.side**2, self.vocabulary.symbols
        found = read_sources(sources, role, cells, symbols)
        wrong_N = found.known_N & ~self.verify(found.inputs_NxS, found.outputs_NxS)
        if wrong_N.any():
            number = int(np.argmax(wrong_N))
            raise InputError(
                f"{', '.join(sources)}: the answer of puzzle {number + 1} is not a solution of it: "
                + "".join(symbols[digit] for digit in found.outputs_NxS[number])
            )
        most, hidden = self.most_difficulty, int((~found.known_N).sum())
        if role == "train" and hidden:
            raise InputError(f"{', '.join(sources)}: {counted(hidden, 'puzzle')} without an answer")
        return choose(found, count, self.puzzles_seed, self.least_difficulty, most, role)

    def blank_puzzles(self) -> FixedPuzzles | None:
        return blank_puzzles(self, (*self.train, *self.evaluate))

    # --- symmetries
    def symmetries(self, seed: int, puzzle_N: np.ndarray, variant_N: np.ndarray) -> np.ndarray:
        index_N = (puzzle_N.astype(np.uint64) << np.uint64(32)) + variant_N.astype(np.uint64)
        bits_NxB = bits_at((seed,), index_N, symmetries.num_bits(self.side))
        symmetry_NxA = symmetries.from_bits(bits_NxB, self.side)
        symmetry_NxA[variant_N == 0] = symmetries.identity(self.side)
        return symmetry_NxA

    def augment_all(self, tokens_NxKxS: np.ndarray, symmetry_NxA: np.ndarray) -> np.ndarray:
        return symmetries.augment(tokens_NxKxS, symmetry_NxA)

    def undo_all(self, tokens_NxKxS: np.ndarray, symmetry_NxA: np.ndarray) -> np.ndarray:
        return symmetries.undo(tokens_NxKxS, symmetry_NxA)

    def augment(self, tokens_HxW: np.ndarray, augmentation_A: np.ndarray) -> np.ndarray:
        changed = symmetries.augment(tokens_HxW.reshape(1, 1, -1), augmentation_A[None])
        return changed.reshape(tokens_HxW.shape)

    def undo(self, tokens_HxW: np.ndarray, augmentation_A: np.ndarray) -> np.ndarray:
        changed = symmetries.undo(tokens_HxW.reshape(1, 1, -1), augmentation_A[None])
        return changed.reshape(tokens_HxW.shape)

    def augmentation_name(self, augmentation_A: np.ndarray) -> str:
        return symmetries.name(augmentation_A)

    def augmentation_words(self, augmentation_A: np.ndarray) -> str:
        return symmetries.words(augmentation_A)

    # --- for people who play
    blank = "."

    @property
    def levels(self) -> Sequence[str]:
        return tuple(self._wanted_of_level)

    @property
    def _wanted_of_level(self) -> dict[str, Wanted]:
        """Clues as shares of all cells: 50, 34 and 27 of 81."""
        kinds = [("singles", 50, "easy"), ("singles", 34, "medium"), ("search", 27, "hard")]
        cells = self.side**2
        found = {}
        for logic, share, word in kinds if self.side < 16 else kinds[:2]:
            clues = cells * share // 81
            needs = "singles solve it" if logic == "singles" else "may need a search"
            found[f"{word}: {counted(clues, 'clue')}, {needs}"] = Wanted(
                self.side, logic, clues, 0, None
            )
        if self.side < 16:
            found["hardest: no clue can be left out"] = Wanted(self.side, "search", 0, 0, None)
        return found

    def draw(self, level: str, seed: int) -> np.ndarray:
        return draw_puzzle(self._wanted_of_level[level], seed).reshape(self.board)

    def remark(self, question_HxW: np.ndarray) -> str:
        if rules.conflicts(question_HxW, question_HxW).any():
            return "clues are in conflict: it has no solution"
        found = search(to_candidates(question_HxW.reshape(1, -1), self.side), self.side)
        if found.given_up_N[0]:
            if (question_HxW > 0).sum() <= self.side:
                return "it has very many solutions: one is looked for"
            return "it may have several solutions: that would take long to find out"
        if found.solutions_N[0] == 0:
            return "it has no solution"
        return "" if found.solutions_N[0] == 1 else "it has several solutions: one is looked for"

    # --- rules
    def given(self, question_HxW: np.ndarray) -> np.ndarray:
        return question_HxW > 0

    def conflicts(self, question_HxW: np.ndarray, grid_HxW: np.ndarray) -> np.ndarray:
        return rules.conflicts(question_HxW, grid_HxW)

    def verify(self, question_NxS: np.ndarray, answer_NxS: np.ndarray) -> np.ndarray:
        return rules.is_solved(question_NxS, answer_NxS, self.side)

    def canonical(self, question_NxS: np.ndarray) -> np.ndarray:
        return symmetries.invariant(question_NxS, self.side)
