"""wandb and trackio as further sinks of a run's scalars: one adapter, since both have init, log and
finish.

Offline, unless the environment says otherwise in the tracker's own way. Process 0 alone logs. What
a tracker raises is said once, and ends no run.
"""

import contextlib
import importlib
import importlib.util
import io
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from etils import epath

from drm_jax.errors import UsageError
from drm_jax.io.files import is_remote, json_lines, write_whole

Name = Literal["none", "wandb", "trackio"]
NONE = "none"
FILE = "tracker.json"
"""The id of the tracker's run that the work directory's run goes on with."""
_PROJECT = "drm_jax"


def check_installed(name: Name) -> None:
    """Raises UsageError where the tracker's package is missing."""
    if name != NONE and importlib.util.find_spec(name) is None:
        raise UsageError(
            f"train.tracker: {name} is not installed: pip install {name}, or --train.tracker none"
        )


class Tracker:
    """A run in a tracker; from `tracked`."""

    def __init__(self, name: Name, package: Any, run: Any, say: Callable[[str], None]):
        self._name, self._package, self._run, self._say = name, package, run, say

    def log(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Scalars kind/name of a step."""
        if self._run is not None:
            named = {f"{kind}/{name}": value for name, value in values.items()}
            self._try("log", lambda: self._run.log(named, step=step))

    def finish(self) -> None:
        if self._run is not None:
            self._try("finish", self._package.finish)  # trackio's run would be finished once more
            self._run = None

    def _try(self, what: str, call: Callable[[], Any]) -> None:
        try:
            with _silent():
                call()
        except Exception as error:
            self._run = None
            self._say(_failure(self._name, what, error))


@contextlib.contextmanager
def tracked(
    name: Name,
    workdir: epath.Path,
    resumed: bool,
    run_name: str,
    config: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[Tracker | None]:
    """A run in a tracker, for as long as a start of training takes; None where it can't be.

    Args:
      resumed: go on with the tracker's run of the start before, as `FILE` names it.
      run_name, config: what people see of it.
    """
    tracker = None
    if name != NONE:
        try:
            run_id = _run_id(workdir, name, resumed)
            arguments = _ARGUMENTS[name](run_name, run_id, workdir)
            project = os.environ.get(f"{name.upper()}_PROJECT", _PROJECT)
            with _silent():
                package = importlib.import_module(name)
                run = package.init(
                    project=project, config=dict(config), resume="allow", **arguments
                )
            tracker = Tracker(name, package, run, say)
            say(f"Tracked by {name} in project {project} as {arguments['name']} ({run_id})")
        except Exception as error:
            say(_failure(name, "init", error))
    try:
        yield tracker
    finally:
        if tracker is not None:
            tracker.finish()


def _of_wandb(run_name: str, run_id: str, workdir: epath.Path) -> dict[str, Any]:
    mode = os.environ.get("WANDB_MODE", "offline")
    if mode == "offline":  # it would tell its makers of errors all the same
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    return {
        "id": run_id,
        "name": run_name,
        "mode": mode,
        # Of a bucket: the current directory, as wandb does by itself.
        "dir": None if is_remote(workdir) else os.fspath(workdir),
        "settings": {"console": "off", "silent": True},
    }


def _of_trackio(run_name: str, run_id: str, workdir: epath.Path) -> dict[str, Any]:
    # It knows a run by its name.
    return {"name": f"{run_name}-{run_id}", "embed": False}


_ARGUMENTS = {"wandb": _of_wandb, "trackio": _of_trackio}
"""What each `init` takes beside what both take."""


def _run_id(workdir: epath.Path, name: Name, resumed: bool) -> str:
    """The id of the tracker's run: that of the start before, or a new one."""
    path = workdir / FILE
    found = next(iter(json_lines(path)), None) if resumed else None
    kept = dict(found) if isinstance(found, dict) else {}
    if type(kept.get(name)) is not str:
        kept[name] = secrets.token_hex(4)
        write_whole(path, json.dumps(kept) + "\n")
    return kept[name]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what trackers print for people who use them by hand."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _failure(name: Name, what: str, error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return (
        f"{name}: {what} failed: {text}; the run goes on without it, and metrics.jsonl has all "
        "numbers"
    )
