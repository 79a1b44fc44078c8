"""Whole runs at a tiny size: train, stop, go on, evaluate."""

import collections
import dataclasses
import errno
import itertools
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import jax
import nan_method
import numpy as np
import pytest
from rich.progress import Progress
from workdirs import log_lines, quiet, saved

from drm_jax.config import from_json, to_json, with_changes
from drm_jax.errors import InputError, StoppedError, UsageError
from drm_jax.io import checkpoint
from drm_jax.io.files import work_path
from drm_jax.puzzles.arc import voting
from drm_jax.run import scorer, start
from drm_jax.run.checkpoints import list_checkpoints
from drm_jax.run.evaluation import evaluate_ensemble, evaluate_workdir
from drm_jax.run.loop import train
from drm_jax.run.setup import set_up, training_stream
from drm_jax.run.workdir import check_claim


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """A run that was never stopped."""
    workdir = work_path(tmp_path_factory.mktemp("runs") / "straight")
    console = quiet()
    report = train(tiny, workdir, console)
    return workdir, report, console.file.getvalue()


def test_a_run_leaves_what_it_says(tiny, finished):
    workdir, report, _ = finished
    for path in report.paths:
        assert path.exists(), path
    names = {path.name for path in report.paths}
    assert {"metrics.json", "submission.json", "denoising.png", "metrics.jsonl"} <= names
    assert from_json((workdir / "config.json").read_text()) == tiny
    lines = log_lines(workdir)
    assert [(line["step"], line["kind"]) for line in lines] == [
        (2, "train"), (4, "train"), (4, "eval"),
    ]  # fmt: skip
    assert np.isfinite(lines[0]["loss"])
    metrics = json.loads((workdir / "eval" / "step_4" / "metrics.json").read_text())
    assert metrics["checkpoint_step"] == 4
    assert {"pass@1", "pass@2", "solved@2"} <= set(metrics)
    assert (metrics["votes"], "pass@5" in metrics) == (4, False)
    assert (metrics["tasks"], metrics["test_inputs"], metrics["candidates"]) == (2, 3, 12)
    submission = json.loads((workdir / "eval" / "step_4" / "submission.json").read_text())
    assert {name: len(entries) for name, entries in submission.items()} == {
        "25d8a9c8": 1, "44f52bb0": 2,
    }  # fmt: skip
    assert set(submission["25d8a9c8"][0]) == {"attempt_1", "attempt_2"}


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tiny, finished, tmp_path):
    """Stopped at step 2 and continued with the same command: bit for bit the same."""
    straight, _, _ = finished
    workdir = work_path(tmp_path / "stopped")
    shutil.copytree(straight, workdir)
    shutil.rmtree(workdir / "checkpoints" / "4")
    shutil.rmtree(workdir / "eval")
    console = quiet()
    train(tiny, workdir, console)
    assert "Going on from the checkpoint of step 2" in console.file.getvalue()
    jax.tree.map(np.testing.assert_array_equal, saved(workdir, tiny, 4), saved(straight, tiny, 4))
    assert log_lines(workdir) == log_lines(straight)
    for name in ("metrics.json", "submission.json"):
        again, first = (w / "eval" / "step_4" / name for w in (workdir, straight))
        assert again.read_text() == first.read_text()


