import dataclasses
import itertools

import numpy as np
import pytest

from drm_jax.puzzles.arc.augment import IDENTITY_COLOURS, Augmentation, augment
from drm_jax.puzzles.arc.leaks import (
    canonical,
    find_leaks,
    leaks_from_digests,
    shows_its_test,
    trained_digests,
    without_leaks,
)
from drm_jax.puzzles.arc.tasks import Pair, Task, load_source

# Different pairs of 12 cells an input: none is an augmentation of another.
RNG = np.random.default_rng(0)
PAIRS = [Pair(*RNG.integers(0, 10, (2, 3, 4), np.uint8)) for _ in range(6)]
SHOWN, TEST, OTHERS = PAIRS[0], PAIRS[1], tuple(PAIRS[2:])
EVALUATED = Task("evaluated", (SHOWN,), (TEST,), role="evaluate")


def augmented(pair: Pair, transform=3, colours=(0, 4, 9, 1, 2, 3, 8, 7, 6, 5)) -> Pair:
    change = Augmentation(transform, np.array(colours, np.uint8))
    return Pair(augment(pair.input, change), augment(pair.output, change))


def hide(task: Task) -> Task:
    return dataclasses.replace(task, tests=tuple(Pair(p.input, None) for p in task.tests))


def test_canonical_is_the_same_under_every_transform_and_colours():
    for transform in range(8):
        colours = np.concatenate([[0], RNG.permutation(np.arange(1, 10))])
        changed = augmented(TEST, transform, colours)
        assert canonical((changed.input, changed.output)) == canonical((TEST.input, TEST.output))


def test_canonical_tells_apart_all_that_no_augmentation_joins():
    """Of all 2 x 2 grids of the colours 0, 1, 2: as many keys as sets of equivalent grids."""
    cells = itertools.product(range(3), repeat=4)
    grids = [np.array(c, np.uint8).reshape(2, 2) for c in cells]
    swapped = IDENTITY_COLOURS.copy()
    swapped[[1, 2]] = 2, 1
    changes = [Augmentation(t, c) for t in range(8) for c in (IDENTITY_COLOURS, swapped)]
    orbits = {frozenset(augment(grid, c).tobytes() for c in changes) for grid in grids}
    assert len({canonical([grid]) for grid in grids}) == len(orbits)
    # The same cells in rows of another length.
    assert canonical([np.zeros((2, 2), np.uint8)]) != canonical([np.zeros((1, 4), np.uint8)])


LEAKS = {
    "a test of a training task": (Task("t", OTHERS[:1], (TEST,)), EVALUATED, True),
    "a demonstration of a training task": (Task("t", (TEST,), ()), EVALUATED, True),
    "turned and recoloured": (Task("t", (augmented(TEST),), OTHERS[:1]), EVALUATED, False),
    "a demonstration of another evaluation task": (
        Task("t", (augmented(TEST), OTHERS[0]), OTHERS[1:2], role="evaluate"), EVALUATED, False,
    ),
    "the same task under another id": (Task("t", (SHOWN,), (TEST,)), EVALUATED, True),
    "the input of a hidden test": (Task("t", (), (TEST,)), hide(EVALUATED), True),
    "the same, turned and recoloured": (Task("t", (augmented(TEST),), ()), hide(EVALUATED), False),
}  # fmt: skip


@pytest.mark.parametrize(("other", "evaluated", "exact"), LEAKS.values(), ids=LEAKS.keys())
def test_every_route_is_found_and_can_be_dropped(other, evaluated, exact):
    tasks = [other, evaluated]
    (leak,) = find_leaks(tasks)
    assert (leak.trained, leak.evaluated, leak.exact) == (other, evaluated, exact)
    assert "task t would train on" in str(leak)
    assert ("hidden" in str(leak)) == (evaluated.tests[0].output is None)
    cleaned, kept = without_leaks(tasks, [leak])
    assert find_leaks([cleaned, kept]) == []
    assert (kept.demonstrations, kept.tests) == (evaluated.demonstrations, evaluated.tests)
    before, after = other.demonstrations + other.tests, cleaned.demonstrations + cleaned.tests
    assert after == tuple(pair for pair in before if pair is not leak.pair)


def test_different_pairs_are_no_leak():
    swapped_colour_0 = augmented(TEST, 0, [1, 0, *range(2, 10)])
    turned_input = Pair(np.rot90(TEST.input, 2), TEST.output)
    others = [
        *OTHERS, swapped_colour_0, turned_input, Pair(TEST.output, TEST.input),
        Pair(TEST.input, OTHERS[0].output),  # the known output differs
    ]  # fmt: skip
    assert find_leaks([Task("t", tuple(others), ()), EVALUATED]) == []
    assert find_leaks([Task("t", OTHERS, ()), hide(EVALUATED)]) == []


def test_a_demonstration_of_the_same_task_leaks_only_as_it_is():
    shows = dataclasses.replace(EVALUATED, demonstrations=(SHOWN, augmented(TEST)))
    assert find_leaks([shows]) == find_leaks([hide(shows)]) == []
    assert shows_its_test(shows)
    assert not shows_its_test(EVALUATED)
    given = dataclasses.replace(EVALUATED, demonstrations=(SHOWN, TEST))
    for task in (given, hide(given)):
        (leak,) = find_leaks([task])
        (cleaned,) = without_leaks([task], [leak])
        assert (cleaned.demonstrations, cleaned.tests) == ((SHOWN,), task.tests)


def test_digests_of_a_former_training_are_checked():
    for other, evaluated, _ in LEAKS.values():
        digests = trained_digests([other])
        assert leaks_from_digests(digests, [evaluated]) == ["evaluated"]
        assert digests == sorted(set(digests))
        assert {len(digest) for digest in digests} == {12}
    unrelated = [Task("t", OTHERS, ()), EVALUATED]
    for tasks in (unrelated, [unrelated[0], hide(EVALUATED)]):
        assert leaks_from_digests(trained_digests(tasks), tasks) == []
        assert leaks_from_digests([], tasks) == []


def test_digests_of_the_tasks_own_demonstrations_are_no_alarm():
    """A run that goes on with the same evaluation tasks; their exact tests are still refused."""
    one, two = (Pair(*np.full((2, 1, 1), colour, np.uint8)) for colour in (1, 2))
    for shown, test in ((augmented(TEST), TEST), (two, one)):  # one is its own canonical form
        shows = Task("shows", (SHOWN, shown), (test,), role="evaluate")
        for task in (shows, hide(shows)):
            assert leaks_from_digests(trained_digests([task]), [task]) == []
            other = Task("t", (test,), ())
            assert leaks_from_digests(trained_digests([other]), [task]) == ["shows"]


def test_all_leaks_of_the_built_in_sources():
    def leaks(train: str, evaluate: str) -> set[tuple[str, str, bool]]:
        evaluated = [dataclasses.replace(t, role="evaluate") for t in load_source(evaluate)]
        found = find_leaks(load_source(train) + evaluated)
        return {(leak.trained.id, leak.evaluated.id, leak.exact) for leak in found}

    assert leaks("arc1/training", "arc1/evaluation") == {
        ("40853293", "070dd51e", True),
        ("caa06a1f", "50a16a69", False),
    }
    assert leaks("arc2/training", "arc2/evaluation") == set()
