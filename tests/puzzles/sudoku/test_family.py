"""Sudoku as a family: options, loading, files, training rows, questions, judging, leaks."""

import gzip

import numpy as np
import pytest

from drm_jax.errors import InputError, UsageError
from drm_jax.fields import MAX_NUMBER
from drm_jax.puzzles.boards import cell_accuracy
from drm_jax.puzzles.sudoku.family import Sudoku

BOARD = (6, 6)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


SMALL = Sudoku(side=6, train_puzzles=20, test_puzzles=3, num_augmentations=5)


@pytest.fixture(scope="module")
def puzzles():
    return SMALL.load(0, {})


def test_vocabulary_and_boards():
    assert Sudoku().boards == ((9, 9),)
    assert (Sudoku().vocabulary.size, Sudoku(16, logic="singles").vocabulary.size) == (11, 18)
    six = Sudoku(6).vocabulary
    assert (six.symbols, six.size, six.mask) == (".123456", 8, 8)
    grid = np.arange(36, dtype=np.uint8).reshape(6, 6) % 7
    tokens_S = SMALL.to_tokens(grid, BOARD)
    assert tokens_S[:5].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(SMALL.to_grid(tokens_S, BOARD), grid, strict=True)
    tokens_S[:2] = 0, SMALL.vocabulary.mask  # PAD and MASK show no digit
    assert SMALL.to_grid(tokens_S, BOARD)[0].tolist() == [0, 0, 2, 3, 4, 5]
    assert SMALL.grid_sizes(tokens_S[None], BOARD).tolist() == [[6, 6]]
    assert SMALL.pad_outside(tokens_S[None], BOARD).tolist() == [tokens_S.tolist()]
    assert [Sudoku(side).blocks for side in (4, 6, 9)] == [(2, 2), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"side": 5}, "data.side: must be 4, 6, 9 or 16, not 5"),
        ({"side": 25}, "data.side: must be int <= 16, not 25"),
        ({"side": 16}, "data.logic: 16x16 is made with singles alone"),
        ({"side": 4, "clues": 17}, "data.clues: a board has 16 cells"),
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
        "inputs": ((4, 36), "uint8"), "target": ((4, 36), "uint8"), "puzzle_id": ((4,), "int32"),
    }  # fmt: skip
    trained = puzzles.trained
    for name, grids in (("inputs", trained.inputs_NxS), ("target", trained.outputs_NxS)):
        np.testing.assert_array_equal(rows[name][0], grids[3] + 1)
        np.testing.assert_array_equal(rows[name][1], rows[name][2])
        assert (rows[name][0] != rows[name][1]).any()
    assert SMALL.verify(rows["inputs"] - np.uint8(1), rows["target"] - np.uint8(1)).all()
    assert set(rows["puzzle_id"].tolist()) == {1}


def test_digests(puzzles):
    same, other = SMALL.load(0, {}), SMALL.load(1, {})
    assert same.training_digest() == puzzles.training_digest()
    assert other.training_digest() != puzzles.training_digest()  # of other symmetries
    assert other.tests_digest() == puzzles.tests_digest()
    assert puzzles.answered_in(puzzles.trained_digests()) == []


# --- questions and judging ------------------------------------------------------------------------
def test_questions_under_symmetries(puzzles):
    assert puzzles.questions(None).count == 3
    questions = puzzles.questions(2)
    assert (questions.count, list(questions.plain)) == (9, [0, 3, 6])
    assert questions.shown == range(9)
    row_N = np.array([0, 4, 8])
    inputs_NxS, id_N = questions.rows(row_N, BOARD)
    truth_NxS, scored_NxS = questions.truths(row_N)
    assert (id_N.tolist(), scored_NxS.all()) == ([1, 1, 1], True)
    for row, inputs_S, truth_S in zip(row_N.tolist(), inputs_NxS, truth_NxS, strict=True):
        candidate = questions.candidate(row)
        assert (candidate.task, candidate.test) == (f"puzzle {row // 3 + 1}", 0)
        for tokens_S, grid in ((inputs_S, candidate.question), (truth_S, candidate.truth)):
            plain = SMALL.undo(tokens_S.reshape(BOARD), candidate.augmentation_A)
            np.testing.assert_array_equal(SMALL.to_grid(plain.reshape(-1), BOARD), grid)
            changed = SMALL.augment(grid + np.uint8(1), candidate.augmentation_A)
            np.testing.assert_array_equal(changed.reshape(-1), tokens_S)
    names = [SMALL.augmentation_name(questions.candidate(row).augmentation_A) for row in range(9)]
    assert [not name for name in names] == [True, False, False] * 3
    assert len(set(names)) == 7
    assert not questions.reaches_border(truth_NxS, BOARD).any()


