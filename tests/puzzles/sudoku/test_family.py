"""The second family: loading, training rows, questions, exact match."""

import numpy as np
import pytest

from drm_jax.errors import InputError, UsageError
from drm_jax.puzzles.boards import cell_accuracy
from drm_jax.puzzles.sudoku.family import Sudoku

SMALL = Sudoku(
    side=4, train_puzzles=20, test_puzzles=3, puzzles_seed=40, tested_part=8, num_augmentations=5
)
BOARD = (4, 4)


@pytest.fixture(scope="module")
def puzzles():
    return SMALL.load(0, {})


def test_vocabulary_and_boards():
    assert Sudoku().boards == ((9, 9),)
    six = Sudoku(6).vocabulary
    assert (six.symbols, six.size, six.mask) == (".123456", 8, 8)
    grid = np.array([[0, 1, 2, 3], [4, 0, 0, 0], [0] * 4, [1] * 4], np.uint8)
    tokens_S = SMALL.to_tokens(grid, BOARD)
    assert tokens_S[:5].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(SMALL.to_grid(tokens_S, BOARD), grid, strict=True)
    tokens_S[:2] = 0, SMALL.vocabulary.mask  # PAD and MASK show no digit
    assert SMALL.to_grid(tokens_S, BOARD)[0].tolist() == [0, 0, 2, 3]
    assert SMALL.grid_sizes(tokens_S[None], BOARD).tolist() == [[4, 4]]
    assert SMALL.pad_outside(tokens_S[None], BOARD).tolist() == [tokens_S.tolist()]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"side": 5}, "data.side: must be 4, 6 or 9, not 5"),
        ({"side": 16}, "data.side: must be int <= 9, not 16"),
        ({"tested_part": 3}, "data.tested_part: must be"),
        ({"train_puzzles": 0}, "data.train_puzzles: must be int >= 1, not 0"),
    ],
)
def test_options_that_can_not_be(options, words):
    with pytest.raises(UsageError) as error:
        Sudoku(**options)
    assert str(error.value).startswith(words)


def test_training_rows(puzzles):
    assert (puzzles.num_ids, puzzles.examples_G.tolist()) == (2, [1] * 20)
    assert puzzles.variants_G.tolist() == [6] * 20
    example_N, variant_N = np.array([3, 3, 3, 4]), np.array([0, 2, 2, 2])
    rows = puzzles.training_rows(example_N, variant_N, np.zeros((4, 3), np.uint32), BOARD)
    assert {name: (x.shape, x.dtype.name) for name, x in rows.items()} == {
        "inputs": ((4, 16), "uint8"), "target": ((4, 16), "uint8"), "puzzle_id": ((4,), "int32"),
    }  # fmt: skip
    for name, grid in zip(("inputs", "target"), puzzles.trained[3], strict=True):
        np.testing.assert_array_equal(rows[name][0], SMALL.to_tokens(grid, BOARD))
        np.testing.assert_array_equal(rows[name][1], rows[name][2])
        assert (rows[name][0] != rows[name][1]).any()
    clues = rows["inputs"] > 1
    assert (rows["inputs"][clues] == rows["target"][clues]).all()
    assert rows["target"].min() == 2
    assert set(rows["puzzle_id"].tolist()) == {1}


def test_digests(puzzles):
    same, other = SMALL.load(0, {}), SMALL.load(1, {})
    assert same.training_digest() == puzzles.training_digest()
    assert other.training_digest() != puzzles.training_digest()  # of other symmetries
    assert other.tests_digest() == puzzles.tests_digest()
    assert puzzles.answered_in(puzzles.trained_digests()) == []

    class Swapped(Sudoku):
        def pairs(self):
            return [(test.input, test.output) for test in puzzles.tests[1:]], []

    swapped = Swapped(side=4).load(0, {})
    assert puzzles.answered_in(swapped.trained_digests()) == ["puzzle 2", "puzzle 3"]


