"""The page's contents, without a browser; see test_browser.py for what it does."""

import base64
import dataclasses
import gzip
import itertools
import json
import os
import re
import shutil
import tempfile

import numpy as np
import pytest
from made_run import KINDS, kind_of, made_run

from drm_jax.commands.main import main
from drm_jax.errors import InputError
from drm_jax.evaluate.answers import (
    answer_of,
    answers_bytes,
    augmented,
    began_from,
    read_answers,
    read_trajectories,
    unpack,
)
from drm_jax.evaluate.curves import Curve, Point, curve_file, curve_text
from drm_jax.io.files import work_path
from drm_jax.methods.drm import Drm
from drm_jax.methods.trm import Trm
from drm_jax.model.recursion import Recursion
from drm_jax.puzzles.arc.augment import augment, from_vector
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.roles import load_tasks
from drm_jax.puzzles.arc.tokens import VOCABULARY, crop
from drm_jax.puzzles.boards import grid_of
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.puzzles.sudoku.symmetries import from_bits, num_bits
from drm_jax.report import collect
from drm_jax.report.collect import (
    _outcome,
    curves,
    described_tasks,
    overview,
    packed_bits,
    path_cells,
    read_run,
    undo_map,
    unpacked,
)
from drm_jax.report.curves import curve
from drm_jax.report.page import _score_columns, comparison_page, single_page
from drm_jax.run.differences import differing_options


def with_paths(workdir):
    """A run with its trajectories."""
    run = read_run(workdir)
    return run, unpacked(run)


def embedded(html: str) -> dict:
    """The data that the page's script reads."""
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*)</script>', html)[1]
    )


def test_every_outcome_is_told(experiment, workdir):
    order = [task.id for task in load_tasks((), experiment.data.evaluate, experiment.data.only)]
    outcome = {task["id"]: task["outcome"] for task in described_tasks(*with_paths(workdir))}
    assert outcome == {name: kind_of(k) for k, name in enumerate(order)}
    assert len(order) >= len(KINDS)


def test_paths_are_those_of_the_answers(workdir):
    run = read_run(workdir)
    for task in described_tasks(run, unpacked(run)):
        for t, test in enumerate(task["tests"]):
            paths = [path for path in task["paths"] if path["test"] == t]
            by_rank = {path["rank"] for path in paths}
            assert {a["rank"] for a in test["answers"] if a["rank"] <= 2 or a["right"]} <= by_rank
            assert any(path["symmetry"] == "as it is" for path in paths)
            for path in paths:
                (answer,) = (a for a in test["answers"] if a["rank"] == path["rank"])
                assert path["right"] == answer["right"]
                assert path["right_from"] == (None if not path["right"] else 2)
                assert path["levels"][:2] == [1000, 1000]  # all masked, and once more
                assert path["levels"] == sorted(path["levels"], reverse=True)


def test_curves_of_thinking_are_drawn(workdir, tmp_path):
    """Those on the tests that are shown; of two runs the headline of each, under its own number."""
    tests = json.loads((workdir / "eval" / "step_4" / "metrics.json").read_text())["tests"]
    points = tuple(Point(at, {"pass@2": 0.25, "cell_accuracy": 0.5}, at) for at in (1, 4))
    depth = Curve("depth", 4, "pass@2", 10, tests, {}, points)
    votes = tuple(Point(at, {"votes": 0.25, "oracle": 0.75}, 3) for at in (1, 4))
    breadth = dataclasses.replace(depth, kind="breadth", points=votes)
    copies = [work_path(tmp_path / name) for name in ("one", "two")]
    for copy in copies:
        shutil.copytree(workdir, copy)
    for drawn in (depth, breadth):
        (copies[1] / "eval/step_4" / curve_file(drawn.kind)).write_text(curve_text(drawn))
    main(["report", str(copies[1])])
    html = (copies[1] / "report.html").read_text()
    for text in ("scores by passes", "pass@2 by choice, by rollouts", "oracle</bdi> 75.0%"):
        assert text in html
    page = comparison_page([read_run(copy) for copy in copies])
    (chart,) = re.findall(r"pass@2 by rollouts</figcaption>(.*?)</figure>", page, re.DOTALL)
    assert "two</bdi> 25.0%" in chart
    assert "<bdi>one" not in chart
    assert 'class="line run1"' in chart
    other = dataclasses.replace(depth, tests="others")
    (copies[1] / "eval/step_4" / curve_file("depth")).write_text(curve_text(other))
    assert {*read_run(copies[1]).thinking} == {"breadth"}


