"""The tasks of a run: each with its role, each id once, no answer trained on."""

import dataclasses
import itertools
import operator
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal

from drm_jax.errors import InputError
from drm_jax.puzzles.arc.leaks import find_leaks, without_leaks
from drm_jax.puzzles.arc.made_tasks import join_made
from drm_jax.puzzles.arc.rearc import is_rearc
from drm_jax.puzzles.arc.tasks import (
    MAX_SIDE,
    Checked,
    Pair,
    Problem,
    Role,
    Say,
    Task,
    UnfitError,
    check_source,
    one_of_each,
    training_pairs,
)
from drm_jax.words import counted, first_few

Unfit = Literal["refuse", "drop_pairs", "drop_tasks"]
Repeated = Literal["refuse", "first", "last"]
_REMEDY = "leave it out with data.unfit (drop_pairs or drop_tasks), or choose others with data.only"


def load_tasks(
    train: Sequence[str],
    evaluate: Sequence[str],
    only: Collection[str] = (),
    leaks: Literal["refuse", "drop"] = "refuse",
    unfit: Unfit = "refuse",
    repeated: Repeated = "refuse",
    canvas: tuple[str, int] = ("data.canvas", MAX_SIDE),
    say: Say = lambda text: None,
) -> list[Task]:
    """All tasks of a run in the order of their ids, each with its role.

    Args:
      train: sources whose tasks are trained on whole, test pairs too.
      evaluate: sources of which only the demonstrations are trained on.
      only: look at these task ids alone; at all where it is empty.
      leaks: what to do with a training pair that gives away an evaluation test (`arc.leaks`):
        refuse the run, or drop the pair from training. Likewise with all made pairs of a task whose
        rule an evaluation task has.
      unfit: what to do with a pair that can't be used: refuse the run, or drop the pair or its
        task. An evaluation task is never left without one of its tests: it is dropped whole.
      repeated: which of different tasks of one id and role stays: none, or that of the source that
        is named first or last, and within a source of the first or last file. If any may, a
        task of both roles is an evaluation task.
      canvas: the option that limits the sides of grids, and its limit.
      say: is told in a line what was left out, merged or not read, and of which source `only` names
        no task.

    Raises:
      InputError: a source is wrong, an id stands twice, an `only` id is missing, or a leak is
        refused.
      UsageError: a source is a function that can't be imported, or that raises.
    """
    everything = _look_at(train, evaluate, frozenset(only), canvas, say)
    for line in unread_keys(everything):
        say(line)
    kept = _fitting(everything, unfit, say)
    made = [task for task in kept if is_rearc(task.named)]
    given = [task for task in kept if not is_rearc(task.named)]
    tasks = _once([t for t in given if t.role == "train"],
                  [t for t in given if t.role == "evaluate"], repeated, say)  # fmt: skip
    tasks = join_made(tasks, made, leaks, say)
    found = find_leaks(tasks)
    pairs = len({leak.pair for leak in found})
    if found and leaks == "refuse":
        raise InputError(
            f"{found[0]} ({pairs} such {'pair' if pairs == 1 else 'pairs'}): leave one of the "
            "tasks out, or set data.leaks=drop to train without such pairs"
        )
    if found:
        say(f"data.leaks: left out {counted(pairs, 'pair')} giving away an evaluation test")
    return sorted(
        (t for t in without_leaks(tasks, found) if t.role == "evaluate" or training_pairs(t)),
        key=lambda t: t.id,
    )


def _look_at(
    train: Sequence[str],
    evaluate: Sequence[str],
    only: Collection[str],
    canvas: tuple[str, int],
    say: Say,
) -> list[Checked]:
    """The tasks of all sources with their roles; arguments as of `load_tasks`."""
    everything = []
    for role, source in [("train", s) for s in train] + [("evaluate", s) for s in evaluate]:
        found = check_source(source, f"data.{role}", only, say)
        everything += [_with_role(each, role, source, canvas) for each in found]
        if only and not found:
            say(f"data.only: names no task of data.{role} {source}")
    missing = sorted(only - {each.task.id for each in everything})
    if missing:
        raise InputError(
            f"data.only: no source holds task {missing[0]!r} ({len(missing)} such of {len(only)}); "
            "an experiment may bring a list of its own: --data.only without an id clears it"
        )
    return everything


# --- what can't be used -------------------------------------------------------------------------
def _with_role(each: Checked, role: Role, named: str, canvas: tuple[str, int]) -> Checked:
    """A task with its role and source, and with the problems that role and canvas bring."""
    task, problems = dataclasses.replace(each.task, role=role, named=named), list(each.problems)
    if role == "evaluate" and not task.tests and all(p.part == "train" for p in problems):
        message = (
            f"{task.source}: task {task.id} has no test to answer, which an evaluation task needs: "
            "name the source under data.train"
        )
        problems.append(Problem("task", UnfitError(message, "no test to answer")))
    if canvas[1] < MAX_SIDE:
        shown, of_shown = _on_canvas(task, "train", *canvas)
        tests, of_tests = _on_canvas(task, "test", *canvas)
        task = dataclasses.replace(task, demonstrations=shown, tests=tests)
        problems += of_shown + of_tests
    return dataclasses.replace(each, task=task, problems=tuple(problems))


