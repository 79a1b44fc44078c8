"""drm checkpoints: which checkpoints there are, and whether they are intact."""

import dataclasses
from typing import Annotated

import tyro

from drm_jax.commands.devices import import_jax_on_cpu
from drm_jax.commands.options import parse

_DESCRIPTION = """\
List the checkpoints of a work directory: step, size, scores, and whether every value is what was
saved. Exit code 1 if one is not. Changes nothing, and works beside a run, on the CPU.

Examples:
  drm checkpoints runs/demo
"""


@dataclasses.dataclass(frozen=True)
class CheckpointsOptions:
    workdir: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="WORKDIR")]
    """What drm train wrote, such as runs/demo or gs://BUCKET/FOLDER."""


def run(argv: list[str]) -> int:
    options = parse(CheckpointsOptions, argv, "drm checkpoints", _DESCRIPTION)
    if options is None:
        return 0
    import_jax_on_cpu()
    from drm_jax.io.files import work_path
    from drm_jax.run.checkpoints import list_checkpoints
    from drm_jax.runtime.console import open_console

    return 0 if list_checkpoints(work_path(options.workdir), open_console()) else 1
