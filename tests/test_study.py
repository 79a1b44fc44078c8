"""experiments/study: its puzzles, its choice of tasks, what is equal for all methods, its rows."""

import dataclasses
import itertools
import json
import random
import sys

import jax
import numpy as np
import pytest
from rich.console import Console

from drm_jax.config import with_changes
from drm_jax.io.files import work_path
from drm_jax.puzzles.arc.tasks import load_source, smallest_tasks
from drm_jax.run.loop import train
from drm_jax.run.setup import set_up
from drm_jax.run.workdir import claim
from experiments.study import __main__ as study
from experiments.study import boards, scoring, thinking
from experiments.study.analysis import compare, mean, mean_of, select
from experiments.study.protocol import (
    FAMILIES,
    LEARNING_RATES,
    METHODS,
    OWN,
    TERAFLOPS,
    TEST_STEPS,
    Run,
    Tuned,
    experiment_of,
    final_runs,
    flops_per_step,
    own_tuning_runs,
    tuning_runs,
)
from experiments.study.rows import read_rows
from experiments.study.tasks import CANVAS, COUNT, chosen


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
    rows, trained, tuning = tmp_path / "rows", [], list(tuning_runs())

    def train(workdir):
        trained.append(workdir.name)
        if len(trained) == 3:
            sys.exit(f"{workdir.name}: drm: the disk is full")
        (workdir / "metrics.jsonl").write_text('{"step": 50, "kind": "train", "loss": 1.5}\n')
        (workdir / "history.jsonl").write_text(
            '{"event": "start", "jax": "0.10.2", "time": "2026-01-01T00:00:00"}\n'
            '{"event": "end", "time": "2026-01-01T00:01:30"}\n'
        )

    def score(run, experiment, workdir):
        wrong = 0.1 + abs(run.learning_rate - 1e-3) + 0.01 * ("trm" in run.method)
        more = {1: 0.02, 2: 0.01}
        scores = {f"published@{n}": {"wrong_cells": wrong + more.get(n, 0)} for n in TEST_STEPS}
        return {"scores": scores | {"confidence@8": {"wrong_cells": 0.0}}}

    monkeypatch.setattr(study, "train", train)
    monkeypatch.setattr(scoring, "score_run", score)
    with pytest.raises(SystemExit, match="the disk is full"):
        study.run_all(tuning, ["tuning-arc"], rows)
    study.run_all(tuning, ["tuning-arc"], rows)
    assert len(trained) == len(METHODS) * len(LEARNING_RATES) + 1
    assert trained[2] == trained[3]
    with pytest.raises(SystemExit, match="sudoku4, drm: not all is tuned yet"):
        study.best(study.read_rows(tuning, rows), METHODS)
    study.run_all(tuning, [], rows)
    tuned = study.best(study.read_rows(tuning, rows), METHODS)
    assert set(tuned.values()) == {Tuned(1e-3, 4)}
    own = list(own_tuning_runs(tuned))
    study.run_all(own, [], rows)
    tuned = study.best(study.read_rows(tuning + own, rows), (*METHODS, *OWN))
    assert len(tuned) == len(FAMILIES) * (len(METHODS) + len(OWN))
    (row, *_) = (r for r in study.read_rows(tuning, rows) if r["run"]["method"] == "trm")
    assert row["loss"] == [[50, 1.5]]
    assert row["seconds"] == 90
    final = list(final_runs(tuned))
    assert len(final) == len({run.key for run in final}) == 72
    assert {run.denoise_steps for run in final} == {4}
    changed = dataclasses.replace(tuning[0], denoise_steps=16)  # has the same name
    with pytest.raises(SystemExit, match="is of another protocol: delete it and"):
        study.run_all([changed], [], rows)


def test_rows_made_as_an_arc_task(tmp_path):
    """They are kept, but only as rows of their own run, and nothing new is compared with them."""
    run, other = itertools.islice((r for r in tuning_runs() if r.family == "sudoku4"), 2)
    row = {"run": {**vars(run), "key": run.key}, "protocol": "of before"}
    path = tmp_path / f"{run.key}.json"
    path.write_text(json.dumps(row))
    with pytest.raises(SystemExit, match="is of another protocol: delete it"):
        study.read_rows([run], tmp_path)
    path.write_text(json.dumps(row | {"made_as": study.AS_ARC_TASK}))
    assert len(study.read_rows([run, other], tmp_path)) == 1
    with pytest.raises(SystemExit, match="is of another protocol: delete it"):
        study.read_rows([dataclasses.replace(run, denoise_steps=16)], tmp_path)
    with pytest.raises(SystemExit, match="delete all of sudoku4, or none"):
        study.run_all([run, other], [], tmp_path)
    arc = next(tuning_runs())
    row = {"run": {**vars(arc), "key": arc.key}, "protocol": "of before"}
    (tmp_path / f"{arc.key}.json").write_text(json.dumps(row | {"made_as": study.AS_ARC_TASK}))
    with pytest.raises(SystemExit, match="is of another protocol: delete it"):
        study.read_rows([arc], tmp_path)


