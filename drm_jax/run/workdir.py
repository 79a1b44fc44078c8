"""The work directory: what a run leaves behind, and whether another start may go on in it.

config.json      the experiment, all of it
run.json         the same as it was last written, and what was changed within the run
identifiers.json a copy of data.identifiers, if the run has adopted its puzzle ids (ARC)
lock             who is at work here
checkpoints/     Orbax, one folder a step; damaged/ where one had to be set aside
saved.json       there once a checkpoint was saved
metrics.jsonl    one line a log interval and an evaluation
tensorboard/     the same, and pictures
history.jsonl    a line for each start of training, for each end in order, and for each change
before/          the results before the run was begun anew (--begin-anew)
eval/step_N/     metrics.json, submission.json, denoising.png; answers.json.gz, trajectories.npz
eval/steps_N_M/  the same of an ensemble
report.html      of the newest evaluation
"""

import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Collection, Sequence
from typing import Any

from etils import epath

from drm_jax.config import PARTS, Experiment, from_json, part_name, to_json
from drm_jax.errors import InputError, UsageError
from drm_jax.evaluate.files import evaluations
from drm_jax.io import checkpoint
from drm_jax.io.files import free_path, is_remote, move, reaching, write_whole
from drm_jax.io.metrics import FILE as LOG

# What may differ between starts of one run: it changes no number of the training, nor a score, but
# for the rounding of another order of sums.
MAY_CHANGE = ("train.log_every", "train.checkpoint_every", "train.keep_last", "train.keep_best",
              "train.accumulate", "model.remat",
              "evaluate.every", "evaluate.untrained", "evaluate.batch_size",
              "evaluate.trajectories")  # fmt: skip
CHANGEABLE = ("optimizer.", "method.noise.", "train.batch_size")
"""How the names of options begin that may be changed within a run, on request (`--change`)."""
PENDING = sys.maxsize
"""The step of a change before it is known from which checkpoint the run goes on."""
_RUN = "run.json"


@dataclasses.dataclass(frozen=True)
class Change:
    """Changeable options were changed within a run: `before` was in force up to a step."""

    step: int
    before: Experiment


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
            experiment = from_json(path.read_bytes().decode())
            written = _read_run(workdir)
    except (UsageError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: {error}; bring it back from a copy, or use another work directory"
        ) from error
    known = [from_json(json.dumps(written[key])) for key in ("config", "before") if key in written]
    if known and experiment not in known:
        edited = _refused(workdir, known[0], experiment)
        if edited:
            raise InputError(
                f"{path}: was edited ({'; '.join(edited)}): put back what was there. To change "
                f"an option from the next step on: drm train {workdir} --change NAME=VALUE"
            )
    return experiment


def _read_run(workdir: epath.Path) -> dict[str, Any]:
    """What run.json holds; nothing in work directories of earlier versions.

    Raises:
      InputError: it can't be used.
    """
    path = workdir / _RUN
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
        found["config"], found["changes"]
        return found
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: can't be read; bring it back from a copy") from error


def changes_of(workdir: epath.Path, experiment: Experiment) -> tuple[Change, ...]:
    """What was changed within a run, oldest first; and what this experiment changes, pending."""
    with reaching(workdir):
        if not (workdir / "config.json").exists():
            return ()
        written = _read_run(workdir)
    made = [
        Change(int(change["step"]), from_json(json.dumps(change["before"])))
        for change in written.get("changes", ())
    ]
    before = read_config(workdir)
    if any(name.startswith(CHANGEABLE) for name, *_ in config_differences(before, experiment)):
        made.append(Change(PENDING, before))
    return tuple(made)


def settled(changes: Sequence[Change], step: int) -> tuple[Change, ...]:
    """The changes of a run that goes on from a checkpoint: those after it begin there."""
    made = [change for change in changes if change.step < step]
    later = [change for change in changes if change.step >= step]
    return (*made, *(Change(step, change.before) for change in later[:1]))


