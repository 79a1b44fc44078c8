"""Puzzles that are made: distinct ones, kept between runs, with progress."""

import contextlib
import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from drm_jax.errors import InputError
from drm_jax.puzzles.sets import PuzzleSet
from drm_jax.words import counted

MOST_MISSES = 40
"""So many parts in a row without a new puzzle that is wanted: there are hardly more."""
Part = Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""One part of an endless row of puzzles, by its number: inputs and outputs (N, S), difficulties."""


def make_distinct(
    noun: str,
    decides: tuple[Any, ...],
    count: int,
    part: Part,
    side: int,
    other_than: PuzzleSet | None,
    remedy: str,
) -> PuzzleSet:
    """The first distinct puzzles of an endless row of them; from the user's cache folder, if they
    were made before.

    Args:
      noun: what they are, such as maze.
      decides: with `count` all that the puzzles follow from.
      side: of a board, in cells.
      other_than: puzzles that none of them may equal.
      remedy: what to ask for where there are hardly so many.

    Raises:
      InputError: there are hardly so many.
    """
    taken = set() if other_than is None else {row.tobytes() for row in other_than.inputs_NxS}
    digest = hashlib.sha256(repr((*decides, count)).encode())
    digest.update(b"".join(sorted(taken)))

    def make() -> dict[str, np.ndarray]:
        with progress(f"{noun}s of {side}x{side}", count) as advance:
            found = _first(counted(count, noun), count, part, taken, advance, remedy)
        inputs, outputs, difficulty = zip(*found, strict=True) if found else ((), (), ())
        return {
            "inputs": np.array(inputs, np.uint8).reshape(-1, side**2),
            "outputs": np.array(outputs, np.uint8).reshape(-1, side**2),
            "difficulty": np.array(difficulty, np.int64),
        }

    arrays = keep(f"{noun}_{digest.hexdigest()[:24]}", make)
    known_N = np.ones(count, bool)
    return PuzzleSet(arrays["inputs"], arrays["outputs"], known_N, arrays["difficulty"])


def _first(
    wanted: str,
    count: int,
    part: Part,
    taken: set[bytes],
    advance: Callable[[int], None],
    remedy: str,
) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Inputs, outputs and difficulties of the first puzzles that aren't taken.

    Args:
      wanted: `count` in words.
    """
    found: dict[bytes, tuple[np.ndarray, np.ndarray, int]] = {}
    number = misses = 0
    while len(found) < count:
        before = len(found)
        for input_S, output_S, difficulty in zip(*part(number), strict=True):
            key = input_S.tobytes()
            if len(found) < count and key not in taken:
                found.setdefault(key, (input_S, output_S, int(difficulty)))
        number, misses = number + 1, misses + 1 if len(found) == before else 0
        advance(len(found) - before)
        if misses > MOST_MISSES:
            raise InputError(
                f"data: only {len(found):,} of {wanted} of this kind were found: {remedy}"
            )
    return list(found.values())


def draw_one(part: Part, noun: str) -> np.ndarray:
    """The input (S,) of the first puzzle of an endless row of them.

    Raises:
      InputError: the first parts of the row have none.
    """
    for number in range(MOST_MISSES):
        inputs_NxS, _, _ = part(number)
        if len(inputs_NxS):
            return inputs_NxS[0]
    raise InputError(f"no {noun} of this kind was found: ask for another difficulty")


def keep(name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `make` makes, from a file of the user's cache folder if it is there.

    Args:
      name: of the file; it says all that decides the arrays.
    """
    there = kept(name)
    if there is not None:
        return there
    arrays = make()
    path = _path(name)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, half = tempfile.mkstemp(".part", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                np.savez_compressed(file, **arrays)
            os.replace(half, path)
        except BaseException:  # Ctrl-C too
            os.unlink(half)
            raise
    return arrays


def kept(name: str) -> dict[str, np.ndarray] | None:
    """The arrays of a file that `keep` has written; None if it isn't there, or is damaged."""
    with contextlib.suppress(OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        file = np.load(io.BytesIO(_path(name).read_bytes()))
        return {key: file[key] for key in file.files}
    return None


def _path(name: str) -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(caches, "drm_jax", "puzzles", f"{name}.npz")


@contextlib.contextmanager
def progress(what: str, count: int) -> Iterator[Callable[[int], None]]:
    """A bar in the terminal, with the rate and the time left, and a function that is told how many
    more are made."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, ProgressColumn

    class Rate(ProgressColumn):
        def render(self, task):
            return f"{task.speed:,.0f}/s" if task.speed else ""

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), Rate())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=count)
        yield lambda more: bar.advance(task, more)
