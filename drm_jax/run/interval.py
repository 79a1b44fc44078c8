"""The steps between two lines of metrics.jsonl: sums, fetched from the device only now and then."""

from collections.abc import Callable, Mapping
from typing import NoReturn

import jax
import numpy as np

from drm_jax.training.step import FINITE, SLOT_IDS, Metrics

STEPS_IN_FLIGHT = 2
FETCH_EVERY = 100
"""Steps whose metrics may wait on the device: a NaN is noticed so many steps late at most."""


class Interval:
    """Metric sums over steps, each step's flags looked at when they are fetched.

    The totals are added step by step in double precision, so that a run that is stopped within an
    interval and goes on from the saved totals gives the same line.
    """

    def __init__(
        self,
        done: int,
        on_bad: Callable[[int, np.ndarray, np.ndarray], NoReturn],
        totals: Mapping[str, float] | None = None,
    ):
        """Args:
        done: steps before the interval's next one.
        on_bad: called with the first step that made something not finite, its flags and the puzzle
          ids that it trained on.
        totals: of the interval's earlier steps, where a run goes on within it.
        """
        self.totals = dict(totals or {})
        self._fetched, self._on_bad = done, on_bad
        self._pending: list[Metrics] = []

    def add(self, metrics: Metrics) -> None:
        """The metrics of the next step. Waits only for steps that are no longer in flight."""
        self._pending.append(metrics)
        if len(self._pending) > STEPS_IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - STEPS_IN_FLIGHT])
        if len(self._pending) >= FETCH_EVERY + STEPS_IN_FLIGHT:
            self._fetch(FETCH_EVERY)

    def fetch(self) -> dict[str, float]:
        """The totals of all steps, waiting for the last one."""
        self._fetch(len(self._pending))
        return self.totals

    def _fetch(self, count: int) -> None:
        for sums in jax.device_get(self._pending[:count]):
            self._fetched += 1
            flags, puzzle_ids = sums.pop(FINITE), sums.pop(SLOT_IDS)
            if not flags.all():
                self._on_bad(self._fetched, flags, puzzle_ids)
            for name, value in sums.items():
                self.totals[name] = self.totals.get(name, 0.0) + float(value)
        del self._pending[:count]
