"""The work directory: what a run leaves behind, and whether another start may go on in it.

config.json      the experiment, all of it
run.json         the same as it was last written, and what was changed within the run
identifiers.json a copy of data.identifiers, if the run has adopted its puzzle ids (ARC)
lock             who is at work here
checkpoints/     Orbax, one folder a step; damaged/ where one had to be set aside
saved.json       there once a checkpoint was saved
metrics.jsonl    one line a log interval and an evaluation
tracker.json     which run of a tracker (--train.tracker) it goes on with
tensorboard/     the same, and pictures
history.jsonl    a line for each start of training, for each end in order, and for each change
before/          the results before the run was begun anew (--begin-anew)
eval/step_N/     metrics.json, submission.json, denoising.png; answers.json.gz, trajectories.npz
eval/steps_N_M/  the same of an ensemble
report.html      of the newest evaluation
export/          what drm export wrote
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
from drm_jax.run import history

# What may differ between starts of one run: it changes no number of the training, nor a score, but
# for the rounding of another order of sums.
MAY_CHANGE = ("train.log_every", "train.checkpoint_every", "train.keep_last", "train.keep_best",
              "train.accumulate", "train.tracker", "model.remat",
              "evaluate.every", "evaluate.untrained", "evaluate.batch_size",
              "evaluate.trajectories")  # fmt: skip
CHANGEABLE = ("optimizer.", "method.noise.", "train.batch_size")
"""How the names of options begin that may be changed within a run, on request (`--change`)."""
_OF_THE_STATE = "optimizer.matrices"
"""What a checkpoint holds depends on it, so it can't be changed."""
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
                gone = not is_remote(workdir) and not workdir.exists()
                why = "no such folder" if gone else "no config.json in it"
                raise InputError(f"{workdir}: not a work directory, there is {why}")
            experiment = from_json(path.read_bytes().decode())
            known, _ = _read_run(workdir)
    except (UsageError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: {error}; bring it back from a copy, or use another work directory"
        ) from error
    if known and experiment not in known:
        edited = _refused(workdir, known[0], experiment)
        if edited:
            words = "; ".join(_in_words(*of) for of in edited)
            wanted = [
                f"{name}={new}"
                for name, _, new in edited
                if name.startswith(CHANGEABLE) and name != _OF_THE_STATE
            ]
            change = (
                f". To change it from the next step on: drm train {workdir} "
                f"--change {shlex.join(wanted)}"
            )
            raise InputError(
                f"{path}: was edited ({words}): put back what was there{change if wanted else ''}"
            )
    return experiment


def _read_run(workdir: epath.Path) -> tuple[list[Experiment], list[Change]]:
    """The experiments that config.json may hold, and what was changed within the run.

    Raises:
      InputError: run.json can't be used.
    """
    path = workdir / _RUN
    if not path.exists():
        return [], []
    try:
        found = json.loads(path.read_bytes())
        known = [found["config"], *([found["before"]] if "before" in found else [])]
        changes = [(int(change["step"]), change["before"]) for change in found["changes"]]
        return [from_json(json.dumps(config)) for config in known], [
            Change(step, from_json(json.dumps(before))) for step, before in changes
        ]
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: can't be read: {error}; bring it back from a copy") from error


