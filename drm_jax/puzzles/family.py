"""All that the rest of the code knows of a family of puzzles.

A family is a frozen dataclass of options, the `data` of an experiment. It says what its tokens and
boards are, and loads its puzzles:

    Family ── load ──► Puzzles ── training_rows ──► arrays to train on
                          └── questions ──► Questions ── rows ──► arrays to answer
                                                └── judge ──► Judge: scores, a submission, answers

Numpy alone. A puzzle is a *grid* (h, w) uint8 of symbols 0, 1, … for people and files, and a
*board* of tokens (S,) uint8 for the network. Token 0 is PAD: in a target it is not scored. MASK,
where a method needs it, is the token after the last one of the vocabulary.

A *group* is a set of examples that belong to one puzzle (the pairs of an ARC task); a *variant* of
a group is one of its symmetries. Each visit of a group in training draws one variant; an epoch
visits each group once, or as often as the family says.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

PAD = 0
Board = tuple[int, int]
"""Height and width, in cells."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens of a family: 0 PAD, maybe others, then the symbols."""

    symbols: str
    """One character for each symbol, in the order of their tokens; "." is a blank cell."""
    first: int = 1
    """The token of the first symbol."""
    colours: tuple[str, ...] = ()
    """"#rrggbb" of each symbol in pictures; none: symbols are written on white."""
    safe_colours: tuple[str, ...] = ()
    """Other colours, which eyes of any colour vision can tell apart; none: there are no others."""
    colour_names: tuple[str, ...] = ()
    """The colours in words, for those who can't see them."""

    @property
    def size(self) -> int:
        """How many tokens there are, MASK not counted."""
        return self.first + len(self.symbols)

    @property
    def mask(self) -> int:
        """The token MASK."""
        return self.size

    @property
    def written(self) -> str:
        """`symbols` as they are written in pictures."""
        return self.symbols.replace(".", " ")


class Family(Protocol):
    """Options of a family of puzzles: a frozen dataclass."""

    vocabulary: Vocabulary
    boards: tuple[Board, ...]
    """From small to large, each of another number of cells: windows of the last one, the whole
    board. One, where all puzzles have one size."""
    headline: str
    """The name of the score that checkpoints are compared by, among `Judge.scores`."""
    attempts: int
    """How many of the best answers to a test input are handed in: it is solved if one is right."""
    kept_files: Mapping[str, str]
    """Files that the puzzles follow from, which a work directory keeps a copy of: name there, path
    as the options have it."""

    source_options: tuple[str, ...]
    """The options that say where puzzles come from: a run may go on, and be scored, with other
    values of them where the puzzles are the same, since files move."""

    def load(self, seed: int, kept: Mapping[str, Path]) -> "Puzzles":
        """The puzzles of a run.

        Args:
          seed: of what is drawn, such as symmetries; the same puzzles for the same seed.
          kept: where each of `kept_files` is.

        Raises:
          InputError: a source is wrong, or a puzzle doesn't fit the board.
        """

    def blank_puzzles(self) -> "Puzzles | None":
        """As many blank puzzles as a run would have, for its plan where files that it names aren't
        at hand; None where none is missing, or where it can't be told."""

    def to_tokens(self, grid_HxW: np.ndarray, board: Board) -> np.ndarray:
        """A grid of symbols as the tokens (S,) of a board."""

    def to_grid(self, tokens_S: np.ndarray, board: Board) -> np.ndarray:
        """The grid of symbols that a board shows. Anything may come in; possibly 0x0."""

    def grid_sizes(self, tokens_BxS: np.ndarray, board: Board) -> np.ndarray:
        """(B, 2) height and width of the grid that each board shows."""

    def pad_outside(self, tokens_BxS: Any, board: Board) -> Any:
        """Tokens (B, S) with PAD outside of the grid that is shown; arrays of numpy or of jax."""

    def augment(self, tokens_HxW: np.ndarray, augmentation_A: np.ndarray) -> np.ndarray:
        """A board, or a part of it that begins in its corner, under a symmetry."""

    def undo(self, tokens_HxW: np.ndarray, augmentation_A: np.ndarray) -> np.ndarray:
        """undo(augment(t, a), a) = t."""

    def augmentation_name(self, augmentation_A: np.ndarray) -> str:
        """A symmetry in a few letters; "" for the identity."""

    def augmentation_words(self, augmentation_A: np.ndarray) -> str:
        """A symmetry in words; "as it is" for the identity."""

    blocks: Board | None
    """Height and width of the blocks that a board is ruled into in pictures, as the boxes of
    Sudoku; None: none."""
    difficulty: str
    """What the difficulty of a puzzle counts, in words, such as "backtracks"; "": puzzles have
    none."""

    def given(self, question_HxW: np.ndarray) -> np.ndarray:
        """(H, W) bool: which cells of an answer the question fixes, as the clues of Sudoku."""

    def conflicts(self, question_HxW: np.ndarray, grid_HxW: np.ndarray) -> np.ndarray:
        """(H, W) bool: which cells of an answer break a rule that needs no right answer to be
        seen: a digit that stands twice in a row, a clue that was changed. Grids of symbols, both as
        they are or both under one symmetry."""