def test_a_study_says_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RUNS", tmp_path / "runs")
    run = next(tuning_runs())
    with pytest.raises(SystemExit, match="nothing: drm: "):
        study.train(work_path(tmp_path / "nothing"))
    with pytest.raises(SystemExit, match="2"):
        study.check_words(["tuning-arc", "finnal"], [run])
    workdir = work_path(tmp_path / "runs" / run.key)
    workdir.mkdir(parents=True)
    claim(workdir, experiment_of(run))
    with pytest.raises(SystemExit, match="holds a run of another protocol: delete it"):
        study.make_row(dataclasses.replace(run, denoise_steps=16), tmp_path / "rows")


# --- what is measured of a run -----------------------------------------------------------------
def test_scores_of_a_run_are_those_of_drm_eval(tmp_path, monkeypatch):
    run, workdir = Run("final", "sudoku4", "drm", 1e-3, 0), work_path(tmp_path)
    small = {"train.steps": 3, "model.hidden": 16, "model.layers": 1, "evaluate.every": 0}
    small |= {"method.recursion.cycles": 1, "method.recursion.inner_steps": 1}
    experiment = with_changes(experiment_of(run), small)
    train(experiment, workdir, Console(quiet=True))
    monkeypatch.setattr(scoring, "TEST_STEPS", (1, 4))
    monkeypatch.setattr(scoring, "OWN_AT_TEST", {"pad_outside": {"outside": "pad"}})
    row = scoring.score_run(run, experiment, workdir)
    assert set(row["scores"]) == {"published@1", "published@4", "pad_outside@16"}
    metrics = json.loads((workdir / "eval" / "step_3" / "metrics.json").read_text())
    same = row["scores"]["published@4"]
    assert same["wrong_cells"] == pytest.approx(1 - metrics["cell_accuracy"], abs=1e-5)
    assert same["exact"] == pytest.approx(metrics["exact"], abs=1e-5)
    assert len(same["per_task"]) == 64
    levels, path = row["errors_by_level"], row["path"]
    assert levels[0]["masked"] == 0
    assert levels[0]["masked_wrong"] is None
    assert levels[-1]["masked"] == 1
    assert path[0]["masked"] == path[1]["masked"] == 1  # the first remask masks all
    assert path[0]["answered_wrong"] == pytest.approx(levels[-1]["masked_wrong"], abs=1e-4)
    assert 0 < path[-1]["shown_wrong"] <= 1
    assert path[-1]["masked"] < path[5]["masked"] < 1


def test_what_is_scored_of_a_run():
    trm, drm, quick = (
        set(dict(scoring.settings(Run(stage, "arc", method, 1e-3, 0))))
        for stage, method in (("tuning", "trm"), ("tuning", "drm"), ("quick", "trm"))
    )
    assert trm == {f"published@{n}" for n in TEST_STEPS}
    assert drm > trm | {"confidence@4", "confidence@16", "pad_outside@16", "fresh_z@16"}
    assert quick == trm | {f"voters{n}@4" for n in (1, 2, 4, 8)}


# --- from rows to the page ---------------------------------------------------------------------
def made_row(run: Run, wrong: float, rng: random.Random) -> dict:
    """A row of a run whose answers are wrong in about such a share of cells."""
    if run.family == "arc":
        tasks, solved = {f"task{i}": 1 + i % 2 for i in range(6)}, "pass@2"
    else:
        tasks, solved = {f"puzzle {i}": 1 for i in range(9)}, "exact"
    scores = {}
    for name, _ in scoring.settings(run):
        per_task = {t: [wrong + 0.1 * rng.random() for _ in range(n)] for t, n in tasks.items()}
        flat = list(itertools.chain(*per_task.values()))
        scores[name] = {"wrong_cells": sum(flat) / len(flat), solved: 0.5, "per_task": per_task}
    made_with = {"drm_jax": "0.1.0", "jax": "0.10.2", "python": "3.11.7", "devices": "2 x cpu",
                 "time": "2026-01-01T"}  # fmt: skip
    row = {
        "run": {**vars(run), "key": run.key}, "steps": 1000, "flops_per_step": 1e9, "seconds": 60,
        "seconds_of_scoring": 10, "scores": scores, "made_with": made_with,
        "evaluations": [[100 * i, wrong, 0.5] for i in range(1, 4)],
    }  # fmt: skip
    if run.method in ("trm", "sprm"):
        return row
    levels = [{"level": n, "masked_wrong": wrong, "shown_wrong": 0.01} for n in scoring.LEVELS]
    path = {"masked": 0.5, "shown_wrong": 0.25, "outside_not_pad": None, "answered_wrong": wrong}
    return row | {"errors_by_level": levels, "path": [path] * 16}