def test_an_evaluation_that_was_cut_off_is_made_again(tiny, finished, tmp_path, monkeypatch):
    """What is scored is saved first, so the training up to there is not lost either."""
    straight, _, _ = finished
    workdir = work_path(tmp_path / "cut")

    def cut_off(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(scorer, "write_evaluation", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train(tiny, workdir, quiet())
    assert checkpoint.steps_in(workdir / "checkpoints") == [2, 4]
    assert [line["kind"] for line in log_lines(workdir)] == ["train", "train"]
    console = quiet()
    train(tiny, workdir, console)
    assert "Going on from the checkpoint of step 4" in console.file.getvalue()
    assert log_lines(workdir) == log_lines(straight)
    assert (workdir / "eval" / "step_4" / "metrics.json").exists()


def test_evaluating_a_work_directory_gives_the_same_scores(finished):
    workdir, report, _ = finished
    again = evaluate_workdir(workdir, None, quiet())
    assert again.evaluations[-1].metrics == report.evaluations[-1].metrics
    assert again.evaluations[-1].submission == report.evaluations[-1].submission
    changes = {"evaluate.batch_size": 8}
    smaller = evaluate_workdir(workdir, None, quiet(), changes=changes).evaluations[-1]
    assert smaller.metrics["evaluate"]["batch_size"] == 8
    assert smaller.metrics["per_task"] == report.evaluations[-1].metrics["per_task"]
    assert smaller.submission == report.evaluations[-1].submission
    earlier = evaluate_workdir(workdir, 2, quiet())
    assert earlier.evaluations[-1].step == 2
    with pytest.raises(InputError, match="no checkpoint of step 3"):
        evaluate_workdir(workdir, 3, quiet())


def files(folder) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_an_ensemble_pools_the_votes_of_its_checkpoints(tiny, tmp_path, monkeypatch):
    """Each checkpoint's own score is that of its own evaluation, whose files are left alone."""
    config = dataclasses.replace(tiny.train, steps=3, checkpoint_every=1, keep_last=3)
    workdir = work_path(tmp_path)
    train(dataclasses.replace(tiny, seed=1, train=config), workdir, quiet())
    ballots = {}
    submission = voting.submission

    def count(ballot, tasks, **choice):
        votes = {(q, a): n.votes for q, answers in ballot.items() for a, n in answers.items()}
        ballots[len(ballots)] = collections.Counter(votes)
        return submission(ballot, tasks, **choice)

    monkeypatch.setattr(voting, "submission", count)
    alone = [evaluate_workdir(workdir, step, quiet()).evaluations[0] for step in (1, 2, 3)]
    before, console = files(workdir), quiet()
    report = evaluate_ensemble(workdir, [3, 1, 2], console)
    assert "Ensemble of the checkpoints of steps 1, 2, 3 in" in console.file.getvalue()
    *each, together = report.evaluations
    assert [e.metrics for e in each] == [e.metrics for e in alone]
    assert [e.submission for e in each] == [e.submission for e in alone]
    assert ballots[0] != ballots[2]  # else pooling them would show nothing
    assert ballots[6] == ballots[0] + ballots[1] + ballots[2]
    after, folder = files(workdir), workdir / "eval" / "steps_1_2_3"
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {str(path) for path in report.paths}
    assert {path.name for path in report.paths} == {
        "metrics.json", "submission.json", "denoising_step_3.png", "answers.json.gz",
        "trajectories.npz",
    }  # fmt: skip
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(
        json.dumps(together.metrics)
    )
    picture = (workdir / "eval" / "step_3" / "denoising.png").read_bytes()
    assert (folder / "denoising_step_3.png").read_bytes() != picture  # attempts of pooled votes
    evaluate_ensemble(workdir, [1, 2, 3], quiet())  # again, over what is there
    assert files(workdir) == after
    assert checkpoint.newest_steps(workdir, 2) == [2, 3]
    with pytest.raises(InputError, match=r"not 4 checkpoints, only those of steps 1, 2, 3$"):
        checkpoint.newest_steps(workdir, 4)


def test_a_finished_run_only_scores_again(tiny, finished):
    workdir, _, _ = finished
    before = log_lines(workdir)
    train(tiny, workdir, quiet())
    assert log_lines(workdir)[: len(before)] == before
    assert (workdir / "checkpoints" / "4").exists()


def test_another_configuration_is_refused(tiny, finished, tmp_path):
    workdir, _, _ = finished
    model = dataclasses.replace(tiny.model, hidden=32)
    with pytest.raises(UsageError, match=r"--model\.hidden was 16, is 32"):
        train(dataclasses.replace(tiny, model=model), workdir, quiet())
    longer = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, steps=6))
    copy = work_path(tmp_path / "longer")
    shutil.copytree(workdir, copy)
    assert check_claim(copy, longer)  # more steps may be asked for
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file: name a folder"):
        check_claim(work_path(tmp_path / "file"), tiny)


