"""Files of puzzles on boards of one size: the published CSVs, and folders that TRM's or HRM's
builders wrote.

CSV      source,question,answer,rating      a board in one text, row by row; the answer may be empty
folder   train/ and test/, each with all__inputs.npy, all__labels.npy, all__puzzle_indices.npy,
         all__group_indices.npy: tokens, 0 for PAD; a group is a puzzle and its symmetric copies
"""

import csv
import gzip
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from drm_jax.errors import InputError
from drm_jax.puzzles.sets import PuzzleSet
from drm_jax.words import counted

_ROWS = 20_000
"""Lines that are read at a time."""
_SPLITS = {"train": "train", "evaluate": "test"}
_UNKNOWN = 255


def read_sources(
    sources: Sequence[str],
    role: Literal["train", "evaluate"],
    cells: int,
    symbols: str,
) -> PuzzleSet:
    """All puzzles of CSV files or dataset folders, in order.

    Args:
      role: what for; a dataset folder has a part for each.
      cells: of a board.
      symbols: of the family; "0" stands for "." too, where it is none of them.

    Raises:
      InputError: a source is missing or wrong, or folders and other sources are mixed.
    """
    paths = [Path(os.path.expanduser(source)) for source in sources]
    sets = []
    for source, path in zip(sources, paths, strict=True):
        if path.is_dir():
            sets.append(_read_folder(path, role, cells, symbols))
        elif path.is_file():
            sets.append(_read_csv(path, cells, symbols))
        else:
            raise InputError(f"data.{role}: {source}: there is no such file or folder")
    return _joined(sets, role)


def _joined(sets: Sequence[PuzzleSet], role: str) -> PuzzleSet:
    if len(sets) == 1:
        return sets[0]
    if any(x.first_G is not None for x in sets):
        raise InputError(f"data.{role}: a dataset folder can't be joined with other sources")
    difficulties = [x.difficulty_N for x in sets]
    known = all(x is not None for x in difficulties)
    return PuzzleSet(
        np.concatenate([x.inputs_NxS for x in sets]),
        np.concatenate([x.outputs_NxS for x in sets]),
        np.concatenate([x.known_N for x in sets]),
        np.concatenate(difficulties) if known else None,
    )


# --- CSV ------------------------------------------------------------------------------------------
def _read_csv(path: Path, cells: int, symbols: str) -> PuzzleSet:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            parts = list(_csv_parts(path, csv.reader(file), cells, symbols))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    if not parts:
        raise InputError(f"{path}: holds no puzzle: expected lines source,question,answer,rating")
    inputs, outputs, known, ratings = (list(part) for part in zip(*parts, strict=True))
    rated = all(part is not None for part in ratings)
    return PuzzleSet(
        np.concatenate(inputs),
        np.concatenate(outputs),
        np.concatenate(known),
        np.concatenate(ratings) if rated else None,
    )


_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]


def _csv_parts(path: Path, reader: Any, cells: int, symbols: str) -> Iterator[_Part]:
    numbered = ((reader.line_num, row) for row in reader if row)
    line, row = next(numbered, (0, []))
    if len(row) > 1 and len(row[1]) == cells:  # a puzzle, not the header
        numbered = itertools.chain([(line, row)], numbered)
    while part := list(itertools.islice(numbered, _ROWS)):
        lines, rows = zip(*part, strict=True)
        for line, row in part:
            if len(row) < 2:
                raise InputError(
                    f"{path}: line {line}: expected source,question,answer,rating, found "
                    f"{','.join(row)!r:.80}"
                )
        known_N = np.array([len(row) > 2 and row[2] != "" for row in rows], bool)
        answers = [row[2] if has else row[1] for row, has in zip(rows, known_N, strict=True)]
        inputs_NxS = _boards(path, lines, "question", [row[1] for row in rows], cells, symbols)
        outputs_NxS = _boards(path, lines, "answer", answers, cells, symbols)
        outputs_NxS[~known_N] = 0
        yield inputs_NxS, outputs_NxS, known_N, _ratings(rows)


def _ratings(rows: Sequence[Sequence[str]]) -> np.ndarray | None:
    try:
        return np.array([int(row[3]) for row in rows], np.int64)
    except (IndexError, ValueError, OverflowError):
        return None


