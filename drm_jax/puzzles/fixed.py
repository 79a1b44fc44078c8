"""Families whose puzzles are an input and an output on a board of one size, such as Sudoku.

A family derives from `FixedBoard` and says what its vocabulary, its board and its puzzles are, and
maybe its symmetries, a verifier and a measure of difficulty. All puzzles share one puzzle id, since
their rules are the same. An answer counts if it is exactly right.
"""

import functools
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from drm_jax.errors import InputError
from drm_jax.puzzles.boards import grid_of
from drm_jax.puzzles.exact import ExactJudge, Tests, name_of
from drm_jax.puzzles.family import Board, Candidate, Vocabulary
from drm_jax.puzzles.sets import Pair, PuzzleSet, set_of
from drm_jax.words import counted

PUZZLE_ID = 1
_MOST_DIGESTS = 100_000
"""A checkpoint keeps digests of what it was trained on if these are no more puzzles."""
_MOST_BYTES = 2**31
"""All answers are held in memory."""


class FixedBoard:
    """What such families have in common; the base of a frozen dataclass of options."""

    headline = "exact"
    attempts = 1
    source_options = ()
    num_augmentations: int = 0
    """Symmetries of each puzzle that is trained on, beside the identity."""

    @property
    def vocabulary(self) -> Vocabulary:
        raise NotImplementedError

    @property
    def board(self) -> Board:
        """Height and width."""
        raise NotImplementedError

    def pairs(self) -> tuple[Sequence[Pair], Sequence[Pair]]:
        """The puzzles to train on, and others to be solved; the same at each call."""
        raise NotImplementedError

    def sets(self) -> tuple[PuzzleSet, PuzzleSet, list[str]]:
        """`pairs` as arrays, for families of many puzzles; and notes on them for people."""
        height, width = self.board
        trained, tested = (set_of(pairs, height * width) for pairs in self.pairs())
        return trained, tested, []

    # --- symmetries: none, unless a family has some
    def symmetry(self, seed: int, puzzle: int, variant: int) -> np.ndarray:
        """The symmetry (A,) uint8 of a puzzle's variant, a function of these numbers; variant 0 is
        the identity."""
        return np.zeros(0, np.uint8)

    def augment(self, tokens_HxW: np.ndarray, augmentation_A: np.ndarray) -> np.ndarray:
        return tokens_HxW

    def undo(self, tokens_HxW: np.ndarray, augmentation_A: np.ndarray) -> np.ndarray:
        return tokens_HxW

    def augmentation_name(self, augmentation_A: np.ndarray) -> str:
        return ""

    def augmentation_words(self, augmentation_A: np.ndarray) -> str:
        return "as it is"

    # --- the same of many at once; a family may have faster ways
    def symmetries(self, seed: int, puzzle_N: np.ndarray, variant_N: np.ndarray) -> np.ndarray:
        """(N, A) uint8, see `symmetry`."""
        rows = zip(puzzle_N.tolist(), variant_N.tolist(), strict=True)
        return np.array([self.symmetry(seed, puzzle, variant) for puzzle, variant in rows])

    def augment_all(self, tokens_NxKxS: np.ndarray, symmetry_NxA: np.ndarray) -> np.ndarray:
        """K boards of each of N puzzles, under the puzzle's symmetry."""
        return self._map(self.augment, tokens_NxKxS, symmetry_NxA)

    def undo_all(self, tokens_NxKxS: np.ndarray, symmetry_NxA: np.ndarray) -> np.ndarray:
        """undo_all(augment_all(t, a), a) = t."""
        return self._map(self.undo, tokens_NxKxS, symmetry_NxA)

    def _map(self, change: Any, tokens_NxKxS: np.ndarray, symmetry_NxA: np.ndarray) -> np.ndarray:
        out = np.empty_like(tokens_NxKxS)
        for n, boards_KxS in enumerate(tokens_NxKxS):
            for k, board_S in enumerate(boards_KxS):
                out[n, k] = change(board_S.reshape(self.board), symmetry_NxA[n]).reshape(-1)
        return out

    # --- rules: none, unless a family says so
    blocks: ClassVar[Board | None] = None
    difficulty: ClassVar[str] = ""
    difficulty_bands: ClassVar[tuple[int, ...]] = ()
    """Where bands of difficulty begin, by which scores are given too."""

    def given(self, question_HxW: np.ndarray) -> np.ndarray:
        return np.zeros(question_HxW.shape, bool)

    def conflicts(self, question_HxW: np.ndarray, grid_HxW: np.ndarray) -> np.ndarray:
        return np.zeros(grid_HxW.shape, bool)

    @property
    def has_rules(self) -> bool:
        """Whether `verify` tells which answers follow the rules."""
        return type(self).verify is not FixedBoard.verify

    def verify(self, question_NxS: np.ndarray, answer_NxS: np.ndarray) -> np.ndarray | None:
        """(N,) bool: whether answers follow the rules; None: a family has no rules to check."""
        return None

    def canonical(self, question_NxS: np.ndarray) -> np.ndarray:
        """(N,) uint64: the same for a puzzle under any symmetry, different for other puzzles."""
        digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in question_NxS]
        return np.frombuffer(b"".join(digests), np.uint64)

    # --- for people who play: what they may write, and puzzles to take
    @property
    def question_symbols(self) -> str:
        """The symbols that a question may have."""
        return self.vocabulary.symbols

    blank: ClassVar[str | None] = None
    """The symbol of a cell that a question leaves open; None: there is no such symbol."""
    unique_symbols: ClassVar[str] = ""
    """Symbols that stand once on a board at most."""

    @property
    def levels(self) -> Sequence[str]:
        """Kinds of puzzles that `draw` makes, in words, the easiest first; none, unless a family
        makes some."""
        return ()

    def draw(self, level: str, seed: int) -> np.ndarray:
        """A puzzle (h, w) uint8 of one of `levels`, a function of the two."""
        raise NotImplementedError

    def remark(self, question_HxW: np.ndarray) -> str:
        """What is wrong with a question, in words; "" where nothing is."""
        return ""

    # --- the rest of `family.Family`
    @property
    def boards(self) -> tuple[Board, ...]:
        return (self.board,)

    @property
    def kept_files(self) -> Mapping[str, str]:
        return {}

    def load(self, seed: int, kept: Mapping[str, Path]) -> "FixedPuzzles":
        return FixedPuzzles(self, seed, *self.sets())

    def blank_puzzles(self) -> "FixedPuzzles | None":
        """As many blank puzzles as the options ask for, for a plan of a run whose files aren't at
        hand; None where none is missing."""
        return None

    def to_tokens(self, grid_HxW: np.ndarray, board: Board) -> np.ndarray:
        return (grid_HxW + np.uint8(self.vocabulary.first)).reshape(-1)

    def to_grid(self, tokens_S: np.ndarray, board: Board) -> np.ndarray:
        """The first symbol stands where no symbol is."""
        return self.to_symbols(tokens_S).reshape(board)

    def to_symbols(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens of any shape as symbols, uint8; the first symbol where there is none."""
        first, count = self.vocabulary.first, len(self.vocabulary.symbols)
        symbol_V = np.zeros(256, np.uint8)
        symbol_V[first : first + count] = np.arange(count)
        return symbol_V[tokens]

    def grid_sizes(self, tokens_BxS: np.ndarray, board: Board) -> np.ndarray:
        return np.tile(np.array(board), (len(tokens_BxS), 1))

    def pad_outside(self, tokens_BxS: Any, board: Board) -> Any:
        return tokens_BxS


class FixedPuzzles:
    """See `family.Puzzles`. A group is one puzzle; a variant is one of its symmetries, or one of
    the copies that a dataset has of it."""

    num_ids = 1 + PUZZLE_ID

    def __init__(
        self,
        family: FixedBoard,
        seed: int,
        trained: PuzzleSet,
        tests: PuzzleSet,
        notes: Sequence[str],
    ):
        """Args:
        seed: that symmetries are drawn from.
        trained, tests, notes: from `FixedBoard.sets`.
        """
        self._family, self._seed = family, seed
        self.trained, self.tests = trained, tests
        first_G = self.trained.first_G
        self._first_G = np.arange(len(self.trained) + 1) if first_G is None else first_G
        count = len(self._first_G) - 1
        self.examples_G = np.ones(count, np.int64)
        self.visits_G = np.ones(count, np.int64)
        copied = first_G is not None
        drawn_G = np.full(count, 1 + family.num_augmentations)
        self.variants_G = np.diff(first_G) if copied else drawn_G
        self.board_E = np.zeros(count, np.int64)
        self._seen_T = self._find_seen()
        self.notes = tuple(notes)
        if self._seen_T.any():
            every = counted(len(self.tests), "test puzzle")
            seen = f"{int(self._seen_T.sum()):,} of {every}"
            self.notes += (f"trained on, up to symmetry: {seen}",)

    def _find_seen(self) -> np.ndarray:
        """(T,) bool: which tests are trained on, up to symmetry."""
        if not len(self.tests):
            return np.zeros(0, bool)
        return np.isin(self._family.canonical(self.tests.inputs_NxS), self._trained_forms)

    @functools.cached_property
    def _trained_forms(self) -> np.ndarray:
        """Sorted canonical forms of what is trained on."""
        return np.unique(self._family.canonical(self.trained.inputs_NxS[self._first_G[:-1]]))

    def training_rows(
        self, example_N: np.ndarray, variant_N: np.ndarray, bits_Nx3: np.ndarray, board: Board
    ) -> dict[str, np.ndarray]:
        copies = self.trained.first_G is not None
        row_N = self._first_G[example_N] + variant_N if copies else example_N
        trained, first = self.trained, np.uint8(self._family.vocabulary.first)
        both_Nx2xS = np.stack([trained.inputs_NxS[row_N], trained.outputs_NxS[row_N]], axis=1)
        both_Nx2xS += first
        if not copies and self._family.num_augmentations:
            symmetry_NxA = self._family.symmetries(self._seed, example_N, variant_N)
            both_Nx2xS = self._family.augment_all(both_Nx2xS, symmetry_NxA)
        return {
            "inputs": both_Nx2xS[:, 0],
            "target": both_Nx2xS[:, 1],
            "puzzle_id": np.full(len(example_N), PUZZLE_ID, np.int32),
        }

    def questions(self, num_augmentations: int | None) -> "FixedQuestions":
        height, width = self._family.board
        tests, each = len(self.tests), 1 + (num_augmentations or 0)
        if tests * each * height * width > _MOST_BYTES:
            most = _MOST_BYTES // (tests * height * width) - 1
            raise InputError(
                f"evaluate.num_augmentations: the answers of {counted(tests * each, 'candidate')} "
                f"don't fit in memory: at most {most:,} of each puzzle"
            )
        return self._questions(np.arange(tests), num_augmentations)

    def notes_on_questions(self, num_augmentations: int | None) -> tuple[str, ...]:
        return ()  # there are as many as are asked for, or an error

    def ask(self, puzzle: Any, num_augmentations: int | None) -> "FixedQuestions":
        """See `family.Puzzles`.

        Args:
          puzzle: the name of a test of this run; rows of symbols, as one text or as several; or the
            path of a file with such rows.
        """
        number = _number(puzzle)
        if number is not None and number < len(self.tests):
            return self._questions(np.array([number]), num_augmentations)
        grid = read_board(puzzle, self._family.vocabulary.symbols, self._family.board)
        height, width = self._family.board
        asked = Tests(("the puzzle",), set_of([(grid, None)], height * width), np.zeros(1, bool))
        numbers = np.array([len(self.examples_G) + len(self.tests)])
        return FixedQuestions(self._family, asked, numbers, self._seed, num_augmentations)

    def _questions(self, number_T: np.ndarray, num_augmentations: int | None) -> "FixedQuestions":
        names = tuple(map(_name, number_T.tolist()))
        tests = Tests(names, self.tests.chosen(number_T), self._seen_T[number_T])
        # among all puzzles, from which symmetries are drawn
        numbers = len(self.examples_G) + number_T
        return FixedQuestions(self._family, tests, numbers, self._seed, num_augmentations)

    def baselines(self) -> Mapping[str, Mapping[str, Any]]:
        return {}

    def with_tests_of(self, others: "FixedPuzzles", trained_on: Iterable[str]) -> "FixedPuzzles":
        return others  # tests of any source can be asked; that all else is the same is checked

    def puzzle_name(self, puzzle_id: int) -> str:
        return name_of(self._family) if puzzle_id == PUZZLE_ID else ""

    def training_digest(self) -> str:
        decides = (self._seed, self._family.num_augmentations, self.trained.first_G is None)
        digest = hashlib.sha256(repr(decides).encode())
        digest.update(self._first_G.astype(np.int64).tobytes())
        for part in (self.trained.inputs_NxS, self.trained.outputs_NxS):
            digest.update(np.ascontiguousarray(part))
        return digest.hexdigest()[:16]

    def tests_digest(self) -> str:
        digest = hashlib.sha256()
        for part in (self.tests.inputs_NxS, self.tests.known_N, self.tests.outputs_NxS):
            digest.update(np.ascontiguousarray(part))
        return digest.hexdigest()[:16]

    def trained_digests(self) -> list[str]:
        """See `family.Puzzles`; none of a set so large that a checkpoint can't hold them."""
        if len(self.examples_G) > _MOST_DIGESTS:
            return []
        return sorted(f"{form:016x}" for form in self._trained_forms.tolist())

    def answered_in(self, digests: Iterable[str]) -> list[str]:
        """See `family.Puzzles`; a puzzle is known under any symmetry."""
        trained = np.array([int(digest, 16) for digest in digests], np.uint64)
        seen_T = np.isin(self._family.canonical(self.tests.inputs_NxS), trained)
        return list(map(_name, np.flatnonzero(seen_T).tolist()))

    def describe(self) -> str:
        puzzles = counted(len(self.examples_G), "puzzle")
        return f"{puzzles} to train on, {len(self.tests):,} to be solved"


_MOST_BLANK = 1_000_000
"""A run of all puzzles that its files hold asks for far more than there are."""


class _BlankPuzzles(FixedPuzzles):
    """Stand-ins whose boards aren't looked at."""

    def _find_seen(self) -> np.ndarray:
        return np.zeros(len(self.tests), bool)


def blank_puzzles(family: Any, sources: Sequence[str]) -> FixedPuzzles | None:
    """See `FixedBoard.blank_puzzles`.

    Args:
      family: with train_puzzles and test_puzzles.
      sources: paths of files and folders.
    """
    if all(Path(source).expanduser().exists() for source in sources):
        return None
    height, width = family.board
    sets = []
    for asked in (family.train_puzzles, family.test_puzzles or 0):
        count = min(asked, _MOST_BLANK)
        boards_NxS = np.broadcast_to(np.uint8(0), (count, height * width))  # takes no memory
        sets.append(PuzzleSet(boards_NxS, boards_NxS, np.broadcast_to(True, count)))
    return _BlankPuzzles(family, 0, *sets, ())


def _name(number: int) -> str:
    """Of a test of a run by its number, from 0."""
    return f"puzzle {number + 1}"


def _number(puzzle: Any) -> int | None:
    """Of a test of a run by its name, from 0; None if it is no such name."""
    word, _, number = puzzle.partition(" ") if isinstance(puzzle, str) else ("", "", "")
    named = word == "puzzle" and number.isdecimal() and number == str(int(number))
    return int(number) - 1 if named and int(number) > 0 else None


def read_board(puzzle: Any, symbols: str, board: Board) -> np.ndarray:
    """A grid (h, w) uint8 of symbols from what people give.

    Args:
      puzzle: rows of symbols, as one text of lines or of all cells, or as several; or the path of a
        file with such rows.

    Raises:
      InputError: it isn't such a board.
    """
    height, width = board
    text = puzzle if isinstance(puzzle, str) else None
    if isinstance(puzzle, str | Path) and not (text and _is_board(text, height, width)):
        if not Path(puzzle).is_file():
            raise InputError(
                f"{puzzle}: neither a puzzle on a board of {height} x {width}, nor a file of one"
            )
        text = Path(puzzle).read_text(encoding="utf-8")
    if text is None:
        rows = ["".join(map(str, row)) for row in puzzle]
    else:
        rows = _rows_of(text, symbols, height, width)
    if "." in symbols and "0" not in symbols:  # both are written for a blank cell
        rows = [row.replace("0", ".") for row in rows]
    wrong = [row for row in rows if len(row) != width or not set(row) <= set(symbols)]
    if len(rows) != height or wrong:
        raise InputError(
            f"the puzzle: must be {counted(height, 'row')} of {counted(width, 'character')} "
            f"out of {symbols}"
            + (f", not {wrong[0]!r}" if wrong else f", not {counted(len(rows), 'row')}")
        )
    return grid_of(rows, symbols)


def _is_board(text: str, height: int, width: int) -> bool:
    """Whether a text is a board, if maybe a wrong one, and not a path, which may be as long."""
    if len(text.strip("\n").split("\n")) > 1 or len(text.split()) == height:
        return True
    return len(text) == height * width and not os.path.isfile(text)


def _rows_of(text: str, symbols: str, height: int, width: int) -> list[str]:
    """Lines; or words where no symbol is a space; or all cells in one line."""
    rows = text.strip("\r\n").splitlines() if " " in symbols else text.split()
    if len(rows) == 1 and height > 1 and len(rows[0]) == height * width:
        return [rows[0][start : start + width] for start in range(0, height * width, width)]
    return rows


class FixedQuestions:
    """Puzzles under symmetries, V of each; see `family.Questions`."""

    def __init__(
        self,
        family: FixedBoard,
        tests: Tests,
        number_T: np.ndarray,
        seed: int,
        num_augmentations: int | None,
    ):
        """Args:
        number_T, seed: what symmetries are drawn from.
        """
        self._family, self._tests = family, tests
        self._number_T, self._seed = number_T, seed
        self._each = 1 + (num_augmentations or 0)
        self.count = len(number_T) * self._each
        self.board_R = np.zeros(self.count, np.int64)
        self.shown = range(min(len(number_T), tests.most_shown) * self._each)
        self.plain = range(0, len(self.shown), self._each)

    def rows(self, row_N: np.ndarray, board: Board) -> tuple[np.ndarray, np.ndarray]:
        inputs_NxS = self._laid_out(self._tests.puzzles.inputs_NxS, row_N)
        return inputs_NxS, np.full(len(row_N), PUZZLE_ID, np.int32)

    def _laid_out(self, symbols_TxS: np.ndarray, row_N: np.ndarray) -> np.ndarray:
        """(N, S) tokens of these candidates, under their symmetries."""
        first = np.uint8(self._family.vocabulary.first)
        tokens_NxS = symbols_TxS[row_N // self._each] + first
        if self._each == 1:
            return tokens_NxS
        return self._family.augment_all(tokens_NxS[:, None], self.symmetries(row_N))[:, 0]

    def symmetries(self, row_N: np.ndarray) -> np.ndarray:
        """(N, A) those of some candidates; the first one of each test is the identity."""
        return self._family.symmetries(
            self._seed, self._number_T[row_N // self._each], row_N % self._each
        )

    def reaches_border(self, predicted_NxS: np.ndarray, board: Board) -> np.ndarray:
        return np.zeros(len(predicted_NxS), bool)  # the board is the whole one

    def truths(self, row_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        known_N = self._tests.puzzles.known_N[row_N // self._each]
        truth_NxS = self._laid_out(self._tests.puzzles.outputs_NxS, row_N)
        truth_NxS[~known_N] = 0
        return truth_NxS, np.repeat(known_N[:, None], truth_NxS.shape[1], axis=1)

    def candidate(self, row: int) -> Candidate:
        puzzles, test = self._tests.puzzles, row // self._each
        board = self._family.board
        return Candidate(
            task=self._tests.names[test],
            test=0,
            question=puzzles.inputs_NxS[test].reshape(board),
            truth=puzzles.outputs_NxS[test].reshape(board) if puzzles.known_N[test] else None,
            puzzle_id=PUZZLE_ID,
            augmentation_A=self.symmetries(np.array([row]))[0],
        )

    def judge(self) -> ExactJudge:
        return ExactJudge(self._family, self._tests, self._each, self._plain_answers)

    def _plain_answers(self, row_N: np.ndarray, predicted_NxS: np.ndarray) -> np.ndarray:
        """Answers (N, S) uint8 of symbols, symmetries undone, from tokens."""
        if self._each > 1:
            symmetry_NxA = self.symmetries(row_N)
            predicted_NxS = self._family.undo_all(predicted_NxS[:, None], symmetry_NxA)[:, 0]
        return self._family.to_symbols(predicted_NxS)
