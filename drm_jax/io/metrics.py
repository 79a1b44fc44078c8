"""Scalars and pictures of a run: metrics.jsonl and TensorBoard. Process 0 alone writes."""

import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from drm_jax.io import lock
from drm_jax.io.files import free_path, is_remote, json_lines, unreadable_lines, write_whole
from drm_jax.io.trackers import Tracker
from drm_jax.parallel import processes

# tensorboardX imports torch where it is installed, for a second or two: nothing here needs it.
_hidden = "torch" not in sys.modules
if _hidden:
    sys.modules["torch"] = None
try:
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
finally:
    if _hidden:
        del sys.modules["torch"]

FILE = "metrics.jsonl"
_BEGIN = '{"step": '


class MetricsLog:
    """Appends to WORKDIR/metrics.jsonl and WORKDIR/tensorboard. Use it as a context manager.

    The objects of a bucket can't be appended to: there, logs are written to a local folder and
    copied by `publish`, at each save.
    """

    def __init__(
        self,
        workdir: epath.Path,
        resumed_at: int | None,
        headline: str,
        tests: str,
        tracker: Tracker | None = None,
    ):
        """Drops what an earlier start logged past the step that this one goes on from.

        Args:
          resumed_at: that step; None for a fresh start, which drops all.
          headline: the score that checkpoints are compared by.
          tests: a digest of what is answered and its truth: scores on other tests say another
            thing. It stands in each line of an evaluation.
          tracker: gets all scalars too; of process 0.
        """
        self.headline, self._tests, self._tracker = headline, tests, tracker
        kept = [] if resumed_at is None else read_metrics(workdir, resumed_at)
        scored = [
            [x["step"], x.get(headline), x.get("tests", tests)]  # earlier versions didn't say
            for x in kept
            if x["kind"] == "eval"
        ]
        # As process 0 sees the disk: what is evaluated next must be the same everywhere.
        scored = json.loads(processes.of_first(json.dumps(scored)))
        self.scores_on: dict[str, dict[int, float]] = {}
        """The headline score of each step that was scored, by the digest of the tests."""
        for step, score, on in scored:
            if score is not None:
                self.scores_on.setdefault(on, {})[step] = score
        self.scores = self.scores_on.setdefault(tests, {})
        """Those on the tests of now."""
        self._evaluated = {step for step, *_ in scored}
        self._file = self._events = None
        if not processes.is_first():
            return
        self._workdir = workdir
        self._remote = is_remote(workdir)
        self._local = Path(tempfile.mkdtemp(prefix="drm-logs-") if self._remote else workdir)
        folder = self._local / "tensorboard"
        folder.mkdir(exist_ok=True)
        path = self._local / FILE
        write_whole(epath.Path(path), "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")
        # Written here and now, not by SummaryWriter's thread: that dies on a full disk, unheard.
        suffix = f".{os.getpid()}.{resumed_at or 0}"  # two starts within a second are two files
        self._events = EventsWriter(str(folder / "events"), suffix)
        # TensorBoard drops what earlier event files hold from this step on.
        first = 0 if resumed_at is None else resumed_at + 1
        self._event(first, file_version="brain.Event:2")
        self._event(first, session_log=SessionLog(status=SessionLog.START))

    def _event(self, step: int, **content: Any) -> None:
        self._events.write_event(Event(wall_time=time.time(), step=step, **content))
        self._events.flush()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_) -> None:
        if not self._file:
            return
        with self._file, contextlib.closing(self._events):
            if not lock.held_elsewhere(self._workdir):  # else it is another run's log by now
                self.publish()
        if self._remote:
            shutil.rmtree(self._local)

    def was_evaluated(self, step: int) -> bool:
        """Whether the line of this step's evaluation was written."""
        return step in self._evaluated

    def scalars(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """A line of metrics.jsonl, and TensorBoard scalars `kind/name`. NaN is written as null."""
        plain = {name: float(value) for name, value in values.items()}
        if kind == "eval":
            self._evaluated.add(step)
            if self.headline in plain:
                self.scores[step] = plain[self.headline]
        if not self._file:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in plain.items()}
        on = {"tests": self._tests} if kind == "eval" else {}
        self._file.write(json.dumps({"step": step, "kind": kind, **finite, **on}) + "\n")
        self._file.flush()
        points = [
            Summary.Value(tag=f"{kind}/{name}", simple_value=value) for name, value in plain.items()
        ]
        self._event(step, summary=Summary(value=points))
        if self._tracker is not None:
            self._tracker.log(step, kind, plain)

    def picture(self, step: int, name: str, image_HxWx3: np.ndarray) -> None:
        """A TensorBoard image, uint8."""
        if self._file:
            self._event(step, summary=summary.image(name, image_HxWx3, dataformats="HWC"))

    def publish(self) -> None:
        """Makes sure that what was logged is in the work directory, as at a save."""
        if not self._file:
            return
        if not self._remote:
            os.fsync(self._file.fileno())
            return
        for path in sorted(self._local.rglob("*")):
            if path.is_file():
                write_whole(self._workdir / path.relative_to(self._local), path.read_bytes())


def read_metrics(workdir: epath.Path, last_step: int | None = None) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl up to a step; what a kill has torn or is no line is left out."""
    return [
        line
        for line in json_lines(workdir / FILE)
        if _is_line(line) and (last_step is None or line["step"] <= last_step)
    ]


def keep_unreadable(workdir: epath.Path) -> str | None:
    """Keeps a copy of a metrics.jsonl with lines that a start would drop; says so, or None."""
    path, wrong = workdir / FILE, unreadable(workdir)
    if not wrong:
        return None
    copy = free_path(workdir / "damaged", FILE)
    write_whole(copy, path.read_bytes())
    return f"{wrong}; a copy is kept as {copy}"


def unreadable(workdir: epath.Path) -> str | None:
    """Says how many lines of metrics.jsonl can't be read; None where all can."""
    return unreadable_lines(workdir / FILE, _BEGIN, _is_line)


def _is_line(line: Any) -> bool:
    """Whether this is what `scalars` writes."""
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return False
    numbers = [value for name, value in line.items() if name not in ("kind", "tests")]
    texts = (line.get("kind"), line.get("tests", ""))
    return all(isinstance(text, str) for text in texts) and all(
        value is None or (type(value) in (int, float) and abs(value) < 1e300) for value in numbers
    )
