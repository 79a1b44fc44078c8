"""Runs with the puzzle ids of a published list: they need only their own copy of it."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from workdirs import quiet

from drm_jax.config import Experiment
from drm_jax.errors import InputError
from drm_jax.io import checkpoint
from drm_jax.io.files import work_path
from drm_jax.puzzles.arc.augment import augmented_name, puzzle_ids
from drm_jax.puzzles.arc.roles import load_tasks
from drm_jax.run.dry_run import dry_run
from drm_jax.run.evaluation import evaluate_workdir
from drm_jax.run.loop import train
from drm_jax.run.setup import set_up
from drm_jax.run.workdir import claim


@pytest.fixture(scope="module")
def names(tiny) -> list[str]:
    """A list in another order than ours, with a task that the run doesn't load."""
    data = tiny.data
    ids = puzzle_ids(load_tasks(data.train, data.evaluate, data.only), 3, seed=9)
    names = [augmented_name(ids.task_id(i), ids.augmentation(i)) for i in range(1, len(ids))]
    return ["<blank>", "other", *reversed(names), "other|||t3|||0213456789"]


def with_list(tiny: Experiment, path, names: list[str]) -> Experiment:
    path.write_text(json.dumps(names))
    return dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, identifiers=str(path)))


def longer(experiment: Experiment, steps: int) -> Experiment:
    return dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, steps=steps))


@pytest.fixture(scope="module")
def finished(tiny, names, tmp_path_factory):
    """(experiment, work directory, report) of two steps; the list is gone since."""
    folder = tmp_path_factory.mktemp("adopted")
    experiment = longer(with_list(tiny, folder / "list.json", names), 2)
    workdir = work_path(folder / "run")
    report = train(experiment, workdir, quiet())
    (folder / "list.json").unlink()
    return experiment, workdir, report


def test_a_run_with_a_list_goes_on_without_it(finished, names, tmp_path):
    experiment, before, report = finished
    assert report.setup.puzzles.num_ids == len(names)
    assert report.evaluations[-1].metrics["candidates"] == 12
    assert json.loads((before / "identifiers.json").read_text()) == names
    workdir = work_path(tmp_path / "moved")
    shutil.copytree(before, workdir)
    again = evaluate_workdir(workdir, None, quiet())
    assert again.evaluations[-1].metrics == report.evaluations[-1].metrics
    console = quiet()
    dry_run(longer(experiment, 3), workdir, console)
    assert "would go on from the checkpoint of step 2" in console.file.getvalue()
    train(longer(experiment, 3), workdir, quiet())
    assert checkpoint.steps_in(workdir / "checkpoints")[-1] == 3


def test_rows_of_tasks_that_are_not_loaded_are_left_alone(finished, names):
    experiment, workdir, report = finished
    from drm_jax.training.state import abstract_state

    target = abstract_state(report.setup.make_state, report.setup.shardings)
    table = np.asarray(checkpoint.restore(workdir, 2, target).state.table)
    trained = {names[i].split("|||")[0] for i in np.flatnonzero(table.any(axis=1))}
    assert trained
    assert trained <= set(experiment.data.only)


def test_a_list_that_has_changed_is_refused(finished, names, tmp_path):
    experiment, before, _ = finished
    workdir = work_path(tmp_path / "run")
    shutil.copytree(before, workdir)
    changed = with_list(experiment, tmp_path / "list.json", [*names, "more"])
    for job in (train, dry_run):
        with pytest.raises(InputError, match=r"^data\.identifiers: .*list\.json: is not the file"):
            job(changed, workdir, quiet())
    same = with_list(experiment, tmp_path / "list.json", names)
    assert set_up(same, workdir=workdir).puzzles.num_ids == len(names)
    # A copy and a list that changed together are found by the fingerprint of the data.
    swapped = [names[0], names[3], names[2], names[1], *names[4:]]
    (workdir / "identifiers.json").write_text(json.dumps(swapped))
    with pytest.raises(InputError, match="have changed since step 2"):
        evaluate_workdir(workdir, None, quiet())


def test_a_missing_list_is_named(finished, tmp_path):
    experiment, _, _ = finished
    with pytest.raises(InputError, match=r"^data\.identifiers: .*list\.json: no such file"):
        train(experiment, work_path(tmp_path / "new"), quiet())
    assert not (tmp_path / "new").exists()


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
def test_the_copy_may_lie_in_a_bucket(tiny, names, tmp_path, gcs_folder):
    workdir = work_path(gcs_folder)
    experiment = with_list(tiny, tmp_path / "list.json", names)
    claim(workdir, experiment)
    (tmp_path / "list.json").unlink()
    claim(workdir, experiment)  # again, as a start that goes on does
    assert set_up(experiment, workdir=workdir).puzzles.num_ids == len(names)
    changed = with_list(tiny, tmp_path / "list.json", names[:-1])
    with pytest.raises(InputError, match=r"is not the file that the run in gs://"):
        set_up(changed, workdir=workdir)
