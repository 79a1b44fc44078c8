"""experiments/study/thinking.py: what is equal for all methods, which runs follow from the rows."""

import itertools
import json

import numpy as np
import pytest

from drm_jax.commands.main import main
from drm_jax.evaluate.answers import Trajectory, pack
from drm_jax.evaluate.sweep import choices_of
from drm_jax.io.files import work_path
from drm_jax.puzzles.arc.augment import IDENTITY_COLOURS
from drm_jax.puzzles.sudoku import symmetries
from experiments.study import paths, thinking
from experiments.study.analysis import select
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
        return [r.learning_rate for r in runs if (r.family, r.method) == ("maze9", "trm")]

    def rows(*pairs):
        return [row("maze9", "trm", rate, share) for rate, share in pairs]

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
    assert len(final) == len(thinking.SEEDS) * (2 + len(OPTIONS))


def test_a_table_of_rows():
    rows = [
        row("maze9", "trm", 2e-3, share, "final", seed) for seed, share in enumerate((0.2, 0.4))
    ]
    for one in rows:
        votes = {"votes": one["own"]["depth"]["1"], "oracle": "1" * 100}
        one["own"]["breadth"] = {"16": votes}
    (table,) = thinking.tables(rows)
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells[:4] == ["trm", "0.002", "2", "30.0 (20.0–40.0)"]
    assert cells[-4:] == ["30.0 (20.0–40.0)", "", "", "100.0 (100.0–100.0)"]


IDENTITY = {
    "sudoku6": symmetries.identity(6),
    "sudoku9": symmetries.identity(9),
    "maze9": np.zeros(1, np.uint8),
    "arc8": np.array([0, *IDENTITY_COLOURS], np.uint8),
}


def summary(family: str):
    """What 32 passes have answered of three puzzles: the first is right from the tenth on, the
    second is right after the fourth alone, of the third one cell is always wrong."""
    data = FAMILIES[family][0]
    (board,), first = data.boards, data.vocabulary.first
    grid = np.zeros(board, np.uint8)
    predicted_RxNxS = np.full((3, 32, grid.size), first, np.uint8)
    predicted_RxNxS[0, :9, :2] += 1
    predicted_RxNxS[1, np.arange(32) != 3, 0] += 1
    predicted_RxNxS[2, :, 1] += 1
    predicted_RxNxS[2, -1, 1] += 1
    sure_N, nothing_NxS = np.array([-1.0] * 31 + [1.0]), np.zeros((32, grid.size), np.uint8)
    return paths.summary(
        [
            pack(
                Trajectory(
                    task="t", test=0, question=grid, truth=grid, puzzle_id=1,
                    augmentation_A=IDENTITY[family], levels_N=np.arange(32), board=board,
                    q_halt_N=sure_N * (-1 if number == 2 else 1), predicted_NxS=predicted_NxS,
                    masked_NxS=nothing_NxS.astype(bool), confidence_NxS=nothing_NxS,
                )
            )
            for number, predicted_NxS in enumerate(predicted_RxNxS)
        ],
        data,
    )  # fmt: skip


def test_what_passes_answer():
    found = summary("sudoku6")
    third, cells = round(1 / 3, 4), 3 * 36
    assert found["right"] == [0, 0, 0, third, 0, 0, 0, 0, 0, *[third] * 23]
    assert found["wrong"][:4] == [round(4 / cells, 4)] * 3 + [round(3 / cells, 4)]
    assert found["wrong"][9:] == [round(2 / cells, 4)] * 23
    assert found["mended"][0] == 0.5
    assert found["mended"][-1] == 0
    assert found["spoiled"][0] == 0
    assert found["spoiled"][3] == round(1 / (cells - 3), 4)
    assert (found["lost"], found["wrong_cells"]) == (third, 1)
    assert (found["sure_right"], found["sure_wrong"], found["moving"]) == (1, 0.5, 0.5)
    shown = found["examples"]
    assert list(shown) == ["recovers", "lost", "wrong"]
    assert [shown[kind]["wrong_cells"][9] for kind in shown] == [0, 1, 1]
    assert list(shown["lost"]["answers"]) == [str(n) for n in paths.SHOWN]
    title, frames = paths.example_row("lost", shown["lost"], FAMILIES["sudoku6"][0])
    assert title == "was right, and is lost"
    assert [int(frame.conflicts_hxw.sum()) for frame in frames] == [0, 1, 1, 1, 0, 1, 1, 1, 0]
    assert len(frames) == 2 + len(paths.SHOWN)
    none_wrong = paths._share(np.ones(2, bool), np.zeros(2, bool))
    assert none_wrong is None


