import dataclasses

import jax
import numpy as np
import pytest

from drm_jax.arc import voting
from drm_jax.arc.tasks import Pair, Task
from drm_jax.dist.mesh import make_mesh
from drm_jax.evaluate.pictures import image, is_solved, terminal_picture, token_colours
from drm_jax.evaluate.score import Trajectory, compile_denoise, copy_baseline, evaluate, scores
from drm_jax.run.setup import set_up
from drm_jax.train.state import make_sharded

A, B = np.array([[1]], np.uint8), np.array([[2, 3]], np.uint8)


def task(*tests: Pair, name: str = "t") -> Task:
    return Task(name, (Pair(A, B),), tests, role="evaluate")


def test_scores_by_hand():
    """Two tasks: one solved second and first, one with no candidate at all."""
    ballot: voting.Ballot = {}
    for grid, votes in ((B, 2), (A, 1)):
        for _ in range(votes):
            voting.cast_vote(ballot, "t", A, grid, 0.5)
            voting.cast_vote(ballot, "t", B, grid, 0.5)
    result = scores(ballot, [task(Pair(A, A), Pair(B, B)), task(Pair(A, A), name="u")])
    assert (result["tasks"], result["test_inputs"]) == (2, 3)
    assert (result["pass@1"], result["pass@2"]) == (0.25, 0.5)
    assert (result["solved@1"], result["solved@2"]) == (1, 2)
    assert result["per_task"]["t"]["rank_of_truth"] == [2, 1]
    assert result["per_task"]["t"]["votes_of_first_two"] == [[2, 1], [2, 1]]
    assert result["per_task"]["u"]["pass@1000"] == 0


def test_hidden_outputs_are_not_scored():
    result = scores({}, [task(Pair(A, None))])
    assert result["test_inputs"] == 0
    assert not any(name.startswith(("pass@", "solved@")) for name in result)


def test_copying_the_input():
    result = copy_baseline([task(Pair(A, A), Pair(B, A)), Task("x", (), (Pair(A, A),))])
    assert (result["solved@2"], result["test_inputs"], result["pass@2"]) == (1, 2, 0.5)


@pytest.fixture(scope="module")
def setup(tiny):
    return set_up(tiny, make_mesh(jax.devices()[:2]))


def test_the_average_is_scored_with_the_current_table(tiny, setup):
    """An evaluation follows the averaged weights and the table, not the trained weights."""
    state = make_sharded(setup.make_state, setup.shardings)
    state = state.replace(table=jax.random.normal(jax.random.key(0), state.table.shape))
    denoise = compile_denoise(tiny, setup.network, setup.mesh, setup.shardings)

    def answers(state):
        result = evaluate(tiny, denoise, state, setup.mesh, setup.tasks, setup.ids)
        return np.array([t.predicted_NxS for t in result.trajectories])

    other = jax.tree.map(lambda p: jax.random.normal(jax.random.key(1), p.shape), state.params)
    first = answers(state)
    np.testing.assert_array_equal(answers(state.replace(params=other)), first)
    assert (answers(state.replace(ema=other)) != first).any()
    assert (answers(state.replace(table=-state.table)) != first).any()


def test_trajectories_are_those_of_the_plain_test_inputs(tiny, setup):
    state = make_sharded(setup.make_state, setup.shardings)
    denoise = compile_denoise(tiny, setup.network, setup.mesh, setup.shardings)
    result = evaluate(tiny, denoise, state, setup.mesh, setup.tasks, setup.ids)
    shown = [(t.task_id, t.test) for t in result.trajectories]
    assert shown == [("25d8a9c8", 0), ("44f52bb0", 0), ("44f52bb0", 1)]
    for trajectory in result.trajectories:
        (of_task,) = (t for t in setup.tasks if t.id == trajectory.task_id)
        np.testing.assert_array_equal(trajectory.truth, of_task.tests[trajectory.test].output)
        assert trajectory.predicted_NxS.shape == (tiny.evaluate.denoise_steps, 16)


def test_pictures_show_the_tokens():
    tokens = np.array([[3, 1], [1, 0]], np.uint8).reshape(-1)
    steps = np.stack([np.full(4, 12, np.uint8), tokens])
    trajectory = Trajectory("t", 0, tokens, A, steps, np.stack([tokens, tokens]))
    assert is_solved(trajectory)
    wrong = dataclasses.replace(trajectory, predicted_NxS=np.stack([tokens, tokens + 1]))
    assert not is_solved(wrong)
    picture = image([trajectory], cell=2)
    colours = {tuple(c) for c in picture.reshape(-1, 3).tolist()}
    expected = {tuple(c) for c in token_colours()[[0, 1, 3, 12]].tolist()} | {(255, 255, 255)}
    assert colours == expected
    assert "right" in terminal_picture(trajectory, 80).renderables[0].plain
    assert "wrong" in terminal_picture(wrong, 80).renderables[0].plain


@pytest.mark.parametrize("columns", [20, 60, 100])
def test_terminal_pictures_keep_to_the_width(columns):
    from rich.console import Console

    tokens = np.full((2, 400), 5, np.uint8)
    trajectory = Trajectory("t", 0, tokens[0], np.zeros((20, 20), np.uint8), tokens, tokens)
    console = Console(width=columns, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_picture(trajectory, columns))
    lines = console.export_text().splitlines()
    console.file.close()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= columns
