"""The lock of a work directory: one run at a time writes there.

WORKDIR/lock names its holder and is rewritten every few seconds for as long as the holder lives.

    this machine         the kernel's file lock decides: it goes when its process does
    another machine      (a shared disk, a bucket) a lock that is not rewritten any more is stale;
                         a shared disk's file lock may hold within one machine alone
"""

import contextlib
import dataclasses
import datetime
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from etils import epath

from drm_jax.errors import InputError
from drm_jax.io.files import is_remote

try:
    import fcntl
except ImportError:  # not a POSIX system: the rewritten file alone decides
    fcntl = None

_OURS: set[str] = set()
"""The ids of all locks that this process has held."""
BEAT_SECONDS = 10.0
STALE_SECONDS = 45.0
"""A lock of another machine that has not been rewritten for so long is stale."""


@dataclasses.dataclass
class Lock:
    """A lock that is held; `check` raises once it isn't any more."""

    where: epath.Path
    lost: bool = False

    def check(self) -> None:
        """Raises InputError if another run has taken the work directory over."""
        if self.lost:
            raise InputError(
                f"{self.where}: another run has taken this work directory over while this one did "
                "not answer; this one ends here"
            )


@contextlib.contextmanager
def hold(workdir: epath.Path, say: Callable[[str], None]) -> Iterator[Lock]:
    """Holds the lock of an existing work directory.

    Args:
      say: told about a stale lock, and about waiting to see whether one is.

    Raises:
      InputError: another run holds it; the message names the process.
    """
    path = workdir / "lock"
    file = _RemoteFile(path) if is_remote(path) else _LocalFile(path, os.O_RDWR | os.O_CREAT)
    with contextlib.closing(file):
        tries = (file.lock() or time.sleep(0.1) for _ in range(5))  # somebody may just be looking
        free, holder = any(tries), _parse(file.read())
        if not free:
            raise _held(path, holder)
        if holder:
            if not _is_known_gone(file, holder):
                say(f"{path}: held by {_name(holder)}; waiting {STALE_SECONDS:.0f} s for a sign")
                if _changes(file, STALE_SECONDS):
                    raise _held(path, holder)
            say(f"The lock of {_name(holder)} is stale: it ended without letting go")
        mine = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "id": uuid.uuid4().hex,
        }
        file.write(json.dumps(mine | {"beat": 0}))
        if is_remote(path):  # two that started at once: the later writer holds it
            time.sleep(2)
            if _parse(file.read()).get("id") != mine["id"]:
                raise _held(path, _parse(file.read()))
        lock, ended = Lock(path), threading.Event()
        _OURS.add(mine["id"])
        beating = threading.Thread(target=_beat, args=(file, mine, lock, ended), daemon=True)
        beating.start()
        try:
            yield lock
        finally:
            ended.set()
            beating.join()
            if not lock.lost:
                with contextlib.suppress(Exception):  # a full disk must not hide another error
                    file.write("")


def held_elsewhere(workdir: epath.Path) -> str | None:
    """Who else holds the lock now, or None; takes no lock and doesn't wait.

    If this machine's kernel lets nobody have the file, it is held. Else a holder of this machine is
    gone, and one of another machine counts for as long as the lock was rewritten within
    `STALE_SECONDS`, by the file's time; so clocks must agree to within half a minute. In a bucket a
    stale lock counts too.
    """
    path = workdir / "lock"
    if not path.exists():
        return None
    file = _RemoteFile(path) if is_remote(path) else _LocalFile(path, os.O_RDONLY)
    with contextlib.closing(file):
        holder = _parse(file.read())
        if holder.get("id") in _OURS:
            return None
        if is_remote(path):
            held = bool(holder)
        else:
            held = not file.lock(shared=True) or (
                bool(holder) and not _is_known_gone(file, holder) and _beats(file)
            )
        return _name(holder) if held else None


def is_alive(workdir: epath.Path) -> bool:
    """Whether another process holds the lock and is at work, as far as can be told without waiting.

    In a bucket too that is told by when the lock was last rewritten.
    """
    if held_elsewhere(workdir) is None:
        return False
    return not is_remote(workdir) or _beats(_RemoteFile(workdir / "lock"))


def _beats(file: "_File") -> bool:
    """Whether the lock was rewritten lately, by this machine's clock."""
    return time.time() - file.written() < STALE_SECONDS


def holder_id(workdir: epath.Path) -> str:
    """The id that whoever holds the lock has written; empty where nobody does."""
    path = workdir / "lock"
    if not path.exists():
        return ""
    file = _RemoteFile(path) if is_remote(path) else _LocalFile(path, os.O_RDONLY)
    with contextlib.closing(file):
        return str(_parse(file.read()).get("id", ""))


def _beat(file: "_File", mine: dict[str, Any], lock: Lock, ended: threading.Event) -> None:
    beat = 0
    while not ended.wait(BEAT_SECONDS):
        beat += 1
        try:
            if _parse(file.read()).get("id") != mine["id"]:
                lock.lost = True
                return
            file.write(json.dumps(mine | {"beat": beat}))
        except Exception:  # not OSError alone: a bucket's clients have errors of their own
            continue  # a disk that doesn't answer now may answer at the next beat


def _changes(file: "_File", seconds: float) -> bool:
    """Whether somebody rewrites the lock within this time."""
    before, end = file.read(), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.5)
        if file.read() != before:
            return True
    return False


def _is_known_gone(file: "_File", holder: dict[str, Any]) -> bool:
    """Whether the holder is of this machine and has ended."""
    is_here = holder.get("host") == socket.gethostname()
    return is_here and (file.is_local_lock or _is_gone(holder))


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether a process of this machine has ended."""
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return False
    return False


def _held(path: epath.Path, holder: dict[str, Any]) -> InputError:
    return InputError(
        f"{path.parent}: another run is at work here ({_name(holder)}): wait for it, stop it, or "
        "use another --workdir"
    )


def _name(holder: dict[str, Any]) -> str:
    if not {"pid", "host", "since"} <= set(holder):
        return "an unnamed process"
    return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"


def _parse(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:  # empty: let go; torn: somebody is writing it
        return {}
    return value if isinstance(value, dict) else {}


class _LocalFile:
    """A lock file that this process also locks in the kernel, where the file system can."""

    def __init__(self, path: epath.Path, mode: int):
        self._handle = os.open(Path(path), mode, 0o644)
        self.is_local_lock = False

    def lock(self, shared: bool = False) -> bool:
        """False if another process has it; `shared` is for a look alone."""
        if fcntl is None:
            return True
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
        self.is_local_lock = True
        return True

    def read(self) -> str:
        return os.pread(self._handle, 4096, 0).decode(errors="replace")

    def written(self) -> float:
        """When it was last rewritten; of the open file, as NFS may remember a path's time."""
        return os.fstat(self._handle).st_mtime

    def write(self, text: str) -> None:
        data = text.encode()
        if os.pwrite(self._handle, data, 0) == len(data):  # a full disk may take a part alone
            os.ftruncate(self._handle, len(data))

    def close(self) -> None:
        os.close(self._handle)


class _RemoteFile:
    """A lock file in a bucket."""

    is_local_lock = False

    def __init__(self, path: epath.Path):
        self._path = path

    def lock(self) -> bool:
        return True

    def read(self) -> str:
        return self._path.read_text(encoding="utf-8") if self._path.exists() else ""

    def written(self) -> float:
        return self._path.stat().mtime

    def write(self, text: str) -> None:
        self._path.write_text(text, encoding="utf-8")

    def close(self) -> None:
        pass


_File = _LocalFile | _RemoteFile