def check_claim(
    workdir: epath.Path, experiment: Experiment, changing: Collection[str] = ()
) -> bool:
    """Whether this experiment goes on in the work directory; False where it would be a new one.

    Sources of puzzles may be named otherwise once a checkpoint was saved: it knows their content.

    Args:
      changing: options that are changed on request, by dotted name.

    Raises:
      UsageError: it belongs to another experiment; the differing options are named. Or the class
        of a part of the experiment can't be found again by its name.
      InputError: it is not a directory, or its config.json can't be used.
    """
    for part in PARTS:
        part_name(part, getattr(experiment, part))
    for name in changing:
        if not name.startswith(CHANGEABLE) and name not in source_names(experiment):
            raise UsageError(
                f"--change: {name}: can't be changed within a run; what can be: options under "
                "optimizer and method.noise, and train.batch_size"
            )
    with reaching(workdir):
        _check_place(workdir)
        if not (workdir / "config.json").exists():
            return False
    before = read_config(workdir)
    refused = _refused(workdir, before, experiment, changing)
    for name, original in experiment.data.kept_files.items():
        if before.data.kept_files.get(name) != original:
            kept_path(None, name, original)  # a copy is there, but another original is named
    if refused:
        saved = checkpoint.steps_in(checkpoint.checkpoint_folder(workdir))
        remedy = "" if saved else ", or delete it: no checkpoint was saved there"
        other = "" if experiment.seed == before.seed else f" {_for_seed(workdir, experiment)}"
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


def _refused(
    workdir: epath.Path, before: Experiment, now: Experiment, changing: Collection[str] = ()
) -> list[str]:
    """What may not differ between two starts of a run and does, in words."""
    saved = checkpoint.steps_in(checkpoint.checkpoint_folder(workdir))
    sources = source_names(now) if saved else ()
    refused = []
    for name, old, new in config_differences(before, now):
        longer = name == "train.steps" and new > old
        if longer or name in (*MAY_CHANGE, *sources, *changing):
            continue
        hint = " (a run can be made longer, not shorter)" if name == "train.steps" else ""
        if name.startswith(CHANGEABLE):
            hint = f" (--change {name}={new} changes it from the next step on)"
        refused.append(f"--{name.replace('_', '-')} was {old!r}, is {new!r}{hint}")
    return refused


def source_names(experiment: Experiment) -> list[str]:
    """The options that say where puzzles come from, by dotted name."""
    return [f"data.{name}" for name in experiment.data.source_options]


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


def check_complete(workdir: epath.Path) -> None:
    """Raises InputError where a run was trained whose checkpoints are gone: it would begin again at
    step 0, and its log would be lost."""
    folder, log = checkpoint.checkpoint_folder(workdir), workdir / LOG
    with reaching(workdir):
        if checkpoint.steps_in(folder):
            return
        signs = [log] if log.exists() and log.stat().length and not _begun(folder) else []
        signs += [path for step, path in evaluations(workdir).items() if step]
        signs += [path for path in [workdir / checkpoint.SAVED] if path.exists()]
    if signs:
        raise InputError(
            f"{folder}: holds no checkpoint, but one was saved there ({signs[0].name} is there): "
            f"bring {folder.name} back from a copy; or begin anew at step 0 with --begin-anew, "
            "which sets aside what is there"
        )


def _begun(folder: epath.Path) -> bool:
    """Whether training made the folder of its checkpoints. (In a bucket it is only a name.)"""
    return is_remote(folder) or folder.exists()


def begin_anew(workdir: epath.Path) -> epath.Path | None:
    """Sets aside what a run has left but for its configuration; where it lies now, if any was."""
    # The mark last: cut off before, the next start is refused again.
    names = ("checkpoints", "damaged", LOG, "tensorboard", "eval", "report.html", "profile",
             "not_finite.json", checkpoint.SAVED)  # fmt: skip
    found = [workdir / name for name in names if (workdir / name).exists()]
    if not found:
        return None
    aside = free_path(workdir, "before")
    aside.mkdir()
    for path in found:
        move(path, aside / path.name)
    return aside


def claim(
    workdir: epath.Path,
    experiment: Experiment,
    changes: Sequence[Change] = (),
    changing: Collection[str] = (),
) -> None:
    """Writes the experiment to an existing work directory, which `check_claim` allows.

    Files that its puzzles follow from are copied there, once.

    Args:
      changes: that were made within the run, this start's too.
    """
    goes_on = check_claim(workdir, experiment, changing)
    content = {
        "config": json.loads(to_json(experiment)),
        "changes": [
            {"step": change.step, "before": json.loads(to_json(change.before))}
            for change in changes
        ],
    }
    # config.json is always one of the two, also where a kill comes between these writes.
    before = {"before": json.loads(to_json(read_config(workdir)))} if goes_on else {}
    write_whole(workdir / _RUN, json.dumps(content | before) + "\n")
    write_whole(workdir / "config.json", to_json(experiment))
    write_whole(workdir / _RUN, json.dumps(content) + "\n")
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
