import dataclasses
import gc
import weakref

import jax
import numpy as np
import pytest
from answering import denoised

from drm_jax.data.evaluation import Truths, evaluation_rows
from drm_jax.evaluate.answers import Trajectory, unpack
from drm_jax.evaluate.pictures import denoising, image, terminal_picture, token_colours
from drm_jax.evaluate.score import (
    compile_denoise,
    copy_baseline,
    evaluate,
    evaluate_together,
    evaluation_folder,
    scores,
)
from drm_jax.evaluate.tables import score_table, task_table
from drm_jax.parallel.mesh import make_mesh
from drm_jax.puzzles.arc import voting
from drm_jax.puzzles.arc.augment import Augmentation, augment
from drm_jax.puzzles.arc.tasks import Pair, Task
from drm_jax.puzzles.arc.tokens import MASK, to_tokens
from drm_jax.run.setup import set_up
from drm_jax.train.state import make_sharded

IDENTITY = Augmentation()
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


def test_accuracy_of_candidates(tiny, setup):
    """Under every augmentation the truth is right, and each token of it counts the same."""
    rows = evaluation_rows(setup.tasks, setup.ids, None)
    hidden = [dataclasses.replace(task, tests=(Pair(A, None),)) for task in setup.tasks]
    truths = Truths(setup.tasks, setup.ids, rows, 4)
    predicted_NxS = np.array(
        [
            to_tokens(augment(setup.tasks[k].tests[t].output, setup.ids.augmentation(i)), 4)
            for k, t, i in rows.tolist()
        ]
    )
    numbers = np.arange(len(rows))
    assert (truths.accuracy(numbers, predicted_NxS) == 1).all()
    outside_NxS = np.where(predicted_NxS == 0, 7, predicted_NxS)
    assert (truths.accuracy(numbers, outside_NxS) == 1).all()  # PAD is not scored
    scored_N = (predicted_NxS != 0).sum(axis=1)
    predicted_NxS[:, 0] = 12
    np.testing.assert_allclose(truths.accuracy(numbers, predicted_NxS), 1 - 1 / scored_N)
    rows = evaluation_rows(hidden, setup.ids, None)
    unknown = Truths(hidden, setup.ids, rows, 4)
    assert np.isnan(unknown.accuracy(np.arange(len(rows)), predicted_NxS[: len(rows)])).all()


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
        return np.array([unpack(t).predicted_NxS for t in result.pictured])

    other = jax.tree.map(lambda p: jax.random.normal(jax.random.key(1), p.shape), state.params)
    first = answers(state)
    np.testing.assert_array_equal(answers(state.replace(params=other)), first)
    assert (answers(state.replace(ema=other)) != first).any()
    assert (answers(state.replace(table=-state.table)) != first).any()


def test_pictured_are_the_plain_test_inputs(tiny, setup):
    state = make_sharded(setup.make_state, setup.shardings)
    denoise = compile_denoise(tiny, setup.network, setup.mesh, setup.shardings)
    result = evaluate(tiny, denoise, state, setup.mesh, setup.tasks, setup.ids)
    shown = [(t.task_id, t.test) for t in result.pictured]
    assert shown == [("25d8a9c8", 0), ("44f52bb0", 0), ("44f52bb0", 1)]
    for trajectory in map(unpack, result.pictured):
        (of_task,) = (t for t in setup.tasks if t.id == trajectory.task_id)
        np.testing.assert_array_equal(trajectory.truth, of_task.tests[trajectory.test].output)
        assert trajectory.predicted_NxS.shape == (tiny.evaluate.denoise_steps, 16)


def trajectory_of(predicted, tokens, truth, augmentation=IDENTITY, question=A) -> Trajectory:
    """Of steps (N, S) that began from `tokens`; the first one from all masked."""
    predicted_NxS, tokens_NxS = np.array(predicted, np.uint8), np.array(tokens, np.uint8)
    levels = np.array([1000, *[500] * (len(predicted_NxS) - 1)])
    sure = np.full(predicted_NxS.shape, 90, np.uint8)
    halt = np.zeros(len(levels), np.float32)
    return Trajectory(
        "t", 0, question, truth, 7, augmentation, levels, halt, predicted_NxS,
        tokens_NxS == MASK, sure,
    )  # fmt: skip


def test_pictures_show_the_tokens():
    tokens = np.array([[3, 1], [1, 0]], np.uint8).reshape(-1)
    trajectory = trajectory_of([tokens, tokens], [np.full(4, MASK), tokens], A)
    assert trajectory.is_right
    wrong = dataclasses.replace(trajectory, predicted_NxS=np.stack([tokens, tokens + 1]))
    assert not wrong.is_right
    picture, cell = image([denoising(t) for t in (trajectory, wrong)], cell=20), 20
    top = 20 + 2 * 16  # the gap, a line with the task, one with the captions
    question, masked = (picture[top : top + 40, left : left + 40] for left in (20, 84))
    for shown, grid in ((question, tokens.reshape(2, 2)), (masked, np.full((2, 2), MASK))):
        np.testing.assert_array_equal(shown[:: cell + 5, :: cell + 5], token_colours()[grid])
    assert (picture[:20] == 255).all()
    for first in (20, 36):  # both lines are written, beside the white
        assert (picture[first : first + 16] != 255).any()
    assert picture.shape[0] == 2 * (2 * 16 + 40 + 20) + 20
    assert "right" in terminal_picture(trajectory, 80).renderables[0].plain
    assert "wrong" in terminal_picture(wrong, 80).renderables[0].plain


