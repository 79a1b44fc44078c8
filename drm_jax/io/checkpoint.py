"""Orbax checkpoints that can be trusted: checksums inside, restorable onto any mesh.

    checkpoints/STEP/state     the TrainState, written by Orbax
                    /record    JSON: what the state doesn't say (interval, fingerprint, …), each
                               leaf's shape and checksum, and a digest of all this
    damaged/STEP               a checkpoint that could not be used, set aside
    saved.json                 there once a checkpoint was saved

A flipped byte can make Orbax restore wrong values without a word, and an empty folder counts as a
step. So nothing restored is used before every leaf has its saved checksum again.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from drm_jax.errors import InputError, StoppedError
from drm_jax.io import lock
from drm_jax.io.checksums import checksums
from drm_jax.io.files import free_path, is_remote, move, write_whole
from drm_jax.parallel import processes
from drm_jax.training.state import TrainState, leaf_names
from drm_jax.words import counted

SAVED = "saved.json"
CHUNK_BYTES = 2**25
"""Arrays are written in pieces of at most so much, so that a device reads no more than its rows."""
_UNFINISHED = ".orbax-checkpoint-tmp"
_DELETED = ".deleted"
_FINISHED = "commit_success.txt"
_QUIET_LOOKS, _LOOK_SECONDS, _PATIENCE_SECONDS = 10, 0.2, 20
_NO_SPACE = ("No space left", "Disk quota exceeded", "not enough space")


class DamagedError(InputError):
    """A checkpoint that is not what was saved."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """A state whose checksums are right, and the record that was saved with it."""

    step: int
    state: TrainState
    record: Mapping[str, Any]


def checkpoint_folder(workdir: epath.Path) -> epath.Path:
    return workdir / "checkpoints"


def leaf_shapes(tree: Any) -> dict[str, list[Any]]:
    """[shape, dtype] of each leaf by name."""
    leaves = jax.tree.leaves(tree)
    pairs = [[list(x.shape), np.dtype(x.dtype).name] for x in leaves]
    return dict(zip(leaf_names(tree), pairs, strict=True))


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


# --- saving ------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Saver:
    """Saves checkpoints in the background, and gives up those that need not be kept."""

    folder: epath.Path
    checkpointer: ocp.AsyncCheckpointer
    keep_last: int
    keep_best: int
    scores: Mapping[Any, Mapping[int, float]]


def given_up(
    steps: Sequence[int], keep_last: int, keep_best: int, scores: Mapping[int, float]
) -> list[int]:
    """Which of these steps, ascending, need not be kept. The newest is never among them."""
    scored = sorted((s for s in steps if s in scores), key=lambda s: (scores[s], s))
    kept = {*steps[-keep_last:], *scored[max(len(scored) - keep_best, 0) :]}
    return [step for step in steps if step not in kept]


@contextlib.contextmanager
def open_checkpoints(
    workdir: epath.Path,
    keep_last: int,
    keep_best: int,
    scores: Mapping[Any, Mapping[int, float]],
) -> Iterator[Saver]:
    """For saving: the newest and the best are kept, and what cut-off saves left is removed.

    The newest of what is there must have been restored before: the others may be deleted.

    Args:
      scores: of the steps that were scored, for each set of tests: the best on each are kept, and
        none is compared with one on other tests. Read anew at each save.
    """
    folder = checkpoint_folder(workdir)
    handler = ocp.CompositeCheckpointHandler(
        state=ocp.StandardCheckpointHandler(), record=ocp.JsonCheckpointHandler()
    )
    saver = Saver(folder, ocp.AsyncCheckpointer(handler), keep_last, keep_best, scores)
    with _explained(folder):
        if processes.is_first():
            folder.mkdir(parents=True, exist_ok=True)
            deleted = [path.name for path in _entries(folder) if path.name.endswith(_DELETED)]
            for name in [*unfinished_saves(workdir), *deleted]:  # a kill may have left half of one
                (folder / name).rmtree()
        _tidy(saver)
    failed_in_group = False
    try:
        yield saver
    except StoppedError:  # it tells how to go on: not if the save under way fails
        finish(saver)
        raise
    except BaseException as error:
        # Before anything else: they would wait for this one's part of a save, and it for theirs.
        processes.fail(error)
        failed_in_group = processes.count() > 1
        raise
    finally:
        if not failed_in_group:
            with contextlib.suppress(Exception):  # `finish` has raised it, or a worse one
                saver.checkpointer.close()
        if processes.is_first():
            _remove_unfinished(workdir)  # what a full disk cut off still fills it


def _tidy(saver: Saver) -> None:
    """Notes that there is a checkpoint, and deletes those that need not be kept."""
    if not processes.is_first():
        return
    steps, mark = steps_in(saver.folder), saver.folder.parent / SAVED
    if steps and not mark.exists():
        write_whole(mark, json.dumps({"first_found": steps[0]}) + "\n")
    for step in steps:
        if all(
            step in given_up(steps, saver.keep_last, saver.keep_best, scores)
            for scores in saver.scores.values() or [{}]
        ):
            _delete(saver.folder / str(step))


def _delete(path: epath.Path) -> None:
    """Deletes a checkpoint; whoever reads it meanwhile finds it whole, or gone."""
    if is_remote(path):
        (path / _FINISHED).unlink()
    else:
        path = path.rename(path.with_name(path.name + _DELETED))
    path.rmtree()


def finish(saver: Saver) -> None:
    """Waits for the save in the background; InputError if it failed."""
    with _explained(saver.folder):
        saver.checkpointer.wait_until_finished()
        _tidy(saver)


def save(saver: Saver, step: int, state: TrainState, record: Mapping[str, Any]) -> None:
    """Starts a save when the one before is done; it is written in the background.

    Args:
      record: JSON that belongs to this state.

    Raises:
      InputError: this save or the one before failed; checkpoints before are as they were.
    """
    finish(saver)
    record = {**record, "shapes": leaf_shapes(state), "checksums": checksums(state)}
    chunks = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), state)
    args = ocp.args.Composite(
        state=ocp.args.StandardSave(state, chunks),
        record=ocp.args.JsonSave({**record, "digest": _digest(record)}),
    )
    with _explained(saver.folder):
        saver.checkpointer.save(saver.folder / str(step), args=args)


def check_saved(saver: Saver) -> None:
    """Raises InputError if a save in the background has failed. Doesn't wait."""
    with _explained(saver.folder):
        saver.checkpointer.check_for_errors()


