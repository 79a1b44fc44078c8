"""A made-up run of ten small tasks, with its report."""

import dataclasses

import pytest
from made_run import made_run
from ruled import Corridors, Unruled, with_difficulty

from drm_jax.io.files import work_path
from drm_jax.puzzles.arc.tasks import load_source, smallest_tasks
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.report.write import write_report


@pytest.fixture(scope="module")
def experiment(tiny):
    ids = [task.id for task in smallest_tasks(load_source("arc1/training"), 6, 1, 10)]
    data = dataclasses.replace(tiny.data, only=tuple(ids), canvas=6, num_augmentations=5)
    evaluation = dataclasses.replace(tiny.evaluate, batch_size=32)
    return dataclasses.replace(tiny, data=data, evaluate=evaluation)


@pytest.fixture(scope="module")
def sudoku(tiny):
    """Puzzles of symbols without colours, on one board."""
    data = Unruled(side=4, train_puzzles=2, test_puzzles=6)
    evaluation = dataclasses.replace(tiny.evaluate, batch_size=32, num_augmentations=4)
    return dataclasses.replace(tiny, name="sudoku", data=data, evaluate=evaluation)


@pytest.fixture(scope="module")
def sudoku_workdir(sudoku, tmp_path_factory):
    workdir = work_path(tmp_path_factory.mktemp("sudoku") / "made")
    made_run(workdir, sudoku)
    write_report([workdir])
    return workdir


@pytest.fixture(scope="module")
def workdir(experiment, tmp_path_factory):
    workdir = work_path(tmp_path_factory.mktemp("report") / "made")
    made_run(workdir, experiment)
    write_report([workdir])
    return workdir


@pytest.fixture(scope="module")
def ruled_workdir(sudoku, tmp_path_factory):
    """Sudoku with rules, verdicts and difficulties."""
    data = Sudoku(side=4, train_puzzles=2, test_puzzles=12)
    workdir = work_path(tmp_path_factory.mktemp("ruled") / "made")
    made_run(workdir, dataclasses.replace(sudoku, data=data))
    with_difficulty(workdir / "eval" / "step_4", data)
    write_report([workdir])
    return workdir


@pytest.fixture(scope="module")
def maze_workdir(sudoku, tmp_path_factory):
    """Mazes: rules, and colours."""
    workdir = work_path(tmp_path_factory.mktemp("mazes") / "made")
    evaluation = dataclasses.replace(sudoku.evaluate, num_augmentations=0)
    made_run(workdir, dataclasses.replace(sudoku, data=Corridors(side=8), evaluate=evaluation))
    write_report([workdir])
    return workdir
