"""`drm import` of published checkpoints of Sudoku and mazes, which have one puzzle row."""

import json
from pathlib import Path

import jax
import numpy as np
import published as files
import pytest
from golden_weights import GOLDENS
from published import refused
from published_boards import KINDS, OF_SUDOKU, tensors, write_all, write_options
from safetensors.numpy import load_file

from drm_jax.commands.main import main
from drm_jax.config import from_json
from drm_jax.io import checkpoint
from drm_jax.io.files import work_path
from drm_jax.published.weights import TRM, parameter_names, parameter_tree
from drm_jax.puzzles.maze.family import Maze
from drm_jax.puzzles.sudoku.family import Sudoku


def restored(workdir: Path, step: int):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return checkpoint.restore(
        work_path(workdir), step, lambda record: checkpoint.abstract_from_record(record, device)
    )


def data_of(workdir: Path):
    return from_json((workdir / "config.json").read_text()).data


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_the_row_are_the_file_s_to_the_last_bit(kind, tmp_path, capsys):
    argv, run = write_all(tmp_path, kind), tmp_path / "run"
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "trm" in out
    assert "the puzzle table of 1 row" in out
    data = data_of(run)
    expected = (Sudoku, 9, 1000) if "sudoku" in kind else (Maze, 8, 0)
    assert (type(data), data.side, data.num_augmentations) == expected
    assert data.train == data.evaluate == (f"{tmp_path}/puzzles.csv",)
    assert data.train_puzzles == 1000

    arrays, state = tensors(kind), restored(run, 7).state
    mixer = "mlp" if KINDS[kind] else "attention"
    params = parameter_tree(parameter_names(TRM, 2, mixer), arrays.__getitem__)
    for name in ("params", "ema"):
        state[name].pop("embed_answers")
        jax.tree.map(np.testing.assert_array_equal, state[name], params)
    row = arrays[TRM.table]
    np.testing.assert_array_equal(state["table"][:2], np.concatenate([np.zeros_like(row), row]))
    assert not np.any(state["table"][2:])

    assert main(argv) == 0
    assert "was imported before as step 7" in capsys.readouterr().out

    assert main(["export", str(run), "--to", "safetensors", "--output", f"{tmp_path}/out"]) == 0
    again = load_file(tmp_path / "out/model.safetensors")
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (again[name].dtype, again[name].shape) == (array.dtype, array.shape)
        assert again[name].tobytes() == array.tobytes()
    whole = json.loads((tmp_path / "out/config.json").read_text())
    cells, vocab = (81, 11) if "sudoku" in kind else (64, 6)
    assert (whole["seq_len"], whole["vocab_size"], whole["num_puzzle_identifiers"]) == (
        cells, vocab, 1)  # fmt: skip


def test_mazes_are_scored(tmp_path):
    assert main(write_all(tmp_path, "trm_maze")) == 0
    assert main(["eval", str(tmp_path / "run")]) == 0
    scores = json.loads((tmp_path / "run/eval/step_7/metrics.json").read_text())
    assert (scores["checkpoint_step"], scores["tasks"]) == (7, 3)