def changes_of(workdir: epath.Path, experiment: Experiment) -> tuple[Change, ...]:
    """What was changed within a run, oldest first; and what this experiment changes, pending."""
    with reaching(workdir):
        if not (workdir / "config.json").exists():
            return ()
        _, made = _read_run(workdir)
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
        if name == _OF_THE_STATE:
            raise UsageError(
                f"--change: {name}: can't be changed within a run, whose checkpoints hold what its "
                "optimiser keeps of the gradients; begin another run with --init-from"
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
        words = "; ".join(_in_words(*of) + _hint(*of) for of in refused)
        raise UsageError(
            f"{workdir} holds a run of another configuration ({words}): use the same "
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
) -> list[tuple[str, Any, Any]]:
    """What may not differ between two starts of a run and does: dotted name, before, now."""
    saved = checkpoint.steps_in(checkpoint.checkpoint_folder(workdir))
    sources = source_names(now) if saved else ()
    refused = []
    for name, old, new in config_differences(before, now):
        longer = name == "train.steps" and new > old
        if longer or name in (*MAY_CHANGE, *sources, *changing):
            continue
        refused.append((name, old, new))
    return refused


def _in_words(name: str, old: Any, new: Any) -> str:
    return f"--{name.replace('_', '-')} was {old!r}, is {new!r}"


def _hint(name: str, old: Any, new: Any) -> str:
    """How an option that was given with another value could be changed, if it could be."""
    if name == "train.steps":
        return " (a run can be made longer, not shorter)"
    if name.startswith(CHANGEABLE) and name != _OF_THE_STATE:
        return f" (--change {name}={new} changes it from the next step on)"
    return ""


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
    lost = _lost(workdir)
    if lost:
        raise InputError(
            f"{lost}; or begin anew at step 0 with --begin-anew, which sets aside what is there"
        )


def no_checkpoint(workdir: epath.Path) -> str | None:
    """Why a work directory holds no checkpoint, in words; None where it holds one."""
    folder = checkpoint.checkpoint_folder(workdir)
    with reaching(workdir):
        if checkpoint.steps_in(folder):
            return None
        if holds_scores_alone(workdir):
            return (
                f"{workdir}: holds scores alone, from drm eval --output: the checkpoints are in "
                "the work directory of the run"
            )
        return _lost(workdir) or f"{folder}: holds no checkpoint yet"


def holds_scores_alone(workdir: epath.Path) -> bool:
    """Whether this is a folder that `drm eval --output` made, not the work directory of a run."""
    names = (_RUN, checkpoint.SAVED, checkpoint.checkpoint_folder(workdir).name)
    return (workdir / "eval").exists() and not any((workdir / name).exists() for name in names)


def _lost(workdir: epath.Path) -> str | None:
    """Says that the checkpoints of a run are gone; None where none was saved, or one is there."""
    signs, folder = _signs(workdir), checkpoint.checkpoint_folder(workdir)
    if not signs:
        return None
    return (
        f"{folder}: holds no checkpoint, but one was saved there ({signs[0].name} is there): "
        f"bring {folder.name} back from a copy"
    )


def _signs(workdir: epath.Path) -> list[epath.Path]:
    """Files that tell that a checkpoint was saved in a work directory that holds none now."""
    folder, log = checkpoint.checkpoint_folder(workdir), workdir / LOG
    with reaching(workdir):
        if checkpoint.steps_in(folder):
            return []
        signs = [log] if log.exists() and log.stat().length and not _begun(folder) else []
        signs += [path for step, path in evaluations(workdir).items() if step]
        signs += [path for path in [workdir / checkpoint.SAVED] if path.exists()]
        signs += [workdir / history.FILE] if history.tells_of_steps(workdir) else []
    return signs


def config_unsure(workdir: epath.Path) -> str | None:
    """Says that run.json is missing from a run with checkpoints; None where all is well."""
    saved = checkpoint.steps_in(checkpoint.checkpoint_folder(workdir))
    if not saved or (workdir / _RUN).exists():
        return None
    return (
        f"{workdir / _RUN}: is missing: it can't be told whether config.json was edited, or what "
        "was changed within the run; bring it back from a copy if there is one"
    )


def edited_sources(workdir: epath.Path) -> str:
    """Which options that say where puzzles come from were edited in config.json, to end a message;
    "" where none was."""
    path = workdir / "config.json"
    if not path.exists():
        return ""
    (known, _), experiment = _read_run(workdir), read_config(workdir)
    edited = [
        f"{name} was {old!r}"
        for name, old, _ in (config_differences(known[0], experiment) if known else ())
        if experiment not in known and name in source_names(experiment)
    ]
    return f"; {path} was edited: {', '.join(edited)}" if edited else ""


def _begun(folder: epath.Path) -> bool:
    """Whether training made the folder of its checkpoints. (In a bucket it is only a name.)"""
    return is_remote(folder) or folder.exists()


def left_behind(workdir: epath.Path) -> list[epath.Path]:
    """What a run has left but for its configuration and history."""
    # The mark last: cut off before, the next start is refused again.
    names = ("checkpoints", "damaged", LOG, "tensorboard", "eval", "report.html", "profile",
             "export", "not_finite.json", checkpoint.SAVED)  # fmt: skip
    return [workdir / name for name in names if (workdir / name).exists()]


def begin_anew(workdir: epath.Path) -> epath.Path | None:
    """Sets aside what a run has left but for its configuration; where it lies now, if any was."""
    found = left_behind(workdir)
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
