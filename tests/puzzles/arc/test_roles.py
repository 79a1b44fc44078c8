import json

import pytest

from drm_jax.errors import InputError
from drm_jax.puzzles.arc.leaks import find_leaks
from drm_jax.puzzles.arc.roles import load_tasks
from drm_jax.puzzles.arc.tasks import load_source


def test_leaks_are_refused_or_dropped():
    """Two tests of ARC-AGI-1 evaluation tasks stand in training tasks, one of them recoloured."""
    sources = (("arc1/training",), ("arc1/evaluation",))
    message = r"^task 40853293 would train on a test pair of evaluation task 070dd51e \(2 such"
    with pytest.raises(InputError, match=message):
        load_tasks(*sources)
    tasks = {task.id: task for task in load_tasks(*sources, leaks="drop")}
    assert find_leaks(list(tasks.values())) == []
    assert len(tasks) == 800
    whole = {task.id: task for task in load_source("arc1")}
    assert len(tasks["40853293"].demonstrations) == len(whole["40853293"].demonstrations)
    assert tasks["40853293"].tests == ()
    assert len(tasks["caa06a1f"].demonstrations) == len(whole["caa06a1f"].demonstrations) - 1
    assert len(tasks["070dd51e"].tests) == len(whole["070dd51e"].tests)


def test_a_hidden_test_is_refused_or_dropped(tmp_path):
    asked = {"input": [[1, 2, 0]]}
    known = {"input": [[5], [7], [0]], "output": [[5]]}  # the same input, turned and recoloured
    free = {"input": [[1, 1]], "output": [[3]]}
    (tmp_path / "k_challenges.json").write_text(
        json.dumps({"e": {"train": [free], "test": [asked]}})
    )
    (tmp_path / "t.json").write_text(json.dumps({"train": [free, known], "test": [known]}))
    sources = ([str(tmp_path / "t.json")], [str(tmp_path / "k")])
    with pytest.raises(InputError) as error:
        load_tasks(*sources)
    assert str(error.value) == (
        "task t would train on the input of a hidden test of evaluation task e, augmented "
        "(2 such pairs): leave one of the tasks out, or set data.leaks=drop to train without such "
        "pairs"
    )
    evaluated, trained = load_tasks(*sources, leaks="drop")
    assert (len(trained.demonstrations), len(trained.tests)) == (1, 0)
    assert len(evaluated.tests) == 1


def test_an_id_may_stand_once_and_must_exist():
    with pytest.raises(InputError, match="a run needs each id once"):
        load_tasks(["arc1/training"], ["arc1"])
    with pytest.raises(InputError, match="no source holds task 'nope'"):
        load_tasks([], ["arc1"], only=["nope"])


def test_only_says_how_it_is_cleared_and_of_which_source_it_names_nothing(tmp_path):
    one = write(tmp_path / "one", a=([PAIR], [OTHER]))
    two = write(tmp_path / "two", b=([THIRD], [THIRD]))
    with pytest.raises(InputError) as error:
        load_tasks([], [one], only=["a", "x", "y"])
    assert str(error.value) == (
        "data.only: no source holds task 'x' (2 such of 3); an experiment may bring a list of its "
        "own: --data.only without an id clears it"
    )
    said = []
    assert counts(load_tasks([two], [one], only=["a"], say=said.append)) == {"a": (1, 1)}
    assert said == [f"data.only: names no task of data.train {two}"]
    said.clear()
    load_tasks([two], [one], say=said.append)
    assert said == []


# --- what can't be used, and tasks that stand twice ---------------------------------------------
PAIR = {"input": [[1, 2]], "output": [[2], [1]]}
OTHER, THIRD = {"input": [[3, 3]], "output": [[3]]}, {"input": [[4]], "output": [[5, 0, 5]]}
WIDE, RAGGED = ({"input": grid, "output": [[1]]} for grid in ([[0] * 31], [[1], [1, 2]]))


def write(path, **tasks) -> str:
    path.mkdir(exist_ok=True)
    for name, (train, test) in tasks.items():
        (path / f"{name}.json").write_text(json.dumps({"train": train, "test": test}))
    return str(path)


def counts(tasks) -> dict[str, tuple[int, int]]:
    return {task.id: (len(task.demonstrations), len(task.tests)) for task in tasks}


def unfit_source(tmp_path) -> str:
    return write(
        tmp_path / "s",
        a=([PAIR, WIDE, RAGGED], [OTHER]),
        b=([WIDE], [OTHER]),
        c=([PAIR], [WIDE, OTHER]),
        d=([PAIR], [THIRD]),
    )


def test_what_can_not_be_used_is_refused_with_the_option_that_leaves_it_out(tmp_path):
    source = unfit_source(tmp_path)
    for sources in (([source], []), ([], [source])):
        with pytest.raises(InputError) as error:
            load_tasks(*sources)
        assert str(error.value) == (
            f"{source}/a.json: task a: train[1].input: 1x31; a side has at most 30 "
            "(4 such problems in 3 tasks); leave it out with data.unfit (drop_pairs or "
            "drop_tasks), or choose others with data.only"
        )


