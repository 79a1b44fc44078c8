import dataclasses
import gc
import weakref

import jax
import numpy as np
import pytest
from answering import denoised

from drm_jax.evaluate.answers import unpack
from drm_jax.evaluate.files import evaluation_folder
from drm_jax.evaluate.loop import evaluate, evaluate_together
from drm_jax.evaluate.tables import score_table, task_table
from drm_jax.parallel.mesh import make_mesh
from drm_jax.puzzles.arc.augment import augment, puzzle_ids
from drm_jax.puzzles.arc.judge import scores
from drm_jax.puzzles.arc.puzzles import ArcPuzzles
from drm_jax.puzzles.arc.tasks import Pair, Task
from drm_jax.puzzles.arc.tokens import to_tokens
from drm_jax.puzzles.boards import cell_accuracy
from drm_jax.puzzles.voting import Ballot, cast_vote
from drm_jax.run.setup import answerer, set_up
from drm_jax.training.state import make_sharded

A, B = np.array([[1]], np.uint8), np.array([[2, 3]], np.uint8)


def task(*tests: Pair, name: str = "t") -> Task:
    return Task(name, (Pair(A, B),), tests, role="evaluate")


def test_scores_by_hand():
    """Two tasks: one solved second and first, one with no candidate at all."""
    ballot: Ballot = {}
    for grid, votes in ((B, 2), (A, 1)):
        for _ in range(votes):
            cast_vote(ballot, "t", A, grid, 0.5)
            cast_vote(ballot, "t", B, grid, 0.5)
    result = scores(ballot, [task(Pair(A, A), Pair(B, B)), task(Pair(A, A), name="u")])
    assert (result["tasks"], result["test_inputs"]) == (2, 3)
    assert (result["pass@1"], result["pass@2"]) == (0.25, 0.5)
    assert (result["solved@1"], result["solved@2"]) == (1, 2)
    assert result["per_task"]["t"]["rank_of_truth"] == [2, 1]
    assert result["per_task"]["t"]["votes_of_first_two"] == [[2, 1], [2, 1]]
    assert result["per_task"]["u"]["pass@2"] == 0


def test_hidden_outputs_are_not_scored():
    result = scores({}, [task(Pair(A, None))])
    assert result["test_inputs"] == 0
    assert not any(name.startswith(("pass@", "solved@")) for name in result)


def test_copying_the_input():
    tasks = [task(Pair(A, A), Pair(B, A)), Task("x", (Pair(A, B),), (Pair(A, A),))]
    puzzles = ArcPuzzles(tasks, puzzle_ids(tasks, 2, 0), [(4, 4)])
    ((name, result),) = puzzles.baselines().items()
    assert name == "copying the input"
    assert (result["solved@2"], result["test_inputs"], result["pass@2"]) == (1, 2, 0.5)


def test_accuracy_of_candidates(setup):
    """Under every augmentation the truth is right, and each token of it counts the same."""
    tasks, ids, questions = setup.puzzles.tasks, setup.puzzles.ids, setup.puzzles.questions(None)
    numbers = np.arange(questions.count)
    predicted_NxS = []
    for candidate in map(questions.candidate, numbers.tolist()):
        way = ids.augmentation(candidate.puzzle_id)
        predicted_NxS.append(to_tokens(augment(candidate.truth, way), 4))
    predicted_NxS = np.array(predicted_NxS)
    truths = questions.truths(numbers)
    assert (cell_accuracy(predicted_NxS, *truths) == 1).all()
    outside_NxS = np.where(predicted_NxS == 0, 7, predicted_NxS)
    assert (cell_accuracy(outside_NxS, *truths) == 1).all()  # PAD is not scored
    scored_N = (predicted_NxS != 0).sum(axis=1)
    predicted_NxS[:, 0] = 12
    np.testing.assert_allclose(cell_accuracy(predicted_NxS, *truths), 1 - 1 / scored_N)
    hidden = [dataclasses.replace(task, tests=(Pair(A, None),)) for task in tasks]
    unknown = ArcPuzzles(hidden, ids, [(4, 4)]).questions(None)
    numbers = np.arange(unknown.count)
    accuracy_N = cell_accuracy(predicted_NxS[: unknown.count], *unknown.truths(numbers))
    assert np.isnan(accuracy_N).all()