def test_a_report_follows_from_the_files_alone(workdir, tmp_path, capsys):
    """Copied elsewhere, without checkpoints, TensorBoard or what it was before: the same bytes."""
    assert main(["report", str(workdir)]) == 0
    assert str(workdir / "report.html") in capsys.readouterr().out
    first = (workdir / "report.html").read_bytes()
    for name in ("config.json", "metrics.jsonl", "history.jsonl", "eval"):
        copy = shutil.copytree if (workdir / name).is_dir() else shutil.copy
        (tmp_path / "made").mkdir(exist_ok=True)
        copy(workdir / name, tmp_path / "made" / name)
    assert main(["report", str(tmp_path / "made")]) == 0
    assert (tmp_path / "made" / "report.html").read_bytes() == first
    for text in (b"http://", b"https://", str(workdir.parent).encode()):
        assert text not in first


def test_the_page_says_what_the_run_was(workdir):
    main(["report", str(workdir)])
    html = (workdir / "report.html").read_text()
    assert "<title>made: what the model did</title>" in html  # the work directory, not "tiny"
    metrics = json.loads((workdir / "eval" / "step_4" / "metrics.json").read_text())
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html.split('<script type="app')[0]))
    for part in ("made.py", "seed 1 → 0", "jax 0.10.2", "step 4 of 4", "arc1/training",
                 f"{metrics['solved@2']} of {metrics['test_inputs']}",
                 f"{100 * metrics['pass@2']:.1f}%"):  # fmt: skip
        assert part in text, part
    assert html.count("<svg") == 4


