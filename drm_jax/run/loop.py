"""The training loop, and the evaluation of a work directory.

for step:  batch (Grain threads, ahead) -> global arrays -> train_step (state donated)
           metrics of an interval are fetched when the next step is already under way
every train.checkpoint_every steps:  save in the background
every evaluate.every steps:          save, then denoise, vote, score, pictures

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np
from etils import epath
from rich.console import Console
from rich.progress import Progress, TaskID

from drm_jax.config import AT_TEST, CARRIED, Experiment, with_changes
from drm_jax.data.stream import batches_from, training_stream
from drm_jax.errors import InputError, UsageError
from drm_jax.evaluate.answers import unpack
from drm_jax.evaluate.pictures import denoising, image, png
from drm_jax.evaluate.score import (
    Evaluation,
    compile_denoise,
    evaluate,
    evaluate_together,
    evaluation_folder,
    made_with,
    write_evaluation,
)
from drm_jax.io import checkpoint, lock
from drm_jax.io.files import make_folder, remove_halves, write_whole
from drm_jax.io.metrics import MetricsLog
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import global_batch
from drm_jax.run import history
from drm_jax.run.interval import STEPS_IN_FLIGHT, Interval
from drm_jax.run.profile import Profiler
from drm_jax.run.setup import Setup, set_up
from drm_jax.run.start import Start, check_init_from, restore_own, start
from drm_jax.run.together import check_same_data, check_same_start, check_shared
from drm_jax.run.workdir import check_claim, claim, read_config
from drm_jax.runtime import maintenance
from drm_jax.runtime.progress import progress_bar
from drm_jax.runtime.stop import StopRequest, StopTogether
from drm_jax.train.state import TrainState
from drm_jax.train.step import compile_train_step, watched


@dataclasses.dataclass(frozen=True)
class Report:
    """What a job leaves: every evaluation it made, newest last, and the files it wrote."""

    setup: Setup
    evaluations: tuple[Evaluation, ...]
    paths: tuple[epath.Path, ...]
    changed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Of the run's own settings of a test, by field of `evaluate`."""


