"""Votes of any family."""

import numpy as np

from drm_jax.puzzles.voting import Ballot, cast_vote, pool

A, B = np.array([[1]], np.uint8), np.array([[2, 3]], np.uint8)


def test_pooled_votes_are_those_cast_after_each_other():
    votes = [("t", A, A, 0.25), ("t", A, B, 0.5), ("u", B, B, 1.0), ("t", A, B, 0.75)]
    more = [("t", B, A, 0.5), ("t", A, B, 0.125), ("t", A, np.array([[9]], np.uint8), 0.5)]
    ballots: list[Ballot] = [{}, {}, {}]
    for vote in votes:
        cast_vote(ballots[0], *vote)
    for vote in more:
        cast_vote(ballots[1], *vote)
    for vote in (*votes, *more):
        cast_vote(ballots[2], *vote)

    def plain(ballot):
        return [
            (question, [(key, a.votes, a.score_sum) for key, a in answers.items()])
            for question, answers in ballot.items()
        ]

    second = plain(ballots[1])
    pooled: Ballot = {}
    for ballot in ballots[:2]:
        pool(pooled, ballot)
    assert plain(pooled) == plain(ballots[2])
    assert plain(ballots[1]) == second  # what is pooled stays as it was