def all_rows():
    """Of every run: each method solves a share of its own, with more passes more of them."""
    from experiments.study import thinking_results

    rng = np.random.default_rng(0)

    def bits(share, count):
        return "".join(map(str, (rng.random(count) < share).astype(int)))

    rows, summaries = [], {family: summary(family) for family in FAMILIES}
    counts = {"arc8": len(thinking_results._task_of_test())}
    for family, (number, method) in itertools.product(FAMILIES, enumerate(METHODS)):
        for rate in thinking.RATES:
            tuned = row(family, method, rate, 0.5 - 100 * abs(rate - 2e-3))
            rows.append(tuned | dict.fromkeys(thinking.tests_of(family), tuned["own"]))
        for seed in thinking.SEEDS:
            final = row(family, method, 2e-3, 0, "final", seed)
            for kind in thinking.tests_of(family):
                count = counts.get(family, 100)
                depth = {
                    str(n): bits(0.1 + 0.15 * number + 0.05 * i, count)
                    for i, n in enumerate(thinking.PASSES)
                }
                choices = dict.fromkeys(choices_of(FAMILIES[family][0]), depth["32"])
                breadth = {str(n): choices for n in thinking.ROLLOUTS}
                final[kind] = {"depth": depth, "breadth": breadth, "path": summaries[family]}
            rows.append({**final, "steps": 1000})
    for option, seed in itertools.product(("drm", *OPTIONS), thinking.SEEDS):
        like = next(
            r for r in rows if r["run"]["key"] == f"final-{OPTIONS_OF}-drm-0.002-seed{seed}"
        )
        run = Run("options", OPTIONS_OF, option, 2e-3, seed)
        rows.append({**like, "run": {**vars(run), "key": run.key}})
    return rows


def test_the_second_part_of_the_results(tmp_path):
    pytest.importorskip("matplotlib")
    from experiments.study import thinking_results

    rows = all_rows()
    assert thinking_results.is_complete(rows)
    assert not thinking_results.is_complete(rows[:-1])
    text = thinking_results.page(rows)
    assert "nan" not in text
    for method in METHODS:
        assert text.count(f"| `{method}` |") > len(FAMILIES)
    found = select(rows, "final", "maze9", "trm")
    solved = thinking_results.by_passes("own", 32)
    assert f"| {thinking_results.share(found, solved)} |" in text
    drm = select(rows, "final", "maze9", "drm")
    difference = thinking_results.compare(found, solved, drm, solved)
    assert difference.low < difference.value < difference.high
    shares = [thinking_results.share(of, solved).value for of in (found, drm)]
    assert difference.value == pytest.approx(shares[0] - shares[1])
    assert thinking_results.passes_of(rows, "maze9", "trm") == 1  # all are equal in tuning
    rising = {str(n): "1" * n + "0" * (32 - n) for n in thinking.PASSES}
    assert thinking_results.rises([{"own": {"depth": rising}}], "own")
    assert not thinking_results.rises([row("maze9", "trm", 2e-3, 0.5)], "own")
    thinking_results.draw(rows, tmp_path)
    drawn = [path.name for path in tmp_path.iterdir()]
    assert len(drawn) == 1 + len(FAMILIES)
    for name in drawn:
        assert f"images/results/{name}" in text


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
    path = made["own"]["path"]
    assert len(path["wrong"]) == 2
    if family == "sudoku6":
        assert path["right"][-1] == bits.count("1") / len(bits)
    breadth = made["search" if family == "sudoku6" else "own"]["breadth"]
    assert {*breadth} == {"1", "2"}
    choices = {*breadth["2"]}
    assert choices == {*thinking.CHOICES} - ({"rules"} if family == "arc8" else set())
    assert ("search" in made) == (family == "sudoku6")