@pytest.mark.parametrize("log_every", [1, 1000])
def test_a_nan_is_named_with_its_step_and_never_saved(tiny, tmp_path, log_every):
    """However late it is noticed, the step that made it is named; the last good state is kept."""
    config = dataclasses.replace(tiny.train, steps=400, log_every=log_every, checkpoint_every=5)
    nan = with_changes(tiny, {"method": "nan_method:NanDrm"})
    experiment = dataclasses.replace(nan, train=config)
    setup = set_up(experiment)
    stream = training_stream(setup)
    bad = next(i for i in itertools.count() if (stream[i]["level"] > nan_method.HIGH).any())
    assert 10 < bad + 1 < 100
    workdir, good = work_path(tmp_path), bad // 5 * 5
    match = (
        rf"^step {bad + 1}: not finite: loss, gradient, gradient of the puzzle rows, "
        rf"params/.* and \d+ more; tasks of its batch: .* the checkpoint of step {good} is kept"
    )
    with pytest.raises(InputError, match=match):
        train(experiment, workdir, quiet())
    report = json.loads((workdir / "not_finite.json").read_text())
    assert report["step"] == bad + 1
    assert report["puzzle_ids"] == stream[bad]["puzzle_id"].tolist()
    assert report["tasks"] == sorted({setup.puzzles.puzzle_name(i) for i in report["puzzle_ids"]})
    assert checkpoint.steps_in(workdir / "checkpoints") == [good - 5, good]
    state = saved(workdir, experiment, good)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    logged = [line["step"] for line in log_lines(workdir)]
    assert logged == (list(range(1, bad + 1)) if log_every == 1 else [])


def test_a_stop_that_comes_after_a_step_is_heard_at_the_next(tiny, tmp_path, monkeypatch):
    """Ctrl-C between a step's chance to save and its end: what is said to be saved is saved."""
    update, config = Progress.update, dataclasses.replace(tiny.train, checkpoint_every=100)

    def stop_after_one(bar, task, **more):
        if more.get("completed") == 1:
            signal.raise_signal(signal.SIGINT)
        update(bar, task, **more)

    monkeypatch.setattr(Progress, "update", stop_after_one)
    with pytest.raises(StoppedError, match=r"^stopped; step 2 is saved in"):
        train(dataclasses.replace(tiny, train=config), work_path(tmp_path), quiet())
    assert checkpoint.steps_in(work_path(tmp_path) / "checkpoints") == [2]


def test_a_stop_does_not_hide_that_the_save_failed(tiny, tmp_path, monkeypatch):
    """Ctrl-C during an evaluation, while what is scored is still being saved."""
    stopped, rename = threading.Event(), os.rename

    def full(source, target, **more):
        if os.path.basename(target) == "4":
            stopped.wait(600)
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(source, target, **more)

    def stop(*_):
        stopped.set()
        raise StoppedError("stopped")

    monkeypatch.setattr(os, "rename", full)
    monkeypatch.setattr(scorer, "evaluate", stop)
    with pytest.raises(InputError, match=r"no space left .* the checkpoint of step 2 is intact"):
        train(tiny, work_path(tmp_path), quiet())


def test_a_grid_larger_than_the_canvas_is_named(tiny):
    data = dataclasses.replace(tiny.data, canvas=2)
    with pytest.raises(InputError, match=r"task 25d8a9c8 .* more than data.canvas 2"):
        set_up(dataclasses.replace(tiny, data=data))


def test_a_batch_must_split_over_the_devices(tiny):
    uneven = dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, batch_size=6))
    with pytest.raises(UsageError, match=r"train\.batch_size: 6 examples can't be split over 4"):
        set_up(uneven)


