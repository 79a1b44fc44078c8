"""What is trained on: grids under augmentations, where they lie, and digests of all of it."""

import dataclasses
import hashlib

import numpy as np
import pytest

from drm_jax.errors import UsageError
from drm_jax.puzzles.arc.augment import augment, puzzle_ids
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.puzzles import ArcPuzzles
from drm_jax.puzzles.arc.tasks import MadePairs, Pair, Task, training_pairs
from drm_jax.puzzles.arc.tokens import to_tokens
from drm_jax.random_bits import draw_bits

PLAIN = Arc(
    train=("arc1/training",), evaluate=(), only=("0d3d703e", "25d8a9c8", "44f52bb0"), canvas=5,
    num_augmentations=4,
)  # fmt: skip
FIT = dataclasses.replace(
    PLAIN, canvas="fit", windows=(4, 7, 12),
    only=("25d8a9c8", "44f52bb0", "a5f85a15", "67385a82", "834ec97d"),
)  # fmt: skip


@pytest.fixture(scope="module")
def plain():
    return PLAIN.load(0, {})


@pytest.fixture(scope="module")
def fit():
    return FIT.load(0, {})


def drawn(puzzles, count, seed=0):
    """Examples and variants, each as likely, and bits."""
    rng = np.random.default_rng(seed)
    example_N = rng.integers(len(puzzles.board_E), size=count)
    group_N = np.repeat(np.arange(len(puzzles.tasks)), puzzles.examples_G)[example_N]
    return example_N, rng.integers(puzzles.variants_G[group_N]), draw_bits((seed,), 0, count, 3)


