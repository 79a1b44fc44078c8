import dataclasses
import json

import numpy as np
import pytest

from drm_jax.errors import InputError
from drm_jax.puzzles.arc.tasks import (
    grids,
    load_source,
    parse_grid,
    smallest_tasks,
    training_pairs,
    visible_pairs,
)

PAIR = {"input": [[1, 2]], "output": [[2], [1]]}
OTHER = {"input": [[3, 2]], "output": [[2], [3]]}
TASK = {"train": [PAIR], "test": [OTHER]}


def write(path, value) -> str:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def test_built_in_sources():
    counts = {
        "arc1": 800, "arc1/training": 400, "arc1/evaluation": 400, "arc2/training": 1000,
        "arc2/evaluation": 120,
    }  # fmt: skip
    for name, count in counts.items():
        assert len(load_source(name)) == count


def test_files_of_every_form_give_the_same_task(tmp_path):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    write(folder / "inner" / "t1.json", TASK)
    hidden = {"train": [PAIR], "test": [{"input": OTHER["input"]}]}
    write(tmp_path / "k_challenges.json", {"t1": hidden})
    write(tmp_path / "k_solutions.json", {"t1": [OTHER["output"]]})
    sources = [
        str(folder),
        str(folder / "inner" / "t1.json"),
        write(tmp_path / "all.json", {"t1": TASK}),
        str(tmp_path / "k"),
        str(tmp_path / "k_challenges.json"),
    ]
    for source in sources:
        (task,) = load_source(source)
        assert task.id == "t1"
        assert [p.key for p in task.tests] == [task.tests[0].key]
        np.testing.assert_array_equal(task.tests[0].output, OTHER["output"])
        np.testing.assert_array_equal(task.demonstrations[0].input, PAIR["input"])


def test_challenges_without_solutions_have_hidden_outputs(tmp_path):
    hidden = {"train": [PAIR], "test": [{"input": [[1]]}]}
    (task,) = load_source(write(tmp_path / "k_challenges.json", {"t": hidden}))
    assert task.tests[0].output is None
    assert len(training_pairs(task)) == 1
    assert len(grids(task)) == 3


def pair_with(grid) -> dict:
    return {"train": [{"input": grid, "output": [[1]]}], "test": [OTHER]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (pair_with([[1, 2], [3]]), r"train\[0\].input: row 1 has 1 cell, but row 0 has 2"),
        (pair_with([]), "an empty list"),
        (pair_with([[]]), "row 0 must be a list of colours"),
        (pair_with([[0] * 31]), "1x31; a side has at most 30"),
        (pair_with([[10]]), "column 0: 10 is not a colour"),
        (pair_with([[-1]]), "-1 is not a colour"),
        (pair_with([[1.5]]), "1.5 is not a colour"),
        (pair_with([[True]]), "true is not a colour"),
        (pair_with([["1"]]), '"1" is not a colour'),
        (pair_with([[[1]]]), r"\[1\] is not a colour"),
        (pair_with([[None]]), "null is not a colour"),
        (pair_with([["1" * 99]]), '"1111111111111111… is not a colour'),
        ({"two\nlines": TASK}, r"task 'two\\nlines': an id must be printable"),
        ({"\ud800": TASK}, r"task '\\ud800': an id must be printable"),
        ('{"train": [{"input": [[NaN]], "output": [[1]]}], "test": []}', "NaN is not a colour"),
        ('{"train": [{"input": [[1' + "0" * 400 + "]]}]}", '"output" is missing'),
        ({"train": [], "test": [OTHER]}, '"train" must be a list of at least one pair'),
        ({"train": [PAIR], "test": None}, '"test" must be a list of pairs'),
        ({"train": [{"input": [[1]]}], "test": [OTHER]}, '"output" is missing'),
        ({"train": [7], "test": [OTHER]}, "expected an object with input and output"),
        ("[]", "expected an object of tasks by id, found an empty list"),
        ("null", "found null"),
        ('{"train": [', "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path, value, message):
    path = write(tmp_path / "bad.json", value)
    with pytest.raises(InputError, match=message) as error:
        load_source(path)
    assert str(error.value).startswith(path)
    assert "\n" not in str(error.value)


def test_a_deep_cell_is_refused():
    cell = []
    for _ in range(100_000):
        cell = [cell]
    with pytest.raises(InputError, match="column 0: a list in lists is not a colour"):
        parse_grid([[cell]], "t.json")


def test_a_byte_order_mark_is_no_harm(tmp_path):
    (tmp_path / "t.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(TASK).encode())
    assert len(load_source(str(tmp_path / "t.json"))) == 1


def test_random_bytes_and_missing_sources(tmp_path):
    (tmp_path / "t.json").write_bytes(bytes(range(128, 256)))
    with pytest.raises(InputError, match="not a text file"):
        load_source(str(tmp_path / "t.json"))
    with pytest.raises(InputError, match="no such source"):
        load_source("arc3")
    (tmp_path / "empty").mkdir()
    (tmp_path / "kaggle").mkdir()
    write(tmp_path / "kaggle" / "x_challenges.json", {"t": TASK})
    with pytest.raises(InputError, match=r"a Kaggle file, not one task; name the source .*/x$"):
        load_source(str(tmp_path / "kaggle"))
    with pytest.raises(InputError, match=r"holds no \.json file"):
        load_source(str(tmp_path / "empty"))


def test_solutions_must_match(tmp_path):
    write(tmp_path / "k_challenges.json", {"t": TASK})
    write(tmp_path / "k_solutions.json", {"t": []})
    with pytest.raises(InputError, match="1 test input, but the solutions hold 0 outputs"):
        load_source(str(tmp_path / "k"))


def test_test_pairs_of_evaluation_tasks_are_never_trained_on():
    task = load_source("arc1/training")[0]
    evaluated = dataclasses.replace(task, role="evaluate")
    assert len(training_pairs(task)) == len(task.demonstrations) + len(task.tests)
    assert training_pairs(evaluated) == evaluated.demonstrations
    shown = visible_pairs(evaluated)
    assert len(shown) == len(task.demonstrations) + len(task.tests)
    assert [pair.output for pair in shown[len(task.demonstrations) :]] == [None] * len(task.tests)


def test_smallest_tasks_of_the_demo():
    tasks = load_source("arc1/training")
    chosen = smallest_tasks(tasks, 6, 1, 8)
    assert [max(g.size for g in grids(t)) for t in chosen] == [9] * 8
    assert sorted(t.id for t in chosen) == [t.id for t in chosen]
    assert sum(len(t.tests) for t in chosen) == 12
    assert smallest_tasks(tasks, 6, 9, 24) == smallest_tasks(tasks, 6, 1, 24)[8:]