@pytest.fixture(scope="module")
def made_rows() -> list[dict]:
    rng = random.Random(0)
    tuned = dict.fromkeys(itertools.product(FAMILIES, (*METHODS, *OWN)), Tuned(1e-3, 4))
    runs = [*tuning_runs(), *own_tuning_runs(tuned), *final_runs(tuned)]
    share = dict(zip((*METHODS, *OWN), (0.2, 0.3, 0.3, 0.1, 0.2, 0.25, 0.2, 0.05), strict=True))
    return [made_row(run, share[run.method], rng) for run in runs]


def test_statistics_by_hand(made_rows):
    assert (str(mean([0.1, 0.2, 0.3])), str(mean([0.25]))) == ("20.0 ± 5.8", "25.0")
    at = "published@4"
    for tasks in FAMILIES:
        drm, own, trm = (
            select(made_rows, "final", tasks, name) for name in ("drm", "drm_own_answers", "trm")
        )
        assert [row["run"]["seed"] for row in drm] == [0, 1, 2]
        same = compare(drm, at, drm, at)
        assert (same.value, same.low, same.high) == (0, 0, 0)
        better, worse = compare(own, at, drm, at), compare(trm, at, drm, at)
        expected = mean_of(own, at).value - mean_of(drm, at).value
        assert better.value == pytest.approx(expected)
        assert better.low < better.value < better.high < 0 < worse.low
    first, second = (
        [{"run": {"seed": 0}, "scores": {at: {"per_task": per_task}}}]
        for per_task in ({"a": [0.5, 0.1], "b": [0.0]}, {"a": [0.2, 0.1], "b": [0.3]})
    )
    found = compare(first, at, second, at)  # a: +0.3 over two inputs; b: -0.3 over one
    assert found.value == pytest.approx(0)
    assert (found.low, found.high) == pytest.approx((-12.706 * 0.2, 12.706 * 0.2), rel=1e-4)


def test_intervals_hold_what_they_say():
    """Of made-up effects that vary by task and by seed, 95% of the intervals hold the mean."""
    rng, held, trials, at = np.random.default_rng(0), 0, 1000, "published@4"
    for _ in range(trials):
        effect_SxU = rng.normal(0, 0.05, (3, 1)) + rng.normal(0, 0.1, 16) + 0.3
        effect_SxU = effect_SxU + rng.normal(0, 0.02, (3, 16))
        rows = [
            {
                "run": {"seed": s},
                "scores": {at: {"per_task": {str(u): [x] for u, x in enumerate(of)}}},
            }
            for s, of in enumerate(effect_SxU.tolist())
        ]
        nothing = [
            {"run": {"seed": s}, "scores": {at: {"per_task": {str(u): [0.0] for u in range(16)}}}}
            for s in range(3)
        ]
        found = compare(rows, at, nothing, at)
        held += found.low <= 0.3 <= found.high
    assert 0.93 < held / trials < 0.995


def test_the_page_has_every_method_and_its_figures(made_rows, tmp_path):
    pytest.importorskip("matplotlib")
    from experiments.study.results import write_results

    paths = write_results(made_rows, "final", tmp_path)
    text = paths[0].read_text()
    for figure in paths[1:]:
        assert figure.suffix == ".svg"
        assert str(figure.relative_to(tmp_path)) in text
    for tasks in FAMILIES:
        drm = select(made_rows, "final", tasks, "drm")
        assert f"| `drm` | 1,000 | 0.001 | 4 | {mean_of(drm, 'published@4')} | 50.0" in text
    assert "nan" not in text
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_results(made_rows, "final", tmp_path)] == before


def test_the_results_are_those_of_the_committed_rows():
    pytest.importorskip("matplotlib")
    from experiments.study.results import page

    tuning = list(tuning_runs())
    tuning += own_tuning_runs(study.best(study.read_rows(tuning, study.ROWS), METHODS))
    tuned = study.best(study.read_rows(tuning, study.ROWS), (*METHODS, *OWN))
    runs = [*tuning, *final_runs(tuned)]
    rows = study.read_rows(runs, study.ROWS)
    assert len(rows) == len(runs) == len(list(study.ROWS.iterdir()))
    assert {row["run"]["family"] for row in rows if "made_as" in row} == {"sudoku4", "sudoku6"}
    assert (
        page(rows, "final", read_rows(thinking.ROWS))
        == (study.ROOT / "docs" / "results.md").read_text()
    )


def test_the_tables_of_boards_say_what_the_rows_say():
    rows, text = read_rows(boards.ROWS), boards.DOCUMENT.read_text(encoding="utf-8")
    assert rows
    assert boards.with_tables(text, rows) == text, "python -m experiments.study.boards --write"
