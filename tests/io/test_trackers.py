"""Trackers: one adapter for two packages, which may be missing, fail, or be resumed."""

import dataclasses
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import types

import pytest
from workdirs import quiet

from drm_jax.config import Experiment, Train
from drm_jax.errors import UsageError
from drm_jax.io.files import work_path
from drm_jax.io.metrics import MetricsLog
from drm_jax.io.trackers import check_installed, tracked
from drm_jax.run import loop

NAMES = ("wandb", "trackio")


class Stand:
    """Stands for a tracker's package; keeps what it is told."""

    def __init__(self):
        self.inits, self.logged, self.finished, self.fails = [], [], 0, ()

    def _told(self, what):
        print("printed by a tracker")
        if what in self.fails:
            raise ConnectionError(f"no {what}\nand more")

    def init(self, **options):
        self._told("init")
        self.inits.append(options)
        return self

    def log(self, values, step):
        self._told("log")
        self.logged.append((step, values))

    def finish(self):
        self._told("finish")
        self.finished += 1


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture
def stand(name, monkeypatch) -> Stand:
    stand, module = Stand(), types.ModuleType(name)
    module.init, module.finish = stand.init, stand.finish
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    monkeypatch.setitem(sys.modules, name, module)
    for variable in ("WANDB_MODE", "WANDB_PROJECT", "TRACKIO_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    return stand


def run(name, folder, resumed, said, steps=((1, {"loss": 0.5}),)):
    """What a start of training logs."""
    workdir = work_path(folder)
    with (
        tracked(name, workdir, resumed, "demo", {"seed": 3}, said.append) as tracker,
        MetricsLog(workdir, steps[0][0] - 1 if resumed else None, "exact", "t", tracker) as log,
    ):
        for step, values in steps:
            log.scalars(step, "train", values)


def test_scalars_are_logged_offline_and_a_resumed_run_goes_on(name, stand, tmp_path, capsys):
    said: list[str] = []
    run(name, tmp_path, False, said, [(1, {"loss": 0.5}), (2, {"loss": 0.25, "exact": 1.0})])
    run(name, tmp_path, True, said, [(3, {"loss": 0.125})])
    first, second = stand.inits
    assert first == second
    assert (first["project"], first["resume"], first["config"]) == ("drm_jax", "allow", {"seed": 3})
    number = json.loads((tmp_path / "tracker.json").read_text())[name]
    if name == "wandb":
        assert (first["id"], first["name"], first["mode"]) == (number, "demo", "offline")
        assert first["dir"] == str(tmp_path)
    else:
        assert first["name"] == f"demo-{number}"
        assert not {"space_id", "server_url"} & first.keys()
    assert stand.logged == [
        (1, {"train/loss": 0.5}),
        (2, {"train/loss": 0.25, "train/exact": 1.0}),
        (3, {"train/loss": 0.125}),
    ]
    assert stand.finished == 2
    assert said == [said[0]] * 2
    assert said[0].startswith(f"Tracked by {name} in project drm_jax as demo")
    assert capsys.readouterr().out == ""

    run(name, tmp_path, False, said)  # a fresh start is another run
    assert json.loads((tmp_path / "tracker.json").read_text())[name] != number


def test_the_environment_may_say_otherwise(stand, name, tmp_path, monkeypatch):
    monkeypatch.setenv(f"{name.upper()}_PROJECT", "mine")
    monkeypatch.setenv("WANDB_MODE", "online")
    run(name, tmp_path, False, [])
    assert stand.inits[0]["project"] == "mine"
    assert stand.inits[0].get("mode", "online") == "online"


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_a_tracker_s_failure_is_told_once_and_ends_nothing(fails, name, stand, tmp_path):
    stand.fails, said = (fails,), []
    run(name, tmp_path, False, said, [(1, {"loss": 1.0}), (2, {"loss": 0.5}), (3, {"loss": 0.25})])
    told = [text for text in said if not text.startswith("Tracked by")]
    assert len(told) == 1
    assert told[0].startswith(f"{name}: {fails} failed: no {fails}; the run goes on")
    assert "\n" not in told[0]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_an_error_of_the_run_is_not_hidden(stand, name, tmp_path):
    with (
        pytest.raises(KeyError, match="mine"),
        tracked(name, work_path(tmp_path), False, "x", {}, print),
    ):
        raise KeyError("mine")
    assert stand.finished == 1


def test_none_imports_nothing_and_writes_nothing(tmp_path):
    with tracked("none", work_path(tmp_path), False, "x", {}, print) as tracker:
        assert tracker is None
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_missing(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=f"train.tracker: {name} is not installed: pip install"):
        check_installed(name)
    check_installed("none")


def test_the_option(name):
    assert Experiment("x").train.tracker == "none"
    assert Train(tracker=name).tracker == name
    with pytest.raises(UsageError, match=r"train\.tracker: must be one of none, wandb, trackio"):
        Train(tracker="mlflow")


def test_a_run_tracks_what_it_logs_and_goes_on(name, stand, tiny, tmp_path, capsys):
    """The numbers of metrics.jsonl, of both starts, in one run of the tracker."""
    workdir = work_path(tmp_path / "run")
    for steps in (2, 4):
        train = dataclasses.replace(tiny.train, steps=steps, tracker=name)
        loop.train(dataclasses.replace(tiny, train=train), workdir, quiet())
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    expected = [
        (line["step"], {f"{line['kind']}/{k}": v for k, v in line.items() if is_number(k, v)})
        for line in lines
    ]
    logged = [(step, {k: v for k, v in of.items() if v == v}) for step, of in stand.logged]
    assert logged == expected
    assert [step for step, _ in logged] == [2, 2, 4, 4]
    first, second = stand.inits
    assert first["name"] == second["name"]
    assert first.get("id") == second.get("id")
    assert (first["config"]["train"]["steps"], second["config"]["train"]["steps"]) == (2, 4)
    assert stand.finished == 2
    # Another tracker may be chosen at any start, and a missing one is told before anything else.
    other = dataclasses.replace(tiny.train, tracker="none")
    loop.train(dataclasses.replace(tiny, train=other), workdir, quiet())
    assert len(stand.inits) == 2


def is_number(name: str, value: object) -> bool:
    return name not in ("step", "kind", "tests") and value is not None


def test_a_missing_package_begins_nothing(name, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    train = dataclasses.replace(tiny.train, tracker=name)
    with pytest.raises(UsageError, match=f"{name} is not installed"):
        loop.train(dataclasses.replace(tiny, train=train), work_path(tmp_path / "run"), quiet())
    assert not (tmp_path / "run").exists()


# --- the packages themselves, where they are installed -------------------------------------------
REAL = """
import socket, sys
from drm_jax.io.files import work_path
from drm_jax.io.trackers import tracked

def refuse(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
        print("the network was asked for", address)
        raise OSError("no network")
    return connect(self, address)

def refuse_name(host, *rest, **more):
    if host not in ("127.0.0.1", "localhost", "::1"):
        print("the network was asked for", host)
        raise OSError("no network")
    return look_up(host, *rest, **more)

connect, socket.socket.connect = socket.socket.connect, refuse
look_up, socket.getaddrinfo = socket.getaddrinfo, refuse_name
for start, resumed in enumerate((False, True)):
    place = work_path(sys.argv[2])
    with tracked(sys.argv[1], place, resumed, "demo", {"seed": 3}, print) as tracker:
        assert tracker is not None
        for step in (1, 2):
            tracker.log(2 * start + step, "train", {"loss": 1 / (2 * start + step)})
"""


@pytest.mark.long
def test_the_package_itself(name, tmp_path):
    pytest.importorskip(name, reason="a tracker of its own choice")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "TRACKIO"))}
    environ |= {"TRACKIO_DIR": str(tmp_path / "trackio"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", REAL, name, str(tmp_path)], env=environ, cwd=tmp_path,
        capture_output=True, text=True, encoding="utf-8", check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout
    assert "network" not in done.stdout
    assert [line for line in done.stdout.splitlines() if not line.startswith("Tracked by")] == []
    assert done.stdout.count("Tracked by") == 2
    if name == "wandb":
        number = json.loads((tmp_path / "tracker.json").read_text())[name]
        runs = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
        assert len(runs) == 2
        assert all(run.endswith(f"-{number}") for run in runs)
        assert all(list((tmp_path / "wandb" / run).glob("*.wandb")) for run in runs)
    else:
        import sqlite3

        (path,) = (tmp_path / "trackio").glob("*.db")
        with sqlite3.connect(path) as database:
            rows = database.execute("select step, run_name from metrics order by step").fetchall()
        assert [step for step, _ in rows] == [1, 2, 3, 4]
        assert len({of for _, of in rows}) == 1
