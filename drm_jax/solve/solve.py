"""Answers ARC tasks that a network has not seen.

    copies of the inputs → the weights as they are → rows alone → all weights → the last vote

A valid submission is there from the first seconds on, and each better one replaces it whole.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import sys
import threading
from collections.abc import Callable

import jax
from etils import epath
from jax.sharding import Mesh
from rich.console import Console

from drm_jax.config import Experiment
from drm_jax.errors import UsageError
from drm_jax.evaluate.files import Evaluation, evaluation_folder, write_evaluation
from drm_jax.evaluate.loop import Judged
from drm_jax.io import lock
from drm_jax.io.files import make_folder, work_path
from drm_jax.parallel import processes
from drm_jax.puzzles.arc.questions import ArcQuestions
from drm_jax.puzzles.arc.tasks import Task
from drm_jax.report.write import write_report
from drm_jax.run.evaluation import teller
from drm_jax.run.loop import locked
from drm_jax.run.setup import load_puzzles
from drm_jax.run.workdir import claim, read_config
from drm_jax.runtime.stop import StopRequest
from drm_jax.solve import joint
from drm_jax.solve.adaptation import Adaptation, to_measure
from drm_jax.solve.asked import (
    IDS,
    Known,
    hide_trained,
    known_rows,
    load_asked,
    needed_side,
    on_canvas,
    write_ids,
    write_tasks,
)
from drm_jax.solve.clock import Clock, Rates, spare
from drm_jax.solve.each import Each
from drm_jax.solve.output import (
    CANDIDATES,
    SUBMISSION,
    State,
    Submission,
    copying,
    merged,
    pooled,
    read_state,
    solved,
    write_candidates,
    write_pictures,
    write_state,
    write_submission,
)
from drm_jax.solve.request import Request, experiment_of, groups_of, with_plan
from drm_jax.solve.weights import (
    SHIPPED,
    Source,
    find_arc_source,
    known_tables,
    puzzles_of,
    read_weights,
    with_weights,
)
from drm_jax.training.state import TrainState
from drm_jax.words import counted, first_few

_WATCH_SECONDS = 1.0
"""How long before the end of the time the process is ended, if it is still at work."""
_MOST_PICTURES = 120


@dataclasses.dataclass(eq=False)
class Outcome:
    """What came of it so far."""

    folder: epath.Path
    tasks: list[Task]
    submission: Submission
    state: State
    judged: Judged | None = None
    paths: list[epath.Path] = dataclasses.field(default_factory=list)

    @property
    def solved(self) -> tuple[int, int]:
        """Test inputs that an attempt solves, and those whose output is known."""
        return solved(self.submission, self.tasks)

    @property
    def copied(self) -> int:
        """Test inputs that a copy of the input solves."""
        return solved(copying(self.tasks), self.tasks)[0]


def solve(
    request: Request,
    folder: epath.Path,
    console: Console,
    *,
    started: float | None = None,
    until_exit: bool = False,
    stop: StopRequest | None = None,
    told: Callable[[Outcome, str], None] = lambda outcome, words: None,
) -> Outcome:
    """Adapts to the tasks and answers them; goes on with what an earlier start has left.

    Args:
      folder: where everything is written; a work directory.
      started: the time.perf_counter() from which the time counts; None: now.
      until_exit: the process may be ended when the time is up, and ends after a preemption.
      stop: who may ask it to stop; None: signals.
      told: hears of each new submission, and where its answers come from.

    Raises:
      InputError: a source or the weights can't be read, or a loss is not finite.
      UsageError: the folder holds another solve or another run.
      StoppedError, PreemptedError: it was told to stop; the same call goes on.
    """
    say = teller(console)
    tasks = load_asked(request.sources, request.only, request.repeated, say)
    source = _source_of(request, tasks, say)
    tasks = hide_trained(tasks, source.trained_on if source else (), say)
    pooled((), None, _pool_of(request))  # read for the first time now, not at the end
    if processes.is_first():
        make_folder(folder)
    processes.exchange()
    with (
        stop or StopRequest(say, until_exit=until_exit) as stop,
        locked(folder, console) as held,
    ):
        state = _claimed(folder, request)
        request = dataclasses.replace(request, adapt=request.adapt.on(jax.default_backend()))
        allowed = None if request.minutes is None else 60 * request.minutes
        clock = Clock(allowed, state.seconds_used, started)
        outcome = Outcome(folder, tasks, {}, state)
        start = _Start(request, outcome, source, clock, console, stop, clock.this_start, told)
        _begin_submission(outcome, say)
        told(outcome, outcome.state.answers)
        stop.listen()
        if until_exit and clock.allowed is not None:
            _end_in_time(clock, outcome)
        _adapt(start, held)
    return outcome


def _source_of(request: Request, tasks: list[Task], say: Callable[[str], None]) -> Source | None:
    """The weights to begin with; those of the package aren't for larger tasks than their canvas."""
    if request.weights is None:
        return None
    source = find_arc_source(request.weights)
    side = source.experiment.data.sides[-1]
    larger = [task.id for task in tasks if needed_side(task) > side]
    if request.weights not in SHIPPED or not larger:
        return source
    say(
        f"A network is trained from nothing: the weights of the package are for grids of up to "
        f"{side} x {side}, too small for {counted(len(larger), 'task')} of {len(tasks):,}: "
        f"{first_few(larger)}"
    )
    return None


