"""Tasks that a network has not seen: answered whole, whatever happens, and better with time."""

import dataclasses
import gzip
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import TINY
from workdirs import quiet, saved

import drm_jax
from drm_jax.commands.main import main
from drm_jax.config import with_changes
from drm_jax.errors import InputError, StoppedError, UsageError
from drm_jax.io.files import work_path
from drm_jax.parallel.mesh import make_mesh
from drm_jax.puzzles.arc.tasks import Pair, load_source
from drm_jax.puzzles.voting import ranked
from drm_jax.run.evaluation import evaluate_workdir
from drm_jax.run.loop import train
from drm_jax.run.setup import set_up
from drm_jax.run.workdir import read_config
from drm_jax.runtime.stop import StopTogether
from drm_jax.solve import adaptation
from drm_jax.solve import solve as module
from drm_jax.solve.adapt import Adapt
from drm_jax.solve.asked import load_asked, write_tasks
from drm_jax.solve.each import Each
from drm_jax.solve.output import State, copying, merged, pooled
from drm_jax.solve.request import Request
from drm_jax.solve.solve import solve
from drm_jax.solve.weights import find_source, first_state, read_weights, write_weights

NEW, KNOWN = "0d3d703e", "25d8a9c8"
SMALL = Adapt(num_augmentations=3, batch_size=4, rows_first=0.5, warmup_steps=1)


