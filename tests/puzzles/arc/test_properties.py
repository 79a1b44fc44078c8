"""What holds for every grid, augmentation, canvas of tokens, ballot and file of tasks."""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import JSON, TEXT, augmentations, damaged, damaged_text, grids

from drm_jax.errors import InputError
from drm_jax.puzzles.arc.augment import (
    IDENTITY_COLOURS,
    Augmentation,
    augment,
    augmented_name,
    distinct_augmentations,
    hash_augmented,
    hash_tables,
    puzzle_ids,
    undo,
)
from drm_jax.puzzles.arc.judge import plain_grids
from drm_jax.puzzles.arc.tasks import Pair, Task, load_source, parse_grid, parse_task
from drm_jax.puzzles.arc.tokens import EOS, FIRST_COLOUR, MASK, PAD, crop, grid_sizes, to_tokens
from drm_jax.puzzles.arc.voting import submission, truth_ranks
from drm_jax.puzzles.voting import cast_vote, ranked


# --- tokens ------------------------------------------------------------------------------------
@st.composite
def layouts(draw: st.DrawFn) -> tuple[np.ndarray, int, tuple[int, int]]:
    """(grid, canvas that holds it, offset at which it still fits)."""
    grid = draw(grids())
    canvas = draw(st.integers(max(grid.shape), 30))
    return grid, canvas, tuple(draw(st.integers(0, canvas - side)) for side in grid.shape)


@given(layouts())
def test_crop_inverts_layout(layout):
    grid, canvas, _ = layout
    np.testing.assert_array_equal(crop(to_tokens(grid, canvas)), grid, strict=True)


@given(layouts())
def test_an_offset_shifts_all_tokens(layout):
    grid, canvas, (row, col) = layout
    shifted = to_tokens(grid, canvas, (row, col)).reshape(canvas, canvas)
    expected = np.full((canvas, canvas), PAD, np.uint8)
    corner = to_tokens(grid, canvas).reshape(canvas, canvas)
    expected[row:, col:] = corner[: canvas - row, : canvas - col]
    np.testing.assert_array_equal(shifted[row:, col:][: grid.shape[0], : grid.shape[1]], grid + 2)
    ends = sum(side for side, far in zip(grid.shape, (col + grid.shape[1], row + grid.shape[0]))
               if far < canvas)  # fmt: skip
    assert (shifted == EOS).sum() == ends
    np.testing.assert_array_equal(shifted, expected)


def largest_rectangle(tokens_CxC: np.ndarray) -> tuple[int, int]:
    """By trying all: of the largest areas, the first by height."""
    colour = (tokens_CxC >= FIRST_COLOUR) & (tokens_CxC < MASK)
    sides = range(1, len(colour) + 1)
    found = [(h, w) for h, w in itertools.product(sides, sides) if colour[:h, :w].all()]
    return max(found, key=lambda size: size[0] * size[1], default=(0, 0))


@st.composite
def canvases(draw: st.DrawFn) -> np.ndarray:
    """Tokens (C, C) of which many are colours, so that rectangles are there."""
    canvas = draw(st.integers(1, 7))
    token = st.integers(0, 12) | st.integers(2, 11) | st.sampled_from([13, 255])
    return draw(hnp.arrays(np.uint8, (canvas, canvas), elements=token, fill=st.integers(2, 11)))


@settings(max_examples=200)
@given(canvases())
def test_crop_is_the_largest_anchored_rectangle(tokens_CxC):
    height, width = largest_rectangle(tokens_CxC)
    assert tuple(grid_sizes(tokens_CxC.reshape(1, -1))[0]) == (height, width)
    grid = crop(tokens_CxC.reshape(-1))
    np.testing.assert_array_equal(grid, tokens_CxC[:height, :width] - 2, strict=True)


# --- augmentation ------------------------------------------------------------------------------
@given(grids(), augmentations())
def test_undo_inverts_augment_and_augment_undo(grid, augmentation):
    np.testing.assert_array_equal(undo(augment(grid, augmentation), augmentation), grid)
    np.testing.assert_array_equal(augment(undo(grid, augmentation), augmentation), grid)


