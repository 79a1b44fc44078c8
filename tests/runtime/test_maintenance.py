"""Notices of a machine that is about to be taken away, from a metadata server of our own."""

import dataclasses
import http.server
import threading
import time

import pytest
from workdirs import quiet

from drm_jax.errors import PreemptedError
from drm_jax.io import checkpoint
from drm_jax.io.files import work_path
from drm_jax.run.loop import train
from drm_jax.runtime import maintenance


class Metadata(http.server.BaseHTTPRequestHandler):
    values: dict[str, str]
    asked: list[str]

    def do_GET(self):
        assert self.headers["Metadata-Flavor"] == "Google"
        name = self.path.removeprefix("/computeMetadata/v1/instance/")
        self.asked.append(name)
        self.send_response(200 if name in self.values else 404)
        self.end_headers()
        self.wfile.write(self.values.get(name, "").encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata(monkeypatch):
    handler = type("Handler", (Metadata,), {"values": {}, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
        monkeypatch.setattr(maintenance, "LOOK_SECONDS", 0.01)
        yield handler
        server.shutdown()


class Told(threading.Event):
    def __call__(self, why: str) -> None:
        self.why = why
        self.set()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("preempted", "TRUE", "a notice of preemption"),
        (
            "maintenance-event",
            "TERMINATE_ON_HOST_MAINTENANCE",
            "a maintenance notice (TERMINATE_ON_HOST_MAINTENANCE)",
        ),
    ],
)
def test_a_notice_is_told(metadata, name, value, why):
    metadata.values |= {"preempted": "FALSE", "maintenance-event": "NONE"}
    told = Told()
    with maintenance.watch(told):
        wait_for_looks(metadata, 3)
        assert not told.is_set()
        metadata.values[name] = value
        assert told.wait(600)
    assert told.why == why


def test_what_is_no_end_or_was_announced_before_is_passed_over(metadata):
    metadata.values |= {"preempted": "FALSE", "maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE"}
    told = Told()
    with maintenance.watch(told):
        wait_for_looks(metadata, 3)
        metadata.values["maintenance-event"] = "MIGRATE_ON_HOST_MAINTENANCE"
        wait_for_looks(metadata, 3)
        metadata.values.clear()  # it answers 404
        wait_for_looks(metadata, 3)
    assert not told.is_set()


def wait_for_looks(metadata, count: int) -> None:
    wanted, end = len(metadata.asked) + 2 * count, time.monotonic() + 600
    while len(metadata.asked) < wanted:
        assert time.monotonic() < end, "it doesn't look any more"
        time.sleep(0.01)


def test_a_run_saves_and_asks_for_another_start(metadata, sigterm, tiny, tmp_path):
    longer = dataclasses.replace(tiny.train, steps=100_000, log_every=1, checkpoint_every=100_000)
    experiment, workdir = dataclasses.replace(tiny, train=longer), work_path(tmp_path)
    metadata.values["preempted"] = "FALSE"

    def preempt_once_it_trains() -> None:
        log = tmp_path / "metrics.jsonl"
        while not (log.exists() and log.stat().st_size):
            threading.Event().wait(0.01)
        metadata.values["preempted"] = "TRUE"

    threading.Thread(target=preempt_once_it_trains, daemon=True).start()
    console = quiet()
    with pytest.raises(PreemptedError, match=r"step \d+ is saved"):
        train(experiment, workdir, console)
    assert "Stopping after a notice of preemption: this step is" in console.file.getvalue()
    assert checkpoint.steps_in(checkpoint.checkpoint_folder(workdir))
