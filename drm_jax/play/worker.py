"""One thread that computes: whoever asks for something waits for those who asked before."""

import queue
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from drm_jax.errors import InputError, UsageError, one_line

Tell = Callable[[dict[str, Any] | None], None]
"""Takes the events of a job; None: there are no more."""
MOST_WAITING = 8


class BusyError(Exception):
    """So many wait that no more are taken."""


class Job:
    """Something to compute, which tells events while it is at work."""

    def __init__(self, work: Callable[["Job"], None], tell: Tell):
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
        self._beforehand, self._is_preparing = list(beforehand), True
        self._waiting: queue.Queue[Job] = queue.Queue(MOST_WAITING)
        self._job: Job | None = None
        self._thread = threading.Thread(target=self._run, name="drm-play", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Job], None], tell: Tell) -> Job:
        """Raises BusyError where too many wait."""
        job = Job(work, tell)
        before = self._waiting.qsize() + (self._job is not None)
        try:
            self._waiting.put_nowait(job)
        except queue.Full:
            raise BusyError(f"{MOST_WAITING} others wait already: try again in a moment") from None
        if before or self._is_preparing:
            tell({"event": "waiting", "before": before})
        return job

    def stop(self) -> None:
        """Ends what is at work, as soon as it can."""
        job = self._job
        if job is not None:
            job.stop()

    def _run(self) -> None:
        while True:
            while self._beforehand and self._waiting.empty():
                act = self._beforehand.pop(0)
                self._is_preparing = True
                self._do(Job(lambda job, act=act: act(), _print_error))
            self._is_preparing = False
            self._job = job = self._waiting.get()
            if not job.is_stopped:
                self._do(job)
            self._job = None
            job.tell(None)

    @staticmethod
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
    print(f"drm play: {event['text']}", flush=True)