@contextlib.contextmanager
def _explained(folder: epath.Path) -> Iterator[None]:
    """Whatever Orbax or tensorstore raises about a save, in one line."""
    try:
        yield
    except Exception as error:  # errors of files come as ValueError, OSError and others
        saved = steps_in(folder)
        kept = f"the checkpoint of step {saved[-1]} is intact" if saved else "none was saved before"
        if any(text in str(error) for text in _NO_SPACE):
            raise InputError(
                f"{folder}: no space left on the disk for a checkpoint; {kept}. Free some space "
                "and give the same command again"
            ) from error
        raise InputError(
            f"{folder}: a checkpoint can't be saved: {_line(error)}; {kept}"
        ) from error


def _line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    first = text.splitlines()[0]
    return first if len(first) <= 160 else f"{first[:160]}…"


# --- what is there -----------------------------------------------------------------------------
def _entries(folder: epath.Path) -> list[epath.Path]:
    try:
        return list(folder.iterdir()) if folder.exists() else []
    except FileNotFoundError:  # moved meanwhile
        return []


def _is_finished(path: epath.Path) -> bool:
    """Whether a step's folder is one whose save came to its end.

    A local folder gets its final name last. Objects can't be renamed: in a bucket, a file is
    written last instead.
    """
    return not is_remote(path) or (path / _FINISHED).exists()


def steps_in(folder: epath.Path) -> list[int]:
    """Steps that have a finished folder, ascending, whatever is in it."""
    steps = [path for path in _entries(folder) if re.fullmatch("0|[1-9][0-9]*", path.name)]
    return sorted(int(path.name) for path in steps if _is_finished(path))


def unfinished_saves(workdir: epath.Path) -> list[str]:
    """Names of folders that a save left when it was cut off.

    None while another run holds the lock: what is unfinished then is being saved.
    """
    if lock.held_elsewhere(workdir):
        return []
    return sorted(
        path.name
        for path in _entries(checkpoint_folder(workdir))
        if _UNFINISHED in path.name or (path.name.isdigit() and not _is_finished(path))
    )


def _remove_unfinished(workdir: epath.Path) -> None:
    """Removes what a save left that has just failed.

    Where one file can't be written Orbax gives up at once, and the writes of others that were under
    way make the folder anew. So it is removed until it has stayed away for two seconds.
    """
    looks_left = _QUIET_LOOKS if unfinished_saves(workdir) else 0
    until = time.monotonic() + _PATIENCE_SECONDS
    while looks_left and time.monotonic() < until:
        names = unfinished_saves(workdir)
        looks_left = _QUIET_LOOKS if names else looks_left - 1
        for name in names:
            with contextlib.suppress(OSError):
                (checkpoint_folder(workdir) / name).rmtree()
        time.sleep(_LOOK_SECONDS)


def size_of(path: epath.Path) -> int:
    """Bytes of all files below a folder; what is deleted meanwhile is not counted."""
    try:
        if path.is_dir():
            return sum(size_of(inner) for inner in path.iterdir())
        return path.stat().length
    except FileNotFoundError:
        return 0