SMALL_PAIRS = st.builds(Pair, grids(2, 4), st.none() | grids(2, 4))
SMALL_TASKS = st.builds(
    Task,
    id=st.text("abc", max_size=2),
    demonstrations=st.lists(SMALL_PAIRS, min_size=1, max_size=3).map(tuple),
    tests=st.just(()),
    role=st.just("evaluate"),
)


def augmented_pairs(pairs, augmentation: Augmentation) -> list[Pair]:
    def made(grid):
        return None if grid is None else augment(grid, augmentation)

    return [Pair(made(pair.input), made(pair.output)) for pair in pairs]


def pair_set(pairs, augmentation: Augmentation) -> list[bytes]:
    """The augmented pairs themselves, in no order; equal ones count as often as they stand."""
    return sorted(pair.key for pair in augmented_pairs(pairs, augmentation))


def hashes(pairs, augmentations_N) -> np.ndarray:
    transform_N = np.array([a.transform for a in augmentations_N], np.uint8)
    colours_Nx10 = np.array([a.colours for a in augmentations_N])
    return hash_augmented(hash_tables(pairs), transform_N, colours_Nx10)


EVERY_SMALL = [
    Augmentation(transform, np.array([0, *order, *range(4, 10)], np.uint8))
    for transform in range(8)
    for order in itertools.permutations(range(1, 4))
]


@given(SMALL_TASKS)
def test_hashes_are_equal_where_the_augmented_tasks_are(task):
    """All 48 augmentations that move three colours: the same classes by hash and by the grids."""
    pairs = task.demonstrations
    by_grids = [tuple(pair_set(pairs, a)) for a in EVERY_SMALL]
    by_hash = hashes(pairs, EVERY_SMALL).tolist()
    classes = len(set(by_grids))
    assert len(set(by_hash)) == classes
    assert len(set(zip(by_grids, by_hash))) == classes


@given(SMALL_TASKS, SMALL_TASKS, augmentations(3))
def test_hashes_tell_tasks_apart(one, other, augmentation):
    ours, theirs = one.demonstrations, other.demonstrations
    same = pair_set(ours, Augmentation()) == pair_set(theirs, augmentation)
    assert (hashes(ours, [Augmentation()]) == hashes(theirs, [augmentation])).item() == same


@given(SMALL_TASKS, augmentations())
def test_the_hash_is_that_of_the_augmented_grids_in_any_order(task, augmentation):
    made = augmented_pairs(task.demonstrations, augmentation)
    expected = hashes(made[::-1], [Augmentation()])
    assert hashes(task.demonstrations, [augmentation]) == expected


@given(SMALL_TASKS, st.integers(0, 30), st.integers(0, 9))
def test_distinct_augmentations_differ_and_begin_with_the_identity(task, count, seed):
    transform_A, colours_Ax10 = distinct_augmentations(task, count, seed)
    made = [Augmentation(int(t), c) for t, c in zip(transform_A, colours_Ax10, strict=True)]
    assert 1 <= len(made) <= 1 + count
    assert augmented_name("x", made[0]) == "x"
    assert len({tuple(pair_set(task.demonstrations, a)) for a in made}) == len(made)
    np.testing.assert_array_equal(np.sort(colours_Ax10), np.tile(IDENTITY_COLOURS, (len(made), 1)))


# --- voting ------------------------------------------------------------------------------------
CANVAS = 3
ANSWERS = grids(CANVAS, 3)
QUESTIONS = [np.array([[1, 2]], np.uint8), np.array([[1], [2]], np.uint8)]  # of the same bytes
TRUTH = np.array([[1]], np.uint8)
TASKS = [
    Task(name, (Pair(QUESTIONS[0], TRUTH),), tuple(Pair(q, TRUTH) for q in QUESTIONS))
    for name in ("a", "b")
]
IDS = puzzle_ids(TASKS, 6, seed=0)
# (puzzle id, which question, any tokens or an answer, halting logit)
CANDIDATES = st.lists(
    st.tuples(
        st.integers(0, len(IDS) - 1),
        st.integers(0, 1),
        hnp.arrays(np.uint8, CANVAS * CANVAS, elements=st.integers(0, 12))
        | ANSWERS.map(lambda grid: to_tokens(grid, CANVAS)),
        st.integers(-3, 3),
    ),
    max_size=12,
)


