"""Symmetries of Sudoku: what turns every solved board into another solved board.

A symmetry is a vector (1 + 3n,) uint8 of a board of n x n cells: whether the board is transposed;
the new digit of each digit, from 0; then which row, and which column, stands at each place. Rows
stay in their band of boxes and columns in their stack, but bands and stacks may change places. A
board of boxes that are not square is never transposed.
"""

import numpy as np

from drm_jax.puzzles.sudoku.generator import BOXES

FIRST_DIGIT = 2
"""The token of the digit 1; 0 is PAD and 1 a blank cell."""


def identity(side: int) -> np.ndarray:
    """The symmetry that changes nothing."""
    return np.array([0, *np.tile(np.arange(side), 3)], np.uint8)


def num_bits(side: int) -> int:
    """How many random numbers `from_bits` needs for a symmetry."""
    rows, columns = BOXES[side]
    return 1 + 3 * side + side // rows + side // columns


def from_bits(bits_NxB: np.ndarray, side: int) -> np.ndarray:
    """(N, 1 + 3n) symmetries, each as likely as any other, from uint32 random numbers."""
    rows, columns = BOXES[side]
    ends = np.cumsum([1, side, side // rows, side, side // columns])
    transposed, digits, bands, in_bands, stacks, in_stacks = np.split(bits_NxB, ends, axis=1)
    parts = [
        (transposed >> np.uint32(31)) * (rows == columns),
        np.argsort(digits, axis=1),
        _order(bands, in_bands),
        _order(stacks, in_stacks),
    ]
    return np.concatenate([part.astype(np.uint8) for part in parts], axis=1)


def _order(groups_NxG: np.ndarray, lines_NxL: np.ndarray) -> np.ndarray:
    """(N, L) which line stands at each place: groups stay together, in random order."""
    count, groups = groups_NxG.shape
    lines_NxGxM = lines_NxL.reshape(count, groups, -1)
    size = lines_NxGxM.shape[2]
    group_NxGx1 = np.argsort(groups_NxG, axis=1)[..., None]
    line_NxGxM = np.argsort(lines_NxGxM, axis=2)
    return (group_NxGx1 * size + line_NxGxM).reshape(count, -1)


def augment(tokens_HxW: np.ndarray, symmetry_A: np.ndarray) -> np.ndarray:
    """A whole board of tokens under a symmetry: digits first, then lines, then transposed."""
    transposed, digits, rows, columns = _parts(symmetry_A)
    changed = _new_tokens(digits)[tokens_HxW][rows][:, columns]
    return changed.T if transposed else changed


def undo(tokens_HxW: np.ndarray, symmetry_A: np.ndarray) -> np.ndarray:
    """undo(augment(t, a), a) = t."""
    transposed, digits, rows, columns = _parts(symmetry_A)
    lines = tokens_HxW.T if transposed else tokens_HxW
    return _new_tokens(np.argsort(digits))[lines[np.argsort(rows)][:, np.argsort(columns)]]


def name(symmetry_A: np.ndarray) -> str:
    """`2143 r0132 c1023 t`: digits, rows, columns, transposed, of these what is not as it was."""
    transposed, *orders = _parts(symmetry_A)
    changed = [
        sign + "".join(map(str, order + first))
        for sign, first, order in zip(("", "r", "c"), (1, 0, 0), orders, strict=True)
        if (np.diff(order.astype(int)) != 1).any()
    ]
    return " ".join([*changed, *["t"] * bool(transposed)])


def words(symmetry_A: np.ndarray) -> str:
    """`digits 2143, transposed`; "as it is" for the identity."""
    spelled = {"r": "rows ", "c": "columns ", "t": "transposed"}
    parts = [
        spelled[part[0]] + part[1:] if part[0] in spelled else f"digits {part}"
        for part in name(symmetry_A).split()
    ]
    return ", ".join(parts) or "as it is"


def _parts(symmetry_A: np.ndarray) -> tuple[bool, np.ndarray, np.ndarray, np.ndarray]:
    return bool(symmetry_A[0]), *np.split(symmetry_A[1:], 3)


def _new_tokens(digits: np.ndarray) -> np.ndarray:
    new = np.arange(256, dtype=np.uint8)
    new[FIRST_DIGIT : FIRST_DIGIT + len(digits)] = FIRST_DIGIT + digits
    return new