def saved_at(path: epath.Path) -> datetime.datetime | None:
    """When a step was finished, in local time; None if its files don't say."""
    try:
        text = (path / "_CHECKPOINT_METADATA").read_text(encoding="utf-8")
        seconds = json.loads(text)["commit_timestamp_nsecs"] / 1e9
        return datetime.datetime.fromtimestamp(seconds).astimezone()
    except (OSError, ValueError, KeyError, TypeError):
        return None


def existing_step(workdir: epath.Path, step: int | None) -> int:
    """`step`, or the newest where None.

    Raises:
      InputError: it isn't there.
    """
    folder = checkpoint_folder(workdir)
    steps = steps_in(folder)
    if not steps:
        raise InputError(f"{folder}: holds no checkpoint yet")
    if step is None:
        return steps[-1]
    if step not in steps:
        raise InputError(
            f"{folder}: no checkpoint of step {step}; there are {', '.join(map(str, steps))}"
        )
    return step


def newest_steps(workdir: epath.Path, count: int) -> list[int]:
    """The newest so many steps, ascending, damaged or not.

    Raises:
      InputError: there are not so many.
    """
    existing_step(workdir, None)
    folder = checkpoint_folder(workdir)
    steps = steps_in(folder)
    if count > len(steps):
        there = "that of step" if len(steps) == 1 else "those of steps"
        raise InputError(
            f"{folder}: there are not {counted(count, 'checkpoint')}, only {there} "
            f"{', '.join(map(str, steps))}"
        )
    return steps[-count:]


# --- restoring ---------------------------------------------------------------------------------
@functools.cache
def _reader() -> ocp.Checkpointer:
    """Reads for this process alone: one that finds damage must not leave the others waiting."""
    here = processes.index()
    alone = ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here})
    return ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(
            state=ocp.StandardCheckpointHandler(multiprocessing_options=alone),
            record=ocp.JsonCheckpointHandler(multiprocessing_options=alone),
        ),
        multiprocessing_options=alone,
    )


def read_record(workdir: epath.Path, step: int) -> dict[str, Any]:
    """The record of a checkpoint, if its digest is right.

    Raises:
      DamagedError: it is missing, cut off or changed.
    """
    path = checkpoint_folder(workdir) / str(step)
    if not (path / "state").is_dir() or not (path / "record").is_dir():
        found = ", ".join(sorted(p.name for p in _entries(path))) if path.is_dir() else ""
        found = f"has only {found} in it" if found else "is empty"
        raise DamagedError(f"{path}: damaged: the folder {found}")
    args = ocp.args.Composite(record=ocp.args.JsonRestore())
    record = _undamaged(path / "record", lambda: _reader().restore(path, args)["record"])
    digest = record.pop("digest", None) if isinstance(record, dict) else None
    if digest is None or digest != _digest(record):
        raise DamagedError(f"{path}/record: damaged: its digest is not that of its contents")
    return record


def abstract_from_record(record: Mapping[str, Any], sharding: Any) -> dict[str, Any]:
    """The tree that a record describes, as nested dicts of shapes, for `restore`.

    Args:
      sharding: of every leaf, or a function from a leaf's name to its sharding.
    """
    # Orbax saves a part without arrays too: the carry of an objective that has none.
    tree: dict[str, Any] = {field.name: None for field in dataclasses.fields(TrainState)}
    for name, (shape, dtype) in record["shapes"].items():
        *rooms, last = name.split("/")
        branch = tree
        for room in rooms:
            branch[room] = branch.get(room) or {}
            branch = branch[room]
        where = sharding(name) if callable(sharding) else sharding
        branch[last] = jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype), sharding=where)
    return tree


def restore(workdir: epath.Path, step: int, target: Any) -> Restored:
    """The state saved at a step, laid out as the target says, with every checksum compared.

    Args:
      target: shapes, types and shardings: `train.state.abstract_state`; or a function from the
        checkpoint's record to a target, see `abstract_from_record`.

    Raises:
      DamagedError: the checkpoint is not what was saved; the message names the leaf or the file.
        Or it was deleted meanwhile by a run that is at work.
      InputError: it is a state of another shape, or can't be read now.
      Of several processes all raise what the first of those met that could not read its part.
    """
    path = checkpoint_folder(workdir) / str(step)
    error = None
    try:
        state, record = _read(path, workdir, step, target)
    except InputError as met:
        error = met
        if not path.exists():
            error = DamagedError(f"{path}: is not there any more: the run has deleted it meanwhile")
    _raise_alike(error)
    found = checksums(state)
    wrong = [name for name, value in record["checksums"].items() if found.get(name) != value]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise DamagedError(
            f"{path}: damaged: {wrong[0]}{more}: the values are not those that were saved"
        )
    saved = state["step"] if isinstance(state, dict) else state.step
    if int(saved) != step:
        raise DamagedError(f"{path}: damaged: what is in it was saved at step {int(saved)}")
    return Restored(step, state, record)