def test_questions_under_symmetries(puzzles):
    assert puzzles.questions(None).count == 3
    questions = puzzles.questions(2)
    assert (questions.count, list(questions.plain)) == (9, [0, 3, 6])
    row_N = np.array([0, 4, 8])
    inputs_NxS, id_N = questions.rows(row_N, BOARD)
    truth_NxS, scored_NxS = questions.truths(row_N)
    assert (id_N.tolist(), scored_NxS.all()) == ([1, 1, 1], True)
    for row, inputs_S, truth_S in zip(row_N, inputs_NxS, truth_NxS, strict=True):
        candidate = questions.candidate(row)
        assert (candidate.task, candidate.test) == (f"puzzle {row // 3 + 1}", 0)
        for tokens_S, grid in ((inputs_S, candidate.question), (truth_S, candidate.truth)):
            plain = SMALL.undo(tokens_S.reshape(BOARD), candidate.augmentation_A)
            np.testing.assert_array_equal(SMALL.to_grid(plain.reshape(-1), BOARD), grid)
    names = [SMALL.augmentation_name(questions.candidate(row).augmentation_A) for row in range(9)]
    assert [not name for name in names] == [True, False, False] * 3
    assert len(set(names)) == 7
    assert not questions.reaches_border(truth_NxS, BOARD).any()


def test_exact_match_of_the_first_answer(puzzles):
    """Puzzle 1 is right by votes, puzzle 2 by the halting score, puzzle 3 is wrong in a cell."""
    questions = puzzles.questions(2)
    predicted_RxS, scored_RxS = questions.truths(np.arange(9))
    truth_RxS = predicted_RxS.copy()
    predicted_RxS[[2, 4, 6, 7, 8], 0] = 0
    predicted_RxS[5, 0] = 1 + predicted_RxS[5, 0] % 5
    q_halt_R = np.array([0, 0, 9, 1, 0, 0, 0, 0, 0], float)
    judge = questions.judge()
    judge.add(np.arange(9), predicted_RxS, q_halt_R, BOARD)
    scores = judge.scores(cell_accuracy(predicted_RxS, truth_RxS, scored_RxS))
    assert {k: v for k, v in scores.items() if k not in ("per_task", "cell_accuracy")} == {
        "candidates": 9, "tasks": 3, "test_inputs": 3, "exact": pytest.approx(2 / 3),
    }  # fmt: skip
    assert scores["cell_accuracy"] == pytest.approx(1 - 6 / 9 / 16)
    assert scores["per_task"]["puzzle 3"] == {
        "test_inputs": 1, "exact": 0.0, "cell_accuracy": [pytest.approx(15 / 16)],
    }  # fmt: skip
    assert judge.right(np.array([0, 4])) == {0, 1, 3}
    assert judge.leading(np.array([1]), 1) == {0}
    solution = ["".join(map(str, row)) for row in puzzles.tests[0].output.tolist()]
    assert judge.submission()["puzzle 1"] == solution
    answered = judge.answers()
    assert [task["id"] for task in answered] == ["puzzle 1", "puzzle 2", "puzzle 3"]
    (test,) = answered[0]["tests"]
    assert (test["output"], test["rank_of_truth"], test["distinct"]) == (solution, 1, 2)
    assert test["answers"][0] == {"rank": 1, "grid": solution, "votes": 2, "score": 0.5}


def test_a_puzzle_of_ones_own(puzzles, tmp_path):
    text = "1...\n..2.\n...3\n.4.."
    path = tmp_path / "p.txt"
    path.write_text(text)
    grid = [[1, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 3], [0, 4, 0, 0]]
    for puzzle in (text, text.replace(".", "0"), text.split("\n"), grid, str(path)):
        questions = puzzles.ask(puzzle, 3)
        assert (questions.count, questions.candidate(0).question.tolist()) == (4, grid)
        assert not questions.truths(np.arange(4))[1].any()
    scores = questions.judge().scores(np.full(4, np.nan))
    assert "exact" not in scores
    known, own = puzzles.ask("puzzle 2", 1), puzzles.questions(1)
    np.testing.assert_array_equal(
        known.candidate(1).augmentation_A, own.candidate(3).augmentation_A
    )
    for puzzle, words in (
        ("nowhere", "neither a puzzle of this run, nor a file"),
        ("1...\n..2.", "not 2 rows"),
        ("1...\n..2.\n...5\n.4..", r"not '\.\.\.5'"),
        ("1...\n..2.\n...\n.4..", r"not '\.\.\.'"),
    ):
        with pytest.raises(InputError, match=words):
            puzzles.ask(puzzle, None)


def test_without_tests():
    puzzles = Sudoku(4, 5, 0).load(0, {})
    questions = puzzles.questions(None)
    assert (questions.count, puzzles.describe()) == (0, "5 puzzles to train on, 0 to be solved")
    assert questions.judge().scores(np.zeros(0)) == {
        "candidates": 0, "tasks": 0, "test_inputs": 0, "per_task": {},
    }  # fmt: skip
