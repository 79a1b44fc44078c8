"""Ctrl-C: the first one asks a run to save and end, the second one ends it at once."""

import signal
import threading
from collections.abc import Callable
from types import FrameType


class StopRequest:
    """Listens for Ctrl-C while entered. Only the main thread of a program can hear it."""

    def __init__(self, say: Callable[[str], None]):
        self.requested = False
        self._say = say

    def __enter__(self) -> "StopRequest":
        self._listens = threading.current_thread() is threading.main_thread()
        if self._listens:
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_) -> None:
        if self._listens:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._say("Stopping: this step is finished and saved first (Ctrl-C again ends at once)")
