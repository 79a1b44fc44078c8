"""Puzzle ids of a published list: what is adopted, and what is refused."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import augmentations, grids

from drm_jax.errors import InputError
from drm_jax.puzzles.arc.augment import Augmentation, augment, augmented_name, puzzle_ids
from drm_jax.puzzles.arc.identifiers import adopt_identifiers, parse_names, read_identifiers
from drm_jax.puzzles.arc.puzzles import ArcPuzzles
from drm_jax.puzzles.arc.tasks import Pair, Task

BOARDS = ((3, 3),)
GRID = np.array([[1, 2], [3, 4]], np.uint8)


def task(name: str, role: str = "evaluate", grid: np.ndarray = GRID) -> Task:
    return Task(name, (Pair(grid, grid),), (Pair(grid, None),), "here", role)


def names_of(ids) -> list[str]:
    """What a dataset with these ids would have published."""
    return ["<blank>"] + [
        augmented_name(ids.task_id(i), ids.augmentation(i)) for i in range(1, len(ids))
    ]


@given(st.lists(st.text(st.characters(exclude_characters="|")), unique=True, max_size=4).flatmap(
    lambda names: st.tuples(*(st.builds(task, st.just(name), grid=grids(4)) for name in names))
), st.integers(0, 6), st.randoms(use_true_random=False))  # fmt: skip
def test_drawn_ids_that_are_written_and_adopted_augment_the_same(tasks, count, random):
    tasks = [t for t in tasks if t.id != "<blank>"]
    drawn = puzzle_ids(tasks, count, seed=0)
    names = names_of(drawn)
    names[1:] = random.sample(names[1:], len(names) - 1)  # a list may be in any order
    names = json.loads(json.dumps(names))
    adopted = adopt_identifiers(names, tasks, "list")
    assert names_of(adopted) == names
    assert adopted.task_ids == drawn.task_ids
    assert (adopted.transform.dtype, adopted.colours.dtype) == (np.uint8, np.uint8)
    assert adopted.task[0] == -1
    for k, _ in enumerate(tasks):
        grid = tasks[k].tests[0].input
        made = [
            {augment(grid, ids.augmentation(i)).tobytes() for i in ids.of_task[k]}
            for ids in (adopted, drawn)
        ]
        assert made[0] == made[1]
        assert not augmented_name("", adopted.augmentation(adopted.of_task[k][0]))


@given(st.text(st.characters(exclude_characters="|")), augmentations())
def test_names_round_trip(task_id, augmentation):
    (parsed_id,), (transform,), (colours,) = parse_names(
        [augmented_name(task_id, augmentation)], "list"
    )
    assert (parsed_id, transform) == (task_id, augmentation.transform)
    np.testing.assert_array_equal(colours, augmentation.colours, strict=True)


LIST = ["<blank>", "b|||t3|||0213456789", "other", "b", "a", "other|||t1|||0123456789",
        "b|||t0|||0321456789"]  # fmt: skip
TASKS = [task("a", "train"), task("b")]


def test_ids_from_a_published_list():
    """Positions are kept, those of a task that isn't loaded too; the identity comes first."""
    ids = adopt_identifiers(LIST, TASKS, "list")
    assert ids.task_ids == ("a", "b")
    assert ids.task.tolist() == [-1, 1, -1, 1, 0, -1, 1]
    assert [of.tolist() for of in ids.of_task] == [[4], [3, 1, 6]]
    assert ids.task_id(1) == "b"
    assert (ids.transform[1], ids.transform[5]) == (3, 1)
    for puzzle_id in (0, 2, 5):
        with pytest.raises(ValueError, match=f"puzzle id {puzzle_id} is of no task"):
            ids.task_id(puzzle_id)