def test_answers_and_trajectories_can_be_read_back(experiment, workdir):
    folder = workdir / "eval" / "step_4"
    answers = read_answers(folder, VOCABULARY)
    tasks = {t.id: t for t in load_tasks((), experiment.data.evaluate, experiment.data.only)}
    assert [task["id"] for task in answers.tasks] == list(tasks)
    for task in answers.tasks:
        for pair, test in zip(tasks[task["id"]].tests, task["tests"], strict=True):
            np.testing.assert_array_equal(grid_of(test["input"], VOCABULARY.symbols), pair.input)
            np.testing.assert_array_equal(grid_of(test["output"], VOCABULARY.symbols), pair.output)
            assert sum(answer["votes"] for answer in test["answers"]) == test["candidates"]
            for answer in test["answers"]:
                assert sum(answer["votes_by"].values()) == answer["votes"]
                assert len(answer["voters"]) == min(answer["votes"], 8)
    for trajectory in map(unpack, read_trajectories(folder, answers, VOCABULARY)):
        predicted = crop(trajectory.predicted_NxS[-1])
        answer, way = answer_of(trajectory, experiment.data), from_vector(trajectory.augmentation_A)
        np.testing.assert_array_equal(predicted, augment(answer, way))
        assert trajectory.masked_NxS[0].all()
        assert (began_from(trajectory, experiment.data)[0] == 12).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("answers.json.gz", lambda x: x["tasks"][0]["tests"][0].pop("distinct")),
        ("answers.json.gz", lambda x: x["tasks"][0]["tests"][0]["answers"][0].pop("votes")),
        ("answers.json.gz", lambda x: x.update(steps=[])),
        ("answers.json.gz", lambda x: x.update(made_with=[])),
        ("metrics.json", lambda x: x.update(per_task={"x": 5})),
        ("metrics.json", lambda x: x.update({"pass@1": "x"})),
    ],
)
def test_contents_that_cannot_be_are_told_by_their_file(workdir, tmp_path, capsys, name, change):
    shutil.copytree(workdir, tmp_path / "copy")
    path = tmp_path / "copy" / "eval" / "step_4" / name
    packed = name.endswith("gz")
    content = json.loads(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    change(content)
    data = json.dumps(content).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    assert main(["report", str(tmp_path / "copy")]) == 1
    assert str(path) in capsys.readouterr().err


def test_numbers_that_cannot_be_drawn_are_left_out(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "copy")
    with (tmp_path / "copy" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 3, "kind": "train", "loss": Infinity}\n')
        log.write('{"step": %s, "kind": "train", "loss": 1}\n' % ("9" * 400))
    assert main(["report", str(tmp_path / "copy")]) == 0


@pytest.mark.parametrize("damage", ["torn", "other", "empty"])
@pytest.mark.parametrize("name", ["answers.json.gz", "trajectories.npz", "metrics.json"])
def test_a_damaged_file_is_named(workdir, tmp_path, capsys, name, damage):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    path = copy / "eval" / "step_4" / name
    data = path.read_bytes()
    path.write_bytes({"torn": data[: len(data) // 2], "other": b"[1, 2]", "empty": b""}[damage])
    assert main(["report", str(copy)]) == 1
    said = capsys.readouterr().err
    assert str(path) in said
    assert "drm eval" in said
    assert said.count("\n") == 1


def test_wrong_use_of_report(workdir, tmp_path, capsys):
    def said(*argv):
        code = main(["report", *map(str, argv)])
        return code, capsys.readouterr().err

    assert said(tmp_path) == (
        1,
        f"drm: {tmp_path}: not a work directory, there is no config.json in it\n",
    )
    code, text = said(workdir, "--step", 3)
    assert (code, "step 3 was not evaluated; evaluated: 4" in text) == (1, True)
    code, text = said(workdir, workdir, "--step", 4)
    assert (code, "--step" in text) == (2, True)
    code, text = said(workdir, "--output", tmp_path / "no" / "such.html")
    assert (code, "--output: " in text, "there is no folder" in text) == (1, True, True)
    code, text = said(workdir, "--output", tmp_path)
    assert (code, text, (tmp_path / "report.html").exists()) == (0, "", True)
    assert said()[0] == 2


def test_runs_are_compared(experiment, workdir, tmp_path):
    other = work_path(tmp_path / "other")
    made_run(other, dataclasses.replace(experiment, data=dataclasses.replace(
        experiment.data, only=experiment.data.only[:-1])))  # fmt: skip
    again = shutil.copytree(workdir, tmp_path / "again" / workdir.name)
    assert main(["report", str(workdir), str(other), str(again)]) == 0
    html = (workdir / "comparison.html").read_text()
    data = embedded(html)
    assert data["runs"] == ["made", "other", "made (2)"]
    assert len(data["tasks"]) == len(experiment.data.only)
    missing = [task["id"] for task in data["tasks"] if "other" not in task["runs"]]
    assert len(missing) == 1
    assert html.count("<polyline") == 4 * 3


def test_a_run_is_not_compared_with_itself(workdir, capsys):
    assert main(["report", str(workdir), f"{workdir}/"]) == 2
    assert "named twice" in capsys.readouterr().err


def test_scores_with_other_settings_alone(workdir, tmp_path, capsys):
    """As `drm eval --denoise-steps 2 --output` leaves them: shown, and titled with the settings."""
    out = work_path(tmp_path / "out")
    (out / "eval").mkdir(parents=True)
    for name in ("config.json", "history.jsonl", "metrics.jsonl"):
        shutil.copy(workdir / name, out / name)
    first = out / "eval" / "step_4_denoise_steps=2_outside=pad"
    shutil.copytree(workdir / "eval" / "step_4", first)
    metrics = json.loads((first / "metrics.json").read_text())
    metrics["evaluate"]["denoise_steps"] = 2
    (first / "metrics.json").write_text(json.dumps(metrics))
    for options in ([], ["--step", "4"]):
        assert main(["report", str(out), *options]) == 0
        assert "Nothing was scored yet" not in capsys.readouterr().out
        html = (out / "report.html").read_text()
        assert "<code>denoise_steps=2_outside=pad</code>" in html
        assert "2 steps each</p>" in html
    task = next(iter(metrics["per_task"]))
    assert main(["show", str(out), task]) == 0
    assert "other settings than the run: denoise_steps=2" in capsys.readouterr().out
    assert main(["report", str(out), "--step", "2"]) == 1
    assert f"evaluated: {first.name}" in capsys.readouterr().err
    shutil.copytree(first, out / "eval" / "step_4_denoise_steps=3")
    assert main(["show", str(out), task]) == 1
    assert "several have others: step_4_denoise_steps=2_outside=pad, step_4_denoise_steps=3" in (
        capsys.readouterr().err
    )
    # What the run's own settings gave comes first.
    shutil.copytree(workdir / "eval" / "step_4", out / "eval" / "step_4")
    assert main(["report", str(out)]) == 0
    assert "settings than the run's own" not in (out / "report.html").read_text()


def test_an_ensemble_alone_is_shown(workdir, tmp_path):
    out = work_path(shutil.copytree(workdir, tmp_path / "out"))
    (out / "eval" / "step_4").rename(out / "eval" / "steps_2_4")
    assert read_run(out).settings == ""
    assert read_run(out).answers.tasks


def test_a_change_is_told_once(workdir, tmp_path):
    """After which step, not as a change of the experiment's file too."""
    run = read_run(workdir)
    rate = "optimizer.learning_rate"
    lines = [
        {"event": "start", "step": 0, "changed": {rate: [0.1, 0.2]}},
        {"event": "change", "step": 2, "changed": {rate: [0.2, 0.01]}},
        {"event": "start", "step": 2, "changed": {rate: [0.1, 0.01]}},
    ]
    told = overview(dataclasses.replace(run, history=lines))
    assert told["changed"] == [[rate, "0.1", "0.2"]]
    assert told["within"] == [[2, rate, "0.2", "0.01"]]
    told = overview(dataclasses.replace(run, history=lines[1:]))
    assert told["within"] == [[2, rate, "0.2", "0.01"]]
    # Begun anew, the run has them from its first step on.
    told = overview(dataclasses.replace(run, history=[*lines, {"event": "anew"}]))
    assert told["changed"] == [[rate, "0.1", "0.01"]]
    assert told["within"] == []


def test_outcomes_add_up():
    """Each combination of test inputs is one outcome; the worst of them counts."""
    truth = ["12"]

    def test(rank, output=truth, *answers):
        return {"output": output, "rank": rank, "answers": [{"grid": a} for a in answers]}

    first, second, third = test(1, truth, truth), test(2, truth, ["11"]), test(3, truth, ["11"])
    shape, none, empty = test(None, truth, ["1"]), test(None), test(None, truth, [])
    hidden = test(None, None, truth)
    path = {"test": 0, "was_right": True, "right": False}
    for tests, paths, attempts, expected in (
        ([first, first], [], 2, "solved"),
        ([first, second], [], 2, "second"),
        ([first, second], [], 1, "cells"),
        ([first, hidden], [], 2, "solved"),
        ([hidden, hidden], [], 2, "unknown"),
        ([third, shape], [path], 2, "lost"),
        ([first, third], [path], 2, "cells"),  # the candidate of a test input that is solved
        ([third, shape], [], 2, "shape"),
        ([third, none], [], 2, "none"),
        ([empty], [], 2, "none"),
        ([third], [], 2, "cells"),
    ):
        assert _outcome(tests, paths, attempts) == expected


def test_before_anything_is_scored_there_are_curves(workdir, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy, ignore=shutil.ignore_patterns("eval", "*.html"))
    log = [x for x in (copy / "metrics.jsonl").read_text().splitlines() if "eval" not in x]
    (copy / "metrics.jsonl").write_text("".join(f"{line}\n" for line in log))
    assert main(["report", str(copy)]) == 0
    html = (copy / "report.html").read_text()
    assert "Nothing was scored yet" in html
    assert "Nothing was scored yet" in capsys.readouterr().out
    assert html.count("<figure") == 3  # loss, exact accuracy, examples/s
    assert embedded(html)["tasks"] == []
    assert main(["report", str(copy), "--step", "4"]) == 1  # this one was asked for
    assert main(["report", str(workdir), str(copy)]) == 0
    html = (workdir / "comparison.html").read_text()
    assert "Nothing was scored yet</strong> of <bdi>copy</bdi>" in html
    assert html.count("<polyline") == 3 * 2 + 1


def test_a_folder_that_cannot_be_written_to(workdir, monkeypatch, capsys):
    """It is said before anything is read; --output is the remedy."""

    def read_only(dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    monkeypatch.setattr("drm_jax.report.write.read_run", None)
    assert main(["report", str(workdir)]) == 1
    said = capsys.readouterr().err
    assert f"{workdir}: can't be written to: Read-only file system; name a file elsewhere" in said
    assert said.count("\n") == 1


def test_options_that_differ_stand_in_the_comparison(experiment, workdir, tmp_path):
    other = work_path(tmp_path / "other")
    train = dataclasses.replace(experiment.train, steps=8)
    made_run(other, dataclasses.replace(experiment, seed=5, train=train))
    html = comparison_page([read_run(workdir), read_run(other)])
    section = html.split('aria-label="Options that differ"')[1].split("</section>")[0]
    found = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", section))
    assert "seed 0 5 train.steps 4 8" in found
    assert section.count("<tr>") == 3  # the head, and these
    same = comparison_page([read_run(workdir)] * 2)
    assert "None: the runs have the same options" in same
    trm = dataclasses.replace(experiment, method=Trm())
    found = differing_options([experiment, trm])
    assert found["method"] == ["drm", "trm"]
    assert not any(name.startswith("method.noise") for name in found)
    slower = dataclasses.replace(trm, method=Trm(recursion=Recursion(cycles=5)))
    found = differing_options([experiment, slower])
    assert found["method.recursion.cycles"] == ["2", "5"]
    noise = dataclasses.replace(Drm().noise, schedule="linear")
    third = dataclasses.replace(
        experiment, method=dataclasses.replace(experiment.method, noise=noise)
    )
    schedules = differing_options([experiment, trm, third])["method.noise.schedule"]
    assert schedules == ["cosine", "–", "linear"]


def test_no_score_is_shown_beyond_the_votes(experiment, workdir, tmp_path):
    """One vote: pass@1 alone; six: up to pass@5. Each run its own in a comparison."""
    single = work_path(tmp_path / "single")
    evaluation = dataclasses.replace(experiment.evaluate, num_augmentations=0)
    made_run(single, dataclasses.replace(experiment, evaluate=evaluation))
    runs = [read_run(single), read_run(workdir)]
    heads = [re.findall(r"<th>(pass@\d+)</th>", single_page(run)) for run in runs]
    assert heads == [["pass@1"], ["pass@1", "pass@2", "pass@5"]]
    columns = _score_columns(runs)
    assert [columns[f"pass@{k}"][0] == "–" for k in (1, 2, 5)] == [False, True, True]
    assert all(columns[f"pass@{k}"][1] != "–" for k in (1, 2, 5))


def test_the_page_of_step_0_says_whose_weights_they_are(experiment, workdir):
    run = read_run(workdir)
    answers = dataclasses.replace(run.answers, steps=(0,))
    for init_from, words in ((None, "untrained"), ("runs/a", "the initial weights from runs/a")):
        begun = dataclasses.replace(experiment, init_from=init_from)
        page = single_page(dataclasses.replace(run, experiment=begun, answers=answers))
        assert f"step 0 of 4, {words}:" in page


def test_what_was_changed_is_what_holds_now(workdir):
    history = workdir / "history.jsonl"
    before = history.read_text()
    start = {"event": "start", "changed": {"train.steps": [9, 4], "data.canvas": [30, 6],
             "evaluate.batch_size": [32, 64], "gone": [1, 2]}}  # fmt: skip
    try:
        history.write_text(json.dumps(start) + "\n" + json.dumps({"event": "start"}) + "\n")
        changed = {name: (was, now) for name, was, now in overview(read_run(workdir))["changed"]}
    finally:
        history.write_text(before)
    assert changed == {"train.steps": ("9", "4"), "data.canvas": ("30", "6"), "gone": ("1", "null")}


def test_tasks_of_one_id_that_ask_for_other_things_are_told_apart(tiny, tmp_path):
    """As some of ARC-AGI-1 and 2 are; and an output may be hidden."""
    dirs = []
    for name, outputs in (("a", [[[4]], [[5]]]), ("b", [[[4]], None]), ("c", [[[4]], [[5]]])):
        tests = [{"input": [[3, i]]} | ({"output": x} if x else {}) for i, x in enumerate(outputs)]
        task = {"train": [{"input": [[1]], "output": [[2]]}], "test": tests}
        source = tmp_path / f"{name}.json"
        source.write_text(json.dumps({"x": task}))
        data = dataclasses.replace(tiny.data, evaluate=(str(source),), only=())
        dirs.append(work_path(tmp_path / name))
        made_run(dirs[-1], dataclasses.replace(tiny, data=data))
    data = embedded(comparison_page(list(map(read_run, dirs))))
    assert [(t["id"], sorted(t["runs"])) for t in data["tasks"]] == [
        ("x", ["a", "c"]), ("x (2)", ["b"])
    ]  # fmt: skip
    found = overview(read_run(dirs[1]))
    assert (found["test_inputs"], found["scored"]) == (2, 1)


def test_two_tests_with_the_same_input_share_their_votes(tiny, tmp_path):
    pair = {"input": [[3, 1]], "output": [[4]]}
    task = {"train": [{"input": [[1]], "output": [[2]]}], "test": [pair, pair]}
    source = tmp_path / "x.json"
    source.write_text(json.dumps({"x": task}))
    data = dataclasses.replace(tiny.data, evaluate=(str(source),), only=())
    made_run(work_path(tmp_path / "run"), dataclasses.replace(tiny, data=data))
    run = read_run(work_path(tmp_path / "run"))
    (task,) = described_tasks(run, unpacked(run))
    assert task["tests"][0]["answers"] == task["tests"][1]["answers"]
    assert {path["test"] for path in task["paths"]} == {0, 1}


@pytest.mark.parametrize("family", [Arc(), Sudoku(side=4), Sudoku(side=6), Sudoku()])
def test_a_map_undoes_what_a_symmetry_does(family):
    """undone[i] = token_V[tokens[cell_I[i]]], of any tokens, and of parts of boards in ARC."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        if isinstance(family, Arc):
            way = np.array([rng.integers(8), 0, *rng.permutation(9) + 1], np.uint8)
            shape = tuple(rng.integers(1, 12, 2).tolist())
        else:
            bits = rng.integers(0, 2**32, (1, num_bits(family.side)), np.uint32)
            way, shape = from_bits(bits, family.side)[0], family.boards[0]
        tokens = rng.integers(0, family.vocabulary.mask + 1, shape, np.uint8)
        undone = undo_map(family, way, shape)
        expected = family.undo(tokens, way)
        assert undone.shape == expected.shape
        found = undone.token_V[tokens.reshape(-1)[undone.cell_I]].reshape(undone.shape)
        np.testing.assert_array_equal(found, expected)


def test_a_family_without_votes_or_colours(sudoku_workdir, workdir):
    run = read_run(sudoku_workdir)
    data = embedded(single_page(run))
    assert data["vocabulary"]["written"] == " 1234"
    assert "second" not in dict(data["outcomes"])
    solved = [task for task in data["tasks"] if task["outcome"] == "solved"]
    assert len(solved) / len(data["tasks"]) == run.metrics["exact"] > 0
    assert any(task["outcome"] == "lost" for task in data["tasks"])
    paths = [path for task in data["tasks"] for path in task["paths"]]
    assert any(path["symmetry"] != "as it is" for path in paths)
    html = single_page(run)
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html.split('<script type="app')[0]))
    assert "exact valid cells right" in text
    assert f"{100 * run.metrics['exact']:.1f}%" in text
    assert 'id="safe"' not in html
    assert "pass@" not in text
    assert "attempt" not in text
    with pytest.raises(InputError, match="different families"):
        comparison_page([run, read_run(workdir)])


def bits(text: str, shape) -> np.ndarray:
    """What `packed_bits` packed."""
    cells = np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))
    return np.resize(cells, shape[0] * shape[1]).reshape(shape).astype(bool)


def test_marks_difficulty_and_verdicts_are_in_the_page(ruled_workdir, workdir):
    family, data = Sudoku(side=4), embedded(single_page(read_run(ruled_workdir)))
    symbols = family.vocabulary.symbols
    assert (data["blocks"], data["difficulty"]) == ([2, 2], "backtracks")
    marked = 0
    for number, task in enumerate(data["tasks"]):
        assert task["difficulty"] == 7 * number % 23
        (test,) = task["tests"]
        question = grid_of(test["input"], symbols)
        np.testing.assert_array_equal(bits(test["given"], (4, 4)), question > 0)
        assert "input_conflicts" not in test
        assert "output_conflicts" not in test
        for answer in test["answers"]:
            conflicts = family.conflicts(question, grid_of(answer["grid"], symbols))
            found = bits(answer.get("conflicts", "AAA="), (4, 4))
            np.testing.assert_array_equal(found, conflicts)
            assert answer["valid"] == (not conflicts.any())
            marked += "conflicts" in answer
    assert marked
    html = single_page(read_run(ruled_workdir))
    assert 'id="difficulty"' in html
    assert "<dt>in conflict</dt>" in html
    plain = single_page(read_run(workdir))
    assert 'id="difficulty"' not in plain
    assert "<dt>in conflict</dt>" not in plain
    names = {name for task in embedded(plain)["tasks"] for test in task["tests"] for name in test}
    assert not {"given", "valid", "input_conflicts"} & names


def test_a_comparison_has_the_marks_too(ruled_workdir):
    run = read_run(ruled_workdir)
    whole, compared = embedded(single_page(run)), embedded(comparison_page([run, run]))
    tasks = {task["id"]: task for task in compared["tasks"]}
    for task in whole["tasks"]:
        (test,), other = task["tests"], tasks[task["id"]]
        assert other["difficulty"] == task["difficulty"]
        assert other["tests"][0]["given"] == test["given"]
        first = other["runs"]["made"]["tests"][0]["answers"][0]
        for name in ("valid", "conflicts"):
            assert first.get(name) == test["answers"][0].get(name)


def test_each_step_of_a_path_has_its_marks(ruled_workdir):
    """As the network saw it; a symmetry keeps the rules."""
    run, trajectories = with_paths(ruled_workdir)
    family, seen, area = Sudoku(side=4), 0, 16
    for task in described_tasks(run, trajectories):
        for of, path in zip(trajectories[task["id"]], task["paths"], strict=True):
            steps = len(of.levels_N)
            cells = np.frombuffer(path_cells(of, path, family), np.uint8)
            masked, broken, sure, given, _ = np.split(
                cells[steps * area :],
                np.cumsum([steps * area // 8, steps * area // 8, steps * area, area // 8]),
            )
            np.testing.assert_array_equal(np.unpackbits(masked), of.masked_NxS.reshape(-1))
            np.testing.assert_array_equal(sure, of.confidence_NxS.reshape(-1))
            question = augmented(of.question, of.augmentation_A, family)
            np.testing.assert_array_equal(np.unpackbits(given), (question > 0).reshape(-1))
            grids = [family.to_grid(tokens, (4, 4)) for tokens in of.predicted_NxS]
            expected = np.array([family.conflicts(question, grid) for grid in grids])
            np.testing.assert_array_equal(np.unpackbits(broken), expected.reshape(-1))
            seen += expected.any() and path["symmetry"] != "as it is"
    assert seen


def test_drm_show_tells_the_difficulty_and_marks(ruled_workdir, capsys):
    tasks = embedded(single_page(read_run(ruled_workdir)))["tasks"]
    wrong = next(task for task in tasks if "conflicts" in task["tests"][0]["answers"][0])
    assert main(["show", str(ruled_workdir), wrong["id"]]) == 0
    said = capsys.readouterr().out
    assert f"Task {wrong['id']} at step 4, backtracks: {wrong['difficulty']}\n" in said
    assert "breaks a rule" in said
    assert "!" in said.split("truth")[1]
    assert "─────┼────" in said


def test_marks_of_a_large_board_are_short():
    """A byte for six cells."""
    assert len(packed_bits(np.ones((30, 30), bool))) <= 152
    assert packed_bits(np.zeros((30, 30), bool)) == ""


def test_a_difficulty_that_is_no_number_is_damage(ruled_workdir, tmp_path):
    shutil.copytree(ruled_workdir, tmp_path / "copy")
    path = tmp_path / "copy" / "eval" / "step_4" / "answers.json.gz"
    for name, value in (("difficulty", "hard"), ("valid", 1)):
        content = json.loads(gzip.decompress(path.read_bytes()))
        test = content["tasks"][0]["tests"][0]
        (test if name == "difficulty" else test["answers"][0])[name] = value
        path.write_bytes(gzip.compress(json.dumps(content).encode()))
        with pytest.raises(InputError, match=r"answers.json.gz: can't be read"):
            read_run(work_path(tmp_path / "copy"))
        shutil.copy(ruled_workdir / "eval" / "step_4" / "answers.json.gz", path)


def test_an_evaluation_of_an_earlier_version_is_refused(workdir, tmp_path, capsys):
    shutil.copytree(workdir, tmp_path / "copy")
    path = tmp_path / "copy" / "eval" / "step_4" / "answers.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(json.dumps(content | {"format": 1}).encode()))
    assert main(["report", str(tmp_path / "copy")]) == 1
    said = capsys.readouterr().err
    assert said == (
        f"drm: {path}: can't be read: of format 1, not 2; "
        "score the checkpoint again with drm eval\n"
    )


def test_a_page_that_would_grow_too_large_shows_fewer(workdir, monkeypatch):
    whole = embedded(single_page(read_run(workdir)))
    monkeypatch.setattr("drm_jax.report.page.BUDGET", 10)
    html = single_page(read_run(workdir))
    fewer = embedded(html)
    counts = [sum(len(t["paths"]) for t in x["tasks"]) for x in (whole, fewer)]
    assert counts[1] < counts[0]
    assert all(t["paths"] for t in fewer["tasks"])


def test_curves():
    assert curve({"a": []}) is None
    chart = curve({"a": [(0, 0.0), (50, 0.5), (100, 1.0)], "b": [(100, 0.25)]}, percent=True)
    assert [text for _, text in chart["y_ticks"]] == ["0%", "20%", "40%", "60%", "80%", "100%"]
    a, b = chart["lines"]
    assert a["last"] == "100.0%"
    assert b["end"][0] == a["end"][0] > b["end"][0] - 1
    xs = [float(p.split(",")[0]) for p in a["points"].split()]
    ys = [float(p.split(",")[1]) for p in a["points"].split()]
    assert xs == sorted(xs)
    assert ys == sorted(ys, reverse=True)
    long = curve({"a": [(i, float(i % 7)) for i in range(10_000)]})
    assert len(long["lines"][0]["points"].split()) == 400
    assert curve({"a": [(5, 3.0)]})["lines"][0]["last"] == "3"
    assert curve({"a": [(5, 0.3)]})["lines"][0]["last"] == "0.3"  # a loss is no share
    assert curve({"a": [(1, -2.0), (2, -1.0)]})["y_ticks"][0][1] == "-2"


# What is left of linear RGB, by Machado, Oliveira and Fernandes 2009, at full severity.
SEEN = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def cielab(colour: str, seen: np.ndarray) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.clip(seen @ np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
              [0.0193339, 0.1191920, 0.9503041]]  # fmt: skip
    x = to_xyz @ linear / [0.95047, 1, 1.08883]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def smallest_difference(colours) -> float:
    return min(
        np.linalg.norm(cielab(a, np.array(seen)) - cielab(b, np.array(seen)))
        for seen in SEEN.values()
        for a, b in itertools.combinations(colours, 2)
    )


def test_the_safe_colours_can_be_told_apart():
    assert smallest_difference(VOCABULARY.safe_colours) > 30
    assert smallest_difference(VOCABULARY.colours) < 10


def test_an_ensemble_s_report(workdir, tmp_path, capsys):
    """Made again by --steps; it says whose denoising it shows."""
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    folder = copy / "eval" / "steps_2_4"
    shutil.copytree(copy / "eval" / "step_4", folder)
    answers = dataclasses.replace(read_answers(work_path(folder), VOCABULARY), steps=(2, 4))
    (folder / "answers.json.gz").write_bytes(answers_bytes(answers))
    assert main(["report", str(copy), "--steps", "4,2"]) == 0
    html = (copy / "report.html").read_text()
    assert "<strong>ensemble</strong> of steps 2, 4" in html
    assert embedded(html)["ensemble_of"] == 4
    assert main(["report", str(copy), "--steps", "1,2"]) == 1
    assert "drm eval" in capsys.readouterr().err
    assert main(["report", str(copy), "--steps", "1,2", "--step", "1"]) == 2


def test_scores_on_other_tests_are_noted_and_not_drawn(workdir, tmp_path):
    copy = work_path(shutil.copytree(workdir, tmp_path / "run"))
    line = {"step": 2, "kind": "eval", "pass@2": 0.999, "tests": "others"}
    with open(copy / "metrics.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
    run = read_run(copy)
    assert [step for step, _ in curves(run)["pass@2"]] == [4]
    assert "The scores of step 2 are on other tests" in single_page(run)
    assert "on other tests" not in single_page(read_run(workdir))


def test_an_evaluation_is_read_whole_while_it_is_made_again(workdir, tmp_path, monkeypatch):
    """One file of the old one, the next of the new one: both are read again."""
    copy = work_path(shutil.copytree(workdir, tmp_path / "run"))
    folder, read = copy / "eval" / "step_4", collect.read_answers

    def rewritten(*arguments):
        monkeypatch.undo()
        os.utime(folder / "metrics.json", (1, 1))
        raise InputError("answers.json.gz: can't be read")

    monkeypatch.setattr(collect, "read_answers", rewritten)
    assert read_run(copy).answers.steps == (4,)
    assert collect.read_answers is read
