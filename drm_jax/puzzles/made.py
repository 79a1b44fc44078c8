"""Puzzles that are made: kept between runs, with progress."""

import contextlib
import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np


def keep(name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `make` makes, from a file of the user's cache folder if it is there.

    Args:
      name: of the file; it says all that decides the arrays.
    """
    path = _folder() / f"{name}.npz"
    with contextlib.suppress(OSError, ValueError, EOFError, zipfile.BadZipFile):
        kept = np.load(io.BytesIO(path.read_bytes()))
        return {key: kept[key] for key in kept.files}
    arrays = make()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as half:
            np.savez_compressed(half, **arrays)
        os.replace(half.name, path)
    return arrays


def _folder() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(caches, "drm_jax", "puzzles")


@contextlib.contextmanager
def progress(what: str, count: int) -> Iterator[Callable[[int], None]]:
    """A bar in the terminal, and a function that is told how many more are made."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=count)
        yield lambda more: bar.advance(task, more)