def _claimed(folder: epath.Path, request: Request) -> State:
    """The state that an earlier start of the same request has left, or a new one."""
    asked, state = json.loads(json.dumps(dataclasses.asdict(request))), read_state(folder)
    if state is None:
        if (folder / "config.json").exists():
            raise UsageError(f"--output: {folder}: holds a run: name another folder")
        return State(asked)
    others = [name for name in asked if state.request.get(name) != asked[name]]
    if others:
        raise UsageError(
            f"--output: {folder}: holds a solve with other options ({', '.join(others)}): use the "
            "same ones, or another folder"
        )
    return state


@dataclasses.dataclass(frozen=True, eq=False)
class _Start:
    """What one start of a solve works with."""

    request: Request
    outcome: Outcome
    source: Source | None
    clock: Clock
    console: Console
    stop: StopRequest
    seconds: float
    """That the command took to begin."""
    told: Callable[[Outcome, str], None]
    """See `solve`."""


def _adapt(start: _Start, held: lock.Lock | None) -> None:
    """From copies of the inputs to the last answers."""
    say, folder, clock = teller(start.console), start.outcome.folder, start.clock
    experiment, known = _prepare(start.request, start.outcome, start.source, say)
    if experiment is None:
        _finish(start.request, start.outcome, clock, None)
        return
    writer = _Writer(start.outcome, clock, say, start.told)
    if start.request.each:
        _solve_each(start, experiment, known, writer)
    else:
        with joint.opened(
            experiment, start.source, known, folder, start.console, start.stop, held, clock.began
        ) as worker:
            writer.questions = worker.questions
            if start.request.steps is not None:
                worker.plan(experiment)
            adaptation = Adaptation(worker, clock, writer, Rates(start=start.seconds))
            adaptation.run(rows_share_of(start.request, start.source), start.source is not None)
    _finish(start.request, start.outcome, clock, writer.questions)


def _solve_each(
    start: _Start, experiment: Experiment, known: Known | None, writer: "_Writer"
) -> None:
    """A network for each task, those of one size together, each with its share of the time."""
    folder, say, source = start.outcome.folder, teller(start.console), start.source
    puzzles = load_puzzles(experiment, folder)
    claim(folder, experiment, ())
    writer.questions = questions = puzzles.questions(None)
    groups = groups_of(puzzles.tasks, source.experiment if source else None)
    work = [len(group.places) * (group.boards[0][0] ** 2 + 2) for group in groups]
    judge, steps = questions.judge(), 0

    def begin_with(state: TrainState, mesh: Mesh) -> tuple[TrainState, dict[int, jax.Array]]:
        weights = read_weights(source, state, mesh, known, False, say)
        return with_weights(state, weights, len(state.table)), known_tables(known, weights, puzzles)

    for number, group in enumerate(groups):
        share, clock = work[number] / sum(work[number:]), start.clock
        left = clock.left - spare(clock, Rates(start=start.seconds))
        own_clock = Clock(None if clock.allowed is None else share * left)
        worker = Each(
            experiment, puzzles, questions, group, begin_with if source else None,
            folder / "each" / f"{group.boards[0][0]}", start.console, start.stop, judge, steps,
        )  # fmt: skip
        with worker.opened():
            if start.request.steps is not None:
                worker.plan(experiment)
            adaptation = Adaptation(worker, own_clock, writer)
            adaptation.run(rows_share_of(start.request, source), source is not None)
        judge, steps = start.outcome.judged.judge, steps + worker.done


def _begin_submission(outcome: Outcome, say: Callable[[str], None]) -> None:
    """Copies of the inputs, unless an earlier start has left something better."""
    first = copying(outcome.tasks)
    outcome.submission = _left_before(outcome.folder, first) or first
    if processes.is_first():
        write_submission(outcome.folder, outcome.submission)
        write_state(outcome.folder, outcome.state)
    tests = sum(len(task.tests) for task in outcome.tasks)
    say(
        f"{counted(len(outcome.tasks), 'task')}, {counted(tests, 'test input')}; a submission is "
        f"in {outcome.folder}, of {outcome.state.answers} so far"
    )