def test_only_identities_are_plain():
    without = [name for name in LIST if name != "b"]
    for names, puzzle_ids_of_b, plain in ((LIST, [3, 1], [0]), (without, [1, 5], [])):
        ids = adopt_identifiers(names, TASKS, "list")
        questions = ArcPuzzles(TASKS, ids, BOARDS).questions(num_augmentations=1)
        asked = [questions.candidate(row) for row in range(questions.count)]
        assert [candidate.puzzle_id for candidate in asked] == puzzle_ids_of_b
        assert questions.plain == plain


def test_puzzles_are_named_by_their_tasks():
    ids = adopt_identifiers(LIST, TASKS, "list")
    names = [ArcPuzzles(TASKS, ids, BOARDS).puzzle_name(i) for i in range(len(LIST))]
    assert names == ["", "b", "", "b", "a", "", "b"]  # "": blank, or of no task that is loaded


def test_a_list_of_the_same_augmentations_for_other_tasks_is_another_stream():
    swapped = [{"a": "b", "b": "a"}.get(name, name) for name in LIST]
    one, other = (adopt_identifiers(names, TASKS, "list") for names in (LIST, swapped))
    np.testing.assert_array_equal(one.colours, other.colours)
    digests = {ArcPuzzles(TASKS, ids, BOARDS).training_digest() for ids in (one, other)}
    assert len(digests) == 2


# --- HRM's form -------------------------------------------------------------------------------
def test_a_list_in_hrms_form_is_the_same_list():
    tasks = [task("a_t1"), task("b"), task("1d_fill_0"), task("c_t1_012345678")]
    names = ["<blank>", *(augmented_name(t.id, each) for t in tasks for each in (
        Augmentation(), Augmentation(1), Augmentation(7, np.array([0, 9, *range(1, 9)], np.uint8))
    ))]  # fmt: skip
    of_hrm = [name.replace("|||", "_") for name in names]
    assert of_hrm[2:4] == ["a_t1_t1_0123456789", "a_t1_t7_0912345678"]
    ours, theirs = (adopt_identifiers(each, tasks, "list") for each in (names, of_hrm))
    for name in ("task", "transform", "colours"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), strict=True)


def test_a_list_is_in_one_of_the_two_forms():
    """A task may have a name that ends like one of HRM's."""
    tasks = [task("a"), task("a_t1_0213456789")]
    names = ["<blank>", "a", "a|||t1|||0213456789", "a_t1_0213456789"]
    assert adopt_identifiers(names, tasks, "list").task.tolist() == [-1, 0, 0, 1]


def test_names_of_tasks_that_are_not_loaded_are_counted():
    said = []
    adopt_identifiers(LIST, TASKS, "list", said.append)
    assert said == [
        "data.identifiers: 2 of 6 names are of tasks that are not loaded, such as 'other'"
    ]
    said.clear()
    names = ["<blank>", "b", "a", "other_t1_021345678", "b_t1", "a_1", "a_20250417"]
    adopt_identifiers(names, TASKS, "list", said.append)
    assert said == [
        "data.identifiers: 4 of 6 names are of tasks that are not loaded, such as "
        "'other_t1_021345678'"
    ]


# --- what is refused ---------------------------------------------------------------------------
def test_a_list_in_a_form_that_is_not_known_is_refused_and_shown():
    message = (
        r"^list: has no entry of task a .*2 such of 2 tasks.* \(its last entry is 'b-t2-02'\)$"
    )
    with pytest.raises(InputError, match=message):
        adopt_identifiers(["<blank>", "a-t1-01", "b-t2-02"], TASKS, "list")


@pytest.mark.parametrize(
    "name",
    ["b_t1_021345678", "b_T1_0213456789", "b-t1-0213456789", "b|t1|0213456789", "b:t1:0213456789",
     "b_t1_02134567899", "b__t12__0213456789", "b_1_0213456789", "b_t1_021345678x",
     "b||t1||0213456789", "b t1 0213456789"],
)  # fmt: skip
def test_what_looks_like_an_augmentation_of_a_loaded_task_is_refused(name):
    message = f"list: entry 3: {name!r} looks like an augmentation of task b, and is in none"
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        adopt_identifiers(["<blank>", "b", "a", name], TASKS, "list")


