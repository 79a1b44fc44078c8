"""The training loop.

for step:  batch (Grain threads, ahead) -> global arrays -> train_step (state donated)
           metrics of an interval are fetched when the next step is already under way
every train.checkpoint_every steps:  save in the background
every evaluate.every steps:          save, then answer, vote, score, pictures

Several processes run the same loop, each with its rows of every batch; the first one alone writes
logs and answers, all take part in saves.

Killed anywhere, a run goes on from its newest checkpoint as if it had never stopped: an evaluation
that was cut off is made again, an interval that was cut off goes on from its saved sums.
"""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from etils import epath
from rich.console import Console
from rich.progress import Progress, TaskID

from drm_jax.config import Experiment, part_name, to_json
from drm_jax.data.stream import batches_from
from drm_jax.errors import InputError
from drm_jax.evaluate.metrics import made_with
from drm_jax.io import checkpoint, lock, trackers
from drm_jax.io.files import make_folder, remove_halves, write_whole
from drm_jax.io.metrics import FILE as LOG
from drm_jax.io.metrics import MetricsLog, keep_unreadable
from drm_jax.model.precision import auto_dtype
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import (
    ALL_DATA,
    MeshShape,
    devices_in_words,
    global_batch,
    platform_of,
)
from drm_jax.run import history
from drm_jax.run.evaluation import teller
from drm_jax.run.interval import STEPS_IN_FLIGHT, Interval
from drm_jax.run.profile import Profiler
from drm_jax.run.scorer import Report, Scorer
from drm_jax.run.setup import Setup, first_batch, own_mesh, set_up, training_stream
from drm_jax.run.start import Start, check_changes, check_init_from, start
from drm_jax.run.together import check_same_data, check_same_start, check_shared
from drm_jax.run.workdir import (
    begin_anew,
    check_claim,
    check_complete,
    claim,
    config_differences,
    config_unsure,
    read_config,
    source_names,
)
from drm_jax.runtime import maintenance
from drm_jax.runtime.progress import progress_bar
from drm_jax.runtime.stop import StopRequest, StopTogether
from drm_jax.training.state import TrainState
from drm_jax.training.step import compile_train_step, watched
from drm_jax.words import first_few


def train(
    experiment: Experiment,
    workdir: epath.Path,
    console: Console,
    *,
    strict: bool = False,
    profile_steps: int = 0,
    started: float | None = None,
    origin: Mapping[str, Any] | None = None,
    changing: Collection[str] = (),
    anew: bool = False,
    shape: MeshShape = ALL_DATA,
    until_exit: bool = False,
) -> Report:
    """Trains to experiment.train.steps, going on from the newest good checkpoint if there is one.

    Args:
      workdir: from `io.files.work_path`.
      strict: refuse to go on where a checkpoint is damaged, instead of using the one before.
      profile_steps: how many steps to trace, after the first ones; 0 for none.
      started: the time.perf_counter() from which the time to the first step counts; None: now.
      origin: where the experiment comes from, for the history: see `run.history`.
      changing: options that may be changed in a run from the next step on, by dotted name.
      anew: begin at step 0; what an earlier start has left is set aside.
      shape: of the mesh of devices.
      until_exit: see `StopRequest`.

    Raises:
      InputError: bad puzzles, a checkpoint that can't be used, a loss that is not finite, another
        run in the work directory, or a full disk.
      UsageError: the work directory belongs to another configuration.
      StoppedError: Ctrl-C; the state is saved.
      PreemptedError: SIGTERM or a maintenance notice; the state is saved.
    """
    started = time.perf_counter() if started is None else started
    changing = tuple(changing)
    options = {"strict": strict, "profile": profile_steps, "change": changing, "anew": anew}
    setup = _set_up_alike(experiment, workdir, shape, options)
    check_start(setup, workdir, changing, anew)
    processes.exchange()  # nothing is written before all have looked
    if processes.is_first():
        make_folder(workdir)
    for line in [describe(setup), *setup.notes]:
        console.print(line, soft_wrap=True)
    say = teller(console)
    with StopRequest(say, until_exit=until_exit) as stop, locked(workdir, console) as held:
        begin, told = _begin(setup, workdir, strict, changing, anew, say)
        setup = dataclasses.replace(setup, changes=begin.changes)
        stop.listen()  # ended by a signal before, nothing is lost
        traced = profile_steps if processes.is_first() else 0
        origin = _untold(origin or {}, told)
        with (
            Training.opened(setup, begin, workdir, console, stop, held, origin) as run,
            Profiler(workdir, begin.step, traced) as profiler,
        ):
            run.steps(profiler, started)
    paths = [*run.scorer.paths, *profiler.paths]
    paths += [workdir / name for name in ("metrics.jsonl", "tensorboard", "checkpoints")]
    return Report(setup, tuple(run.scorer.evaluations), tuple(paths))


