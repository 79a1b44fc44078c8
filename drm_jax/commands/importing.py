"""drm import: a published PyTorch checkpoint as a work directory."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from drm_jax.commands.devices import import_jax_on_cpu
from drm_jax.commands.options import parse

_DESCRIPTION = """\
Turn a published PyTorch checkpoint of TRM, DRM or SPRM into a work directory, for drm eval and drm
train. Works on the CPU; no code in a file is run. A folder that drm export wrote tells everything
itself; so does another that holds a checkpoint, all_config.yaml and, of ARC, identifiers.json.

Examples:
  drm import FOLDER --workdir runs/trm
  drm import step_155718 --config all_config.yaml --identifiers identifiers.json --workdir runs/trm
  drm import step_155718 --config all_config.yaml --reset-puzzle-table --workdir runs/trm_new
  drm import step_65104 --config all_config.yaml --train train.csv --evaluate test.csv \
    --workdir runs/trm_sudoku
"""


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CHECKPOINT")]
    """Made by torch.save, or safetensors; or the folder that holds it."""
    workdir: str
    """The work directory to make: a folder, or gs://BUCKET/FOLDER."""
    config: Path | None = None
    """The all_config.yaml of the checkpoint; by default that of its folder, where this is named."""
    data: Literal["arc", "sudoku", "maze"] | None = None
    """The family of puzzles, if neither data_paths nor the vocabulary tells it."""
    identifiers: Path | None = None
    """ARC: the identifiers.json of the checkpoint's dataset."""
    reset_puzzle_table: bool = False
    """ARC, instead of --identifiers: new puzzle ids, every row the mean of the old ones."""
    step: int | None = None
    """The checkpoint's training steps, if it is not called step_N."""
    name: str | None = None
    """Name of the experiment; the work directory's by default."""
    train: tuple[str, ...] | None = None
    """Sources of puzzles trained on; by default those of the dataset that the config names."""
    evaluate: tuple[str, ...] | None = None
    """Sources of puzzles whose tests are answered."""
    canvas: int | None = None
    """Cells along a side of the board, where no file tells it (30 for the published ARC and
    mazes)."""


def run(argv: list[str]) -> int:
    options = parse(ImportOptions, argv, "drm import", _DESCRIPTION)
    if options is None:
        return 0
    import_jax_on_cpu()  # nothing is computed, and host memory is larger
    from drm_jax.io.files import work_path
    from drm_jax.published.importing import import_published
    from drm_jax.runtime.console import open_console

    import_published(
        options.checkpoint,
        options.config,
        work_path(options.workdir),
        open_console(),
        identifiers=options.identifiers,
        reset_puzzle_table=options.reset_puzzle_table,
        step=options.step,
        name=options.name,
        family=options.data,
        train=options.train,
        evaluate=options.evaluate,
        canvas=options.canvas,
    )
    return 0