def test_pairs_or_tasks_are_left_out_on_request(tmp_path):
    source, said = unfit_source(tmp_path), []
    tasks = load_tasks([source], [], unfit="drop_pairs", say=said.append)
    assert counts(tasks) == {"a": (1, 1), "c": (1, 1), "d": (1, 1)}
    assert said == [
        "data.unfit: left out 1 task: a side of more than 30 cells: 1",
        "data.unfit: left out 3 pairs of 2 other tasks: a side of more than 30 cells: 2, "
        "rows of different lengths: 1",
    ]
    said.clear()
    tasks = load_tasks([source], [], unfit="drop_tasks", say=said.append)
    assert counts(tasks) == {"d": (1, 1)}
    assert said == ["data.unfit: left out 3 tasks: a side of more than 30 cells: 3"]


def test_an_evaluation_task_keeps_all_of_its_tests_or_goes(tmp_path):
    tasks = load_tasks([], [unfit_source(tmp_path)], unfit="drop_pairs")
    assert counts(tasks) == {"a": (1, 1), "d": (1, 1)}


def test_the_canvas_counts_too(tmp_path):
    big = {"input": [[1] * 9], "output": [[1]]}
    source, said = write(tmp_path / "s", a=([PAIR, big], [OTHER]), b=([PAIR], [big])), []
    options = {"canvas": ("data.canvas", 8), "say": said.append}
    with pytest.raises(InputError, match=r"a grid has 9 cells .* than data.canvas 8 \(2 such"):
        load_tasks([], [source], **options)
    assert counts(load_tasks([], [source], unfit="drop_pairs", **options)) == {"a": (1, 1)}
    assert said[0] == "data.unfit: left out 1 task: a grid larger than the canvas: 1"


def test_only_is_applied_before_anything_is_checked(tmp_path):
    source = unfit_source(tmp_path)
    (tmp_path / "s" / "e.json").write_text("{")
    assert counts(load_tasks([source], [], only=["d"])) == {"d": (1, 1)}
    with pytest.raises(InputError, match=r"e\.json: not valid JSON"):
        load_tasks([source], [], only=["d", "e"])


def test_tasks_without_tests_are_for_training_alone(tmp_path):
    source = write(tmp_path / "s", a=([PAIR, OTHER], []), b=([PAIR], [THIRD]))
    assert counts(load_tasks([source], [])) == {"a": (2, 0), "b": (1, 1)}
    with pytest.raises(InputError, match=r"task a has no test to answer.* under data\.train"):
        load_tasks([], [source])
    assert counts(load_tasks([], [source], unfit="drop_pairs")) == {"b": (1, 1)}


def test_pairs_that_are_not_read_are_named_once(tmp_path):
    for name in ("a", "b"):
        value = {"train": [PAIR], "test": [OTHER], "arc-gen": [THIRD, THIRD]}
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    said = []
    load_tasks([str(tmp_path)], [], say=said.append)
    assert said == [
        "4 pairs under 'arc-gen' of 2 tasks are not read, only those under 'train' and 'test'"
    ]


def test_equal_tasks_of_one_id_are_one(tmp_path):
    one = write(tmp_path / "one", a=([PAIR, OTHER], [THIRD]), b=([PAIR], [THIRD]))
    two = write(tmp_path / "two", a=([OTHER, PAIR], [THIRD]))
    said = []
    assert counts(load_tasks([one, two], [], say=said.append)) == {"a": (2, 1), "b": (1, 1)}
    assert said == ["data.train: left out 1 task equal to one of the same id"]
    assert len(load_source(str(tmp_path))) == 2


def test_different_tasks_of_one_id_are_refused_or_the_source_named_first_or_last_wins(tmp_path):
    one = write(tmp_path / "one", a=([PAIR], [THIRD]))
    two = write(tmp_path / "two", a=([OTHER], [THIRD]))
    for sources in (([one, two], []), ([], [one, two])):
        with pytest.raises(InputError, match=r"two different tasks of one id, a .*data\.repeated"):
            load_tasks(*sources)
        for repeated, winner in (("first", one), ("last", two)):
            (task,) = load_tasks(*sources, repeated=repeated)
            assert task.source == f"{winner}/a.json"


def test_tasks_of_one_id_within_a_source_are_chosen_by_their_files_and_named(tmp_path):
    for folder, task in (("x", PAIR), ("y", OTHER)):
        write(tmp_path / folder, a=([task], [THIRD]), b=([PAIR], [THIRD]))
    for repeated, winner, loser in (("first", "x", "y"), ("last", "y", "x")):
        said = []
        tasks = load_tasks([str(tmp_path)], [], repeated=repeated, say=said.append)
        assert [task.source for task in tasks] == [f"{tmp_path}/{winner}/{n}.json" for n in "ab"]
        assert said == [
            f"data.train: left out 2 tasks of an id that another one has (data.repeated={repeated})"
            f": a of {tmp_path}/{loser}/a.json, b of {tmp_path}/{loser}/b.json"
        ]


def test_a_task_of_both_roles_is_for_evaluation_if_it_may_be_repeated(tmp_path):
    source, said = write(tmp_path / "one", a=([PAIR], [THIRD])), []
    with pytest.raises(InputError, match=r"\(evaluate\); a run needs each id once \(1 such ids\)"):
        load_tasks([source], [source])
    for repeated in ("first", "last"):
        (task,) = load_tasks([source], [source], repeated=repeated, say=said.append)
        assert task.role == "evaluate"
    assert said[0] == "data.train: left out 1 task of an id that data.evaluate has too"
