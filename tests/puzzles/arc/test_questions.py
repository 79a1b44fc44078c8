"""Test inputs under their augmentations: rows, windows, truths."""

import dataclasses

import numpy as np
import pytest

from drm_jax.puzzles.arc.augment import augment, from_vector, puzzle_ids
from drm_jax.puzzles.arc.puzzles import ArcPuzzles
from drm_jax.puzzles.arc.questions import evaluation_rows
from drm_jax.puzzles.arc.roles import load_tasks
from drm_jax.puzzles.arc.tasks import Pair, Task, load_source
from drm_jax.puzzles.arc.tokens import crop, to_tokens
from drm_jax.puzzles.arc.windows import expected_shape, first_windows, touches_border
from drm_jax.puzzles.boards import cell_accuracy


@pytest.fixture(scope="module")
def puzzles():
    tasks = load_tasks((), ("arc1/training",), ("0d3d703e", "25d8a9c8", "44f52bb0"))
    return ArcPuzzles(tasks, puzzle_ids(tasks, 4, 0), ((5, 5),))


def test_candidates(puzzles):
    questions = puzzles.questions(None)
    assert questions.count == (1 + 1 + 2) * 5  # test inputs x (identity and 4 augmentations)
    first = evaluation_rows(puzzles.tasks, puzzles.ids, 1)[:3]
    assert first.tolist() == [[0, 0, 1], [0, 0, 2], [1, 0, 6]]
    assert puzzles.questions(1).count == 8
    assert questions.plain == [0, 5, 10, 15]
    assert puzzles.questions(0).plain == [0, 1, 2, 3]
    row_N = np.array([9, 3])
    inputs_NxS, id_N = questions.rows(row_N, (5, 5))
    assert (inputs_NxS.dtype, id_N.dtype) == (np.uint8, np.int32)
    for row, inputs_S, puzzle_id in zip(row_N, inputs_NxS, id_N, strict=True):
        candidate = questions.candidate(row)
        assert candidate.puzzle_id == puzzle_id
        task = puzzles.tasks[puzzles.ids.task[puzzle_id]]
        assert candidate.task == task.id
        np.testing.assert_array_equal(candidate.question, task.tests[candidate.test].input)
        np.testing.assert_array_equal(candidate.truth, task.tests[candidate.test].output)
        wanted = augment(candidate.question, from_vector(candidate.augmentation_A))
        np.testing.assert_array_equal(crop(inputs_S), wanted)
        of_id = augment(candidate.question, puzzles.ids.augmentation(puzzle_id))
        np.testing.assert_array_equal(of_id, wanted)


def test_tasks_that_are_trained_on_whole_are_not_asked():
    tasks = [Task("t", *[(Pair(*np.ones((2, 1, 1), np.uint8)),)] * 2)]
    questions = ArcPuzzles(tasks, puzzle_ids(tasks, 0, 0), ((2, 2),)).questions(None)
    assert (questions.count, questions.plain, questions.board_R.tolist()) == (0, [], [])
    judge = questions.judge()
    assert judge.scores(np.zeros(0)) == {
        "candidates": 0, "tasks": 0, "test_inputs": 0, "votes": 0, "per_task": {},
    }  # fmt: skip
    assert (judge.submission(), judge.answers()) == ({}, [])


def test_truths(puzzles):
    """Under every augmentation the truth is right, and each token of it counts the same."""
    questions = puzzles.questions(None)
    row_N = np.arange(questions.count)
    predicted_NxS = np.array(
        [
            to_tokens(augment(c.truth, from_vector(c.augmentation_A)), 5)
            for c in map(questions.candidate, row_N)
        ]
    )
    truth_NxS, scored_NxS = questions.truths(row_N)
    np.testing.assert_array_equal(truth_NxS, predicted_NxS, strict=True)
    assert (cell_accuracy(predicted_NxS, truth_NxS, scored_NxS) == 1).all()
    outside_NxS = np.where(predicted_NxS == 0, 7, predicted_NxS)  # PAD is not scored
    assert (cell_accuracy(outside_NxS, truth_NxS, scored_NxS) == 1).all()
    scored_N = (predicted_NxS != 0).sum(axis=1)
    predicted_NxS[:, 0] = 12
    accuracy_N = cell_accuracy(predicted_NxS, truth_NxS, scored_NxS)
    np.testing.assert_allclose(accuracy_N, 1 - 1 / scored_N)


