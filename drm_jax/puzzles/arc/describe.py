"""`drm data` and `drm show`: what sources of tasks hold, and what is wrong in them."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from drm_jax.errors import InputError, UsageError, one_line
from drm_jax.puzzles.arc.editions import edition
from drm_jax.puzzles.arc.judge import described_pair
from drm_jax.puzzles.arc.leaks import Leak, leaks_between, pair_keys, shows_its_test
from drm_jax.puzzles.arc.roles import by_reason, unread_keys
from drm_jax.puzzles.arc.tasks import (
    BUILT_IN,
    Checked,
    Task,
    check_source,
    clash_message,
    clashes,
    grids,
    one_of_each,
)
from drm_jax.words import counted, first_few

_BEFORE_BAR = 22  # characters
_SIDES = ((1, 3), (4, 6), (7, 10), (11, 15), (16, 20), (21, 30))


def find_task(name: str, sources: Sequence[str]) -> dict[str, Any]:
    """A task of one of these sources, for people: see `evaluate.answers.Answers`.

    Raises:
      InputError: none holds it, or it is wrong in the first one that does.
    """
    for source in sources:
        for checked in check_source(source, only=(name,)):
            if checked.problems:
                raise checked.problems[0].error
            return {
                "id": checked.task.id,
                "source": checked.task.source,
                "demonstrations": [described_pair(p) for p in checked.task.demonstrations],
                "tests": [described_pair(p) for p in checked.task.tests],
            }
    raise InputError(f"{name}: no such task in {', '.join(sources)} (drm data looks at sources)")


def describe_sources(
    names: Sequence[str], say: Callable[[str], None] = print, columns: int = 80
) -> int:
    """Says a summary of each source and of what they share; returns 1 if one of them is wrong.

    Args:
      say: is told lines of text.
      columns: which bars keep to.
    """
    loaded: dict[str, list[Task]] = {}
    wrong = 0
    for name in _halves(names):
        tasks, lines = _looked_at(name)
        if tasks is None:
            wrong += 1
            lines = [f"{one_line(name) or repr(name)}: WRONG", *map(_indented, lines)]
        else:
            loaded[name] = tasks
            lines = [name, *map(_indented, [*describe(tasks, columns), *lines])]
        say("\n".join(lines) + "\n")
    for line in overlaps(loaded):
        say(line)
    return 1 if wrong else 0


def _indented(line: str) -> str:
    return f"  {line}"


def _looked_at(name: str) -> tuple[list[Task] | None, list[str]]:
    """The tasks of a source, and lines to add; or None, and all that is wrong in it."""
    notes: list[str] = []
    try:
        checked = check_source(name, say=notes.append)
    except (InputError, UsageError) as error:
        return None, [one_line(error)]
    problems = [problem.error for each in checked for problem in each.problems]
    twice = clashes([each.task for each in checked if not each.problems])
    if problems or twice:
        lines = [*problems, *(clash_message(*both) for both in twice)]
        return None, [*map(one_line, lines), *_summary(checked, len(twice))]
    tasks = one_of_each([each.task for each in checked])
    notes += unread_keys(checked)
    without = sum(not task.tests for task in tasks)
    if without:
        notes.append(f"tasks without a test, for data.train alone: {without}")
    if len(tasks) < len(checked):
        notes.append(f"equal tasks of one id, which are one: {len(checked) - len(tasks)}")
    return tasks, notes


def _summary(checked: Sequence[Checked], twice: int) -> list[str]:
    """How often each thing is wrong, if more than one is, and what trains without it.

    Args:
      twice: how many tasks differ from another one of their id.
    """
    wrong = [each for each in checked if each.problems]
    reasons = Counter(problem.error.reason for each in wrong for problem in each.problems)
    remedies = []
    if wrong:
        remedies.append("data.unfit=drop_pairs or drop_tasks trains without what can't be used")
    if twice:
        reasons["another task of the same id"] = twice
        remedies.append("data.repeated=first or last trains on one task of each id")
    if reasons.total() == 1:
        return remedies
    return [
        f"{reasons.total():,} problems in {len(wrong) + twice:,} of "
        f"{counted(len(checked), 'task')}: {by_reason(reasons)}",
        *remedies,
    ]


def _halves(names: Sequence[str]) -> list[str]:
    """Built-in sources split into training and evaluation, which play different roles."""
    return [
        f"{name}/{half}" if half else name
        for name in names
        for half in (("training", "evaluation") if name in BUILT_IN else ("",))
    ]


def describe(tasks: Sequence[Task], columns: int) -> list[str]:
    """Lines that say how many tasks, pairs and cells there are, and how they are spread."""
    longest = max(1, min(40, columns - _BEFORE_BAR))
    tests = [pair for task in tasks for pair in task.tests]
    hidden = sum(pair.output is None for pair in tests)
    all_grids = [grid for task in tasks for grid in grids(task)]
    sides = np.array([max(grid.shape) for grid in all_grids])
    colours = Counter(np.concatenate([np.unique(grid) for grid in all_grids]).tolist())
    lines = [
        f"{counted(len(tasks), 'task')}, "
        f"{counted(sum(len(t.demonstrations) for t in tasks), 'demonstration')}, "
        f"{counted(len(tests), 'test input')}"
        + (f", {hidden} of them without an output" if hidden else ""),
        *filter(None, [edition(tasks)]),
        f"demonstrations a task: {_histogram([len(t.demonstrations) for t in tasks])}",
        f"test inputs a task: {_histogram([len(t.tests) for t in tasks])}",
        f"{counted(len(all_grids), 'grid')}, "
        f"{counted(sum(g.size for g in all_grids), 'cell')}; longest side:",
    ]
    for low, high in _SIDES:
        count = int(((sides >= low) & (sides <= high)).sum())
        share = count / len(sides)
        lines.append(f"  {low:2}–{high:<2} {count:5}  {share:4.0%} {'█' * round(longest * share)}")
    shown = ", ".join(f"{c}: {colours[c] / len(all_grids):.0%}" for c in range(10))
    lines.append(f"grids with each colour: {shown}")
    same = sum(
        pair.output is not None and pair.input.shape == pair.output.shape
        for task in tasks
        for pair in task.demonstrations + task.tests
    )
    lines.append(f"pairs whose output has the size of the input: {same}")
    shown = sorted(task.id for task in tasks if shows_its_test(task))
    if shown:
        lines.append(
            f"tasks that show a test of their own, augmented: {len(shown)}: {first_few(shown)}"
        )
    return lines


def _histogram(counts: Sequence[int]) -> str:
    return ", ".join(f"{value}: {count}" for value, count in sorted(Counter(counts).items()))


def overlaps(loaded: dict[str, list[Task]]) -> list[str]:
    """What training on one source would give away of another, and of its own tasks' tests."""
    keys = functools.cache(pair_keys)  # each source is compared with each other one
    lines = []
    for evaluated, tasks in loaded.items():
        as_evaluated = [dataclasses.replace(task, role="evaluate") for task in tasks]
        for trained, others in loaded.items():
            if trained == evaluated:  # another task of the same source may show a test
                shared, found = [], leaks_between(as_evaluated, as_evaluated, keys)
                title = f"demonstrations of {trained} → itself"
            else:
                shared = sorted({task.id for task in others} & {task.id for task in tasks})
                found = leaks_between(others, as_evaluated, keys)
                title = f"{trained} → {evaluated}"
            if shared or found:
                lines += [f"  {title}: {_how_many(found, tasks)}", *_which(shared, found)]
    return ["training on the left gives away tests of the right:", *lines] if lines else []


def _how_many(leaks: Sequence[Leak], tasks: Sequence[Task]) -> str:
    exact = {leak.test for leak in leaks if leak.exact}
    augmented = len({leak.test for leak in leaks} - exact)
    tests = sum(len(task.tests) for task in tasks)
    note = f", {augmented} of them under augmentation" if augmented else ""
    return f"{len(exact) + augmented} of {tests}{note}"


def _which(shared: Sequence[str], leaks: Sequence[Leak]) -> list[str]:
    """The tasks that stand in both; each test that another task shows, with that task."""
    elsewhere = [leak for leak in leaks if leak.evaluated.id not in shared]
    best = {leak.test: leak for leak in sorted(elsewhere, key=lambda leak: leak.exact)}

    def text(leak: Leak) -> str:
        notes = ["augmented"] * (not leak.exact) + ["its input"] * (leak.test.output is None)
        return f"{leak.evaluated.id} ({', '.join([f'in {leak.trained.id}', *notes])})"

    lines = (
        [f"    {counted(len(shared), 'task stands', 'tasks stand')} in both: {first_few(shared)}"]
        if shared
        else []
    )
    if best:
        lines.append(f"    under another id: {first_few(sorted(map(text, best.values())))}")
    return lines
