"""Votes on the golden candidates of the published evaluator."""

import json
from pathlib import Path

import numpy as np

from drm_jax.puzzles.arc import identifiers, voting
from drm_jax.puzzles.arc.judge import plain_grids
from drm_jax.puzzles.arc.tasks import parse_task
from drm_jax.puzzles.voting import Ballot, cast_vote

GOLDENS = Path(__file__).parents[2] / "goldens"


def test_votes_ranks_and_submissions_are_the_published_ones():
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
    ranks = [voting.truth_ranks(ballot, task) for task in tasks]
    np.testing.assert_array_equal([voting.pass_at(ranks, k) for k in ks], arrays["pass_at_k"])
    for attempts in (2, 6):
        expected = json.loads((GOLDENS / f"voting_submission_k{attempts}.json").read_text())
        assert voting.submission(ballot, tasks, attempts) == expected
