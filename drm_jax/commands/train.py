"""drm train: trains an experiment, or goes on with a run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from drm_jax.commands import STARTED
from drm_jax.commands.devices import import_jax
from drm_jax.commands.experiments import (
    PART_OPTIONS,
    PARTS_HELP,
    check_first,
    choose_parts,
    read_experiment,
)
from drm_jax.commands.help_text import HELP
from drm_jax.commands.options import AllOrSome, parse_changes
from drm_jax.commands.processes import (
    SEVERAL_HOSTS,
    ProcessOptions,
    run_together,
    take_process_options,
)
from drm_jax.config import Experiment
from drm_jax.errors import UsageError

_WHAT = """\
Train an experiment: a file with a function experiment(), or a run's work directory.

Examples:
  drm train experiments/demo.py                     into runs/demo
  drm train experiments/demo.py --help-all          all of its options, with their defaults there
  drm train experiments/demo.py --seed 1 --train.steps 2000 --workdir runs/demo_seed1
  drm train experiments/demo.py --method trm --help-all    the options with another method
  drm train experiments/demo.py --data sudoku --data.side 4 --workdir runs/sudoku
  drm train runs/demo --train.steps 8000            go on with a run, longer
  drm train runs/demo --change optimizer.learning_rate=5e-4    from its next step on
"""
_DESCRIPTION = f"""\
{_WHAT}
The same command again goes on from the newest checkpoint. Ctrl-C saves first, exit code 130.
SIGTERM, which clusters send before they take a machine away, does too, exit code 75: start again.
{SEVERAL_HOSTS}
All fields of the experiment are options. Several values follow one option: --data.only ID ID.
Three parts of an experiment are of many kinds, each with options of its own:
{PARTS_HELP}"""
EXPERIMENT_OPTIONS = (
    "--seed", "--data.train", "--data.evaluate", "--data.only", "--data.canvas", "--data.side",
    "--data.train-puzzles", "--data.test-puzzles", "--data.num-augmentations",
    "--method.recursion.cycles", "--method.recursion.inner-steps", "--method.noise.schedule",
    "--model.hidden", "--model.heads", "--model.layers", "--optimizer.learning-rate",
    "--train.steps", "--train.batch-size", "--train.checkpoint-every", "--evaluate.every",
    "--evaluate.num-augmentations", "--evaluate.denoise-steps", "--evaluate.batch-size",
)  # fmt: skip
"""Those of an experiment that are changed most."""
_COMMON = _WHAT, ("--workdir", "--dry-run", "--init-from", *EXPERIMENT_OPTIONS)
HINTS = {"experiment.evaluate.num_augmentations": AllOrSome}
"""How these options are read, instead of by their annotations."""


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    workdir: str
    """Where everything of this run is kept: a folder, or gs://BUCKET/FOLDER."""
    dry_run: bool = False
    """Check all that can be checked, say what would be done, and write nothing."""
    strict: bool = False
    """Refuse to go on from a damaged checkpoint, instead of using the one before."""
    change: tuple[str, ...] = ()
    """NAME=VALUE …: options of a run that are changed from its next step on: those under optimizer
    and method.noise, and train.batch_size."""
    begin_anew: bool = False
    """Begin at step 0 in a work directory that has a run; what it has left is kept in before/."""
    mesh: str = ""
    """data=8,fsdp=4: how the devices are laid out; fsdp=4: data takes the rest. fsdp devices share
    the weights, their moments and their average, for a model that one device can't hold. All on
    data by default. It can change from start to start."""
    profile: int = 0
    """Trace so many steps, for TensorBoard's profiler or ui.perfetto.dev."""
    processes: Annotated[ProcessOptions, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=ProcessOptions
    )


def run(argv: list[str]) -> int:
    if argv and argv[0] in HELP:
        example, prog = TrainOptions(Experiment("NAME"), "runs/NAME"), "drm train FILE|WORKDIR"
        parse_changes(example, argv[:1], prog, _DESCRIPTION, hints=HINTS, common=_COMMON)
        return 0
    check_first(argv, "drm train", "the experiment file first, or a work directory")
    own, argv = take_process_options(argv, "drm train")
    return run_together(own, lambda: _train(argv[0], argv[1:]))


def _train(name: str, argv: list[str]) -> int:
    written, workdir = read_experiment(name)
    changing, argv = _take_changes(argv)
    base, argv = choose_parts(written, argv)
    try:
        options = parse_changes(
            TrainOptions(base, workdir),
            argv,
            f"drm train {name}",
            _DESCRIPTION,
            hints=HINTS,
            known=PART_OPTIONS,
            common=_COMMON,
        )
    except UsageError as error:
        raise UsageError(_as_change(str(error), changing)) from error
    if options is None:
        return 0
    if options.profile < 0:
        raise UsageError(f"--profile: must be at least 0, not {options.profile}")
    import_jax()
    from drm_jax.commands.summary import print_summary
    from drm_jax.io.files import work_path
    from drm_jax.parallel import processes
    from drm_jax.parallel.mesh import parse_mesh_shape
    from drm_jax.run.dry_run import dry_run
    from drm_jax.run.loop import train
    from drm_jax.runtime.allocator import NARROW, keep_freed_memory
    from drm_jax.runtime.console import open_console
    from drm_jax.runtime.devices import prepare_devices

    experiment, workdir = options.experiment, work_path(options.workdir)
    shape = parse_mesh_shape(options.mesh)
    if experiment.model.hidden <= NARROW:
        keep_freed_memory()
    prepare_devices()
    console = open_console(silent=not processes.is_first())
    if options.dry_run:
        dry_run(
            experiment, workdir, console, changing=changing, anew=options.begin_anew, shape=shape
        )
        return 0
    report = train(
        experiment, workdir, console, strict=options.strict, profile_steps=options.profile,
        started=STARTED, origin=_origin(name, written, experiment), changing=changing,
        anew=options.begin_anew, shape=shape, until_exit=True,
    )  # fmt: skip
    print_summary(console, report, workdir)
    return 0


def _take_changes(argv: list[str]) -> tuple[list[str], list[str]]:
    """The names that --change gives values to; and the other words, with these as options."""
    names, rest, taking = [], [], False
    for word in argv:
        option, equals, value = word.partition("=")
        if option == "--change":
            taking = True
            if not equals:
                continue
            option, equals, value = value.partition("=")
        elif word.startswith("-"):
            taking = False
        if not taking:
            rest.append(word)
            continue
        if not equals or not value:
            raise UsageError(
                f"--change: {word}: give NAME=VALUE, such as optimizer.learning_rate=5e-5"
            )
        names.append(option.replace("-", "_"))
        rest.append(f"--{option.replace('_', '-')}={value}")
    if taking and not names:
        raise UsageError("--change: give NAME=VALUE, such as optimizer.learning_rate=5e-5")
    return names, rest


def _as_change(message: str, changing: Sequence[str]) -> str:
    """An error of an option, as one of --change where the option was given so."""
    for name in changing:
        option = f"--{name.replace('_', '-')}"
        for start in (f"{option}: ", f"{name}: "):
            if message.startswith(start):
                return f"--change {name}: {message.removeprefix(start)}"
    return message


def _origin(name: str, written: Experiment, experiment: Experiment) -> dict[str, object]:
    """The file that an experiment comes from, and what options have changed of it, for history."""
    from drm_jax.run.workdir import config_differences

    changed = {n: [was, now] for n, was, now in config_differences(written, experiment)}
    return {"from": Path(name).name, "changed": changed}
