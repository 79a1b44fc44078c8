"""The tasks of a run: each with its role, each id once, no answer trained on."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from drm_jax.errors import InputError
from drm_jax.puzzles.arc.leaks import find_leaks, without_leaks
from drm_jax.puzzles.arc.tasks import Task, load_source, training_pairs


def load_tasks(
    train: Sequence[str],
    evaluate: Sequence[str],
    only: Sequence[str] = (),
    leaks: Literal["refuse", "drop"] = "refuse",
) -> list[Task]:
    """All tasks of a run in the order of their ids, each with its role.

    Args:
      train: sources whose tasks are trained on whole, test pairs too.
      evaluate: sources of which only the demonstrations are trained on.
      only: keep just these task ids; all where it is empty.
      leaks: what to do with a training pair that gives away an evaluation test (`arc.leaks`):
        refuse the run, or drop the pair from training.

    Raises:
      InputError: a source is wrong, an id stands twice, an `only` id is missing, or a leak is
        refused.
      UsageError: a source is a function that can't be imported, or that raises.
    """
    tasks = [
        dataclasses.replace(task, role=role)
        for role, sources in (("train", train), ("evaluate", evaluate))
        for source in sources
        for task in load_source(source, f"data.{role}")
    ]
    if only:
        missing = set(only) - {task.id for task in tasks}
        if missing:
            raise InputError(f"data.only: no source holds task {sorted(missing)[0]!r}")
        tasks = [task for task in tasks if task.id in set(only)]
    repeated = [name for name, count in Counter(t.id for t in tasks).items() if count > 1]
    if repeated:
        sources = " and ".join(f"{t.source} ({t.role})" for t in tasks if t.id == repeated[0])
        raise InputError(
            f"task {repeated[0]} stands in {sources}; a run needs each id once "
            f"({len(repeated)} such ids): leave one source out, or choose tasks with data.only"
        )
    found = find_leaks(tasks)
    if found and leaks == "refuse":
        pairs = len({leak.pair for leak in found})
        raise InputError(
            f"{found[0]} ({pairs} such {'pair' if pairs == 1 else 'pairs'}): leave one of the "
            "tasks out, or set data.leaks=drop to train without such pairs"
        )
    return sorted(
        (t for t in without_leaks(tasks, found) if t.role == "evaluate" or training_pairs(t)),
        key=lambda t: t.id,
    )
