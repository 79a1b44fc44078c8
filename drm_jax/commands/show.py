"""drm show: a task in the terminal, or how a run answered it."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from drm_jax.commands.devices import import_jax_on_cpu
from drm_jax.commands.options import Step, parse
from drm_jax.commands.output_files import output_file
from drm_jax.errors import UsageError

_DESCRIPTION = """\
A task in the terminal: its demonstrations and tests. Of a work directory: how the candidates of the
task that its evaluation has kept were denoised.

Examples:
  drm show 0d3d703e                              a task of arc1 or arc2
  drm show t1 --source my_tasks/                 a task of another source
  drm show runs/demo 0d3d703e                    how a run answered it
  drm show runs/demo 0d3d703e --png task.png     as a picture too
  drm show runs/sudoku "puzzle 1"                how a run answered a puzzle that is not of ARC
"""
_SOURCES = ("arc1/training", "arc1/evaluation", "arc2/training", "arc2/evaluation")


@dataclasses.dataclass(frozen=True)
class ShowOptions:
    name: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[WORKDIR] TASK_ID")
    ] = ()
    """A task, or a work directory and a task."""
    source: tuple[str, ...] = ()
    """Where a task without a work directory is looked for, see drm data --help; arc1 and arc2 where
    none is named."""
    step: Step = None
    """Step of the evaluation; the newest one by default."""
    png: str | None = None
    """A file to write it to as a picture too."""


def run(argv: list[str]) -> int:
    options = parse(ShowOptions, argv, "drm show", _DESCRIPTION)
    if options is None:
        return 0
    if len(options.name) not in (1, 2):
        raise UsageError(
            "drm show: name a task, or a work directory and a task (see drm show --help)"
        )
    import_jax_on_cpu()
    from drm_jax.io.files import work_path
    from drm_jax.puzzles.arc.describe import find_task
    from drm_jax.puzzles.arc.family import Arc
    from drm_jax.report.show import show_denoising, show_task
    from drm_jax.runtime.console import open_console

    console = open_console()
    png_path = output_file(options.png, "--png")
    *workdir, task_id = options.name
    if workdir and options.source:
        raise UsageError("--source: is for a task alone: a work directory has its own tasks")
    if workdir:
        show_denoising(
            work_path(workdir[0]), task_id, console, step=options.step, png_path=png_path
        )
    elif options.step is not None:
        raise UsageError("--step: is of a work directory's evaluation: name it before the task")
    elif Path(task_id, "config.json").exists():
        raise UsageError(
            f"{task_id}: is a work directory: name a task of it too (drm report shows all of them)"
        )
    else:
        task = find_task(task_id, options.source or _SOURCES)
        show_task(task, Arc(), console, png_path)
    return 0
