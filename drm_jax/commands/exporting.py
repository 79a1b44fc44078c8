"""drm export: a checkpoint of a work directory as the published code and model hubs expect it."""

import dataclasses
from typing import Annotated, Literal

import tyro

from drm_jax.commands.devices import import_jax_on_cpu
from drm_jax.commands.options import Step, parse

_DESCRIPTION = """\
Write a checkpoint of a work directory as a folder that the published PyTorch code of TRM, DRM and
SPRM loads, that model hubs expect, and that drm import reads again, bit for bit: the averaged
weights, config.json, all_config.yaml, identifiers.json (ARC) and README.md, a card made of what the
run's own files say. Works on the CPU, and changes nothing in the work directory but its export/.

The weights are step_N, with names as in files of the published training script (--to torch), or
model.safetensors, with names as in the network's class (--to safetensors). What was imported keeps
its names. What the published code has no equivalent of is refused: diffusion, parts of your own.

Examples:
  drm export runs/demo --to safetensors                 into runs/demo/export/step_4000_safetensors
  drm export runs/trm_arc1 --to torch --step 518071 --output exports/trm
  drm export runs/trm_arc1 --to safetensors --license mit
  drm import runs/demo/export/step_4000_safetensors --workdir runs/demo_again
"""


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    workdir: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="WORKDIR")]
    """What drm train or drm import wrote, such as runs/demo or gs://BUCKET/FOLDER."""
    to: Literal["torch", "safetensors"]
    """The form of the file of weights."""
    step: Step = None
    """The checkpoint's step; the newest by default."""
    output: str | None = None
    """The folder to write; WORKDIR/export/step_N_FORM by default."""
    license: str | None = None
    """The licence to name in README.md, as hubs spell it, such as mit."""
    overwrite: bool = False
    """Replace files in the folder whose content is another; without it they are refused."""


def run(argv: list[str]) -> int:
    options = parse(ExportOptions, argv, "drm export", _DESCRIPTION)
    if options is None:
        return 0
    import_jax_on_cpu()
    from drm_jax.io.files import work_path
    from drm_jax.published.exporting import export_published
    from drm_jax.runtime.console import open_console

    export_published(
        work_path(options.workdir),
        options.to,
        open_console(),
        output=None if options.output is None else work_path(options.output, "--output"),
        step=options.step,
        licence=options.license,
        overwrite=options.overwrite,
    )
    return 0