def test_hidden_outputs_are_answered_but_not_scored(tiny, finished, tmp_path):
    """A Kaggle challenge without solutions: a submission, and no score."""
    from drm_jax.puzzles.arc.tasks import load_source

    (task,) = (t for t in load_source("arc1/training") if t.id == "25d8a9c8")
    challenge = {
        task.id: {
            "train": [
                {"input": p.input.tolist(), "output": p.output.tolist()}
                for p in task.demonstrations
            ],
            "test": [{"input": p.input.tolist()} for p in task.tests],
        }
    }
    (tmp_path / "k_challenges.json").write_text(json.dumps(challenge))
    data = dataclasses.replace(tiny.data, evaluate=(str(tmp_path / "k"),), only=())
    train_config = dataclasses.replace(tiny.train, steps=1)
    experiment = dataclasses.replace(tiny, data=data, train=train_config)
    report = train(experiment, work_path(tmp_path / "run"), quiet())
    assert "pass@1" not in report.evaluations[-1].metrics
    assert len(report.evaluations[-1].submission[task.id]) == 1
    assert to_json(experiment) == (tmp_path / "run" / "config.json").read_text()


# --- beginning with another run's weights ---
def test_init_from_takes_the_weights_and_gives_every_row_the_old_mean(tiny, finished, tmp_path):
    other, _, _ = finished
    data = dataclasses.replace(tiny.data, only=("25d8a9c8", "0d3d703e"))
    config = dataclasses.replace(tiny.train, steps=2, checkpoint_every=1, keep_last=9)
    experiment = dataclasses.replace(tiny, data=data, train=config, init_from=str(other))
    workdir, console = work_path(tmp_path / "new"), quiet()
    train(experiment, workdir, console)
    assert "Beginning with the weights of step 4 of" in console.file.getvalue()
    assert checkpoint.steps_in(workdir / "checkpoints") == [0, 1, 2]
    before, new = saved(other, tiny, 4), saved(workdir, experiment, 0)
    for part in ("params", "ema", "constants"):
        jax.tree.map(np.testing.assert_array_equal, getattr(new, part), getattr(before, part))
    assert new.step == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(new.opt_state))
    old_ids, new_ids = (set_up(x).puzzles.num_ids for x in (tiny, experiment))
    mean_D = before.table[1:old_ids].mean(axis=0)
    assert np.abs(mean_D).max() > 0
    np.testing.assert_allclose(new.table[1:new_ids], np.tile(mean_D, (new_ids - 1, 1)), rtol=1e-5)
    assert not new.table[0].any()
    assert not new.table[new_ids:].any()


def test_a_run_begun_from_another_needs_that_one_no_more(tiny, finished, tmp_path):
    other = work_path(tmp_path / "other")
    shutil.copytree(finished[0], other)
    config = dataclasses.replace(tiny.train, keep_last=3)
    experiment = dataclasses.replace(tiny, init_from=str(other), train=config)
    for name in ("straight", "stopped"):
        train(experiment, work_path(tmp_path / name), quiet())
    shutil.rmtree(other)
    stopped = work_path(tmp_path / "stopped")
    for step in (2, 4):
        shutil.rmtree(stopped / "checkpoints" / str(step))
    train(experiment, stopped, quiet())  # from the checkpoint of step 0
    states = [saved(tmp_path / name, experiment, 4) for name in ("straight", "stopped")]
    jax.tree.map(np.testing.assert_array_equal, *states)
    with pytest.raises(UsageError, match=r"--init-from was '.*other', is None"):
        train(tiny, stopped, quiet())


def test_init_from_refuses_a_deeper_network(tiny):
    deep = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, layers=2))
    shapes = checkpoint.leaf_shapes(jax.eval_shape(set_up(deep).make_state))
    record = {"shapes": shapes, "trained_on": []}
    with pytest.raises(InputError, match=r"ema/layer_1/\S+ is float32 .* would be missing here"):
        start._check_other(set_up(tiny), work_path("other"), record)


