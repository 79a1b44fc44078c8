"""experiments/study/thinking.py: what is equal for all methods, which runs follow from the rows."""

import json

import pytest

from drm_jax.commands.main import main
from drm_jax.io.files import work_path
from experiments.study import thinking
from experiments.study.thinking import FAMILIES, METHODS, OPTIONS, OPTIONS_OF, Run


def row(family: str, method: str, rate: float, share: float, stage: str = "tuning", seed: int = 0):
    """Of a run that solves a share of 100 tests, whatever the passes."""
    run = Run(stage, family, method, rate, seed)
    bits = "1" * round(100 * share) + "0" * round(100 * (1 - share))
    return {
        "run": {**vars(run), "key": run.key},
        "own": {"depth": {str(n): bits for n in thinking.PASSES}},
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_all_have_the_same_flops(family):
    for method in (*METHODS, *(OPTIONS if family == OPTIONS_OF else ())):
        for stage, teraflops in thinking.TERAFLOPS.items():
            experiment = thinking.experiment_of(Run(stage, family, method, 1e-3, 0))
            flops = thinking.flops_per_step(experiment) * experiment.train.steps
            assert flops == pytest.approx(teraflops * 1e12, rel=0.01)


def test_the_final_puzzles_are_others():
    for family in FAMILIES:
        tuned, final = (
            thinking.experiment_of(Run(stage, family, "drm", 1e-3, 0)).data
            for stage in ("tuning", "final")
        )
        if family == "arc8":
            assert not {*tuned.only} & {*final.only}
            assert abs(len(tuned.only) - len(final.only)) <= 1
        else:
            assert tuned.puzzles_seed != final.puzzles_seed


def test_rates_are_tried_until_the_best_one_is_inside():
    def rates(rows):
        runs = thinking.tuning_runs(rows)
        return [r.learning_rate for r in runs if (r.family, r.method) == ("maze11", "trm")]

    def rows(*pairs):
        return [row("maze11", "trm", rate, share) for rate, share in pairs]

    assert rates([]) == [1e-3, 2e-3, 4e-3]
    inside = rows((1e-3, 0.1), (2e-3, 0.3), (4e-3, 0.2))
    assert rates(inside) == [1e-3, 2e-3, 4e-3]
    low = rows((1e-3, 0.4), (2e-3, 0.3), (4e-3, 0.2))
    assert rates(low) == [5e-4, 1e-3, 2e-3, 4e-3]
    assert rates([*low, *rows((5e-4, 0.1))]) == [5e-4, 1e-3, 2e-3, 4e-3]
    high = rows((1e-3, 0.1), (2e-3, 0.3), (4e-3, 0.5))
    assert rates(high) == [1e-3, 2e-3, 4e-3, 8e-3]
    assert not list(thinking.final_runs(low))  # not tuned yet
    final = list(thinking.final_runs(inside))
    assert [(r.method, r.learning_rate, r.seed) for r in final] == [
        ("trm", 2e-3, seed) for seed in thinking.SEEDS
    ]
    of_drm = [
        row(OPTIONS_OF, "drm", rate, share) for rate, share in ((1e-3, 0), (2e-3, 0.5), (4e-3, 0))
    ]
    final = list(thinking.final_runs(of_drm))
    assert len(final) == len(thinking.SEEDS) * (1 + len(OPTIONS))


def test_a_table_of_rows():
    rows = [
        row("maze11", "trm", 2e-3, share, "final", seed) for seed, share in enumerate((0.2, 0.4))
    ]
    for one in rows:
        votes = {"votes": one["own"]["depth"]["1"], "oracle": "1" * 100}
        one["own"]["breadth"] = {"16": votes}
    (table,) = thinking.tables(rows)
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells[:4] == ["trm", "0.002", "2", "30.0 (20.0–40.0)"]
    assert cells[-4:] == ["30.0 (20.0–40.0)", "", "", "100.0 (100.0–100.0)"]


@pytest.mark.parametrize("family", ["sudoku6", "arc8"])
def test_a_row_is_what_drm_eval_says(family, tmp_path, monkeypatch):
    monkeypatch.setattr(thinking, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(thinking, "ROWS", tmp_path / "rows")
    monkeypatch.setattr(thinking, "TERAFLOPS", {"final": 0.01})
    for name, value in (("PASSES", (1, 2)), ("ROLLOUTS", (1, 2)), ("ROLLOUT_PASSES", 2)):
        monkeypatch.setattr(thinking, name, value)
    monkeypatch.setattr(thinking, "TESTS", 8)
    run = Run("final", family, "trm", 2e-3, 0)
    if family == "arc8":
        first = thinking.arc_tasks()[1][:2]
        monkeypatch.setattr(thinking, "arc_tasks", lambda: ((), first))
    thinking.make_row(run)
    made = json.loads((tmp_path / "rows" / f"{run.key}.json").read_text())
    workdir = work_path(tmp_path / "runs" / run.key)
    assert main(["eval", str(workdir), "--denoise-steps", "2"]) == 0
    (folder,) = (workdir / "eval").glob("*denoise_steps=2")
    scores = json.loads((folder / "metrics.json").read_text())
    bits = made["own"]["depth"]["2"]
    assert len(bits) == scores["test_inputs"]
    solved = scores["solved@2"] if family == "arc8" else round(8 * scores["exact"])
    assert bits.count("1") == solved
    assert {*made["own"]["breadth"]} == {"1", "2"}
    choices = {*made["own"]["breadth"]["2"]}
    assert choices == {*thinking.CHOICES} - ({"rules"} if family == "arc8" else set())
    assert ("search" in made) == (family == "sudoku6")
