"""The time that an adaptation may take, and what fits into it."""

import dataclasses
import math
import time


class Clock:
    """Seconds since a command began, those of an earlier start of it counted too."""

    def __init__(self, allowed: float | None, used: float = 0.0, began: float | None = None):
        """Args:
        allowed: seconds in all; None: as many as it takes.
        used: by earlier starts.
        began: the time.perf_counter() at which this start began; None: now.
        """
        self.allowed, self._used = allowed, used
        self.began = time.perf_counter() if began is None else began

    @property
    def used(self) -> float:
        """Seconds used, by earlier starts too."""
        return self._used + self.this_start

    @property
    def this_start(self) -> float:
        """Seconds used since this start."""
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        """Seconds left; infinite where there is no limit."""
        return math.inf if self.allowed is None else self.allowed - self.used


@dataclasses.dataclass
class Rates:
    """What things have taken so far, in seconds. They are estimates of what the next ones take."""

    step: float = 0.0
    """A training step."""
    batch: float = 0.0
    """A batch of candidates; 0: not known yet."""
    write: float = 0.0
    """To write out all answers."""
    compile_answer: float = 0.0
    """To compile the program that answers; 0 once that is done."""
    compile_whole: float = 0.0
    """To compile the step of all weights, where that of the puzzle rows alone comes first."""
    start: float = 0.0
    """From the start of the command until it knew what it is asked."""


VOTE_SHARE, EARLY_SHARE = 0.2, 0.05
"""How much of all time the last vote may take, and each one before it."""
_SPARE_SHARE, _SPARE_SECONDS = 0.02, 2.5
"""What is left at the end for what nobody has foreseen."""
ANSWER = 0.7
"""About how long the program that answers takes to compile, where a training step takes 1."""
WHOLE_STEP = 1.5
"""About how long a step of all weights takes, where one of the puzzle rows alone takes 1: it has
three products a layer, forward and backward, where the other has two."""


def spare(clock: Clock, rates: Rates) -> float:
    """Seconds before the end at which the last vote must have ended."""
    # A process takes some time to end too: less than it took to begin, on a busy machine as well.
    fixed = 2 * rates.write + rates.start / 2 + rates.compile_answer + _SPARE_SECONDS
    return fixed + _SPARE_SHARE * (clock.allowed or 0.0)


def vote_seconds(clock: Clock, rates: Rates, batches: int) -> float:
    """What the last vote may take: what all of its batches need, but no more than its share."""
    return min(1.1 * rates.batch * batches, VOTE_SHARE * (clock.allowed or math.inf))


def training_left(clock: Clock, rates: Rates, batches: int) -> float:
    """Seconds left for training."""
    return clock.left - spare(clock, rates) - vote_seconds(clock, rates, batches)


def planned_steps(clock: Clock, rates: Rates, batches: int, rows_share: float) -> int:
    """How many more steps fit, if a share of all is of the puzzle rows alone; at least 1.

    `rates.step` is of a step of the rows alone; without a share of these, of all weights.
    """
    seconds = training_left(clock, rates, batches) - rates.compile_whole
    of_one = rates.step * (rows_share + (1 - rows_share) * WHOLE_STEP if rows_share else 1.0)
    return max(1, int(seconds / of_one)) if seconds > 0 else 1
