"""experiments/study/solving.py: which tasks, no leaks, what a row and a table say."""

import json

import numpy as np
import pytest

from drm_jax.puzzles.arc.tasks import grids
from experiments.study import solving
from experiments.study.solving import Run


def made_row(weights: str, seed: int, solved: str, first: str = "0000"):
    """Of four tasks with one test input each."""
    run = Run("held_out_10", weights, 20, seed)
    answers = {"copies": "0000", "step_0": first, "end": solved}
    return {
        "run": {**vars(run), "key": run.key},
        "solved": {
            name: {f"task{i}": [int(bit)] for i, bit in enumerate(bits)}
            for name, bits in answers.items()
        },
    }


def test_the_tasks_and_that_nothing_leaks():
    names = ("held_out", "held_out_10", "development")
    held_out, held_out_10, development = map(solving.tasks_of, names)
    assert (len(held_out), len(held_out_10), len(development)) == (43, 34, 24)
    assert all(max(grid.shape) <= 9 for task in held_out for grid in grids(task))
    for task in held_out_10:
        assert max(max(grid.shape) for grid in grids(task)) == 10
    assert [solving.leaks(name) for name in names] == [[], [], []]


def test_a_leak_is_found(monkeypatch):
    left_out = {task.id for task in solving.tasks_of("development")}
    trained = [t for t in solving.load_source("arc1/training") if t.id not in left_out][:20]
    monkeypatch.setattr(solving, "tasks_of", lambda name: trained)
    assert len(solving.leaks("trained on")) > 5  # not all: larger grids were left out


def test_a_table_pairs_by_test_input():
    rows = [made_row("small", seed, solved, "0001") for seed, solved in enumerate(("1100", "1110"))]
    rows += [made_row("nothing", seed, "1000") for seed in range(2)]
    (table,) = solving.tables(rows)
    cells = [list(column.cells) for column in table.columns]
    assert table.title == "held_out_10: solved of 4 test inputs; copies of inputs: 0"
    assert cells[0] == ["0", "20"]
    assert cells[1] == ["12.5% (1, 1, 0, 0)", "62.5% (2, 3)"]
    assert cells[2][1] == "25.0% (1, 1)"
    assert cells[3][1].startswith("+37.5 [")


def test_the_interval_is_of_the_differences():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 2, (2, 3, 40))
    value, low, high = (
        float(part)
        for part in solving.paired(one, other).replace("[", "").strip("]").replace(",", "").split()
    )
    assert low < value < high
    assert value == pytest.approx(100 * (one.mean() - other.mean()), abs=0.06)
    assert solving.paired(one, one) == "+0.0 [+0.0, +0.0]"


def test_a_row_of_a_run(tmp_path, monkeypatch):
    """What `drm solve` has written is read; nothing is trained here."""
    tasks = solving.tasks_of("development")[:2]
    right = {
        task.id: [{"attempt_1": test.output.tolist(), "attempt_2": [[0]]} for test in task.tests]
        for task in tasks
    }
    wrong = {id: [{"attempt_1": [[0]], "attempt_2": [[0]]} for _ in of] for id, of in right.items()}

    def solve(command, **how):
        folder = tmp_path / "runs" / run.key
        assert command[command.index("--minutes") + 1] == "5"
        assert command[command.index("--only") + 1 :] == [task.id for task in tasks]
        (folder / "eval" / "step_0").mkdir(parents=True)
        (folder / "eval" / "step_0" / "submission.json").write_text(json.dumps(wrong))
        (folder / "submission.json").write_text(json.dumps(right))
        (folder / "solve.json").write_text('{"seconds_used": 299.02}')
        (folder / "config.json").write_text('{"train": {"steps": 7}}')
        (folder / "history.jsonl").write_text(
            '{"event": "start", "jax": "0.10.2", "time": "2026-01-01T00:00:00"}\n'
        )
        return type("Done", (), {"returncode": 0})

    run = Run("development", "small", 5, 0)
    monkeypatch.setattr(solving, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(solving, "ROWS", tmp_path / "rows")
    monkeypatch.setattr(solving, "tasks_of", lambda name: tasks)
    monkeypatch.setattr(solving.subprocess, "run", solve)
    solving.make_row(run)
    row = json.loads((tmp_path / "rows" / f"{run.key}.json").read_text())
    assert (row["seconds"], row["steps"], row["made_with"]["jax"]) == (299.0, 7, "0.10.2")
    assert solving.solved_of(row).all()
    assert not solving.solved_of(row, "step_0").any()
    assert not solving.solved_of(row, "copies").any()