def test_pictures_undo_the_augmentation():
    """A row of colours 2 3, asked as a column of 5 7: its picture is a row again."""
    colours = IDENTITY.colours.copy()
    colours[[2, 5, 3, 7]] = [5, 2, 7, 3]
    augmentation = Augmentation(6, colours)
    asked = to_tokens(np.array([[5], [7]], np.uint8), 3)
    trajectory = trajectory_of([asked], [np.full(9, MASK)], B, augmentation, question=B)
    assert trajectory.is_right
    title, frames = denoising(trajectory)
    assert "t6" in title
    frames = dict(frames)
    for name in ("input", "answer", "truth"):
        np.testing.assert_array_equal(frames[name], [[4, 5, 1], [1, 1, 0]])
    assert (frames["step 1"] == MASK).all()


def test_a_truth_larger_than_the_window_is_pictured():
    small = to_tokens(A, 2)
    trajectory = trajectory_of([small], [np.full(4, MASK)], np.full((5, 4), 3, np.uint8))
    title, frames = denoising(trajectory)
    assert title.endswith("wrong")
    assert {tile.shape for _, tile in frames} == {(5, 5)}


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


def test_an_ensemble_by_hand(tiny, setup):
    """Pooled, the truth stands first, where it stood third, second and second.

    T and V both have 4 votes; the mean scores over all of them are 0.71 and 0.56.
    """
    (of_task,) = (task for task in setup.tasks if task.id == "25d8a9c8")
    truth = of_task.tests[0].output
    grids = {"T": truth} | {name: np.full((1, i + 1), i, np.uint8) for i, name in enumerate("UVW")}

    def answer(state, batch):
        """What CAST says for the first test input; for the two others, U at step 1, V, W."""
        inputs_BxS, row_B = np.asarray(batch["inputs"]), np.asarray(batch["row"]).tolist()
        other = ({1: "U", 2: "V", 5: "W"}[state.step], 0.5)
        cast = [CAST[state.step][row] if row < 4 else other for row in row_B]
        ways = [setup.ids.augmentation(i) for i in np.asarray(batch["puzzle_id"]).tolist()]
        predicted_BxS = np.array(
            [to_tokens(augment(grids[c], way), 4) for (c, _), way in zip(cast, ways, strict=True)]
        )
        q_halt_B = np.array([np.log(q / (1 - q)) for _, q in cast])
        return denoised(predicted_BxS, q_halt_B, inputs_BxS)

    held = []

    def restore(step):
        gc.collect()
        assert all(state() is None for state in held)  # one at a time
        state = Stepped(step)
        held.append(weakref.ref(state))
        return state

    rest = (setup.mesh, setup.tasks, setup.ids)
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
    assert [t.task_id for t in together.trajectories] == [t.task_id for t in alone[-1].trajectories]
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
    names = list(score_table([*alone, together], setup.tasks).columns[0].cells)
    assert names[1:] == ["step 1", "step 2", "step 5", "ensemble of steps\n1, 2, 5"]
    assert task_table(together).title == "Tasks of the ensemble of steps 1, 2, 5"
    assert task_table(alone[0]).title == "Tasks at step 1"


def test_pooled_votes_are_those_cast_after_each_other():
    votes = [("t", A, A, 0.25), ("t", A, B, 0.5), ("u", B, B, 1.0), ("t", A, B, 0.75)]
    more = [("t", B, A, 0.5), ("t", A, B, 0.125), ("t", A, np.array([[9]], np.uint8), 0.5)]
    ballots: list[voting.Ballot] = [{}, {}, {}]
    for vote in votes:
        voting.cast_vote(ballots[0], *vote)
    for vote in more:
        voting.cast_vote(ballots[1], *vote)
    for vote in (*votes, *more):
        voting.cast_vote(ballots[2], *vote)

    def plain(ballot):
        return [
            (question, [(key, a.votes, a.score_sum) for key, a in answers.items()])
            for question, answers in ballot.items()
        ]

    second = plain(ballots[1])
    pooled: voting.Ballot = {}
    for ballot in ballots[:2]:
        voting.pool(pooled, ballot)
    assert plain(pooled) == plain(ballots[2])
    assert plain(ballots[1]) == second  # what is pooled stays as it was


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


@pytest.mark.parametrize("columns", [20, 60, 100])
def test_terminal_pictures_keep_to_the_width(columns):
    from rich.console import Console

    grid = np.full((20, 20), 3, np.uint8)
    trajectory = trajectory_of([[5] * 400] * 2, [[5] * 400] * 2, grid, question=grid)
    console = Console(width=columns, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_picture(trajectory, columns))
    lines = console.export_text().splitlines()
    console.file.close()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= columns
