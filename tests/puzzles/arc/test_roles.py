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
