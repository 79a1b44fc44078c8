"""Puzzles on a board, answered pass by pass as a test answers them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from workdirs import quiet

from drm_jax.config import with_changes
from drm_jax.errors import UsageError
from drm_jax.io.files import work_path
from drm_jax.methods.drm import Drm
from drm_jax.play.boards import MASKED, MOST_ROLLOUTS, Asked, BoardPlayer, described, verdict
from drm_jax.puzzles.fixed import read_board
from drm_jax.run.loop import train
from drm_jax.solve.weights import find_source
from experiments.solve_maze import experiment as maze
from experiments.solve_sudoku import experiment as sudoku

TINY = {
    "model.hidden": 8,
    "model.swiglu_multiple": 8,
    "train.steps": 1,
    "train.batch_size": 4,
    "evaluate.every": 0,
    "evaluate.denoise_steps": 3,
    "data.train_puzzles": 8,
    "data.test_puzzles": 0,
    "data.num_augmentations": 0,
}
RUNS = {
    "sudoku, trm": (sudoku, {"data.side": 4, "data.clues": 0}),
    "sudoku, drm": (sudoku, {"data.side": 4, "data.clues": 0, "method": "drm"}),
    "maze, drm": (maze, {"data.side": 5, "data.least_difficulty": 2}),
}


@pytest.fixture(scope="module", params=RUNS)
def player(request, tmp_path_factory):
    make, changes = RUNS[request.param]
    workdir = work_path(tmp_path_factory.mktemp("play") / "run")
    train(with_changes(make(), TINY | changes), workdir, quiet())
    return BoardPlayer(find_source(str(workdir)), print)


def events(player, question, **options):
    asked = Asked(question, options.pop("passes", 3), **options)
    return list(player.answer(asked, lambda: False))


def puzzle(player) -> np.ndarray:
    return player.family.draw(player.family.levels[0], 1)


def passes_of(found):
    return [event for event in found if event["event"] == "pass"]


def test_passes_are_those_of_a_test(player):
    """One after the other, by another program, they give what `Method.answer` gives."""
    question = puzzle(player)
    found = events(player, question, rollouts=3, seed=5)
    network, weights = player._network_and_weights
    first, cells = player.family.vocabulary.first, question.size
    key_B = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(5), n))(jnp.arange(3))
    rows_BxD = jnp.broadcast_to(jnp.asarray(weights.row_D), (3, len(weights.row_D)))
    inputs_BxS = jnp.tile(jnp.asarray(question.reshape(-1) + first, jnp.uint8), (3, 1))
    method = player._experiment.method
    expected = jax.jit(
        lambda: method.answer(
            network.at_window(cells),
            weights.network,
            weights.constants,
            inputs_BxS,
            rows_BxD,
            key_B,
            steps=3,
            pad_outside=lambda x: x,
        )
    )()
    steps = passes_of(found)
    assert [step["number"] for step in steps] == [1, 2, 3]
    mask = player.family.vocabulary.mask
    for n, step in enumerate(steps):
        for b, rollout in enumerate(step["rollouts"]):
            predicted = np.asarray(expected.step_predicted[n, b])
            np.testing.assert_array_equal(rollout["board"], symbols_of(predicted, first, mask))
            sure = np.asarray(expected.step_confidence[n, b], int)
            assert np.abs(np.array(rollout["confidence"]) - sure).max() <= 1  # rounding
            halting = 1 / (1 + np.exp(-float(expected.step_q_halt[n, b])))
            assert rollout["halting"] == pytest.approx(halting, abs=2e-4)
            if rollout["began"] is None:
                assert method.test_levels(3)[n] < 0
            else:
                tokens = np.asarray(expected.step_tokens[n, b])
                np.testing.assert_array_equal(rollout["began"], symbols_of(tokens, first, mask))


def symbols_of(tokens, first, mask):
    inside = (tokens >= first) & (tokens < mask)
    return np.where(tokens == mask, MASKED, np.where(inside, tokens.astype(int) - first, 0))


def test_a_rollout_under_a_symmetry_is_turned_back(player):
    """The network's answer to the puzzle under the symmetry, undone, cell by cell."""
    question, family = puzzle(player), player.family
    found = events(player, question, rollouts=2, symmetric=True, seed=3)
    words = found[0]["rollouts"]
    assert words[0] == "as it is"
    (symmetry_A,) = family.symmetries(3, np.zeros(1, int), np.ones(1, int))
    assert words[1] == family.augmentation_words(symmetry_A) != "as it is"
    # asked the puzzle as the second rollout saw it, the network gives the same under the symmetry
    turned = family.augment(question + family.vocabulary.first, symmetry_A)
    plain = events(player, turned - family.vocabulary.first, rollouts=2, seed=3)
    last, other = (passes_of(of)[0]["rollouts"][1] for of in (found, plain))
    first, mask = family.vocabulary.first, family.vocabulary.mask
    board = np.array(other["board"]).reshape(family.board)
    tokens = np.where(board == MASKED, mask, board + first).astype(np.uint8)
    undone = family.undo(tokens, symmetry_A).reshape(-1)
    np.testing.assert_array_equal(last["board"], symbols_of(undone, first, mask))


