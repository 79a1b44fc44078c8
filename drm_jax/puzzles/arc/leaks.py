"""Leaks: the answer to an evaluation test, trained on by some route.

A training pair leaks if, up to augmentation, it is a test pair of an evaluation task, or has the
input of a test whose output is hidden. A task's own demonstrations are part of its question: they
leak only if they are the test without any augmentation.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from drm_jax.puzzles.arc.tasks import Pair, Task, own_pairs, training_pairs
from drm_jax.puzzles.arc.tokens import NUM_COLOURS
from drm_jax.puzzles.dihedral import NUM_TRANSFORMS, dihedral

_FREE_COLOURS = [bytes([colour]) for colour in range(1, NUM_COLOURS)]  # 0 is never permuted
_DIGEST_BYTES = 6  # 20,000 digests and 400 tests meet by chance once in 30 million runs


def canonical(grids: Sequence[np.ndarray]) -> bytes:
    """Equal for two rows of (h, w) uint8 grids if one augmentation turns the one into the other.

    The smallest of the eight transforms, the colours 1..9 numbered by first appearance in each.
    """
    return min(_renumbered([dihedral(g, t) for g in grids]) for t in range(NUM_TRANSFORMS))


def _renumbered(grids: Sequence[np.ndarray]) -> bytes:
    cells = b"".join(grid.tobytes() for grid in grids)
    seen = sorted((colour for colour in _FREE_COLOURS if colour in cells), key=cells.find)
    new_colours = bytes.maketrans(b"".join(seen), bytes(range(1, len(seen) + 1)))
    return _shapes(grids) + cells.translate(new_colours)


def _shapes(grids: Sequence[np.ndarray]) -> bytes:
    return bytes(side for grid in grids for side in grid.shape)


def pair_keys(pair: Pair, input_only: bool) -> tuple[bytes, bytes]:
    """The key of the pair (or of its input) as it is, and up to augmentation."""
    grids = (pair.input,) if input_only else (pair.input, pair.output)
    exact = _shapes(grids) + b"".join(grid.tobytes() for grid in grids)
    return b"=" + exact, b"~" + canonical(grids)  # the signs keep the two apart


def _outline(pair: Pair, input_only: bool) -> tuple[int, ...]:
    """What no augmentation changes: sides in rising order, and how many cells have colour 0."""
    grids = (pair.input,) if input_only else (pair.input, pair.output)
    return tuple(n for g in grids for n in (*sorted(g.shape), g.size - np.count_nonzero(g)))


PairKeys = Callable[[Pair, bool], tuple[bytes, bytes]]


def _all_keys(pairs: Iterable[Pair]) -> set[bytes]:
    """The keys by which training on these pairs could give away a test."""
    return {key for p in pairs for input_only in (False, True) for key in pair_keys(p, input_only)}


@dataclasses.dataclass(frozen=True, eq=False)
class Leak:
    """A pair of the task `trained` that gives away a test of the evaluation task `evaluated`."""

    trained: Task
    pair: Pair
    evaluated: Task
    test: Pair
    exact: bool  # without any augmentation

    def __str__(self) -> str:
        what = "a test pair" if self.test.output is not None else "the input of a hidden test"
        how = "" if self.exact else ", augmented"
        evaluated = f"evaluation task {self.evaluated.id}{how}"
        return f"task {self.trained.id} would train on {what} of {evaluated}"


def leaks_between(
    trained: Sequence[Task], evaluated: Sequence[Task], keys: PairKeys = pair_keys
) -> list[Leak]:
    """Every way in which training on the one answers a test of the other.

    Args:
      keys: `pair_keys`, or what remembers its answers, for tasks that are compared repeatedly.
    """
    tests: dict[bytes, list[tuple[Task, Pair, bytes]]] = {}
    for task in evaluated:
        for test in task.tests:
            # what a training pair must not have: the test, or its input where the output is hidden
            exact, up_to_augmentation = keys(test, test.output is None)
            tests.setdefault(up_to_augmentation, []).append((task, test, exact))
    hidden = sorted({test.output is None for task in evaluated for test in task.tests})
    outlines = {_outline(t, t.output is None) for task in evaluated for t in task.tests}
    found = []
    for task in trained:
        for pair in training_pairs(task):
            for input_only in hidden:
                if _outline(pair, input_only) not in outlines:
                    continue  # a hundred times faster than its keys
                exact, up_to_augmentation = keys(pair, input_only)
                for other, test, test_exact in tests.get(up_to_augmentation, ()):
                    if other is not task or exact == test_exact:
                        found.append(Leak(task, pair, other, test, exact == test_exact))
    return found


def find_leaks(tasks: Sequence[Task]) -> list[Leak]:
    """Every way in which the answer to an evaluation test of a run would be trained on."""
    return leaks_between(tasks, [task for task in tasks if task.role == "evaluate"])


def with_the_same_rule(tasks: Sequence[Task], evaluated: Sequence[Task]) -> dict[str, Task]:
    """Of the tasks that evaluation tasks are, by id: the evaluation task that each one is.

    It has the same id, or up to augmentation a pair of the other's, be it a demonstration or a
    test, or the input of a test whose output is hidden.
    """
    with_id = {task.id: task for task in evaluated}
    shown = [dataclasses.replace(t, tests=t.demonstrations + t.tests) for t in evaluated]
    same = {leak.trained.id: leak.evaluated for leak in leaks_between(tasks, shown)}
    return same | {task.id: with_id[task.id] for task in tasks if task.id in with_id}


def without_leaks(tasks: Sequence[Task], leaks: Sequence[Leak]) -> list[Task]:
    """The tasks without the pairs that leak; an evaluation task keeps its tests."""
    leaked = {(leak.trained, leak.pair) for leak in leaks}

    def kept(task: Task, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        return tuple(pair for pair in pairs if (task, pair) not in leaked)

    return [
        dataclasses.replace(
            task,
            demonstrations=kept(task, task.demonstrations),
            tests=task.tests if task.role == "evaluate" else kept(task, task.tests),
            made=tuple(
                dataclasses.replace(made, pairs=kept(task, made.pairs)) for made in task.made
            ),
        )
        for task in tasks
    ]


def shows_its_test(task: Task) -> bool:
    """Whether a demonstration is, up to augmentation, a test pair of the same task."""
    if not task.tests:
        return False
    shown = {pair_keys(pair, False)[1] for pair in task.demonstrations}
    return any(pair_keys(t, False)[1] in shown for t in task.tests if t.output is not None)


# --- what a checkpoint was trained on -----------------------------------------------------------
def _digest(key: bytes) -> str:
    return hashlib.blake2b(key, digest_size=_DIGEST_BYTES).hexdigest()


def trained_digests(tasks: Sequence[Task]) -> list[str]:
    """Sorted digests of every training pair and its input, as they are and up to augmentation.

    Kept beside a checkpoint, they say what it was trained on, for `leaks_from_digests`. In place of
    made pairs stand those of the task whose rule they follow: who knows the rule knows its tests.
    """
    pairs = [pair for task in tasks for pair in own_pairs(task)]
    pairs += [pair for task in tasks for made in task.made for pair in made.original]
    distinct = {pair.key: pair for pair in pairs}  # a task's own ones may be the original ones
    return sorted({_digest(key) for key in _all_keys(distinct.values())})


def leaks_from_digests(digests: Iterable[str], tasks: Sequence[Task]) -> list[str]:
    """Sorted ids of the evaluation tasks of which the digests hold an answer.

    Digests don't say which task a pair came from. A test that the task's own demonstrations show
    up to augmentation is therefore looked for only as it is.
    """
    trained = set(digests)

    def leaks(task: Task) -> bool:
        own = _all_keys(task.demonstrations)
        of_tests = [pair_keys(test, test.output is None) for test in task.tests]
        keys = (exact if same in own else same for exact, same in of_tests)
        return any(_digest(key) in trained for key in keys)

    return sorted(task.id for task in tasks if task.role == "evaluate" and leaks(task))
