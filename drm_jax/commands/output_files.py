"""Files that a command is told to write."""

import os
from typing import TYPE_CHECKING

from drm_jax.errors import InputError, UsageError

if TYPE_CHECKING:
    from etils import epath


def output_file(name: str | None, option: str) -> "epath.Path | None":
    """Raises UsageError where it can't be a file, InputError where its folder isn't there, before
    anything is made for it."""
    if name is None:
        return None
    from drm_jax.io.files import is_remote, work_path

    path = work_path(name, option)
    if path.is_dir():
        raise UsageError(f"{option}: {name} is a folder: name a file")
    if not is_remote(path) and not path.parent.is_dir():
        raise InputError(f"{option}: {name}: there is no folder {path.parent}")
    return path


def check_can_be_written(folder: "epath.Path") -> None:
    """Raises InputError where a folder that is there can't be written to; of a bucket it isn't
    known before."""
    from drm_jax.io.files import is_remote

    if not is_remote(folder) and folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: can't be written to: name a file elsewhere with --output")