def test_the_rules_are_looked_at_each_pass(player):
    question, family = puzzle(player), player.family
    for step in passes_of(events(player, question)):
        (rollout,) = step["rollouts"]
        grid = np.maximum(rollout["board"], 0).astype(np.uint8).reshape(family.board)
        broken = np.flatnonzero(family.conflicts(question, grid))
        np.testing.assert_array_equal(rollout["conflicts"], broken)
        valid = family.verify(question.reshape(1, -1), grid.reshape(1, -1))[0]
        assert rollout["valid"] == valid


def test_the_same_seed_gives_the_same_answer_alone_or_beside_others(player):
    question = puzzle(player)
    one = passes_of(events(player, question, seed=1))
    several = passes_of(events(player, question, rollouts=MOST_ROLLOUTS, seed=1))
    for alone, beside in zip(one, several, strict=True):
        assert alone["rollouts"][0]["board"] == beside["rollouts"][0]["board"]


def test_it_ends_when_nobody_waits(player):
    told = []

    def is_stopped():
        return len(told) > 2

    for event in player.answer(Asked(puzzle(player), passes=50), is_stopped):
        told.append(event["event"])
    assert told.count("pass") < 5
    assert "end" not in told


def test_what_is_masked_again_can_be_chosen(player):
    if player.remask is None:
        pytest.skip("nothing is masked again")
    question = puzzle(player)
    by_kind = [
        [step["rollouts"][0]["began"] for step in passes_of(events(player, question, remask=of))]
        for of in ("uniform", "confidence")
    ]
    assert isinstance(player._experiment.method, Drm)
    assert all(cell == MASKED for cell in by_kind[0][0])
    assert by_kind[0] != by_kind[1]


def test_a_program_is_compiled_once(player):
    question = puzzle(player)
    for rollouts in (1, 2):
        events(player, question, rollouts=rollouts)
        kinds = [event["event"] for event in events(player, question, rollouts=rollouts, passes=7)]
        assert "compiling" not in kinds


def test_whose_answer_is_taken():
    def rollout(board, valid, halting=0.5):
        return {"board": board, "valid": valid, "halting": halting}

    wrong, right, other = rollout([1, 1], False), rollout([1, 2], True), rollout([2, 2], False)
    assert verdict([wrong, wrong, right]) == {"best": 2, "votes": 1, "valid": True}
    assert verdict([other, wrong, wrong])["best"] == 1
    assert verdict([wrong, rollout([2, 2], False, 0.9)])["best"] == 1
    assert verdict([rollout([3], None)]) == {"best": 0, "votes": 1, "valid": None}


def test_the_page_knows_what_it_needs(player):
    about = described(player)
    assert about["passes"] == 3
    assert about["question_symbols"] in (".1234", "# SG")
    assert len(about["levels"]) >= 3
    assert about["remask"] == (None if about["method"] == "trm" else "uniform")


def test_only_boards_and_methods_with_passes(player, monkeypatch):
    with pytest.raises(UsageError, match="aren't boards of one size"):
        BoardPlayer(find_source("small"), print)
    from drm_jax.methods.method import Method

    monkeypatch.setattr(type(player._experiment.method), "passes", Method.passes)
    with pytest.raises(UsageError, match="has no `passes`"):
        BoardPlayer(player._source, print)


@pytest.mark.parametrize(("family", "changes"), [(sudoku, {}), (maze, {})])
def test_puzzles_are_drawn_by_level(family, changes):
    data = with_changes(family(), changes).data
    for level, seed in itertools.product(data.levels, (0, 1)):
        grid = data.draw(level, seed)
        assert grid.shape == data.board
        assert data.remark(grid) == ""
        np.testing.assert_array_equal(grid, data.draw(level, seed))
        symbols = {data.vocabulary.symbols[cell] for cell in grid.reshape(-1).tolist()}
        assert symbols <= set(data.question_symbols)
    levels = data.levels
    assert (data.draw(levels[0], 0) != data.draw(levels[0], 1)).any()
    if "clues" in levels[0]:
        clues = [int((data.draw(level, 0) > 0).sum()) for level in levels]
        assert clues[:3] == [50, 34, 27] > clues[3:]


def test_remarks_say_what_is_wrong_with_a_puzzle():
    data = sudoku().data
    blank = np.zeros((9, 9), np.uint8)
    twice, none = blank.copy(), blank.copy()
    twice[0, :2] = 5
    none[0, :8], none[1, 8] = range(1, 9), 9
    solution = read_board(
        "534678912672195348198342567859761423426853791713924856961537284287419635345286179",
        data.vocabulary.symbols, data.board,
    )  # fmt: skip
    several = solution.copy()
    several[[0, 0, 1, 1], [3, 4, 3, 4]] = 0
    several[several == 6] = 0
    several[several == 7] = 0
    assert "in conflict" in data.remark(twice)
    assert "no solution" in data.remark(none)
    assert "very many" in data.remark(blank)
    assert "several" in data.remark(several)
    assert data.remark(solution) == ""
    mazes = maze().data
    walls = np.zeros((9, 9), np.uint8)
    assert "one start, this one has none" in mazes.remark(walls)
    walls[0, 0] = 2
    assert "one goal" in mazes.remark(walls)
    walls[8, 8] = 3
    assert "no way" in mazes.remark(walls)
    walls[0, 1:], walls[1:8, 8] = 1, 1
    assert mazes.remark(walls) == ""