def train(
    experiment: Experiment,
    workdir: epath.Path,
    console: Console,
    *,
    strict: bool = False,
    profile_steps: int = 0,
    started: float | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Report:
    """Trains to experiment.train.steps, going on from the newest good checkpoint if there is one.

    Args:
      workdir: from `io.files.work_path`.
      strict: refuse to go on where a checkpoint is damaged, instead of using the one before.
      profile_steps: how many steps to trace, after the first ones; 0 for none.
      started: the time.perf_counter() from which the time to the first step counts; None: now.
      origin: where the experiment comes from, for the history: see `run.history`.

    Raises:
      InputError: bad tasks, a checkpoint that can't be used, a loss that is not finite, another
        run in the work directory, or a full disk.
      UsageError: the work directory belongs to another configuration.
      StoppedError: Ctrl-C; the state is saved.
      PreemptedError: SIGTERM or a maintenance notice; the state is saved, and SIGTERM is ignored
        from then on.
    """
    started = time.perf_counter() if started is None else started
    first = processes.is_first()
    check_same_start(experiment, workdir, strict=strict, profile=profile_steps)
    setup = set_up(experiment, workdir=workdir)
    check_same_data(setup)
    check_claim(workdir, experiment)
    check_init_from(setup, workdir)
    processes.exchange()  # nothing is written before all have looked
    if first:
        make_folder(workdir)
    console.print(describe(setup), soft_wrap=True)
    say = _teller(console)
    with StopRequest(say) as stop, lock.hold(workdir, say) if first else _no_lock() as held:
        check_shared(workdir)
        if first:
            remove_halves(workdir)
        begin = start(setup, workdir, strict, say)
        if first:
            claim(workdir, experiment)  # not before it is known that this experiment can begin
        resumed_at = begin.step if begin.resumed else None
        config = experiment.train
        stop.listen()  # ended by a signal before, nothing is lost
        line = {"step": begin.step, **made_with(experiment, setup.mesh), **(origin or {})}
        with (
            history.recorded(workdir, line) if first else contextlib.nullcontext(),
            maintenance.watch(stop.preempt),
            MetricsLog(workdir, resumed_at) as log,
            checkpoint.open_checkpoints(
                workdir, config.keep_last, config.keep_best, log.scores
            ) as saver,
            progress_bar(console) as bar,
        ):
            together = StopTogether(stop, setup.mesh, STEPS_IN_FLIGHT)
            scorer = _Scorer(setup, workdir, log, bar, together, changed={})
            with Profiler(workdir, begin.step, profile_steps if first else 0) as profiler:
                run = _Training(setup, begin, saver, log, scorer, held, profiler)
                run.steps(started)
    paths = [*scorer.paths, *profiler.paths]
    paths += [workdir / name for name in ("metrics.jsonl", "tensorboard", "checkpoints")]
    return Report(setup, tuple(scorer.evaluations), tuple(paths))


@contextlib.contextmanager
def _no_lock() -> Iterator[None]:
    """Of all but the first process, which holds the lock for them."""
    yield


def read_to_evaluate(workdir: epath.Path, **changes: Any) -> Experiment:
    """The experiment of a work directory, to be scored with other fields of `evaluate`.

    Args:
      changes: by the names of fields; None leaves the run's own value.

    Raises:
      InputError: it is not a work directory.
      UsageError: a value can't be.
    """
    experiment = read_config(workdir)
    for name in ("remask", "first_remask"):  # a configuration may have them, and trm ignores them
        if changes.get(name) is not None and experiment.objective in CARRIED:
            raise UsageError(f"--{name.replace('_', '-')}: {experiment.objective} masks nothing")
    named = {f"evaluate.{name}": value for name, value in changes.items() if value is not None}
    return with_changes(experiment, named)


def changed_at_test(workdir: epath.Path, experiment: Experiment) -> dict[str, Any]:
    """Settings of a test that are not those of the work directory's run, by field of `evaluate`."""
    own, now = read_config(workdir).evaluate, experiment.evaluate
    return {
        field: getattr(now, field)
        for field in AT_TEST
        if getattr(now, field) != getattr(own, field)
    }


def evaluate_workdir(
    workdir: epath.Path,
    step: int | None,
    console: Console,
    *,
    strict: bool = False,
    **changes: Any,
) -> Report:
    """Scores one checkpoint of a work directory, the newest good one where `step` is None.

    Args:
      changes: of the configuration, see `read_to_evaluate`.

    Raises:
      InputError: there is no such work directory or checkpoint, or it is damaged.
    """
    setup = _set_up_to_evaluate(workdir, changes, steps=step, strict=strict)
    checkpoint.existing_step(workdir, step)
    restored = restore_own(setup, workdir, strict, _teller(console), step)
    console.print(f"Checkpoint of step {restored.step} in {workdir}", soft_wrap=True)
    with _scorer(setup, workdir, console) as scorer:
        scorer.score(restored.state)
    return Report(setup, tuple(scorer.evaluations), tuple(scorer.paths), scorer.changed)


def _set_up_to_evaluate(workdir: epath.Path, changes: Mapping[str, Any], **options: Any) -> Setup:
    """The setup of a work directory's run, the same in all processes."""
    experiment = read_to_evaluate(workdir, **changes)
    check_same_start(experiment, workdir, **options)
    setup = set_up(experiment, workdir=workdir)
    check_same_data(setup)
    return setup


@contextlib.contextmanager
def _scorer(setup: Setup, workdir: epath.Path, console: Console) -> Iterator["_Scorer"]:
    """Scores outside of training. Told to stop, it ends after a batch; nothing has to be saved."""
    with (
        StopRequest(_teller(console), "this batch is finished first") as stop,
        maintenance.watch(stop.preempt),
        progress_bar(console) as bar,
    ):
        stop.listen()
        together = StopTogether(stop, setup.mesh, STEPS_IN_FLIGHT)
        changed = changed_at_test(workdir, setup.experiment)
        yield _Scorer(setup, workdir, None, bar, together, changed)


def evaluate_ensemble(
    workdir: epath.Path,
    steps: Sequence[int],
    console: Console,
    **changes: Any,
) -> Report:
    """Scores several checkpoints of a work directory, and the votes of all of them pooled.

    Args:
      steps: distinct, at least two.
      changes: as in `evaluate_workdir`.

    Raises:
      InputError: there is no such work directory or checkpoint, or one is damaged: none is ever
        left out, since what is scored must be what was asked for.
    """
    setup = _set_up_to_evaluate(workdir, changes, steps=sorted(steps))
    steps = sorted(checkpoint.existing_step(workdir, step) for step in steps)

    def restore(step: int) -> TrainState:
        try:
            return restore_own(setup, workdir, True, _teller(console), step).state
        except checkpoint.DamagedError as error:
            raise checkpoint.DamagedError(
                f"{error}; an ensemble needs all of its checkpoints: name others with --steps"
            ) from error

    for step in steps:
        restore(step)  # damage is found before hours of denoising, at the cost of reading twice
    named = ", ".join(map(str, steps))
    console.print(f"Ensemble of the checkpoints of steps {named} in {workdir}", soft_wrap=True)
    with _scorer(setup, workdir, console) as scorer:
        scorer.score_together(steps, restore)
    return Report(setup, tuple(scorer.evaluations), tuple(scorer.paths), scorer.changed)


def describe(setup: Setup) -> str:
    """One line: the run, its tasks, and what it runs on."""
    experiment, mesh = setup.experiment, setup.mesh
    held_out = sum(task.role == "evaluate" for task in setup.tasks)
    several = f" of {processes.count()} processes" if processes.count() > 1 else ""
    return (
        f"{experiment.name}, {experiment.objective}, seed {experiment.seed}: "
        f"{len(setup.tasks)} tasks "
        f"({held_out} with held-out tests), {len(setup.ids) - 1} puzzle ids; {mesh.size} x "
        f"{mesh.devices.flat[0].device_kind}{several}, {setup.network.dtype.name}"
    )


def _teller(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(text, soft_wrap=True)


class _Training:
    """The training loop with what it writes to."""

    def __init__(
        self,
        setup: Setup,
        begin: Start,
        saver: checkpoint.Saver,
        log: MetricsLog,
        scorer: "_Scorer",
        held: lock.Lock | None,
        profiler: Profiler,
    ):
        self.setup, self.begin, self.saver, self.log = setup, begin, saver, log
        self.scorer, self.held, self.profiler = scorer, held, profiler
        self.stream = training_stream(
            setup.experiment, setup.tasks, setup.ids, processes.index(), processes.count()
        )

    def steps(self, started: float) -> None:
        """Trains to the last step, which is saved and evaluated."""
        setup, config, begin = self.setup, self.setup.experiment.train, self.begin
        bar, stop = self.scorer.bar, self.scorer.stop
        state = begin.state
        if not begin.resumed and setup.experiment.init_from is not None:
            self.save(0, state, {})  # a restart must not depend on the other run any more
        if self._evaluates(begin.step) and not self.log.was_evaluated(begin.step):
            self.scorer.score(state)
        if begin.step >= config.steps:
            return
        batches = batches_from(self.stream, begin.step)
        train_step = compile_train_step(
            setup.experiment, setup.network, setup.mesh, setup.shardings
        )
        interval = Interval(begin.step, self._not_finite, begin.interval_totals)
        unlogged: tuple[int, Interval] | None = None
        task = bar.add_task("train", total=config.steps, completed=begin.step, info="")
        clock, sides = _Clock(begin.step), set()
        for done in range(begin.step + 1, config.steps + 1):
            self.profiler.before(done)
            batch = next(batches)
            side = math.isqrt(batch["inputs"].shape[1])
            before = time.perf_counter()
            state, metrics = train_step(state, global_batch(batch, setup.mesh))
            self.profiler.after(done, metrics)
            interval.add(metrics)
            if done == begin.step + 1:
                jax.block_until_ready(metrics)
                bar.console.print(f"First step after {time.perf_counter() - started:.1f} s")
                clock = _Clock(done)
            elif side not in sides:
                seconds = time.perf_counter() - before  # compiled before it returns
                clock.pause(seconds)
                bar.console.print(
                    f"First step on windows of side {side}: {seconds:.1f} s to compile"
                )
            sides.add(side)
            if unlogged:  # the next step is under way: fetching doesn't keep the device idle
                self._log(*unlogged, clock, task)
                unlogged = None
            if done % config.log_every == 0 or done == config.steps:
                unlogged, interval = (done, interval), Interval(done, self._not_finite)
            # What is scored is saved first: a kill while it is scored loses no training.
            evaluates, stopping = self._evaluates(done), stop.beside_step()  # once a step
            if evaluates or stopping or done % config.checkpoint_every == 0:
                if unlogged:
                    self._log(*unlogged, clock, task)
                    unlogged = None
                with clock.paused():
                    self.save(done, state, interval.fetch())  # fetched: only a finite state is
                    if evaluates and not stopping:
                        self.scorer.score(state)
            bar.update(task, completed=done)
            if stopping:
                checkpoint.finish(self.saver)
                raise stop.error(f"; step {done} is saved in {self.scorer.workdir}")
        checkpoint.finish(self.saver)

    def _evaluates(self, step: int) -> bool:
        """Whether an evaluation belongs after this many steps."""
        experiment = self.setup.experiment
        if step == 0:
            return experiment.evaluate.untrained
        every = experiment.evaluate.every
        return step == experiment.train.steps or bool(every and step % every == 0)

    def save(self, step: int, state: TrainState, interval_totals: Mapping[str, float]) -> None:
        """Saves in the background; the log is made safe first, so that it is never behind."""
        self._check_lock()
        self.log.publish()
        record = {**self.begin.record, "interval": dict(interval_totals)}
        checkpoint.save(self.saver, step, state, record)

    def _log(self, step: int, interval: Interval, clock: "_Clock", task: TaskID) -> None:
        """Fetches an interval's sums and writes their means."""
        means = _means(interval.fetch())
        rate = clock.steps_per_second(step) * self.setup.experiment.train.batch_size
        self.log.scalars(step, "train", means | {"examples_per_second": rate})
        info = f"loss {means['loss']:.3f}  exact {means['exact_accuracy']:.1%}"
        info += f"  {rate:,.0f} ex/s" if rate == rate else ""
        if self.log.scores:
            scored = max(self.log.scores)
            info += f"  pass@2 {self.log.scores[scored]:.1%} at step {scored:,}"
        bar = self.scorer.bar
        bar.update(task, info=info)
        if not bar.console.is_terminal:
            bar.console.print(f"step {step}  {info}")
        self._check_lock()
        checkpoint.check_saved(self.saver)

    def _check_lock(self) -> None:
        if self.held is not None:
            self.held.check()

    def _not_finite(self, step: int, flags_L: np.ndarray, ids_B: np.ndarray) -> NoReturn:
        """Ends a run at a NaN or an infinity, naming what made it. Nothing of it was saved."""
        names = watched(self.begin.state.params)
        wrong = [name for name, fine in zip(names, flags_L.tolist(), strict=True) if not fine]
        puzzle_ids = ids_B.tolist()
        ids = self.setup.ids
        tasks = sorted({ids.task_id(i) for i in puzzle_ids if ids.task[i] >= 0})
        checkpoint.finish(self.saver)  # a save that is under way is of a good state
        path = self.scorer.workdir / "not_finite.json"
        report = {"step": step, "not_finite": wrong, "tasks": tasks, "puzzle_ids": puzzle_ids}
        if processes.is_first():
            write_whole(path, json.dumps(report) + "\n")
        saved = checkpoint.steps_in(checkpoint.checkpoint_folder(self.scorer.workdir))
        kept = f"the checkpoint of step {saved[-1]} is kept" if saved else "none was saved before"
        raise InputError(
            f"step {step}: not finite: {_some(wrong, 4)}; tasks of its batch: {_some(tasks, 12)} "
            f"(all in {path}); {kept}. Try a lower learning rate, or --init-from in a new --workdir"
        )


def _means(totals: Mapping[str, float]) -> dict[str, float]:
    """Sums over the count of examples; sums `left_…` over that of those that left their slots.

    Where none left, those are not there.
    """
    count, left = max(totals["count"], 1.0), totals.get("left", 0.0)
    means = {k: v / count for k, v in totals.items() if k != "count" and not k.startswith("left_")}
    return means | {k: v / left for k, v in totals.items() if k.startswith("left_") and left}


def _some(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class _Scorer:
    """Evaluates states, and writes what comes of it."""

    def __init__(
        self,
        setup: Setup,
        workdir: epath.Path,
        log: MetricsLog | None,
        bar: Progress,
        stop: StopTogether,
        changed: Mapping[str, Any],
    ):
        """Args: changed: what of the run's own settings of a test was changed."""
        self.setup, self.workdir, self.log, self.bar, self.stop = setup, workdir, log, bar, stop
        self.changed = changed
        self.evaluations: list[Evaluation] = []
        self.paths: list[epath.Path] = []
        self._denoise = compile_denoise(
            setup.experiment, setup.network, setup.mesh, setup.shardings
        )

    def score(self, state: TrainState) -> None:
        """Scores a state, writes its files, and logs it last: a line says that all is there."""
        setup, step = self.setup, int(state.step)
        with self._progress(f"step {step}", 1) as wrap:
            result = evaluate(
                setup.experiment, self._denoise, state, setup.mesh, setup.tasks, setup.ids, wrap
            )
        self.evaluations = [*(of.without_details() for of in self.evaluations), result]
        self._write(result, "denoising.png")
        shown = ("pass@", "solved@", "candidates", "cell_accuracy")
        numbers = {k: v for k, v in result.metrics.items() if k.startswith(shown)}
        if self.log:
            self.log.scalars(result.step, "eval", numbers)
            self.log.publish()

    def score_together(self, steps: Sequence[int], restore: Callable[[int], TrainState]) -> None:
        """Scores checkpoints and their ensemble; only the files of the ensemble are written."""
        setup = self.setup
        with self._progress(f"the ensemble of {len(steps)} checkpoints", len(steps)) as wrap:
            results = evaluate_together(
                setup.experiment, self._denoise, steps, restore, setup.mesh, setup.tasks,
                setup.ids, wrap,
            )  # fmt: skip
        self.evaluations += results
        self._write(results[-1], f"denoising_step_{steps[-1]}.png")

    @contextlib.contextmanager
    def _progress(
        self, what: str, checkpoints: int
    ) -> Iterator[Callable[[Iterable[Any], int], Iterable[Any]]]:
        """One bar over the batches of all checkpoints, between which a stop is looked for."""
        task = self.bar.add_task("evaluate", total=None, info="")
        done = most = 0

        def wrap(batches: Iterable[Any], left: int) -> Iterable[Any]:
            nonlocal done, most
            most = max(most, done + left if done else left * checkpoints)
            self.bar.update(task, total=most)
            for batch in batches:
                if self.stop.now():
                    kept = "; all training up to it is saved" if self.log else ""
                    raise self.stop.error(f" while {what} was evaluated{kept}")
                yield batch
                done += 1
                self.bar.update(task, completed=done)

        yield wrap
        self.bar.remove_task(task)

    def _write(self, result: Evaluation, picture_name: str) -> None:
        if not processes.is_first():  # the first one has the trajectories, and writes
            return
        folder = evaluation_folder(self.workdir, result.steps, self.changed)
        self.paths += write_evaluation(folder, result)
        if not result.pictured:
            return
        picture_HxWx3 = image([denoising(unpack(packed), 10) for packed in result.pictured])
        path = folder / picture_name
        write_whole(path, png(picture_HxWx3))
        self.paths.append(path)
        if self.log:
            self.log.picture(result.step, "eval/denoising", picture_HxWx3)


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
