"""Rows of studies whose runs are a dataclass with a `key`: one JSON file a run, named by it."""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar


class Keyed(Protocol):
    """A run of a study."""

    @property
    def key(self) -> str:
        """Names its row."""


Run = TypeVar("Run", bound=Keyed)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows that are there, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def make_missing(
    runs: Iterable[Run], folder: Path, words: Collection[str], make_row: Callable[[Run], None]
) -> None:
    """Makes the rows that aren't there, of runs whose key holds all of these words."""
    wanted = [run for run in runs if not (folder / f"{run.key}.json").exists()]
    wanted = [run for run in wanted if all(word in run.key for word in words)]
    for number, run in enumerate(wanted):
        print(f"{number + 1} of {len(wanted)}: {run.key}", file=sys.stderr)
        make_row(run)


def parser_of(description: str) -> argparse.ArgumentParser:
    """The command line of such a study: `--only`, the words of `make_missing`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD")
    return parser


def mean_and_range(values: Sequence[float]) -> str:
    """Of one seed its value; of several the mean, the least and the most."""
    mean = f"{statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f}–{max(values):.1f})"
