import collections
import dataclasses

import numpy as np
import pytest

from drm_jax.config import OBJECTIVES, Data, Evaluate, Experiment, Halting, Model, Noise, Train
from drm_jax.data.evaluation import (
    evaluation_batches,
    evaluation_rows,
    expected_shape,
    first_windows,
    touches_border,
)
from drm_jax.data.stream import (
    VisitOrder,
    batches_from,
    draw_bits,
    fingerprint,
    training_stream,
)
from drm_jax.methods.objectives import abstract_batch
from drm_jax.puzzles.arc.augment import augment, puzzle_ids
from drm_jax.puzzles.arc.roles import load_tasks
from drm_jax.puzzles.arc.tasks import Pair, Task, load_source, training_pairs
from drm_jax.puzzles.arc.tokens import MASK, crop, to_tokens

EXPERIMENT = Experiment(
    "stream",
    data=Data(
        train=("arc1/training",),
        evaluate=(),
        only=("0d3d703e", "25d8a9c8", "44f52bb0"),
        canvas=5,
        num_augmentations=4,
    ),
    model=Model(hidden=16, heads=2, cycles=3, prefix=1),
    train=Train(batch_size=8),
    evaluate=Evaluate(batch_size=8),
)


@pytest.fixture(scope="module")
def tasks():
    return load_tasks(EXPERIMENT.data.train, (), EXPERIMENT.data.only)


@pytest.fixture(scope="module")
def ids(tasks):
    return puzzle_ids(tasks, EXPERIMENT.data.num_augmentations, EXPERIMENT.seed)


def assert_batches_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


# Seed 0, written down once: the stream must never change under a run that goes on.
# (task, pair), puzzle id, noise level, offset, masked cells
TWO_BATCHES = [
    [((1, 4), 6, 335, (1, 2), 6), ((1, 1), 6, 355, (1, 2), 8), ((1, 0), 6, 865, (2, 2), 22),
     ((1, 3), 6, 612, (0, 0), 20), ((1, 2), 6, 966, (1, 0), 25), ((2, 1), 11, 746, (0, 2), 20),
     ((2, 3), 11, 958, (2, 1), 25), ((2, 6), 11, 298, (1, 1), 3)],
    [((2, 7), 11, 943, (1, 0), 25), ((2, 5), 11, 200, (0, 0), 1), ((2, 2), 11, 834, (2, 1), 25),
     ((2, 0), 11, 189, (1, 0), 2), ((2, 4), 11, 108, (2, 2), 0), ((0, 1), 3, 833, (0, 1), 23),
     ((0, 0), 3, 954, (0, 0), 25), ((0, 4), 3, 697, (0, 0), 19)],
]  # fmt: skip


def test_two_batches_by_hand(tasks, ids):
    stream = training_stream(EXPERIMENT, tasks, ids)
    for batch, expected in zip((stream[0], stream[1]), TWO_BATCHES, strict=True):
        for row, ((task, index), puzzle_id, level, offset, masked) in enumerate(expected):
            pair = training_pairs(tasks[task])[index]
            augmentation = ids.augmentation(puzzle_id)
            assert (batch["puzzle_id"][row], batch["level"][row]) == (puzzle_id, level)
            for name, grid in (("inputs", pair.input), ("target", pair.output)):
                tokens = to_tokens(augment(grid, augmentation), 5, offset)
                np.testing.assert_array_equal(batch[name][row], tokens)
            hidden = batch["noised"][row] == MASK
            assert hidden.sum() == masked
            np.testing.assert_array_equal(batch["noised"][row][~hidden], tokens[~hidden])


