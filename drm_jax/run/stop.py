"""Ctrl-C: the first one asks a run to save and end, the second one ends it at once.

A terminal that is closed (SIGHUP) asks for the same; under nohup it doesn't matter to the run.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType


class StopRequest:
    """Listens for Ctrl-C while entered. Only the main thread of a program can hear it."""

    def __init__(self, say: Callable[[str], None]):
        self.requested = False
        self._say, self._before = say, {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGHUP"):  # the latter is not known to all systems
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.requested = True
        self._say("Stopping: this step is finished and saved first (Ctrl-C again ends at once)")
