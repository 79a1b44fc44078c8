"""One thread that computes: whoever asks for something waits for those who asked before."""

import collections
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from drm_jax.errors import InputError, UsageError, one_line

Listener = Callable[[dict[str, Any] | None], None]
"""Takes the events of a job; None: there are no more."""
MOST_WAITING = 8


class BusyError(Exception):
    """So many wait that no more are taken."""


class Job:
    """Something to compute, which tells events while it is at work."""

    def __init__(self, work: Callable[["Job"], None], tell: Listener):
        self.work, self.tell = work, tell
        self._stopped, self._on_stop = threading.Event(), lambda: None

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def when_stopped(self, act: Callable[[], None]) -> None:
        """Has a stop call this too."""
        self._on_stop = act
        if self.is_stopped:
            act()

    def stop(self) -> None:
        """From any thread: nobody waits for it any more."""
        self._stopped.set()
        self._on_stop()


class Worker:
    """Does jobs one after the other, in a thread of its own."""

    def __init__(self, beforehand: Iterable[Callable[[], None]] = ()):
        """Args:
        beforehand: what is done while nobody asks for anything.
        """
        self._beforehand = collections.deque(beforehand)
        self._waiting: collections.deque[Job] = collections.deque()
        self._at_work: Job | None = None
        self._changed, self._is_closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="drm-play", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Job], None], tell: Listener) -> Job:
        """Tells first how many are before it, if it has to wait.

        Raises:
          BusyError: too many wait, or it is closed.
        """
        job = Job(work, tell)
        with self._changed:
            before = [other for other in self._waiting if not other.is_stopped]
            self._waiting = collections.deque(before)
            if self._is_closed:
                raise BusyError("drm play is being closed")
            if len(before) >= MOST_WAITING:
                raise BusyError(f"{MOST_WAITING} others wait already: try again in a moment")
            at_work = self._at_work
            if before or at_work is not None:
                asked = at_work is not None and at_work.tell is not _print_error
                tell({"event": "waiting", "before": len(before) + asked})
            self._waiting.append(job)
            self._changed.notify()
        return job

    def close(self) -> None:
        """Stops all jobs, as soon as they can, and tells their listeners that there is no more."""
        with self._changed:
            self._is_closed = True
            jobs = [*self._waiting, *([self._at_work] if self._at_work else [])]
            self._waiting.clear()
            self._beforehand.clear()
            self._changed.notify()
        for job in jobs:
            job.stop()
            job.tell(None)

    def join(self, seconds: float) -> bool:
        """Waits until a closed worker has ended, but no longer than this; whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if not job.is_stopped:
                _do(job)
            job.tell(None)

    def _next(self) -> Job | None:
        """The next job; while there is none, what is to be done beforehand. None: it is closed."""
        with self._changed:
            self._at_work = None
            while not (self._waiting or self._beforehand or self._is_closed):
                self._changed.wait()
            if self._is_closed:
                return None
            if self._waiting:
                self._at_work = self._waiting.popleft()
            else:
                act = self._beforehand.popleft()
                self._at_work = Job(lambda job: act(), _print_error)
            return self._at_work


def _do(job: Job) -> None:
    try:
        job.work(job)
    except (InputError, UsageError) as error:
        job.tell({"event": "error", "text": one_line(error)})
    except Exception as error:  # the page goes on; the terminal tells all
        traceback.print_exc()
        text = f"unexpected {type(error).__name__}: the terminal of drm play tells more"
        job.tell({"event": "error", "text": text})


def _print_error(event: dict[str, Any] | None) -> None:
    """Where nobody listens but the terminal."""
    if event is not None:
        print(f"drm play: {event['text']}", flush=True)
