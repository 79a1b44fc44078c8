"""Judges answers that count if they are exactly right: one test input a puzzle, each candidate a
vote. Answers are held as arrays, so that hundreds of thousands are judged in seconds."""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from drm_jax.puzzles.sets import PuzzleSet
from drm_jax.puzzles.voting import (
    Answer,
    Choice,
    best_first,
    described,
    leading_voters,
    right_voters,
)

_MOST_SHOWN = 1000
"""So many tests, the first ones, are written out with their answers and denoising, for people."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tests:
    """T puzzles that are to be solved."""

    names: Sequence[str]
    puzzles: PuzzleSet
    seen_T: np.ndarray  # bool: whether each is trained on, up to symmetry

    most_shown = _MOST_SHOWN


class _Round:
    """What each of R candidates answered to one checkpoint."""

    def __init__(self, count: int, cells: int):
        self.answer_RxS = np.zeros((count, cells), np.uint8)
        self.score_R = np.zeros(count, np.float32)
        self.given_R = np.zeros(count, bool)


class ExactJudge:
    """The answer with the most votes is handed in, unless another choice is made; see
    `family.Judge`. Ties go to the one with the higher mean halting probability, then to the one
    that was given first."""

    def __init__(
        self,
        family: Any,
        tests: Tests,
        each: int,
        plain_answers: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ):
        """Nothing answered yet.

        Args:
          family: a `fixed.FixedBoard`.
          each: candidates of each test; candidate r answers test r // each.
          plain_answers: (candidates (N,), tokens (N, S)) -> answers (N, S) uint8 of symbols.
        """
        self._family, self._tests, self._each = family, tests, each
        self._plain_answers = plain_answers
        cells = tests.puzzles.inputs_NxS.shape[1]
        self._rounds = [_Round(len(tests.names) * each, cells)]
        self._choice: Choice = "votes"

    def add(
        self, row_N: np.ndarray, predicted_NxS: np.ndarray, q_halt_N: np.ndarray, board: Any
    ) -> None:
        own = self._rounds[0]
        own.answer_RxS[row_N] = self._plain_answers(row_N, predicted_NxS)
        own.score_R[row_N] = 1.0 / (1.0 + np.exp(-np.asarray(q_halt_N, np.float64)))
        own.given_R[row_N] = True

    def pool(self, other: "ExactJudge") -> None:
        self._rounds = [*self._rounds, *other._rounds]

    def choosing(self, choice: Choice) -> "ExactJudge":
        judge = copy.copy(self)
        judge._choice = choice
        return judge

    # --- what a test was answered
    def _truth(self, test: int) -> np.ndarray | None:
        puzzles = self._tests.puzzles
        return puzzles.outputs_NxS[test] if puzzles.known_N[test] else None

    def _ranked(self, test: int) -> list[Answer]:
        """The answers (S,) to a test, best first."""
        found: dict[bytes, Answer] = {}
        for one in self._rounds:
            for row in range(test * self._each, (test + 1) * self._each):
                if one.given_R[row]:
                    grid = one.answer_RxS[row]
                    answer = found.setdefault(grid.tobytes(), Answer(grid))
                    answer.voters.append(row)
                    answer.voter_scores.append(float(one.score_R[row]))
                    answer.score_sum += float(one.score_R[row])
        question_S = self._tests.puzzles.inputs_NxS[test]
        return best_first(
            found.values(),
            self._choice,
            truth=self._truth(test),
            valid=lambda answer: bool(self._family.verify(question_S[None], answer.grid[None])[0]),
        )

    def _best(self) -> tuple[np.ndarray, np.ndarray]:
        """(T, S) what is handed in; (T,) bool whether there is an answer."""
        own = self._rounds[0]
        if self._each == 1 and len(self._rounds) == 1:
            return own.answer_RxS, own.given_R
        count = len(self._tests.names)
        best_TxS = np.zeros((count, own.answer_RxS.shape[1]), np.uint8)
        has_T = np.zeros(count, bool)
        for test in range(count):
            answers = self._ranked(test)
            if answers:
                best_TxS[test], has_T[test] = answers[0].grid, True
        return best_TxS, has_T

    def _shown_tests(self, row_N: np.ndarray) -> list[int]:
        tests = np.unique(row_N // self._each)
        return tests[tests < self._tests.most_shown].tolist()

    def leading(self, row_N: np.ndarray, best: int) -> set[int]:
        tests = self._shown_tests(row_N)
        return set().union(*(leading_voters(self._ranked(t), self._truth(t), best) for t in tests))

    def right(self, row_N: np.ndarray) -> set[int]:
        tests = self._shown_tests(row_N)
        return set().union(*(right_voters(self._ranked(t), self._truth(t)) for t in tests))

    # --- scores
    def scores(self, accuracy_R: np.ndarray) -> dict[str, Any]:
        """See `family.Judge`. `exact` is the share of tests whose answer is right in every cell,
        `valid` of those that follow the rules, as far as a family can tell, `cell_accuracy` the
        mean share of right cells. by_difficulty has them by band of difficulty; seen_in_training
        is how many tests are trained on, up to symmetry, and `exact_unseen` leaves them out."""
        columns = self._columns(accuracy_R)
        known_T, seen_T = self._tests.puzzles.known_N, self._tests.seen_T
        found = {
            "candidates": int(sum(one.given_R.sum() for one in self._rounds)),
            "tasks": len(known_T),
            "test_inputs": int(known_T.sum()),
            **_means(columns, np.ones(len(known_T), bool)),
        }
        if seen_T.any():
            found["seen_in_training"] = int(seen_T.sum())
            found |= _means({"exact_unseen": columns["exact"]}, ~seen_T)
        found |= self._by_difficulty(columns)
        return found | {"per_task": self._per_task(columns)}

    def _columns(self, accuracy_R: np.ndarray) -> dict[str, np.ndarray]:
        """(T,) scores of each test by name; NaN where it is unknown."""
        best_TxS, has_T = self._best()
        puzzles = self._tests.puzzles
        right_T = has_T & (best_TxS == puzzles.outputs_NxS).all(axis=1)
        columns = {"exact": np.where(puzzles.known_N, right_T, np.nan)}
        valid_T = self._family.verify(puzzles.inputs_NxS, best_TxS) if has_T.any() else None
        if valid_T is not None:
            columns["valid"] = (valid_T & has_T).astype(float)
        columns["cell_accuracy"] = accuracy_R.reshape(-1, self._each).mean(axis=1)
        return columns

    def _by_difficulty(self, columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """{"by_difficulty": a row of scores for each band with tests}; {} without difficulties."""
        difficulty_T, edges = self._tests.puzzles.difficulty_N, self._family.difficulty_bands
        if difficulty_T is None or not edges or not len(difficulty_T):
            return {}
        band_T = np.searchsorted(edges, difficulty_T, side="right") - 1
        rows = []
        for band, start in enumerate(edges):
            here_T = band_T == band
            if here_T.any():
                name = _band_name(start, edges[band + 1 :])
                rows.append({"difficulty": name, "test_inputs": int(here_T.sum()),
                             **_means(columns, here_T)})  # fmt: skip
        return {"by_difficulty": rows}

    def _per_task(self, columns: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
        """Scores of the tests that are shown, by name."""
        rows = {}
        for test, name in enumerate(self._tests.names[: self._tests.most_shown]):
            row: dict[str, Any] = {"test_inputs": 1}
            for column in ("exact", "valid"):
                if column in columns and not math.isnan(columns[column][test]):
                    row[column] = float(columns[column][test])
            accuracy = float(columns["cell_accuracy"][test])
            row["cell_accuracy"] = [None if math.isnan(accuracy) else accuracy]
            rows[name] = row
        return rows

    # --- for people
    def submission(self) -> Mapping[str, Any]:
        """The answer to each puzzle, {name: all cells in one text}; "" where there is none."""
        best_TxS, has_T = self._best()
        letters = np.frombuffer(self._family.vocabulary.symbols.encode("latin-1"), np.uint8)
        texts = [row.tobytes().decode("latin-1") for row in letters[best_TxS]]
        named = zip(self._tests.names, texts, has_T.tolist(), strict=True)
        return {name: text if has else "" for name, text, has in named}

    def answers(self) -> list[dict[str, Any]]:
        """Of the first tests, see `_MOST_SHOWN`."""
        source = name_of(self._family)
        return [
            {"id": name, "source": source, "demonstrations": [], "tests": [self._described(test)]}
            for test, name in enumerate(self._tests.names[: self._tests.most_shown])
        ]

    def _described(self, test: int) -> dict[str, Any]:
        puzzles, board = self._tests.puzzles, self._family.board
        question_S, truth_S = puzzles.inputs_NxS[test], self._truth(test)

        def more(answer: Answer) -> dict[str, Any]:
            valid = self._family.verify(question_S[None], answer.grid.reshape(1, -1))
            return {} if valid is None else {"valid": bool(valid[0])}

        answers = [dataclasses.replace(a, grid=a.grid.reshape(board)) for a in self._ranked(test)]
        truth = None if truth_S is None else truth_S.reshape(board)
        symbols = self._family.vocabulary.symbols
        said = described(question_S.reshape(board), truth, answers, symbols, more)
        if puzzles.difficulty_N is not None and self._family.difficulty:
            said["difficulty"] = int(puzzles.difficulty_N[test])
        return said


def _band_name(start: int, later: Sequence[int]) -> str:
    """`0`, `1-4`, `100+`: from a start to before the next one."""
    if not later:
        return f"{start}+"
    return f"{start}" if later[0] == start + 1 else f"{start}-{later[0] - 1}"


def name_of(family: Any) -> str:
    """A family in a word."""
    return type(family).__name__.lower()


def _means(columns: Mapping[str, np.ndarray], which_T: np.ndarray) -> dict[str, float]:
    """The mean of each score over some tests, where it is known of any."""
    found = {}
    for name, value_T in columns.items():
        here = value_T[which_T]
        if len(here) and not np.isnan(here).all():
            found[name] = float(np.nanmean(here))
    return found
