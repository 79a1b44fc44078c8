"""The course of an adaptation: when it trains, when it answers, and when it ends.

answer with the weights as they are
train the puzzle rows alone, and answer
train all weights, and answer half-way
answer under as many augmentations as there is time for
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from drm_jax.config import Experiment
from drm_jax.evaluate.files import Evaluation
from drm_jax.evaluate.loop import Judged
from drm_jax.parallel import processes
from drm_jax.solve.clock import (
    ANSWER,
    EARLY_SHARE,
    WHOLE_STEP,
    Clock,
    Rates,
    planned_steps,
    spare,
    training_left,
)
from drm_jax.solve.request import with_plan
from drm_jax.words import counted

Answered = Callable[[Judged, Evaluation, str], None]
"""Takes answers, to write them out, and where they come from in words."""
_SEGMENT_SECONDS, _MEASURED_SECONDS, _MEASURED_STEPS = 10.0, 2.0, 20
_SAVE_SECONDS, _SAVE_STEPS = 60.0, 500
_HALF_WAY = 0.5
"""Where between the first step of all weights and the last one tasks are answered too."""


class Worker(Protocol):
    """What is adapted: one network to all tasks, or one to each."""

    experiment: Experiment
    """With the number of steps, and of those of the puzzle rows alone."""
    resumed: bool
    """Whether it goes on from a checkpoint."""
    done: int
    """Steps done."""
    compile_seconds: float
    """What its first steps have taken."""
    rounds: list[np.ndarray]
    """The candidates in the order in which they are answered, some at a time."""
    least: int
    """How many rounds hold a candidate of each test."""

    def plan(self, experiment: Experiment) -> None:
        """Takes other numbers of steps, and writes them down."""

    def advance(self, last: int) -> None:
        """Trains up to this step, and waits for it."""

    def save(self) -> None:
        """Saves a checkpoint in the background."""

    def finish(self) -> None:
        """Waits until it is saved."""

    def answer(self, rounds: Iterator[np.ndarray]) -> tuple[Judged, Evaluation]:
        """Answers the candidates of these rounds."""


@dataclasses.dataclass(eq=False)
class Adaptation:
    """An adaptation under way."""

    worker: Worker
    clock: Clock
    answered: Answered
    rates: Rates = dataclasses.field(default_factory=Rates)
    _has_answered: bool = False
    _saved: int | None = None
    """The step of the newest checkpoint."""

    def run(self, rows_share: float, has_weights: bool) -> None:
        """From the beginning, or from where it was stopped, to the last answer.

        Args:
          rows_share: see `adapt.Adapt.rows_first`.
          has_weights: whether it begins with trained weights.
        """
        self._saved = self.worker.done if self.worker.resumed else None
        if has_weights and not self.worker.resumed:
            self._answer(self._early_seconds(), "the weights as they are")
        self._train(rows_share)
        if self.clock.allowed is None:
            self._save()
        left = self.clock.left - spare(self.clock, self.rates)
        self._answer(left, self._words())
        has_time = self.clock.left > spare(self.clock, self.rates)
        if self.clock.allowed is not None and _first_says(has_time):
            self._save()

    def _save(self) -> None:
        """Saves a checkpoint, unless this step has one, and waits until it is whole."""
        self._begin_to_save()
        self.worker.finish()

    def _begin_to_save(self) -> None:
        """As `_save`, in the background."""
        if self.worker.done != self._saved:
            self.worker.save()
            self._saved = self.worker.done

    def _words(self) -> str:
        return f"{counted(self.worker.done, 'step')} of training"

    def _early_seconds(self) -> float:
        return EARLY_SHARE * (self.clock.allowed or 0.0)

    def _answer(self, seconds: float, words: str) -> None:
        """Answers all tests under as many augmentations as there is time for; under one at least.

        Args:
          seconds: that it may take.
          words: where the answers come from.
        """
        judged, evaluation = self.worker.answer(self._in_time(seconds))
        before = time.perf_counter()
        self.answered(judged, evaluation, words)
        self.rates.write = time.perf_counter() - before

    def _in_time(self, seconds: float) -> Iterator[np.ndarray]:
        """Rounds for as long as there is time; tells what one takes."""
        clock, rates, first = self.clock, self.rates, 0.0
        end = clock.used + seconds
        for number, rows in enumerate(self.worker.rounds):
            fits = clock.allowed is None or clock.used + (rates.batch or first) <= end
            # The first round of all compiles, so one more is needed to know what a round takes.
            unknown = number > 0 and not rates.batch and clock.left > 2 * first
            more = (fits and seconds > 0) or unknown
            if number >= self.worker.least and not _first_says(more):
                return
            before = time.perf_counter()
            yield rows
            taken = time.perf_counter() - before
            if number or self._has_answered:
                rates.batch = (rates.batch + taken) / 2 if rates.batch else taken
            first = first or taken
        self._has_answered, rates.compile_answer = True, 0.0

    def _train(self, rows_share: float) -> None:
        """Trains to the last step, or to the last one that there is time for."""
        worker = self.worker
        if self.clock.allowed is not None:
            self._measure()
            if not worker.resumed:
                self._plan(rows_share)
        saved_at = time.perf_counter()
        while (count := self._next()) > 0:
            self._advance(count)
            if _first_says(time.perf_counter() - saved_at > _SAVE_SECONDS):
                self._begin_to_save()
                saved_at = time.perf_counter()
            if worker.done in _early_steps(worker.experiment):
                self._answer(self._early_seconds(), self._words())

    def _measure(self) -> None:
        """Some first steps, which tell what one takes."""
        worker = self.worker
        last = worker.experiment.train.steps
        if worker.done >= last:
            return
        worker.advance(worker.done + 1)
        first, seconds = worker.done, 0.0
        while worker.done < min(last, first + _MEASURED_STEPS):
            seconds += self._seconds_of(1)
            if _first_says(seconds > _MEASURED_SECONDS):
                break
        self.rates.step = seconds / max(1, worker.done - first)
        if worker.experiment.optimizer.rows_first:
            self.rates.compile_whole = WHOLE_STEP * worker.compile_seconds
        if not self._has_answered:
            self.rates.compile_answer = ANSWER * worker.compile_seconds

    def _plan(self, rows_share: float) -> None:
        """How many steps there are to be; written down, so that a restart goes on with it."""
        worker = self.worker
        more = planned_steps(self.clock, self.rates, len(worker.rounds), rows_share)
        total = int(processes.of_first(str(worker.done + more)))
        rows_first = max(worker.done, round(rows_share * total)) if rows_share else 0
        worker.plan(with_plan(worker.experiment, total, rows_first))

    def _next(self) -> int:
        """How many steps come next; 0 where all are made, or there is no time for one more."""
        worker, rate = self.worker, max(self.rates.step, 1e-6)
        count = _SAVE_STEPS
        if self.clock.allowed is not None:
            left = training_left(self.clock, self.rates, len(worker.rounds))
            if worker.done >= worker.experiment.train.steps:
                self._plan_more(left)
            count = int(min(left, _SEGMENT_SECONDS) / rate)
            rows_first = worker.experiment.optimizer.rows_first
            if worker.done == rows_first > 0:  # the step of all weights is compiled now
                count = min(count, 1) if left > self.rates.compile_whole + 10 * rate else 0
        stops = [*_early_steps(worker.experiment), worker.experiment.train.steps]
        count = min([count, *(stop - worker.done for stop in stops if stop > worker.done)])
        count = count if worker.done < worker.experiment.train.steps else 0
        return int(processes.of_first(str(max(0, count))))

    def _plan_more(self, left: float) -> None:
        """More steps, where all are made sooner than was planned."""
        more = int(left / self.rates.step) if self.rates.step and left > _SEGMENT_SECONDS else 0
        more = int(processes.of_first(str(more)))
        if more:
            before = self.worker.experiment
            total = before.train.steps + more
            self.worker.plan(with_plan(before, total, before.optimizer.rows_first))

    def _advance(self, count: int) -> None:
        mean = self._seconds_of(count) / count
        self.rates.step = mean if not self.rates.step else (self.rates.step + mean) / 2

    def _seconds_of(self, count: int) -> float:
        """Makes so many steps; the seconds that they take, without those to compile."""
        worker = self.worker
        before, compiled = time.perf_counter(), worker.compile_seconds
        worker.advance(worker.done + count)
        return time.perf_counter() - before - (worker.compile_seconds - compiled)


def to_measure(experiment: Experiment, rows_share: float) -> Experiment:
    """With the first steps alone, which tell how many there is time for."""
    steps = _MEASURED_STEPS + 1
    return with_plan(experiment, steps, steps if rows_share else 0)


def _early_steps(experiment: Experiment) -> list[int]:
    """After which steps tasks are answered before the last one."""
    first, last = experiment.optimizer.rows_first, experiment.train.steps
    half = first + round(_HALF_WAY * (last - first))
    return sorted({first, half} - {0, last})


def _first_says(yes: Any) -> bool:
    """What the first process says: clocks differ."""
    return processes.of_first("yes" if yes else "") == "yes"
