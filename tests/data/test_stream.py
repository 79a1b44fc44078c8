import collections
import dataclasses
import itertools

import numpy as np
import pytest

from drm_jax.arc.augment import augment, puzzle_ids
from drm_jax.arc.roles import load_tasks
from drm_jax.arc.tasks import training_pairs
from drm_jax.arc.tokens import MASK, crop, to_tokens
from drm_jax.config import OBJECTIVES, Data, Evaluate, Experiment, Halting, Model, Noise, Train
from drm_jax.data.evaluation import evaluation_batches, evaluation_rows
from drm_jax.data.stream import VisitOrder, batches_from, fingerprint, training_stream
from drm_jax.train.objectives import abstract_batch

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
    [((2, 4), 13, 257, (0, 2), 5), ((2, 6), 13, 117, (0, 2), 0), ((2, 2), 13, 59, (2, 0), 0),
     ((2, 7), 13, 279, (0, 1), 3), ((2, 3), 13, 522, (2, 1), 14), ((2, 5), 13, 274, (0, 0), 2),
     ((2, 1), 13, 784, (0, 2), 23), ((2, 0), 13, 290, (0, 1), 3)],
    [((0, 0), 2, 95, (0, 0), 0), ((0, 2), 2, 533, (2, 2), 10), ((0, 3), 2, 445, (0, 0), 13),
     ((0, 4), 2, 429, (0, 0), 12), ((0, 1), 2, 814, (0, 0), 23), ((1, 2), 8, 697, (1, 1), 19),
     ((1, 1), 8, 557, (2, 1), 14), ((1, 3), 8, 854, (0, 0), 25)],
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
    for epoch in (0, 1, 7):
        places = range(epoch * order.epoch_length, (epoch + 1) * order.epoch_length)
        seen = collections.Counter(id(order[i][0]) for i in places)
        assert len(seen) == order.epoch_length
        visits = [order[i][1] for i in places]
        changes = sum(a != b for a, b in itertools.pairwise(visits))
        assert changes == len(tasks) - 1
    firsts = {order[e * order.epoch_length][1] for e in range(30)}
    assert len(firsts) > 5  # other tasks and augmentations in other epochs


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
    assert fingerprint(EXPERIMENT, tasks[:2], puzzle_ids(tasks[:2], 4, 0)) != same
    assert fingerprint(EXPERIMENT, tasks, puzzle_ids(tasks, 3, 0)) != same


def test_evaluation_set(tasks, ids):
    tasks = [dataclasses.replace(task, role="evaluate") for task in tasks]
    rows = evaluation_rows(tasks, ids, None)
    assert len(rows) == (1 + 1 + 2) * 5  # test inputs x (identity and 4 augmentations)
    assert evaluation_rows(tasks, ids, 1).tolist()[:3] == [[0, 0, 1], [0, 0, 2], [1, 0, 6]]
    batches = list(evaluation_batches(tasks, ids, rows, 5, 8))
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
