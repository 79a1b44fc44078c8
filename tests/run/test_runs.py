"""`drm runs`, `drm show` and the history of a work directory."""

import contextlib
import dataclasses
import json
import os
import re
import shutil

import pytest
from made_run import made_run
from workdirs import quiet

from drm_jax.commands.main import main
from drm_jax.config import Experiment, Train
from drm_jax.errors import InputError, PreemptedError, StoppedError
from drm_jax.io import lock
from drm_jax.io.files import work_path
from drm_jax.run import history
from drm_jax.run.history import read_history, recorded
from drm_jax.run.runs import list_runs, status
from drm_jax.run.workdir import check_complete, claim, read_config


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory):
    """A folder with a made-up run, deep in it, and one of which there is only a configuration."""
    folder = work_path(tmp_path_factory.mktemp("runs"))
    made_run(folder / "sweep" / "a", tiny)
    (folder / "new").mkdir()
    claim(folder / "new", Experiment("new"))
    return folder


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (None, "finished"),
        (StoppedError("stopped after step 3"), "stopped"),
        (KeyboardInterrupt(), "stopped"),
        (PreemptedError("stopped after step 3"), "preempted"),
        (InputError("the disk\nis full"), "failed"),
        (ZeroDivisionError("a fault"), "failed"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_history_says_how_a_start_ended(tmp_path, error, how):
    workdir = work_path(tmp_path)
    (tmp_path / "history.jsonl").write_text('{"event": "start", "step')  # torn by a kill
    expected = pytest.raises(type(error)) if error else contextlib.nullcontext()
    with expected, recorded(workdir, {"step": 2, "from": "x.py"}):
        if error:
            raise error
    start, end = read_history(workdir)
    assert (start["event"], start["step"], start["from"]) == ("start", 2, "x.py")
    assert (end["event"], end["how"]) == ("end", how)
    assert end["why"] == (None if error is None else "the disk\\nis full" if "disk" in str(error)
                          else str(error))  # fmt: skip


def test_history_in_a_bucket(gcs_folder):
    for step in (0, 3):
        with recorded(gcs_folder, {"step": step}):
            pass
    assert [x["event"] for x in read_history(gcs_folder)] == ["start", "end"] * 2


@pytest.mark.parametrize("error", [OSError("full"), RuntimeError("a bucket's own")])
def test_history_that_cannot_be_written_ends_and_hides_nothing(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(history, "_append", fail)
    with recorded(work_path(tmp_path), {}):
        pass
    with pytest.raises(PreemptedError), recorded(work_path(tmp_path), {}):
        raise PreemptedError("stopped")


def said(folder) -> str:
    console = quiet()
    list_runs(folder, console)
    return console.file.getvalue()


def rows(text: str) -> dict[str, list[str]]:
    """Of the first table, by the run."""
    text, _, _ = text.partition("Options that differ")
    lines = [line.strip("│").split("│") for line in text.splitlines() if line.startswith("│")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_runs_are_listed_with_status_and_scores(runs):
    found = rows(said(runs))
    assert set(found) == {"sweep/a", "new"}
    score = json.loads((runs / "sweep" / "a" / "eval" / "step_4" / "metrics.json").read_text())
    passed = f"{score['pass@2']:.1%}"
    assert found["sweep/a"][:6] == ["finished", "4", "4", "0.750", passed, passed]
    assert found["new"][0] == "not begun"
    assert set(rows(said(runs / "sweep" / "a"))) == {"a"}  # a work directory itself


def test_options_that_differ_are_listed(tmp_path):
    """In a table of their own; none where there are none, or one run alone."""
    folder = work_path(tmp_path)
    first = Experiment("a", seed=3)
    longer = dataclasses.replace(first, name="b", train=Train(steps=70_000))
    other = dataclasses.replace(first, name="c", data="sudoku", method="trm")
    for experiment, expected in (
        (first, {}),
        (dataclasses.replace(first, name="a2"), {}),
        (longer, {"a": "train.steps 518,000", "b": "train.steps 70,000"}),
        (other, {"b": "train.steps 70,000", "c": "data sudoku"}),
    ):
        (folder / experiment.name).mkdir()
        claim(folder / experiment.name, experiment)
        _, title, table = said(folder).partition("Options that differ")
        assert bool(title) == bool(expected)
        found = rows(table)
        for name, text in expected.items():
            assert text in " ".join(found[name]), name
    assert "seed" not in table
    (folder / "a" / "config.json").write_text("{")
    assert "Options that differ" in said(folder)


def test_every_status(runs, capsys):
    workdir = runs / "sweep" / "a"
    path, before = workdir / "history.jsonl", (workdir / "history.jsonl").read_text()
    start = json.dumps({"event": "start", "step": 4}) + "\n"
    try:
        for how in ("stopped", "preempted", "failed"):
            end = json.dumps({"event": "end", "how": how, "why": "disk full"})
            path.write_text(before + start + end)
            status = rows(said(runs))["sweep/a"][0]
            assert status == how
            assert ("sweep/a: failed: disk full" in said(runs)) == (how == "failed")
        (workdir / "metrics.jsonl").rename(workdir / "kept")
        path.write_text(before + start)
        assert rows(said(runs))["sweep/a"][0] == "killed"
        path.unlink()  # of an earlier version
        assert rows(said(runs))["sweep/a"][0] == "not begun"
        (workdir / "kept").rename(workdir / "metrics.jsonl")
        assert rows(said(runs))["sweep/a"][0] == "finished"
        (workdir / "config.json").rename(workdir / "kept")
        (workdir / "config.json").write_text("{")
        assert rows(said(runs))["sweep/a"][0] == "damaged"
        assert "sweep/a: damaged: " in said(runs)
        (workdir / "kept").replace(workdir / "config.json")
    finally:
        path.write_text(before)
    assert main(["runs", str(runs)]) == 0
    assert "sweep/a" in capsys.readouterr().out


TRAINED = {"step": 4, "kind": "train", "loss": 1.0}
START, DONE = {"event": "start"}, {"event": "end", "how": "finished"}


@pytest.mark.parametrize(
    ("lines", "history", "saved", "expected"),
    [
        ([], [{"event": "import"}], 4, "imported"),
        # copied without metrics.jsonl
        ([], [START, DONE], 4, "finished"),
        ([], [START, {"event": "end", "how": "stopped"}], 2, "stopped"),
        ([], [START], 2, "killed"),
        ([], [START, DONE, {"event": "change"}], 2, "killed"),
        # and without history.jsonl
        ([], [], 4, "finished"),
        ([], [], 2, "stopped"),
        ([TRAINED], [], 4, "stopped"),
        ([], [], None, "not begun"),
    ],
)
def test_a_run_that_lacks_files_is_not_called_imported(lines, history, saved, expected):
    assert status(False, lines, history, 4, saved) == (expected, "")


def test_the_best_score_is_of_those_on_the_same_tests(runs, tmp_path):
    workdir = work_path(shutil.copytree(runs / "sweep" / "a", tmp_path / "a"))
    score = rows(said(workdir))["a"][4]
    line = {"step": 2, "kind": "eval", "pass@2": 0.999, "tests": "others"}
    with open(workdir / "metrics.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
    assert rows(said(workdir))["a"][4:6] == [score, score]


def test_runs_are_listed_while_one_is_deleted(runs, monkeypatch):
    """A folder that was there when its parent was read."""
    iterdir = type(runs).iterdir

    def late(path):
        if path.name == "gone":
            raise FileNotFoundError(path)
        return iterdir(path)

    (runs / "gone").mkdir()
    monkeypatch.setattr(type(runs), "iterdir", late)
    assert set(rows(said(runs))) == {"sweep/a", "new"}
    monkeypatch.undo()
    (runs / "gone").rmdir()


def test_a_run_at_work_is_running(runs, monkeypatch):
    with lock.hold(runs / "new", print):
        monkeypatch.setattr(lock, "_OURS", set())  # as another process sees it
        assert rows(said(runs))["new"][0] == "running"


def test_a_run_on_another_machine_is_running_while_its_lock_is_rewritten(runs, monkeypatch):
    """The kernel's file lock is free here, as where flock doesn't cross hosts."""
    monkeypatch.setattr(lock, "STALE_SECONDS", 600)  # a busy machine may be slow to look
    path = runs / "new" / "lock"
    path.write_text(json.dumps({"host": "other", "pid": 1, "since": "now", "id": "x", "beat": 3}))
    try:
        assert rows(said(runs))["new"][0] == "running"
        old = path.stat().mtime - lock.STALE_SECONDS - 1
        os.utime(path, (old, old))
        assert rows(said(runs))["new"][0] == "not begun"
    finally:
        path.unlink()


def test_a_score_of_drm_eval_counts(runs):
    workdir = runs / "sweep" / "a"
    (workdir / "metrics.jsonl").rename(workdir / "kept")
    try:
        _, step, _, loss, last, best, _ = rows(said(runs))["sweep/a"]
        assert (step, loss) == ("4", "")
        assert last == best != ""
    finally:
        (workdir / "kept").rename(workdir / "metrics.jsonl")


def test_names_and_reasons_cannot_speak_to_the_terminal(runs):
    made = runs / "sweep" / "b\x1b[31m"
    made.mkdir()
    claim(made, Experiment("b"))
    (made / "history.jsonl").write_text(
        json.dumps({"event": "end", "how": "failed", "why": "\x1b]0;title\x07"}) + "\n"
    )
    assert "\x1b" not in said(runs)
    assert "\x07" not in said(runs)
    for name in ("history.jsonl", "config.json", "run.json"):
        (made / name).unlink()
    made.rmdir()


def test_no_runs(tmp_path, capsys):
    for name in (tmp_path, tmp_path / "no"):
        assert main(["runs", str(name)]) == 1
        assert f"{name}: holds no work directory" in capsys.readouterr().err


def test_show_a_task(capsys, tmp_path):
    assert main(["show", "25d8a9c8", "--png", str(tmp_path / "x.png")]) == 0
    out = capsys.readouterr().out
    for part in ("Task 25d8a9c8 of arc1/training", "demonstration 4", "test 1", "4 4 4"):
        assert part in out
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_show_denoising(runs, capsys, tmp_path):
    workdir = runs / "sweep" / "a"
    png = tmp_path / "x.png"
    assert main(["show", str(workdir), "44f52bb0", "--png", str(png)]) == 0
    out = capsys.readouterr().out
    for part in ("at step 4", "test input 2", "step 4", "░░", "solved by attempt", "attempt 1",
                 "candidate under t", ": gave attempt 1"):  # fmt: skip
        assert part in out, part
    assert "wrong" not in out
    assert out.index("attempt 1 ") < out.index("candidate ")
    assert png.stat().st_size > 1000


def test_attempts_are_shown_without_any_denoising(runs, capsys):
    workdir = runs / "sweep" / "a"
    kept = workdir / "eval" / "step_4" / "trajectories.npz"
    kept.rename(workdir / "kept")
    try:
        assert main(["show", str(workdir), "44f52bb0"]) == 0
    finally:
        (workdir / "kept").rename(kept)
    out = capsys.readouterr().out
    assert "solved by attempt" in out
    assert f"No denoising of it was kept: drm eval {workdir} --step 4 --trajectories" in out
    assert "candidate" not in out


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["nothing"], 1, "nothing: no such task in arc1/training, "),
        (["RUN", "nothing"], 1, "nothing: not among the 2 tasks of"),
        (["RUN", "44f52bb0", "--step", "3"], 1, "step 3 was not evaluated; evaluated: 4"),
        (["NEW", "44f52bb0"], 1, "no checkpoint was scored there yet"),
        (["44f52bb0", "--step", "3"], 2, "--step"),
        (["a", "b", "c"], 2, "name a task"),
        ([], 2, "name a task, or a work directory and a task"),
        (["44f52bb0", "--png", "/dev/null/x.png"], 1, "--png: /dev/null/x.png: there is no folder"),
        (["44f52bb0", "--png", "/"], 2, "--png: / is a folder"),
        (["RUN"], 2, "is a work directory: name a task of it too"),
        (["RUN", "44f52bb0", "--source", "arc1"], 2, "--source"),
    ],
)
def test_what_show_refuses(runs, capsys, argv, code, text):
    places = {"RUN": str(runs / "sweep" / "a"), "NEW": str(runs / "new")}
    assert main(["show", *(places.get(word, word) for word in argv)]) == code
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == 1


def test_a_config_of_an_earlier_version_is_refused_in_one_line(tmp_path):
    """With one `objective` for method, recursion and noise; `drm runs` calls such a run damaged."""
    old = {"name": "old", "seed": 0, "objective": "drm", "data": {"canvas": 30}, "model": {}}
    workdir = work_path(tmp_path / "old")
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps(old))
    line = f"{workdir / 'config.json'}: written by an earlier version of drm_jax, before methods"
    with pytest.raises(InputError, match=re.escape(line)) as refused:
        read_config(workdir)
    assert "\n" not in str(refused.value)
    assert "use that version, or begin a new run" in str(refused.value)
    text = said(work_path(tmp_path))
    assert rows(text)["old"][0] == "damaged"
    (reason,) = (x for x in text.splitlines() if x.startswith("old: damaged: "))
    assert line in reason


