"""drm eval: scores checkpoints of a work directory."""

import dataclasses
from typing import Annotated, Any

import tyro
from msgspec import Meta

from drm_jax.commands.devices import import_jax
from drm_jax.commands.experiments import check_first
from drm_jax.commands.help_text import HELP
from drm_jax.commands.options import AllOrSome, Step, Steps, parse_changes
from drm_jax.commands.processes import (
    SEVERAL_HOSTS,
    ProcessOptions,
    run_together,
    take_process_options,
)
from drm_jax.config import Evaluate, Experiment
from drm_jax.errors import UsageError
from drm_jax.evaluate.curves import POINTS, Kind

_WHAT = """\
Score one checkpoint of a work directory; or, with --steps or --last, each of several and their
ensemble, which pools the votes of all.

Examples:
  drm eval runs/demo                            the newest checkpoint
  drm eval runs/demo --help-all                 the settings of this run, which can be changed
  drm eval runs/demo --step 2000                the checkpoint of step 2000
  drm eval runs/demo --last 3                   an ensemble of the three newest checkpoints
  drm eval runs/demo --denoise-steps 4          with other settings of the test
  drm eval runs/demo --curve depth              after 1, 2, 4, … passes; or breadth: 1, 2, 4, …
                                                rollouts of each test, by how an answer is chosen
  drm eval /shared/demo --output runs/demo      of a run whose folder is not yours to write to
"""
_DESCRIPTION = f"""\
{_WHAT}
Test inputs are answered as the run's configuration says, unless options say otherwise. A score with
other settings is kept beside the run's own, in a folder whose name has them, such as
eval/step_4000_outside=pad; drm report and drm show show the run's own. --batch-size changes no
answer: it is for where memory is short.

--curve depth scores one checkpoint with other numbers of passes; --curve breadth answers each
candidate again and again, with other random draws (and --latent-noise), and scores what the most
votes, the highest halting score or the rules of the puzzle choose, beside an oracle that takes a
right answer wherever there is one: its lead says what a better choice could gain. A curve is kept
beside the scores, and shown in the report.
{SEVERAL_HOSTS}"""
_COMMON = _WHAT, ("--step", "--steps", "--last", "--denoise-steps", "--num-augmentations",
                  "--batch-size", "--rollouts", "--remask", "--outside",
                  "--trajectories", "--curve",
                  "--output")  # fmt: skip
_WHICH = tyro.conf.create_mutex_group(required=False, title="which checkpoints (one of these)")
_HINTS = {
    "num_augmentations": AllOrSome,
    # not of a single test
    "every": tyro.conf.Suppress[tyro.conf.Fixed[int]],
    "untrained": tyro.conf.Suppress[tyro.conf.Fixed[bool]],
}


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    evaluate: Annotated[Evaluate, tyro.conf.arg(name="")]
    data: Any = None
    """Where the puzzles lie, if not where they lay in training: they must be the same."""
    step: Annotated[Step, _WHICH] = None
    """The checkpoint's step; the newest by default."""
    steps: Annotated[Steps, _WHICH] = None
    """An ensemble: of the checkpoints of these steps; refused if one is damaged."""
    last: Annotated[int | None, _WHICH] = None
    """An ensemble: of the so many newest checkpoints; refused if one is damaged."""
    curve: Kind | None = None
    """Instead of one score, how it changes with passes (depth), or with rollouts (breadth)."""
    points: tuple[Annotated[int, Meta(ge=1)], ...] = POINTS
    """With --curve: the numbers of passes, or of rollouts."""
    output: str | None = None
    """A folder to write to instead of the work directory, such as one on a disk that can be
    written to; drm report and drm show then take it as a work directory."""
    strict: bool = False
    """Refuse a damaged newest checkpoint, instead of scoring the one before."""
    mesh: str = ""
    """data=8,fsdp=4 or fsdp=4: over how many devices the batch, and the weights, are split, for a
    model that one device can't hold; see drm train."""
    processes: Annotated[ProcessOptions, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=ProcessOptions
    )


