"""Rows of studies whose runs are a dataclass with a `key`: one JSON file a run, named by it."""

import json
import sys
from collections.abc import Callable, Collection, Iterable
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