def _read(
    path: epath.Path, workdir: epath.Path, step: int, target: Any
) -> tuple[Any, dict[str, Any]]:
    """This process's part of a state, not yet compared with its checksums; and the record."""
    record = read_record(workdir, step)
    target = target(record) if callable(target) else target
    check_shapes(path, record["shapes"], leaf_shapes(target))
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
    return _undamaged(path / "state", lambda: _reader().restore(path, args)["state"]), record


def _raise_alike(error: InputError | None) -> None:
    """Raises in all processes what the first of them met; nothing where none met anything."""
    if processes.count() == 1:
        told = error
    else:
        mine = "" if error is None else f"{isinstance(error, DamagedError):d}{error}"
        met = next((text for text in processes.exchange(mine) if text), "")
        kind = DamagedError if met.startswith("1") else InputError
        told = error or (kind(met[1:]) if met else None)
    if told is not None:
        raise told


def check_shapes(path: epath.Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises InputError if these leaves, [shape, dtype] by name, are not the same."""
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            has, needs = (_shape_text(shapes.get(name)) for shapes in (saved, wanted))
            raise InputError(
                f"{path}: a checkpoint of another model: {name} is {has} there, and would be "
                f"{needs} here; use the model options that it was trained with"
            )


def _shape_text(shape: list[Any] | None) -> str:
    return "missing" if shape is None else f"{shape[1]} ({', '.join(map(str, shape[0]))})"


def _undamaged(path: epath.Path, read: Callable[[], Any]) -> Any:
    """What `read` gives. Whatever it raises means damage, unless it may pass by itself.

    A checkpoint taken for damaged is passed over, so a disk or a bucket that doesn't answer now
    must not look like one; nor must a device that is too small.
    """
    try:
        return read()
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:  # damaged files raise ValueError, KeyError, OSError and others
        raise _reading_failure(path, error) from error


def _reading_failure(path: epath.Path, error: Exception) -> InputError:
    passing = ("PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "DEADLINE_EXCEEDED")
    files = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
    other_reason = isinstance(error, OSError) and not isinstance(error, files)
    if other_reason or str(error).startswith(passing):
        return InputError(f"{path}: can't be read now: {_line(error)}")
    return DamagedError(f"{path}: damaged: {_line(error)}")


def restore_newest(
    workdir: epath.Path, target: Any, strict: bool, say: Callable[[str], None]
) -> Restored | None:
    """The newest checkpoint that is what was saved; None where there is none at all.

    Args:
      target: see `restore`.
      strict: raise at the first damage found instead of passing to the step before.
      say: told of every damage, and which step is used instead.

    Raises:
      DamagedError: with `strict`, or if no checkpoint is left that can be used.
      InputError: it is a state of another shape, or can't be read now.
    """
    folder = checkpoint_folder(workdir)
    cut_off = json.loads(processes.of_first(json.dumps(unfinished_saves(workdir))))
    damages = [f"{folder / name}: damaged: a save that was cut off" for name in cut_off]
    restored, tried = None, set()
    # Looked for anew each time: a run that is at work may add and remove steps meanwhile.
    while not (strict and damages) and (step := _newest_but(folder, tried)) is not None:
        tried.add(step)
        try:
            restored = restore(workdir, step, target)
            break
        except DamagedError as error:
            if processes.of_first(str((folder / str(step)).exists())) == "True":
                damages.append(str(error))
    if strict and damages:
        raise DamagedError(f"{damages[0]}; without --strict, the step before is used")
    for damage in damages:
        say(damage)
    if restored is None and steps_in(folder):
        raise DamagedError(
            f"{folder}: none of {counted(len(steps_in(folder)), 'checkpoint')} can be used; "
            "nothing was changed: bring one back from a copy, or start anew in another --workdir"
        )
    if restored and damages:
        say(f"The checkpoint of step {restored.step} is used instead")
    return restored


def _newest_but(folder: epath.Path, tried: Collection[int]) -> int | None:
    """The newest other step, as process 0 sees the disk."""
    steps = [step for step in steps_in(folder) if step not in tried]
    newest = json.loads(processes.of_first(json.dumps(steps[-1:])))
    return newest[0] if newest else None


def set_aside_after(workdir: epath.Path, step: int) -> list[epath.Path]:
    """Moves checkpoints newer than a step to WORKDIR/damaged, since they will be made again."""
    newer = [other for other in steps_in(checkpoint_folder(workdir)) if other > step]
    return [set_aside(workdir, other) for other in newer]


def set_aside(workdir: epath.Path, step: int) -> epath.Path:
    """Moves a checkpoint to WORKDIR/damaged."""
    target = free_path(workdir / "damaged", str(step))
    move(checkpoint_folder(workdir) / str(step), target)
    return target
