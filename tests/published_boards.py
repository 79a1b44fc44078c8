"""Files as published runs on Sudoku and mazes leave them, small: weights of goldens/*.npz."""

from pathlib import Path

import numpy as np
import published as files
from golden_weights import GOLDENS

from drm_jax.puzzles.maze.family import Maze
from drm_jax.puzzles.sudoku.family import Sudoku

OF_SUDOKU = "data/sudoku-extreme-1k-aug-1000"
KINDS = {
    "trm_sudoku_mlp": {"mlp_t": True, "pos_encodings": "none"},
    "trm_sudoku_att": {},
    "trm_maze": {},
}


def tensors(kind: str) -> dict[str, np.ndarray]:
    golden, start = np.load(GOLDENS / f"{kind}.npz"), "train/init/"
    return {key.removeprefix(start): golden[key] for key in golden.files if key.startswith(start)}


def write_options(folder: Path, kind: str, top: dict | None = None, **arch: object) -> None:
    paths = ["data/maze-8x8-1k"] if kind == "trm_maze" else [OF_SUDOKU]
    of_run = {
        "data_paths": paths, "evaluators": [], "lr": 1e-4, "puzzle_emb_lr": 1e-4,
        "weight_decay": 1.0, "puzzle_emb_weight_decay": 1.0, "lr_warmup_steps": 5,
    }  # fmt: skip
    of_network = {"seq_len": None} | KINDS[kind] | arch
    options = files.config(files.TRM, of_run | (top or {}), **of_network)
    files.write_config(folder / "all_config.yaml", options)


def write_csv(folder: Path, kind: str) -> Path:
    made = {"side": 9, "logic": "singles", "clues": 40} if "sudoku" in kind else {"side": 8}
    family = (Sudoku if "sudoku" in kind else Maze)(**made, train_puzzles=3, test_puzzles=1)
    symbols, puzzles = family.vocabulary.symbols, family.sets()[0]
    lines = [
        ",".join(["own", *("".join(symbols[cell] for cell in board) for board in pair), "0"])
        for pair in zip(puzzles.inputs_NxS, puzzles.outputs_NxS, strict=True)
    ]
    path = folder / "puzzles.csv"
    path.write_text("\n".join(["source,question,answer,rating", *lines]))
    return path


def write_all(folder: Path, kind: str) -> list[str]:
    """A checkpoint, its options and puzzles; the command to import it."""
    files.write_safetensors(folder / "step_7", tensors(kind))
    write_options(folder, kind)
    write_csv(folder, kind)
    return [
        "import", f"{folder}/step_7", "--config", f"{folder}/all_config.yaml",
        "--workdir", f"{folder}/run", "--train", f"{folder}/puzzles.csv",
        "--evaluate", f"{folder}/puzzles.csv",
    ]  # fmt: skip