def _on_canvas(
    task: Task, part: Literal["train", "test"], option: str, max_side: int
) -> tuple[tuple[Pair, ...], list[Problem]]:
    """The pairs whose grids all fit a canvas of this side, and what is wrong with the others."""
    good, problems = [], []
    for pair in task.demonstrations if part == "train" else task.tests:
        side = max(max(grid.shape) for grid in (pair.input, pair.output) if grid is not None)
        if side <= max_side:
            good.append(pair)
            continue
        message = (
            f"task {task.id} ({task.source}): a grid has {counted(side, 'cell')} along a side, "
            f"more than {option} {max_side}"
        )
        problems.append(Problem(part, UnfitError(message, "a grid larger than the canvas")))
    return tuple(good), problems


def _fitting(checked: Sequence[Checked], unfit: Unfit, say: Say) -> list[Task]:
    """The tasks that can be used, as `unfit` says."""
    wrong = [each for each in checked if each.problems]
    if wrong and unfit == "refuse":
        raise InputError(f"{wrong[0].problems[0].error}{_others(wrong)}; {_REMEDY}")
    lost = [unfit == "drop_tasks" or _lost_without(each) for each in wrong]
    dropped = list(itertools.compress(wrong, lost))
    trimmed = list(itertools.compress(wrong, map(operator.not_, lost)))
    if dropped:
        reasons = Counter(each.problems[0].error.reason for each in dropped)
        say(f"data.unfit: left out {counted(len(dropped), 'task')}: {by_reason(reasons)}")
    if trimmed:
        reasons = Counter(problem.error.reason for each in trimmed for problem in each.problems)
        say(
            f"data.unfit: left out {counted(reasons.total(), 'pair')} of "
            f"{counted(len(trimmed), 'other task' if dropped else 'task')}: {by_reason(reasons)}"
        )
    gone = {id(each) for each in dropped}
    return [each.task for each in checked if id(each) not in gone]


def _lost_without(each: Checked) -> bool:
    """Whether a task can't do without its pairs that are wrong."""
    parts = {problem.part for problem in each.problems}
    of_tests = each.task.role == "evaluate" and "test" in parts
    return "task" in parts or of_tests or not each.task.demonstrations


def _others(wrong: Sequence[Checked]) -> str:
    problems = sum(len(each.problems) for each in wrong)
    return f" ({problems} such problems in {counted(len(wrong), 'task')})" if problems > 1 else ""


def by_reason(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common())


def unread_keys(checked: Sequence[Checked]) -> list[str]:
    """A line for each key of tasks that holds pairs and isn't read."""
    pairs, tasks = Counter(), Counter()
    for each in checked:
        pairs.update(each.unread)
        tasks.update(each.unread.keys())
    return [
        f"{counted(pairs[key], 'pair')} under {key!r} of {counted(tasks[key], 'task')} are not "
        "read, only those under 'train' and 'test'"
        for key in sorted(pairs)
    ]


# --- each id once -------------------------------------------------------------------------------
def _once(
    trained: Sequence[Task], evaluated: Sequence[Task], repeated: Repeated, say: Say
) -> list[Task]:
    """The tasks of both roles without those whose id another one has, as `repeated` says."""
    once = {}
    for role, tasks in (("train", trained), ("evaluate", evaluated)):
        once[role] = one_of_each(tasks, repeated)
        kept = {id(task) for task in once[role]}
        left_out = [f"{task.id} of {task.source}" for task in tasks if id(task) not in kept]
        said = f"data.{role}: left out {counted(len(left_out), 'task')}"
        if left_out and repeated == "refuse":
            say(f"{said} equal to one of the same id")
        elif left_out:
            say(
                f"{said} of an id that another one has (data.repeated={repeated}): "
                f"{first_few(left_out)}"
            )
    sources = {task.id: task.source for task in once["train"]}
    both = [task for task in once["evaluate"] if task.id in sources]
    if both and repeated == "refuse":
        raise InputError(
            f"task {both[0].id} stands in {sources[both[0].id]} (train) and {both[0].source} "
            f"(evaluate); a run needs each id once ({len(both)} such ids): leave one source out, "
            "choose tasks with data.only, or set data.repeated to first or last, which keeps the "
            "evaluation task"
        )
    if both:
        left_out = counted(len(both), "task")
        say(f"data.train: left out {left_out} of an id that data.evaluate has too")
    held_out = {task.id for task in both}
    return [task for task in once["train"] if task.id not in held_out] + once["evaluate"]
