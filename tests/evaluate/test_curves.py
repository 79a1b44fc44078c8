"""Rollouts, how an answer is chosen, and the curves of depth and breadth."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from answering import denoised
from etils import epath

from drm_jax.config import Evaluate, Experiment, with_changes
from drm_jax.errors import InputError
from drm_jax.evaluate.curves import curve_file, curve_text, read_curves
from drm_jax.evaluate.loop import evaluate, evaluate_together
from drm_jax.evaluate.sweep import breadth_curve, depth_curve
from drm_jax.evaluate.tables import curve_table
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.parallel.mesh import make_mesh
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.puzzles.voting import Answer, best_first
from drm_jax.run.setup import answerer, set_up
from drm_jax.training.state import make_sharded

SUDOKU = Experiment(
    name="sudoku",
    data=Sudoku(side=4, train_puzzles=8, test_puzzles=6),
    method=Drm(Recursion(cycles=1, inner_steps=1)),
    model=Transformer(hidden=8, heads=1, layers=1, prefix=1, swiglu_multiple=8),
    evaluate=Evaluate(batch_size=4, denoise_steps=2),
)
TESTS = 6


@dataclasses.dataclass
class Stepped:
    """A state of which only the step is looked at."""

    step: int = 7


@pytest.fixture(scope="module")
def sudoku():
    return set_up(SUDOKU, make_mesh(jax.devices()[:1]))


def test_how_answers_are_ranked():
    def proposed(cell, scores, shape=(1, 1)):
        return Answer(np.full(shape, cell, np.uint8), [0] * len(scores), scores, sum(scores))

    answers = [
        proposed(1, [0.5, 0.5, 0.5]),
        proposed(2, [0.9]),
        proposed(3, [0.2, 0.3]),
        proposed(4, [0.95] * 4, (0, 0)),
    ]
    truth = np.array([[3]], np.uint8)

    def order(choice, **more):
        return [
            int(a.grid[0, 0]) if a.grid.size else 4 for a in best_first(answers, choice, **more)
        ]

    assert order("votes") == [1, 3, 2, 4]
    assert order("halting") == [2, 1, 3, 4]
    assert order("oracle", truth=truth) == [3, 1, 2, 4]
    assert order("oracle") == [1, 3, 2, 4]
    assert order("rules", valid=lambda a: bool(a.grid.size) and a.grid[0, 0] != 1) == [3, 2, 1, 4]


# Of the rollouts 0, 1, 2, 3 of test t: whether each is right, and its halting score.
RIGHT = {0: "TTTT", 1: "FTTT", 2: "FFTF", 3: "FFFT", 4: "FFFF", 5: "TFFF"}
SCORES = {0: "5555", 1: "9555", 2: "1191", 3: "9118", 4: "5555", 5: "9111"}


def cast(sudoku, calls=None):
    """Answers as RIGHT and SCORES say. Wrong answers to one test are all the same."""
    first = SUDOKU.data.vocabulary.first
    truth_TxS = sudoku.puzzles.questions(0)._tests.puzzles.outputs_NxS + np.uint8(first)

    def answer(state, batch):
        row_B = np.asarray(batch["row"])
        rollout_B, test_B = row_B // (TESTS + 1), row_B % (TESTS + 1)
        predicted_BxS = truth_TxS[np.minimum(test_B, TESTS - 1)].copy()
        q_B = np.zeros(len(row_B), np.float32)
        for i, (rollout, test) in enumerate(zip(rollout_B, test_B, strict=True)):
            if test < TESTS:
                if RIGHT[test][rollout] == "F":
                    predicted_BxS[i, 0] = first + (predicted_BxS[i, 0] - first + 1) % 5
                share = int(SCORES[test][rollout]) / 10
                q_B[i] = np.log(share / (1 - share))
                if calls is not None:
                    calls.append((int(rollout), int(test)))
        return denoised(predicted_BxS, q_B, np.asarray(batch["inputs"]), 2)

    return answer


def test_a_curve_of_breadth_by_hand(sudoku):
    calls = []
    curve = breadth_curve(
        SUDOKU, cast(sudoku, calls), Stepped(), sudoku.mesh, sudoku.puzzles, (1, 3, 4),
        lambda batches, total: batches,
    )  # fmt: skip
    assert sorted(calls) == [(r, t) for r in range(4) for t in range(TESTS)]
    found = [{name: round(x * TESTS) for name, x in p.scores.items()} for p in curve.points]
    assert found == [
        {"votes": 2, "halting": 2, "rules": 2, "oracle": 2},
        # test 1 by two votes of three, against the surest; test 2 by the surest alone; test 5 not
        # by votes
        {"votes": 2, "halting": 3, "rules": 4, "oracle": 4},
        {"votes": 2, "halting": 3, "rules": 5, "oracle": 5},
    ]
    assert [p.at for p in curve.points] == [1, 3, 4]
    assert (curve.step, curve.test_inputs, curve.headline) == (7, TESTS, "exact")
    assert {p.passes for p in curve.points} == {2.0}
    assert not {"rollouts", "choose"} & set(curve.settings["evaluate"])
    assert curve_table(curve).row_count == 3


@pytest.mark.parametrize(
    ("choose", "solved"), [("votes", [0, 1]), ("halting", [0, 2, 5]), ("rules", [0, 1, 2, 3, 5])]
)
def test_what_is_handed_in_follows_the_choice(sudoku, choose, solved):
    experiment = with_changes(SUDOKU, {"evaluate.rollouts": 4, "evaluate.choose": choose})
    answer = cast(sudoku)
    result = evaluate(experiment, answer, Stepped(), sudoku.mesh, sudoku.puzzles)
    rows = list(result.metrics["per_task"].values())
    assert [t for t in range(TESTS) if rows[t]["exact"]] == solved
    assert result.metrics["exact"] == len(solved) / TESTS
    assert result.metrics["candidates"] == 4 * TESTS
    described = [task["tests"][0]["answers"][0] for task in result.answers.tasks]
    handed_in = list(result.submission.values())
    assert ["".join(a["grid"]) for a in described] == handed_in
    rest = sudoku.mesh, sudoku.puzzles
    *_, together = evaluate_together(experiment, answer, (1, 2), lambda s: Stepped(s), *rest)
    assert together.metrics["candidates"] == 8 * TESTS
    assert together.submission == result.submission


@pytest.mark.parametrize("experiment", [SUDOKU, "tiny"], ids=["exact", "votes"])
def test_the_first_rollout_is_the_plain_test_and_others_differ(experiment, tiny):
    # of two passes both begin all masked: only a third one draws
    experiment = with_changes(tiny if experiment == "tiny" else experiment,
                              {"evaluate.denoise_steps": 4})  # fmt: skip
    setup = set_up(experiment, make_mesh(jax.devices()[:1]))
    state = make_sharded(setup.make_state, setup.shardings)
    drawn = jax.tree.map(lambda p: jax.random.normal(jax.random.key(1), p.shape), state.ema)
    state = state.replace(ema=drawn)
    answer_batch, rest = answerer(setup), (state, setup.mesh, setup.puzzles)
    headline = experiment.data.headline
    plain = evaluate(experiment, answer_batch, *rest)
    more = evaluate(with_changes(experiment, {"evaluate.rollouts": 3}), answer_batch, *rest)
    assert more.metrics["candidates"] == 3 * plain.metrics["candidates"]
    distinct = [
        sum(test["distinct"] for task in of.answers.tasks for test in task["tests"])
        for of in (plain, more)
    ]
    assert distinct[1] > distinct[0]
    assert more.trajectories[0].cells == plain.trajectories[0].cells
    curve = breadth_curve(experiment, answer_batch, *rest, (1, 3), lambda batches, total: batches)
    assert curve.points[0].scores["votes"] == plain.metrics[headline]
    assert curve.points[1].scores["votes"] == more.metrics[headline]
    assert curve.points[1].scores["oracle"] >= more.metrics[headline]


def test_a_curve_of_depth_is_one_test_for_each_point(sudoku):
    setup = sudoku
    state = make_sharded(setup.make_state, setup.shardings)

    def answerer_of(experiment):
        return answerer(dataclasses.replace(setup, experiment=experiment))

    rest = state, setup.mesh, setup.puzzles
    experiment = with_changes(SUDOKU, {"evaluate.exit_change": 0.5})
    curve = depth_curve(experiment, answerer_of, *rest, (1, 3), lambda batches, total: batches)
    for point in curve.points:
        changed = with_changes(experiment, {"evaluate.denoise_steps": point.at})
        alone = evaluate(changed, answerer_of(changed), *rest).metrics
        assert point.scores == {x: alone[x] for x in point.scores}
        assert {"exact", "valid", "cell_accuracy"} <= {*point.scores}
        assert point.passes == alone["passes"]["used"] / TESTS
        assert alone["passes"]["without_exit"] == TESTS * point.at
    assert curve.points[0].passes == 1
    assert 2 <= curve.points[1].passes <= 3
    assert "denoise_steps" not in curve.settings["evaluate"]


def test_files_of_curves(sudoku, tmp_path):
    folder = epath.Path(tmp_path)
    assert read_curves(folder) == {}
    curve = breadth_curve(
        SUDOKU, cast(sudoku), Stepped(), sudoku.mesh, sudoku.puzzles, (1, 2),
        lambda batches, total: batches,
    )  # fmt: skip
    path = folder / curve_file("breadth")
    path.write_text(curve_text(curve))
    assert read_curves(folder) == {"breadth": curve}
    good = json.loads(path.read_text())
    no_number = {"at": "x", "scores": {}, "passes": 1}
    changes = [{"points": points} for points in ([], [{"at": 1}], [no_number])] + [{"format": 2}]
    for bad in ("", "[]", "{", *(json.dumps(good | change) for change in changes)):
        path.write_text(bad)
        with pytest.raises(InputError, match="drm eval --curve"):
            read_curves(folder)
