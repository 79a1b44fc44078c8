"""experiments/study: its puzzles, its choice of tasks, what is equal for all methods, its rows."""

import itertools
import json
import subprocess
from pathlib import Path

import jax
import pytest
from rich.console import Console

from drm_jax.arc.tasks import load_source, smallest_tasks
from drm_jax.config import with_changes
from drm_jax.io.files import work_path
from drm_jax.run.loop import train
from drm_jax.run.setup import set_up
from experiments.study import __main__ as study
from experiments.study import scoring
from experiments.study.protocol import (
    FAMILIES,
    LEARNING_RATES,
    METHODS,
    OWN,
    TERAFLOPS,
    Run,
    Tuned,
    experiment_of,
    final_runs,
    flops_per_step,
    own_tuning_runs,
    tuning_runs,
)
from experiments.study.sudoku import family, solve
from experiments.study.tasks import CANVAS, COUNT, chosen


def is_solution(grid, box_rows: int) -> bool:
    side = len(grid)
    columns = side // box_rows
    boxes = [
        [grid[r + i][c + j] for i in range(box_rows) for j in range(columns)]
        for r in range(0, side, box_rows)
        for c in range(0, side, columns)
    ]
    digits = list(range(1, side + 1))
    return all(sorted(unit) == digits for unit in itertools.chain(grid, zip(*grid), boxes))


@pytest.mark.parametrize("boxes", [(2, 2), (2, 3)])
def test_puzzles_have_one_solution_and_no_clue_too_many(boxes):
    made = family(*boxes, seed=1, trained=6, tested=3)
    assert made == family(*boxes, seed=1, trained=6, tested=3) != family(*boxes, 2, 6, 3)
    assert (len(made["train"]), len(made["test"])) == (6, 3)
    pairs = made["train"] + made["test"]
    assert len({str(pair["input"]) for pair in pairs}) == 9
    for pair in pairs:
        puzzle, solution = pair["input"], pair["output"]
        assert is_solution(solution, boxes[0])
        assert solve(puzzle, boxes[0], 2) == [solution]
        for r, c in itertools.product(range(len(puzzle)), repeat=2):
            assert puzzle[r][c] in (0, solution[r][c])
            if puzzle[r][c]:
                less = [row.copy() for row in puzzle]
                less[r][c] = 0
                assert len(solve(less, boxes[0], 2)) == 2


def test_what_cannot_be_solved():
    assert solve([[1, 1, 0, 0], [0] * 4, [0] * 4, [0] * 4], 2, 2) == []
    assert len(solve([[0] * 4] * 4, 2, 500)) == 288  # all there are


def test_held_out_tasks_are_new():
    tuned, held_out = map(set, chosen())
    assert len(tuned) == len(held_out) == COUNT
    every = load_source("arc1/training")
    shown = {task.id for task in smallest_tasks(every, CANVAS, 1, 24)}
    assert tuned <= shown
    assert not held_out & shown


@pytest.mark.parametrize("family", FAMILIES)
def test_all_methods_have_the_same_flops_and_nearly_the_same_parameters(family):
    sizes = []
    for method in (*METHODS, *OWN):
        experiment = experiment_of(Run("final", family, method, 1e-3, 0))
        flops = flops_per_step(experiment) * experiment.train.steps
        assert flops == pytest.approx(TERAFLOPS["final"][family] * 1e12, rel=0.01)
        if family == "arc":
            params = jax.eval_shape(set_up(experiment).make_state).params
            sizes.append(sum(leaf.size for leaf in jax.tree.leaves(params)))
    if sizes:
        assert max(sizes) <= 1.01 * min(sizes)


