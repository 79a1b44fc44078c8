"""`drm data`: what sources of tasks hold, and what is wrong in them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from drm_jax.arc.tasks import BUILT_IN, Task, grids, load_source
from drm_jax.errors import InputError

_SIDES = ((1, 3), (4, 6), (7, 10), (11, 15), (16, 20), (21, 30))


def describe_sources(names: Sequence[str]) -> int:
    """Prints a summary of each source and of what they share; 1 if one of them is wrong."""
    loaded: dict[str, list[Task]] = {}
    wrong = 0
    for name in _halves(names):
        try:
            loaded[name] = load_source(name)
        except InputError as error:
            wrong += 1
            print(f"{name}: WRONG\n  {error}\n")
        else:
            print("\n".join([f"{name}", *(f"  {line}" for line in describe(loaded[name]))]) + "\n")
    for line in overlaps(loaded):
        print(line)
    return 1 if wrong else 0


def _halves(names: Sequence[str]) -> list[str]:
    """Built-in sources split into training and evaluation, which play different roles."""
    return [
        f"{name}/{half}" if half else name
        for name in names
        for half in (("training", "evaluation") if name in BUILT_IN else ("",))
    ]


def describe(tasks: Sequence[Task]) -> list[str]:
    """Lines that say how many tasks, pairs and cells there are, and how they are spread."""
    tests = [pair for task in tasks for pair in task.tests]
    hidden = sum(pair.output is None for pair in tests)
    all_grids = [grid for task in tasks for grid in grids(task)]
    sides = np.array([max(grid.shape) for grid in all_grids])
    colours = Counter(np.concatenate([np.unique(grid) for grid in all_grids]).tolist())
    lines = [
        f"{len(tasks)} tasks, {sum(len(t.demonstrations) for t in tasks)} demonstrations, "
        f"{len(tests)} test inputs" + (f", {hidden} of them without an output" if hidden else ""),
        f"demonstrations a task: {_histogram([len(t.demonstrations) for t in tasks])}",
        f"test inputs a task: {_histogram([len(t.tests) for t in tasks])}",
        f"{len(all_grids)} grids, {sum(g.size for g in all_grids):,} cells; longest side:",
    ]
    for low, high in _SIDES:
        count = int(((sides >= low) & (sides <= high)).sum())
        share = count / len(sides)
        lines.append(f"  {low:2}–{high:<2} {count:5}  {share:4.0%} {'█' * round(40 * share)}")
    shown = ", ".join(f"{c}: {colours[c] / len(all_grids):.0%}" for c in range(10))
    lines.append(f"grids with each colour: {shown}")
    same = sum(
        pair.output is not None and pair.input.shape == pair.output.shape
        for task in tasks
        for pair in task.demonstrations + task.tests
    )
    lines.append(f"pairs whose output has the size of the input: {same}")
    return lines


def _histogram(counts: Sequence[int]) -> str:
    return ", ".join(f"{value}: {count}" for value, count in sorted(Counter(counts).items()))


def overlaps(loaded: dict[str, list[Task]]) -> list[str]:
    """Which task ids and which test pairs of one source stand in another."""
    lines = []
    for trained, its_tasks in loaded.items():
        ids = {task.id for task in its_tasks}
        pairs = {pair.key for task in its_tasks for pair in task.demonstrations + task.tests}
        for evaluated, others in loaded.items():
            if trained == evaluated:
                continue
            answers = [p for t in others for p in t.tests if p.output is not None]
            leaked = sum(pair.key in pairs for pair in answers)
            shared = sum(task.id in ids for task in others)
            if leaked or shared:
                lines.append(
                    f"{trained} holds {shared} task ids and {leaked} test pairs of {evaluated}: "
                    f"training on the one and evaluating on the other would leak answers"
                )
    return lines
