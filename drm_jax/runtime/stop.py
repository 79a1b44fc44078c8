"""Signals that ask a run to finish its step, save and end.

Ctrl-C (SIGINT)             another one, later, ends it at once; exit code 130
SIGTERM                     a cluster takes the machine away; exit code 75, "start me again"
a maintenance notice        of a Google machine, the same; see run.maintenance
a closed terminal (SIGHUP)  under nohup it doesn't matter to the run; exit code 130

Whatever one of several processes hears, all of them stop after the same step.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from jax.sharding import Mesh

from drm_jax.errors import PreemptedError, StoppedError
from drm_jax.parallel.processes import AgreedMaximum

# Of several heard, by one process or many, the last counts.
_BY_WEIGHT = [getattr(signal, name, None) for name in ("SIGHUP", "SIGTERM", "SIGINT")]
_ONE_SECONDS = 0.5
"""A scheduler that interrupts a parent and its child is heard twice, which counts as once."""


class StopRequest:
    """Hears signals from `listen` until it is left. Only the main thread of a program can.

    Handlers are put back when it is left, unless the process is about to end anyway: with
    `until_exit`, SIGTERM is ignored after a PreemptedError, since clusters send several, and one
    more must not keep the process from giving its exit code.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        first: str = "this step is finished and saved first",
        until_exit: bool = False,
    ):
        """Args:
        first: what comes before the end.
        until_exit: the process ends after a preemption.
        """
        self._until_exit = until_exit
        self._say, self._first, self._heard, self._before = say, first, set(), {}
        self._preempted_by = "SIGTERM (a preemption or scancel)"
        self._interrupted_at = 0.0

    @property
    def requested(self) -> bool:
        return bool(self._heard)

    @property
    def weight(self) -> int:
        """Of what was heard: 0 for nothing."""
        return max((_BY_WEIGHT.index(number) + 1 for number in self._heard), default=0)

    def heard_elsewhere(self, weight: int) -> None:
        """Another process has heard something of this weight, or nothing, 0."""
        if weight > self.weight:
            self._heard.add(_BY_WEIGHT[weight - 1])

    def preempt(self, why: str) -> None:
        """As SIGTERM does; from any thread."""
        if signal.SIGTERM not in self._heard:
            self._heard.add(signal.SIGTERM)
            self._preempted_by = why
            self._say(f"Stopping after {why}: {self._first}")

    def listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the last is not known to all systems
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)

    def error(self, where: str) -> StoppedError:
        """What ends the run. A Ctrl-C counts more than a SIGTERM: somebody wants no restart."""
        if signal.SIGTERM in self._heard and signal.SIGINT not in self._heard:
            return PreemptedError(f"stopped by {self._preempted_by}{where}")
        return StoppedError(f"stopped{where}")

    def __enter__(self) -> "StopRequest":
        return self

    def __exit__(self, _, error: BaseException | None, __) -> None:
        for number, handler in self._before.items():
            preempted = self._until_exit and isinstance(error, PreemptedError)
            ending = preempted and number == signal.SIGTERM
            signal.signal(number, signal.SIG_IGN if ending else handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number in self._heard:
            if number == signal.SIGINT and time.monotonic() - self._interrupted_at > _ONE_SECONDS:
                raise KeyboardInterrupt
            return
        if number == signal.SIGINT:
            self._interrupted_at = time.monotonic()
        self._heard.add(number)
        why = f" after {self._preempted_by}" if number == signal.SIGTERM else ""
        more = " (Ctrl-C again ends at once)" if number == signal.SIGINT else ""
        with contextlib.suppress(RuntimeError):  # it came amid a print, which can't be entered anew
            self._say(f"Stopping{why}: {self._first}{more}")


class StopTogether:
    """Whether this process or any other was asked to stop; all learn of it at the same step."""

    def __init__(self, stop: StopRequest, mesh: Mesh, steps_in_flight: int):
        self._stop, self._agreed = stop, AgreedMaximum(mesh, steps_in_flight)

    def beside_step(self) -> bool:
        """Once a training step; doesn't wait for it, and so may be some steps late."""
        return self._requested(self._agreed.beside_step(self._stop.weight))

    def now(self) -> bool:
        """Between the batches of an evaluation."""
        return self._requested(self._agreed.now(self._stop.weight))

    def _requested(self, weight: int) -> bool:
        self._stop.heard_elsewhere(weight)
        return weight > 0

    def error(self, where: str) -> StoppedError:
        """See `StopRequest.error`."""
        return self._stop.error(where)
