"""Families whose puzzles are an input and an output on a board of one size, such as Sudoku.

A family derives from `FixedBoard` and says what its vocabulary, its board and its puzzles are, and
maybe its symmetries. All puzzles share one puzzle id, since their rules are the same. An answer
counts if it is exactly right.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from drm_jax.errors import InputError
from drm_jax.puzzles.boards import grid_of, grid_rows
from drm_jax.puzzles.family import Board, Candidate, Vocabulary
from drm_jax.puzzles.voting import Test, VotingJudge, rank_of_truth, with_cell_accuracy
from drm_jax.words import counted

PUZZLE_ID = 1
_DIGEST_BYTES = 6
Pair = tuple[np.ndarray, np.ndarray | None]
"""Input and output, grids (h, w) uint8 of symbols; the output is None where it is hidden."""


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

    # --- what pictures mark: nothing, unless a family has rules
    blocks: ClassVar[Board | None] = None
    difficulty: ClassVar[str] = ""

    def given(self, question_HxW: np.ndarray) -> np.ndarray:
        return np.zeros(question_HxW.shape, bool)

    def conflicts(self, question_HxW: np.ndarray, grid_HxW: np.ndarray) -> np.ndarray:
        return np.zeros(grid_HxW.shape, bool)

    # --- the rest of `family.Family`
    @property
    def boards(self) -> tuple[Board, ...]:
        return (self.board,)

    @property
    def kept_files(self) -> Mapping[str, str]:
        return {}

    def load(self, seed: int, kept: Mapping[str, Path]) -> "FixedPuzzles":
        return FixedPuzzles(self, seed)

    def to_tokens(self, grid_HxW: np.ndarray, board: Board) -> np.ndarray:
        return (grid_HxW + np.uint8(self.vocabulary.first)).reshape(-1)

    def to_grid(self, tokens_S: np.ndarray, board: Board) -> np.ndarray:
        """The first symbol stands where no symbol is."""
        symbols = tokens_S.reshape(board).astype(np.int64) - self.vocabulary.first
        known = (symbols >= 0) & (symbols < len(self.vocabulary.symbols))
        return np.where(known, symbols, 0).astype(np.uint8)

    def grid_sizes(self, tokens_BxS: np.ndarray, board: Board) -> np.ndarray:
        return np.tile(np.array(board), (len(tokens_BxS), 1))

    def pad_outside(self, tokens_BxS: Any, board: Board) -> Any:
        return tokens_BxS


_MOST_CANDIDATES = 2**20
"""The symmetries of all are held in memory, and are drawn one by one."""


class FixedPuzzles:
    """See `family.Puzzles`. A group is one puzzle; a variant is one of its symmetries."""

    num_ids = 1 + PUZZLE_ID
    notes: tuple[str, ...] = ()

    def __init__(self, family: FixedBoard, seed: int):
        """Args:
        seed: that symmetries are drawn from.
        """
        self._family, self._seed = family, seed
        self.trained, tested = family.pairs()
        self.tests = [Test(f"puzzle {t + 1}", *pair) for t, pair in enumerate(tested)]
        count = len(self.trained)
        self.examples_G = np.ones(count, np.int64)
        self.variants_G = np.full(count, 1 + family.num_augmentations)
        self.board_E = np.zeros(count, np.int64)

    def training_rows(
        self, example_N: np.ndarray, variant_N: np.ndarray, bits_Nx3: np.ndarray, board: Board
    ) -> dict[str, np.ndarray]:
        drawn = zip(example_N.tolist(), variant_N.tolist(), strict=True)
        rows = [(self.trained[e], self._family.symmetry(self._seed, e, v)) for e, v in drawn]
        return {
            "inputs": np.array([laid_out(self._family, pair[0], way) for pair, way in rows]),
            "target": np.array([laid_out(self._family, pair[1], way) for pair, way in rows]),
            "puzzle_id": np.full(len(rows), PUZZLE_ID, np.int32),
        }

    def questions(self, num_augmentations: int | None) -> "FixedQuestions":
        candidates = len(self.tests) * (1 + (num_augmentations or 0))
        if candidates > _MOST_CANDIDATES:
            raise InputError(
                f"evaluate.num_augmentations: {counted(candidates, 'candidate')} don't fit: at "
                f"most {_MOST_CANDIDATES:,}, {_MOST_CANDIDATES // len(self.tests):,} of each puzzle"
            )
        return self._questions(range(len(self.tests)), num_augmentations)

    def notes_on_questions(self, num_augmentations: int | None) -> tuple[str, ...]:
        return ()  # there are as many as are asked for, or an error

    def ask(self, puzzle: Any, num_augmentations: int | None) -> "FixedQuestions":
        """See `family.Puzzles`.

        Args:
          puzzle: the name of a test of this run; rows of symbols, as one text or as several; or the
            path of a file with such rows.
        """
        for number, test in enumerate(self.tests):
            if test.task == puzzle:
                return self._questions([number], num_augmentations)
        test, number = Test("the puzzle", self._read(puzzle), None), self._number(len(self.tests))
        return FixedQuestions(self._family, [test], [self._symmetries(number, num_augmentations)])

    def _number(self, test: int) -> int:
        """Of a test among all puzzles, from which its symmetries are drawn."""
        return len(self.trained) + test

    def _questions(self, tests: Sequence[int], num_augmentations: int | None) -> "FixedQuestions":
        asked = [self.tests[test] for test in tests]
        ways = [self._symmetries(self._number(test), num_augmentations) for test in tests]
        return FixedQuestions(self._family, asked, ways)

    def _symmetries(self, number: int, num_augmentations: int | None) -> np.ndarray:
        """(1 + num_augmentations, A) of a puzzle, the identity first; None: it alone."""
        variants = range(1 + (num_augmentations or 0))
        return np.array([self._family.symmetry(self._seed, number, v) for v in variants])

    def _read(self, puzzle: Any) -> np.ndarray:
        symbols, (height, width) = self._family.vocabulary.symbols, self._family.board
        is_text = isinstance(puzzle, str) and ("\n" in puzzle or len(puzzle.split()) == height)
        if isinstance(puzzle, str | Path) and not is_text:
            if not Path(puzzle).is_file():
                raise InputError(f"{puzzle}: neither a puzzle of this run, nor a file of one")
            puzzle = Path(puzzle).read_text(encoding="utf-8")
        rows = puzzle.split() if isinstance(puzzle, str) else puzzle
        rows = ["".join(map(str, row)) for row in rows]
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

    def baselines(self) -> Mapping[str, Mapping[str, Any]]:
        return {}

    def puzzle_name(self, puzzle_id: int) -> str:
        return name_of(self._family) if puzzle_id == PUZZLE_ID else ""

    def training_digest(self) -> str:
        decides = (self._seed, self._family.num_augmentations)
        digest = hashlib.sha256(repr(decides).encode())
        for question, solution in self.trained:
            digest.update(question.tobytes() + solution.tobytes())
        return digest.hexdigest()[:16]

    def tests_digest(self) -> str:
        digest = hashlib.sha256()
        for test in self.tests:
            digest.update(test.input.tobytes() + b">")
            digest.update(b"?" if test.output is None else test.output.tobytes())
        return digest.hexdigest()[:16]

    def trained_digests(self) -> list[str]:
        return sorted(_digest(question) for question, _ in self.trained)

    def answered_in(self, digests: Iterable[str]) -> list[str]:
        """See `family.Puzzles`; a puzzle is known as it is, not under a symmetry."""
        trained = set(digests)
        return [test.task for test in self.tests if _digest(test.input) in trained]

    def describe(self) -> str:
        return (
            f"{counted(len(self.trained), 'puzzle')} to train on, {len(self.tests):,} to be solved"
        )


def name_of(family: FixedBoard) -> str:
    """A family in a word."""
    return type(family).__name__.lower()


def laid_out(family: FixedBoard, grid: np.ndarray, symmetry_A: np.ndarray) -> np.ndarray:
    """A grid of symbols as tokens (S,) under a symmetry."""
    return family.augment(grid + np.uint8(family.vocabulary.first), symmetry_A).reshape(-1)


def _digest(question: np.ndarray) -> str:
    return hashlib.blake2b(question.tobytes(), digest_size=_DIGEST_BYTES).hexdigest()


class FixedQuestions:
    """Puzzles under symmetries; see `family.Questions`."""

    def __init__(self, family: FixedBoard, tests: Sequence[Test], ways: Sequence[np.ndarray]):
        """Args:
        ways: of each test its symmetries (V, A), of which the first is the identity.
        """
        self._family, self._tests = family, tests
        counts = [len(way_VxA) for way_VxA in ways]
        self.count = sum(counts)
        self.board_R = np.zeros(self.count, np.int64)
        self.plain = (np.cumsum(counts, dtype=np.int64) - counts).tolist()
        self._test_R = np.repeat(np.arange(len(tests)), np.array(counts, np.int64))
        self._symmetry_RxA = np.array([way for way_VxA in ways for way in way_VxA], np.uint8)

    def rows(self, row_N: np.ndarray, board: Board) -> tuple[np.ndarray, np.ndarray]:
        inputs = [self._lay_out(self._tests[self._test_R[row]].input, row) for row in row_N]
        return np.array(inputs), np.full(len(row_N), PUZZLE_ID, np.int32)

    def _lay_out(self, grid: np.ndarray, row: int) -> np.ndarray:
        return laid_out(self._family, grid, self._symmetry_RxA[row])

    def reaches_border(self, predicted_NxS: np.ndarray, board: Board) -> np.ndarray:
        return np.zeros(len(predicted_NxS), bool)  # the board is the whole one

    def truths(self, row_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = self._family.board
        truth_NxS = np.zeros((len(row_N), height * width), np.uint8)
        known_N = np.zeros(len(row_N), bool)
        for n, row in enumerate(row_N):
            solution = self._tests[self._test_R[row]].output
            if solution is not None:
                truth_NxS[n], known_N[n] = self._lay_out(solution, row), True
        return truth_NxS, np.repeat(known_N[:, None], truth_NxS.shape[1], axis=1)

    def candidate(self, row: int) -> Candidate:
        test = self._tests[self._test_R[row]]
        return Candidate(
            task=test.task,
            test=0,
            question=test.input,
            truth=test.output,
            puzzle_id=PUZZLE_ID,
            augmentation_A=self._symmetry_RxA[row],
        )

    def judge(self) -> "FixedJudge":
        return FixedJudge(self._family, self._tests, self._test_R, self._symmetry_RxA)


class FixedJudge(VotingJudge):
    """Exact match of the answer with the most votes; each puzzle is a task of one test."""

    def __init__(
        self,
        family: FixedBoard,
        tests: Sequence[Test],
        test_R: np.ndarray,
        symmetry_RxA: np.ndarray,
    ):
        super().__init__(tests, test_R)
        self._family, self._symmetry_RxA = family, symmetry_RxA

    def add(
        self, row_N: np.ndarray, predicted_NxS: np.ndarray, q_halt_N: np.ndarray, board: Board
    ) -> None:
        boards = predicted_NxS.reshape(-1, *board)
        plain = map(self._family.undo, boards, self._symmetry_RxA[row_N])
        self.cast(row_N, [self._family.to_grid(tokens, board) for tokens in plain], q_halt_N)

    def scores(self, accuracy_R: np.ndarray) -> dict[str, Any]:
        per_task, solved = {}, []
        for test in self.tests:
            right = rank_of_truth(self.ranked(test), test.output) == 0
            known = test.output is not None
            solved += [right] * known
            per_task[test.task] = {"test_inputs": 1, **({"exact": float(right)} if known else {})}
        found = {
            "candidates": self.candidates(),
            "tasks": len(self.tests),
            "test_inputs": len(solved),
            **({"exact": float(np.mean(solved))} if solved else {}),
            "per_task": per_task,
        }
        return with_cell_accuracy(found, self.tests, self.cell_accuracies(accuracy_R))

    def submission(self) -> Mapping[str, Any]:
        """The best answer to each puzzle, {name: rows of text}; [] where there is none."""
        best = {test.task: self.ranked(test)[:1] for test in self.tests}
        symbols = self._family.vocabulary.symbols
        return {
            name: grid_rows(answers[0].grid, symbols) if answers else []
            for name, answers in best.items()
        }

    def answers(self) -> list[dict[str, Any]]:
        symbols = self._family.vocabulary.symbols
        return [
            {
                "id": test.task,
                "source": name_of(self._family),
                "demonstrations": [],
                "tests": [self.described(test, symbols)],
            }
            for test in self.tests
        ]
