"""`drm solve sudoku`: answered with the weights of the package, and checked by the rules."""

import dataclasses

import jax
import numpy as np
import pytest
from workdirs import quiet

from drm_jax.commands.main import main
from drm_jax.config import with_changes
from drm_jax.errors import InputError, UsageError
from drm_jax.io.files import work_path
from drm_jax.parallel.mesh import make_mesh
from drm_jax.puzzles.boards import grid_rows
from drm_jax.puzzles.fixed import read_board
from drm_jax.run.loop import train
from drm_jax.solve.boards import COPIES, Solver
from drm_jax.solve.weights import SHIPPED, find_source, write_weights
from experiments.solve_sudoku import experiment

PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SOLUTION = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"


@pytest.fixture(scope="module")
def solver():
    return Solver(find_source("sudoku"), None, print)


def board(text: str, solver) -> np.ndarray:
    return read_board(text, solver.family.vocabulary.symbols, solver.family.board)


def test_a_puzzle_is_solved_by_the_weights_of_the_package(solver):
    (answer,) = solver.solve([board(PUZZLE, solver)])
    np.testing.assert_array_equal(answer.grid, board(SOLUTION, solver))
    assert answer.valid
    assert 1 <= answer.votes <= answer.copies


def test_a_maze_is_solved_by_the_weights_of_the_package(tmp_path, capsys):
    file, family = tmp_path / "maze.txt", find_source("maze").experiment.data
    maze = family.draw(family.levels[-1], 7)
    file.write_text("\n".join(grid_rows(maze, family.vocabulary.symbols)))
    assert main(["solve", "maze", str(file)]) == 0
    assert "solved: every rule is kept" in capsys.readouterr().out


def test_more_symmetric_copies_answer_as_long_as_a_rule_is_broken(solver, monkeypatch):
    asked, answer = [], Solver._answer

    def look(self, puzzles, copies):
        asked.append((len(puzzles), copies))
        answers = answer(self, puzzles, copies)
        # the first puzzle has no solution; of the second one the first answer is taken for wrong
        return [dataclasses.replace(a, valid=a.valid and len(asked) > 1) for a in answers]

    monkeypatch.setattr(Solver, "_answer", look)
    unsolvable = "55" + PUZZLE[2:]
    first, second = solver.solve([board(text, solver) for text in (unsolvable, PUZZLE)])
    assert asked == [(2, COPIES[0]), (2, COPIES[1]), (1, COPIES[2])]
    assert (first.valid, first.copies) == (False, COPIES[2])
    assert (second.valid, second.copies) == (True, COPIES[1])


def test_the_command_tells_what_the_rules_say(tmp_path, capsys):
    assert main(["solve", "sudoku", PUZZLE]) == 0
    said = capsys.readouterr().out
    assert "solved: every rule is kept" in said
    assert SOLUTION in said
    file = tmp_path / "puzzles.txt"
    file.write_text(f"{PUZZLE}\n\n{PUZZLE.replace('.', '0')}\n55{PUZZLE[2:]}\n{PUZZLE}\n")
    assert main(["solve", "sudoku", str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{SOLUTION} solved"
    assert lines[2].endswith("breaks a rule")
    assert lines[4] == "3 of 4 puzzles solved"


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    file = tmp_path / "puzzles.txt"
    file.write_text(f"{PUZZLE}\n{PUZZLE}\n{PUZZLE[:-1]}\n")
    cases = [
        ([], 2, "name a puzzle"),
        ([PUZZLE, "--minutes", "1"], 2, "takes --from and --denoise-steps alone"),
        ([PUZZLE, "--from", "nowhere"], 1, "not a work directory"),
        ([PUZZLE, "--from", "small"], 2, "its puzzles aren't boards of one size"),
        (["12"], 1, "neither a puzzle on a board of 9 x 9, nor a file of one"),
        ([f"{PUZZLE[:-1]}x"], 1, "must be 9 rows of 9 characters"),
        ([str(file)], 1, "line 3"),
    ]
    for words, code, message in cases:
        assert main(["solve", "sudoku", *words]) == code, words
        assert message in capsys.readouterr().err, words


def test_the_path_of_a_file_may_be_as_long_as_a_board(solver, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("x" * 81)
    path.write_text(PUZZLE)
    np.testing.assert_array_equal(board(path.name, solver), board(PUZZLE, solver))
    with pytest.raises(InputError, match="must be 9 rows of 9 characters"):
        board("y" * 81, solver)


def test_a_run_and_its_file_of_weights_answer_alike(tmp_path, capsys):
    tiny = with_changes(
        experiment(),
        {"data.side": 4, "data.clues": 8, "data.train_puzzles": 8, "data.test_puzzles": 0,
         "model.hidden": 8, "train.steps": 2, "train.batch_size": 8, "evaluate.every": 0},
    )  # fmt: skip
    workdir, file = work_path(tmp_path / "run"), work_path(tmp_path / "weights.npz")
    train(tiny, workdir, quiet())
    write_weights(file, workdir, make_mesh(jax.devices()[:1]), print)
    solvers = [Solver(find_source(str(path)), 2, print) for path in (workdir, file)]
    puzzle = board("12..34.....3..2.", solvers[0])
    answers = [solver.solve([puzzle])[0] for solver in solvers]
    np.testing.assert_array_equal(answers[0].grid, answers[1].grid)
    assert main(["solve", "sudoku", PUZZLE, "--from", str(file)]) == 1
    assert "neither a puzzle on a board of 4 x 4" in capsys.readouterr().err


def test_weights_for_boards_can_not_be_adapted_to_tasks(capsys):
    assert main(["solve", "arc1/training", "--from", "sudoku", "--steps", "1"]) == 2
    assert "its puzzles are not ARC tasks" in capsys.readouterr().err


def test_the_weights_in_the_package_are_small(capsys):
    for name, path in SHIPPED.items():
        assert path.stat().length <= 5_000_000, name
    with pytest.raises(UsageError):
        Solver(find_source("small"), None, print)