def test_a_hidden_truth_is_not_scored(puzzles):
    hidden = [dataclasses.replace(t, tests=(Pair(t.tests[0].input, None),)) for t in puzzles.tasks]
    questions = ArcPuzzles(hidden, puzzles.ids, ((5, 5),)).questions(0)
    truth_NxS, scored_NxS = questions.truths(np.arange(3))
    assert not truth_NxS.any()
    assert not scored_NxS.any()
    assert questions.candidate(0).truth is None
    assert np.isnan(cell_accuracy(truth_NxS, truth_NxS, scored_NxS)).all()


# --- windows of the canvas -----------------------------------------------------------------------
def of_shapes(*shapes):
    """Pairs of blank grids, given (height, width) of input and output, None where it is hidden."""
    return tuple(Pair(*(None if x is None else np.zeros(x, np.uint8) for x in p)) for p in shapes)


def test_first_windows_hold_the_question_and_an_output_as_expected():
    task = Task(
        "t",
        of_shapes(((2, 2), (3, 6)), ((3, 3), (2, 5))),  # no rule: 3 x 6 is the largest
        of_shapes(((2, 3), None), ((9, 2), None), ((12, 1), None)),
    )
    rows = np.array([[0, 0, 1], [0, 1, 1], [0, 2, 1], [0, 0, 2]])
    assert first_windows([task], rows, (4, 7, 10, 12)).tolist() == [1, 2, 3, 1]
    assert first_windows([task], rows, (12,)).tolist() == [0, 0, 0, 0]
    task = dataclasses.replace(task, role="evaluate")
    boards = ((4, 4), (7, 7), (10, 10), (12, 12))
    questions = ArcPuzzles([task], puzzle_ids([task], 0, 0), boards).questions(None)
    assert questions.board_R.tolist() == [1, 2, 3]
    for row, (side, _) in enumerate(boards[1:]):
        assert questions.rows(np.array([row]), (side, side))[0].shape == (1, side**2)


@pytest.mark.parametrize(
    ("shown", "asked", "expected"),
    [
        ([((2, 2), (2, 2)), ((9, 7), (9, 7))], (4, 5), (4, 5)),  # as large as the input
        ([((2, 2), (6, 1)), ((3, 4), (9, 2))], (5, 6), (15, 3)),  # 3 times as high, half as wide
        ([((2, 2), (3, 3)), ((9, 7), (3, 3))], (4, 5), (3, 3)),  # always the same
        ([((9, 9), (3, 3))], (6, 12), (2, 3)),  # both: a third, and always 3
        ([((2, 2), (4, 1)), ((3, 3), (5, 2))], (9, 9), (5, 2)),  # neither: the largest
        ([((2, 2), None), ((3, 3), (6, 6))], (4, 4), (6, 6)),  # what is hidden says nothing
        ([((2, 2), None)], (4, 5), (0, 0)),
        ([], (4, 5), (0, 0)),
    ],
)
def test_the_expected_shape_of_an_answer(shown, asked, expected):
    (test,) = of_shapes((asked, None))
    assert expected_shape(Task("t", of_shapes(*shown), (test,)), test) == expected


def test_nearly_all_answers_have_the_expected_shape_or_a_smaller_one():
    tasks = load_source("arc1/evaluation")
    fits = [
        all(
            np.less_equal(
                test.output.shape, np.maximum(expected_shape(task, test), test.input.shape)
            )
        )
        for task in tasks
        for test in task.tests
    ]
    assert np.mean(fits) > 0.97


def test_what_touches_the_border():
    tokens = np.ones((6, 3, 3), np.uint8)
    tokens[0, :2, :2] = 5  # closed by EOS
    tokens[1, :, 0] = 5
    tokens[2, 0] = 5
    tokens[3, :2, :2] = tokens[3, 2, 2] = 5  # a colour beyond the EOS is no part of the answer
    tokens[4] = 0
    tokens[5] = 11
    reaches = [False, True, True, False, False, True]
    assert touches_border(tokens.reshape(6, 9), 3).tolist() == reaches
    (task,) = load_tasks((), ("arc1/training",), ("25d8a9c8",))
    ids = puzzle_ids([task], 0, 0)
    questions = ArcPuzzles([task], ids, ((3, 3), (4, 4))).questions(None)
    assert questions.reaches_border(tokens.reshape(6, 9), (3, 3)).tolist() == reaches
    full = np.full((2, 16), 5, np.uint8)
    assert not questions.reaches_border(full, (4, 4)).any()  # nothing is outside of the whole
