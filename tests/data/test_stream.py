import collections
import dataclasses

import jax
import numpy as np
import pytest

from drm_jax.config import Evaluate, Experiment, Train, make_part, with_changes
from drm_jax.data.stream import BatchMaker, BatchOrder, VisitOrder, batches_from, fingerprint
from drm_jax.methods.carried import Halting
from drm_jax.methods.denoising import Noise
from drm_jax.methods.drm import Drm, RecursiveDenoising
from drm_jax.methods.trm import Trm
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.arc.augment import augment, puzzle_ids
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.puzzles import ArcPuzzles
from drm_jax.puzzles.arc.tasks import training_pairs
from drm_jax.puzzles.arc.tokens import MASK, to_tokens
from drm_jax.random_bits import draw_bits
from drm_jax.run.setup import set_up, training_stream
from drm_jax.training.batches import abstract_batch

METHODS = ("drm", "trm", "sprm", "diffusion")
EXPERIMENT = Experiment(
    "stream",
    data=Arc(
        train=("arc1/training",),
        evaluate=(),
        only=("0d3d703e", "25d8a9c8", "44f52bb0"),
        canvas=5,
        num_augmentations=4,
    ),
    model=Transformer(hidden=16, heads=2, prefix=1),
    train=Train(batch_size=8),
    evaluate=Evaluate(batch_size=8),
)


def loaded(experiment) -> ArcPuzzles:
    return experiment.data.load(experiment.seed, {})


def stream_of(experiment, puzzles, process=0, processes=1) -> BatchMaker:
    return BatchMaker(
        puzzles,
        experiment.data.boards,
        experiment.data.vocabulary.mask,
        experiment.method,
        seed=experiment.seed,
        batch_size=experiment.train.batch_size,
        process=process,
        processes=processes,
    )


def fingerprint_of(experiment, puzzles) -> str:
    return fingerprint(
        puzzles, experiment.data.boards, experiment.method, experiment.seed,
        experiment.train.batch_size,
    )  # fmt: skip


@pytest.fixture(scope="module")
def puzzles():
    return loaded(EXPERIMENT)


def assert_batches_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


# Seed 0, written down once: the stream must never change under a run that goes on.
# (task, pair), puzzle id, noise level, offset, masked cells
TWO_BATCHES = [
    [((1, 3), 10, 335, (1, 2), 6), ((1, 0), 10, 355, (1, 2), 8), ((1, 1), 10, 865, (2, 2), 22),
     ((1, 2), 10, 612, (0, 0), 20), ((1, 4), 10, 966, (1, 0), 25), ((0, 2), 1, 746, (0, 2), 20),
     ((0, 3), 1, 958, (2, 1), 25), ((0, 4), 1, 298, (1, 1), 3)],
    [((0, 0), 1, 943, (1, 0), 25), ((0, 1), 1, 200, (0, 0), 1), ((2, 7), 11, 834, (2, 1), 25),
     ((2, 2), 11, 189, (1, 0), 2), ((2, 0), 11, 108, (2, 2), 0), ((2, 3), 11, 833, (0, 1), 23),
     ((2, 1), 11, 954, (0, 0), 25), ((2, 6), 11, 697, (0, 0), 19)],
]  # fmt: skip


def test_two_batches_by_hand(puzzles):
    stream = stream_of(EXPERIMENT, puzzles)
    for batch, expected in zip((stream[0], stream[1]), TWO_BATCHES, strict=True):
        for row, ((task, index), puzzle_id, level, offset, masked) in enumerate(expected):
            pair = training_pairs(puzzles.tasks[task])[index]
            augmentation = puzzles.ids.augmentation(puzzle_id)
            assert (batch["puzzle_id"][row], batch["level"][row]) == (puzzle_id, level)
            for name, grid in (("inputs", pair.input), ("target", pair.output)):
                tokens = to_tokens(augment(grid, augmentation), 5, offset)
                np.testing.assert_array_equal(batch[name][row], tokens)
            hidden = batch["noised"][row] == MASK
            assert hidden.sum() == masked
            np.testing.assert_array_equal(batch["noised"][row][~hidden], tokens[~hidden])


def visits(puzzles, seed):
    return VisitOrder(puzzles.examples_G, puzzles.variants_G, seed)


