"""What a parent makes of its child's end."""

import signal
import subprocess
import sys

import pytest

from drm_jax.runtime.supervise import explain

LIMIT = 300
"""Seconds that any program may take, which only guard against hanging."""

HEARTBEATS = """\
E1124 13:46:57.510674   27611 coordination_service.cc:1549] Use error polling to propagate: \
UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):
{}
The tasks have crashed. Check the task logs for an earlier error.
"""


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (HEARTBEATS.format("1"), "process 1 has died or can't be reached"),
        (HEARTBEATS.format("3\n12"), "processes 3, 12 have died or can't be reached"),
        (HEARTBEATS.format("/job:jax_worker/replica:0/task:7"), "process 7 has died"),
        ("absl::Status: ALREADY_EXISTS: Aborted connect attempt", "the same --process-id"),
        (
            "ABORTED: 1 unexpectedly tried to connect with a different incarnation. It has likely "
            "restarted.\n\nRPC: /xla.coordination.CoordinationService/PollForError",
            "the same --process-id",
        ),
        ("DEADLINE_EXCEEDED\n\nRPC: /xla.coordination.X/RegisterTask", "have come in time"),
        ("UNAVAILABLE: Failed to send RPC to coordination service.", "process 0, which"),
    ],
)
def test_what_jax_logs_comes_to_one_line(log, line):
    assert line in explain(log)
    assert "\n" not in explain(log)


def test_another_abort_is_not_explained_away():
    assert explain("F1124 13:46:57.5 27611 literal.cc:12] Check failed: shape.is_array()") is None


def run(body: str) -> subprocess.CompletedProcess:
    """A program whose child does `body`."""
    start = "import os, signal, sys, time\nfrom drm_jax.runtime.supervise import supervise\n"
    start += "code = supervise()\nif code is not None: sys.exit(code)\n"
    return subprocess.run(
        [sys.executable, "-c", start + body],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )


LOG = "E1124 13:46:57.51 27611 client.h:80] Terminating process because the JAX distributed service"


def test_a_child_that_ends_in_order():
    ended = run("print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "out\n", "err\n")


def test_what_it_says_itself_is_all_that_is_said():
    body = f"print('drm: mine', file=sys.stderr, flush=True); os.write(2, b'{LOG}'); os.abort()"
    ended = run(body)
    assert (ended.returncode, ended.stderr) == (1, "drm: mine\n")


def test_an_abort_is_explained():
    ended = run(f"os.write(2, b'{LOG} detected fatal errors\\n    @ 0x7f34\\n'); os.abort()")
    assert ended.returncode == 1
    assert ended.stderr.startswith("drm: process 0, which coordinates the others, has ended")
    assert len(ended.stderr.splitlines()) == 1


def test_another_abort_keeps_its_log():
    ended = run("os.write(2, b'F1124 13:46:57.5 1 a.cc:1] Check failed: x\\n'); os.abort()")
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "F1124 13:46:57.5 1 a.cc:1] Check failed: x",
        "drm: ended by SIGABRT",
    ]


def test_the_log_of_a_run_that_ends_well_is_not_shown():
    greeting = "[Gloo] Rank [Gloo] Rank 1 is\\n3 is. Number of connected peer ranks is 3\\n\\n"
    ended = run(f"os.write(1, b'{greeting}'); os.write(2, b'{LOG}\\n')")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_traceback_after_a_log_is_shown():
    first, rest = LOG[:9], LOG[9:]  # apart, since a traceback may quote the program
    ended = run(f"os.write(2, b'{first}' b'{rest}\\n'); 1 // 0")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback")
    assert ended.stderr.splitlines()[-1].startswith("ZeroDivisionError")
    assert LOG not in ended.stderr


def test_signals_reach_the_child_once():
    body = """
count = []
signal.signal(signal.SIGINT, lambda *_: count.append(1))
os.kill(os.getppid(), signal.SIGINT)
end = time.monotonic() + 250
while not count and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.5)  # a second one would come at once
sys.exit(40 + len(count))"""
    assert run(body).returncode == 41


def test_a_child_that_a_signal_ended_ends_its_parent_alike():
    assert run("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)").returncode == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a child die with its parent")
def test_a_child_dies_with_its_parent():
    """Else its parent's output would stay open, and this would wait until its limit."""
    ended = run(f"os.kill(os.getppid(), signal.SIGKILL); time.sleep({2 * LIMIT})")
    assert ended.returncode == -signal.SIGKILL
