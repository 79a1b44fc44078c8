"""Signals that ask a run to finish its step, save and end.

Ctrl-C (SIGINT)             a second one ends it at once; exit code 130
SIGTERM                     a cluster takes the machine away; exit code 75, "start me again"
a closed terminal (SIGHUP)  under nohup it doesn't matter to the run; exit code 130
"""

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType

from drm_jax.errors import PreemptedError, StoppedError


class StopRequest:
    """Hears signals from `listen` until it is left. Only the main thread of a program can.

    Left with a PreemptedError, SIGTERM is ignored: clusters send several, and one more must not end
    a process that is about to give its exit code.
    """

    def __init__(self, say: Callable[[str], None]):
        self._say, self._heard, self._before = say, set(), {}

    @property
    def requested(self) -> bool:
        return bool(self._heard)

    def listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the last is not known to all systems
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)

    def error(self, where: str) -> StoppedError:
        """What ends the run. A Ctrl-C counts more than a SIGTERM: somebody wants no restart."""
        if signal.SIGTERM in self._heard and signal.SIGINT not in self._heard:
            return PreemptedError(f"stopped by SIGTERM (a preemption or scancel){where}")
        return StoppedError(f"stopped{where}")

    def __enter__(self) -> "StopRequest":
        return self

    def __exit__(self, _, error: BaseException | None, __) -> None:
        for number, handler in self._before.items():
            ending = number == signal.SIGTERM and isinstance(error, PreemptedError)
            signal.signal(number, signal.SIG_IGN if ending else handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number in self._heard:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self._heard.add(number)
        why = " after SIGTERM (a preemption or scancel)" if number == signal.SIGTERM else ""
        more = " (Ctrl-C again ends at once)" if number == signal.SIGINT else ""
        with contextlib.suppress(RuntimeError):  # it came amid a print, which can't be entered anew
            self._say(f"Stopping{why}: this step is finished and saved first{more}")
