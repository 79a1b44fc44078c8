"""Made pairs in a run: the tasks that they join, and those that they must not be trained on for."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from drm_jax.errors import InputError
from drm_jax.puzzles.arc.leaks import with_the_same_rule
from drm_jax.puzzles.arc.tasks import MadePairs, Say, Task, load_source, training_pairs
from drm_jax.words import counted, first_few

ORIGINALS = "arc1/training"
"""The source of the tasks whose rules made pairs follow."""


def join_made(
    tasks: Sequence[Task], made: Sequence[Task], leaks: Literal["refuse", "drop"], say: Say
) -> list[Task]:
    """The tasks of a run, with the made pairs of each one's rule; each id once.

    Made pairs of an id that no other training task has are a task without pairs of its own.

    Args:
      tasks: of all other sources and both roles.
      made: tasks whose demonstrations a generator made, of one source or several.
      leaks: what to do with one whose rule an evaluation task has: refuse the run, or leave it out.
      say: is told in a line what was left out.

    Raises:
      InputError: such a task is refused.
    """
    if not made:
        return list(tasks)
    originals = {task.id: task for task in load_source(ORIGINALS)}
    made = _without_evaluated(tasks, made, originals, leaks, say)
    pairs: dict[str, dict[str, MadePairs]] = {}
    first: dict[str, Task] = {task.id: task for task in tasks}
    for task in made:
        first.setdefault(task.id, dataclasses.replace(task, demonstrations=()))
        of_one = MadePairs(task.named, task.demonstrations, training_pairs(originals[task.id]))
        pairs.setdefault(task.id, {})[task.named] = of_one  # a source that is named twice is one
    return [
        dataclasses.replace(task, made=tuple(pairs[task.id].values())) if task.id in pairs else task
        for task in first.values()
    ]


def _without_evaluated(
    tasks: Sequence[Task],
    made: Sequence[Task],
    originals: dict[str, Task],
    leaks: Literal["refuse", "drop"],
    say: Say,
) -> list[Task]:
    """The made tasks whose rule no evaluation task has; arguments as of `join_made`."""
    evaluated = [task for task in tasks if task.role == "evaluate"]
    shared = with_the_same_rule([originals[task.id] for task in made], evaluated)
    known = [task for task in made if task.id in shared]
    if known and leaks == "refuse":
        raise InputError(
            f"{known[0].named}: pairs of task {known[0].id} would be trained on, whose rule is "
            f"that of evaluation task {shared[known[0].id].id} ({len(shared)} such): evaluate on "
            "other tasks, choose tasks with data.only, or set data.leaks=drop to train without "
            "such tasks"
        )
    if known:
        say(
            f"data.leaks: left out {counted(len(shared), 'task')} of {known[0].named} whose rule "
            f"is that of an evaluation task: {first_few(sorted(shared))}"
        )
    return [task for task in made if task.id not in shared]
