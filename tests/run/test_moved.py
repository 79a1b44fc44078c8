"""Work directories and tasks that move, change, lose parts, or can't be written to."""

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from workdirs import log_lines, quiet, saved

from drm_jax.commands.main import main
from drm_jax.config import Experiment, to_json, with_changes
from drm_jax.errors import InputError, UsageError
from drm_jax.io import checkpoint
from drm_jax.io.files import work_path
from drm_jax.parallel.mesh import batch_parts, make_mesh
from drm_jax.puzzles.arc.tasks import load_source
from drm_jax.run.evaluation import evaluate_workdir
from drm_jax.run.history import read_history
from drm_jax.run.loop import check_start, train
from drm_jax.run.setup import fingerprint_at, first_batch, set_up, set_up_to_evaluate
from drm_jax.run.start import restore_own, start
from drm_jax.run.workdir import PENDING, Change, claim, read_config, settled
from drm_jax.training.state import make_sharded

RATE = {"optimizer.learning_rate": 5e-3}


def task_files(folder, *ids: str) -> None:
    """Tasks as a folder of JSON files."""
    folder.mkdir()
    for task in load_source("arc1/training"):
        if task.id in ids:
            value = {
                part: [{"input": p.input.tolist(), "output": p.output.tolist()} for p in pairs]
                for part, pairs in (("train", task.demonstrations), ("test", task.tests))
            }
            (folder / f"{task.id}.json").write_text(json.dumps(value))


@pytest.fixture(scope="module")
def here(tiny, tmp_path_factory) -> Experiment:
    """The tiny run on tasks of a folder, `tasks`, with all of its checkpoints kept."""
    folder = tmp_path_factory.mktemp("here")
    task_files(folder / "tasks", *tiny.data.only)
    changes = {"data.evaluate": (str(folder / "tasks"),), "data.only": (), "train.keep_last": 9}
    return with_changes(tiny, changes)


