"""One network that is adapted to all tasks together."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from rich.console import Console

from drm_jax.config import Experiment
from drm_jax.evaluate.files import Evaluation
from drm_jax.evaluate.loop import Judged, answer_questions, evaluation_of
from drm_jax.io import checkpoint, lock
from drm_jax.parallel import processes
from drm_jax.puzzles.arc.questions import ArcQuestions
from drm_jax.run.evaluation import teller
from drm_jax.run.loop import Steps, Training, describe
from drm_jax.run.profile import Profiler
from drm_jax.run.setup import set_up
from drm_jax.run.start import start
from drm_jax.run.together import check_same_data
from drm_jax.run.workdir import claim
from drm_jax.runtime.stop import StopRequest
from drm_jax.solve.asked import Known
from drm_jax.solve.weights import Source, first_state, read_weights
from drm_jax.training.state import TrainState


class Joint:
    """See `adaptation.Worker`."""

    def __init__(self, run: Training, started: float):
        """Args:
        started: see `run.loop.train`.
        """
        setup, begin = run.setup, run.begin
        self._run, self.resumed = run, begin.resumed
        self.questions: ArcQuestions = setup.puzzles.questions(None)
        size = setup.experiment.evaluate.batch_size
        self.rounds = rounds_of(self.questions, size)
        self.least = -(-len(np.unique(self.questions.test_R)) // size)
        profiler = Profiler(run.scorer.workdir, begin.step, 0)
        self._steps = Steps(run, profiler, started)

    @property
    def experiment(self) -> Experiment:
        return self._steps.experiment

    @property
    def done(self) -> int:
        return self._steps.done

    @property
    def compile_seconds(self) -> float:
        return self._steps.stepper.compile_seconds

    def plan(self, experiment: Experiment) -> None:
        self._steps.set_experiment(experiment)
        if processes.is_first():
            claim(self._run.scorer.workdir, experiment, self._run.begin.changes)

    def advance(self, last: int) -> None:
        self._steps.advance(last)
        jax.block_until_ready(self._steps.state.step)

    def save(self) -> None:
        self._steps.save()

    def finish(self) -> None:
        checkpoint.finish(self._run.saver)

    def answer(self, rounds: Iterator[np.ndarray]) -> tuple[Judged, Evaluation]:
        setup, scorer, state = self._run.setup, self._run.scorer, self._steps.state
        with self._steps.stepper.clock.paused(), scorer.progress("the tasks", 1) as wrap:
            judged = answer_questions(
                self.experiment, scorer.answer_batch, state, setup.mesh, self.questions, wrap,
                rounds,
            )  # fmt: skip
        tests = setup.puzzles.tests_digest()
        return judged, evaluation_of(self.experiment, (self.done,), judged, setup.mesh, tests)


@contextlib.contextmanager
def opened(
    experiment: Experiment,
    source: Source | None,
    known: Known | None,
    workdir: epath.Path,
    console: Console,
    stop: StopRequest,
    held: lock.Lock | None,
    started: float,
) -> Iterator[Joint]:
    """An adaptation in a work directory that is locked, from its newest checkpoint if there is one.

    Args:
      source: of the weights; None: from nothing.
      started: see `run.loop.train`.
    """
    say = teller(console)
    setup = set_up(experiment, workdir=workdir)
    check_same_data(setup)
    for line in [describe(setup), *setup.notes]:
        say(line)

    def begin_with() -> tuple[TrainState, Any]:
        shapes = jax.eval_shape(setup.make_state)
        weights = read_weights(source, shapes, setup.mesh, known, False, say)
        return first_state(weights, setup, known), source.trained_on

    begin = start(setup, workdir, False, say, begin_with if source else None)
    setup = dataclasses.replace(setup, changes=begin.changes)
    with Training.opened(setup, begin, workdir, console, stop, held, {"from": "drm solve"}) as run:
        yield Joint(run, started)


def rounds_of(questions: ArcQuestions, size: int) -> list[np.ndarray]:
    """All candidates in rounds of `size`: of all tests the first candidate, then the second, …"""
    order = np.lexsort((questions.board_R, questions.rank_R))
    return [order[i : i + size] for i in range(0, len(order), size)]