def test_an_epoch_visits_every_pair_once_and_shares_a_row_within_a_visit(tasks, ids):
    order = VisitOrder(tasks, ids, seed=3)
    sizes = collections.Counter()
    for epoch in (0, 1, 7):
        start = epoch * order.epoch_length
        pair, puzzle_id, siblings = order.at(np.arange(start, start + order.epoch_length))
        assert sorted(pair.tolist()) == list(range(order.epoch_length))
        assert (np.diff(puzzle_id) != 0).sum() == len(tasks) - 1
        for i in set(puzzle_id.tolist()):
            assert set(siblings[puzzle_id == i].tolist()) == {(puzzle_id == i).sum()}
            sizes[(puzzle_id == i).sum()] += 1
        for p, i in zip(pair.tolist(), puzzle_id.tolist()):
            assert order.pairs[p] in training_pairs(tasks[ids.task[i]])
    assert sizes == {5: 6, 8: 3}
    # over two epochs at once, and one place at a time
    across = order.at(np.arange(order.epoch_length - 3, order.epoch_length + 3))
    one_by_one = [order.at(np.array([order.epoch_length - 3 + i])) for i in range(6)]
    np.testing.assert_array_equal(across, np.concatenate(one_by_one, axis=1))
    firsts = order.at(np.arange(30) * order.epoch_length)[1]
    assert len(set(firsts.tolist())) > 5  # other tasks and augmentations in other epochs
    orders = {tuple(order.at(np.arange(18) + 18 * e)[0].tolist()) for e in range(30)}
    assert len(orders) == 30


def test_every_visit_is_equally_likely(tasks, ids):
    order = VisitOrder(tasks, ids, seed=0)
    epochs = 2000
    pair, puzzle_id, _ = order.at(np.arange(epochs * order.epoch_length))
    first = pair.reshape(epochs, -1)[:, 0]
    task_of_first = ids.task[puzzle_id.reshape(epochs, -1)[:, 0]]
    share = np.bincount(task_of_first, minlength=3) / epochs
    np.testing.assert_allclose(share, 1 / 3, atol=0.04)
    share = np.bincount(first[task_of_first == 0], minlength=5)[:5] / (task_of_first == 0).sum()
    np.testing.assert_allclose(share, 1 / 5, atol=0.06)
    visits = np.bincount(puzzle_id, minlength=len(ids)) / epochs
    for k, of_task in enumerate(ids.of_task):
        pairs = len(training_pairs(tasks[k]))
        np.testing.assert_allclose(visits[of_task] / pairs, 1 / len(of_task), atol=0.04)


def test_an_example(tasks, ids):
    batch = training_stream(EXPERIMENT, tasks, ids)[5]
    shapes = {name: value.shape for name, value in batch.items()}
    assert shapes == {
        "inputs": (8, 25), "target": (8, 25), "noised": (8, 25), "level": (8,),
        "reverse_targets": (8, 3, 25), "puzzle_id": (8,), "weight": (8,),
    }  # fmt: skip
    masked = batch["noised"] == MASK
    np.testing.assert_array_equal(batch["noised"][~masked], batch["target"][~masked])
    np.testing.assert_array_equal(batch["reverse_targets"][:, -1], batch["target"])
    share, level = masked.mean(axis=1), batch["level"]
    assert np.corrcoef(share, level)[0, 1] > 0.8


def test_one_pair_in_its_siblings_stays_at_the_corner(tasks, ids):
    stream = training_stream(EXPERIMENT, tasks, ids)
    batches = [stream[i] for i in range(120)]
    at_corner = np.concatenate([b["target"][:, 0] >= 2 for b in batches])
    # 3x3 grids have 9 offsets on a 5x5 canvas; tasks have 5, 5 and 8 pairs.
    per_task = [1 / n + (1 - 1 / n) / 9 for n in (5, 5, 8)]
    expected = np.average(per_task, weights=[5, 5, 8])
    assert at_corner.mean() == pytest.approx(expected, abs=0.04)


def test_draws_are_a_function_of_seed_and_example():
    whole = draw_bits([5], 0, 12, 21)
    assert whole.shape == (12, 21)
    assert whole.dtype == np.uint32
    for i in range(12):
        np.testing.assert_array_equal(draw_bits([5], i, 1, 21)[0], whole[i])
    assert len(np.unique(whole)) > 12 * 21 - 3  # no example shares its draws with another
    assert not np.array_equal(draw_bits([5, 1], 0, 12, 21), whole)
    far = draw_bits([5], 2**45, 2, 900)
    assert len(np.unique(far)) > 1790
    bits = np.unpackbits(draw_bits([1, 2], 0, 100, 64).view(np.uint8))
    assert bits.mean() == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("kind", ["uniform", "spatially_correlated"])