def test_sudoku_is_trained_on_and_scored(tmp_path):
    """The one row moves with its rate, 1e-4, whatever the size of its gradient."""
    assert main(write_all(tmp_path, "trm_sudoku_mlp")) == 0
    run = tmp_path / "run"
    assert main(["train", str(run), "--train.steps", "8"]) == 0
    before, after = (restored(run, step).state["table"] for step in (7, 8))
    change = np.abs(after[1] - (1 - 1e-4) * before[1])
    np.testing.assert_allclose(change, 1e-4, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(after[0], before[0])
    scores = json.loads((run / "eval/step_8/metrics.json").read_text())
    assert (scores["checkpoint_step"], scores["tasks"]) == (8, 3)


def test_the_family_is_told_by_the_vocabulary_or_must_be_said(tmp_path, capsys):
    argv, run = write_all(tmp_path, "trm_sudoku_att"), tmp_path / "run"
    write_options(tmp_path, "trm_sudoku_att", {"data_paths": ["data/mine"]}, vocab_size=11)
    assert main(argv) == 0  # 11 tokens are Sudoku
    assert type(data_of(run)) is Sudoku
    write_options(tmp_path, "trm_sudoku_att", {"data_paths": ["data/arc1concept-aug-1000"]})
    words = "has 11 tokens and 1 puzzle row, and is not of arc … data_paths … say --data sudoku"
    refused(argv, 1, words, capsys)
    refused([*argv, "--data", "maze"], 1, "is not of maze (--data maze)", capsys)
    assert main([*argv[:-4], "--data", "sudoku", *argv[-4:], "--workdir", f"{run}_2"]) == 0

    (tmp_path / "other").mkdir()
    argv, run = write_all(tmp_path / "other", "trm_maze"), tmp_path / "other/run"
    write_options(tmp_path / "other", "trm_maze", {"data_paths": ["data/mine"]}, seq_len=64)
    words = "6 tokens and 1 puzzle row, as sudoku and maze have … say --data sudoku or maze"
    refused(argv, 2, words, capsys)
    words = "arch.seq_len is 64 … board of such a Sudoku is 16"
    refused([*argv, "--data", "sudoku"], 1, words, capsys)
    assert main([*argv, "--data", "maze"]) == 0
    assert (type(data_of(run)), data_of(run).train_puzzles) == (Maze, 2**31 - 1)


def test_no_family_has_such_tokens(tmp_path, capsys):
    arrays = tensors("trm_sudoku_att")
    argv = write_all(tmp_path, "trm_sudoku_att")
    write_options(tmp_path, "trm_sudoku_att", {"data_paths": ["data/mine"]})
    arrays[TRM.table] = np.repeat(arrays[TRM.table], 2, axis=0)
    files.write_safetensors(tmp_path / "step_7", arrays)
    words = "has 11 tokens and 2 puzzle rows, as no family has: ARC has 12 … a maze has 6"
    refused(argv, 1, words, capsys)


def test_what_is_not_for_such_checkpoints_or_is_missing(tmp_path, capsys):
    argv = write_all(tmp_path, "trm_maze")
    for option in (["--identifiers", "x.json"], ["--reset-puzzle-table"]):
        words = f"{option[0]} is for puzzles with rows of their own … leave out {option[0]}"
        refused([*argv, *option], 2, words, capsys)
    words = "data_paths is data/maze-8x8-1k … --train and --evaluate, CSV files or the folder"
    refused(argv[: argv.index("--train")], 2, words, capsys)
    refused([*argv, "--canvas", "9"], 2, "--canvas squared is 81 … data_paths is 64", capsys)
    write_options(tmp_path, "trm_maze", {"data_paths": ["data/maze"]})
    refused(argv, 2, "doesn't tell the canvas … --canvas", capsys)
    write_options(tmp_path, "trm_maze", seq_len=81)
    refused(argv, 1, "arch.seq_len is 81", capsys)
    write_options(tmp_path, "trm_maze", vocab_size=11)
    refused(argv, 1, "arch.vocab_size is 11", capsys)


def test_the_folder_that_data_paths_names_is_the_source(tmp_path, monkeypatch, capsys):
    """Where it is: its copies are trained on as they are."""
    argv = write_all(tmp_path, "trm_sudoku_att")
    golden = np.load(GOLDENS / "boards.npz")
    for split in ("train", "test"):
        (tmp_path / OF_SUDOKU / split).mkdir(parents=True)
        for name in ("inputs", "labels", "puzzle_indices", "group_indices"):
            array = golden[f"sudoku/{split}/all__{name}"]
            np.save(tmp_path / OF_SUDOKU / split / f"all__{name}.npy", array)
    monkeypatch.chdir(tmp_path)
    assert main(argv[: argv.index("--train")]) == 0
    assert "4 puzzles to train on, 3 to be solved" in capsys.readouterr().out
    assert data_of(tmp_path / "run").train == (OF_SUDOKU,)
