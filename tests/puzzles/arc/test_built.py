"""Datasets of arrays that TRM's or HRM's code builds, as sources of ARC tasks."""

import json
from pathlib import Path

import numpy as np
import pytest

from drm_jax.errors import InputError
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tasks import Task, load_source
from drm_jax.puzzles.arc.tokens import to_tokens

RNG = np.random.default_rng(0)
COLOURS = np.array([0, 2, 1, 3, 4, 5, 6, 7, 8, 9], np.uint8)
TASKS = {
    "aa": {"train": [((3, 4), (2, 2)), ((30, 30), (1, 30))], "test": [((5, 5), (5, 6))]},
    "bb_t1": {"train": [((1, 1), (30, 1))], "test": [((2, 3), (3, 2)), ((4, 4), (4, 4))]},
    "cc": {"train": [((7, 2), (7, 2)), ((8, 8), (3, 3))], "test": [((9, 9), (2, 9))]},
}
EVALUATION = ("bb_t1",)
AUGMENTED = {"trm": "|||t3|||0213456789", "hrm": "_t3_0213456789"}


def made() -> dict[str, dict[str, list]]:
    def grid(shape):
        return RNG.integers(0, 10, shape).astype(np.uint8)

    return {
        task: {part: [(grid(i), grid(o)) for i, o in pairs] for part, pairs in parts.items()}
        for task, parts in TASKS.items()
    }


def write_split(folder: Path, puzzles: list[tuple[int, list]], canvas: int, moves: bool) -> None:
    """As the builders do: all but one example of a puzzle move, input and output alike."""
    arrays = {"inputs": [], "labels": [], "puzzle_indices": [0], "puzzle_identifiers": []}
    for puzzle_id, pairs in puzzles:
        stays = RNG.integers(len(pairs))
        for number, pair in enumerate(pairs):
            sizes = np.max([grid.shape for grid in pair], axis=0)
            room = canvas - sizes + 1 if moves and number != stays else np.ones(2, int)
            offset = tuple(RNG.integers(0, room).tolist())
            for name, grid in zip(("inputs", "labels"), pair, strict=True):
                arrays[name].append(to_tokens(grid, canvas, offset))
        arrays["puzzle_indices"].append(len(arrays["inputs"]))
        arrays["puzzle_identifiers"].append(puzzle_id)
    arrays["group_indices"] = [0, *range(2, len(puzzles) + 1, 2)]
    folder.mkdir(parents=True)
    for name, rows in arrays.items():
        kind = np.uint8 if name in ("inputs", "labels") else np.int32
        np.save(folder / f"all__{name}.npy", np.array(rows, kind))
    (folder / "dataset.json").write_text(json.dumps({"seq_len": canvas**2, "sets": ["all"]}))


def write_dataset(folder: Path, tasks: dict, form: str, canvas: int = 30) -> None:
    """Each task and one augmentation of it; tests of evaluation tasks in test/."""
    names, splits = ["<blank>"], {"train": [], "test": []}
    for task, parts in tasks.items():
        of_split = {"train": parts["train"], "test": parts["test"]}
        if task not in EVALUATION:
            of_split = {"train": parts["train"] + parts["test"]}
        for tail in ("", AUGMENTED[form]):
            names.append(task + tail)
            for split, pairs in of_split.items():
                changed = [tuple(np.rot90(COLOURS[g], 3) for g in pair) for pair in pairs]
                splits[split].append((len(names) - 1, changed if tail else pairs))
    for split, puzzles in splits.items():
        if puzzles:
            write_split(folder / split, puzzles, canvas, moves=split == "train")
    (folder / "identifiers.json").write_text(json.dumps(names))
    (folder / "test_puzzles.json").write_text("{}")


def assert_pairs(found, expected) -> None:
    assert len(found) == len(expected)
    for pair, (question, answer) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(pair.input, question)
        np.testing.assert_array_equal(pair.output, answer)


@pytest.mark.parametrize("form", AUGMENTED)
def test_tasks_are_read_back(form, tmp_path):
    tasks, folder = made(), tmp_path / "arc1concept-aug-1"
    write_dataset(folder, tasks, form)
    found: dict[str, Task] = {task.id: task for task in load_source(str(folder))}
    assert sorted(found) == sorted(tasks)
    for name, task in found.items():
        parts = tasks[name]
        tests = parts["test"] if name in EVALUATION else []
        demonstrations = parts["train"] + ([] if tests else parts["test"])
        assert_pairs(task.demonstrations, demonstrations)
        assert_pairs(task.tests, tests)
    assert [task.id for task in load_source(f"{folder}/train")] == ["aa", "cc"]
    assert [task.id for task in load_source(f"{folder}/test/")] == ["bb_t1"]


@pytest.mark.parametrize("form", AUGMENTED)
def test_a_run_takes_tasks_and_puzzle_ids_of_one_dataset(form, tmp_path):
    write_dataset(tmp_path / "d", made(), form)
    family = Arc(
        train=(f"{tmp_path}/d/train",),
        evaluate=(f"{tmp_path}/d/test",),
        identifiers=f"{tmp_path}/d/identifiers.json",
    )
    puzzles = family.load(0, {"identifiers.json": tmp_path / "d/identifiers.json"})
    assert puzzles.num_ids == 1 + 2 * len(TASKS)
    assert len(puzzles.questions(None).plain) == 2


def test_a_smaller_canvas(tmp_path):
    tasks = {"aa": {"train": [(np.ones((3, 3), np.uint8),) * 2], "test": []}}
    write_dataset(tmp_path / "d", tasks, "trm", canvas=4)
    assert_pairs(load_source(f"{tmp_path}/d")[0].demonstrations, tasks["aa"]["train"])


def change(name: str, edit):
    def apply(folder: Path) -> None:
        array = np.load(folder / name)
        np.save(folder / name, edit(array))

    return apply


def with_token(value: int, place: int = -1):
    def edit(array: np.ndarray) -> np.ndarray:
        array[0, place] = value
        return array

    return edit


WRONG = {
    "no labels": (lambda f: (f / "train/all__labels.npy").unlink(), "all__labels.npy: is missing"),
    "no names": (lambda f: (f / "identifiers.json").unlink(), "identifiers.json: can't be read"),
    "other puzzles": (
        lambda f: (f / "identifiers.json").write_text('["<blank>"]'), "of Sudoku or mazes, not of"),
    "no list": (lambda f: (f / "identifiers.json").write_text("{}"), "expected a list of names"),
    "indices": (change("train/all__puzzle_indices.npy", lambda x: x[:-1]), "don't fit together"),
    "floats": (change("train/all__inputs.npy", lambda x: x * 1.0), "must hold whole numbers"),
    "a row too few": (change("train/all__labels.npy", lambda x: x[:-1]), "don't fit together"),
    "MASK": (change("train/all__inputs.npy", with_token(12)), "row 0: not the tokens of a grid"),
    "no rectangle": (
        change("train/all__inputs.npy", with_token(5)), "row 0: its colours are no rectangle"),
    "no square": (lambda f: [change(f"train/all__{n}.npy", lambda x: x[:, :890])(f)
                             for n in ("inputs", "labels")], "890 tokens are no square canvas"),
    "empty": (change("train/all__inputs.npy", lambda x: x * 0), "row 0: not the tokens of a grid"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong(case, tmp_path):
    make, words = WRONG[case]
    write_dataset(tmp_path / "d", made(), "trm")
    make(tmp_path / "d")
    with pytest.raises(InputError) as raised:
        load_source(f"{tmp_path}/d")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