def test_more_answers_than_fit_in_memory(puzzles):
    with pytest.raises(InputError, match="don't fit in memory: at most 19,884,106 of each"):
        puzzles.questions(2**30)


def test_exact_match_of_the_first_answer(puzzles):
    """Puzzle 1 is right by votes, puzzle 2 by the halting score, puzzle 3 is wrong in a cell."""
    questions = puzzles.questions(2)
    predicted_RxS, scored_RxS = questions.truths(np.arange(9))
    truth_RxS = predicted_RxS.copy()
    predicted_RxS[[2, 4, 6, 7, 8], 0] = 0
    predicted_RxS[5, 0] = 2 + predicted_RxS[5, 0] % 5
    q_halt_R = np.array([0, 0, 9, 1, 0, 0, 0, 0, 0], float)
    judge = questions.judge()
    judge.add(np.arange(9), predicted_RxS, q_halt_R, BOARD)
    scores = judge.scores(cell_accuracy(predicted_RxS, truth_RxS, scored_RxS))
    assert {k: v for k, v in scores.items() if k not in ("per_task", "by_difficulty")} == {
        "candidates": 9, "tasks": 3, "test_inputs": 3, "exact": pytest.approx(2 / 3),
        "valid": pytest.approx(2 / 3), "cell_accuracy": pytest.approx(1 - 6 / 9 / 36),
    }  # fmt: skip
    assert sum(row["test_inputs"] for row in scores["by_difficulty"]) == 3
    assert scores["per_task"]["puzzle 3"] == {
        "test_inputs": 1, "exact": 0.0, "valid": 0.0, "cell_accuracy": [pytest.approx(35 / 36)],
    }  # fmt: skip
    assert judge.right(np.array([0, 4])) == {0, 1, 3}
    assert judge.leading(np.array([1]), 1) == {0}
    truth = puzzles.tests.outputs_NxS[0]
    assert judge.submission()["puzzle 1"] == "".join(map(str, truth))
    answered = judge.answers()
    assert [task["id"] for task in answered] == ["puzzle 1", "puzzle 2", "puzzle 3"]
    (test,) = answered[0]["tests"]
    rows = ["".join(map(str, row)) for row in truth.reshape(BOARD)]
    assert (test["output"], test["rank_of_truth"], test["distinct"]) == (rows, 1, 2)
    assert test["difficulty"] == puzzles.tests.difficulty_N[0]
    assert test["answers"][0] == {"rank": 1, "grid": rows, "votes": 2, "score": 0.5, "valid": True}
    assert not test["answers"][1]["valid"]


def test_an_ensemble_votes_together(puzzles):
    questions = puzzles.questions(None)
    right_RxS, _ = questions.truths(np.arange(3))
    wrong_RxS = np.where(right_RxS == 2, 3, right_RxS)
    judges = []
    for answer_RxS in (wrong_RxS, right_RxS, right_RxS):
        judge = questions.judge()
        judge.add(np.arange(3), answer_RxS, np.zeros(3), BOARD)
        judges.append(judge)
    assert judges[0].scores(np.ones(3))["exact"] == 0
    judges[0].pool(judges[1])
    judges[0].pool(judges[2])
    scores = judges[0].scores(np.ones(3))
    assert (scores["exact"], scores["candidates"]) == (1, 9)