def _boards(
    path: Path,
    lines: Sequence[int],
    name: str,
    texts: Sequence[str],
    cells: int,
    symbols: str,
) -> np.ndarray:
    """(N, S) uint8 symbols.

    Args:
      lines: the number of each text's line in the file.
    """
    symbol_V = np.full(256, _UNKNOWN, np.uint8)
    symbol_V[list(symbols.encode("latin-1"))] = np.arange(len(symbols))
    if "." in symbols and "0" not in symbols:
        symbol_V[ord("0")] = symbols.index(".")
    for line, text in zip(lines, texts, strict=True):
        if len(text) != cells or not text.isascii():
            raise InputError(
                f"{path}: line {line}: the {name} must have "
                f"{counted(cells, 'character')} out of {symbols!r}, found {len(text):,}: "
                f"{text!r:.60} (data.side says how large boards are)"
            )
    board_NxS = symbol_V[np.frombuffer("".join(texts).encode(), np.uint8).reshape(-1, cells)]
    wrong_N = (board_NxS == _UNKNOWN).any(axis=1)
    if wrong_N.any():
        number = int(np.argmax(wrong_N))
        place = int(np.argmax(board_NxS[number] == _UNKNOWN))
        raise InputError(
            f"{path}: line {lines[number]}: the {name} has {texts[number][place]!r}, which is "
            f"none of {symbols!r}"
        )
    return board_NxS


# --- folders of published builders ----------------------------------------------------------------
def _read_folder(path: Path, role: str, cells: int, symbols: str) -> PuzzleSet:
    folder = path if (path / "all__inputs.npy").exists() else path / _SPLITS[role]
    inputs_NxS, labels_NxS = (_tokens(folder, name, cells) for name in ("inputs", "labels"))
    puzzle_P, group_G = (_array(folder, f"{name}_indices") for name in ("puzzle", "group"))
    for name, tokens_NxS in (("inputs", inputs_NxS), ("labels", labels_NxS)):
        if len(tokens_NxS) != len(inputs_NxS) or tokens_NxS.min(initial=1) < 1:
            raise InputError(f"{folder}/all__{name}.npy: every cell of every board needs a token")
        if tokens_NxS.max(initial=1) > len(symbols):
            raise InputError(
                f"{folder}/all__{name}.npy: has token {tokens_NxS.max()}, but there are only "
                f"{len(symbols)}: is this a dataset of this family?"
            )
    try:
        first_G = puzzle_P[group_G].astype(np.int64)
    except IndexError as error:
        raise InputError(
            f"{folder}/all__group_indices.npy: names puzzles beyond the last"
        ) from error
    if first_G.ndim != 1 or first_G[:1] != 0 or first_G[-1:] != len(inputs_NxS):
        raise InputError(f"{folder}/all__group_indices.npy: doesn't cover all examples")
    if (np.diff(first_G) < 1).any():
        raise InputError(f"{folder}/all__group_indices.npy: groups must be ascending")
    inputs_NxS, labels_NxS = (x.astype(np.uint8) - np.uint8(1) for x in (inputs_NxS, labels_NxS))
    copies = len(first_G) - 1 < len(inputs_NxS)
    known_N = np.ones(len(inputs_NxS), bool)
    return PuzzleSet(inputs_NxS, labels_NxS, known_N, None, first_G if copies else None)


def _tokens(folder: Path, name: str, cells: int) -> np.ndarray:
    tokens = _array(folder, name)
    if tokens.ndim != 2 or tokens.shape[1] != cells:
        raise InputError(
            f"{folder}/all__{name}.npy: must be boards of {counted(cells, 'cell')}, has shape "
            f"{tokens.shape} (data.side says how large boards are)"
        )
    return tokens


def _array(folder: Path, name: str) -> np.ndarray:
    path = folder / f"all__{name}.npy"
    found = load_array(
        path, "expected a CSV file, or a folder that the builder of TRM or HRM wrote"
    )
    if not np.issubdtype(found.dtype, np.integer):
        raise InputError(f"{path}: must hold whole numbers, holds {found.dtype}")
    return found


def load_array(path: Path, wanted: str, on_disk: bool = False) -> np.ndarray:
    """The array of a .npy file.

    Args:
      wanted: what to say where there is no such file.
      on_disk: whether it stays there, and is read as it is used.

    Raises:
      InputError: it is missing, or can't be read.
    """
    try:
        return np.load(path, mmap_mode="r" if on_disk else None, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: is missing: {wanted}") from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: can't be read: {str(error).splitlines()[0]}") from error