def test_levels_and_noise_are_spread_evenly(tasks, ids, kind):
    experiment = dataclasses.replace(EXPERIMENT, noise=Noise("linear", kind))
    batches = [training_stream(experiment, tasks, ids)[i] for i in range(200)]
    level = np.concatenate([b["level"] for b in batches])
    assert level.min() < 10
    assert level.max() > 989
    np.testing.assert_allclose(np.histogram(level, 4, (0, 1000))[0] / len(level), 0.25, atol=0.04)
    masked = np.concatenate([b["noised"] == MASK for b in batches])
    np.testing.assert_allclose(masked.mean(axis=0), 0.5, atol=0.06)  # each cell as often
    for low, high in ((0, 250), (250, 500), (500, 750), (750, 1000)):
        here = (level >= low) & (level < high)
        assert masked[here].mean() == pytest.approx((low + high) / 2000, abs=0.03)


def test_start_states_of_our_own(tasks, ids):
    """Some examples are masked whole or start from the model's answer; the others stay as drawn."""
    noise = Noise(all_masked=0.25, own_answers=0.5)
    changed = training_stream(dataclasses.replace(EXPERIMENT, noise=noise), tasks, ids)
    plain = training_stream(EXPERIMENT, tasks, ids)
    counts = np.zeros(2)
    for batch, before in ((changed[i], plain[i]) for i in range(250)):
        whole = batch["level"] == 1000
        assert (batch["noised"][whole] == MASK).all()
        assert (batch["reverse_targets"][whole, -1] == batch["target"][whole]).all()
        for name in ("level", "noised", "reverse_targets"):
            np.testing.assert_array_equal(batch[name][~whole], before[name][~whole])
        counts += whole.sum(), batch["own_answer"].sum()
        assert "own_answer" not in before
    np.testing.assert_allclose(counts / 2000, [0.25, 0.5], atol=0.04)


def test_offsets_are_spread_evenly(tasks, ids):
    stream = training_stream(dataclasses.replace(EXPERIMENT, seed=1), tasks, ids)
    target = np.concatenate([stream[i]["target"] for i in range(600)]).reshape(-1, 5, 5)
    colours = target >= 2
    row, col = colours.any(2).argmax(1), colours.any(1).argmax(1)
    away = (row > 0) | (col > 0)
    share = np.bincount((3 * row + col)[away], minlength=9)[1:] / away.sum()
    np.testing.assert_allclose(share, 1 / 8, atol=0.02)  # all outputs are 3x3


def test_a_resumed_stream_gives_the_identical_next_batch(tasks, ids):
    stream = training_stream(EXPERIMENT, tasks, ids)
    straight, resumed = batches_from(stream, 0), batches_from(stream, 3)
    for _ in range(3):
        next(straight)
    for _ in range(3):
        assert_batches_equal(next(straight), next(resumed))


@pytest.mark.parametrize("processes", [2, 4])
def test_hosts_share_one_global_stream(tasks, ids, processes):
    whole = training_stream(EXPERIMENT, tasks, ids)[6]
    parts = [training_stream(EXPERIMENT, tasks, ids, p, processes)[6] for p in range(processes)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in whole}
    assert_batches_equal(joined, whole)


def test_the_fingerprint_tells_streams_apart(tasks, ids):
    same = fingerprint(EXPERIMENT, tasks, ids)
    assert fingerprint(dataclasses.replace(EXPERIMENT, name="x"), tasks, ids) == same
    noise = dataclasses.replace(EXPERIMENT, noise=Noise(kind="spatially_correlated"))
    assert fingerprint(noise, tasks, ids) != same
    for field in ("all_masked", "own_answers"):
        noise = dataclasses.replace(EXPERIMENT, noise=Noise(**{field: 0.5}))
        assert fingerprint(noise, tasks, ids) != same
    assert fingerprint(EXPERIMENT, tasks[:2], puzzle_ids(tasks[:2], 4, 0)) != same
    assert fingerprint(EXPERIMENT, tasks, puzzle_ids(tasks, 3, 0)) != same


