"""Files that a command is told to write."""

from typing import TYPE_CHECKING

from drm_jax.errors import InputError, UsageError

if TYPE_CHECKING:
    from etils import epath


def output_file(name: str | None, option: str, folder_too: bool = False) -> "epath.Path | None":
    """Raises UsageError where it can't be a file, InputError where its folder isn't there, before
    anything is made for it.

    Args:
      folder_too: it may be a folder instead.
    """
    if name is None:
        return None
    from drm_jax.io.files import is_remote, work_path

    path = work_path(name, option)
    if path.is_dir() and not folder_too:
        raise UsageError(f"{option}: {name} is a folder: name a file")
    if not is_remote(path) and not path.parent.is_dir():
        raise InputError(f"{option}: {name}: there is no folder {path.parent}")
    return path
