"""experiments/study: its puzzles, its choice of tasks, what is equal for all methods, its rows."""

import itertools
import json
import subprocess
from pathlib import Path

import jax
import pytest

from drm_jax.arc.tasks import load_source, smallest_tasks
from drm_jax.run.flops import count_flops
from drm_jax.run.setup import set_up
from experiments.study import __main__ as study
from experiments.study.protocol import (
    FAMILIES,
    LEARNING_RATES,
    METHODS,
    TERAFLOPS,
    Run,
    experiment_of,
    final_runs,
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
    for method in METHODS:
        experiment = experiment_of(Run(family, method, 1e-3, 0, held_out=False))
        flops = count_flops(experiment).train * experiment.train.steps * 32
        assert flops == pytest.approx(TERAFLOPS * 1e12, rel=0.01)
        if family == "arc":
            params = jax.eval_shape(set_up(experiment).make_state).params
            sizes.append(sum(leaf.size for leaf in jax.tree.leaves(params)))
    if sizes:
        assert max(sizes) <= 1.01 * min(sizes)


def test_a_study_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """What has a row isn't run again, and the rates of the final runs are those that did best."""
    monkeypatch.setattr(study, "ROOT", tmp_path)
    monkeypatch.setattr(study, "ROWS", tmp_path / "rows")
    trained = []

    def train(command, **_):
        workdir = Path(command[-1])
        name = workdir.name
        trained.append(name)
        if len(trained) == 3:
            return subprocess.CompletedProcess(command, 1, "", "drm: the disk is full")
        config = json.loads((workdir / "config.json").read_text())
        rate, steps = config["optimizer"]["learning_rate"], config["train"]["steps"]
        folder = workdir / "eval" / f"step_{steps}"
        folder.mkdir(parents=True)
        right = 0.9 - abs(rate - 1e-3) - 0.01 * ("trm" in name)
        task = {"cell_accuracy": [right], "rank_of_truth": [None]}
        scores = {"pass@1": 0.0, "pass@2": 0.5, "cell_accuracy": right, "per_task": {"x": task}}
        (folder / "metrics.json").write_text(json.dumps(scores))
        (workdir / "metrics.jsonl").write_text('{"step": 50, "kind": "train", "loss": 1.5}\n')
        (workdir / "history.jsonl").write_text('{"event": "start", "jax": "0.10.2"}\n')
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(study.subprocess, "run", train)
    with pytest.raises(SystemExit, match="the disk is full"):
        study.run_all(tuning_runs(), ["tuning-arc"])
    study.run_all(tuning_runs(), ["tuning-arc"])
    assert len(trained) == len(METHODS) * len(LEARNING_RATES) + 1
    assert trained[2] == trained[3]
    with pytest.raises(SystemExit, match="run the stage tuning first"):
        study.best_rates(study.read_rows())
    study.run_all(tuning_runs(), [])
    rates = study.best_rates(study.read_rows())
    assert set(rates.values()) == {1e-3}
    assert len(rates) == len(FAMILIES) * len(METHODS)
    (row, *_) = (r for r in study.read_rows() if r["run"]["method"] == "trm")
    assert row["loss"] == [[50, 1.5]]
    assert len(list(final_runs(rates))) == 54
