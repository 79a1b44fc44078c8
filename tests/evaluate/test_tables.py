"""Score tables: whose answers they are, and which scores are shown."""

import dataclasses

import pytest

from drm_jax.evaluate.files import Evaluation
from drm_jax.evaluate.metrics import metrics_of
from drm_jax.evaluate.tables import score_table, task_table

SCORES = {
    "candidates": 2, "tasks": 1, "test_inputs": 1, "votes": 1, "pass@1": 1.0, "pass@2": 1.0,
    "solved@1": 1, "solved@2": 1,
    "per_task": {
        "t": {"test_inputs": 1, "hidden": [False], "rank_of_truth": [1],
              "votes_of_first_two": [[1]], "pass@1": 1.0, "pass@2": 1.0},
    },
}  # fmt: skip


def of(metrics, *steps: int) -> Evaluation:
    return Evaluation(steps or (1,), metrics, {}, None, (), ())


def cells(table) -> dict[str, list[str]]:
    return {column.header: list(column.cells) for column in table.columns}


@pytest.mark.parametrize(
    ("init_from", "name"), [(None, "untrained model"), ("runs/a", "initial weights from\nruns/a")]
)
def test_the_row_before_training_says_whose_weights_they_are(tiny, init_from, name):
    experiment = dataclasses.replace(tiny, init_from=init_from)
    rows = [of(metrics_of(experiment, (step,), SCORES, {}, 0, "digest"), step) for step in (0, 3)]
    assert cells(score_table(rows, {}))["answers of"] == [name, "step 3"]


@pytest.mark.parametrize("keep_best", [0, 1])
def test_nothing_is_selected_where_no_output_is_known(tiny, keep_best):
    experiment = dataclasses.replace(
        tiny, train=dataclasses.replace(tiny.train, keep_best=keep_best)
    )
    hidden = {"candidates": 2, "tasks": 1, "test_inputs": 0, "per_task": {}}
    name = "best_checkpoints_selected_on_test_labels"
    assert metrics_of(experiment, (1,), SCORES, {}, 0, "digest")[name] == bool(keep_best)
    assert metrics_of(experiment, (1,), hidden, {}, 0, "digest")[name] is False


def test_pass_at_k_is_shown_up_to_the_votes():
    """Of several rows each has its own; pass@2 of a single vote is not shown."""
    one, five = SCORES, SCORES | {"votes": 5, "pass@5": 1.0, "solved@5": 1}
    assert set(cells(score_table([of(one)], {}))) == {"answers of", "solved", "pass@1"}
    found = cells(score_table([of(one), of(five)], {}))
    assert set(found) == {"answers of", "solved", "pass@1", "@2", "@5"}
    assert (found["@2"], found["@5"]) == (["", "100%"], ["", "100%"])
    assert repr(of(one)) == "Evaluation of 1: pass@1 100.0%"
    assert "pass@2" not in cells(task_table(of(one)))
    assert "pass@2" in cells(task_table(of(five)))