def test_an_epoch_visits_every_example_once_and_shares_a_variant_within_a_visit(puzzles):
    order = visits(puzzles, 3)
    group_E = np.repeat(np.arange(3), puzzles.examples_G)
    sizes = collections.Counter()
    for epoch in (0, 1, 7):
        start = epoch * order.epoch_length
        example, variant = order.at(np.arange(start, start + order.epoch_length))
        assert sorted(example.tolist()) == list(range(order.epoch_length))
        group = group_E[example]
        assert (np.diff(group) != 0).sum() == len(puzzles.tasks) - 1
        for i in range(3):
            assert len(set(variant[group == i].tolist())) == 1
            assert 0 <= variant[group == i][0] < puzzles.variants_G[i]
            sizes[(group == i).sum()] += 1
    assert sizes == {5: 6, 8: 3}
    # over two epochs at once, and one place at a time
    across = order.at(np.arange(order.epoch_length - 3, order.epoch_length + 3))
    one_by_one = [order.at(np.array([order.epoch_length - 3 + i])) for i in range(6)]
    np.testing.assert_array_equal(across, np.concatenate(one_by_one, axis=1))
    example, variant = order.at(np.arange(30) * order.epoch_length)
    firsts = set(zip(group_E[example].tolist(), variant.tolist(), strict=True))
    assert len(firsts) > 5  # other groups and variants in other epochs
    orders = {tuple(order.at(np.arange(18) + 18 * e)[0].tolist()) for e in range(30)}
    assert len(orders) == 30


def test_every_visit_is_equally_likely(puzzles):
    order = visits(puzzles, 0)
    epochs = 2000
    example, variant = order.at(np.arange(epochs * order.epoch_length))
    group = np.repeat(np.arange(3), puzzles.examples_G)[example]
    first, group_of_first = example.reshape(epochs, -1)[:, 0], group.reshape(epochs, -1)[:, 0]
    share = np.bincount(group_of_first, minlength=3) / epochs
    np.testing.assert_allclose(share, 1 / 3, atol=0.04)
    share = np.bincount(first[group_of_first == 0], minlength=5)[:5] / (group_of_first == 0).sum()
    np.testing.assert_allclose(share, 1 / 5, atol=0.06)
    for k, variants in enumerate(puzzles.variants_G):
        visited = np.bincount(variant[group == k], minlength=variants) / epochs
        np.testing.assert_allclose(visited / puzzles.examples_G[k], 1 / variants, atol=0.04)


VISITS_G = np.array([3, 1, 2])


def test_an_epoch_visits_each_group_as_often_as_the_family_says(puzzles):
    order = VisitOrder(puzzles.examples_G, puzzles.variants_G, 3, VISITS_G)
    group_E = np.repeat(np.arange(3), puzzles.examples_G)
    assert order.epoch_length == (VISITS_G * puzzles.examples_G).sum()
    differ = 0
    for epoch in (0, 1, 7):
        places = np.arange(order.epoch_length) + epoch * order.epoch_length
        example, variant = order.at(places)
        np.testing.assert_array_equal(np.bincount(example), VISITS_G[group_E])
        # each visit has all of its group's examples next to each other, and a variant of its own
        at, drawn = 0, collections.defaultdict(set)
        while at < len(example):
            group = group_E[example[at]]
            visit = slice(at, at + puzzles.examples_G[group])
            assert sorted(example[visit]) == np.flatnonzero(group_E == group).tolist()
            assert len(set(variant[visit].tolist())) == 1
            drawn[group].add(variant[at])
            at = visit.stop
        differ += len(drawn[0]) > 1
    assert differ


def test_one_visit_each_gives_the_same_bits(puzzles):
    plain = visits(puzzles, 5)
    ones = VisitOrder(puzzles.examples_G, puzzles.variants_G, 5, np.ones(3, np.int64))
    places = np.arange(100)
    np.testing.assert_array_equal(ones.at(places), plain.at(places), strict=True)


def test_more_visits_keep_every_epoch_alike_on_windows_too(fit_puzzles):
    visits_G = np.array([1, 4, 2, 1, 3])
    order = VisitOrder(fit_puzzles.examples_G, fit_puzzles.variants_G, 0, visits_G)
    batches = BatchOrder(order, fit_puzzles.board_E, 8)
    group_E = np.repeat(np.arange(5), fit_puzzles.examples_G)
    seen = np.zeros(len(group_E), np.int64)
    for batch in range(order.epoch_length):  # 8 epochs: 8 divides the examples of each board
        board, first = batches[batch]
        example, _ = order.at(batches.places(board, np.arange(first, first + 8)))
        assert set(fit_puzzles.board_E[example].tolist()) == {board}
        np.add.at(seen, example, 1)
    np.testing.assert_array_equal(seen, 8 * visits_G[group_E])


def test_rows_are_the_visits(puzzles):
    """Of a variant the puzzle id, of an example its task."""
    order, stream = visits(puzzles, EXPERIMENT.seed), stream_of(EXPERIMENT, puzzles)
    group_E = np.repeat(np.arange(3), puzzles.examples_G)
    for i in range(5):
        example, variant = order.at(np.arange(8 * i, 8 * i + 8))
        wanted = [puzzles.ids.of_task[group_E[e]][v] for e, v in zip(example, variant, strict=True)]
        assert stream[i]["puzzle_id"].tolist() == wanted


