"""The evaluation of a work directory: one checkpoint, or several and their votes pooled."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from rich.console import Console

from drm_jax.config import Experiment, part_name, with_changes
from drm_jax.errors import InputError, UsageError
from drm_jax.evaluate.curves import Curve, Kind, swept
from drm_jax.evaluate.files import evaluation_folder
from drm_jax.io import checkpoint
from drm_jax.io.files import check_writable, make_folder, write_whole
from drm_jax.io.metrics import FILE as LOG
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import ALL_DATA, MeshShape
from drm_jax.puzzles.family import Puzzles
from drm_jax.references import did_you_mean
from drm_jax.run import history
from drm_jax.run.interval import STEPS_IN_FLIGHT
from drm_jax.run.scorer import Report, Scorer
from drm_jax.run.setup import Setup, load_puzzles, set_up_to_evaluate
from drm_jax.run.start import OTHER_TESTS, other_tests, restore_own
from drm_jax.run.together import check_same_data, check_same_start
from drm_jax.run.workdir import (
    config_differences,
    config_unsure,
    no_checkpoint,
    read_config,
    source_names,
)
from drm_jax.runtime import maintenance
from drm_jax.runtime.progress import progress_bar
from drm_jax.runtime.stop import StopRequest, StopTogether

_NO_ANSWER_DEPENDS = ("evaluate.batch_size", "evaluate.trajectories", "evaluate.every",
                      "evaluate.untrained")  # fmt: skip
_AUGMENTATIONS = "evaluate.num_augmentations"


def read_to_evaluate(workdir: epath.Path, changes: Mapping[str, Any]) -> Experiment:
    """The experiment of a work directory, to be scored with other settings of the test.

    Args:
      changes: by dotted name: fields of evaluate, and of method.denoising; and where the puzzles
        lie, which must be the same ones.

    Raises:
      InputError: it is not a work directory.
      UsageError: a value can't be.
    """
    return with_changes(read_config(workdir), changes)


def check_checkpoints(workdir: epath.Path) -> None:
    """Raises InputError where a work directory holds no checkpoint to score."""
    read_config(workdir)
    missing = no_checkpoint(workdir)
    if missing:
        raise InputError(missing)


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
        if name not in (*_NO_ANSWER_DEPENDS, *source_names(experiment))
    }


def evaluate_workdir(
    workdir: epath.Path,
    step: int | None,
    console: Console,
    *,
    strict: bool = False,
    changes: Mapping[str, Any] | None = None,
    output: epath.Path | None = None,
    shape: MeshShape = ALL_DATA,
    until_exit: bool = False,
) -> Report:
    """Scores one checkpoint of a work directory, the newest good one where `step` is None.

    Args:
      changes: of the configuration, see `read_to_evaluate`.
      output: the folder that is written to, instead of the work directory: see `prepare_output`.
      shape: of the mesh of devices.
      until_exit: see `StopRequest`.

    Raises:
      InputError: there is no such work directory or checkpoint, or it is damaged.
    """
    place, setup, restored, changed = _one_checkpoint(
        workdir, step, console, strict, changes, output, shape
    )
    with _scorer(setup, place, console, changed, until_exit) as scorer:
        scorer.score(restored.state)
    return Report(setup, tuple(scorer.evaluations), tuple(scorer.paths), scorer.changed)


def evaluate_ensemble(
    workdir: epath.Path,
    steps: Sequence[int],
    console: Console,
    *,
    changes: Mapping[str, Any] | None = None,
    output: epath.Path | None = None,
    shape: MeshShape = ALL_DATA,
    until_exit: bool = False,
) -> Report:
    """Scores several checkpoints of a work directory, and the votes of all of them pooled.

    Args:
      steps: distinct, at least two.
      changes, output, shape, until_exit: as in `evaluate_workdir`.

    Raises:
      InputError: there is no such work directory or checkpoint, or one is damaged: none is ever
        left out, since what is scored must be what was asked for.
    """
    check_checkpoints(workdir)
    steps = sorted(checkpoint.existing_step(workdir, step) for step in steps)
    place = prepare_output(workdir, output, steps)
    setup = _set_up(workdir, changes or {}, console, shape, steps=steps)

    def restore(step: int) -> checkpoint.Restored:
        try:
            return restore_own(setup, workdir, True, teller(console), step)
        except checkpoint.DamagedError as error:
            raise checkpoint.DamagedError(
                f"{error}; an ensemble needs all of its checkpoints: name others with --steps"
            ) from error

    # Damage is found before hours of denoising, at the cost of reading twice.
    records = [restore(step).record for step in steps]
    named = ", ".join(map(str, steps))
    console.print(f"Ensemble of the checkpoints of steps {named} in {workdir}", soft_wrap=True)
    changed = _changed(setup, workdir, records, teller(console))
    with _scorer(setup, place, console, changed, until_exit) as scorer:
        scorer.score_together(steps, lambda step: restore(step).state)
    return Report(setup, tuple(scorer.evaluations), tuple(scorer.paths), scorer.changed)


def draw_curve(
    workdir: epath.Path,
    kind: Kind,
    step: int | None,
    console: Console,
    *,
    points: Sequence[int],
    strict: bool = False,
    changes: Mapping[str, Any] | None = None,
    output: epath.Path | None = None,
    shape: MeshShape = ALL_DATA,
    until_exit: bool = False,
) -> tuple[Curve, Report]:
    """Scores one checkpoint of a work directory with other numbers of passes, or of rollouts.

    Args:
      points: the numbers, from `check_points`.
      The others are as in `evaluate_workdir`.

    Raises:
      InputError: as `evaluate_workdir`.
    """
    place, setup, restored, changed = _one_checkpoint(
        workdir, step, console, strict, changes, output, shape, curve=kind
    )
    varied = {name.rpartition(".")[2] for name in swept(kind)}
    changed = {name: value for name, value in changed.items() if name not in varied}
    with _scorer(setup, place, console, changed, until_exit) as scorer:
        curve = scorer.draw_curve(restored.state, kind, points)
    return curve, Report(setup, (), tuple(scorer.paths), scorer.changed)


def _one_checkpoint(
    workdir: epath.Path,
    step: int | None,
    console: Console,
    strict: bool,
    changes: Mapping[str, Any] | None,
    output: epath.Path | None,
    shape: MeshShape,
    **same: Any,
) -> tuple[epath.Path, Setup, checkpoint.Restored, dict[str, Any]]:
    """What it takes to score a checkpoint, arguments as of `evaluate_workdir`: where to write, the
    setup, the checkpoint, and which settings are not the run's own.

    Args:
      same: what else must be the same in all processes.
    """
    check_checkpoints(workdir)
    place = prepare_output(workdir, output, [checkpoint.existing_step(workdir, step)])
    setup = _set_up(workdir, changes or {}, console, shape, steps=step, strict=strict, **same)
    restored = restore_own(setup, workdir, strict, teller(console), step)
    console.print(f"Checkpoint of step {restored.step} in {workdir}", soft_wrap=True)
    changed = _changed(setup, workdir, [restored.record], teller(console))
    return place, setup, restored, changed


def check_points(
    workdir: epath.Path, kind: Kind, points: Sequence[int], changes: Mapping[str, Any]
) -> tuple[int, ...]:
    """The points of a curve, ascending.

    Raises:
      UsageError: there is none, or one can't be.
    """
    if not points:
        raise UsageError("points: name one at least")
    varied = swept(kind)[0]
    for point in sorted(set(points)):
        try:
            read_to_evaluate(workdir, {**changes, varied: point})
        except UsageError as error:
            raise UsageError(f"points: {error}") from error
    return tuple(sorted(set(points)))


def prepare_output(
    workdir: epath.Path, output: epath.Path | None, steps: Sequence[int]
) -> epath.Path:
    """Where an evaluation of these steps is written: the work directory, or another folder.

    The folder gets what `drm report` and `drm show` need: the configuration, history and log.

    Raises:
      InputError: it can't be written to.
      UsageError: it is the work directory of another run.
    """
    read_config(workdir)
    if output == workdir:
        output = None
    if processes.is_first():
        place = output or workdir
        for folder in (place, place / "eval", evaluation_folder(place, steps)):
            check_writable(folder, "name another folder with --output")
        if output is not None:
            _copy_run(workdir, output)
    return output or workdir


def _copy_run(workdir: epath.Path, output: epath.Path) -> None:
    if checkpoint.steps_in(checkpoint.checkpoint_folder(output)):
        raise UsageError(f"--output: {output}: holds checkpoints of a run: name another folder")
    if (output / "config.json").exists():
        here, there = read_config(workdir), read_config(output)
        if (here.name, here.seed, here.model) != (there.name, there.seed, there.model):
            raise UsageError(f"--output: {output}: holds another run: name another folder")
    make_folder(output)
    for name in ("config.json", history.FILE, LOG):
        if (workdir / name).exists():
            write_whole(output / name, (workdir / name).read_bytes())


def _set_up(
    workdir: epath.Path,
    changes: Mapping[str, Any],
    console: Console,
    shape: MeshShape,
    **options: Any,
) -> Setup:
    """The setup of a work directory's run, the same in all processes."""
    experiment = read_to_evaluate(workdir, changes)
    check_same_start(experiment, workdir, mesh=str(shape), **options)
    unsure = config_unsure(workdir)
    if unsure:
        teller(console)(unsure)
    puzzles = _with_other_tests(workdir, experiment)
    setup = set_up_to_evaluate(experiment, teller(console), workdir, puzzles, shape)
    check_same_data(setup)
    return setup