# --- files that are damaged or gone ---
@pytest.fixture
def made(runs, tmp_path):
    """A copy of the made-up run."""
    return work_path(shutil.copytree(runs / "sweep" / "a", tmp_path / "a"))


@pytest.mark.parametrize(
    "content",
    ['{"config":{},"changes":[]}', "[]", "{}", '{"config":"CONFIG","changes":[{"step":"x"}]}',
     '{"config":"CONFIG","changes":[{"step":1,"before":{}}]}',
     '{"config":"CONFIG","changes":[{"step":1e999,"before":{}}]}'],
)  # fmt: skip
def test_a_damaged_run_json_is_named_and_hides_no_other_run(made, content, capsys):
    config = (made / "config.json").read_text()
    (made / "run.json").write_text(content.replace('"CONFIG"', config))
    assert main(["report", str(made)]) == 1
    assert f"{made / 'run.json'}: can't be read" in capsys.readouterr().err
    (made.parent / "b").mkdir()
    claim(made.parent / "b", Experiment("b"))
    found = rows(said(made.parent))
    assert (found["a"][0], found["b"][0]) == ("damaged", "not begun")


def test_lines_that_cannot_be_read_are_told(made, capsys):
    for name in ("metrics.jsonl", "history.jsonl"):
        with (made / name).open("a") as file:
            file.write("garbage\n[]\n" + '{"')  # the last one torn by a kill
    assert main(["report", str(made)]) == 0
    for text in (said(made.parent), capsys.readouterr().out):
        assert re.search(r"metrics\.jsonl: 2 of \d+ lines can't be read", text)
        assert re.search(r"history\.jsonl: 2 of \d+ lines can't be read", text)