@pytest.fixture(scope="module")
def setup(tiny):
    return set_up(tiny, make_mesh(jax.devices()[:2]))


def test_the_average_is_scored_with_the_current_table(tiny, setup):
    """An evaluation follows the averaged weights and the table, not the trained weights."""
    state = make_sharded(setup.make_state, setup.shardings)
    state = state.replace(table=jax.random.normal(jax.random.key(0), state.table.shape))
    answer_batch = answerer(setup)

    def answers(state):
        result = evaluate(tiny, answer_batch, state, setup.mesh, setup.puzzles)
        return np.array([unpack(t).predicted_NxS for t in result.pictured])

    other = jax.tree.map(lambda p: jax.random.normal(jax.random.key(1), p.shape), state.params)
    first = answers(state)
    np.testing.assert_array_equal(answers(state.replace(params=other)), first)
    assert (answers(state.replace(ema=other)) != first).any()
    assert (answers(state.replace(table=-state.table)) != first).any()


def test_pictured_are_the_plain_test_inputs(tiny, setup):
    state = make_sharded(setup.make_state, setup.shardings)
    answer_batch = answerer(setup)
    result = evaluate(tiny, answer_batch, state, setup.mesh, setup.puzzles)
    shown = [(t.task, t.test) for t in result.pictured]
    assert shown == [("25d8a9c8", 0), ("44f52bb0", 0), ("44f52bb0", 1)]
    for trajectory in map(unpack, result.pictured):
        (of_task,) = (t for t in setup.puzzles.tasks if t.id == trajectory.task)
        np.testing.assert_array_equal(trajectory.truth, of_task.tests[trajectory.test].output)
        assert trajectory.predicted_NxS.shape == (tiny.evaluate.denoise_steps, 16)


# (answer, halting score) of the four candidates of one test input, by step: T is true.
CAST = {
    1: [("U", 0.5), ("U", 0.5), ("T", 0.9), ("V", 0.95)],  # U, then V before T by score
    2: [("V", 0.6), ("V", 0.6), ("T", 0.5), ("T", 0.55)],  # V before T by score
    5: [("T", 0.9), ("W", 0.8), ("V", 0.1), ("W", 0.5)],
}


@dataclasses.dataclass
class Stepped:
    """A state of which only the step is looked at."""

    step: int


def casting(setup, grids):
    """What CAST says for the first test input; for the two others, U at step 1, V, W."""

    def answer(state, batch):
        inputs_BxS, row_B = np.asarray(batch["inputs"]), np.asarray(batch["row"]).tolist()
        other = ({1: "U", 2: "V", 5: "W"}[state.step], 0.5)
        cast = [CAST[state.step][row] if row < 4 else other for row in row_B]
        ways = [setup.puzzles.ids.augmentation(i) for i in np.asarray(batch["puzzle_id"]).tolist()]
        predicted_BxS = np.array(
            [to_tokens(augment(grids[c], way), 4) for (c, _), way in zip(cast, ways, strict=True)]
        )
        q_halt_B = np.array([np.log(q / (1 - q)) for _, q in cast])
        return denoised(predicted_BxS, q_halt_B, inputs_BxS)

    return answer