@pytest.fixture(scope="module")
def finished(here, tmp_path_factory):
    workdir = work_path(tmp_path_factory.mktemp("runs") / "run")
    train(here, workdir, quiet())
    return workdir


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy of the finished run."""
    return work_path(shutil.copytree(finished, tmp_path / "run"))


def moved(experiment: Experiment, folder) -> Experiment:
    return with_changes(experiment, {"data.evaluate": (str(folder),)})


def copy_tasks(experiment: Experiment, target):
    return shutil.copytree(experiment.data.evaluate[0], target)


def edit_task(folder, part: str) -> None:
    """Another colour in an output of the first task."""
    path = sorted(folder.iterdir())[0]
    task = json.loads(path.read_text())
    cell = task[part][0]["output"][0]
    cell[0] = (cell[0] + 1) % 10
    path.write_text(json.dumps(task))


# --- tasks that moved ---
def test_equal_tasks_elsewhere_are_the_same(here, workdir, tmp_path):
    elsewhere = moved(here, copy_tasks(here, tmp_path / "elsewhere"))
    setup = set_up(elsewhere, workdir=workdir)
    assert check_start(setup, workdir)
    assert start(setup, workdir, False, print).step == 4


def test_other_tasks_elsewhere_are_refused_by_the_name_of_the_option(here, workdir, tmp_path):
    other = copy_tasks(here, tmp_path / "other")
    edit_task(other, "train")
    setup = set_up(moved(here, other), workdir=workdir)
    text = r"--data\.evaluate: the tasks or the noise schedule have changed since step 4 was saved"
    with pytest.raises(InputError, match=text):
        restore_own(setup, workdir, False, print)


def test_a_moved_source_needs_a_checkpoint_that_knows_its_content(here, tmp_path):
    claim(work_path(tmp_path), here)
    elsewhere = moved(here, copy_tasks(here, tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match=r"--data\.evaluate was .* no checkpoint was saved there"):
        check_start(set_up(elsewhere), work_path(tmp_path))


@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_path_that_is_not_found_is_said_to_come_from_the_config(
    here, workdir, tmp_path, monkeypatch, capsys, command
):
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["evaluate"] = ["tasks"]  # relative to where the run began
    (workdir / "config.json").write_text(json.dumps(config))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert main([command, str(workdir)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("drm: tasks: no such source")
    assert f"the name comes from {workdir / 'config.json'}" in line
    assert line.endswith("say where they are with --data.evaluate")


def test_eval_of_moved_tasks_into_another_folder(here, workdir, tmp_path, capsys):
    """Nothing is written to the work directory; the folder is one for drm report and drm show."""
    elsewhere, output = copy_tasks(here, tmp_path / "elsewhere"), tmp_path / "out"
    shutil.rmtree(workdir / "eval")
    before = {path: path.stat().st_mtime for path in Path(workdir).rglob("*")}
    argv = ["eval", str(workdir), "--data.evaluate", elsewhere, "--output", str(output)]
    assert main([str(word) for word in argv]) == 0
    assert {path: path.stat().st_mtime for path in Path(workdir).rglob("*")} == before
    assert (output / "eval" / "step_4" / "metrics.json").exists()
    assert (output / "report.html").exists()
    assert main(["report", str(output), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").exists()
    assert main(["show", str(output), "25d8a9c8"]) == 0
    capsys.readouterr()
    assert main(["eval", str(workdir), "--data.canvas", "5"]) == 2  # decides what was learned
    assert "--data.canvas: there is no such option" in capsys.readouterr().err
    assert main(["train", str(output)]) == 1
    assert "holds no checkpoint, but one was saved there" in capsys.readouterr().err


def test_other_tests_are_said_and_never_compared(here, finished, tmp_path):
    """The answers to the tests were put right meanwhile: training goes on as it was."""
    workdir = work_path(shutil.copytree(finished, tmp_path / "run"))
    corrected = copy_tasks(here, tmp_path / "corrected")
    edit_task(corrected, "test")
    longer = with_changes(moved(here, corrected), {"train.steps": 5, "train.keep_last": 1})
    console = quiet()
    train(longer, workdir, console)
    assert "The test inputs or their outputs have changed since step 4" in console.file.getvalue()
    lines = {line["step"]: line for line in log_lines(workdir) if line["kind"] == "eval"}
    assert lines[4]["tests"] != lines[5]["tests"]
    change = next(line for line in read_history(workdir) if line["event"] == "change")
    assert change["changed"]["the tests (a digest)"] == [lines[4]["tests"], lines[5]["tests"]]
    # The best on each set of tests is kept: none is ranked with those on the others.
    assert checkpoint.steps_in(workdir / "checkpoints") == [4, 5]
    console = quiet()
    report = evaluate_workdir(workdir, 4, console)
    assert report.changed == {"tests": lines[5]["tests"][:8]}
    assert "this score is kept apart" in console.file.getvalue()
    assert (workdir / "eval" / "step_4" / "metrics.json").read_bytes() == (
        finished / "eval" / "step_4" / "metrics.json"
    ).read_bytes()


# --- a place that can't be written to ---
def test_eval_and_report_look_first_whether_they_can_write(workdir, monkeypatch, capsys):
    def read_only(dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    monkeypatch.setattr("drm_jax.run.evaluation.restore_own", None)  # it would be computed with
    monkeypatch.setattr("drm_jax.report.write.single_page", None)
    for argv in (["eval", str(workdir)], ["report", str(workdir)]):
        assert main(argv) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "can't be written to: Read-only file system" in line
        assert line.endswith("with --output")


def test_an_evaluation_is_not_written_into_another_run(tiny, workdir, tmp_path):
    other = work_path(tmp_path / "other")
    other.mkdir()
    claim(other, dataclasses.replace(tiny, name="other"))
    with pytest.raises(UsageError, match=r"--output: .* holds another run"):
        evaluate_workdir(workdir, None, quiet(), output=other)


# --- devices ---
@pytest.mark.parametrize(("batch_size", "used"), [(8, 4), (6, 3), (5, 1)])
def test_an_evaluation_needs_no_training_batch(tiny, tmp_path, batch_size, used):
    """Four devices: as many as the batch of an evaluation can be split over."""
    changes = {"train.batch_size": 6, "evaluate.batch_size": batch_size, "method": "trm"}
    said = []
    setup = set_up_to_evaluate(with_changes(tiny, changes), said.append, work_path(tmp_path))
    assert batch_parts(setup.mesh) == used
    assert bool(said) == (used < 4)
    assert all(f"{used} of 4 devices are used" in line for line in said)


def test_a_run_with_a_batch_for_other_devices_is_scored(tiny, tmp_path):
    """Trained on two devices, with six slots that are carried; scored on four."""
    workdir = work_path(tmp_path)
    experiment = with_changes(tiny, {"train.batch_size": 6, "method": "trm"})
    setup = set_up(experiment, make_mesh(jax.devices()[:2]))
    state = make_sharded(setup.make_state, setup.shardings)
    record = {"fingerprint": setup.fingerprint, "num_ids": setup.puzzles.num_ids,
              "trained_on": [], "tests": setup.puzzles.tests_digest(), "interval": {}}  # fmt: skip
    claim(workdir, experiment)
    with checkpoint.open_checkpoints(workdir, 1, 0, {}) as saver:
        checkpoint.save(saver, 0, state, record)
        checkpoint.finish(saver)
    report = evaluate_workdir(workdir, None, quiet())
    assert report.setup.mesh.size == 4
    assert report.evaluations[-1].metrics["candidates"] == 12


# --- checkpoints or logs that are gone ---
@pytest.mark.parametrize("kept", ["nothing", "checkpoints", "saved.json"])
def test_a_run_without_its_checkpoints_never_begins_again_by_itself(here, workdir, kept):
    """Whatever was lost beside them: the folder, all in it, or the mark that there were any."""
    shutil.rmtree(workdir / "checkpoints")
    if kept == "checkpoints":
        (workdir / "checkpoints").mkdir()
    if kept != "saved.json":
        (workdir / "saved.json").unlink()
    log = (workdir / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"holds no checkpoint, .* begin anew .* --begin-anew"):
        train(here, workdir, quiet())
    assert (workdir / "metrics.jsonl").read_bytes() == log


def test_begin_anew_sets_the_old_log_aside(here, workdir, capsys):
    shutil.rmtree(workdir / "checkpoints")
    log = (workdir / "metrics.jsonl").read_bytes()
    options = ["--begin-anew", "--dry-run"]
    assert main(["train", str(workdir), *options]) == 0
    assert "would be a new run" in capsys.readouterr().out
    shorter = with_changes(here, {"train.checkpoint_every": 4, "train.log_every": 4})
    train(shorter, workdir, quiet(), anew=True)
    assert (workdir / "before" / "metrics.jsonl").read_bytes() == log
    assert (workdir / "before" / "eval" / "step_4").is_dir()
    assert [line["step"] for line in log_lines(workdir)] == [4, 4]
    assert checkpoint.steps_in(workdir / "checkpoints") == [4]
    assert "anew" in [line["event"] for line in read_history(workdir)]


def test_a_run_that_was_killed_before_its_first_save_begins_again(here, tmp_path):
    workdir = work_path(tmp_path)
    claim(workdir, here)
    (workdir / "checkpoints").mkdir()
    (workdir / "metrics.jsonl").write_text('{"step": 1, "kind": "train", "loss": 1.0}\n')
    assert check_start(set_up(here, workdir=workdir), workdir)


# --- a configuration that was edited, and one that is changed ---
def edit(workdir, part: str, name: str, value) -> None:
    config = json.loads((workdir / "config.json").read_text())
    config[part][name] = value
    (workdir / "config.json").write_text(json.dumps(config))


def test_a_config_edited_by_hand_is_refused(workdir, capsys):
    edit(workdir, "optimizer", "learning_rate", 0.5)
    for command in ("train", "eval", "report", "checkpoints"):
        assert main([command, str(workdir)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "was edited (--optimizer.learning-rate was 0.01, is 0.5" in line
        assert line.count("--change") == 1
        assert line.endswith(f"drm train {workdir} --change optimizer.learning_rate=0.5")
    edit(workdir, "optimizer", "learning_rate", 0.01)
    edit(workdir, "train", "checkpoint_every", 3)  # one that may change anyway
    assert read_config(workdir).train.checkpoint_every == 3


@pytest.mark.parametrize("cut", ["config.json", "run.json"])
def test_a_kill_while_the_config_is_written_is_no_edit(here, workdir, monkeypatch, cut):
    """Before config.json is replaced, and after it, before what was before is forgotten."""
    from drm_jax.run import workdir as module

    write, other = module.write_whole, with_changes(here, RATE)

    def killed(path, content):
        done = json.loads((workdir / "config.json").read_bytes()) != json.loads(to_json(here))
        if path.name == cut and (cut == "config.json" or done):
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(module, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        claim(workdir, other, [Change(4, here)], RATE)
    assert read_config(workdir) == (here if cut == "config.json" else other)
    setup = set_up(other, workdir=workdir)
    assert settled(setup.changes, 4) == (Change(4, here),)


def test_options_change_from_a_step_on(here, workdir, tmp_path, capsys):
    """Told in the history, once; and killed and started again, it is as if it had not been."""
    changes = {**RATE, "train.batch_size": 8, "train.steps": 6}
    with pytest.raises(UsageError, match=r"--change optimizer\.learning_rate=0\.005 changes it"):
        train(with_changes(here, RATE), workdir, quiet())
    straight = work_path(shutil.copytree(workdir, tmp_path / "straight"))
    argv = ["train", str(straight), "--train.steps", "6"]
    options = ["--change", "optimizer.learning-rate=0.005", "train.batch_size=8"]
    assert main([*argv, *options]) == 0
    assert "Going on from the checkpoint of step 4" in capsys.readouterr().out
    other, names = with_changes(here, changes), ("optimizer.learning_rate", "train.batch_size")
    assert read_config(straight) == other
    (change,) = (line for line in read_history(straight) if line["event"] == "change")
    assert change["step"] == 4
    assert change["changed"] == {
        "optimizer.learning_rate": [0.01, 0.005],
        "train.batch_size": [4, 8],
        "train.steps": [4, 6],
    }
    page = (straight / "report.html").read_text()
    assert "changed within the run" in page
    assert "after step 4 <code>train.batch_size</code> <bdi>4</bdi> → <bdi>8</bdi>" in page
    # Stopped at step 5, and given once with the same options, once by its config.json alone.
    five = with_changes(other, {"train.steps": 5})
    train(five, workdir, quiet(), changing=names)
    train(with_changes(read_config(workdir), {"train.steps": 6}), workdir, quiet(), changing=names)
    jax.tree.map(np.testing.assert_array_equal, saved(workdir, other, 6), saved(straight, other, 6))
    # Checkpoints of before and after are of the streams that they were made with.
    setup = set_up(other, workdir=workdir)
    assert setup.changes == (Change(4, with_changes(here, {"train.steps": 4})),)
    prints = [checkpoint.read_record(workdir, step)["fingerprint"] for step in (2, 4, 5, 6)]
    assert prints == [fingerprint_at(setup, step) for step in (2, 4, 5, 6)]
    assert prints[0] == prints[1] == set_up(here).fingerprint
    assert prints[2] == prints[3] != set_up(other).fingerprint  # of such batches from the start
    with pytest.raises(UsageError, match=r"--train\.batch-size was 8, is 4"):
        train(with_changes(here, {"train.steps": 9}), workdir, quiet())


def test_where_the_stream_goes_on_with_other_batches(tiny):
    """Behind the examples that were seen, none of them again."""
    setup = set_up(tiny)

    def first(step: int, *changes: tuple[int, int]) -> int:
        made = tuple(
            Change(at, with_changes(tiny, {"train.batch_size": size})) for at, size in changes
        )
        return first_batch(dataclasses.replace(setup, changes=made), step)

    assert first(10) == 10
    assert first(10, (6, 4)) == 10  # the rate alone was changed
    assert first(10, (10, 8)) == 20  # 80 examples are 20 batches of 4
    assert first(12, (10, 8)) == 22
    assert first(10, (10, 6)) == 15
    assert first(9, (3, 12), (9, 8)) == 22  # 36 seen, then batches 5 to 10 of 8


def test_what_can_not_be_changed_within_a_run(here, workdir, capsys):
    for options, text in (
        (["train.steps=9"], "--change: train.steps: can't be changed within a run"),
        (["model.hidden=32"], "--change: model.hidden: can't be changed within a run"),
        (
            ["optimizer.matrices=muon"],
            "--change: optimizer.matrices: can't be changed within a run",
        ),
        (["optimizer.learning_rat=1"], "--change optimizer.learning_rat: there is no such option"),
        (["optimizer.learning_rate"], "give NAME=VALUE"),
        ([], "give NAME=VALUE"),
    ):
        assert main(["train", str(workdir), "--change", *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line
    carried = with_changes(here, {"method": "trm"})
    other = work_path(workdir.parent / "carried")
    other.mkdir()
    claim(other, carried)
    larger = with_changes(carried, {"train.batch_size": 8})
    with pytest.raises(UsageError, match=r"train\.batch_size: the method trm carries"):
        check_start(set_up(larger, workdir=other), other, ["train.batch_size"])


def test_a_change_that_no_step_would_follow_is_refused(here, workdir, capsys):
    before = {path: path.read_bytes() for path in Path(workdir).rglob("*") if path.is_file()}
    argv = ["train", str(workdir), "--change", "optimizer.learning_rate=5e-3"]
    for options in ([], ["--dry-run"]):
        assert main([*argv, *options]) == 2
        assert "all 4 steps are done: it takes effect with a larger" in capsys.readouterr().err
    left = {path: path.read_bytes() for path in Path(workdir).rglob("*") if path.is_file()}
    assert left == before


def test_a_dry_run_says_what_would_change(workdir, capsys):
    argv = ["train", str(workdir), "--dry-run", "--train.steps", "6"]
    change = ["--change", "optimizer.learning_rate=5e-3"]
    assert main([*argv, *change]) == 0
    assert "would change optimizer.learning_rate 0.01 -> 0.005 from step 5" in (
        capsys.readouterr().out
    )
    assert main([*argv, "--begin-anew"]) == 0
    assert "would set aside in before/: checkpoints, metrics.jsonl" in capsys.readouterr().out
    # What is there is looked at, not only its name.
    for step, status, text in ((4, 0, "would go on from the checkpoint of step 2"),
                               (2, 1, "no other checkpoint can be used")):  # fmt: skip
        shutil.rmtree(workdir / "checkpoints" / str(step) / "record")
        assert main(argv) == status
        told = "".join(capsys.readouterr())
        assert text in told
        assert "checkpoints/4: damaged: the folder has only" in told


def test_a_run_without_run_json_is_told_of(workdir, capsys):
    (workdir / "run.json").unlink()
    edit(workdir, "data", "only", ["nope"])
    for command in (["train", str(workdir), "--dry-run"], ["eval", str(workdir)]):
        assert main(command) == 1
        text = "".join(capsys.readouterr())
        assert "data.only: no source holds task 'nope' (1 such of 1)" in text
        assert f"; it stands in {workdir}" in text
    edit(workdir, "data", "only", [])
    assert main(["train", str(workdir), "--dry-run"]) == 0
    text = "run.json: is missing: it can't be told whether config.json was edited"
    assert text in capsys.readouterr().out


def test_edited_sources_are_named_with_the_file(here, workdir, tmp_path, capsys):
    """Tasks that aren't there, and others than were trained on."""
    edit(workdir, "data", "only", ["nope"])
    assert main(["eval", str(workdir)]) == 1
    text = f"; {workdir / 'config.json'} was edited: data.only was ()"
    error = capsys.readouterr().err
    assert "no source holds task 'nope' (1 such of 1)" in error
    assert text in error
    edit(workdir, "data", "only", [])
    other = copy_tasks(here, tmp_path / "other")
    edit_task(other, "train")
    edit(workdir, "data", "evaluate", [str(other)])
    assert main(["eval", str(workdir)]) == 1
    line = capsys.readouterr().err
    assert "have changed since step 4" in line
    assert f"{workdir / 'config.json'} was edited: data.evaluate was" in line


def test_an_error_of_a_change_is_named_as_it_was_given(workdir, capsys):
    for value, text in (("None", "'None' is not a number"), ("7", "must be float")):
        assert main(["train", str(workdir), "--change", f"optimizer.ema={value}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"drm: --change optimizer.ema: {text}")


def test_changes_settle_where_the_run_goes_on(tiny):
    one, two = (with_changes(tiny, {"seed": seed}) for seed in (1, 2))
    assert settled([Change(4, one), Change(PENDING, two)], 8) == (Change(4, one), Change(8, two))
    # The checkpoint after the first change is damaged: both begin where the run goes on.
    assert settled([Change(4, one), Change(PENDING, two)], 2) == (Change(2, one),)