def ballot_of(candidates, ballot=None) -> dict:
    ballot = {} if ballot is None else ballot
    if candidates:
        puzzle_id_B, question_B, predictions_BxS, q_halt_B = zip(*candidates)
        ways = [IDS.augmentation(i) for i in puzzle_id_B]
        grids = plain_grids(np.array(predictions_BxS), (CANVAS, CANVAS), ways)
        score_B = 1 / (1 + np.exp(-np.array(q_halt_B, float)))
        for i, q, grid, score in zip(puzzle_id_B, question_B, grids, score_B, strict=True):
            if i != 0:
                cast_vote(ballot, IDS.task_id(i), QUESTIONS[q], grid, score)
    return ballot


def expected_votes(candidates) -> Counter:
    """(task, question, grid) of each candidate but those of the blank id."""
    return Counter(
        (IDS.task_id(i), q, repr(undo(crop(tokens), IDS.augmentation(i)).tolist()))
        for i, q, tokens, _ in candidates
        if i != 0
    )


@given(CANDIDATES)
def test_every_candidate_is_one_vote(candidates):
    ballot = ballot_of(candidates)
    votes = {
        (task.id, q, repr(answer.grid.tolist())): answer.votes
        for task in TASKS
        for q, question in enumerate(QUESTIONS)
        for answer in ranked(ballot, task.id, question)
    }
    assert votes == expected_votes(candidates)
    assert len(ballot) == len({key[:2] for key in votes})


def tally(ballot) -> dict:
    """{(task, question): {grid: (votes, mean score)}}."""
    return {
        key: {grid: (a.votes, pytest.approx(a.score)) for grid, a in answers.items()}
        for key, answers in ballot.items()
    }


@given(CANDIDATES.flatmap(lambda c: st.tuples(st.just(c), st.permutations(c))))
def test_the_order_of_candidates_decides_nothing_but_ties(both):
    """Answers stand by (votes, mean score), equal ones in first-seen order; without cells, last."""
    candidates, shuffled = both
    ballot = ballot_of(candidates)
    assert tally(ballot) == tally(ballot_of(shuffled))
    first_seen = {id(a): n for answers in ballot.values() for n, a in enumerate(answers.values())}
    for task, question in itertools.product(TASKS, QUESTIONS):
        answers = ranked(ballot, task.id, question)
        order = [
            (not a.grid.size, -a.votes, -a.score_sum / a.votes, first_seen[id(a)]) for a in answers
        ]
        assert order == sorted(order)


@given(CANDIDATES, st.integers(0, 12))
def test_batches_of_candidates_make_one_ballot(candidates, cut):
    parts = ballot_of(candidates[cut:], ballot_of(candidates[:cut]))
    whole = ballot_of(candidates)
    for task, question in itertools.product(TASKS, QUESTIONS):
        one, two = (ranked(ballot, task.id, question) for ballot in (parts, whole))
        assert [(a.votes, a.score, a.grid.tolist()) for a in one] == [
            (a.votes, a.score, a.grid.tolist()) for a in two
        ]


@given(CANDIDATES, st.integers(1, 4))
def test_submissions_are_well_formed(candidates, attempts):
    """Every test input has all attempts: grids with cells, the best ones, or that of the sample."""
    ballot = ballot_of(candidates)
    made = submission(ballot, TASKS, attempts)
    assert json.loads(json.dumps(made)) == made
    assert list(made) == [task.id for task in TASKS]
    for task in TASKS:
        for question, entry in zip(QUESTIONS, made[task.id], strict=True):
            assert list(entry) == [f"attempt_{i + 1}" for i in range(attempts)]
            proposed = [a.grid.tolist() for a in ranked(ballot, task.id, question) if a.grid.size]
            proposed = proposed or [[[0, 0], [0, 0]]]
            expected = (proposed + [proposed[0]] * attempts)[:attempts]
            assert list(entry.values()) == expected
            for grid in entry.values():
                assert max(parse_grid(grid, "a file").shape) <= CANVAS