def test_evaluation_set(tasks, ids):
    tasks = [dataclasses.replace(task, role="evaluate") for task in tasks]
    rows = evaluation_rows(tasks, ids, None)
    assert len(rows) == (1 + 1 + 2) * 5  # test inputs x (identity and 4 augmentations)
    assert evaluation_rows(tasks, ids, 1).tolist()[:3] == [[0, 0, 1], [0, 0, 2], [1, 0, 6]]
    batches = list(evaluation_batches(tasks, ids, rows, np.arange(len(rows)), 5, 8))
    assert [len(b["row"]) for b in batches] == [8, 8, 8]
    assert batches[-1]["puzzle_id"].tolist()[4:] == [0] * 4  # filled up with the blank id
    k, t, puzzle_id = rows[9]
    wanted = augment(tasks[k].tests[t].input, ids.augmentation(puzzle_id))
    np.testing.assert_array_equal(crop(batches[1]["inputs"][1]), wanted)
    assert batches[1]["puzzle_id"][1] == puzzle_id


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_batch_is_what_its_objective_is_traced_on(tasks, ids, objective):
    experiment = dataclasses.replace(EXPERIMENT, objective=objective)
    batch = training_stream(experiment, tasks, ids)[0]
    expected = abstract_batch(experiment)
    assert {name: (x.shape, x.dtype) for name, x in batch.items()} == {
        name: (x.shape, x.dtype) for name, x in expected.items()
    }
    drm = training_stream(EXPERIMENT, tasks, ids)[0]
    for name in ("inputs", "target", "puzzle_id"):  # the same examples, whatever is drawn for them
        np.testing.assert_array_equal(batch[name], drm[name])


def test_the_fingerprint_holds_what_a_slot_draws(tasks, ids):
    trm = dataclasses.replace(EXPERIMENT, objective="trm")
    others = [
        EXPERIMENT,
        dataclasses.replace(EXPERIMENT, objective="sprm"),
        dataclasses.replace(trm, halting=Halting(8)),
        dataclasses.replace(trm, halting=Halting(16, 0.2)),
    ]
    assert len({fingerprint(x, tasks, ids) for x in [trm, *others]}) == 5


