"""The work directory: what a run leaves behind, and whether another start may go on in it.

config.json      the experiment, all of it
checkpoints/     Orbax, one folder a step
metrics.jsonl    one line a log interval and an evaluation
tensorboard/     the same, and pictures
eval/step_N/     metrics.json, submission.json, denoising.png
"""

import dataclasses
from pathlib import Path
from typing import Any

from drm_jax.config import Experiment, from_json, to_json
from drm_jax.errors import InputError, UsageError

# What may differ between starts of one run: it changes no number of the training.
_MAY_CHANGE = ("evaluate.", "train.steps", "train.log_every", "train.checkpoint_every",
               "train.keep_last", "train.keep_best", "train.debug_nans")  # fmt: skip


def read_config(workdir: Path) -> Experiment:
    """The experiment of a work directory.

    Raises:
      InputError: it is not one, or its config.json can't be used.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise InputError(f"{workdir}: not a work directory, there is no config.json in it")
    try:
        return from_json(path.read_text())
    except (UsageError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error


def claim(workdir: Path, experiment: Experiment) -> None:
    """Makes the work directory, or checks that this experiment may go on in it.

    Raises:
      UsageError: it belongs to another experiment; the differing options are named.
      InputError: it can't be made, or is not a directory.
    """
    if (workdir / "config.json").exists():
        differences = [
            f"--{name} was {before!r}, is {now!r}"
            for name, before, now in config_differences(read_config(workdir), experiment)
            if not name.startswith(_MAY_CHANGE)
        ]
        if differences:
            raise UsageError(
                f"{workdir} holds a run of another configuration ({'; '.join(differences)}): "
                "use the same options, or another --workdir"
            )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        replacement = workdir / "config.tmp"
        replacement.write_text(to_json(experiment))
        replacement.replace(workdir / "config.json")
    except OSError as error:
        raise InputError(f"{workdir}: can't be used as work directory: {error.strerror}") from error


def config_differences(before: Any, now: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted name, value before, value now) of each field that differs."""
    found = []
    for field in dataclasses.fields(before):
        name = f"{prefix}{field.name}"
        old, new = getattr(before, field.name), getattr(now, field.name)
        if dataclasses.is_dataclass(old):
            found += config_differences(old, new, f"{name}.")
        elif old != new:
            found.append((name, old, new))
    return found
