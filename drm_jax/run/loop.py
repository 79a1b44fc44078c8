"""The training loop, and the evaluation of a work directory.

for step:  batch (Grain threads, ahead) -> global arrays -> train_step (state donated)
           metrics of an interval are fetched when the next step is already under way
every evaluate.every steps:          denoise, vote, score, pictures
every train.checkpoint_every steps:  save in the background
"""

import dataclasses
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from drm_jax.config import Experiment
from drm_jax.data.stream import batches_from, fingerprint, training_stream
from drm_jax.dist.mesh import global_batch
from drm_jax.errors import InputError
from drm_jax.evaluate.pictures import image, write_image
from drm_jax.evaluate.score import Evaluation, compile_denoise, evaluate, write_evaluation
from drm_jax.io import checkpoint
from drm_jax.io.metrics import MetricsLog
from drm_jax.run.setup import Setup, set_up
from drm_jax.run.workdir import claim, read_config
from drm_jax.train.state import TrainState, abstract_state, make_sharded
from drm_jax.train.step import compile_train_step

STEPS_IN_FLIGHT = 2


@dataclasses.dataclass(frozen=True)
class Report:
    """What a job leaves: every evaluation it made, newest last, and the files it wrote."""

    setup: Setup
    evaluations: tuple[Evaluation, ...]
    paths: tuple[Path, ...]


def train(experiment: Experiment, workdir: Path, console: Console) -> Report:
    """Trains to experiment.train.steps, going on from the newest checkpoint if there is one.

    Raises:
      InputError: bad tasks, a checkpoint that doesn't fit, or a loss that is not finite.
      UsageError: the work directory belongs to another configuration.
    """
    started = time.perf_counter()
    setup = set_up(experiment)
    claim(workdir, experiment)
    config = experiment.train
    with checkpoint.open_checkpoints(workdir, config.keep_last, config.keep_best) as manager:
        state, first_step = _start(setup, manager, console)
        with MetricsLog(workdir, first_step) as log, progress_bar(console) as bar:
            run = _Run(setup, workdir, manager, log, bar)
            if first_step == 0 and experiment.evaluate.untrained:
                run.evaluate(state)
            run.steps(state, first_step, started)
        manager.wait_until_finished()
    run.paths += [workdir / name for name in ("metrics.jsonl", "tensorboard", "checkpoints")]
    return Report(setup, tuple(run.evaluations), tuple(run.paths))


def evaluate_workdir(workdir: Path, step: int | None, console: Console) -> Report:
    """Scores one checkpoint of a work directory, the newest where `step` is None.

    Raises:
      InputError: there is no such work directory or checkpoint.
    """
    experiment = read_config(workdir)
    setup = set_up(experiment)
    with checkpoint.read_checkpoints(workdir) as manager:
        step = checkpoint.existing_step(manager, step)
        console.print(f"Checkpoint of step {step} in {workdir}")
        state = _restore(setup, manager, step)
    with progress_bar(console) as bar:
        run = _Run(setup, workdir, None, None, bar)
        run.evaluate(state)
    return Report(setup, tuple(run.evaluations), tuple(run.paths))


def _start(
    setup: Setup, manager: ocp.CheckpointManager, console: Console
) -> tuple[TrainState, int]:
    """A fresh state, or the newest saved one and its step."""
    experiment, mesh = setup.experiment, setup.mesh
    held_out = sum(task.role == "evaluate" for task in setup.tasks)
    console.print(
        f"{experiment.name}, seed {experiment.seed}: {len(setup.tasks)} tasks "
        f"({held_out} with held-out tests), {len(setup.ids) - 1} puzzle ids; {mesh.size} x "
        f"{mesh.devices.flat[0].device_kind}, {setup.network.dtype.name}"
    )
    if not manager.all_steps():
        return make_sharded(setup.make_state, setup.shardings), 0
    step = checkpoint.existing_step(manager, None)
    state = _restore(setup, manager, step)
    console.print(f"Going on from the checkpoint of step {step}")
    return state, step


def _restore(setup: Setup, manager: ocp.CheckpointManager, step: int) -> TrainState:
    """A saved state, if its puzzle ids still mean what they meant when it was trained."""
    if checkpoint.saved_fingerprint(manager, step) != stream_fingerprint(setup):
        raise InputError(
            f"{manager.directory}: the tasks have changed since step {step} was saved; "
            "use the same sources, or another --workdir"
        )
    return checkpoint.restore(manager, step, abstract_state(setup.make_state, setup.shardings))