def test_a_study_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """What has a row isn't run again, and the final runs are as they did best in tuning."""
    monkeypatch.setattr(study, "ROOT", tmp_path)
    monkeypatch.setattr(study, "RUNS", tmp_path / "runs")
    rows = tmp_path / "rows"
    trained = []

    def train(command, **_):
        workdir = Path(command[-1])
        trained.append(workdir.name)
        if len(trained) == 3:
            return subprocess.CompletedProcess(command, 1, "", "drm: the disk is full")
        (workdir / "metrics.jsonl").write_text('{"step": 50, "kind": "train", "loss": 1.5}\n')
        (workdir / "history.jsonl").write_text(
            '{"event": "start", "jax": "0.10.2", "time": "2026-01-01T00:00:00"}\n'
            '{"event": "end", "time": "2026-01-01T00:01:30"}\n'
        )
        return subprocess.CompletedProcess(command, 0, "", "")

    def score(run, experiment, workdir):
        wrong = 0.1 + abs(run.learning_rate - 1e-3) + 0.01 * ("trm" in run.method)
        steps = {1: 0.02, 4: 0.0, 16: 0.0}
        scores = {f"published@{n}": {"wrong_cells": wrong + more} for n, more in steps.items()}
        return {"scores": scores | {"confidence@8": {"wrong_cells": 0.0}}}

    monkeypatch.setattr(study.subprocess, "run", train)
    monkeypatch.setattr(scoring, "score_run", score)
    with pytest.raises(SystemExit, match="the disk is full"):
        study.run_all(tuning_runs(), ["tuning-arc"], rows)
    study.run_all(tuning_runs(), ["tuning-arc"], rows)
    assert len(trained) == len(METHODS) * len(LEARNING_RATES) + 1
    assert trained[2] == trained[3]
    with pytest.raises(SystemExit, match="run the stage tuning first"):
        study.best(study.read_rows(rows), METHODS)
    study.run_all(tuning_runs(), [], rows)
    tuned = study.best(study.read_rows(rows), METHODS)
    assert set(tuned.values()) == {Tuned(1e-3, 4)}
    study.run_all(own_tuning_runs(tuned), [], rows)
    tuned = study.best(study.read_rows(rows), (*METHODS, *OWN))
    assert len(tuned) == len(FAMILIES) * (len(METHODS) + len(OWN))
    (row, *_) = (r for r in study.read_rows(rows) if r["run"]["method"] == "trm")
    assert row["loss"] == [[50, 1.5]]
    assert row["seconds"] == 90
    final = list(final_runs(tuned))
    assert len(final) == len({run.key for run in final}) == 72
    assert {run.denoise_steps for run in final} == {4}


# --- what is measured of a run -----------------------------------------------------------------
@pytest.fixture(scope="module", params=["drm", "trm"])
def trained(request, tmp_path_factory):
    """A run of a few steps, and its workdir."""
    run = Run("final", "sudoku4", request.param, 1e-3, 0)
    small = {"train.steps": 3, "model.hidden": 16, "evaluate.every": 0}
    experiment = with_changes(experiment_of(run), small)
    workdir = work_path(tmp_path_factory.mktemp(run.method))
    train(experiment, workdir, Console(quiet=True))
    return run, experiment, workdir


def test_scores_of_a_run_are_those_of_drm_eval(trained, monkeypatch):
    run, experiment, workdir = trained
    monkeypatch.setattr(scoring, "TEST_STEPS", (1, 4, 32))
    monkeypatch.setattr(scoring, "OWN_AT_TEST", {"pad_outside": {"evaluate.outside": "pad"}} | {
        "confidence": {"evaluate.remask": "confidence"}})  # fmt: skip
    row = scoring.score_run(run, experiment, workdir)
    metrics = json.loads((workdir / "eval" / "step_3" / "metrics.json").read_text())
    same = row["scores"]["published@4"]
    assert same["wrong_cells"] == pytest.approx(1 - metrics["cell_accuracy"], abs=1e-5)
    assert len(same["per_task"]["sudoku4"]) == 64
    if run.method == "trm":
        assert set(row["scores"]) == {"published@1", "published@4", "published@32"}
        assert "path" not in row
        return
    assert set(row["scores"]) > {"confidence@4", "pad_outside@16"}
    levels, path = row["errors_by_level"], row["path"]
    assert levels[0]["masked"] == 0
    assert levels[0]["masked_wrong"] is None
    assert levels[-1]["masked"] == 1
    assert path[0]["masked"] == path[1]["masked"] == 1  # the first remask masks all
    assert path[0]["answered_wrong"] == pytest.approx(levels[-1]["masked_wrong"], abs=1e-4)
    assert 0 < path[-1]["shown_wrong"] <= 1
    assert path[-1]["masked"] < path[5]["masked"] < 1
