"""Votes, scores, a submission, and what is told of the answers."""

import math
import statistics
from collections import Counter

import numpy as np
import pytest

from drm_jax.evaluate.files import Evaluation
from drm_jax.evaluate.tables import task_table
from drm_jax.puzzles.arc.augment import augment, augmentation_words, puzzle_ids
from drm_jax.puzzles.arc.judge import ArcJudge, scores
from drm_jax.puzzles.arc.puzzles import ArcPuzzles
from drm_jax.puzzles.arc.roles import load_tasks
from drm_jax.puzzles.arc.tasks import Pair, Task
from drm_jax.puzzles.arc.tokens import to_tokens
from drm_jax.puzzles.voting import Ballot, cast_vote

A, B = np.array([[1]], np.uint8), np.array([[2, 3]], np.uint8)


def task(*tests: Pair, name: str = "t", role: str = "evaluate") -> Task:
    return Task(name, (Pair(A, B),), tests, "here", role)


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


def test_no_k_is_beyond_the_votes():
    """The most votes on a test input decide; two attempts are always handed in."""
    ballot: Ballot = {}
    for count in (1, 5, 17):
        while scores(ballot, [task(Pair(A, A))])["votes"] < count:
            cast_vote(ballot, "t", A, B, 0.5)
        result = scores(ballot, [task(Pair(A, A)), task(Pair(A, A), name="u")])
        ks = {1: [1, 2], 5: [1, 2, 5], 17: [1, 2, 5, 10]}[count]
        for of in (result, result["per_task"]["t"]):
            assert [k for k in of if k.startswith("pass@")] == [f"pass@{k}" for k in ks]
        assert [k for k in result if k.startswith("solved@")] == [f"solved@{k}" for k in ks]


def test_ranks_keep_the_place_of_their_test():
    """A hidden output before, between and after known ones moves none of them."""
    ballot: Ballot = {}
    inputs = [np.full((1, n), 7, np.uint8) for n in range(1, 6)]
    for votes, grid in ((2, B), (1, A)):
        for question in inputs[:4]:
            for _ in range(votes):
                cast_vote(ballot, "t", question, grid, 0.5)
    outputs = [None, A, None, B, A]
    tests = [Pair(*pair) for pair in zip(inputs, outputs, strict=True)]
    result = scores(ballot, [task(*tests)])
    row = result["per_task"]["t"]
    assert row["rank_of_truth"] == [None, 2, None, 1, None]
    assert row["hidden"] == [True, False, True, False, False]
    assert (result["test_inputs"], result["solved@1"], result["pass@2"]) == (3, 1, 2 / 3)
    shown = Evaluation((1,), result, {}, None, (), ())
    assert list(task_table(shown).columns[1].cells) == ["?, 2, ?, 1, –"]


def test_hidden_outputs_are_not_scored():
    result = scores({}, [task(Pair(A, None))])
    assert result["test_inputs"] == 0
    assert not any(name.startswith(("pass@", "solved@")) for name in result)


def judge_of(tasks, num_augmentations=0) -> tuple[ArcJudge, ArcPuzzles]:
    puzzles = ArcPuzzles(tasks, puzzle_ids(tasks, num_augmentations, 0), ((4, 4),))
    return puzzles.questions(None).judge(), puzzles


def test_copying_the_input():
    _, puzzles = judge_of([task(Pair(A, A), Pair(B, A)), task(Pair(A, A), name="x", role="train")])
    ((name, result),) = puzzles.baselines().items()
    assert name == "copying the input"
    assert (result["solved@2"], result["test_inputs"], result["pass@2"]) == (1, 2, 0.5)


