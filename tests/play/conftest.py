"""Runs whose pages are served."""

import pytest
from served import served
from tiny import TINY
from workdirs import quiet

from drm_jax.config import with_changes
from drm_jax.io.files import work_path
from drm_jax.report.write import write_report
from drm_jax.run.evaluation import evaluate_workdir
from drm_jax.run.loop import train
from experiments.solve_sudoku import experiment as sudoku

SMALL = {
    "model.hidden": 8,
    "model.swiglu_multiple": 8,
    "train.steps": 1,
    "train.batch_size": 4,
    "evaluate.every": 0,
    "evaluate.batch_size": 4,
    "evaluate.denoise_steps": 3,
    "data.side": 4,
    "data.clues": 0,
    "data.train_puzzles": 8,
    "data.test_puzzles": 3,
    "data.num_augmentations": 0,
}


@pytest.fixture(scope="session")
def boards_run(tmp_path_factory):
    """Sudoku of 4x4 with a report."""
    workdir = work_path(tmp_path_factory.mktemp("boards") / "run")
    train(with_changes(sudoku(), SMALL), workdir, quiet())
    evaluate_workdir(workdir, None, quiet())
    write_report([workdir])
    return workdir


@pytest.fixture(scope="session")
def arc_run(tmp_path_factory):
    workdir = work_path(tmp_path_factory.mktemp("arc") / "run")
    train(with_changes(TINY, {"train.steps": 2}), workdir, quiet())
    return workdir


@pytest.fixture(scope="session")
def shipped():
    """With the networks of the package."""
    with served() as page:
        yield page


@pytest.fixture(scope="session")
def of_boards(boards_run):
    with served(str(boards_run)) as page:
        yield page


@pytest.fixture(scope="session")
def of_arc(arc_run):
    with served(str(arc_run), "--task", "25d8a9c8") as page:
        yield page