def asked(*ids: str, **changes) -> Request:
    return Request(("arc1/training",), only=ids, steps=4, adapt=SMALL, **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose weights are adapted, with Muon as those of the package."""
    workdir = work_path(tmp_path_factory.mktemp("trained") / "run")
    train(with_changes(TINY, {"train.steps": 2, "optimizer.matrices": "muon"}), workdir, quiet())
    return workdir


@pytest.fixture(scope="module")
def adapted(trained, tmp_path_factory):
    """Both tasks, one of which the weights know, on a machine so slow that each part of training,
    the last one too, ends with a checkpoint."""
    folder = work_path(tmp_path_factory.mktemp("solved") / "both")
    console = quiet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptation, "_SAVE_SECONDS", 0.0)
        outcome = solve(asked(NEW, KNOWN, weights=str(trained)), folder, console)
    return folder, outcome, console.file.getvalue()


def test_it_leaves_a_submission_and_what_people_look_at(adapted):
    folder, outcome, said = adapted
    tasks = {task.id: task for task in load_source("arc1/training") if task.id in (NEW, KNOWN)}
    submission = json.loads((folder / "submission.json").read_text())
    assert submission == outcome.submission
    assert {name: len(of) for name, of in submission.items()} == {
        name: len(task.tests) for name, task in tasks.items()
    }
    for of in submission.values():
        assert all(entry.keys() == {"attempt_1", "attempt_2"} for entry in of)
    for path in outcome.paths:
        assert path.exists(), path
    names = {path.name for path in outcome.paths}
    assert {f"{NEW}.png", f"{KNOWN}.png", "report.html", "submission.json"} <= names
    assert "Answered with the weights as they are" in said
    assert "Answered with 2 steps of training" in said
    assert "Answered with 4 steps of training" in said
    state = json.loads((folder / "solve.json").read_text())
    assert state["done"]
    assert state["answers"] == "4 steps of training"


def test_every_candidate_is_told_of(adapted):
    folder, outcome, _ = adapted
    lines = gzip.decompress((folder / "candidates.jsonl.gz").read_bytes()).decode().splitlines()
    found = [json.loads(line) for line in lines]
    votes = {}
    for line in found:
        assert line["votes"] == len(line["voters"])
        key = line["task"], line["test"]
        votes[key] = votes.get(key, 0) + line["votes"]
    assert set(votes.values()) == {1 + SMALL.num_augmentations}
    best = next(line for line in found if line["task"] == NEW)
    assert outcome.submission[NEW][0]["attempt_1"] == best["grid"] or not best["grid"]
    voter = best["voters"][0]
    assert len(voter["colours"]) == 10
    assert 0 <= voter["score"] <= 1


def first_state_of(folder, weights: str):
    """The first state of an adaptation to both tasks, its setup, and what is known of them."""
    request = asked(NEW, KNOWN, weights=weights)
    source = find_source(weights)
    tasks = load_asked(request.sources, request.only, "refuse", print)
    outcome = module.Outcome(work_path(folder), tasks, {}, State({}))
    experiment, known = module._prepare(request, outcome, source, print)
    setup = set_up(experiment, workdir=work_path(folder))
    shapes = jax.eval_shape(setup.make_state)
    read = read_weights(source, shapes, setup.mesh, known, False, print)
    return jax.device_get(first_state(read, setup, known)), setup, known


def test_a_known_task_begins_with_its_rows_and_a_new_one_with_the_mean(trained, tmp_path):
    state, setup, known = first_state_of(tmp_path, str(trained))
    before, ids_before = saved(trained, read_config(trained), 2), set_up(TINY).puzzles.ids
    ids = setup.puzzles.ids
    assert known.tasks == (KNOWN,)
    place_before, place = ids_before.task_ids.index(KNOWN), ids.task_ids.index(KNOWN)
    kept = before.table[ids_before.of_task[place_before]]
    np.testing.assert_array_equal(state.table[ids.of_task[place]], kept)
    np.testing.assert_array_equal(ids.colours[ids.of_task[place]],
                                  ids_before.colours[ids_before.of_task[place_before]])  # fmt: skip
    mean = before.table[1 : len(ids_before)].mean(axis=0)
    of_new = state.table[ids.of_task[1 - place]]
    np.testing.assert_allclose(of_new, np.tile(mean, (len(of_new), 1)), atol=1e-7)
    assert np.abs(kept - mean).max() > 1e-4
    for name in ("params", "ema"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state, name), before.ema)


def test_a_file_of_weights_begins_as_the_run_does_but_for_its_rows(trained, tmp_path):
    file = work_path(tmp_path / "weights.npz")
    size = write_weights(file, trained, make_mesh(jax.devices()[:1]), print)
    assert size < 100_000
    assert find_source(str(file)).experiment == read_config(trained)
    run, _, _ = first_state_of(tmp_path / "run", str(trained))
    state, _, known = first_state_of(tmp_path / "file", str(file))
    assert known is None
    for name in ("params", "ema", "constants"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state, name), getattr(run, name))
    np.testing.assert_allclose(state.table[1], run.table[1], atol=1e-7)
    np.testing.assert_array_equal(state.table[1:9], np.tile(state.table[1], (8, 1)))


def test_the_rows_are_trained_first(trained, adapted):
    folder, _, _ = adapted
    experiment = read_config(folder)
    assert (experiment.optimizer.rows_first, experiment.train.steps) == (2, 4)
    state = saved(folder, experiment, 4)
    assert state.opt_state.matrices.count == 2  # the network's own steps
    assert state.step == 4


def test_told_to_stop_it_goes_on_as_if_it_had_not_been(trained, adapted, tmp_path, monkeypatch):
    straight, _, _ = adapted
    request, folder = asked(NEW, KNOWN, weights=str(trained)), work_path(tmp_path)
    steps = iter([False] * 2)
    monkeypatch.setattr(StopTogether, "beside_step", lambda self: next(steps, True))
    with pytest.raises(StoppedError, match="step 3 is saved"):
        solve(request, folder, quiet())
    assert set(json.loads((folder / "submission.json").read_text())) == {NEW, KNOWN}
    monkeypatch.undo()
    console = quiet()
    solve(request, folder, console)
    assert "Going on from the checkpoint of step 3" in console.file.getvalue()
    states = [saved(w, read_config(straight), 4) for w in (straight, folder)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    for name in ("submission.json", "candidates.jsonl.gz"):
        assert (folder / name).read_bytes() == (straight / name).read_bytes()


def test_a_crash_leaves_copies_of_the_inputs(tmp_path, monkeypatch):
    def crash(*args):
        raise RuntimeError("a fault")

    monkeypatch.setattr(module, "_prepare", crash)
    with pytest.raises(RuntimeError, match="a fault"):
        solve(asked(NEW), work_path(tmp_path), quiet())
    (task,) = (task for task in load_source("arc1/training") if task.id == NEW)
    copy = task.tests[0].input.tolist()
    submission = json.loads((tmp_path / "submission.json").read_text())
    assert submission == {NEW: [{"attempt_1": copy, "attempt_2": copy}]}


def test_all_is_written_to_a_bucket(adapted, trained, gcs_folder):
    _, straight, _ = adapted
    outcome = solve(asked(NEW, KNOWN, weights=str(trained)), work_path(gcs_folder / "out"), quiet())
    assert json.loads((outcome.folder / "submission.json").read_text()) == straight.submission
    names = {path.name for path in outcome.folder.iterdir()}
    assert {"solve.json", "candidates.jsonl.gz", "attempts", "report.html", "eval"} <= names
    again = solve(asked(NEW, KNOWN, weights=str(trained)), outcome.folder, quiet())
    assert again.submission == straight.submission


def test_another_solve_has_a_folder_of_its_own(adapted, trained):
    folder, _, _ = adapted
    with pytest.raises(UsageError, match=r"other options \(only\)"):
        solve(asked(NEW, weights=str(trained)), folder, quiet())
    with pytest.raises(UsageError, match="holds a run"):
        solve(asked(NEW), trained, quiet())


def test_votes_of_another_solve_are_added(adapted, trained, tmp_path):
    folder, outcome, _ = adapted
    ballot = pooled(outcome.tasks, outcome.judged.judge, [folder, folder])
    assert merged(copying(outcome.tasks), outcome.tasks, ballot) == outcome.submission
    for task in outcome.tasks:
        for test in task.tests:
            answers = ranked(ballot, task.id, test.input)
            assert sum(answer.votes for answer in answers) == 3 * (1 + SMALL.num_augmentations)
    wrong = asked(NEW, weights=str(trained), pool=(str(tmp_path),))
    with pytest.raises(InputError, match=r"--pool: .* is not there"):
        solve(wrong, work_path(tmp_path / "wrong"), quiet())


def test_without_weights_named_those_of_the_package_are_used_if_tasks_fit(
    trained, tmp_path, monkeypatch
):
    file = work_path(tmp_path / "small.npz")
    write_weights(file, trained, make_mesh(jax.devices()[:1]), print)
    monkeypatch.setitem(module.SHIPPED, "small", file)
    console = quiet()
    (new,) = load_asked(("arc1/training",), (NEW,), "refuse", console.print)
    small = asked(NEW, weights="small")
    assert module._source_of(small, [new], console.print).path == file
    assert module._source_of(asked(NEW), [new], console.print) is None
    (larger,) = load_asked(("arc1/training",), ("007bbfb7",), "refuse", console.print)
    assert module._source_of(small, [new, larger], console.print) is None
    assert "small for 1 task of 2: 007bbfb7" in " ".join(console.file.getvalue().split())


# --- a network for each ---------------------------------------------------------------------------
@pytest.fixture
def final_states(monkeypatch):
    """The states that `Each` has at its ends."""
    found, finish = [], Each.finish

    def look(self):
        found.append(jax.device_get(self.state))
        finish(self)

    monkeypatch.setattr(Each, "finish", look)
    return found


def assert_close(many, one):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), many, one)


def test_each_together_equals_each_alone_and_jointly(trained, tmp_path, monkeypatch, final_states):
    request = asked(NEW, KNOWN, weights=str(trained), each=True)
    together = solve(request, work_path(tmp_path / "both"), quiet())
    request_of_one = asked(KNOWN, weights=str(trained), each=True)
    alone = solve(request_of_one, work_path(tmp_path / "alone"), quiet())
    assert alone.submission[KNOWN] == together.submission[KNOWN]
    many, one = final_states
    for part in ("params", "ema", "table"):
        second = jax.tree.map(lambda x: x[1], getattr(many, part))
        assert_close(second, jax.tree.map(lambda x: x[0], getattr(one, part)))
    joint = solve(asked(KNOWN, weights=str(trained)), work_path(tmp_path / "joint"), quiet())
    assert joint.submission[KNOWN] == alone.submission[KNOWN]
    state = saved(joint.folder, read_config(joint.folder), 4)
    assert_close(state.params, jax.tree.map(lambda x: x[0], one.params))
    goes_on_where_it_was_stopped(request, together, work_path(tmp_path / "stopped"), monkeypatch)


def goes_on_where_it_was_stopped(request, straight, folder, monkeypatch):
    step = Each._step

    def stop_at_three(self, batch):
        metrics = step(self, batch)
        if self.done == 3:
            self._stop.preempt("a test")
        return metrics

    monkeypatch.setattr(Each, "_step", stop_at_three)
    with pytest.raises(StoppedError, match="step 3 is saved"):
        solve(request, folder, quiet())
    monkeypatch.setattr(Each, "_step", step)
    again = solve(request, folder, quiet())
    assert again.submission == straight.submission


# --- the command ----------------------------------------------------------------------------------
def test_the_command_says_what_is_wrong(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases = [
        ([], 2, "name the tasks"),
        (["arc1/training", "--minutes", "1", "--steps", "1"], 2, "either --minutes or --steps"),
        (["arc1/training", "--minutes", "0"], 2, "minutes"),
        (["nothing.json", "--steps", "1"], 1, "no such source"),
        (["arc1/training", "--from", "nowhere", "--steps", "1"], 1, "not a work directory"),
        (["arc1/training", "--from", "nowhere.npz", "--steps", "1"], 1, "there is no such file"),
        (["arc1/training", "--only", "x", "--steps", "1"], 1, "no source holds task"),
    ]  # fmt: skip
    for words, code, message in cases:
        assert main(["solve", *words]) == code, words
        assert message in capsys.readouterr().err, words


def test_when_the_time_is_up_it_ends_wherever_it_is(tmp_path):
    """Too little time for anything but copies: within a compilation nothing else could end it."""
    command = [sys.executable, "-m", "drm_jax", "solve", "arc1/training", "--only", NEW,
               "--minutes", "0.05", "--output", str(tmp_path / "out")]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stderr
    assert "the time is up" in ended.stderr
    submission = json.loads((tmp_path / "out" / "submission.json").read_text())
    assert list(submission) == [NEW]


# --- from Python, and without adapting ------------------------------------------------------------
def test_a_run_answers_a_new_task_when_it_has_minutes_for_it(trained, tmp_path):
    before = sorted(path.name for path in trained.iterdir())
    run = drm_jax.open_run(trained)
    (task,) = (task for task in load_source("arc1/training") if task.id == NEW)
    answers = run.answer(task, minutes=0.02, num_augmentations=3, batch_size=4)
    assert answers.task == NEW
    assert len(answers.tests) == len(task.tests)
    assert answers.tests[0].candidates == 1 + 3
    assert answers.picture().startswith(b"\x89PNG")
    assert sorted(path.name for path in trained.iterdir()) == before
    with pytest.raises(UsageError, match="num_augmentation: there is no such setting of an adap"):
        run.answer(task, minutes=1, num_augmentation=3)


def written(path, name: str, hidden: bool) -> str:
    """A file of one training task of ARC-AGI-1."""
    (task,) = (task for task in load_source("arc1/training") if task.id == name)
    tests = [Pair(pair.input, None) for pair in task.tests] if hidden else task.tests
    return str(write_tasks(work_path(path), [dataclasses.replace(task, tests=tuple(tests))]))


def test_a_run_is_scored_on_other_tests_of_tasks_that_it_knows(trained, tmp_path):
    changes = {"data.evaluate": (written(tmp_path / "known", KNOWN, hidden=True),), "data.only": ()}
    report = evaluate_workdir(trained, None, quiet(), changes=changes)
    (evaluation,) = report.evaluations
    own = evaluate_workdir(trained, None, quiet()).evaluations[0]
    assert evaluation.submission == {KNOWN: own.submission[KNOWN]}
    assert "pass@2" not in evaluation.metrics  # its outputs are hidden
    assert set(report.changed) == {"tests"}
    changes["data.evaluate"] = (written(tmp_path / "new", NEW, hidden=True),)
    with pytest.raises(InputError, match=f"{NEW}: the run wasn't trained with the demonstrations"):
        evaluate_workdir(trained, None, quiet(), changes=changes)


def test_answers_that_a_run_was_trained_on_are_not_scored(tmp_path):
    workdir = work_path(tmp_path / "run")
    whole = with_changes(TINY, {"data.train": ("arc1/training",), "data.evaluate": (),
                                "train.steps": 1})  # fmt: skip
    train(whole, workdir, quiet())
    file = written(tmp_path / "known", KNOWN, hidden=False)
    changes, console = {"data.train": (), "data.evaluate": (file,), "data.only": ()}, quiet()
    (evaluation,) = evaluate_workdir(workdir, None, console, changes=changes).evaluations
    assert evaluation.metrics["per_task"][KNOWN]["hidden"] == [True]
    assert "trained on answers of 25d8a9c8" in console.file.getvalue()
