"""drm runs: work directories, and what became of them."""

import dataclasses
from typing import Annotated

import tyro

from drm_jax.commands.devices import import_jax_on_cpu
from drm_jax.commands.options import parse

_DESCRIPTION = """\
The work directories in a folder: running, finished, stopped, preempted, killed or failed; step,
loss, score; and the options in which they differ.

Examples:
  drm runs                     those in runs/
  drm runs gs://bucket/runs    those in a bucket
"""


@dataclasses.dataclass(frozen=True)
class RunsOptions:
    folder: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[FOLDER]")] = "runs"
    """A folder of work directories, or gs://BUCKET/FOLDER."""


def run(argv: list[str]) -> int:
    options = parse(RunsOptions, argv, "drm runs", _DESCRIPTION)
    if options is None:
        return 0
    import_jax_on_cpu()
    from drm_jax.io.files import work_path
    from drm_jax.run.runs import list_runs
    from drm_jax.runtime.console import open_console

    list_runs(work_path(options.folder, "folder"), open_console())
    return 0
