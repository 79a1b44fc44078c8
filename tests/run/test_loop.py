"""Whole runs at a tiny size: train, stop, go on, evaluate."""

import dataclasses
import io
import json
import shutil

import jax
import numpy as np
import pytest
from rich.console import Console

from drm_jax.config import from_json, to_json
from drm_jax.data.stream import training_stream
from drm_jax.errors import InputError, UsageError
from drm_jax.io import checkpoint
from drm_jax.io.files import work_path
from drm_jax.run import loop
from drm_jax.run.loop import evaluate_workdir, train
from drm_jax.run.setup import set_up
from drm_jax.run.workdir import check_claim
from drm_jax.train.state import abstract_state


def quiet() -> Console:
    return Console(file=io.StringIO(), width=100)


def saved(workdir, experiment, step):
    setup = set_up(experiment)
    target = abstract_state(setup.make_state, setup.shardings)
    return jax.device_get(checkpoint.restore(workdir, step, target).state)


def log_lines(workdir) -> list[dict]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "examples_per_second"} for line in lines]


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
    assert {"pass@1", "pass@2", "pass@1000", "solved@2"} <= set(metrics)
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
        patched.setattr(loop, "write_evaluation", cut_off)
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
    earlier = evaluate_workdir(workdir, 2, quiet())
    assert earlier.evaluations[-1].step == 2
    with pytest.raises(InputError, match="no checkpoint of step 3"):
        evaluate_workdir(workdir, 3, quiet())


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
def test_a_nan_is_named_with_its_step_and_not_saved(tiny, tmp_path, log_every):
    """However late it is noticed, the step that made it is named."""
    optimizer = dataclasses.replace(tiny.optimizer, learning_rate=1e18, warmup_steps=1)
    config = dataclasses.replace(tiny.train, steps=90, log_every=log_every, checkpoint_every=1000)
    experiment = dataclasses.replace(tiny, optimizer=optimizer, train=config)
    workdir = work_path(tmp_path)
    match = r"^step \d+: not finite: .*; tasks of its batch: .*none was saved before"
    with pytest.raises(InputError, match=match) as error:
        train(experiment, workdir, quiet())
    report = json.loads((workdir / "not_finite.json").read_text())
    step = report["step"]
    assert 1 < step < 80
    assert f"step {step}: not finite: {report['not_finite'][0]}" in str(error.value)
    assert any(name.startswith("params/") for name in report["not_finite"])
    setup = set_up(experiment)
    batch = training_stream(experiment, setup.tasks, setup.ids)[step - 1]
    assert report["puzzle_ids"] == batch["puzzle_id"].tolist()
    assert report["tasks"] == sorted({setup.ids.task_id(i) for i in report["puzzle_ids"]})
    logged = [line["step"] for line in log_lines(workdir)]
    assert logged == (list(range(1, step)) if log_every == 1 else [])


def test_a_state_that_is_not_finite_is_never_saved(tiny, tmp_path):
    """The save falls on the very step that made it."""
    optimizer = dataclasses.replace(tiny.optimizer, learning_rate=1e38, warmup_steps=1)
    config = dataclasses.replace(tiny.train, log_every=100, checkpoint_every=1)
    experiment = dataclasses.replace(tiny, optimizer=optimizer, train=config)
    workdir = work_path(tmp_path)
    with pytest.raises(InputError, match=r"not finite: .* (is kept|none was saved before)"):
        train(experiment, workdir, quiet())
    for step in checkpoint.steps_in(checkpoint.checkpoint_folder(workdir)):
        state = saved(workdir, experiment, step)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


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
    from drm_jax.arc.tasks import load_source

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