def test_a_list_in_both_forms_is_refused():
    names = ["<blank>", "a", "b", "a_t1_0213456789", "a|||t2|||0123456789"]
    with pytest.raises(InputError, match=r"entry 3: 'a_t1_0213456789' .* of which a list has one"):
        adopt_identifiers(names, TASKS, "list")


def test_a_loaded_task_without_an_entry_is_named():
    message = r"^list: has no entry of task c \(here; 2 such of 4 tasks\): leave it out .* sources"
    with pytest.raises(InputError, match=message):
        adopt_identifiers(LIST, [*TASKS, task("c"), task("d", "train")], "list")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ('["<blank>", "a', "not valid JSON: Unterminated string"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff\xfe", "not a text file in UTF-8"),
        ("null", "expected a list of at least one name"),
        ('{"0": "<blank>"}', "expected a list of at least one name"),
        ("[]", "expected a list of at least one name"),
        ('["<blank>", "a", 3]', "entry 2 is 3, not a name"),
        ('["<blank>", ["a"]]', "entry 1 is ['a'], not a name"),
        ('["<blank>", null]', "entry 1 is None, not a name"),
        ('["a", "<blank>"]', "entry 0 is 'a', not <blank>"),
        ('["<blank>", "a", "b", "a"]', "entries 1 and 3 are both 'a'"),
        ('["<blank>", "<blank>"]', "entries 0 and 1 are both '<blank>'"),
    ],
)
def test_a_file_that_is_no_list_of_names(tmp_path, text, words):
    path = tmp_path / "ids.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as error:
        read_identifiers(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert words in message
    assert message.endswith(
        "use the identifiers.json that the dataset was published with, unchanged"
    )
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a|||t3", "neither TASK nor TASK|||tN|||DIGITS"),
        ("a|||t3|||0123456789|||", "neither TASK nor"),
        ("a|||t1|||0123456789|||t2|||0123456789", "neither TASK nor"),
        ("a|||t8|||0123456789", "no transform 't8', only t0 to t7"),
        ("a|||t-|||0123456789", "no transform 't-'"),
        ("a|||x3|||0123456789", "no transform 'x3'"),
        ("a|||t10|||0123456789", "no transform 't10'"),
        ("a||||t3|||0123456789", "no transform '|t3'"),
        ("a|||t3|||012345678", "'012345678' is not a permutation of the digits 0 to 9"),
        ("a|||t3|||01234567899", "'01234567899' is not a permutation"),
        ("a|||t3|||0123456788", "'0123456788' is not a permutation"),
        ("a|||t3|||012345678٩", "'012345678٩' is not a permutation"),
        ("a|||t3|||01234567 9", "'01234567 9' is not a permutation"),
        ("a|||t3|||1023456789", "it moves colour 0"),
    ],
)
def test_a_malformed_name_is_named_with_its_entry(name, words):
    with pytest.raises(InputError) as error:
        adopt_identifiers(["<blank>", "b", "b|||t3|||0213456789", name, "a"], TASKS, "list")
    assert str(error.value).startswith(f"list: entry 3, {name!r}: ")
    assert words in str(error.value)
    assert str(error.value).endswith("published with, unchanged")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a_t8_0123456789", "no transform 't8'"),
        ("a_t1_0123456788", "'0123456788' is not a permutation"),
        ("a_t1_1023456789", "it moves colour 0"),
    ],
)
def test_a_malformed_name_in_hrms_form_is_shown_as_it_is(name, words):
    with pytest.raises(InputError) as error:
        adopt_identifiers(["<blank>", "a", name, "b"], TASKS, "list")
    assert str(error.value).startswith(f"list: entry 2, {name!r}: ")
    assert words in str(error.value)


def test_a_drawn_identity_keeps_the_plain_name():
    assert augmented_name("abc", Augmentation()) == "abc"
