"""Symmetries of Sudoku: what turns every solved board into another solved board.

A symmetry is a vector (1 + 3n,) uint8 of a board of n x n cells: whether the board is transposed;
the new digit of each digit, from 0; then which row, and which column, stands at each place. Rows
stay in their band of boxes and columns in their stack, but bands and stacks may change places. A
board of boxes that are not square is never transposed.
"""

import functools

import numpy as np

from drm_jax.puzzles.boards import in_parts
from drm_jax.puzzles.sudoku.solver import BOXES
from drm_jax.random_bits import GOLDEN, mix_bits

FIRST_DIGIT = 2
"""The token of the digit 1; 0 is PAD and 1 a blank cell."""
_LETTERS = "0123456789ABCDEFG"


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


def augment(tokens_NxKxS: np.ndarray, symmetry_NxA: np.ndarray) -> np.ndarray:
    """K boards of tokens of each of N puzzles under the puzzle's symmetry: digits first, then
    lines, then transposed."""
    digits_NxL, cell_NxS = _parts(symmetry_NxA)
    moved = np.take_along_axis(tokens_NxKxS, cell_NxS[:, None], axis=2)
    return _mapped(moved, digits_NxL)


def undo(tokens_NxKxS: np.ndarray, symmetry_NxA: np.ndarray) -> np.ndarray:
    """undo(augment(t, a), a) = t."""
    digits_NxL, cell_NxS = _parts(symmetry_NxA)
    moved = np.empty_like(tokens_NxKxS)
    np.put_along_axis(moved, cell_NxS[:, None], tokens_NxKxS, axis=2)
    return _mapped(moved, np.argsort(digits_NxL, axis=1))


def _parts(symmetry_NxA: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, n) new digits, from 0; (N, S) which cell comes to each place."""
    count = len(symmetry_NxA)
    orders_Nx3xL = symmetry_NxA[:, 1:].reshape(count, 3, -1).astype(np.int64)
    digits_NxL, rows_NxL, columns_NxL = orders_Nx3xL.swapaxes(0, 1)
    side = digits_NxL.shape[1]
    cell_NxLxL = rows_NxL[:, :, None] * side + columns_NxL[:, None, :]
    transposed = symmetry_NxA[:, 0, None, None] > 0
    cell_NxLxL = np.where(transposed, cell_NxLxL.swapaxes(1, 2), cell_NxLxL)
    return digits_NxL, cell_NxLxL.reshape(count, -1)


def _mapped(tokens_NxKxS: np.ndarray, digits_NxL: np.ndarray) -> np.ndarray:
    """Tokens with new digits; other tokens stay."""
    count, side = digits_NxL.shape
    new_Nx256 = np.tile(np.arange(256, dtype=np.uint8), (count, 1))
    new_Nx256[:, FIRST_DIGIT : FIRST_DIGIT + side] = FIRST_DIGIT + digits_NxL
    row_N = 256 * np.arange(count)[:, None, None]
    return new_Nx256.reshape(-1)[tokens_NxKxS + row_N]


def name(symmetry_A: np.ndarray) -> str:
    """`2143 r0132 c1023 t`: digits, rows, columns, transposed, of these what is not as it was."""
    transposed, orders = bool(symmetry_A[0]), np.split(symmetry_A[1:], 3)
    changed = [
        sign + "".join(_LETTERS[place + first] for place in order)
        for sign, first, order in zip(("", "r", "c"), (1, 0, 0), orders, strict=True)
        if (np.diff(order.astype(int)) != 1).any()
    ]
    return " ".join([*changed, *["t"] * transposed])


def words(symmetry_A: np.ndarray) -> str:
    """`digits 2143, transposed`; "as it is" for the identity."""
    spelled = {"r": "rows ", "c": "columns ", "t": "transposed"}
    parts = [
        spelled[part[0]] + part[1:] if part[0] in spelled else f"digits {part}"
        for part in name(symmetry_A).split()
    ]
    return ", ".join(parts) or "as it is"


# --- one form of all symmetric copies -------------------------------------------------------------
_ROUNDS = 3
_PART = 512
"""Boards at a time: their numbers stay in a CPU's cache."""


def invariant(digits_NxS: np.ndarray, side: int) -> np.ndarray:
    """(N,) uint64, the same for all symmetric copies of a puzzle.

    Each cell gets a number, which is mixed again and again with those of its row, column, box and
    of the cells with the same digit; sums forget their order. Two puzzles that are no copies of
    each other have the same number only by chance (1 in 2**64), or if they are so regular that
    their cells can't be told apart in this way.
    """
    return in_parts(functools.partial(_invariant, side), _PART, digits_NxS)


def _invariant(side: int, digits_NxS: np.ndarray) -> np.ndarray:
    return _mix(_mix(_colours(digits_NxS, side)).sum(axis=1))


def _colours(digits_NxS: np.ndarray, side: int) -> np.ndarray:
    """(N, S) uint64: numbers of cells that symmetries carry along."""
    count, (rows, columns) = len(digits_NxS), BOXES[side]
    digits_NxLxL = digits_NxS.reshape(count, side, side)
    blank = digits_NxLxL == 0
    colour = _mix(np.where(blank, np.uint64(1), np.uint64(2)))
    square = rows == columns
    for _ in range(_ROUNDS):
        mixed = _mix(colour)
        row, column = mixed.sum(axis=2, keepdims=True), mixed.sum(axis=1, keepdims=True)
        boxes = mixed.reshape(count, side // rows, rows, side // columns, columns).sum(axis=(2, 4))
        box = boxes.repeat(rows, axis=1).repeat(columns, axis=2)
        band = _mix(row).reshape(count, side // rows, rows).sum(axis=2).repeat(rows, axis=1)
        stack = _mix(column).reshape(count, side // columns, columns).sum(axis=2)
        across = _mix(row + _mix(band[:, :, None] + np.uint64(7)))
        down = _mix(column + _mix(stack.repeat(columns, axis=1)[:, None, :] + np.uint64(7)))
        lines = across + down if square else across + _mix(down + np.uint64(5))
        same = _same_digit(mixed, digits_NxLxL, side)
        colour = _mix(colour + lines + _mix(box + np.uint64(3)) + _mix(same + np.uint64(9)))
    return colour.reshape(count, side * side)


def _same_digit(mixed: np.ndarray, digits: np.ndarray, side: int) -> np.ndarray:
    """For each cell the sum over the cells with its digit; 0 for a blank."""
    of_digit = np.stack([(mixed * (digits == d)).sum(axis=(1, 2)) for d in range(1, side + 1)], 1)
    of_digit = np.concatenate([np.zeros((len(digits), 1), np.uint64), of_digit], axis=1)
    return of_digit[np.arange(len(digits))[:, None, None], digits]


def _mix(x: np.ndarray) -> np.ndarray:
    return mix_bits(x + GOLDEN)
