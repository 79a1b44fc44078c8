"""Votes on the golden candidates of the published evaluator."""

import json
from pathlib import Path

import numpy as np

from drm_jax.puzzles.arc import identifiers, voting
from drm_jax.puzzles.arc.judge import plain_grids
from drm_jax.puzzles.arc.tasks import parse_task
from drm_jax.puzzles.voting import Ballot, cast_vote, ranked

GOLDENS = Path(__file__).parents[2] / "goldens"


def test_votes_ranks_and_submissions_are_the_published_ones():
    """But for a grid without cells, which stands last here, and a task without predictions."""
    golden = json.loads((GOLDENS / "voting.json").read_text())
    arrays = np.load(GOLDENS / "voting.npz")
    tasks = [parse_task(task, name, "golden") for name, task in golden["test_puzzles"].items()]
    ids = identifiers.adopt_identifiers(golden["identifiers"], tasks, "golden")
    id_B = arrays["puzzle_identifiers"]
    side = int(arrays["inputs"].shape[1] ** 0.5)
    ways = [ids.augmentation(i) for i in id_B]
    questions, grids = (
        plain_grids(arrays[name], (side, side), ways) for name in ("inputs", "preds")
    )
    score_B = 1 / (1 + np.exp(-arrays["q_halt_logits"].astype(np.float64)))
    ballot: Ballot = {}
    for puzzle_id, question, grid, score in zip(id_B, questions, grids, score_B, strict=True):
        if ids.task[puzzle_id] >= 0:  # not blank, nor of a task that is not loaded
            cast_vote(ballot, ids.task_id(puzzle_id), question, grid, float(score))
    ks = arrays["pass_Ks"].tolist()
    ranks = [voting.known_ranks(ballot, task) for task in tasks]
    np.testing.assert_array_equal([voting.pass_at(ranks, k) for k in ks], arrays["pass_at_k"])
    for attempts in (2, 6):
        expected = json.loads((GOLDENS / f"voting_submission_k{attempts}.json").read_text())
        made = voting.submission(ballot, tasks, attempts)
        assert list(made) == list(expected)
        for task in tasks:
            if not expected[task.id]:
                nothing = {f"attempt_{i + 1}": [[0, 0], [0, 0]] for i in range(attempts)}
                assert made[task.id] == [nothing] * len(task.tests)
                continue
            for ours, published in zip(made[task.id], expected[task.id], strict=True):
                with_cells = [grid for grid in published.values() if grid]
                assert list(ours) == list(published)
                assert list(ours.values())[: len(with_cells)] == with_cells
                assert [] not in ours.values()


def test_a_grid_without_cells_takes_no_attempt():
    """While another answer waits, whatever the votes; and a test without any keeps its place."""
    question, other, nothing = np.array([[1]]), np.array([[2]]), np.zeros((0, 0), np.uint8)
    first, second = np.array([[3, 3]]), np.array([[4]])
    pair = {"input": [[1]], "output": [[4]]}
    task = parse_task({"train": [pair], "test": [{"input": [[2]]}, pair]}, "t", "made")
    ballot: Ballot = {}
    for grid, votes in ((nothing, 5), (first, 2), (second, 1)):
        for _ in range(votes):
            cast_vote(ballot, "t", question, grid, 0.5)
    answers = [a.grid.tolist() for a in ranked(ballot, "t", question)]
    assert answers == [first.tolist(), second.tolist(), []]
    no_answer = {"attempt_1": [[0, 0], [0, 0]], "attempt_2": [[0, 0], [0, 0]]}
    both = {"attempt_1": first.tolist(), "attempt_2": second.tolist()}
    assert voting.submission(ballot, [task]) == {"t": [no_answer, both]}
    assert voting.truth_ranks(ballot, task) == [None, 1]
    assert voting.known_ranks(ballot, task) == [1]
    for grid in (nothing, nothing, second):
        cast_vote(ballot, "t", other, grid, 0.5)
    assert voting.submission(ballot, [task])["t"][0] == dict.fromkeys(both, second.tolist())