def _set_up_alike(
    experiment: Experiment, workdir: epath.Path, shape: MeshShape, options: Mapping[str, Any]
) -> Setup:
    """The setup of a run; raises UsageError where other processes have another one.

    Args:
      options: of the command.
    """
    check_same_start(experiment, workdir, mesh=str(shape), **options)
    setup = set_up(experiment, own_mesh(experiment, shape), workdir=workdir)
    check_same_data(setup)
    return setup


def check_start(
    setup: Setup, workdir: epath.Path, changing: Collection[str] = (), anew: bool = False
) -> bool:
    """Whether a start would go on with the run of a work directory; arguments as of `train`.

    Raises:
      InputError, UsageError: as `train`, before anything is written.
    """
    if processes.is_first():
        trackers.check_installed(setup.experiment.train.tracker)
    if anew:  # no other puzzles were trained on then
        changing = (*changing, *source_names(setup.experiment))
    goes_on = check_claim(workdir, setup.experiment, changing)
    if not anew:
        check_complete(workdir)
        check_changes(setup, workdir)
    check_init_from(setup, workdir, anew)
    return goes_on and not anew


def _begin(
    setup: Setup,
    workdir: epath.Path,
    strict: bool,
    changing: Collection[str],
    anew: bool,
    say: Callable[[str], None],
) -> tuple[Start, Collection[str]]:
    """Where the run begins, in a work directory that is locked and then claimed; and the options
    that the history says were changed from here on."""
    check_shared(workdir)
    first = processes.is_first()
    if first:
        remove_halves(workdir)
    if first and anew:
        _set_aside(workdir, say)
        changing = (*changing, *source_names(setup.experiment))
    processes.exchange()
    begin, told = start(setup, workdir, strict, say), ()
    if first:  # not before it is known that this experiment can begin
        now = dataclasses.replace(setup, changes=begin.changes)
        told = _claim(now, begin, workdir, changing, say)
    return begin, told


def _untold(origin: Mapping[str, Any], told: Collection[str]) -> dict[str, Any]:
    """Where an experiment comes from, without the changes that the history told before."""
    left = {name: of for name, of in origin.get("changed", {}).items() if name not in told}
    return {**origin, "changed": left} if "changed" in origin else dict(origin)


def _set_aside(workdir: epath.Path, say: Callable[[str], None]) -> None:
    aside = begin_anew(workdir)
    if aside:
        say(f"Set aside: what was there, now in {aside}")
    if aside or history.read_history(workdir):
        history.note(workdir, {"event": "anew", "before": aside.name if aside else None})


def _claim(
    setup: Setup,
    begin: Start,
    workdir: epath.Path,
    changing: Collection[str],
    say: Callable[[str], None],
) -> Collection[str]:
    """Takes the work directory for a start; tells what is not as the run before left it.

    Returns the options of that, which the history holds then.
    """
    changed: dict[str, Any] = {}
    unreadable = keep_unreadable(workdir)
    for text in (unreadable, config_unsure(workdir)):
        if text:
            say(text)
    if begin.resumed and (workdir / "config.json").exists():
        last = ({}, *history.read_history(workdir))[-1]
        if not (workdir / LOG).exists() and begin.step and last.get("event") != "import":
            say(
                f"{workdir / LOG}: is missing: what was logged up to step {begin.step} is not known"
            )
        differences = config_differences(read_config(workdir), setup.experiment)
        changed = {name: [was, now] for name, was, now in differences}
        if begin.other_tests:
            changed["the tests (a digest)"] = [begin.other_tests, begin.record["tests"]]
    claim(workdir, setup.experiment, begin.changes, changing)
    if changed:
        history.note(workdir, {"event": "change", "step": begin.step, "changed": changed})
    return changed