def test_an_example(puzzles):
    batch = stream_of(EXPERIMENT, puzzles)[5]
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


def test_one_pair_in_its_siblings_stays_at_the_corner(puzzles):
    stream = stream_of(EXPERIMENT, puzzles)
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
def test_levels_and_noise_are_spread_evenly(puzzles, kind):
    experiment = dataclasses.replace(EXPERIMENT, method=Drm(noise=Noise("linear", kind)))
    batches = [stream_of(experiment, puzzles)[i] for i in range(200)]
    level = np.concatenate([b["level"] for b in batches])
    assert level.min() < 10
    assert level.max() > 989
    np.testing.assert_allclose(np.histogram(level, 4, (0, 1000))[0] / len(level), 0.25, atol=0.04)
    masked = np.concatenate([b["noised"] == MASK for b in batches])
    np.testing.assert_allclose(masked.mean(axis=0), 0.5, atol=0.06)  # each cell as often
    for low, high in ((0, 250), (250, 500), (500, 750), (750, 1000)):
        here = (level >= low) & (level < high)
        assert masked[here].mean() == pytest.approx((low + high) / 2000, abs=0.03)


def test_start_states_of_our_own(puzzles):
    """Some examples are masked whole or start from the model's answer; the others stay as drawn."""
    noise = Noise(all_masked=0.25, own_answers=0.5)
    changed = stream_of(dataclasses.replace(EXPERIMENT, method=Drm(noise=noise)), puzzles)
    plain = stream_of(EXPERIMENT, puzzles)
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


def test_random_symbols_follow_from_a_seed_of_each_example(puzzles):
    """All else stays as it is drawn without them."""
    replaced = stream_of(
        dataclasses.replace(EXPERIMENT, method=Drm(noise=Noise(replace="symbols"))), puzzles
    )
    plain = stream_of(EXPERIMENT, puzzles)
    seeds = []
    for i in range(20):
        rows = dict(replaced[i])
        seeds.append(rows.pop("symbol_seed"))
        jax.tree.map(np.testing.assert_array_equal, rows, dict(plain[i]))
    seeds = np.concatenate(seeds)
    assert seeds.dtype == np.uint32
    assert len(set(seeds.tolist())) == len(seeds)
    np.testing.assert_array_equal(replaced[7]["symbol_seed"], replaced[7]["symbol_seed"])


def test_offsets_are_spread_evenly(puzzles):
    stream = stream_of(dataclasses.replace(EXPERIMENT, seed=1), puzzles)
    target = np.concatenate([stream[i]["target"] for i in range(600)]).reshape(-1, 5, 5)
    colours = target >= 2
    row, col = colours.any(2).argmax(1), colours.any(1).argmax(1)
    away = (row > 0) | (col > 0)
    share = np.bincount((3 * row + col)[away], minlength=9)[1:] / away.sum()
    np.testing.assert_allclose(share, 1 / 8, atol=0.02)  # all outputs are 3x3


def test_a_resumed_stream_gives_the_identical_next_batch():
    stream = training_stream(set_up(EXPERIMENT))
    straight, resumed = batches_from(stream, 0), batches_from(stream, 3)
    for _ in range(3):
        next(straight)
    for _ in range(3):
        assert_batches_equal(next(straight), next(resumed))


@pytest.mark.parametrize("processes", [2, 4])
def test_hosts_share_one_global_stream(puzzles, processes):
    whole = stream_of(EXPERIMENT, puzzles)[6]
    parts = [stream_of(EXPERIMENT, puzzles, p, processes)[6] for p in range(processes)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in whole}
    assert_batches_equal(joined, whole)