@dataclasses.dataclass(frozen=True)
class DenoisingOptions(EvalOptions):
    """Those of a run whose method has settings of its own for a test."""

    denoising: Annotated[Any, tyro.conf.arg(name="")] = None


def run(argv: list[str]) -> int:
    if argv and argv[0] in HELP:
        _parse(Experiment("NAME"), argv[:1], "drm eval WORKDIR")
        return 0
    check_first(argv, "drm eval", "the work directory first")
    own, argv = take_process_options(argv, "drm eval")
    return run_together(own, lambda: _evaluate(argv[0], argv[1:]))


def _parse(experiment: Experiment, argv: list[str], prog: str) -> EvalOptions | None:
    data, hints = experiment.data, {f"evaluate.{name}": hint for name, hint in _HINTS.items()}
    for field in dataclasses.fields(data):
        if field.name not in data.source_options:
            hints[f"data.{field.name}"] = tyro.conf.Suppress[tyro.conf.Fixed[Any]]
    denoising = getattr(experiment.method, "denoising", None)
    if denoising is None:
        default = EvalOptions(experiment.evaluate, data)
    else:
        default = DenoisingOptions(experiment.evaluate, data, denoising=denoising)
    return parse_changes(default, argv, prog, _DESCRIPTION, hints=hints, common=_COMMON)


def _changes(experiment: Experiment, options: EvalOptions) -> dict[str, Any]:
    """What differs from a run's own settings, by dotted name, such as "evaluate.denoise_steps"."""
    changes = {}
    groups = [
        ("evaluate", experiment.evaluate, options.evaluate),
        ("data", experiment.data, options.data),
    ]
    if isinstance(options, DenoisingOptions):
        groups.append(("method.denoising", experiment.method.denoising, options.denoising))
    for group, own, now in groups:
        for field in dataclasses.fields(own):
            if getattr(now, field.name) != getattr(own, field.name):
                changes[f"{group}.{field.name}"] = getattr(now, field.name)
    return changes


def _evaluate(name: str, argv: list[str]) -> int:
    import_jax()
    from drm_jax.commands.summary import print_curve, print_summary
    from drm_jax.io.checkpoint import newest_steps
    from drm_jax.io.files import work_path
    from drm_jax.parallel import processes
    from drm_jax.parallel.mesh import parse_mesh_shape
    from drm_jax.run.evaluation import (
        check_checkpoints,
        check_points,
        draw_curve,
        evaluate_ensemble,
        evaluate_workdir,
        read_to_evaluate,
    )
    from drm_jax.run.workdir import read_config
    from drm_jax.runtime.console import open_console
    from drm_jax.runtime.devices import prepare_devices

    workdir = work_path(name)
    own = read_config(workdir)
    options = _parse(own, argv, f"drm eval {name}")
    if options is None:
        return 0
    if options.last is not None and options.last < 1:
        raise UsageError(f"--last: must be at least 1, not {options.last}")
    output = None if options.output is None else work_path(options.output, "--output")
    changes = _changes(own, options)
    shape = parse_mesh_shape(options.mesh)
    points: tuple[int, ...] = ()
    if options.curve is not None:
        if options.last or options.steps:
            raise UsageError("--curve: is of one checkpoint: name it with --step")
        points = check_points(workdir, options.curve, options.points, changes)
    check_checkpoints(workdir)
    read_to_evaluate(workdir, changes)
    prepare_devices()
    console = open_console(silent=not processes.is_first())
    steps = newest_steps(workdir, options.last) if options.last else options.steps or [options.step]
    if options.curve is not None:
        curve, report = draw_curve(
            workdir, options.curve, steps[0], console, points=points,
            strict=options.strict, changes=changes, output=output, shape=shape, until_exit=True,
        )  # fmt: skip
        print_curve(console, curve, report, output or workdir)
        return 0
    if len(steps) > 1:
        report = evaluate_ensemble(
            workdir, steps, console, changes=changes, output=output, shape=shape, until_exit=True
        )
    else:
        report = evaluate_workdir(
            workdir, steps[0], console, strict=options.strict, changes=changes, output=output,
            shape=shape, until_exit=True,
        )  # fmt: skip
    print_summary(console, report, output or workdir)
    return 0
