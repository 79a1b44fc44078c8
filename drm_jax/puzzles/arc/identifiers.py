"""Puzzle ids of a published dataset, adopted from its identifiers.json instead of drawn; and such a
list of ids that were drawn.

The file is a JSON list: name i is puzzle id i, which is a row of the puzzle table of checkpoints
that were trained on that dataset. Name 0 is `<blank>`, the others are `TASK` for the identity and
`TASK|||t3|||0295…` for transform 3 and new colour 2 for colour 1, 9 for colour 2, and so on; the
code of HRM writes `TASK_t3_0295…`, and a list is in one of the two forms.
Published lists have some 900,000 names, so they are taken apart as arrays: in about a second.
"""

import os
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import numpy as np

from drm_jax.errors import InputError
from drm_jax.puzzles.arc.augment import IDENTITY_COLOURS, PuzzleIds
from drm_jax.puzzles.arc.files import read_json
from drm_jax.puzzles.arc.tasks import Task
from drm_jax.puzzles.dihedral import NUM_TRANSFORMS
from drm_jax.words import counted

BLANK = "<blank>"
_MARK = "|||"
_IDENTITY_TAIL = "|||t0|||0123456789"
_HRM_TAIL = re.compile("_t([0-9])_([0-9]{10})", re.ASCII)
_HRM_LENGTH = len("_t0_0123456789")
# What looks like a tail, and is none of this list's form: a_T1_0213456789, a|t1|0213456789, a-1-0…
_LIKE_TAIL = re.compile(r"[\W_]+([tT]\d+[\W_]+[^\W_]+|\d+[\W_]+\d{9,})$")
_FIXED = [0, 1, 2, 3, 5, 6, 7]  # the characters of a tail that are the same in all
_REMEDY = "use the identifiers.json that the dataset was published with, unchanged"
_SHORT = reprlib.Repr()
_SHORT.maxstring = 60
_shown = _SHORT.repr


def read_identifiers(path: Path) -> tuple[str, ...]:
    """The names in an identifiers.json; what each of them says is looked at by `parse_names`.

    Args:
      path: of the standard library, or an `epath.Path`.

    Raises:
      InputError: it can't be read, is not a JSON list of names, begins with another name than
        `<blank>`, or holds a name twice.
    """
    try:
        names = read_json(path)
    except InputError as error:
        raise InputError(f"{error}; {_REMEDY}") from error
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: expected a list of at least one name; {_REMEDY}")
    for i, name in enumerate(names):
        if type(name) is not str:
            raise InputError(f"{path}: entry {i} is {_shown(name)}, not a name; {_REMEDY}")
    if names[0] != BLANK:
        raise InputError(f"{path}: entry 0 is {_shown(names[0])}, not {BLANK}; {_REMEDY}")
    if len(set(names)) < len(names):
        repeated = next(name for name, count in Counter(names).items() if count > 1)
        first = names.index(repeated)
        second = names.index(repeated, first + 1)
        raise InputError(
            f"{path}: entries {first} and {second} are both {_shown(repeated)}; {_REMEDY}"
        )
    return tuple(names)


