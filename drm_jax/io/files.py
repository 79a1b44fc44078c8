"""Files of a work directory, which is a local folder or a bucket's (gs://…)."""

import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec.config
from etils import epath

from drm_jax.errors import InputError, UsageError
from drm_jax.words import counted


def is_remote(path: os.PathLike | str) -> bool:
    """Whether a path is a bucket's: its objects are written whole, never appended to."""
    return "://" in os.fspath(path)


def work_path(name: os.PathLike | str, field: str = "workdir") -> epath.Path:
    """The path of a work directory; a local one is made absolute, as Orbax needs it.

    Args:
      field: what names it, for errors.

    Raises:
      UsageError: a bucket of a kind that can't be used, or without the package that reads it.
      InputError: it is in the home of a user who doesn't exist.
    """
    text = os.fspath(name)
    whole = text if is_remote(text) else os.path.abspath(text)
    # Orbax writes names as UTF-8 whatever the locale: its files would lie in another folder.
    if not whole.isascii() and sys.getfilesystemencoding() != "utf-8":
        raise UsageError(f"{field}: {whole}: needs a UTF-8 locale, such as LC_ALL=C.UTF-8")
    if not text.strip() or not text.isprintable():
        raise UsageError(f"{field}: {text!r}: name a folder, such as runs/NAME")
    if not is_remote(text):
        try:
            return epath.Path(Path(text).expanduser().absolute())
        except RuntimeError as error:
            raise InputError(f"{field}: {text}: there is no such user; name a folder") from error
    if not text.startswith("gs://"):
        raise UsageError(f"{field}: {text}: only gs:// buckets and local folders can be used")
    if not text.removeprefix("gs://").strip("/"):
        raise UsageError(
            f"{field}: {text}: name a bucket and a folder, as in gs://BUCKET/runs/NAME"
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise UsageError(f"{field}: {text}: gs:// needs gcsfs: pip install gcsfs")
    import aiohttp  # comes with gcsfs

    settings = fsspec.config.conf.setdefault("gcs", {})
    # A listing that is remembered for ever hides what other processes write.
    settings["use_listings_cache"] = False
    # gcsfs waits for ever for an answer that was lost; this way it asks again, and soon enough for
    # the lock not to look stale.
    patience = aiohttp.ClientTimeout(total=None, connect=20, sock_connect=20, sock_read=20)
    settings.setdefault("requests_timeout", patience)
    return epath.Path(text)


@contextlib.contextmanager
def reaching(path: epath.Path) -> Iterator[None]:
    """Turns what a bucket's client raises into one line. Local paths are left as they are.

    Raises:
      InputError: the bucket doesn't exist, can't be reached, or is not ours to use.
    """
    try:
        yield
    except (InputError, UsageError):
        raise
    except Exception as error:  # gcsfs, aiohttp and google-cloud each have their own
        if not is_remote(path):
            raise
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"{path}: can't be used: {text}; does the bucket exist, and are you logged in "
            "(gcloud auth application-default login) with storage.buckets.get and the right to "
            "write objects?"
        ) from error


def make_folder(path: epath.Path) -> None:
    """Makes a work directory; in a bucket, where folders are only names, checks that it can be
    written to.

    Raises:
      InputError: see `reaching`; or a local folder can't be made.
    """
    if not is_remote(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{path}: can't be made: {error.strerror}; use another --workdir"
            ) from error
        return
    with reaching(path):
        (path / "probe").write_text("", encoding="utf-8")
        (path / "probe").unlink()


def free_path(folder: epath.Path, name: str) -> epath.Path:
    """FOLDER/NAME, or NAME-2, NAME-3, …: the first that isn't there. Makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    return next(path for path in (folder / name for name in names) if not path.exists())


def move(source: epath.Path, target: epath.Path) -> None:
    """Moves a file or a folder within a work directory."""
    if not is_remote(source):
        shutil.move(Path(source), Path(target))
        return
    if not source.is_dir():
        source.copy(target)
        source.unlink()
        return
    _copy_objects(source, target)
    source.rmtree()


def _copy_objects(source: epath.Path, target: epath.Path) -> None:
    for path in source.iterdir():
        if path.is_dir():
            _copy_objects(path, target / path.name)
        else:
            path.copy(target / path.name)


def check_writable(folder: epath.Path, remedy: str) -> None:
    """Whether files can be written to a folder, or to one that is made there.

    Raises:
      InputError: they can't be; `remedy` says where else.
    """
    if is_remote(folder):
        make_folder(folder)
        return
    place = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise InputError(f"{place}: can't be written to: {error.strerror}; {remedy}") from error


_HALF = ".half"


def remove_halves(workdir: epath.Path) -> None:
    """Removes what kills within `write_whole` have left in a local work directory."""
    if not is_remote(workdir):
        for pattern in (f".*{_HALF}", f"eval/*/.*{_HALF}"):
            for path in Path(workdir).glob(pattern):
                path.unlink(missing_ok=True)


def json_lines(path: epath.Path) -> Iterator[Any]:
    """The values of a file of JSON lines; what a kill has torn or is no JSON is left out."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for text in data.decode(errors="replace").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            yield json.loads(text)


def unreadable_lines(path: epath.Path, begin: str, is_line: Callable[[Any], bool]) -> str | None:
    """Says how many lines of a file of JSON lines can't be used; None where all can.

    A line at its end that a kill has torn is not meant.

    Args:
      begin: how each line begins.
      is_line: whether a value is what a line should hold.
    """
    if not path.exists():
        return None
    *texts, torn = path.read_bytes().decode(errors="replace").split("\n")
    texts += [] if torn.startswith(begin) or begin.startswith(torn) else [torn]
    texts = [text for text in texts if text.strip()]
    wrong = sum(not is_line(_parsed(text)) for text in texts)
    return f"{path}: {wrong} of {counted(len(texts), 'line')} can't be read" if wrong else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def write_whole(path: epath.Path, content: str | bytes) -> None:
    """Writes a file so that a reader, a kill or a full disk never meets half of it."""
    data = content.encode() if isinstance(content, str) else content
    if is_remote(path):
        path.write_bytes(data)  # an object appears whole or not at all
        return
    target = Path(path)
    half = target.with_name(f".{target.name}.{os.getpid()}{_HALF}")
    try:
        with half.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        half.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            half.unlink()
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(target), None  # what people have named
        raise