def test_an_ensemble_by_hand(tiny, setup):
    """Pooled, the truth stands first, where it stood third, second and second.

    T and V both have 4 votes; the mean scores over all of them are 0.71 and 0.56.
    """
    (of_task,) = (task for task in setup.puzzles.tasks if task.id == "25d8a9c8")
    truth = of_task.tests[0].output
    grids = {"T": truth} | {name: np.full((1, i + 1), i, np.uint8) for i, name in enumerate("UVW")}
    answer, held = casting(setup, grids), []

    def restore(step):
        gc.collect()
        assert all(state() is None for state in held)  # one at a time
        state = Stepped(step)
        held.append(weakref.ref(state))
        return state

    rest = (setup.mesh, setup.puzzles)
    *alone, together = evaluate_together(tiny, answer, (1, 2, 5), restore, *rest)
    assert len(held) == 3
    for result in alone:
        by_itself = evaluate(tiny, answer, Stepped(result.step), *rest)
        assert result.metrics == by_itself.metrics
        assert result.submission == by_itself.submission
    accuracies = [r.metrics["per_task"]["25d8a9c8"]["cell_accuracy"] for r in (*alone, together)]
    # the truth has 9 cells and 6 EOS; W, a row of 3 cells, closes it where the truth is closed too
    right = np.array([1, 2, 1 + 2 / 15]) / 4
    np.testing.assert_allclose([a for (a,) in accuracies[:3]], right)
    np.testing.assert_allclose(accuracies[3], right.mean())
    ranks = [r.metrics["per_task"]["25d8a9c8"]["rank_of_truth"] for r in (*alone, together)]
    assert ranks == [[3], [2], [2], [1]]
    assert together.metrics["per_task"]["25d8a9c8"]["votes_of_first_two"] == [[4, 4]]
    (submitted,) = together.submission["25d8a9c8"]
    assert submitted == {"attempt_1": truth.tolist(), "attempt_2": grids["V"].tolist()}
    tied = {"attempt_1": grids["U"].tolist(), "attempt_2": grids["V"].tolist()}
    assert together.submission["44f52bb0"] == [tied, tied]  # as first seen, by ascending step
    assert [t.task for t in together.trajectories] == [t.task for t in alone[-1].trajectories]
    for shown, newest in zip(together.trajectories, alone[-1].trajectories, strict=True):
        assert shown.cells == newest.cells
    assert together.steps == (1, 2, 5)
    assert (together.metrics["ensemble"], together.metrics["candidates"]) == (True, 36)
    assert together.metrics["checkpoint_steps"] == [1, 2, 5]
    assert "checkpoint_step" not in together.metrics
    each = together.metrics["per_checkpoint"]
    assert [(e["checkpoint_step"], e["candidates"], e["pass@2"]) for e in each] == [
        (1, 12, 0.0), (2, 12, 0.5), (5, 12, 0.5),
    ]  # fmt: skip
    assert not any(
        {"ensemble", "checkpoint_steps", "per_checkpoint"} & set(e.metrics) for e in alone
    )
    names = list(score_table([*alone, together], setup.puzzles.baselines()).columns[0].cells)
    assert names[1:] == ["step 1", "step 2", "step 5", "ensemble of steps\n1, 2, 5"]
    assert task_table(together).title == "Tasks of the ensemble of steps 1, 2, 5"
    assert task_table(alone[0]).title == "Tasks at step 1"


def test_folders_of_evaluations(tmp_path):
    def name(*steps):
        return evaluation_folder(tmp_path, steps).name

    assert (name(0), name(3000), name(1, 20)) == ("step_0", "step_3000", "steps_1_20")
    many = range(1000, 500_000, 1000)
    assert name(*many).startswith("steps_1000_to_499000_499_of_them_")
    assert len(name(*many)) < 100
    settings = {"denoise_steps": 4, "outside": "pad"}
    changed = evaluation_folder(tmp_path, [7], settings)
    assert changed.name == "step_7_denoise_steps=4_outside=pad"
    assert name(*many) != name(1000, *range(3000, 499_500, 1000), 499_500, 499_000)


def test_a_batch_of_which_all_reach_the_border(tiny):
    """All are answered again on the whole board, and nothing of the window counts."""
    data = dataclasses.replace(tiny.data, canvas="fit", windows=(4, 6))
    setup = set_up(dataclasses.replace(tiny, data=data), make_mesh(jax.devices()[:1]))

    def answer(_, batch):
        inputs_BxS = np.asarray(batch["inputs"])
        side = int(inputs_BxS.shape[1] ** 0.5)
        tokens_S = to_tokens(np.full((min(side, 5), 4), 3, np.uint8), side)
        predicted_BxS = np.tile(tokens_S, (len(inputs_BxS), 1))
        return denoised(predicted_BxS, np.zeros(len(inputs_BxS)), inputs_BxS)

    result = evaluate(setup.experiment, answer, Stepped(1), setup.mesh, setup.puzzles)
    count = result.metrics["candidates"]
    assert result.metrics["denoised_on_windows"] == {"4": count, "6": count}
    assert {t.board for t in result.trajectories} == {(6, 6)}
