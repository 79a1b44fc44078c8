"""The work directory: what a run leaves behind, and whether another start may go on in it.

config.json      the experiment, all of it
identifiers.json a copy of data.identifiers, if the run has adopted its puzzle ids (ARC)
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
import re
import shlex
from typing import Any

from etils import epath

from drm_jax.config import PARTS, Experiment, from_json, part_name, to_json
from drm_jax.errors import InputError, UsageError
from drm_jax.io import checkpoint
from drm_jax.io.files import is_remote, reaching, write_whole

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
      UsageError: it belongs to another experiment; the differing options are named. Or the class
        of a part of the experiment can't be found again by its name.
      InputError: it is not a directory, or its config.json can't be used.
    """
    for part in PARTS:
        part_name(part, getattr(experiment, part))
    with reaching(workdir):
        _check_place(workdir)
        if not (workdir / "config.json").exists():
            return False
    refused, before_this = [], read_config(workdir)
    for name, before, now in config_differences(before_this, experiment):
        longer = name == "train.steps" and now > before
        if name not in MAY_CHANGE and not longer:
            hint = " (a run can be made longer, not shorter)" if name == "train.steps" else ""
            refused.append(f"--{name.replace('_', '-')} was {before!r}, is {now!r}{hint}")
    if refused:
        saved = checkpoint.steps_in(checkpoint.checkpoint_folder(workdir))
        remedy = "" if saved else ", or delete it: no checkpoint was saved there"
        other = "" if experiment.seed == before_this.seed else f" {_for_seed(workdir, experiment)}"
        raise UsageError(
            f"{workdir} holds a run of another configuration ({'; '.join(refused)}): use the same "
            f"options, or another --workdir{other}{remedy}"
        )
    return True


def _for_seed(workdir: epath.Path, experiment: Experiment) -> str:
    """A work directory beside this one for the seed of an experiment, as a word of a command."""
    name = re.sub(r"_seed\d+$", "", workdir.name)
    beside = workdir.parent / f"{name}_seed{experiment.seed}"
    here = not is_remote(beside) and beside.is_relative_to(os.getcwd())
    return shlex.quote(os.path.relpath(beside) if here else str(beside))


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

    Files that its puzzles follow from are copied there, once.
    """
    check_claim(workdir, experiment)
    write_whole(workdir / "config.json", to_json(experiment))
    for name, original in experiment.data.kept_files.items():
        path = kept_path(workdir, name, original)
        if path != workdir / name:
            write_whole(workdir / name, path.read_bytes())


def kept_path(workdir: epath.Path | None, name: str, original: str) -> epath.Path:
    """Where a file that a run's puzzles follow from is read: its own copy, else the original.

    So a run can be moved, and the original deleted, but not changed.

    Args:
      name: of the copy.
      original: its path, from an option of the family.

    Raises:
      InputError: there is neither; or both are there, and they differ.
    """
    field = f"data.{name.partition('.')[0]}"
    there = os.path.isfile(original) and os.access(original, os.R_OK)
    if workdir is not None:
        copy = workdir / name
        with reaching(workdir):
            if copy.exists():
                if there and epath.Path(original).read_bytes() != copy.read_bytes():
                    raise InputError(
                        f"{field}: {original}: is not the file that the run in {workdir} "
                        f"began with; bring that one back (its copy is {copy}), or use another "
                        "--workdir"
                    )
                return copy
    if not there:
        raise InputError(
            f"{field}: {original or repr(original)}: no such file on this machine, or not to be "
            f"read; name the {name} of a published dataset"
        )
    return epath.Path(original)


def config_differences(before: Any, now: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted name, value before, value now) of each field that differs.

    Where a part of an experiment is of another kind, its name stands for all of it.
    """
    found = []
    for field in dataclasses.fields(before):
        name = f"{prefix}{field.name}"
        old, new = getattr(before, field.name), getattr(now, field.name)
        if type(old) is not type(new) and dataclasses.is_dataclass(old) and name in PARTS:
            found.append((name, part_name(name, old), part_name(name, new)))
        elif dataclasses.is_dataclass(old) and type(old) is type(new):
            found += config_differences(old, new, f"{name}.")
        elif old != new:
            found.append((name, old, new))
    return found
