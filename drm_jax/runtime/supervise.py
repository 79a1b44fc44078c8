"""A parent for one of several processes, which says in one line why it ended.

Where another process dies, jax 0.10.2 aborts from within C++ with a page of its own log. So the
command itself runs in a child:

    drm ── fork ──┬── parent: passes signals on, reads the child's errors, gives its exit code
                  └── child: all else; it dies with its parent

Tried instead, within the one process, and found wanting:
- a callback for missed heartbeats (get_distributed_runtime_client of jaxlib has the argument): it
  is called with a status that Python can't be given, so C++ ends the process by std::bad_cast, and
  a late start by the same exception without a reason;
- jax_enable_recoverability with get_live_nodes: a process that dies is seen from Python, but the
  loss of process 0 and a start that comes to nothing abort as before, and two processes of one id
  run on side by side;
- a handler of SIGABRT in Python: it never runs, as C++ doesn't return.
"""

import collections
import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from types import FrameType

from drm_jax.runtime.output import Output

_LOG_OF_CPP = re.compile(r"[DIWEF]\d{4} \d\d:\d\d:\d\d")
# gloo greets on standard output, several threads at once.
_GREETING = re.compile(r"\[Gloo\] Rank|connected peer ranks")
_AGAIN = "; start all of them again with the same command"
_PASSED_ON = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def supervise() -> int | None:
    """Goes on in a child, where None is returned; the parent returns its exit code.

    To be called before anything starts a thread.
    """
    sys.stdout.flush()
    source, sink = os.pipe()
    parent = os.getpid()
    # One that comes between the fork and the handlers must wait for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child:
        os.close(sink)
        with _signals_passed_on(child), open(source, encoding="utf-8", errors="replace") as lines:
            said, traced, held = _relay(lines)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return _explained(code, said or (traced and code > 0), held)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    os.close(source)
    os.setpgid(0, 0)  # Ctrl-C reaches the parent alone, which passes it on: once
    _die_with(parent)
    # What C++ prints goes to the parent; our own output goes where it went.
    own = open(os.dup(1), "w", encoding=sys.stdout.encoding, errors="replace")  # noqa: SIM115
    sys.stdout = Output(own)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)
    return None


def _die_with(parent: int) -> None:
    """The kernel kills this process when its parent ends, however that comes about."""
    with contextlib.suppress(OSError, AttributeError):  # only Linux knows it
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def _signals_passed_on(child: int) -> Iterator[None]:
    """Afterwards they are ignored: the child has ended, and its exit code is to be given."""

    def pass_on(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in _PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    yield
    for number in _PASSED_ON:
        signal.signal(number, signal.SIG_IGN)


def _relay(lines: Iterable[str]) -> tuple[bool, bool, list[str]]:
    """Passes a child's errors on as they come, but for what C++ logs.

    Returns:
      Whether it has said in a line of ours what is wrong; whether it has shown a traceback; the
      newest of what was kept back.
    """
    said, traced, in_log, held = False, False, False, collections.deque(maxlen=200)
    for line in lines:
        ours = line.startswith("drm: ")
        traceback = line.startswith("Traceback (most recent call last)")
        said, traced = said or ours, traced or traceback
        in_log = not ours and not traceback and (in_log or bool(_LOG_OF_CPP.match(line)))
        if not line.strip() or _GREETING.search(line):
            continue
        if in_log:
            held.append(line)
        else:
            with contextlib.suppress(OSError):
                sys.stderr.write(line)
                sys.stderr.flush()
    return said, traced, list(held)


def _explained(code: int, said: bool, held: list[str]) -> int:
    """The exit code of a child that has ended; says why, unless it has said so itself."""
    if code == 0 or said:
        return code if code >= 0 else 1
    if -code in _PASSED_ON:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    text = "".join(held)
    reason = explain(text) if code < 0 else None
    with contextlib.suppress(OSError):
        if reason is None:
            sys.stderr.write(text)
            if code > 0:
                return code
            reason = f"ended by {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                reason += ": maybe for want of memory"
        print(f"drm: {reason}", file=sys.stderr, flush=True)
    return 1


def explain(log: str) -> str | None:
    """What jax's log of an abort comes to, in one line; None where it is about something else."""
    silent = re.search(r"stopped sending heartbeats\):\n(.*?)\nThe tasks", log, re.DOTALL)
    if silent:
        ids = re.findall(r"(\d+)\s*$", silent[1], re.MULTILINE)
        who = f"process {ids[0]} has" if len(ids) == 1 else f"processes {', '.join(ids)} have"
        return f"{who} died or can't be reached (--heartbeat-timeout){_AGAIN}"
    if re.search("newer incarnation|unexpectedly tried to connect|ALREADY_EXISTS", log):
        return (
            "two processes came with the same --process-id, or one came again alone; give each its "
            f"own{_AGAIN}"
        )
    if "RegisterTask" in log and "DEADLINE_EXCEEDED" in log:
        return (
            "not all processes have come in time (--join-timeout), or something else answers at "
            f"--coordinator{_AGAIN}"
        )
    if "coordination service" in log or "distributed service" in log:
        return (
            "process 0, which coordinates the others, has ended or can't be reached; its own last "
            f"line says why{_AGAIN}"
        )
    return None