def test_a_puzzle_of_ones_own(puzzles, tmp_path):
    rows = ["1.....", ".2....", "..3...", "...4..", "....5.", ".....6"]
    text = "\n".join(rows)
    path = tmp_path / "p.txt"
    path.write_text(text)
    grid = np.diag(np.arange(1, 7)).tolist()
    for puzzle in (text, text.replace(".", "0"), "".join(rows), rows, grid, str(path)):
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
        ("nowhere", "neither a puzzle on a board of 6 x 6, nor a file of one"),
        ("puzzle 4", "neither a puzzle on a board of 6 x 6, nor a file of one"),
        ("1.....\n..2...", "not 2 rows"),
        (text.replace("6", "7"), r"not '\.\.\.\.\.7'"),
        (text.replace("6", "66"), r"not '\.\.\.\.\.66'"),
    ):
        with pytest.raises(InputError, match=words):
            puzzles.ask(puzzle, None)


def test_without_tests():
    puzzles = Sudoku(4, train_puzzles=5, test_puzzles=0).load(0, {})
    questions = puzzles.questions(None)
    assert (questions.count, puzzles.describe()) == (0, "5 puzzles to train on, 0 to be solved")
    assert questions.judge().scores(np.zeros(0)) == {
        "candidates": 0, "tasks": 0, "test_inputs": 0, "per_task": {},
    }  # fmt: skip


# --- leaks ----------------------------------------------------------------------------------------
def test_tests_that_are_trained_on_are_counted(puzzles, tmp_path):
    """Also under symmetries; the score leaves them out beside."""
    tests, seen = puzzles.tests, puzzles.trained
    symmetry_NxA = SMALL.symmetries(9, np.arange(2), np.array([1, 1]))
    copies = SMALL.augment_all(
        np.stack([seen.inputs_NxS[:2], seen.outputs_NxS[:2]], axis=1) + np.uint8(1), symmetry_NxA
    ) - np.uint8(1)
    inputs = np.concatenate([tests.inputs_NxS, copies[:, 0]])
    outputs = np.concatenate([tests.outputs_NxS, copies[:, 1]])
    path = write_csv(tmp_path / "tests.csv", inputs, outputs, [0] * 5)
    mixed = Sudoku(side=6, train_puzzles=20, evaluate=(str(path),)).load(0, {})
    assert mixed.notes == ("trained on, up to symmetry: 2 of 5 test puzzles",)
    assert mixed.answered_in(puzzles.trained_digests()) == ["puzzle 4", "puzzle 5"]
    questions = mixed.questions(None)
    answers_RxS, _ = questions.truths(np.arange(5))
    answers_RxS[0] = 2
    judge = questions.judge()
    judge.add(np.arange(5), answers_RxS, np.zeros(5), BOARD)
    scores = judge.scores(np.ones(5))
    assert scores["seen_in_training"] == 2
    assert (scores["exact"], scores["exact_unseen"]) == (0.8, pytest.approx(2 / 3))


# --- files ----------------------------------------------------------------------------------------
def text_of(board_S: np.ndarray) -> str:
    return "".join("." if digit == 0 else str(digit) for digit in board_S)