def parse_names(
    names: Sequence[str], source: os.PathLike | str, first: int = 0
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """What the names of N augmented tasks say.

    Args:
      source, first: the file, and which of its entries names[0] is, for errors.

    Returns:
      N task ids, transform_N (N,) uint8 and colours_Nx10 (N, 10) uint8.

    Raises:
      InputError: a name has another form, or an augmentation that there is none of.
    """
    of_hrm = not any(_MARK in name for name in names)
    ours = [_from_hrm(name) for name in names] if of_hrm else names
    marks = [name.find(_MARK) for name in ours]
    task_ids = [n if at < 0 else n[:at] for n, at in zip(ours, marks, strict=True)]
    tails = [_IDENTITY_TAIL if at < 0 else n[at:] for n, at in zip(ours, marks, strict=True)]
    for i, tail in enumerate(tails):
        if len(tail) != len(_IDENTITY_TAIL):
            raise _malformed(ours[i], f"{source}: entry {first + i}, {_shown(names[i])}")
    text = "".join(tails).encode("ascii", "replace")  # a byte a character, whatever they are
    tail_Nx18 = np.frombuffer(text, np.uint8).reshape(-1, len(_IDENTITY_TAIL))
    fixed = np.frombuffer(_IDENTITY_TAIL.encode(), np.uint8)[_FIXED]
    transform_N, colours_Nx10 = tail_Nx18[:, 4] - ord("0"), tail_Nx18[:, 8:] - ord("0")
    fine_N = (
        (tail_Nx18[:, _FIXED] == fixed).all(axis=1)
        & (transform_N < NUM_TRANSFORMS)
        & (colours_Nx10[:, 0] == 0)
        & (np.sort(colours_Nx10, axis=1) == IDENTITY_COLOURS).all(axis=1)
    )
    if not fine_N.all():
        i = int(np.argmin(fine_N))
        raise _malformed(ours[i], f"{source}: entry {first + i}, {_shown(names[i])}")
    return task_ids, transform_N, colours_Nx10


def _from_hrm(name: str) -> str:
    """A name in HRM's form in TRM's; one that has another form, or a task's id, as it is."""
    tail = _HRM_TAIL.fullmatch(name, max(len(name) - _HRM_LENGTH, 0))  # an id may hold underscores
    return f"{name[: tail.start()]}|||t{tail[1]}|||{tail[2]}" if tail else name


def _malformed(name: str, where: str) -> InputError:
    """What is wrong with a name that `parse_names` refuses."""
    _, *tail = name.split(_MARK)
    if len(tail) != 2:
        what = "neither TASK nor TASK|||tN|||DIGITS"
    elif tail[0] not in {f"t{k}" for k in range(NUM_TRANSFORMS)}:
        what = f"there is no transform {_shown(tail[0])}, only t0 to t{NUM_TRANSFORMS - 1}"
    elif sorted(tail[1]) != list("0123456789"):
        what = f"{_shown(tail[1])} is not a permutation of the digits 0 to 9"
    else:
        what = "it moves colour 0, which stays what it is in every augmentation"
    return InputError(f"{where}: {what}; {_REMEDY}")


def _refuse_like_tails(named: Sequence[str], loaded: Container[str], source: object) -> None:
    """Refuses a name that was read as an id, where it looks like an augmentation of a task.

    Args:
      named: what `parse_names` says of the names behind the first.
    """
    for name in dict.fromkeys(named):
        tail = None if name in loaded else _LIKE_TAIL.search(name)
        if tail and name[: tail.start()] in loaded:
            raise InputError(
                f"{source}: entry {named.index(name) + 1}: {_shown(name)} looks like an "
                f"augmentation of task {name[: tail.start()]}, and is in none of the two forms "
                f"TASK|||tN|||DIGITS and TASK_tN_DIGITS, of which a list has one; {_REMEDY}"
            )


def adopt_identifiers(
    names: Sequence[str],
    tasks: Sequence[Task],
    source: os.PathLike | str,
    say: Callable[[str], None] = lambda text: None,
) -> PuzzleIds:
    """Puzzle ids as a list names them. Those of tasks that are not loaded keep their rows.

    Args:
      names: from `read_identifiers`.
      source: the file, for errors.
      say: is told in a line how many names are of tasks that are not loaded.

    Raises:
      InputError: a name is malformed or in another form than the list, or the list has none of a
        task's.
    """
    named, transform, colours = parse_names(names[1:], source, first=1)
    position = {task.id: k for k, task in enumerate(tasks)}
    task = np.array([-1, *(position.get(task_id, -1) for task_id in named)], np.int32)
    there = np.isin(np.arange(len(tasks)), task)
    if not there.all():
        k, count = int(np.argmin(there)), int((~there).sum())
        raise InputError(
            f"{source}: has no entry of task {tasks[k].id} ({tasks[k].source}; {count} such of "
            f"{counted(len(tasks), 'task')}): leave it out (data.train, data.evaluate, "
            "data.only), or name the sources that the list was made of"
            + (f" (its last entry is {_shown(names[-1])})" if not there.any() else "")
        )
    _refuse_like_tails(named, position, source)
    unknown = np.flatnonzero(task[1:] < 0)
    if unknown.size:
        say(
            f"data.identifiers: {unknown.size:,} of {len(named):,} names are of tasks that are not "
            f"loaded, such as {_shown(names[1 + unknown[0]])}"
        )
    return PuzzleIds(
        task_ids=tuple(position),
        task=task,
        transform=np.concatenate([np.zeros(1, np.uint8), transform]),
        colours=np.concatenate([IDENTITY_COLOURS[None], colours]),
    )


def names_of(ids: PuzzleIds) -> list[str]:
    """The names of puzzle ids, from which `adopt_identifiers` makes the same ids again.

    Raises:
      InputError: the id of a task can't be told from an augmentation in such a list.
    """
    digits = (ids.colours + ord("0")).tobytes().decode("ascii")
    transform, identity = ids.transform.tolist(), ids.is_identity.tolist()
    of_task = [""] * len(ids)
    names = [BLANK]
    for i, task in enumerate(ids.task.tolist()[1:], 1):
        of_task[i] = ids.task_ids[task]
        tail = f"{_MARK}t{transform[i]}{_MARK}{digits[10 * i : 10 * i + 10]}"
        names.append(of_task[i] + ("" if identity[i] else tail))
    wrong = next((task for task in ids.task_ids if _MARK in task), None)
    if wrong is None:
        read = parse_names(names[1:], "the puzzle ids", first=1)[0]
        wrong = next((mine for mine, found in zip(of_task[1:], read) if mine != found), None)
    if wrong is not None:
        raise InputError(
            f"the task id {_shown(wrong)} looks like an augmentation in a list of puzzle ids: "
            "give the task another id"
        )
    return names
