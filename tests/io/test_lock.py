"""One run at a time in a work directory; a lock whose holder is gone doesn't bind."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from drm_jax.errors import InputError
from drm_jax.io import lock
from drm_jax.io.files import work_path

HOLD = """
import sys, time
from drm_jax.io.files import work_path
from drm_jax.io.lock import hold
with hold(work_path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_and_a_dead_ones_lock_is_stale(tmp_path, holder):
    workdir, said = work_path(tmp_path), []
    with pytest.raises(InputError, match=f"another run is at work here .process {holder.pid} on"):
        lock.hold(workdir, said.append).__enter__()
    assert f"process {holder.pid}" in lock.held_elsewhere(workdir)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert lock.held_elsewhere(workdir) is None
    with lock.hold(workdir, said.append) as held:
        held.check()
        assert lock.held_elsewhere(workdir) is None
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert said == [next(s for s in said if f"The lock of process {holder.pid} on" in s)]
    assert (tmp_path / "lock").read_text() == ""
    with lock.hold(workdir, said.append):  # let go in order: nothing to say
        assert len(said) == 1


def wait_for(ready) -> None:
    """Without a limit that a busy machine could reach."""
    end = time.monotonic() + 600
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


def beats(tmp_path) -> int:
    """How often the lock was rewritten, as it says; -1 while it is being written."""
    try:
        return json.loads((tmp_path / "lock").read_text())["beat"]
    except ValueError:
        return -1


def elsewhere(tmp_path, beat: int = 0) -> None:
    value = {"host": "other", "pid": 1, "since": "yesterday", "id": "x", "beat": beat}
    (tmp_path / "lock").write_text(json.dumps(value))


def test_another_machines_lock_that_beats_no_more_is_stale(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.6)
    elsewhere(tmp_path)
    said = []
    with lock.hold(work_path(tmp_path), said.append):
        pass
    assert "held by process 1 on other, since yesterday; waiting" in said[0]
    assert "is stale" in said[1]


def test_another_machines_lock_that_beats_is_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "STALE_SECONDS", 600)
    elsewhere(tmp_path)
    ended = threading.Event()

    def beat() -> None:
        for number in itertools.count(1):
            if ended.wait(0.3):
                return
            elsewhere(tmp_path, number)

    beating = threading.Thread(target=beat)
    # It begins to beat when it is waited for a sign.
    with pytest.raises(InputError, match="process 1 on other"):
        lock.hold(work_path(tmp_path), lambda _: beating.start()).__enter__()
    ended.set()
    beating.join()
    assert json.loads((tmp_path / "lock").read_text())["host"] == "other"


def test_it_beats_and_notices_when_it_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    with lock.hold(work_path(tmp_path), print) as held:
        wait_for(lambda: beats(tmp_path) >= 2)
        held.check()

        def taken_over() -> bool:
            elsewhere(tmp_path)  # again and again: a beat under way may write over it
            return held.lost

        wait_for(taken_over)
        with pytest.raises(InputError, match="another run has taken this work directory over"):
            held.check()
    assert json.loads((tmp_path / "lock").read_text())["host"] == "other"


def test_it_goes_on_beating_after_a_beat_that_failed(tmp_path, monkeypatch):
    """Whatever was raised: gcsfs, aiohttp and google.auth raise what is no OSError."""
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    again, write = threading.Event(), lock._LocalFile.write

    def fail_once(file, text):
        beat = json.loads(text)["beat"] if text else 0
        if beat == 1:
            raise Exception("503")
        write(file, text)
        if beat > 1:
            again.set()

    monkeypatch.setattr(lock._LocalFile, "write", fail_once)
    with lock.hold(work_path(tmp_path), print):
        assert again.wait(600)


def test_whether_another_machines_run_is_alive_is_told_by_its_beat(tmp_path, monkeypatch):
    """This machine's kernel knows nothing of its lock, as where flock doesn't cross hosts."""
    monkeypatch.setattr(lock, "STALE_SECONDS", 36_000)  # a busy machine may be slow to look
    workdir = work_path(tmp_path)
    elsewhere(tmp_path)
    assert lock.is_alive(workdir)
    assert lock.held_elsewhere(workdir) == "process 1 on other, since yesterday"
    written = (tmp_path / "lock").stat().st_mtime
    for age, alive in ((lock.STALE_SECONDS - 600, True), (lock.STALE_SECONDS + 5, False)):
        os.utime(tmp_path / "lock", (written - age, written - age))
        assert lock.is_alive(workdir) == alive
        assert (lock.held_elsewhere(workdir) is not None) == alive
    (tmp_path / "lock").write_text("")  # let go
    assert not lock.is_alive(workdir)


def test_without_file_locks_a_process_of_this_machine_counts_while_it_lives(
    tmp_path, holder, monkeypatch
):
    monkeypatch.setattr(lock, "fcntl", None)
    workdir = work_path(tmp_path)
    assert lock.is_alive(workdir)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not lock.is_alive(workdir)


@pytest.mark.parametrize("text", ["{", "[1]", '{"pid": 4}', "\x00" * 50])
def test_a_lock_file_of_nonsense_does_not_bind(tmp_path, monkeypatch, text):
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.1)
    (tmp_path / "lock").write_text(text)
    with lock.hold(work_path(tmp_path), lambda _: None):
        assert json.loads((tmp_path / "lock").read_text())["host"] == socket.gethostname()
