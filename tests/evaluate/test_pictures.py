"""Pictures of denoising, in the terminal and as images."""

import dataclasses

import numpy as np
import pytest

from drm_jax.evaluate.answers import Trajectory, is_right, pack, unpack
from drm_jax.evaluate.pictures import denoising, image, terminal_picture, token_colours
from drm_jax.puzzles.arc.augment import Augmentation
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tokens import MASK, VOCABULARY, to_tokens
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.puzzles.sudoku.symmetries import identity

ARC, IDENTITY = Arc(), Augmentation()
A, B = np.array([[1]], np.uint8), np.array([[2, 3]], np.uint8)


def vector(augmentation: Augmentation) -> np.ndarray:
    return np.array([augmentation.transform, *augmentation.colours], np.uint8)


def trajectory_of(predicted, tokens, truth, augmentation=IDENTITY, question=A) -> Trajectory:
    """Of steps (N, S) that began from `tokens`; the first one from all masked."""
    predicted_NxS, tokens_NxS = np.array(predicted, np.uint8), np.array(tokens, np.uint8)
    levels = np.array([1000, *[500] * (len(predicted_NxS) - 1)])
    sure = np.full(predicted_NxS.shape, 90, np.uint8)
    halt, side = np.zeros(len(levels), np.float32), int(predicted_NxS.shape[1] ** 0.5)
    board = (side, side)
    return Trajectory(
        "t", 0, question, truth, 7, vector(augmentation), levels, board, halt, predicted_NxS,
        tokens_NxS == MASK, sure,
    )  # fmt: skip


def test_pictures_show_the_tokens():
    tokens = np.array([[3, 1], [1, 0]], np.uint8).reshape(-1)
    trajectory = trajectory_of([tokens, tokens], [np.full(4, MASK), tokens], A)
    assert is_right(trajectory, ARC)
    wrong = dataclasses.replace(trajectory, predicted_NxS=np.stack([tokens, tokens + 1]))
    assert not is_right(wrong, ARC)
    picture, cell = image([denoising(t, ARC) for t in (trajectory, wrong)], VOCABULARY, 20), 20
    top = 20 + 2 * 16  # the gap, a line with the task, one with the captions
    question, masked = (picture[top : top + 40, left : left + 40] for left in (20, 84))
    for shown, grid in ((question, tokens.reshape(2, 2)), (masked, np.full((2, 2), MASK))):
        np.testing.assert_array_equal(
            shown[:: cell + 5, :: cell + 5], token_colours(VOCABULARY)[grid]
        )
    assert (picture[:20] == 255).all()
    for first in (20, 36):  # both lines are written, beside the white
        assert (picture[first : first + 16] != 255).any()
    assert picture.shape[0] == 2 * (2 * 16 + 40 + 20) + 20
    assert "right" in terminal_picture(trajectory, ARC, 80).renderables[0].plain
    assert "wrong" in terminal_picture(wrong, ARC, 80).renderables[0].plain


def test_pictures_undo_the_augmentation():
    """A row of colours 2 3, asked as a column of 5 7: its picture is a row again."""
    colours = IDENTITY.colours.copy()
    colours[[2, 5, 3, 7]] = [5, 2, 7, 3]
    augmentation = Augmentation(6, colours)
    asked = to_tokens(np.array([[5], [7]], np.uint8), 3)
    trajectory = trajectory_of([asked], [np.full(9, MASK)], B, augmentation, question=B)
    assert is_right(trajectory, ARC)
    title, frames = denoising(trajectory, ARC)
    assert "t6" in title
    frames = dict(frames)
    for name in ("input", "answer", "truth"):
        np.testing.assert_array_equal(frames[name], [[4, 5, 1], [1, 1, 0]])
    assert (frames["step 1"] == MASK).all()


def test_a_truth_larger_than_the_window_is_pictured():
    small = to_tokens(A, 2)
    trajectory = trajectory_of([small], [np.full(4, MASK)], np.full((5, 4), 3, np.uint8))
    title, frames = denoising(trajectory, ARC)
    assert title.endswith("wrong")
    assert {tile.shape for _, tile in frames} == {(5, 5)}


@pytest.mark.parametrize("columns", [20, 60, 100])
def test_terminal_pictures_keep_to_the_width(columns):
    from rich.console import Console

    grid = np.full((20, 20), 3, np.uint8)
    trajectory = trajectory_of([[5] * 400] * 2, [[5] * 400] * 2, grid, question=grid)
    console = Console(width=columns, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_picture(trajectory, ARC, columns))
    lines = console.export_text().splitlines()
    console.file.close()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= columns


def test_symbols_without_colours_are_written():
    family = Sudoku(side=4)
    grid = np.array([[0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 0, 1], [1, 2, 3, 0]], np.uint8)
    truth, board = np.where(grid, grid, 4).astype(np.uint8), (4, 4)
    tokens = np.stack([family.to_tokens(truth, board)] * 2)
    masked = np.array([[True] * 16, [False] * 16])
    levels, halt, sure = np.array([1000, 500]), np.zeros(2, np.float32), np.full((2, 16), 90)
    trajectory = Trajectory(
        "p", 0, grid, truth, 1, identity(4), levels, board, halt, tokens, masked,
        sure.astype(np.uint8),
    )  # fmt: skip
    assert is_right(trajectory, family)
    title, frames = denoising(trajectory, family)
    assert title == "task p, test input 1: right"
    assert [name for name, _ in frames] == ["input", "step 1", "step 2", "answer", "truth"]
    lines = terminal_picture(trajectory, family, 80).renderables[1].columns[0]._cells[1].plain
    assert lines.splitlines() == ["   1 2 3", " 3   1 2", " 2 3   1", " 1 2 3  "]
    picture = image([denoising(trajectory, family)], family.vocabulary, cell=20)
    inside = picture[20 + 2 * 16 : 20 + 2 * 16 + 80, 20:100].reshape(4, 20, 4, 20, 3)
    dark = (inside < 100).any(axis=(1, 3, 4))
    np.testing.assert_array_equal(dark, grid > 0)


def test_a_packed_trajectory_is_the_same():
    rng = np.random.default_rng(0)
    predicted, tokens = rng.integers(0, 13, (2, 3, 9), np.uint8)
    trajectory = trajectory_of(predicted, tokens, A)
    found = unpack(pack(trajectory))
    for field in dataclasses.fields(Trajectory):
        before, after = getattr(trajectory, field.name), getattr(found, field.name)
        np.testing.assert_array_equal(before, after)