@contextlib.contextmanager
def locked(workdir: epath.Path, console: Console) -> Iterator[lock.Lock | None]:
    """Holds the lock of the work directory; of several processes the first one does, for all."""
    if not processes.is_first():
        yield None
        return
    with lock.hold(workdir, teller(console)) as held:
        yield held


def describe(setup: Setup) -> str:
    """One line: the run, its puzzles, what it runs on, and in which compute type."""
    experiment, mesh = setup.experiment, setup.mesh
    dtype, model = setup.network.dtype.name, experiment.model
    why = auto_dtype(platform_of(mesh), model.hidden)[1] if model.dtype == "auto" else ""
    several = f" of {processes.count()} processes" if processes.count() > 1 else ""
    return (
        f"{experiment.name}, {part_name('method', experiment.method)}, seed {experiment.seed}: "
        f"{setup.puzzles.describe()}; "
        f"{devices_in_words(mesh)}{several}, {dtype}{why and f' ({why})'}"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """The training loop with what it writes to."""

    setup: Setup
    begin: Start
    saver: checkpoint.Saver
    log: MetricsLog
    scorer: Scorer
    held: lock.Lock | None

    @classmethod
    @contextlib.contextmanager
    def opened(
        cls,
        setup: Setup,
        begin: Start,
        workdir: epath.Path,
        console: Console,
        stop: StopRequest,
        held: lock.Lock | None,
        origin: Mapping[str, Any],
    ) -> Iterator["Training"]:
        """With the history, the log, the checkpoints and the progress bar open."""
        experiment, config = setup.experiment, setup.experiment.train
        line = {"step": begin.step, **made_with(experiment, setup.mesh), **origin}
        first, resumed_at = processes.is_first(), begin.step if begin.resumed else None
        headline, tests = experiment.data.headline, begin.record["tests"]
        wanted = config.tracker if first else trackers.NONE
        options, say = json.loads(to_json(experiment)), teller(console)
        with (
            history.recorded(workdir, line) if first else contextlib.nullcontext(),
            maintenance.watch(stop.preempt),
            trackers.tracked(
                wanted, workdir, begin.resumed, experiment.name, options, say
            ) as tracker,
            MetricsLog(workdir, resumed_at, headline, tests, tracker) as log,
            checkpoint.open_checkpoints(
                workdir, config.keep_last, config.keep_best, log.scores_on
            ) as saver,
            progress_bar(console) as bar,
        ):
            together = StopTogether(stop, setup.mesh, STEPS_IN_FLIGHT)
            scorer = Scorer(setup, workdir, log, bar, together, changed={})
            yield cls(setup, begin, saver, log, scorer, held)

    def steps(self, profiler: Profiler, started: float) -> None:
        """Trains to the last step, which is saved and evaluated."""
        setup, last, begin = self.setup, self.setup.experiment.train.steps, self.begin
        if not begin.resumed and setup.experiment.init_from is not None:
            self.save(0, begin.state, {})  # a restart must not depend on the other run any more
        if self._evaluates(begin.step) and not self.log.was_evaluated(begin.step):
            self.scorer.score(begin.state)
        if begin.step >= last:
            return
        steps = Steps(self, profiler, started)
        while steps.done < last:
            steps.advance(self._next_evaluation(steps.done))
            # What is scored is saved first: a kill while it is scored loses no training.
            with steps.stepper.clock.paused():
                steps.save()
                self.scorer.score(steps.state)
        checkpoint.finish(self.saver)

    def _next_evaluation(self, done: int) -> int:
        """The first step after this one that an evaluation follows."""
        experiment = self.setup.experiment
        every = experiment.evaluate.every or experiment.train.steps
        return min((done // every + 1) * every, experiment.train.steps)

    def _evaluates(self, step: int) -> bool:
        """Whether an evaluation belongs after this many steps."""
        experiment = self.setup.experiment
        if step == 0:
            return experiment.evaluate.untrained
        return step == self._next_evaluation(step - 1)

    def save(self, step: int, state: TrainState, interval_totals: Mapping[str, float]) -> None:
        """Saves in the background; the log is made safe first, so that it is never behind."""
        self._check_lock()
        self.log.publish()
        record = {**self.begin.record, "interval": dict(interval_totals)}
        checkpoint.save(self.saver, step, state, record)

    def write_interval(self, step: int, interval: Interval, clock: "_Clock", task: TaskID) -> None:
        """Fetches an interval's sums and writes their means."""
        means = _means(interval.fetch())
        rate = clock.steps_per_second(step) * self.setup.experiment.train.batch_size
        self.log.scalars(step, "train", means | {"examples_per_second": rate})
        news = [f"loss {means['loss']:.3f}", f"exact {means['exact_accuracy']:.1%}"]
        news += [f"{rate:,.0f} ex/s"] if rate == rate else []
        if self.log.scores:
            scored = max(self.log.scores)
            news += [f"{self.log.headline} {self.log.scores[scored]:.1%} at step {scored:,}"]
        bar = self.scorer.bar
        bar.update(task, news=news)
        if not bar.console.is_terminal:
            bar.console.print("  ".join([f"step {step}", *news]), soft_wrap=True)
        self._check_lock()
        checkpoint.check_saved(self.saver)

    def _check_lock(self) -> None:
        if self.held is not None:
            self.held.check()

    def not_finite(self, step: int, flags_L: np.ndarray, ids_B: np.ndarray) -> NoReturn:
        """Ends a run at a NaN or an infinity, naming what made it. Nothing of it was saved."""
        names = watched(self.begin.state.params)
        wrong = [name for name, fine in zip(names, flags_L.tolist(), strict=True) if not fine]
        puzzle_ids = ids_B.tolist()
        tasks = sorted({self.setup.puzzles.puzzle_name(i) for i in puzzle_ids} - {""})
        checkpoint.finish(self.saver)  # a save that is under way is of a good state
        path = self.scorer.workdir / "not_finite.json"
        report = {"step": step, "not_finite": wrong, "tasks": tasks, "puzzle_ids": puzzle_ids}
        if processes.is_first():
            write_whole(path, json.dumps(report) + "\n")
        saved = checkpoint.steps_in(checkpoint.checkpoint_folder(self.scorer.workdir))
        kept = f"the checkpoint of step {saved[-1]} is kept" if saved else "none was saved before"
        raise InputError(
            f"step {step}: not finite: {first_few(wrong, 4)}; tasks of its batch: "
            f"{first_few(tasks, 12)} (all in {path}); {kept}. Try a lower learning rate, or "
            "--init-from in a new --workdir"
        )


class Steps:
    """Training steps, one after the other: made, logged, and saved every train.checkpoint_every."""

    def __init__(self, run: Training, profiler: Profiler, started: float):
        """Args:
        started: see `_Stepper`.
        """
        setup, begin = run.setup, run.begin
        self.state, self.done = begin.state, begin.step
        self._run, self._profiler = run, profiler
        stream = training_stream(setup, processes.index(), processes.count())
        self._batches = batches_from(stream, first_batch(setup, begin.step))
        self.stepper = _Stepper(setup, run.scorer.bar, begin.step, started)
        self._interval = Interval(begin.step, run.not_finite, begin.interval_totals)
        self._unlogged: tuple[int, Interval] | None = None
        self._task = run.scorer.bar.add_task(
            "train", total=setup.experiment.train.steps, completed=begin.step, news=()
        )

    @property
    def experiment(self) -> Experiment:
        return self._run.setup.experiment

    def set_experiment(self, experiment: Experiment) -> None:
        """Another number of steps, or of those of the puzzle rows alone, from here on."""
        setup = dataclasses.replace(self._run.setup, experiment=experiment)
        self._run = dataclasses.replace(self._run, setup=setup)
        self.stepper.rows_first = experiment.optimizer.rows_first
        self._run.scorer.bar.update(self._task, total=experiment.train.steps)

    def advance(self, last: int) -> None:
        """Makes the steps up to this one, which isn't saved yet.

        Raises:
          StoppedError: it was asked to stop; its last step is saved.
        """
        run, config = self._run, self._run.setup.experiment.train
        for done in range(self.done + 1, last + 1):
            self._profiler.before(done)
            self.state, metrics = self.stepper.step(self.state, next(self._batches), done)
            self.done = done
            self._profiler.after(done, metrics)
            self._interval.add(metrics)
            self._write()  # the next step is under way: fetching doesn't keep the device idle
            if done % config.log_every == 0 or done == config.steps:
                self._unlogged = done, self._interval
                self._interval = Interval(done, run.not_finite)
            stopping = run.scorer.stop.beside_step()
            if stopping or (done % config.checkpoint_every == 0 and done < last):
                with self.stepper.clock.paused():
                    self.save()
            run.scorer.bar.update(self._task, completed=done)
            if stopping:
                checkpoint.finish(run.saver)
                raise run.scorer.stop.error(f"; step {done} is saved in {run.scorer.workdir}")

    def save(self) -> None:
        """Saves the state in the background; fetched before, so that only a finite one is."""
        self._write()
        self._run.save(self.done, self.state, self._interval.fetch())

    def _write(self) -> None:
        if self._unlogged:
            self._run.write_interval(*self._unlogged, self.stepper.clock, self._task)
            self._unlogged = None


class _Stepper:
    """The compiled training step; says how long its first steps took."""

    def __init__(self, setup: Setup, bar: Progress, first: int, started: float):
        """Args:
        first: steps done before.
        started: the time.perf_counter() from which the time to the first step counts.
        """
        self._mesh, self._say, self._started = setup.mesh, bar.console.print, started
        self.rows_first = setup.experiment.optimizer.rows_first
        self._step, self._rows_step = (
            compile_train_step(setup.trained, setup.mesh, setup.shardings, rows_only)
            for rows_only in (False, True)
        )
        self._first, self._compiled = first + 1, set()
        self.compile_seconds = 0.0  # of all sizes so far, the first steps counted
        self._boards = {height * width: (height, width) for height, width in setup.network.boards}
        self.clock = _Clock(first)

    def step(
        self, state: TrainState, batch: Mapping[str, np.ndarray], done: int
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """State and metrics after step `done`."""
        cells, before = batch["inputs"].shape[1], time.perf_counter()
        rows_only = done <= self.rows_first
        step = self._rows_step if rows_only else self._step
        state, metrics = step(state, global_batch(batch, self._mesh))
        if (cells, rows_only) not in self._compiled:  # compiled before it returns
            self.compile_seconds += time.perf_counter() - before
        if done == self._first:
            jax.block_until_ready(metrics)
            self._say(f"First step after {time.perf_counter() - self._started:.1f} s")
            self.clock = _Clock(done)
        elif (cells, rows_only) not in self._compiled:
            seconds = time.perf_counter() - before
            self.clock.pause(seconds)
            height, width = self._boards[cells]
            of_all = "" if rows_only or not self.rows_first else " of all weights"
            self._say(
                f"First step{of_all} on windows of {height} x {width}: {seconds:.1f} s to compile"
            )
        self._compiled.add((cells, rows_only))
        return state, metrics


def _means(totals: Mapping[str, float]) -> dict[str, float]:
    """Sums over the count of examples; sums `left_…` over that of those that left their slots.

    Where none left, those are not there.
    """
    count, left = max(totals["count"], 1.0), totals.get("left", 0.0)
    means = {k: v / count for k, v in totals.items() if k != "count" and not k.startswith("left_")}
    return means | {k: v / left for k, v in totals.items() if k.startswith("left_") and left}


class _Clock:
    """Steps a second since the last look, pauses left out."""

    def __init__(self, step: int):
        self._step, self._time = step, time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self.pause(time.perf_counter() - before)

    def pause(self, seconds: float) -> None:
        """Leaves out some seconds since the last look."""
        self._time += seconds

    def steps_per_second(self, step: int) -> float:
        """NaN where no step was timed: the first one, which compiles, is left out."""
        now = time.perf_counter()
        steps, seconds = step - self._step, max(now - self._time, 1e-9)
        self._step, self._time = step, now
        return steps / seconds if steps else math.nan
