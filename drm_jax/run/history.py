"""WORKDIR/history.jsonl: a line when training starts, and one when it ends in order.

Others tell that a checkpoint was imported, that options or tests changed from a step on, and that
the run was begun anew. A start that was killed leaves no end. `drm runs` and `drm report` tell
people what these lines say; all that is decided by them is that a run whose checkpoints are gone
does not begin again unasked.
"""

import contextlib
import datetime
import json
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from drm_jax.errors import PreemptedError, StoppedError, one_line
from drm_jax.io import metrics
from drm_jax.io.files import is_remote, json_lines, unreadable_lines, write_whole

FILE = "history.jsonl"
_EVENTS = ("start", "end", "import", "change", "anew")


@contextlib.contextmanager
def recorded(workdir: epath.Path, start: Mapping[str, Any]) -> Iterator[None]:
    """Writes a line now, with `start`, and one at the end that says how it came.

    A full disk, or a bucket that can't be reached, may swallow a line: that ends no training, and
    hides no other error.
    """
    note(workdir, {"event": "start", **start})
    how, why = "finished", None
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, (StoppedError, KeyboardInterrupt))
        how = "stopped" if stopped else "failed"
        how = "preempted" if isinstance(error, PreemptedError) else how
        why = one_line(error)[:500]
        raise
    finally:
        note(workdir, {"event": "end", "how": how, "why": why})


def note(workdir: epath.Path, line: Mapping[str, Any]) -> None:
    """Writes a line, if it can be written."""
    with contextlib.suppress(Exception):  # a bucket's clients have errors of their own
        _append(workdir, line)


def read_history(workdir: epath.Path) -> list[dict[str, Any]]:
    """The lines, oldest first; what a kill has torn or is no line is left out."""
    return [line for line in json_lines(workdir / FILE) if _is_line(line)]


def unreadable_logs(workdir: epath.Path) -> list[str]:
    """Says how many lines of metrics.jsonl and history.jsonl can't be read, where some can't."""
    of_history = unreadable_lines(workdir / FILE, '{"time": ', _is_line)
    return [text for text in (metrics.unreadable(workdir), of_history) if text]


def _is_line(line: Any) -> bool:
    return isinstance(line, dict) and line.get("event") in _EVENTS


def tells_of_steps(workdir: epath.Path) -> bool:
    """Whether a checkpoint was saved since the run began, or was last begun anew."""
    told = False
    for line in read_history(workdir):
        if line["event"] == "anew":
            told = False
        elif line["event"] in ("start", "change"):
            told |= type(line.get("step")) is int and line["step"] > 0
        else:
            told |= line["event"] == "import" or line.get("how") == "finished"
    return told


def _append(workdir: epath.Path, line: Mapping[str, Any]) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    text = json.dumps({"time": now, **line}) + "\n"
    path = workdir / FILE
    if is_remote(path):
        before = path.read_bytes() if path.exists() else b""
        write_whole(path, before + text.encode())
        return
    torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    with open(path, "a", encoding="utf-8") as file:
        file.write("\n" * torn + text)