def _left_before(folder: epath.Path, like: Submission) -> Submission | None:
    """The submission of an earlier start, if it is of the same tests."""
    path = folder / SUBMISSION
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
        same = {name: len(entries) for name, entries in found.items()} == {
            name: len(entries) for name, entries in like.items()
        }
    except (ValueError, AttributeError, TypeError):
        return None
    return found if same else None


def _prepare(
    request: Request, outcome: Outcome, source: Source | None, say: Callable[[str], None]
) -> tuple[Experiment | None, Known | None]:
    """The run that adapts, and the puzzle rows that it takes over; None where no task fits it."""
    folder, base = outcome.folder, source.experiment if source else None
    side = 30 if base is None else base.data.sides[-1]
    fitting = on_canvas(outcome.tasks, side, say)
    if not fitting:
        return None, None
    puzzles = puzzles_of(source, say) if source else None
    adapt, known = request.adapt, None
    if puzzles is not None:
        known = known_rows(fitting, adapt.num_augmentations, adapt.seed, puzzles.tasks, puzzles.ids)
    if known:
        say(f"{counted(len(known.tasks), 'task')} known to the weights: the puzzle rows are kept")
    if processes.is_first():
        write_tasks(folder, fitting)
        if known:
            write_ids(folder, known)
    processes.exchange()
    ids = str(folder / IDS) if known else None
    experiment = experiment_of(request, base, fitting, str(folder), ids)
    rows_share = rows_share_of(request, source)
    if (folder / "config.json").exists() and not request.each:  # an earlier start has planned it
        before = read_config(folder)
        experiment = with_plan(experiment, before.train.steps, before.optimizer.rows_first)
    elif request.steps is None:
        experiment = to_measure(experiment, rows_share)
    else:
        experiment = with_plan(experiment, request.steps, round(rows_share * request.steps))
    return experiment, known


def _pool_of(request: Request) -> list[epath.Path]:
    return [work_path(name, "--pool") for name in request.pool]


def rows_share_of(request: Request, source: Source | None) -> float:
    """The share of training that trains puzzle rows alone: none from nothing."""
    return request.adapt.rows_first if source else 0.0


class _Writer:
    """Writes answers out whenever there are better ones."""

    def __init__(
        self,
        outcome: Outcome,
        clock: Clock,
        say: Callable[[str], None],
        told: Callable[[Outcome, str], None],
    ):
        self.questions: ArcQuestions | None = None
        self._outcome, self._clock, self._say, self._told = outcome, clock, say, told

    def __call__(self, judged: Judged, evaluation: Evaluation, words: str) -> None:
        outcome = self._outcome
        outcome.judged = judged
        outcome.submission = merged(outcome.submission, outcome.tasks, judged.judge.ballot)
        outcome.state = dataclasses.replace(
            outcome.state, seconds_used=self._clock.used, answers=words
        )
        if processes.is_first():
            write_submission(outcome.folder, outcome.submission)
            write_state(outcome.folder, outcome.state)
            place = evaluation_folder(outcome.folder, evaluation.steps)
            outcome.paths = write_evaluation(place, evaluation)
        right, known = outcome.solved
        scored = f"; {right} of {known} solved" if known else ""
        self._say(f"Answered with {words}{scored}")
        self._told(outcome, words)


def _finish(
    request: Request, outcome: Outcome, clock: Clock, questions: ArcQuestions | None
) -> None:
    """What people look at, as far as there is time for it; the votes of others are added first."""
    folder, judged = outcome.folder, outcome.judged
    judge = judged.judge if judged else None
    ballot = pooled(outcome.tasks, judge, _pool_of(request))
    outcome.submission = merged(outcome.submission, outcome.tasks, ballot)
    outcome.state = dataclasses.replace(outcome.state, seconds_used=clock.used, done=True)
    outcome.paths.append(folder / SUBMISSION)
    if not processes.is_first():
        return
    write_submission(folder, outcome.submission)
    write_state(folder, outcome.state)
    if judge is not None:
        write_candidates(folder, judge, questions)
        outcome.paths.append(folder / CANDIDATES)
    pictures = write_pictures(folder, outcome.tasks, ballot, outcome.submission)
    for path in itertools.islice(pictures, _MOST_PICTURES):
        outcome.paths.append(path)
        if clock.left < 1:
            break
    if judge is not None and clock.left > 2:
        outcome.paths.append(write_report([folder]))


def _end_in_time(clock: Clock, outcome: Outcome) -> None:
    """Ends the process when the time is up, wherever it is: within a compilation nothing else
    could. What is written is whole at any time."""

    def end() -> None:
        if not outcome.state.done:
            print(
                f"\ndrm: the time is up: {outcome.folder / SUBMISSION} holds the answers of "
                f"{outcome.state.answers}",
                file=sys.stderr,
            )
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(0)

    timer = threading.Timer(max(0.0, clock.left - _WATCH_SECONDS), end)
    timer.daemon = True
    timer.start()