def progress_bar(console: Console) -> Progress:
    """One bar a phase, with what is done, the time taken and left, and the newest numbers."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
        console=console,
        refresh_per_second=2,
    )


def stream_fingerprint(setup: Setup) -> str:
    return fingerprint(setup.experiment, setup.tasks, setup.ids)


class _Run:
    """The compiled functions and open files of a job."""

    def __init__(
        self,
        setup: Setup,
        workdir: Path,
        manager: ocp.CheckpointManager | None,
        log: MetricsLog | None,
        bar: Progress,
    ):
        self.setup, self.workdir, self.manager, self.log = setup, workdir, manager, log
        self.bar, self.console = bar, bar.console
        self.evaluations: list[Evaluation] = []
        self.paths: list[Path] = []
        self._denoise = compile_denoise(
            setup.experiment, setup.network, setup.mesh, setup.shardings
        )

    # --- training ---
    def steps(self, state: TrainState, first_step: int, started: float) -> None:
        """Trains from `first_step` to the last step, which is evaluated and saved."""
        setup, config = self.setup, self.setup.experiment.train
        if first_step >= config.steps:
            return
        stream = training_stream(
            setup.experiment, setup.tasks, setup.ids, jax.process_index(), jax.process_count()
        )
        batches = batches_from(stream, first_step)
        train_step = compile_train_step(
            setup.experiment, setup.network, setup.mesh, setup.shardings
        )
        interval: list[dict[str, jax.Array]] = []
        unlogged: tuple[int, list[dict[str, jax.Array]]] | None = None
        task = self.bar.add_task("train", total=config.steps, completed=first_step, info="")
        clock = _Clock(first_step)
        for done in range(first_step + 1, config.steps + 1):
            batch = next(batches)
            state, sums = train_step(state, global_batch(batch, setup.mesh))
            if config.debug_nans:
                self._check_finite(done, state, sums, batch["puzzle_id"])
            interval.append(sums)
            if done == first_step + 1:
                jax.block_until_ready(sums)
                self.console.print(f"First step after {time.perf_counter() - started:.1f} s")
                clock = _Clock(done)
            if len(interval) > STEPS_IN_FLIGHT:
                jax.block_until_ready(interval[-1 - STEPS_IN_FLIGHT])
            if unlogged:  # the next step is under way: fetching doesn't keep the device idle
                self._log(*unlogged, clock, task)
                unlogged = None
            evaluates, saves = self._due(done)
            if evaluates or saves or done % config.log_every == 0:
                unlogged, interval = (done, interval), []
            if evaluates or saves:
                self._log(*unlogged, clock, task)
                unlogged = None
                metrics = self.evaluate(state) if evaluates else None
                if saves:
                    self.save(state, metrics)
                clock = _Clock(done)
            self.bar.update(task, completed=done)

    def _due(self, done: int) -> tuple[bool, bool]:
        """Whether to evaluate and whether to save after this many steps."""
        experiment = self.setup.experiment
        every = experiment.evaluate.every
        evaluates = done == experiment.train.steps or bool(every and done % every == 0)
        # What is scored is saved too: a score names a checkpoint that exists.
        return evaluates, evaluates or done % experiment.train.checkpoint_every == 0

    def _log(
        self, step: int, interval: list[dict[str, jax.Array]], clock: "_Clock", task: TaskID
    ) -> None:
        """Fetches an interval's sums and writes their means."""
        sums = jax.device_get(interval)
        totals = {name: float(sum(s[name] for s in sums)) for name in sums[0]}
        count = max(totals.pop("count"), 1.0)
        means = {name: value / count for name, value in totals.items()}
        rate = clock.steps_per_second(step) * self.setup.experiment.train.batch_size
        self.log.scalars(step, "train", means | {"examples_per_second": rate})
        info = f"loss {means['loss']:.3f}  exact {means['exact_accuracy']:.1%}  {rate:,.0f} ex/s"
        self.bar.update(task, info=info)
        if not self.console.is_terminal:
            self.console.print(f"step {step}  {info}")
        if not all(map(math.isfinite, means.values())):
            raise InputError(
                f"loss or gradient is not finite in the steps up to {step}, which are not saved. "
                "Look for the first NaN with --train.debug-nans, or lower the learning rate"
            )

    def _check_finite(
        self, step: int, state: TrainState, sums: dict[str, jax.Array], puzzle_id_B: np.ndarray
    ) -> None:
        """Stops at the first step that made a NaN or an infinity. Waits for the step.

        jax's own debug_nans looks only at a compiled function's first call, so we look ourselves.
        """
        values = jax.device_get({"metrics": sums, "params": state.params})
        wrong = [
            jax.tree_util.keystr(path, simple=True, separator="/")
            for path, value in jax.tree_util.tree_leaves_with_path(values)
            if not np.isfinite(value).all()
        ]
        if wrong:
            tasks = sorted({self.setup.ids.task_id(i) for i in puzzle_id_B.tolist() if i})
            raise InputError(
                f"step {step}: not finite: {', '.join(wrong)}; tasks of its batch: "
                f"{', '.join(tasks)}; the last checkpoint is kept"
            )

    def save(self, state: TrainState, metrics: dict[str, float] | None) -> None:
        checkpoint.save(
            self.manager, int(state.step), state, stream_fingerprint(self.setup), metrics
        )

    # --- evaluation ---
    def evaluate(self, state: TrainState) -> dict[str, float] | None:
        """Scores a state, writes and logs it; the scores, or None where no output is known."""
        setup = self.setup

        def progress(batches: Iterable[Any], total: int) -> Iterable[Any]:
            task = self.bar.add_task("evaluate", total=total, info="")
            for batch in batches:
                yield batch
                self.bar.advance(task)
            self.bar.remove_task(task)

        result = evaluate(
            setup.experiment, self._denoise, state, setup.mesh, setup.tasks, setup.ids, progress
        )
        self.evaluations.append(result)
        if jax.process_index() == 0:
            self.paths += write_evaluation(self.workdir, result)
        if result.trajectories:
            self._write_picture(result.step, image(result.trajectories))
        numbers = {k: v for k, v in result.metrics.items() if k.startswith(("pass@", "solved@"))}
        if self.log and numbers:
            self.log.scalars(result.step, "eval", numbers)
        return numbers or None

    def _write_picture(self, step: int, picture_HxWx3: np.ndarray) -> None:
        if jax.process_index() == 0:
            path = self.workdir / "eval" / f"step_{step}" / "denoising.png"
            write_image(path, picture_HxWx3)
            self.paths.append(path)
        if self.log:
            self.log.picture(step, "eval/denoising", picture_HxWx3)


class _Clock:
    """Steps a second since the last look."""

    def __init__(self, step: int):
        self._step, self._time = step, time.perf_counter()

    def steps_per_second(self, step: int) -> float:
        now = time.perf_counter()
        rate = (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        return rate
