"""What drm train and drm eval print at their end, of made-up answers."""

import dataclasses
import json

import pytest
from made_run import made_run
from workdirs import quiet

from drm_jax.commands.summary import print_summary
from drm_jax.io.files import work_path
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.run.scorer import Report
from drm_jax.run.setup import set_up


def said(experiment, workdir, **settings) -> str:
    """Everything that is printed of a made-up run."""
    config = dataclasses.replace(experiment.evaluate, **settings)
    experiment = dataclasses.replace(experiment, evaluate=config)
    evaluation, console = made_run(workdir, experiment), quiet()
    print_summary(console, Report(set_up(experiment), (evaluation,), ()), workdir)
    return console.file.getvalue()


def test_attempts_stand_before_the_candidate_and_decide(tiny, tmp_path):
    text = said(tiny, work_path(tmp_path / "run"))
    title = "task 25d8a9c8, test input 1: solved by attempt 1"
    _, below = text.split(title)
    assert below.index("attempt 1") < below.index("truth") < below.index("candidate without")
    assert "4 of 4 votes" in text
    assert "test input 1: solved by attempt 2" in text  # though the second one has fewer votes
    assert "wrong" not in text
    assert "kept by pass@2 on these labelled test inputs" in " ".join(text.split())
    assert text.rstrip().endswith(f"drm play {tmp_path / 'run'}")


def test_a_puzzle_has_one_answer(tiny, tmp_path):
    data = Sudoku(side=4, train_puzzles=2, test_puzzles=3)
    sudoku = dataclasses.replace(tiny, data=data)
    text = said(sudoku, work_path(tmp_path / "one"))
    for part in ("puzzle 1, test input 1: solved\n", "puzzle 2, test input 1: not solved\n",
                 "candidate without augmentation: gave the answer", "kept by exact"):  # fmt: skip
        assert part in text, part
    assert "attempt" not in text
    assert "votes" not in text
    text = said(sudoku, work_path(tmp_path / "five"), num_augmentations=4)
    assert "of 5 votes" in text
    assert "attempt" not in text


@pytest.mark.parametrize("candidates", [1, 4])
def test_hidden_outputs_are_no_labels(tiny, tmp_path, candidates):
    """Nothing was selected on them, and nothing is solved or not."""
    task = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3, 1]]}]}
    (tmp_path / "x.json").write_text(json.dumps({"x": task}))
    data = dataclasses.replace(tiny.data, evaluate=(str(tmp_path / "x.json"),), only=())
    hidden = dataclasses.replace(tiny, data=data)
    workdir = work_path(tmp_path / "run")
    text = said(hidden, workdir, num_augmentations=candidates - 1)
    assert "task x, test input 1: truth unknown" in text
    assert "labelled" not in text
    assert "labelled" not in (workdir / "report.html").read_text()
    assert "solved by" not in text