# Seed 7, written down once from the version that had one class for all of the stream: for
# (side, first example of its row), examples, variants, and a digest of the arrays.
BEFORE = {
    "one side": [
        (6, 800, [8, 11, 13, 10, 1, 3, 0, 2], [1, 1, 1, 1, 5, 5, 5, 5], "a93358bde0ece04c"),
    ],
    "windows": [
        (4, 520, [14, 2, 3, 0, 1, 17, 4, 5], [2, 5, 5, 5, 5, 4, 4, 4], "83b519304b934926"),
        (7, 200, [15, 19, 12, 13, 11, 19, 11, 13], [2, 4, 2, 2, 2, 3, 5, 5], "f6c390ce97f7132f"),
        (12, 80, [16, 18, 18, 16, 16, 18, 16, 18], [2, 4, 3, 0, 3, 5, 4, 5], "ebed6158dee0974d"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "batches"),
    [(dataclasses.replace(PLAIN, canvas=6), BEFORE["one side"]), (FIT, BEFORE["windows"])],
    ids=BEFORE,
)
def test_the_same_bits_as_before(family, batches):
    evaluated = dataclasses.replace(
        family, train=(), evaluate=("arc1/training",), num_augmentations=5
    )
    puzzles = evaluated.load(7, {})
    for side, first, examples, variants, expected in batches:
        bits = draw_bits((7, side, 0), first, 8, 3)
        rows = puzzles.training_rows(np.array(examples), np.array(variants), bits, (side, side))
        content = b"".join(rows[name].tobytes() for name in rows)
        assert list(rows)[:3] == ["inputs", "target", "puzzle_id"]
        assert hashlib.sha256(content).hexdigest()[:16] == expected


def test_an_example_by_hand(plain):
    """Pair 1 of task 1 under its second augmentation, laid at (2, 1)."""
    example, task = plain.examples_G[0] + 1, plain.tasks[1]
    bits = np.array([[2**32 - 1, 2**32 - 1, 2**31]], np.uint32)
    rows = plain.training_rows(np.array([example]), np.array([2]), bits, (5, 5))
    puzzle_id = plain.ids.of_task[1][2]
    assert rows["puzzle_id"].tolist() == [puzzle_id]
    for name, grid in zip(("inputs", "target"), dataclasses.astuple(training_pairs(task)[1])):
        shown = augment(grid, plain.ids.augmentation(puzzle_id))
        assert shown.shape == (3, 3)
        np.testing.assert_array_equal(rows[name][0], to_tokens(shown, 5, (2, 1)))
    assert {name: (x.shape, x.dtype.name) for name, x in rows.items()} == {
        "inputs": ((1, 25), "uint8"), "target": ((1, 25), "uint8"), "puzzle_id": ((1,), "int32"),
    }  # fmt: skip


def test_one_pair_in_its_siblings_stays_at_the_corner(plain):
    rows = plain.training_rows(*drawn(plain, 3000), (5, 5))
    at_corner = rows["target"][:, 0] >= 2
    # 3x3 grids have 9 offsets on a 5x5 canvas; tasks have 5, 5 and 8 pairs
    per_task = [1 / n + (1 - 1 / n) / 9 for n in (5, 5, 8)]
    expected = np.average(per_task, weights=[5, 5, 8])
    assert at_corner.mean() == pytest.approx(expected, abs=0.03)


def test_offsets_are_spread_evenly(plain):
    target = plain.training_rows(*drawn(plain, 5000, 1), (5, 5))["target"].reshape(-1, 5, 5)
    colours = target >= 2
    row, col = colours.any(2).argmax(1), colours.any(1).argmax(1)
    away = (row > 0) | (col > 0)
    share = np.bincount((3 * row + col)[away], minlength=9)[1:] / away.sum()
    np.testing.assert_allclose(share, 1 / 8, atol=0.02)  # all outputs are 3x3


def test_a_window_shows_what_the_whole_canvas_would(fit):
    example_N, variant_N, bits_Nx3 = drawn(fit, 600)
    whole = fit.training_rows(example_N, variant_N, bits_Nx3, (12, 12))
    assert not whole["corner"].any()
    moved = 0
    for which, side in enumerate((4, 7, 12)):
        here = fit.board_E[example_N] == which
        assert here.any()
        rows = fit.training_rows(example_N[here], variant_N[here], bits_Nx3[here], (side, side))
        np.testing.assert_array_equal(rows["puzzle_id"], whole["puzzle_id"][here])
        for name in ("inputs", "target"):
            windows = zip(rows[name].reshape(-1, side, side), rows["corner"], whole[name][here])
            for window, (top, left), expected in windows:
                on_whole = np.zeros((12, 12), np.uint8)
                on_whole[top : top + side, left : left + side] = window
                np.testing.assert_array_equal(on_whole.reshape(-1), expected)
                moved += bool(top or left)
    assert moved > 100
    pairs = [pair for task in fit.tasks for pair in training_pairs(task)]
    for pair, which in zip(pairs, fit.board_E, strict=True):
        largest = max(*pair.input.shape, *pair.output.shape)
        assert (4, 7, 12)[which] == min(s for s in (4, 7, 12) if s > largest or s == 12)


def test_digests_tell_apart_what_can_be_trained_on(plain):
    boards, tasks, ids = ((5, 5),), plain.tasks, plain.ids
    fewer, others = puzzle_ids(tasks, 3, 0), puzzle_ids(tasks, 4, 1)
    made = [
        plain,
        ArcPuzzles(tasks[:2], puzzle_ids(tasks[:2], 4, 0), boards),
        ArcPuzzles(tasks, fewer, boards),
        ArcPuzzles(tasks, others, boards),
        ArcPuzzles(tasks, ids, ((6, 6),)),
    ]
    assert len({puzzles.training_digest() for puzzles in made}) == len(made)
    assert PLAIN.load(0, {}).training_digest() == plain.training_digest()


def test_made_pairs_are_groups_of_about_four_with_the_variants_of_their_task(plain):
    more = training_pairs(plain.tasks[2])[:7]
    made = MadePairs("made", more, ())
    tasks = [
        dataclasses.replace(plain.tasks[0], made=(made,)),
        plain.tasks[1],
        Task("alone", (), (), made=(made, dataclasses.replace(made, pairs=more[:3]))),
    ]
    ids = puzzle_ids(tasks, 4, 0)
    puzzles = ArcPuzzles(tasks, ids, ((5, 5),))
    assert puzzles.examples_G.tolist() == [5, 3, 4, 5, 3, 4, 3]
    assert puzzles.variants_G.tolist() == [5] * 7
    assert puzzles.visits_G.tolist() == [1] * 7
    # the fourth made pair of the first task, then the last one of the third task
    example_N, variant_N = np.array([5 + 3, puzzles.examples_G.sum() - 1]), np.array([2, 4])
    rows = puzzles.training_rows(example_N, variant_N, np.zeros((2, 3), np.uint32), (5, 5))
    assert rows["puzzle_id"].tolist() == [ids.of_task[0][2], ids.of_task[2][4]]
    for row, pair in enumerate((more[3], more[2])):
        shown = augment(pair.output, ids.augmentation(rows["puzzle_id"][row]))
        np.testing.assert_array_equal(rows["target"][row], to_tokens(shown, 5))


def test_the_digest_tells_apart_how_pairs_are_grouped_and_visited(plain):
    own = plain.tasks[0]
    pairs = training_pairs(own)
    tasks = [
        Task("t", pairs, (), named="a"),
        Task("t", pairs[:2], (), named="a", made=(MadePairs("b", pairs[2:], ()),)),
    ]
    ids = puzzle_ids(tasks[:1], 4, 0)
    shares = (None, {"a": 1, "b": 1}, {"a": 1, "b": 3})
    made = [ArcPuzzles(tasks[:1], ids, ((5, 5),))]
    made += [ArcPuzzles(tasks[1:], ids, ((5, 5),), shares=of_one) for of_one in shares]
    digests = [puzzles.training_digest() for puzzles in made]
    assert digests[1] == digests[2]  # the same visits
    assert len(set(digests)) == 3


def test_digests_of_tests_and_of_what_was_trained_on():
    a, b, c = (Pair(*np.full((2, 1, 1), colour, np.uint8)) for colour in (0, 1, 2))
    shown = Pair(a.input, b.output)
    task = Task("t", (shown,), (c,), role="evaluate")
    other = dataclasses.replace(task, tests=(Pair(c.input, None),))
    made = [ArcPuzzles([t], puzzle_ids([t], 0, 0), ((2, 2),)) for t in (task, other)]
    assert made[0].tests_digest() != made[1].tests_digest()
    digests = made[0].trained_digests()
    assert made[0].answered_in(digests) == []
    leaking = ArcPuzzles([Task("u", (c,), ())], puzzle_ids([Task("u", (c,), ())], 0, 0), ((2, 2),))
    assert made[0].answered_in(leaking.trained_digests()) == ["t"]


def test_fewer_augmentations_than_are_asked_for_are_said():
    puzzles = dataclasses.replace(PLAIN, train=(), evaluate=("arc1/training",)).load(0, {})
    assert [puzzles.notes_on_questions(asked) for asked in (None, 0, 4)] == [(), (), ()]
    assert puzzles.notes_on_questions(5_000) == (
        "evaluate.num_augmentations: 5,000 asked for; 3 of 3 evaluation tasks have fewer, down to "
        "4: as many as were trained on (data.num_augmentations, data.identifiers)",
    )
    assert puzzles.questions(5_000).count == puzzles.questions(4).count
    with pytest.raises(UsageError, match=r"^evaluate\.num_augmentations: 2,903,040: there are 2,9"):
        puzzles.ask("25d8a9c8", 2_903_040)