def test_init_from_refuses_what_can_not_be_used(tiny, finished, tmp_path):
    other, _, _ = finished

    def refuse(message, **changes):
        experiment = dataclasses.replace(tiny, **{"init_from": str(other), **changes})
        with pytest.raises((UsageError, InputError), match=message) as error:
            train(experiment, work_path(tmp_path / "new"), quiet())
        assert "\n" not in str(error.value)
        shutil.rmtree(tmp_path / "new", ignore_errors=True)

    refuse("init_from: .*holds no checkpoint", init_from=str(tmp_path / "nowhere"))
    model = dataclasses.replace(tiny.model, hidden=32)
    refuse(r"constants/y_init is float32 \(16\) there, and would be float32 \(32\)", model=model)
    whole = dataclasses.replace(tiny.data, train=("arc1/training",), evaluate=())
    trained = dataclasses.replace(tiny, data=whole, train=dataclasses.replace(tiny.train, steps=1))
    train(trained, work_path(tmp_path / "trained"), quiet())  # on the test pairs too
    refuse(
        r"was trained on a test pair of evaluation task 25d8a9c8 \(2 such tasks\)",
        init_from=str(tmp_path / "trained"),
    )
    # …  nor by a detour over a third run
    begun = dataclasses.replace(trained, init_from=str(tmp_path / "trained"))
    train(begun, work_path(tmp_path / "begun"), quiet())
    refuse("was trained on a test pair", init_from=str(tmp_path / "begun"))


def test_a_damaged_checkpoint_is_passed_over_unless_strict(tiny, finished, tmp_path):
    straight, _, _ = finished
    workdir = work_path(tmp_path / "damaged")
    shutil.copytree(straight, workdir)
    file = max((workdir / "checkpoints" / "4" / "state" / "d").iterdir(), key=os.path.getsize)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"checkpoints/4.*damaged.*without --strict"):
        train(tiny, workdir, quiet(), strict=True)
    with pytest.raises(InputError, match=r"checkpoints/4.*damaged.*without --strict"):
        evaluate_workdir(workdir, None, quiet(), strict=True)
    with pytest.raises(InputError, match=r"checkpoints/4.*damaged"):
        evaluate_workdir(workdir, 4, quiet())  # asked for by name: nothing else will do
    with pytest.raises(InputError, match=r"checkpoints/4.*damaged.*an ensemble needs all"):
        evaluate_ensemble(workdir, [2, 4], quiet())
    assert not (workdir / "eval" / "steps_2_4").exists()
    console = quiet()
    assert evaluate_workdir(workdir, None, console).evaluations[-1].step == 2
    assert not list_checkpoints(workdir, console)
    assert "NO: damaged" in console.file.getvalue()
    console = quiet()
    train(tiny, workdir, console)
    for text in ("The checkpoint of step 2 is used instead", f"Set aside: {workdir}/damaged/4"):
        assert text in console.file.getvalue()
    jax.tree.map(np.testing.assert_array_equal, saved(workdir, tiny, 4), saved(straight, tiny, 4))
    assert log_lines(workdir) == log_lines(straight)
    console = quiet()
    assert list_checkpoints(workdir, console)
    assert console.file.getvalue().count("yes") == 2


# --- a work directory in a bucket ---
@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
def test_a_work_directory_in_a_bucket(tiny, finished, gcs_folder):
    """Logs are copied at each save, and a stopped run goes on as on a disk."""
    straight, report, _ = finished
    workdir, console = work_path(gcs_folder), quiet()
    train(tiny, workdir, console)
    names = {path.name for path in workdir.iterdir()}
    assert {"config.json", "metrics.jsonl", "tensorboard", "checkpoints", "eval"} <= names
    assert log_lines(workdir) == log_lines(straight)
    assert len(list((workdir / "tensorboard").iterdir())) == 1
    (workdir / "checkpoints" / "4" / "commit_success.txt").unlink()  # cut off before its end
    console = quiet()
    train(tiny, workdir, console)
    said = console.file.getvalue()
    assert "checkpoints/4: damaged: a save that was cut off" in said
    assert "Going on from the checkpoint of step 2" in said
    assert log_lines(workdir) == log_lines(straight)
    assert len(list((workdir / "tensorboard").iterdir())) == 2
    again = evaluate_workdir(workdir, None, quiet())
    assert again.evaluations[-1].metrics == report.evaluations[-1].metrics
    console = quiet()
    assert list_checkpoints(workdir, console)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_bucket_that_can_not_be_used_is_named(tiny, fake_gcs, gcs_folder, status):
    fake_gcs.denied[gcs_folder.parts[2]] = status
    with pytest.raises(InputError, match=r"gs://.*can't be used: .*does the bucket exist") as error:
        train(tiny, work_path(gcs_folder), quiet())
    assert "\n" not in str(error.value)