class Puzzles(Protocol):
    """The puzzles of a run, loaded: E training examples in G groups."""

    num_ids: int
    """Puzzle ids, which are rows of the puzzle table; 0 is the blank id."""
    examples_G: np.ndarray
    """(G,) how many examples each group has; example e belongs to the first, then the second, …"""
    variants_G: np.ndarray
    """(G,) how many variants each group has."""
    visits_G: np.ndarray
    """(G,) how often an epoch visits each group, at least once."""
    board_E: np.ndarray
    """(E,) which of the family's boards each example needs."""
    notes: tuple[str, ...]
    """Lines on what of the sources was left out, merged or not read, for people."""

    def training_rows(
        self, example_N: np.ndarray, variant_N: np.ndarray, bits_Nx3: np.ndarray, board: Board
    ) -> dict[str, np.ndarray]:
        """Examples as arrays to train on.

        Args:
          example_N, variant_N: the example of each row, and which variant of its group.
          bits_Nx3: uint32 random numbers, for what else is drawn.
          board: of all of them.

        Returns:
          inputs, target (N, S) uint8; puzzle_id (N,) int32; of a family with several boards also
          corner (N, 2) int32, where on the whole board each one begins.
        """

    def questions(self, num_augmentations: int | None) -> "Questions":
        """All test inputs that are to be answered.

        Args:
          num_augmentations: see `config.Evaluate`.
        """

    def notes_on_questions(self, num_augmentations: int | None) -> Sequence[str]:
        """Lines for people on what `questions` gives less of than is asked for.

        Args:
          num_augmentations: see `config.Evaluate`.
        """

    def ask(self, puzzle: Any, num_augmentations: int | None) -> "Questions":
        """The test inputs of one puzzle, which need not be one of these.

        Args:
          puzzle: in the family's own form.

        Returns:
          Candidates of a puzzle that isn't one of these have the blank id.

        Raises:
          InputError: it can't be read, or doesn't fit the board.
        """

    def with_tests_of(self, others: "Puzzles", trained_on: Iterable[str]) -> "Puzzles":
        """These puzzles, which a run was trained on, with the tests of others instead of theirs.

        Args:
          trained_on: digests, see `trained_digests`: answers among them are not scored.

        Raises:
          InputError: a run of these can't answer some of them.
        """

    def baselines(self) -> Mapping[str, Mapping[str, Any]]:
        """Scores, as of `Judge.scores`, of answers that need no network, by their names; may be
        none."""

    def puzzle_name(self, puzzle_id: int) -> str:
        """What a row of the table stands for, for people."""

    def training_digest(self) -> str:
        """Of all that `training_rows` can give."""

    def tests_digest(self) -> str:
        """Of all test inputs, and of their outputs where they are known."""

    def trained_digests(self) -> list[str]:
        """Sorted digests of what is trained on; kept beside a checkpoint."""

    def answered_in(self, digests: Iterable[str]) -> list[str]:
        """Names of tests of this run whose answer was trained on, as `trained_digests` tell."""

    def describe(self) -> str:
        """Puzzles, tests and ids in a few words."""


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """One test input under one symmetry."""

    task: str
    """The name of what the test belongs to."""
    test: int
    """Its number there, from 0."""
    question: np.ndarray
    """Grid of symbols, without augmentation."""
    truth: np.ndarray | None
    puzzle_id: int
    augmentation_A: np.ndarray
    """uint8, in the family's own form."""


class Questions(Protocol):
    """R candidates: every test input under its symmetries."""

    count: int
    """R"""
    board_R: np.ndarray
    """(R,) int, on which board each candidate is answered first."""
    shown: range
    """The candidates of tests that are written out for people, with their answers and denoising:
    all, or those of the first tests where there are very many."""
    plain: Sequence[int]
    """Of these the ones without augmentation."""

    def rows(self, row_N: np.ndarray, board: Board) -> tuple[np.ndarray, np.ndarray]:
        """inputs (N, S) uint8 and puzzle_id (N,) int32 of these candidates."""

    def reaches_border(self, predicted_NxS: np.ndarray, board: Board) -> np.ndarray:
        """(N,) bool: whether an answer may go on outside of its window."""

    def truths(self, row_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The right tokens (N, S) uint8 on the whole board; (N, S) bool which of them are scored.

        None is scored where the output is hidden.
        """

    def candidate(self, row: int) -> Candidate:
        """A candidate by its number."""

    def judge(self) -> "Judge":
        """Nothing answered yet."""


class Judge(Protocol):
    """Collects the answers of candidates and scores them."""

    def add(
        self, row_N: np.ndarray, predicted_NxS: np.ndarray, q_halt_N: np.ndarray, board: Board
    ) -> None:
        """Takes the answers of some candidates, in order, as boards of tokens."""

    def pool(self, other: "Judge") -> None:
        """Adds all answers that another one has, as if given after its own."""

    def choosing(self, choice: str) -> "Judge":
        """The same answers, ranked in another way than by votes: see `voting.best_first`."""

    def leading(self, row_N: np.ndarray, best: int) -> set[int]:
        """Of the tests of these candidates: who first gave the best answers, and the truth."""

    def right(self, row_N: np.ndarray) -> set[int]:
        """All who gave the truth, of the tests of these candidates."""

    def scores(self, accuracy_R: np.ndarray) -> dict[str, Any]:
        """Scores by name, the family's headline among them, if any output is known.

        Args:
          accuracy_R: share of scored tokens that each candidate has right; NaN where unknown.

        Returns:
          Also tasks, test_inputs and candidates, numbers; cell_accuracy; per_task, by task's name.
        """

    def submission(self) -> Mapping[str, Any]:
        """What is handed in, for submission.json."""

    def answers(self) -> list[dict[str, Any]]:
        """The tests with what was answered, for people: see `evaluate.answers.Answers`."""