def test_a_folder_of_scores_is_known(made, capsys):
    (made / "run.json").unlink()
    assert rows(said(made.parent))["a"][0] == "scores alone"
    for command, code in (("checkpoints", 0), ("eval", 1)):
        assert main([command, str(made)]) == code
        assert "holds scores alone" in "".join(capsys.readouterr())


def test_the_history_alone_tells_that_a_run_was_trained(made, capsys):
    shutil.rmtree(made / "eval")
    (made / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match=r"one was saved there \(history\.jsonl is there\)"):
        check_complete(made)
    for command, code in (("checkpoints", 0), ("eval", 1)):
        assert main([command, str(made)]) == code
        assert "one was saved there (history.jsonl is there)" in "".join(capsys.readouterr())
    assert rows(said(made.parent))["a"][0] == "finished"
    history.note(made, {"event": "anew"})
    check_complete(made)


def test_only_what_can_be_changed_is_advised_to_be_changed(made):
    path = made / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "seed": 5, "name": "other"}))
    with pytest.raises(InputError, match=r"--seed was 0, is 5") as error:
        read_config(made)
    assert "--change" not in str(error.value)
    config["optimizer"]["learning_rate"] = 0.5
    path.write_text(json.dumps({**config, "seed": 5}))
    with pytest.raises(InputError) as error:
        read_config(made)
    assert str(error.value).count("--change") == 1
    assert str(error.value).endswith("--change optimizer.learning_rate=0.5")


def test_steps_below_zero_and_folders_that_are_not_there(made, capsys):
    for argv, code, text in (
        (["eval", made, "--step", "-1"], 2, "--step: a step is at least 0"),
        (["eval", made, "--steps=-1,2"], 2, "--steps: a step is at least 0"),
        (["report", made, "--step", "-1"], 2, "--step: a step is at least 0"),
        (["show", made, "t", "--step", "-1"], 2, "--step: a step is at least 0"),
        (["eval", made / "nope"], 1, "nope: not a work directory, there is no such folder"),
    ):
        assert main([str(word) for word in argv]) == code
        assert text in capsys.readouterr().err
