"""What an adaptation plans: time, windows, groups; and what it knows of its tasks."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from drm_jax.errors import UsageError
from drm_jax.puzzles.arc.augment import puzzle_ids
from drm_jax.puzzles.arc.leaks import trained_digests
from drm_jax.puzzles.arc.tasks import Pair, Task
from drm_jax.solve.adapt import Adapt
from drm_jax.solve.asked import hide_trained, known_rows, needed_side, on_canvas
from drm_jax.solve.clock import Clock, Rates, planned_steps, training_left
from drm_jax.solve.request import FROM_NOTHING, Request, best_sides, experiment_of, groups_of


def grid(height: int, width: int, colour: int = 1) -> np.ndarray:
    return np.full((height, width), colour, np.uint8)


def task(name: str, pairs, tests, colour: int = 1) -> Task:
    """Pairs and tests by the shapes of their grids."""
    made = [
        tuple(Pair(grid(*i, colour), None if o is None else grid(*o, colour)) for i, o in of)
        for of in (pairs, tests)
    ]
    return Task(name, *made, role="evaluate")


def test_steps_fit_into_the_time_that_is_left():
    clock, rates = Clock(600.0, used=100.0), Rates(step=0.1, batch=1.0, write=0.5, start=2.0)
    left = training_left(clock, rates, 30)
    assert 400 < left < 500 - 33
    steps = planned_steps(clock, rates, 30, 0.3)
    assert steps * 0.1 * (0.3 + 0.7 * 1.5) == pytest.approx(left, rel=0.01)
    assert planned_steps(clock, rates, 30, 0.0) == pytest.approx(left / 0.1, rel=0.01)


def test_the_last_vote_takes_no_more_than_its_share():
    rates = Rates(step=0.1, batch=10.0)
    few, many = (training_left(Clock(100.0), rates, rounds) for rounds in (1, 1000))
    assert few - many == pytest.approx(20 - 11, abs=0.5)
    assert Clock(None).left == math.inf


def test_windows_cost_the_fewest_cells():
    rng = np.random.default_rng(0)
    for most in (1, 2, 3):
        sides = rng.integers(2, 12, 20)
        largest = int(sides.max())
        choices = itertools.combinations(range(2, largest), most - 1)
        cost = {
            chosen: sum(min(s for s in (*chosen, largest) if s >= side) ** 2 for side in sides)
            for chosen in choices
        }
        found = best_sides(sides, most)
        assert found[-1] == largest
        held = sum(min(s for s in found if s >= side) ** 2 for side in sides)
        assert held == min(cost.values())


def test_windows_are_those_of_the_weights_and_as_many_as_there_is_time_to_compile_for():
    base = dataclasses.replace(FROM_NOTHING, data=_fit())
    tasks = [task("a", [((2, 2), (2, 2))] * 9, [((5, 5), (5, 5))])]
    for minutes, windows in ((1.0, (7, 9)), (8.0, (4, 7, 9))):
        request = Request(("x",), minutes=minutes, adapt=Adapt(num_augmentations=3))
        assert experiment_of(request, base, tasks, "folder", None).data.windows == windows


def test_a_known_output_of_a_test_decides_no_canvas():
    shown = [((3, 3), (3, 3)), ((2, 2), (2, 2))]
    for output in (None, (3, 3), (9, 9)):
        assert needed_side(task("t", shown, [((4, 3), output)])) == 4
    twice = task("t", [((2, 2), (4, 4)), ((3, 3), (6, 6))], [((4, 4), None)])
    assert needed_side(twice) == 8


def test_what_does_not_fit_the_canvas_is_left_out_or_hidden():
    shown, told = [((3, 3), (3, 3))], []
    tasks = [
        task("fits", shown, [((3, 3), (3, 3))]),
        task("answer", shown, [((3, 3), (5, 5))]),
        task("input", shown, [((5, 5), None)]),
    ]
    kept = on_canvas(tasks, 4, told.append)
    assert [t.id for t in kept] == ["fits", "answer"]
    assert [t.tests[0].output is None for t in kept] == [False, True]
    assert "1 task with grids larger" in told[0]


def test_answers_that_the_weights_were_trained_on_are_hidden():
    tasks = [
        task("a", [((2, 2), (2, 2))], [((3, 2), (3, 2))], 1),
        task("b", [((2, 2), (2, 2))], [((4, 2), (4, 2))], 1),
    ]
    trained = [Task("x", tasks[0].tests, ())]
    told = []
    hidden = hide_trained(tasks, trained_digests(trained), told.append)
    assert [t.tests[0].output is None for t in hidden] == [True, False]
    assert "answers of 1 of these task" in told[0]
    assert hide_trained(tasks, (), told.append) == tasks


def test_a_known_task_keeps_its_augmentations_and_rows():
    rng = np.random.default_rng(1)

    def drawn(name: str) -> Task:
        pairs = tuple(Pair(*rng.integers(0, 9, (2, 3, 3), np.uint8)) for _ in range(2))
        return Task(name, pairs, pairs[:1], role="evaluate")

    trained = [drawn("a"), drawn("b")]
    ids = puzzle_ids(trained, 7, seed=5)
    renamed = Task("z", trained[1].demonstrations[::-1], trained[1].tests, role="evaluate")
    asked = [drawn("new"), renamed]
    known = known_rows(asked, 3, 0, trained, ids)
    assert known.tasks == ("z",)
    assert known.names[0] == "<blank>"
    assert known.names[1] == "new"
    assert known.names[5] == "z"
    assert known.new_N.tolist() == [5, 6, 7, 8]
    assert known.old_N.tolist() == ids.of_task[1][:4].tolist()
    for new, old in zip(known.new_N.tolist(), known.old_N.tolist(), strict=True):
        digits = "".join(map(str, ids.colours[old].tolist()))
        assert known.names[new] == "z" or known.names[new].endswith(digits)
    assert known_rows([drawn("new")], 3, 0, trained, ids) is None


def test_tasks_of_one_size_are_trained_together():
    small, large = [((2, 2), (2, 2))], [((5, 5), (5, 5))]
    tasks = [task("a", large, small), task("b", small, small), task("c", large, large)]
    groups = groups_of(tasks, None)
    assert [(group.places, group.boards) for group in groups] == [
        ((1,), ((2, 2),)), ((0, 2), ((5, 5),)),
    ]  # fmt: skip
    (fit,) = groups_of(tasks[:1], FROM_NOTHING.__class__("x", data=_fit()))
    assert fit.boards == ((7, 7), (9, 9))


def _fit():
    return type(FROM_NOTHING.data)(canvas="fit", windows=(4, 7, 9))


def test_how_the_weights_were_trained_on_several_sources_does_not_matter():
    arc = type(FROM_NOTHING.data)
    mixed = arc(train=("arc1/training", "rearc"), mix=("arc1=1", "rearc=2"), rows_per_task=2)
    base = dataclasses.replace(FROM_NOTHING, data=mixed)
    tasks = [task("a", [((2, 2), (2, 2))], [((2, 2), (2, 2))])]
    data = experiment_of(
        Request(("x",), steps=1, adapt=Adapt(num_augmentations=3)), base, tasks, "folder", None
    ).data
    assert (data.train, data.evaluate) == ((), ("folder/tasks.json",))
    assert (data.mix, data.rows_per_task) == ((), None)


def test_a_request_says_what_it_wants():
    with pytest.raises(UsageError, match="either --minutes or --steps"):
        Request(("x",))
    with pytest.raises(UsageError, match="either --minutes or --steps"):
        Request(("x",), minutes=1.0, steps=1)
    with pytest.raises(UsageError, match="rows_first"):
        Adapt(rows_first=1.5)
    assert Adapt().on("cpu") == Adapt(num_augmentations=15, rows_first=0)
    assert Adapt().on("tpu") == Adapt(num_augmentations=200, rows_first=0.3)
    assert Adapt(num_augmentations=4).on("cpu") == Adapt(num_augmentations=4, rows_first=0)