@given(CANDIDATES)
def test_the_rank_of_the_truth_is_its_place(candidates):
    ballot = ballot_of(candidates)
    for task in TASKS:
        for question, rank in zip(QUESTIONS, truth_ranks(ballot, task), strict=True):
            grids = [a.grid.tolist() for a in ranked(ballot, task.id, question)]
            assert rank == (grids.index(TRUTH.tolist()) if TRUTH.tolist() in grids else None)


# --- tasks from files --------------------------------------------------------------------------
PAIR = {"input": [[1, 2]], "output": [[2], [1]]}
TASK = {"train": [PAIR, PAIR], "test": [PAIR, {"input": [[0]]}]}


def assert_grid(grid: np.ndarray) -> None:
    assert grid.dtype == np.uint8
    assert grid.ndim == 2
    assert 1 <= min(grid.shape) <= max(grid.shape) <= 30
    assert grid.max() <= 9


def assert_task(task: Task) -> None:
    assert task.id.isprintable()
    assert task.demonstrations  # a task may be without tests, for training alone
    for pair in task.demonstrations + task.tests:
        assert_grid(pair.input)
        if pair.output is not None:
            assert_grid(pair.output)
    assert all(pair.output is not None for pair in task.demonstrations)
    assert len(puzzle_ids([task], 1, seed=0)) >= 2


def outcome(read, *args):
    try:
        return read(*args)
    except InputError as error:
        return error


def refused(result, where: str) -> bool:
    """Whether a file was refused: in one line that begins with its name."""
    if not isinstance(result, InputError):
        return False
    assert str(result).startswith(where)
    assert len(str(result).splitlines()) == 1
    return True


@settings(max_examples=300)
@given(JSON | damaged(TASK), TEXT)
def test_any_json_value_is_a_task_or_refused(value, task_id):
    result = outcome(parse_task, value, task_id, "t.json")
    if not refused(result, "t.json"):
        assert_task(result)


@example([[True]])
@given(JSON | damaged([[1, 2, 3], [0, 9, 0]]))
def test_any_json_value_is_a_grid_or_refused(value):
    result = outcome(parse_grid, value, "t.json")
    if not refused(result, "t.json"):
        assert_grid(result)
        assert repr(result.tolist()) == repr(value)  # True == 1, but is no colour


@given(grids())
def test_grids_survive_json(grid):
    read = parse_grid(json.loads(json.dumps(grid.tolist())), "t.json")
    np.testing.assert_array_equal(read, grid, strict=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a folder for one task's file and another for Kaggle's; hypothesis needs it to last."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "tasks").mkdir()
    (folder / "kaggle").mkdir()
    return folder


FILES = (
    st.binary()
    | damaged_text(TASK).map(lambda text: text.encode(errors="surrogatepass"))
    | (JSON | damaged(TASK) | damaged({"a": TASK})).map(lambda v: json.dumps(v).encode())
)


@settings(max_examples=300)
@given(FILES)
def test_any_file_gives_tasks_or_is_refused(folder, content):
    file = folder / "tasks" / "t.json"
    file.write_bytes(content)
    for source in (file, file.parent):
        result = outcome(load_source, str(source))
        if not refused(result, str(file)):
            assert result
            for task in result:
                assert_task(task)


@given(damaged({"a": TASK}) | JSON, damaged({"a": [[[1]], [[2]]]}) | JSON)
def test_any_kaggle_files_give_tasks_or_are_refused(folder, challenges, solutions):
    prefix = folder / "kaggle" / "k"
    Path(f"{prefix}_challenges.json").write_text(json.dumps(challenges))
    Path(f"{prefix}_solutions.json").write_text(json.dumps(solutions))
    result = outcome(load_source, str(prefix))
    if not refused(result, f"{prefix}_"):
        for task in result:
            assert_task(task)
            assert all(pair.output is not None for pair in task.tests)