# --- windows of the canvas -----------------------------------------------------------------------
FIT = dataclasses.replace(
    EXPERIMENT,
    data=dataclasses.replace(
        EXPERIMENT.data, canvas="fit", windows=(4, 7, 12),
        only=("25d8a9c8", "44f52bb0", "a5f85a15", "67385a82", "834ec97d"),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def fit_tasks():
    return load_tasks(FIT.data.train, (), FIT.data.only)


@pytest.fixture(scope="module")
def fit_ids(fit_tasks):
    return puzzle_ids(fit_tasks, FIT.data.num_augmentations, FIT.seed)


def shows(whole, pair, augmentation, offset):
    """Whether both grids of a pair stand on the whole canvas, at this offset."""
    grids = [augment(grid, augmentation) for grid in (pair.input, pair.output)]
    if max(max(np.add(grid.shape, offset)) for grid in grids) > 12:
        return False
    return np.array_equal([to_tokens(grid, 12, offset) for grid in grids], whole.reshape(2, -1))


def test_an_example_stands_on_the_smallest_window_of_its_size(fit_tasks, fit_ids):
    stream = training_stream(FIT, fit_tasks, fit_ids)
    sides, moved = collections.Counter(), 0
    for batch in (stream[i] for i in range(60)):
        side = int(batch["inputs"].shape[1] ** 0.5)
        sides[side] += 1
        for row in range(8):
            task = fit_tasks[fit_ids.task[batch["puzzle_id"][row]]]
            augmentation = fit_ids.augmentation(batch["puzzle_id"][row])
            top, left = batch["corner"][row]
            assert 0 <= top <= 12 - side
            assert 0 <= left <= 12 - side
            moved += bool(top or left)
            whole = np.zeros((2, 12, 12), np.uint8)
            for i, name in enumerate(("inputs", "target")):
                window = batch[name][row].reshape(side, side)
                whole[i, top : top + side, left : left + side] = window
            colours = (whole >= 2).any(axis=0)
            offset = tuple(int(colours.any(axis).argmax()) for axis in (1, 0))
            same = [p for p in training_pairs(task) if shows(whole, p, augmentation, offset)]
            assert same, "the window shows what the whole canvas would"
            largest = max(max(g.shape) for g in (same[0].input, same[0].output))
            assert side == min(s for s in (4, 7, 12) if s > largest or s == 12)
    assert set(sides) == {4, 7, 12}
    assert moved > 100


def test_the_mix_of_windows_is_that_of_the_data(fit_tasks, fit_ids):
    """Over whole rounds each pair is seen as often as in visiting order."""
    stream = training_stream(FIT, fit_tasks, fit_ids)
    pairs = sum(len(training_pairs(task)) for task in fit_tasks)
    batches = 8 * pairs  # 64 epochs: 8 divides the examples of each side
    seen = collections.Counter()
    for i in range(batches):
        seen.update(fit_ids.task[stream[i]["puzzle_id"]].tolist())
    assert seen == {k: 64 * len(training_pairs(task)) for k, task in enumerate(fit_tasks)}


@pytest.mark.parametrize("processes", [2, 4])
def test_hosts_share_windows_too(fit_tasks, fit_ids, processes):
    for i in (0, 7, 1001):
        whole = training_stream(FIT, fit_tasks, fit_ids)[i]
        parts = [
            training_stream(FIT, fit_tasks, fit_ids, p, processes)[i] for p in range(processes)
        ]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in whole}
        assert_batches_equal(joined, whole)
        expected = abstract_batch(FIT, int(whole["inputs"].shape[1] ** 0.5))
        assert {name: (x.shape, x.dtype) for name, x in whole.items()} == {
            name: (x.shape, x.dtype) for name, x in expected.items()
        }


def test_windows_have_a_fingerprint_of_their_own(fit_tasks, fit_ids):
    data = dataclasses.replace(FIT.data, windows=(5, 12))
    whole = dataclasses.replace(FIT.data, canvas=12)
    others = [dataclasses.replace(FIT, data=x) for x in (FIT.data, data, whole)]
    assert len({fingerprint(x, fit_tasks, fit_ids) for x in others}) == 3


def of_shapes(*shapes):
    """Pairs of blank grids, given (height, width) of input and output, None where it is hidden."""
    return tuple(Pair(*(None if x is None else np.zeros(x, np.uint8) for x in p)) for p in shapes)


def test_first_windows_hold_the_question_and_an_output_as_expected():
    task = Task(
        "t",
        of_shapes(((2, 2), (3, 6)), ((3, 3), (2, 5))),  # no rule: 3 x 6 is the largest
        of_shapes(((2, 3), None), ((9, 2), None), ((12, 1), None)),
    )
    rows = np.array([[0, 0, 1], [0, 1, 1], [0, 2, 1], [0, 0, 2]])
    assert first_windows([task], rows, (4, 7, 10, 12)).tolist() == [1, 2, 3, 1]
    assert first_windows([task], rows, (12,)).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("shown", "asked", "expected"),
    [
        ([((2, 2), (2, 2)), ((9, 7), (9, 7))], (4, 5), (4, 5)),  # as large as the input
        ([((2, 2), (6, 1)), ((3, 4), (9, 2))], (5, 6), (15, 3)),  # 3 times as high, half as wide
        ([((2, 2), (3, 3)), ((9, 7), (3, 3))], (4, 5), (3, 3)),  # always the same
        ([((9, 9), (3, 3))], (6, 12), (2, 3)),  # both: a third, and always 3
        ([((2, 2), (4, 1)), ((3, 3), (5, 2))], (9, 9), (5, 2)),  # neither: the largest
        ([((2, 2), None), ((3, 3), (6, 6))], (4, 4), (6, 6)),  # what is hidden says nothing
        ([((2, 2), None)], (4, 5), (0, 0)),
        ([], (4, 5), (0, 0)),
    ],
)
def test_the_expected_shape_of_an_answer(shown, asked, expected):
    (test,) = of_shapes((asked, None))
    assert expected_shape(Task("t", of_shapes(*shown), (test,)), test) == expected


def test_nearly_all_answers_have_the_expected_shape_or_a_smaller_one():
    tasks = load_source("arc1/evaluation")
    fits = [
        all(
            np.less_equal(
                test.output.shape, np.maximum(expected_shape(task, test), test.input.shape)
            )
        )
        for task in tasks
        for test in task.tests
    ]
    assert np.mean(fits) > 0.97


def test_what_touches_the_border():
    tokens = np.ones((6, 3, 3), np.uint8)
    tokens[0, :2, :2] = 5  # closed by EOS
    tokens[1, :, 0] = 5
    tokens[2, 0] = 5
    tokens[3, :2, :2] = tokens[3, 2, 2] = 5  # a colour beyond the EOS is no part of the answer
    tokens[4] = 0
    tokens[5] = 11
    reaches = [False, True, True, False, False, True]
    assert touches_border(tokens.reshape(6, 9)).tolist() == reaches
