"""Boards of Sudoku and mazes against what the published builders wrote: arrays, shuffles."""

from pathlib import Path

import numpy as np
import pytest
from golden_weights import GOLDENS

from drm_jax.puzzles.dihedral import NUM_TRANSFORMS, dihedral
from drm_jax.puzzles.maze import symmetries as of_mazes
from drm_jax.puzzles.maze.family import Maze
from drm_jax.puzzles.sudoku import symmetries as of_sudoku
from drm_jax.puzzles.sudoku.family import Sudoku

_NAMES = ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDENS / "boards.npz")


def written(golden, key: str, folder: Path) -> str:
    """A dataset folder as it was written."""
    for split in ("train", "test"):
        (folder / key / split).mkdir(parents=True)
        for name in _NAMES:
            path = folder / key / split / f"all__{name}.npy"
            np.save(path, golden[f"{key}/{split}/all__{name}"])
    return str(folder / key)


def csv_of(golden, key: str, split: str, folder: Path) -> str:
    path = folder / f"{split}.csv"
    path.write_text(str(golden[f"csv/{key}/{split}"]))
    return str(path)


@pytest.mark.parametrize("key", ["sudoku", "sudoku_sub"])
def test_shuffles_of_sudoku(golden, key):
    """Their draws as our symmetries: theirs transposes first, ours last."""
    aug = {name: golden[f"{key}/aug/{name}"] for name in
           ("digit_perm", "transpose", "row_perm", "col_perm")}  # fmt: skip
    transposed_Nx1 = aug["transpose"][:, None]
    rows = np.where(transposed_Nx1, aug["col_perm"], aug["row_perm"])
    columns = np.where(transposed_Nx1, aug["row_perm"], aug["col_perm"])
    symmetry_NxA = np.concatenate(
        [transposed_Nx1, aug["digit_perm"] - 1, rows, columns], axis=1
    ).astype(np.uint8)
    for side in ("input", "label"):
        source = golden[f"{key}/aug/source_{side}"].reshape(-1, 1, 81) + np.uint8(1)
        out = golden[f"{key}/aug/out_{side}"].reshape(-1, 1, 81) + np.uint8(1)
        np.testing.assert_array_equal(of_sudoku.augment(source, symmetry_NxA), out)
        np.testing.assert_array_equal(of_sudoku.undo(out, symmetry_NxA), source)
        name = {"input": "inputs", "label": "labels"}[side]
        built = golden[f"{key}/train/all__{name}"][golden[f"{key}/aug/out_row"]]
        np.testing.assert_array_equal(built, out[:, 0])


@pytest.mark.parametrize(("key", "side"), [("maze30", 30), ("rect", None)])
def test_turns_and_mirrors(golden, key, side):
    source = golden[f"dihedral/{key}/source"]
    for which in range(NUM_TRANSFORMS):
        turned = dihedral(source, which)
        np.testing.assert_array_equal(turned, golden[f"dihedral/{key}/{which}"])
        back = golden["dihedral/inverse"][which]
        np.testing.assert_array_equal(dihedral(turned, int(back)), source)
        if side:
            tokens, which_N = source.reshape(1, 1, -1), np.array([which])
            augmented = of_mazes.augment(tokens, which_N, side)
            np.testing.assert_array_equal(augmented.reshape(side, side), turned)
            np.testing.assert_array_equal(of_mazes.undo(augmented, which_N, side), tokens)


FAMILIES = {
    "sudoku": (Sudoku, 9), "sudoku_sub": (Sudoku, 9), "maze8": (Maze, 8), "maze8_sub": (Maze, 8),
    "maze30": (Maze, 30), "maze30_noaug": (Maze, 30),
}  # fmt: skip


@pytest.mark.parametrize("key", FAMILIES)
def test_a_dataset_folder_gives_its_own_rows(golden, key, tmp_path):
    """Every version of every puzzle, in order; tests too; all of them solved."""
    family, side = FAMILIES[key]
    folder = written(golden, key, tmp_path)
    puzzles = family(side, train=(folder,), evaluate=(folder,)).load(0, {})
    first_G = golden[f"{key}/train/all__group_indices"]
    if len(first_G) <= len(golden[f"{key}/train/all__inputs"]):
        np.testing.assert_array_equal(puzzles.variants_G, np.diff(first_G))
    example_N = np.repeat(np.arange(len(puzzles.variants_G)), puzzles.variants_G)
    variant_N = np.concatenate([np.arange(count) for count in puzzles.variants_G])
    rows = puzzles.training_rows(example_N, variant_N, None, (side, side))
    np.testing.assert_array_equal(rows["inputs"], golden[f"{key}/train/all__inputs"])
    np.testing.assert_array_equal(rows["target"], golden[f"{key}/train/all__labels"])
    questions = puzzles.questions(None)
    every = np.arange(questions.count)
    inputs_NxS, _ = questions.rows(every, (side, side))
    np.testing.assert_array_equal(inputs_NxS, golden[f"{key}/test/all__inputs"])
    truth_NxS, scored_NxS = questions.truths(every)
    np.testing.assert_array_equal(truth_NxS, golden[f"{key}/test/all__labels"])
    assert scored_NxS.all()


@pytest.mark.parametrize(("key", "split"), [("sudoku", "train"), ("maze8", "test")])
def test_a_published_csv_gives_the_same_boards(golden, key, split, tmp_path):
    """Each puzzle as given stands first among its versions."""
    family, side = FAMILIES[key]
    path = csv_of(golden, key, split, tmp_path)
    puzzles = family(side, train=(path,), evaluate=(path,)).load(0, {})
    first = golden[f"{key}/{split}/all__group_indices"][:-1]
    expected = golden[f"{key}/{split}/all__inputs"][first]
    np.testing.assert_array_equal(puzzles.trained.inputs_NxS + 1, expected)
    labels = golden[f"{key}/{split}/all__labels"][first]
    np.testing.assert_array_equal(puzzles.tests.outputs_NxS + 1, labels)
