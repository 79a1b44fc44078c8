"""The evaluation of a work directory: one checkpoint, or several and their votes pooled."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from rich.console import Console

from drm_jax.config import Experiment, part_name, with_changes
from drm_jax.errors import UsageError
from drm_jax.io import checkpoint
from drm_jax.references import did_you_mean
from drm_jax.run.interval import STEPS_IN_FLIGHT
from drm_jax.run.scorer import Report, Scorer
from drm_jax.run.setup import Setup, set_up
from drm_jax.run.start import restore_own
from drm_jax.run.together import check_same_data, check_same_start
from drm_jax.run.workdir import config_differences, read_config
from drm_jax.runtime import maintenance
from drm_jax.runtime.progress import progress_bar
from drm_jax.runtime.stop import StopRequest, StopTogether
from drm_jax.training.state import TrainState

_NO_ANSWER_DEPENDS = ("evaluate.batch_size", "evaluate.trajectories", "evaluate.every",
                      "evaluate.untrained")  # fmt: skip
_AUGMENTATIONS = "evaluate.num_augmentations"


def read_to_evaluate(workdir: epath.Path, changes: Mapping[str, Any]) -> Experiment:
    """The experiment of a work directory, to be scored with other settings of the test.

    Args:
      changes: by dotted name: fields of evaluate, and of method.denoising.

    Raises:
      InputError: it is not a work directory.
      UsageError: a value can't be.
    """
    return with_changes(read_config(workdir), changes)


def name_settings(experiment: Experiment, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a test by dotted name: denoise_steps -> evaluate.denoise_steps, and so on.

    Raises:
      UsageError: the experiment has no such setting.
    """
    groups = {"evaluate": experiment.evaluate}
    if hasattr(experiment.method, "denoising"):
        groups["method.denoising"] = experiment.method.denoising
    known = {
        field.name: f"{group}.{field.name}"
        for group, config in groups.items()
        for field in dataclasses.fields(config)
    }
    for name in settings:
        if name not in known:
            raise UsageError(
                f"{name}: the method {part_name('method', experiment.method)} has no such setting "
                f"of a test{did_you_mean(name, known)}; known are {', '.join(known)}"
            )
    return {known[name]: value for name, value in settings.items()}


def changed_at_test(workdir: epath.Path, experiment: Experiment) -> dict[str, Any]:
    """Settings of a test that are not those of the work directory's run, by name of the field.

    They are in the words of the command line: all augmentations are "all", not None.
    """
    return {
        name.rpartition(".")[2]: "all" if name == _AUGMENTATIONS and now is None else now
        for name, _, now in config_differences(read_config(workdir), experiment)
        if name not in _NO_ANSWER_DEPENDS
    }


def evaluate_workdir(
    workdir: epath.Path,
    step: int | None,
    console: Console,
    *,
    strict: bool = False,
    changes: Mapping[str, Any] | None = None,
    until_exit: bool = False,
) -> Report:
    """Scores one checkpoint of a work directory, the newest good one where `step` is None.

    Args:
      changes: of the configuration, see `read_to_evaluate`.
      until_exit: see `StopRequest`.

    Raises:
      InputError: there is no such work directory or checkpoint, or it is damaged.
    """
    setup = _set_up_to_evaluate(workdir, changes or {}, steps=step, strict=strict)
    checkpoint.existing_step(workdir, step)
    restored = restore_own(setup, workdir, strict, teller(console), step)
    console.print(f"Checkpoint of step {restored.step} in {workdir}", soft_wrap=True)
    with _scorer(setup, workdir, console, until_exit) as scorer:
        scorer.score(restored.state)
    return Report(setup, tuple(scorer.evaluations), tuple(scorer.paths), scorer.changed)


def evaluate_ensemble(
    workdir: epath.Path,
    steps: Sequence[int],
    console: Console,
    *,
    changes: Mapping[str, Any] | None = None,
    until_exit: bool = False,
) -> Report:
    """Scores several checkpoints of a work directory, and the votes of all of them pooled.

    Args:
      steps: distinct, at least two.
      changes, until_exit: as in `evaluate_workdir`.

    Raises:
      InputError: there is no such work directory or checkpoint, or one is damaged: none is ever
        left out, since what is scored must be what was asked for.
    """
    setup = _set_up_to_evaluate(workdir, changes or {}, steps=sorted(steps))
    steps = sorted(checkpoint.existing_step(workdir, step) for step in steps)

    def restore(step: int) -> TrainState:
        try:
            return restore_own(setup, workdir, True, teller(console), step).state
        except checkpoint.DamagedError as error:
            raise checkpoint.DamagedError(
                f"{error}; an ensemble needs all of its checkpoints: name others with --steps"
            ) from error

    for step in steps:
        restore(step)  # damage is found before hours of denoising, at the cost of reading twice
    named = ", ".join(map(str, steps))
    console.print(f"Ensemble of the checkpoints of steps {named} in {workdir}", soft_wrap=True)
    with _scorer(setup, workdir, console, until_exit) as scorer:
        scorer.score_together(steps, restore)
    return Report(setup, tuple(scorer.evaluations), tuple(scorer.paths), scorer.changed)


def _set_up_to_evaluate(workdir: epath.Path, changes: Mapping[str, Any], **options: Any) -> Setup:
    """The setup of a work directory's run, the same in all processes."""
    experiment = read_to_evaluate(workdir, changes)
    check_same_start(experiment, workdir, **options)
    setup = set_up(experiment, workdir=workdir)
    check_same_data(setup)
    return setup


@contextlib.contextmanager
def _scorer(
    setup: Setup, workdir: epath.Path, console: Console, until_exit: bool
) -> Iterator[Scorer]:
    """Scores outside of training. Told to stop, it ends after a batch; nothing has to be saved."""
    say = teller(console)
    for note in setup.puzzles.notes:
        say(note)
    with (
        StopRequest(say, "this batch is finished first", until_exit=until_exit) as stop,
        maintenance.watch(stop.preempt),
        progress_bar(console) as bar,
    ):
        stop.listen()
        together = StopTogether(stop, setup.mesh, STEPS_IN_FLIGHT)
        changed = changed_at_test(workdir, setup.experiment)
        yield Scorer(setup, workdir, None, bar, together, changed)


def teller(console: Console) -> Callable[[str], None]:
    """Prints a text on a console, in one line."""
    return lambda text: console.print(text, soft_wrap=True)