def write_csv(path, inputs_NxS, outputs_NxS, ratings):
    rows = zip(map(text_of, inputs_NxS), map(text_of, outputs_NxS), ratings, strict=True)
    lines = ["source,question,answer,rating", *(f"x,{q},{a},{r}" for q, a, r in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_published_csv(puzzles, tmp_path):
    made = puzzles.trained
    path = write_csv(tmp_path / "train.csv", made.inputs_NxS, made.outputs_NxS, range(20))
    packed = tmp_path / "tests.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    options = {"side": 6, "train": (str(path),), "evaluate": (str(packed),)}
    every = Sudoku(**options).load(0, {})
    np.testing.assert_array_equal(every.trained.inputs_NxS, made.inputs_NxS, strict=True)
    np.testing.assert_array_equal(every.tests.outputs_NxS, made.outputs_NxS, strict=True)
    assert every.tests.difficulty_N.tolist() == list(range(20))
    some = Sudoku(**options, train_puzzles=7, test_puzzles=4, least_difficulty=3).load(0, {})
    assert (len(some.trained), len(some.tests)) == (7, 4)
    assert min(*some.trained.difficulty_N, *some.tests.difficulty_N) >= 3
    assert some.notes[0] == "data.train: 3 puzzles of another difficulty left out"
    other = Sudoku(**options, train_puzzles=7, puzzles_seed=1).load(0, {})
    assert not np.array_equal(other.trained.inputs_NxS, some.trained.inputs_NxS)


BAD_ROWS = {
    "x,12,34,5": "line 2: the question must have 36 characters out of '.123456', found 2",
    "x," + "7" * 36 + "," + "1" * 36 + ",0": "line 2: the question has '7', which is none of",
    "x," + "." * 36 + "," + "1" * 36 + ",0": "the answer of puzzle 1 is not a solution of it: 111",
    "x": "line 2: expected source,question,answer,rating, found 'x'",
    "\n\nx": "line 4: expected source,question,answer,rating, found 'x'",
    "\nx,12,34,5": "line 3: the question must have 36 characters",
    "\nx," + "7" * 36 + ",,5": "line 3: the question has '7', which is none of",
    "x," + "." * 36 + ",,0": "1 puzzle without an answer",
    "": "holds no puzzle",
}


@pytest.mark.parametrize("row", BAD_ROWS)
def test_a_csv_that_can_not_be_used(row, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(f"source,question,answer,rating\n{row}\n" if row else "a,b\n")
    with pytest.raises(InputError) as error:
        Sudoku(side=6, train=(str(path),)).load(0, {})
    assert BAD_ROWS[row] in str(error.value)
    assert str(path) in str(error.value)


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match=r"data.evaluate: nowhere.csv: there is no such file"):
        Sudoku(side=6, evaluate=("nowhere.csv",)).load(0, {})
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match=r"all__inputs.npy: is missing: expected a CSV file, or"):
        Sudoku(side=6, train=(str(tmp_path / "x"),)).load(0, {})


def test_blank_puzzles():
    """For a plan; an imported run takes all puzzles there are."""
    missing = {"train": ("nowhere.csv",), "evaluate": ("nowhere.csv",)}
    puzzles = Sudoku(**missing, train_puzzles=1000, test_puzzles=400_000).blank_puzzles()
    assert (len(puzzles.trained), len(puzzles.tests)) == (1000, 400_000)
    assert not puzzles.trained.inputs_NxS[-1].any()
    puzzles = Sudoku(**missing, train_puzzles=MAX_NUMBER).blank_puzzles()
    assert len(puzzles.trained) == 1_000_000
    assert puzzles.trained.inputs_NxS.base.nbytes < 1000
    assert Sudoku().blank_puzzles() is None


def write_dataset(folder, inputs_NxS, outputs_NxS, group_G):
    """As TRM's builder writes: a puzzle an example, groups of symmetric copies."""
    folder.mkdir(parents=True)
    count = len(inputs_NxS)
    for name, array in (
        ("inputs", inputs_NxS + 1), ("labels", outputs_NxS + 1),
        ("puzzle_identifiers", np.zeros(count, np.int32)),
        ("puzzle_indices", np.arange(count + 1, dtype=np.int32)),
        ("group_indices", np.array(group_G, np.int32)),
    ):  # fmt: skip
        np.save(folder / f"all__{name}.npy", array)


def test_a_dataset_folder_of_trm(puzzles, tmp_path):
    made = puzzles.trained
    write_dataset(tmp_path / "d/train", made.inputs_NxS, made.outputs_NxS, [0, 4, 8, 20])
    write_dataset(tmp_path / "d/test", made.inputs_NxS[:3], made.outputs_NxS[:3], range(4))
    options = {"side": 6, "train": (str(tmp_path / "d"),), "evaluate": (str(tmp_path / "d"),)}
    read = Sudoku(**options).load(0, {})
    assert (read.examples_G.tolist(), read.variants_G.tolist()) == ([1, 1, 1], [4, 4, 12])
    rows = read.training_rows(np.array([1, 2]), np.array([3, 11]), None, BOARD)
    np.testing.assert_array_equal(rows["inputs"], made.inputs_NxS[[7, 19]] + 1)
    assert len(read.tests) == 3
    one = Sudoku(**options, train_puzzles=1).load(0, {})
    assert len(one.trained) in (4, 12)
    np.save(tmp_path / "d/train/all__labels.npy", made.outputs_NxS + 3)
    with pytest.raises(InputError, match="has token 9, but there are only 7"):
        Sudoku(**options).load(0, {})
    np.save(tmp_path / "d/train/all__labels.npy", made.outputs_NxS)
    with pytest.raises(InputError, match=r"all__labels.npy: every cell|is not a solution"):
        Sudoku(**options).load(0, {})
