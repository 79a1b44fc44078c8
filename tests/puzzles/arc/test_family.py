"""The options of the family, what it refuses to load, and its symmetries on boards of tokens."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import augmentations, grids

from drm_jax.errors import InputError, UsageError
from drm_jax.puzzles.arc.augment import Augmentation, augment, from_vector
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tokens import EOS, MASK, PAD, grid_sizes, pad_outside, to_tokens

ARC = Arc()


def test_boards_and_vocabulary():
    assert Arc(canvas=7).boards == ((7, 7),)
    assert Arc(canvas="fit", windows=(4, 9)).boards == ((4, 4), (9, 9))
    assert (ARC.vocabulary.size, ARC.vocabulary.mask, MASK) == (12, 12, 12)
    assert ARC.headline == "pass@2"
    assert ARC.kept_files == {}
    assert Arc(identifiers="a/ids.json").kept_files == {"identifiers.json": "a/ids.json"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"canvas": 1}, "data.canvas: must be int >= 2, not 1"),
        ({"canvas": 31}, "data.canvas: must be int <= 30, not 31"),
        ({"canvas": "full"}, "data.canvas: must be one of fit or int, not 'full'"),
        ({"canvas": True}, "data.canvas"),
        ({"windows": ()}, "data.windows: must be sides from small to large"),
        ({"windows": (4, 4)}, "data.windows: must be sides from small to large"),
        ({"windows": (9, 31)}, "data.windows: must be int <= 30, not (9, 31)"),
        ({"num_augmentations": -1}, "data.num_augmentations: must be int >= 0, not -1"),
        (
            {"num_augmentations": 8 * 362_880},
            "data.num_augmentations: must be int <= 2903039, not 2903040",
        ),
        ({"train": (), "evaluate": ()}, "data.train: name at least one source of tasks"),
        ({"train": "arc1"}, "data.train: must be a tuple, not 'arc1'"),
        ({"leaks": "keep"}, "data.leaks: must be one of refuse, drop, not 'keep'"),
        ({"rows_per_task": 0}, "data.rows_per_task: must be int >= 1, not 0"),
        (
            {"rows_per_task": 3, "identifiers": "ids.json"},
            "data.rows_per_task: goes with drawn augmentations, not with those of data.identifiers",
        ),
    ],
)
def test_options_that_can_not_be(options, words):
    with pytest.raises(UsageError) as error:
        Arc(**options)
    assert str(error.value).startswith(words)


PAIR = {"input": [[1, 2, 3]], "output": [[2], [1]]}


def written(tmp_path, task) -> str:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(task))
    return str(path)


def test_what_can_not_be_loaded(tmp_path):
    source = written(tmp_path, {"train": [PAIR], "test": [{"input": [[4]]}]})
    message = (
        f"task t ({source}): a grid has 3 cells along a side, more than {{}}; leave it out with "
        "data.unfit (drop_pairs or drop_tasks), or choose others with data.only"
    )
    for options, name in (
        ({"canvas": 2}, "data.canvas 2"),
        ({"canvas": "fit", "windows": (2,)}, "data.windows' 2"),
    ):
        with pytest.raises(InputError) as error:
            Arc((source,), (), **options).load(0, {})
        assert str(error.value) == message.format(name)
    shown = written(tmp_path, {"train": [PAIR], "test": [PAIR]})
    message = "data.train, data.evaluate: there is no pair to train on ({})"
    why = "data.leaks: left out 1 pair giving away an evaluation test"
    with pytest.raises(InputError, match=f"^{re.escape(message.format(why))}$"):
        Arc((), (shown,), leaks="drop").load(0, {})
    why = "data.unfit: left out 1 task: a grid larger than the canvas: 1"
    for sources in (((source,), ()), ((), (source,))):
        with pytest.raises(InputError, match=f"^{re.escape(message.format(why))}$"):
            Arc(*sources, canvas=2, unfit="drop_tasks").load(0, {})


def test_ids_are_drawn_from_the_seed_or_adopted(tmp_path):
    source = written(tmp_path, {"train": [PAIR], "test": [{"input": [[4]]}]})
    family = Arc((), (source,), canvas=3, num_augmentations=4)
    one, same, other = (family.load(seed, {}) for seed in (0, 0, 1))
    assert one.training_digest() == same.training_digest() != other.training_digest()
    assert (one.num_ids, one.variants_G.tolist()) == (6, [5])
    assert one.describe() == "1 task (1 with held-out tests), 5 puzzle ids"
    trained = Arc((source,), (), canvas=3, num_augmentations=4, rows_per_task=2)
    assert trained.load(0, {}).variants_G.tolist() == [2]
    names = ["<blank>", "other", "t|||t3|||0213456789", "t"]
    (tmp_path / "copy").write_text(json.dumps(names))
    adopting = Arc((), (source,), canvas=3, identifiers="elsewhere.json")
    puzzles = adopting.load(0, {"identifiers.json": tmp_path / "copy"})
    assert [puzzles.puzzle_name(i) for i in range(4)] == ["", "", "t", "t"]


# --- symmetries of boards ------------------------------------------------------------------------
def vector(augmentation: Augmentation) -> np.ndarray:
    return np.array([augmentation.transform, *augmentation.colours], np.uint8)


@given(hnp.arrays(np.uint8, (3, 4), elements=st.integers(0, 255)), augmentations())
def test_undo_inverts_augment_on_any_tokens(tokens_HxW, augmentation):
    changed = ARC.augment(tokens_HxW, vector(augmentation))
    np.testing.assert_array_equal(ARC.undo(changed, vector(augmentation)), tokens_HxW, strict=True)
    for token in (PAD, EOS, MASK):  # they move along
        assert (changed == token).sum() == (tokens_HxW == token).sum()


@given(grids(6), augmentations())
def test_a_board_under_a_symmetry_shows_the_augmented_grid(grid, augmentation):
    plain = to_tokens(grid, max(grid.shape)).reshape(max(grid.shape), -1)[: len(grid)]
    changed = ARC.augment(plain[:, : grid.shape[1]], vector(augmentation))
    np.testing.assert_array_equal(changed - 2, augment(grid, augmentation))


def test_vectors_and_names_of_symmetries():
    augmentation = Augmentation(3, np.array([0, 2, 1, *range(3, 10)], np.uint8))
    read = from_vector(vector(augmentation))
    assert read.transform == 3
    np.testing.assert_array_equal(read.colours, augmentation.colours)
    assert ARC.augmentation_name(vector(augmentation)) == "t3 0213456789"
    assert ARC.augmentation_words(vector(augmentation)) == "turned right, colours 0213456789"
    plain = vector(Augmentation())
    assert (ARC.augmentation_name(plain), ARC.augmentation_words(plain)) == ("", "as it is")
    assert ARC.augmentation_words(vector(Augmentation(6))) == "transposed"


# --- the rectangle, in numpy and in jax ----------------------------------------------------------
@pytest.mark.parametrize("side", [1, 2, 5, 9])
def test_jax_finds_the_rectangle_of_numpy(side):
    rng = np.random.default_rng(side)
    tokens_BxS = rng.integers(0, 14, (200, side**2)).astype(np.uint8)
    tokens_BxS[::2] = np.where(rng.random((100, side**2)) < 0.9, 5, tokens_BxS[::2])
    for function in (grid_sizes, pad_outside):
        expected = function(tokens_BxS)
        assert isinstance(expected, np.ndarray)
        for computed in (function, jax.jit(function)):
            found = computed(jnp.asarray(tokens_BxS))
            assert isinstance(found, jax.Array)
            np.testing.assert_array_equal(found, expected)
    assert pad_outside(tokens_BxS).dtype == jax.jit(pad_outside)(tokens_BxS).dtype == np.uint8


def test_outside_of_the_answer_is_padded():
    board = np.array([[3, 4, 1, 7], [5, 6, 1, 7], [1, 1, 9, 7], [8, 8, 8, 8]], np.uint8)
    kept = [[3, 4, 1, 0], [5, 6, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert pad_outside(board.reshape(1, -1)).reshape(4, 4).tolist() == kept
    board[0, 0] = EOS  # no grid at all: a 0x0 one has no cell, and no line that closes it
    assert not pad_outside(board.reshape(1, -1)).any()


def test_what_was_left_out_is_noted(tmp_path):
    large = {"input": [[1] * 5], "output": [[2]]}
    source = written(tmp_path, {"train": [PAIR, large], "test": [PAIR], "arc-gen": [PAIR]})
    for options, note in (
        ({"canvas": 4}, "a grid larger than the canvas: 1"),
        ({"canvas": "fit", "windows": (3, 4)}, "a grid larger than the canvas: 1"),
    ):
        puzzles = Arc((source,), (), unfit="drop_pairs", **options).load(0, {})
        assert puzzles.examples_G.tolist() == [2]
        assert puzzles.notes == (
            "1 pair under 'arc-gen' of 1 task are not read, only those under 'train' and 'test'",
            f"data.unfit: left out 1 pair of 1 task: {note}",
        )


def test_a_list_of_ids_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Arc(identifiers="~/ids.json").kept_files == {"identifiers.json": f"{tmp_path}/ids.json"}
