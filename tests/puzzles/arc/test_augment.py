import dataclasses

import numpy as np
import pytest

from drm_jax.puzzles.arc.augment import (
    Augmentation,
    augment,
    augmented_name,
    distinct_augmentations,
    hash_augmented,
    hash_tables,
    puzzle_ids,
    undo,
)
from drm_jax.puzzles.arc.tasks import Pair, Task, load_source, visible_pairs
from drm_jax.puzzles.dihedral import dihedral


def random_augmentation(rng) -> Augmentation:
    colours = np.concatenate([[0], 1 + rng.permutation(9)]).astype(np.uint8)
    return Augmentation(int(rng.integers(8)), colours)


def test_undo_inverts_augment():
    rng = np.random.default_rng(0)
    for _ in range(100):
        grid = rng.integers(0, 10, rng.integers(1, 6, 2)).astype(np.uint8)
        augmentation = random_augmentation(rng)
        np.testing.assert_array_equal(undo(augment(grid, augmentation), augmentation), grid)


def test_there_are_eight_transforms():
    with pytest.raises(ValueError, match="transform 8"):
        dihedral(np.zeros((2, 2), np.uint8), 8)


def whole(task: Task, augmentation: Augmentation) -> tuple:
    """The augmented task itself, as an unordered set of pairs."""
    pairs = [
        Pair(*(None if g is None else augment(g, augmentation) for g in (p.input, p.output)))
        for p in visible_pairs(task)
    ]
    return tuple(sorted(pair.key for pair in pairs))


def test_augmentations_are_distinct_and_begin_with_the_identity():
    for task in load_source("arc1/training")[:40:8]:
        transforms, colours = distinct_augmentations(task, 60, seed=0)
        made = [Augmentation(int(t), c) for t, c in zip(transforms, colours, strict=True)]
        assert augmented_name("x", made[0]) == "x"
        assert len({whole(task, a) for a in made}) == len(made) == 61
        assert (colours[:, 0] == 0).all()


def test_a_symmetric_task_has_as_many_as_differ():
    """One square of one colour: 9 colours, and no transform changes it."""
    square = np.full((2, 2), 3, np.uint8)
    task = Task("square", (Pair(square, square),), (Pair(square, square),))
    assert len(distinct_augmentations(task, 1000, seed=0)[0]) == 9


def test_the_hash_ignores_the_order_of_pairs_but_not_their_sides():
    a, b = np.array([[1, 2]], np.uint8), np.array([[3], [1]], np.uint8)
    one = (np.zeros(1, np.uint8), np.arange(10, dtype=np.uint8)[None])
    both, swapped, first, second = (
        hash_augmented(hash_tables(pairs), *one)
        for pairs in (
            [Pair(a, b), Pair(b, a)],
            [Pair(b, a), Pair(a, b)],
            [Pair(a, b)],
            [Pair(b, a)],
        )
    )
    assert both == swapped
    assert first != second


def test_tasks_that_are_only_trained_on_may_have_fewer_rows():
    trained, evaluated = load_source("arc1/training")[:2]
    tasks = [trained, dataclasses.replace(evaluated, role="evaluate")]
    for rows, expected in ((None, 21), (30, 21), (5, 5), (1, 1)):
        ids = puzzle_ids(tasks, 20, 0, rows)
        assert [len(of_one) for of_one in ids.of_task] == [expected, 21]
        assert ids.is_identity[ids.of_task[0][0]]
    unbounded, bounded = puzzle_ids(tasks, 20, 0), puzzle_ids(tasks, 20, 0, 5)
    for of_one in ("transform", "colours"):
        np.testing.assert_array_equal(
            getattr(unbounded, of_one)[unbounded.of_task[1]],
            getattr(bounded, of_one)[bounded.of_task[1]],
        )


def test_ids_of_a_task_do_not_depend_on_the_others():
    tasks = load_source("arc1/training")[:3]
    together, alone = puzzle_ids(tasks, 20, 7), puzzle_ids(tasks[2:], 20, 7)
    rows = together.of_task[2]
    np.testing.assert_array_equal(together.transform[rows], alone.transform[1:])
    np.testing.assert_array_equal(together.colours[rows], alone.colours[1:])
    assert not np.array_equal(puzzle_ids(tasks[2:], 20, 8).colours, alone.colours)
