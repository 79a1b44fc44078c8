"""The work directory: what a run leaves behind, and whether another start may go on in it.

config.json      the experiment, all of it
identifiers.json a copy of data.identifiers, if the run has adopted its puzzle ids
lock             who is at work here
checkpoints/     Orbax, one folder a step; damaged/ where one had to be set aside
metrics.jsonl    one line a log interval and an evaluation
tensorboard/     the same, and pictures
history.jsonl    a line for each start of training, and for each end in order
eval/step_N/     metrics.json, submission.json, denoising.png; answers.json.gz, trajectories.npz
eval/steps_N_M/  the same of an ensemble
report.html      of the newest evaluation
"""

import dataclasses
import os
from typing import Any

from etils import epath

from drm_jax.config import Experiment, from_json, to_json
from drm_jax.errors import InputError, UsageError
from drm_jax.io import checkpoint
from drm_jax.io.files import is_remote, reaching, write_whole

_IDENTIFIERS = "identifiers.json"
# What may differ between starts of one run: it changes no number of the training, nor a score, but
# for the rounding of another order of sums.
MAY_CHANGE = ("train.log_every", "train.checkpoint_every", "train.keep_last", "train.keep_best",
              "train.accumulate", "model.remat",
              "evaluate.every", "evaluate.untrained", "evaluate.batch_size",
              "evaluate.trajectories")  # fmt: skip


def read_config(workdir: epath.Path) -> Experiment:
    """The experiment of a work directory.

    Raises:
      InputError: it is not one, or its config.json can't be used.
    """
    path = workdir / "config.json"
    try:
        with reaching(workdir):
            if not path.exists():
                raise InputError(f"{workdir}: not a work directory, there is no config.json in it")
            text = path.read_bytes().decode()
        return from_json(text)
    except (UsageError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: {error}; bring it back from a copy, or use another work directory"
        ) from error


def check_claim(workdir: epath.Path, experiment: Experiment) -> bool:
    """Whether this experiment goes on in the work directory; False where it would be a new one.

    Raises:
      UsageError: it belongs to another experiment; the differing options are named.
      InputError: it is not a directory, or its config.json can't be used.
    """
    with reaching(workdir):
        _check_place(workdir)
        if not (workdir / "config.json").exists():
            return False
    refused = []
    for name, before, now in config_differences(read_config(workdir), experiment):
        longer = name == "train.steps" and now > before
        if name not in MAY_CHANGE and not longer:
            hint = " (a run can be made longer, not shorter)" if name == "train.steps" else ""
            refused.append(f"--{name.replace('_', '-')} was {before!r}, is {now!r}{hint}")
    if refused:
        saved = checkpoint.steps_in(checkpoint.checkpoint_folder(workdir))
        remedy = "" if saved else ", or delete it: no checkpoint was saved there"
        raise UsageError(
            f"{workdir} holds a run of another configuration ({'; '.join(refused)}): use the same "
            f"options, or another --workdir{remedy}"
        )
    return True


def _check_place(workdir: epath.Path) -> None:
    """Raises InputError where a work directory can't be made or written to."""
    if is_remote(workdir):
        return
    place = next(p for p in (workdir, *workdir.parents) if os.path.lexists(p))
    if not place.is_dir():
        kind = "a file" if place.is_file() else "not a folder"
        raise InputError(f"{place}: is {kind}: name a folder as --workdir")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{place}: can't be written to: use another --workdir")


def claim(workdir: epath.Path, experiment: Experiment) -> None:
    """Writes the experiment to an existing work directory, which `check_claim` allows.

    A list of puzzle ids that the experiment names is copied there, once.
    """
    check_claim(workdir, experiment)
    write_whole(workdir / "config.json", to_json(experiment))
    if experiment.data.identifiers is not None:
        path = identifiers_path(workdir, experiment.data.identifiers)
        if path != workdir / _IDENTIFIERS:
            write_whole(workdir / _IDENTIFIERS, path.read_bytes())


def identifiers_path(workdir: epath.Path | None, name: str) -> epath.Path:
    """Where a run's list of puzzle ids is read: its own copy, else the file `data.identifiers`.

    So a run can be moved, and the original deleted, but not changed.

    Raises:
      UsageError: there is neither.
      InputError: both are there, and they differ.
    """
    there = os.path.isfile(name) and os.access(name, os.R_OK)
    if workdir is not None:
        copy = workdir / _IDENTIFIERS
        with reaching(workdir):
            if copy.exists():
                if there and epath.Path(name).read_bytes() != copy.read_bytes():
                    raise InputError(
                        f"data.identifiers: {name}: is not the list that the run in {workdir} "
                        f"began with; bring that one back (its copy is {copy}), or use another "
                        "--workdir"
                    )
                return copy
    if not there:
        raise UsageError(
            f"data.identifiers: {name or repr(name)}: no such file on this machine, or not to be "
            "read; name the identifiers.json of a published dataset"
        )
    return epath.Path(name)


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
