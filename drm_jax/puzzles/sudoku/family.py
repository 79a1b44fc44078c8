"""The family of Sudoku puzzles: its options, and what the rest of the code asks of it."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta

from drm_jax.fields import Count, CountOrZero, check, check_fields
from drm_jax.puzzles.family import Board, Vocabulary
from drm_jax.puzzles.fixed import FixedBoard, Pair
from drm_jax.puzzles.sudoku import symmetries
from drm_jax.puzzles.sudoku.generator import BOXES, make_puzzles
from drm_jax.random_bits import draw_bits


@dataclasses.dataclass(frozen=True)
class Sudoku(FixedBoard):
    """Puzzles with one solution each, from which no clue can be taken; made by a generator.

    4x4 has 4 clues on average, 6x6 has 10, and 9x9 has 24, which takes some 30 ms a puzzle to make.
    """

    side: Annotated[int, Meta(ge=4, le=9)] = 9
    """Cells along a side: 4, 6 or 9, in boxes of 2x2, 2x3 or 3x3."""
    train_puzzles: Count = 1000
    """Puzzles that are trained on."""
    test_puzzles: CountOrZero = 64
    """Other puzzles, which are to be solved."""
    puzzles_seed: CountOrZero = 0
    """Of the generator."""
    tested_part: Annotated[int, Meta(ge=8, le=9)] | None = None
    """8 or 9: which tenth of all solutions the tests have; training has the tenths 0 to 7. 4x4 has
    288 solutions in all, so that else most tests' solutions are those of other puzzles trained on;
    6x6 has 28 million. None: any."""
    num_augmentations: CountOrZero = 0
    """Symmetries of each puzzle that is trained on, beside the identity."""

    def __post_init__(self):
        check_fields(self, "data")
        check(self.side in BOXES, "data.side", f"must be 4, 6 or 9, not {self.side}")

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(".123456789"[: self.side + 1])

    @property
    def board(self) -> Board:
        return self.side, self.side

    def pairs(self) -> tuple[Sequence[Pair], Sequence[Pair]]:
        """See `FixedBoard`.

        Raises:
          InputError: there are not so many puzzles.
        """
        counts = self.train_puzzles, self.test_puzzles
        return make_puzzles(self.side, *counts, self.puzzles_seed, self.tested_part)

    def symmetry(self, seed: int, puzzle: int, variant: int) -> np.ndarray:
        if not variant:
            return symmetries.identity(self.side)
        bits = draw_bits((seed, puzzle), variant, 1, symmetries.num_bits(self.side))
        return symmetries.from_bits(bits, self.side)[0]

    def augment(self, tokens_HxW: np.ndarray, augmentation_A: np.ndarray) -> np.ndarray:
        return symmetries.augment(tokens_HxW, augmentation_A)

    def undo(self, tokens_HxW: np.ndarray, augmentation_A: np.ndarray) -> np.ndarray:
        return symmetries.undo(tokens_HxW, augmentation_A)

    def augmentation_name(self, augmentation_A: np.ndarray) -> str:
        return symmetries.name(augmentation_A)

    def augmentation_words(self, augmentation_A: np.ndarray) -> str:
        return symmetries.words(augmentation_A)
