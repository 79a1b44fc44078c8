"""The tasks that are to be answered, and what is known of them by the weights that are used."""

import dataclasses
import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from etils import epath

from drm_jax.errors import InputError
from drm_jax.io.files import make_folder, write_whole
from drm_jax.puzzles.arc.augment import PuzzleIds, augmented_name, puzzle_ids
from drm_jax.puzzles.arc.leaks import leaks_from_digests
from drm_jax.puzzles.arc.roles import Repeated, load_tasks
from drm_jax.puzzles.arc.tasks import (
    MAX_SIDE,
    Pair,
    Task,
    demonstrations_key,
    largest_side,
    places_by_demonstrations,
    with_hidden_outputs,
)
from drm_jax.puzzles.arc.windows import expected_shape
from drm_jax.words import counted, first_few

Say = Callable[[str], None]
TASKS, IDS = "tasks.json", "identifiers.json"


def load_asked(
    sources: Sequence[str], only: Collection[str], repeated: Repeated, say: Say
) -> list[Task]:
    """The tasks of some sources, all with role "evaluate"; pairs that can't be used are dropped.

    Raises:
      InputError: a source can't be read, or there is no test to answer.
      UsageError: a source is a function that can't be found.
    """
    tasks = load_tasks((), sources, only, leaks="drop", unfit="drop_pairs", repeated=repeated,
                       say=say)  # fmt: skip
    if not tasks:
        raise InputError(f"{', '.join(sources)}: there is no task with a test to answer")
    return tasks


def needed_side(task: Task) -> int:
    """Cells along a side that hold all grids that are shown, and the answers that they lead one to
    expect: those of known outputs of tests don't count."""
    shown = [max(*pair.input.shape, *pair.output.shape) for pair in task.demonstrations]
    asked = [max(*test.input.shape, *expected_shape(task, test)) for test in task.tests]
    return min(max(shown + asked), MAX_SIDE)


def hide_trained(tasks: Sequence[Task], trained_on: Collection[str], say: Say) -> list[Task]:
    """The tasks with those outputs hidden that the weights were trained on: no score counts them.

    Args:
      trained_on: digests, as `arc.leaks.trained_digests` gives.
    """
    leaked = set(leaks_from_digests(trained_on, tasks)) if trained_on else set()
    if leaked:
        say(
            f"The weights were trained on answers of {len(leaked):,} of these tasks, "
            f"which are answered but not scored: {first_few(sorted(leaked))}"
        )
    return [with_hidden_outputs(task) if task.id in leaked else task for task in tasks]


def on_canvas(tasks: Sequence[Task], side: int, say: Say) -> list[Task]:
    """The tasks whose grids fit a canvas; an answer that doesn't is hidden, and can't be right."""
    fitting, too_large = [], []
    for task in tasks:
        shown = largest_side(with_hidden_outputs(task)) <= side
        (fitting if shown else too_large).append(task)
    if too_large:
        say(
            f"{counted(len(too_large), 'task')} with grids larger than the canvas of {side} x "
            f"{side} that the weights are for: answered by a copy of the input alone: "
            f"{first_few([task.id for task in too_large])}"
        )
    return [task if largest_side(task) <= side else with_hidden_outputs(task) for task in fitting]


def write_tasks(folder: epath.Path, tasks: Sequence[Task]) -> epath.Path:
    """One file of all tasks, so that what is trained on stays the same."""

    def pairs(of: Sequence[Pair]) -> list[dict[str, Any]]:
        return [
            {"input": pair.input.tolist()}
            | ({} if pair.output is None else {"output": pair.output.tolist()})
            for pair in of
        ]

    content = {t.id: {"train": pairs(t.demonstrations), "test": pairs(t.tests)} for t in tasks}
    make_folder(folder)
    write_whole(folder / TASKS, json.dumps(content) + "\n")
    return folder / TASKS


# --- tasks that the weights know ------------------------------------------------------------------
@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """Puzzle rows that are taken over from the run that the weights are of."""

    tasks: tuple[str, ...]
    """Their ids here."""
    names: tuple[str, ...]
    """The name of each puzzle id of all tasks, as an identifiers.json has them."""
    new_N: np.ndarray
    """(N,) puzzle ids here, and"""
    old_N: np.ndarray
    """(N,) which they are there."""


def known_rows(
    tasks: Sequence[Task],
    num_augmentations: int,
    seed: int,
    trained: Sequence[Task],
    ids: PuzzleIds,
) -> Known | None:
    """Which puzzle rows of a run these tasks have, by demonstrations and augmentation.

    Such a task keeps the augmentations that it was trained with; a new one draws its own. None
    where no task is known.

    Args:
      trained: the tasks of the run; a task is known by its demonstrations, whatever its id.
      ids: the puzzle ids of the run.
    """
    places = places_by_demonstrations(trained)
    names, new, old, known = ["<blank>"], [], [], []
    for task in tasks:
        place = places.get(demonstrations_key(task))
        if place is None:
            source = puzzle_ids([task], num_augmentations, seed)
            here = source.of_task[0]
        else:
            known.append(task.id)
            source, here = ids, ids.of_task[place][: num_augmentations + 1]
            new += range(len(names), len(names) + len(here))
            old += here.tolist()
        names += [augmented_name(task.id, source.augmentation(i)) for i in here.tolist()]
    if not known:
        return None
    return Known(tuple(known), tuple(names), np.array(new), np.array(old))


def write_ids(folder: epath.Path, known: Known) -> epath.Path:
    """The names of the puzzle ids, for `data.identifiers`."""
    write_whole(folder / IDS, json.dumps(known.names) + "\n")
    return folder / IDS
