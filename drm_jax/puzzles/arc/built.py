"""A dataset of arrays that TRM's or HRM's code built, read back as the tasks that it was built of.

    FOLDER/identifiers.json                  the name of each puzzle id
    FOLDER/train/all__inputs.npy, __labels   a canvas of tokens an example; grids stand anywhere
                 all__puzzle_indices         where the examples of each puzzle begin
                 all__puzzle_identifiers     the id of each puzzle
    FOLDER/test/…                            likewise, the tests of evaluation tasks

A puzzle is a task under an augmentation; that of the task itself has its plain name. Which pairs of
a training task were its tests isn't kept: all count as demonstrations.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from drm_jax.errors import InputError
from drm_jax.puzzles.arc.files import Found, read_json
from drm_jax.puzzles.arc.tokens import EOS, FIRST_COLOUR, MASK
from drm_jax.puzzles.board_files import load_array

_INPUTS, _LABELS = "inputs", "labels"
_PARTS = ("train", "test")
_AUGMENTED = re.compile(r"(\|\|\|t[0-9]\|\|\|[0-9]{10}|_t[0-9]_[0-9]{10})$")
_Pairs = dict[str, list[dict[str, list]]]


def is_built(folder: Path) -> bool:
    """Whether a folder is such a dataset, or its train or test."""
    return folder.is_dir() and (
        any(folder.glob(f"*__{_INPUTS}.npy"))
        or any(any((folder / part).glob(f"*__{_INPUTS}.npy")) for part in _PARTS)
    )


def found_in_built(folder: Path) -> list[Found]:
    """The tasks of a dataset; of its train those without tests, of its test the others.

    Raises:
      InputError: a file of it is missing or wrong, or it is of other puzzles.
    """
    part = folder.name if any(folder.glob(f"*__{_INPUTS}.npy")) else ""
    root = folder.parent if part else folder
    plain = _plain_names(root / "identifiers.json")
    trained, tested = ({} if not (root / p).is_dir() else _pairs(root / p, plain) for p in _PARTS)
    chosen = {
        "": trained | tested,
        "train": {name: pairs for name, pairs in trained.items() if name not in tested},
        "test": tested,
    }
    if part not in chosen:
        raise InputError(f"{folder}: part of a dataset of arrays: its folder must be train or test")
    return [
        Found(name, {"train": trained.get(name, []), "test": tested.get(name, [])}, str(folder))
        for name in chosen[part]
    ]


def _plain_names(path: Path) -> dict[int, str]:
    """The unaugmented names, by puzzle id."""
    names = read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: expected a list of names, one for each puzzle id")
    if len(names) < 2:
        raise InputError(
            f"{path}: names no puzzle: a dataset of Sudoku or mazes, not of ARC? Give it to "
            "data=sudoku or data=maze"
        )
    return {i: name for i, name in enumerate(names) if i and not _AUGMENTED.search(name)}


def _pairs(folder: Path, plain: dict[int, str]) -> _Pairs:
    """The pairs of unaugmented puzzles, by name, in the order of the files."""
    found: _Pairs = {}
    for file in sorted(folder.glob(f"*__{_INPUTS}.npy")):
        subset = file.name.removesuffix(f"__{_INPUTS}.npy")
        inputs_NxS, labels_NxS, first_P, id_P = _arrays(folder, subset)
        for puzzle in np.flatnonzero(np.isin(id_P, list(plain))):
            pairs = found.setdefault(plain[int(id_P[puzzle])], [])
            for row in range(first_P[puzzle], first_P[puzzle + 1]):
                where = f"{folder}/{subset}__%s.npy: row {row}"
                pairs.append(
                    {
                        "input": _grid(inputs_NxS[row], where % _INPUTS),
                        "output": _grid(labels_NxS[row], where % _LABELS),
                    }
                )
    return found


def _arrays(folder: Path, subset: str) -> Sequence[np.ndarray]:
    """Inputs, labels, puzzle_indices and puzzle_identifiers. Large ones stay on disk."""
    arrays = []
    for name in (_INPUTS, _LABELS, "puzzle_indices", "puzzle_identifiers"):
        path = folder / f"{subset}__{name}.npy"
        arrays.append(load_array(path, "a dataset of arrays needs it", on_disk=True))
        axes = 2 if name in (_INPUTS, _LABELS) else 1
        if arrays[-1].ndim != axes or not np.issubdtype(arrays[-1].dtype, np.integer):
            raise InputError(f"{path}: must hold whole numbers along {axes} axes")
    inputs_NxS, labels_NxS, first_P, id_P = arrays
    fits = inputs_NxS.shape == labels_NxS.shape and len(first_P) == len(id_P) + 1
    ascending = (np.diff(first_P) >= 0).all() and first_P[:1] == 0
    if not fits or not ascending or first_P[-1] != len(inputs_NxS):
        raise InputError(f"{folder}: the arrays {subset}__*.npy don't fit together")
    return arrays


def _grid(tokens_S: np.ndarray, where: str) -> list[list[int]]:
    """The colours of a canvas on which one rectangle of them stands."""
    side = math.isqrt(tokens_S.size)
    if side * side != tokens_S.size:
        raise InputError(f"{where}: {tokens_S.size} tokens are no square canvas")
    tokens_CxC = np.asarray(tokens_S).reshape(side, side)
    is_colour_CxC = (tokens_CxC >= FIRST_COLOUR) & (tokens_CxC < MASK)
    rows, columns = (np.flatnonzero(is_colour_CxC.any(axis=axis)) for axis in (1, 0))
    outside = tokens_CxC[~is_colour_CxC]
    if not rows.size or ((outside < 0) | (outside > EOS)).any():
        raise InputError(f"{where}: not the tokens of a grid of ARC")
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if not is_colour_CxC[box].all():
        raise InputError(f"{where}: its colours are no rectangle")
    return (tokens_CxC[box].astype(int) - FIRST_COLOUR).tolist()
