"""drm report: what a run did, as one HTML file."""

import dataclasses
import os
from typing import Annotated

import tyro

from drm_jax.commands.devices import import_jax_on_cpu
from drm_jax.commands.options import Step, Steps, parse
from drm_jax.commands.output_files import output_file
from drm_jax.errors import UsageError

_DESCRIPTION = """\
Write what a run did as one HTML file, which needs no network and can be mailed: scores, curves,
every task with its answers, and the denoising of candidates step by step; the curves alone where
nothing was scored yet. Several work directories are compared. Made from the files that the runs
wrote, on the CPU.

Examples:
  drm report runs/demo                      runs/demo/report.html, of the newest checkpoint's scores
  drm report runs/demo --step 2000          of another evaluation
  drm report runs/demo --steps 1000,2000    of an ensemble that drm eval scored
  drm report runs/a runs/b                  runs/a/comparison.html
"""
_WHICH = tyro.conf.create_mutex_group(required=False, title="which evaluation (one of these)")


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    workdir: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="WORKDIR [WORKDIR ...]")
    ] = ()
    """What drm train wrote, such as runs/demo."""
    step: Annotated[Step, _WHICH] = None
    """Step of the evaluation to show; the newest checkpoint's by default."""
    steps: Annotated[Steps, _WHICH] = None
    """Steps of an ensemble that drm eval scored."""
    output: str | None = None
    """The file to write, or a folder for it: report.html in the work directory by default; of
    several work directories comparison.html in the first one."""


def run(argv: list[str]) -> int:
    options = parse(ReportOptions, argv, "drm report", _DESCRIPTION)
    if options is None:
        return 0
    if not options.workdir:
        raise UsageError("drm report: name a work directory (see drm report --help)")
    if (options.step is not None or options.steps) and len(options.workdir) > 1:
        raise UsageError("--step, --steps: are for the report of one work directory")
    import_jax_on_cpu()
    from drm_jax.evaluate.files import evaluations, other_evaluations
    from drm_jax.io.files import work_path
    from drm_jax.report.write import write_report
    from drm_jax.run.history import unreadable_logs
    from drm_jax.runtime.console import open_console

    workdirs = list(map(work_path, options.workdir))
    if len({os.path.realpath(path) for path in workdirs}) < len(workdirs):
        raise UsageError("drm report: a work directory is named twice: name each once")
    output = output_file(options.output, "--output", folder_too=True)
    steps = options.steps or ([options.step] if options.step is not None else [])
    path = write_report(workdirs, steps=sorted(steps), output=output)
    size = len(path.read_bytes()) / 1e6
    console = open_console()
    for workdir in workdirs:
        if not steps and not evaluations(workdir) and not other_evaluations(workdir):
            console.print(
                f"Nothing was scored yet in {workdir}: the report has its curves alone; "
                f"drm eval {workdir} scores the newest checkpoint",
                soft_wrap=True,
            )
    for workdir in workdirs:
        for text in unreadable_logs(workdir):
            console.print(text, soft_wrap=True)
    console.print(f"Written: {path} ({size:.1f} MB)", soft_wrap=True)
    return 0