def test_the_fingerprint_tells_streams_apart(puzzles):
    same = fingerprint_of(EXPERIMENT, puzzles)
    assert fingerprint_of(dataclasses.replace(EXPERIMENT, name="x"), puzzles) == same
    for noise in (
        Noise(kind="spatially_correlated"), Noise(all_masked=0.5), Noise(own_answers=0.5),
        Noise(replace="symbols"),
    ):  # fmt: skip
        noised = dataclasses.replace(EXPERIMENT, method=Drm(noise=noise))
        assert fingerprint_of(noised, puzzles) != same
    at_test = Drm(denoising=RecursiveDenoising(remask="confidence", carry_z=False))
    assert fingerprint_of(dataclasses.replace(EXPERIMENT, method=at_test), puzzles) == same
    for changes in ({"seed": 1}, {"train.batch_size": 16}, {"data.canvas": 6}):
        assert fingerprint_of(with_changes(EXPERIMENT, changes), puzzles) != same
    tasks, boards = puzzles.tasks, EXPERIMENT.data.boards
    for few, ids in (
        (tasks[:2], puzzle_ids(tasks[:2], 4, 0)), (tasks, puzzle_ids(tasks, 3, 0))
    ):  # fmt: skip
        assert fingerprint_of(EXPERIMENT, ArcPuzzles(few, ids, boards)) != same


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_what_its_method_is_traced_on(puzzles, method):
    experiment = with_changes(EXPERIMENT, {"method": method})
    batch = stream_of(experiment, puzzles)[0]
    expected = abstract_batch(experiment.method, experiment.data.boards, MASK, 8)
    assert {name: (x.shape, x.dtype) for name, x in batch.items()} == {
        name: (x.shape, x.dtype) for name, x in expected.items()
    }
    drm = stream_of(EXPERIMENT, puzzles)[0]
    for name in ("inputs", "target", "puzzle_id"):  # the same examples, whatever is drawn for them
        np.testing.assert_array_equal(batch[name], drm[name])


def test_the_fingerprint_holds_what_a_slot_draws(puzzles):
    methods = [
        EXPERIMENT.method,
        Trm(),
        make_part("method", "sprm"),
        Trm(halting=Halting(8)),
        Trm(halting=Halting(16, 0.2)),
    ]
    streams = [dataclasses.replace(EXPERIMENT, method=method) for method in methods]
    assert len({fingerprint_of(x, puzzles) for x in streams}) == 5


# --- windows of the canvas -----------------------------------------------------------------------
FIT = with_changes(
    EXPERIMENT,
    {
        "data.canvas": "fit",
        "data.windows": (4, 7, 12),
        "data.only": ("25d8a9c8", "44f52bb0", "a5f85a15", "67385a82", "834ec97d"),
    },
)


@pytest.fixture(scope="module")
def fit_puzzles():
    return loaded(FIT)


def shows(whole, pair, augmentation, offset):
    """Whether both grids of a pair stand on the whole canvas, at this offset."""
    grids = [augment(grid, augmentation) for grid in (pair.input, pair.output)]
    if max(max(np.add(grid.shape, offset)) for grid in grids) > 12:
        return False
    return np.array_equal([to_tokens(grid, 12, offset) for grid in grids], whole.reshape(2, -1))


def test_an_example_stands_on_the_smallest_window_of_its_size(fit_puzzles):
    stream = stream_of(FIT, fit_puzzles)
    sides, moved = collections.Counter(), 0
    for batch in (stream[i] for i in range(60)):
        side = int(batch["inputs"].shape[1] ** 0.5)
        sides[side] += 1
        for row in range(8):
            task = fit_puzzles.tasks[fit_puzzles.ids.task[batch["puzzle_id"][row]]]
            augmentation = fit_puzzles.ids.augmentation(batch["puzzle_id"][row])
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


def test_the_mix_of_windows_is_that_of_the_data(fit_puzzles):
    """Over whole rounds each pair is seen as often as in visiting order."""
    stream = stream_of(FIT, fit_puzzles)
    pairs = sum(len(training_pairs(task)) for task in fit_puzzles.tasks)
    batches = 8 * pairs  # 64 epochs: 8 divides the examples of each side
    seen = collections.Counter()
    for i in range(batches):
        seen.update(fit_puzzles.ids.task[stream[i]["puzzle_id"]].tolist())
    assert seen == {k: 64 * len(training_pairs(task)) for k, task in enumerate(fit_puzzles.tasks)}


@pytest.mark.parametrize("processes", [2, 4])
def test_hosts_share_windows_too(fit_puzzles, processes):
    for i in (0, 7, 1001):
        whole = stream_of(FIT, fit_puzzles)[i]
        parts = [stream_of(FIT, fit_puzzles, p, processes)[i] for p in range(processes)]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in whole}
        assert_batches_equal(joined, whole)
        side = int(whole["inputs"].shape[1] ** 0.5)
        expected = abstract_batch(FIT.method, FIT.data.boards, MASK, 8, (side, side))
        assert {name: (x.shape, x.dtype) for name, x in whole.items()} == {
            name: (x.shape, x.dtype) for name, x in expected.items()
        }


def test_windows_have_a_fingerprint_of_their_own():
    changes = ({}, {"data.windows": (5, 12)}, {"data.canvas": 12})
    others = [with_changes(FIT, of_one) for of_one in changes]
    assert len({fingerprint_of(x, loaded(x)) for x in others}) == 3