def _with_other_tests(workdir: epath.Path, experiment: Experiment) -> Puzzles | None:
    """The puzzles of a run with the tests of the sources that are named instead of its own; None
    where none are, or where the run's own can't be found to compare them with.

    Raises:
      InputError: the run can't answer them, or they can't be loaded.
    """
    own = read_config(workdir)
    if experiment.data == own.data:
        return None
    try:
        puzzles = load_puzzles(own, workdir)
    except InputError:  # its files have moved, and the new names are of the same ones
        return None
    others = load_puzzles(experiment, workdir)
    if others.training_digest() == puzzles.training_digest():
        return others
    steps = checkpoint.steps_in(checkpoint.checkpoint_folder(workdir))
    trained_on = puzzles.trained_digests()
    with contextlib.suppress(checkpoint.DamagedError):  # told of where it is restored
        trained_on = checkpoint.read_record(workdir, steps[-1])["trained_on"]
    return puzzles.with_tests_of(others, trained_on)


def _changed(
    setup: Setup,
    workdir: epath.Path,
    records: Sequence[Mapping[str, Any]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What is not the run's own, by name: settings of the test, and the tests themselves."""
    changed = changed_at_test(workdir, setup.experiment)
    if any(other_tests(setup, record) for record in records):
        say(f"{OTHER_TESTS} since it was saved: this score is kept apart from the run's own")
        changed["tests"] = setup.puzzles.tests_digest()[:8]
    return changed


@contextlib.contextmanager
def _scorer(
    setup: Setup,
    place: epath.Path,
    console: Console,
    changed: Mapping[str, Any],
    until_exit: bool,
) -> Iterator[Scorer]:
    """Scores outside of training. Told to stop, it ends after a batch; nothing has to be saved."""
    say = teller(console)
    for note in setup.notes:
        say(note)
    with (
        StopRequest(say, "this batch is finished first", until_exit=until_exit) as stop,
        maintenance.watch(stop.preempt),
        progress_bar(console) as bar,
    ):
        stop.listen()
        together = StopTogether(stop, setup.mesh, STEPS_IN_FLIGHT)
        yield Scorer(setup, place, None, bar, together, changed)


def teller(console: Console) -> Callable[[str], None]:
    """Prints a text on a console, in one line."""
    return lambda text: console.print(text, soft_wrap=True)