def test_accuracies_are_means_over_a_tests_candidates():
    """A test whose output is hidden has none; the mean is over test inputs."""
    tasks = [task(Pair(A, A), name="s", role="train"), task(Pair(A, A), Pair(B, None), Pair(B, A))]
    judge, puzzles = judge_of(tasks, 4)
    count = puzzles.questions(None).count
    assert count % 3 == 0
    rng = np.random.default_rng(0)
    accuracy_R = rng.random(count)
    accuracy_R[count // 3 : -count // 3] = np.nan
    result = judge.scores(accuracy_R)
    means = [float(accuracy_R[: count // 3].mean()), float(accuracy_R[-count // 3 :].mean())]
    assert result["per_task"]["t"]["cell_accuracy"] == [means[0], None, means[1]]
    assert result["cell_accuracy"] == statistics.fmean(means)
    assert (result["candidates"], result["test_inputs"], result["pass@2"]) == (0, 2, 0)
    hidden, _ = judge_of([task(Pair(A, None))])
    assert "cell_accuracy" not in hidden.scores(np.full(1, math.nan))
    assert hidden.scores(np.full(1, math.nan))["per_task"]["t"]["cell_accuracy"] == [None]


@pytest.fixture(scope="module")
def puzzles():
    tasks = load_tasks((), ("arc1/training",), ("25d8a9c8", "44f52bb0"))
    return ArcPuzzles(tasks, puzzle_ids(tasks, 3, 0), ((4, 4),))


def answered(puzzles, letters: str, halt: dict[str, float] | None = None) -> ArcJudge:
    """The first rows answer with T, the truth, or U, V, W, grids of their own."""
    questions = puzzles.questions(None)
    judge, made = questions.judge(), []
    for row, letter in enumerate(letters):
        candidate = questions.candidate(row)
        wrong = np.full((1, 1 + "UVW".find(letter)), 5, np.uint8)
        grid = candidate.truth if letter == "T" else wrong
        way = puzzles.ids.augmentation(candidate.puzzle_id)
        made.append(to_tokens(augment(grid, way), 4))
    q_halt_N = np.array([(halt or {}).get(letter, 0.0) for letter in letters])
    for start in range(0, len(made), 3):  # votes may come in any number of batches
        part = slice(start, start + 3)
        row_N = np.arange(len(made))[part]
        judge.add(row_N, np.array(made)[part], q_halt_N[part], (4, 4))
    return judge


def test_augmentations_are_undone_before_votes_are_counted(puzzles):
    judge = answered(puzzles, "UTVT" + "UUUU" + "TTTT")
    result = judge.scores(np.zeros(12))
    assert result["candidates"] == 12
    assert result["per_task"]["25d8a9c8"]["rank_of_truth"] == [1]
    assert result["per_task"]["44f52bb0"]["rank_of_truth"] == [None, 1]
    assert result["per_task"]["44f52bb0"]["votes_of_first_two"] == [[4], [4]]
    assert (result["pass@1"], result["solved@1"], result["test_inputs"]) == (0.75, 2, 3)


def test_who_leads_and_who_is_right(puzzles):
    judge = answered(puzzles, "UTVT" + "VUUW" + "TUUT", {"T": 1.0})
    assert judge.leading(np.array([2]), best=1) == {1}
    assert judge.leading(np.array([2]), best=2) == {0, 1}
    assert judge.leading(np.array([4, 11]), best=1) == {5, 8}
    assert judge.leading(np.arange(12), best=3) == {0, 1, 2, 4, 5, 7, 8, 9}
    assert judge.right(np.array([0, 5])) == {1, 3}
    assert judge.right(np.arange(12)) == {1, 3, 8, 11}
    behind = answered(puzzles, "UUVT")  # the truth counts, wherever it stands
    assert behind.leading(np.array([0]), best=1) == {0, 3}


def test_pooled_answers_are_those_given_after_each_other(puzzles):
    one, other = answered(puzzles, "UUVT"), answered(puzzles, "VVTV")
    one.pool(other)
    truth = puzzles.tasks[0].tests[0].output
    grids = {"U": [[5]], "V": [[5, 5]], "T": truth.tolist()}
    found = [(a.grid.tolist(), a.votes) for a in one.ranked(one.tests[0])]
    assert found == [(grids["V"], 4), (grids["U"], 2), (grids["T"], 2)]
    entry = one.submission()["25d8a9c8"]
    assert entry == [{"attempt_1": grids["V"], "attempt_2": grids["U"]}]
    assert other.scores(np.zeros(12))["candidates"] == 4


def test_answers_for_people(puzzles):
    judge = answered(puzzles, "UTUT", {"T": 2.0})
    first, second = judge.answers()
    assert (first["id"], first["source"]) == ("25d8a9c8", "arc1/training")
    shown = puzzles.tasks[0].demonstrations
    assert len(first["demonstrations"]) == len(shown)
    rows = ["".join(map(str, row)) for row in shown[0].input.tolist()]
    assert first["demonstrations"][0]["input"] == rows
    (test,) = first["tests"]
    assert (test["candidates"], test["distinct"], test["rank_of_truth"]) == (4, 2, 1)
    best, other = test["answers"]
    assert best["grid"] == test["output"]
    assert (best["rank"], best["votes"], best["score"]) == (1, 2, round(1 / (1 + math.exp(-2)), 6))
    ways = {i: augmentation_words(puzzles.ids.augmentation(i)) for i in puzzles.ids.of_task[0]}
    ids = list(ways)
    assert best["voters"] == [[ids[i], ways[ids[i]]] for i in (1, 3)]
    turned = Counter(ways[ids[i]].split(", ")[0] for i in (0, 2))
    assert other["votes_by"] == turned
    assert [t["answers"] for t in second["tests"]] == [[], []]
