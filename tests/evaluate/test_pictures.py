"""Pictures of denoising, in the terminal and as images."""

import dataclasses

import numpy as np
import pytest

from drm_jax.evaluate.answers import Answers, Trajectory, answer_of, pack, unpack
from drm_jax.evaluate.pictures import (
    answer_rows,
    image,
    legend,
    terminal_picture,
    terminal_row,
    token_colours,
)
from drm_jax.puzzles.arc.augment import Augmentation
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tokens import MASK, VOCABULARY, to_tokens
from drm_jax.puzzles.boards import grid_rows
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


def asked(trajectory: Trajectory, family, *answers, candidates: int | None = None) -> dict:
    """A task with the test input of a trajectory, and answers (grid, votes), best first."""
    symbols, truth = family.vocabulary.symbols, trajectory.truth
    grids = [grid for grid, _ in answers]
    ranks = [n for n, grid in enumerate(grids, 1) if np.array_equal(grid, truth)]
    test = {
        "input": grid_rows(trajectory.question, symbols),
        "output": grid_rows(truth, symbols),
        "candidates": candidates or sum(votes for _, votes in answers),
        "distinct": len(answers),
        "rank_of_truth": ranks[0] if ranks else None,
        "answers": [
            {"rank": n, "grid": grid_rows(grid, symbols), "votes": votes, "score": 0.5}
            for n, (grid, votes) in enumerate(answers, 1)
        ],
    }
    return {"id": trajectory.task, "source": "", "demonstrations": [], "tests": [test]}


def one_of(trajectory: Trajectory, family=ARC) -> dict:
    """A task with this candidate alone."""
    return asked(trajectory, family, (answer_of(trajectory, family), 1))


def test_pictures_show_the_tokens():
    tokens = np.array([[3, 1], [1, 0]], np.uint8).reshape(-1)
    trajectory = trajectory_of([tokens, tokens], [np.full(4, MASK), tokens], A)
    _, row = answer_rows(one_of(trajectory), 0, [trajectory], ARC)
    picture, cell = image([row, row], VOCABULARY, 20), 20
    top = 20 + 2 * 16  # the gap, a line with the title, one with the captions
    masked, second = (picture[top : top + 40, left : left + 40] for left in (20, 84))
    for shown, grid in ((masked, np.full((2, 2), MASK)), (second, tokens.reshape(2, 2))):
        np.testing.assert_array_equal(
            shown[:: cell + 5, :: cell + 5], token_colours(VOCABULARY)[grid]
        )
    assert (picture[:20] == 255).all()
    for first in (20, 36):  # both lines are written, beside the white
        assert (picture[first : first + 16] != 255).any()
    assert picture.shape[0] == 2 * (2 * 16 + 40 + 20) + 20


def test_a_legend_stands_above():
    """Lines of text, then the tokens that are no symbols, in their colours."""
    tokens = np.array([[3, 1], [1, 0]], np.uint8).reshape(-1)
    trajectory = trajectory_of([tokens, tokens], [np.full(4, MASK), tokens], A)
    task = asked(trajectory, ARC, (A, 3), (B, 2))
    lines = legend(Answers((5,), "drm", {}, [task]), [trajectory], ARC)
    assert [line.split(":")[0] for line in lines] == ["attempts", "steps", "candidate"]
    rows = answer_rows(task, 0, [trajectory], ARC)
    plain, explained = image(rows, VOCABULARY), image(rows, VOCABULARY, legend=lines)
    above = explained.shape[0] - plain.shape[0]
    assert above == (len(lines) + 1) * 16 + 12
    width = plain.shape[1]
    np.testing.assert_array_equal(explained[12 + above :, :width], plain[12:])
    swatches = explained[12 + len(lines) * 16 : above]
    for token in (MASK, 0, 1):
        assert (swatches == token_colours(VOCABULARY)[token]).all(axis=2).sum() > 80
    assert not (swatches == token_colours(VOCABULARY)[3]).all(axis=2).any()
    ensemble = legend(Answers((3, 5), "drm", {}, [task]), [trajectory], ARC)
    assert ensemble == [*lines, "steps and candidate are of step 5 alone"]


NOTHING = np.zeros((0, 0), np.uint8)


@pytest.mark.parametrize(
    ("answers", "truth", "attempts", "outcome", "gave"),
    [
        ([(B, 3), (A, 2)], B, [(B, 3), (A, 2)], "solved by attempt 1", "attempt 2"),
        ([(B, 3), (A, 2)], A, [(B, 3), (A, 2)], "solved by attempt 2", "attempt 2"),
        ([(B, 3), (B.T, 2), (A, 1)], A, [(B, 3), (B.T, 2)], "not solved",
         "another answer, 1 of 6 votes"),
        ([(B, 3), (B.T, 2)], A, [(B, 3), (B.T, 2)], "not solved", "another answer"),
        ([(A, 5)], None, [(A, 5)], "truth unknown", "attempt 1"),
        ([(A, 2), (NOTHING, 5)], B, [(A, 2)], "not solved", "attempt 1"),
        ([(NOTHING, 5)], B, [], "not solved; no answer", "another answer"),
    ],
)  # fmt: skip
def test_attempts_stand_first_and_alone_are_right_or_not(answers, truth, attempts, outcome, gave):
    """With their votes; below is the candidate, of whom it is only said what it gave."""
    trajectory = trajectory_of([to_tokens(A, 3)], [np.full(9, MASK)], truth)
    task, votes = asked(trajectory, ARC, *answers), sum(count for _, count in answers)
    (title, frames), (below, steps) = answer_rows(task, 0, [trajectory], ARC)
    assert title == f"task t, test input 1: {outcome}"
    expected = [
        (f"attempt {n}\n{count} of {votes} votes", grid)
        for n, (grid, count) in enumerate(attempts, 1)
    ]
    expected = [("input", A), *expected, *([] if truth is None else [("truth", truth)])]
    assert [name for name, _ in frames] == [name for name, _ in expected]
    for (_, shown), (_, grid) in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(shown, grid + 2)
    assert below == f"candidate without augmentation: gave {gave}"
    assert [name for name, _ in steps] == ["step 1", "candidate"]


def test_a_narrow_terminal_keeps_the_attempts():
    grid = np.full((3, 10), 3, np.uint8)
    trajectory = trajectory_of([to_tokens(grid, 12)] * 3, [np.full(144, MASK)] * 3, grid)
    task = asked(trajectory, ARC, (B, 3), (grid, 2))
    for columns, left_out in (
        (100, ""),
        (70, " (no room for: input)"),
        (50, " (no room for: truth, input)"),
        (23, " (no room for: attempt 2, truth, input)"),
    ):
        attempts, _ = terminal_picture(task, trajectory, ARC, columns).renderables
        title = attempts.renderables[0].plain
        assert title == f"task t, test input 1: solved by attempt 2{left_out}"


def test_pictures_undo_the_augmentation():
    """A row of colours 2 3, asked as a column of 5 7: its picture is a row again."""
    colours = IDENTITY.colours.copy()
    colours[[2, 5, 3, 7]] = [5, 2, 7, 3]
    augmentation = Augmentation(6, colours)
    asked = to_tokens(np.array([[5], [7]], np.uint8), 3)
    trajectory = trajectory_of([asked], [np.full(9, MASK)], B, augmentation, question=B)
    np.testing.assert_array_equal(answer_of(trajectory, ARC), B)
    _, (title, frames) = answer_rows(one_of(trajectory), 0, [trajectory], ARC)
    assert "under t6" in title
    frames = dict(frames)
    np.testing.assert_array_equal(frames["candidate"], [[4, 5, 1], [1, 1, 0]])
    assert (frames["step 1"] == MASK).all()


def test_a_truth_larger_than_the_window_is_pictured():
    small = to_tokens(A, 2)
    trajectory = trajectory_of([small], [np.full(4, MASK)], np.full((5, 4), 3, np.uint8))
    (title, attempts), (_, frames) = answer_rows(one_of(trajectory), 0, [trajectory], ARC)
    assert title.endswith("not solved")
    assert [tile.shape for _, tile in attempts] == [(1, 1), (1, 1), (5, 4)]
    assert {tile.shape for _, tile in frames} == {(5, 5)}


@pytest.mark.parametrize("columns", [20, 60, 100])
def test_terminal_pictures_keep_to_the_width(columns):
    from rich.console import Console

    grid = np.full((20, 20), 3, np.uint8)
    trajectory = trajectory_of([[5] * 400] * 2, [[5] * 400] * 2, grid, question=grid)
    console = Console(width=columns, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_picture(one_of(trajectory), trajectory, ARC, columns))
    lines = console.export_text().splitlines()
    console.file.close()
    assert len(lines) <= 2 * 23 + 1  # the title may need a second line
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
    rows = answer_rows(one_of(trajectory, family), 0, [trajectory], family)
    (title, frames), (below, steps) = rows
    assert title == "task p, test input 1: solved"
    assert [name for name, _ in frames] == ["input", "answer", "truth"]
    assert below == "candidate without augmentation: gave the answer"
    assert [name for name, _ in steps] == ["step 1", "step 2", "candidate"]
    voted = asked(trajectory, family, (truth, 3), (truth[::-1], 2))
    (_, frames), _ = answer_rows(voted, 0, [trajectory], family)
    assert [name for name, _ in frames] == ["input", "answer\n3 of 5 votes", "truth"]
    shown = terminal_row(rows[0], family.vocabulary, 80).renderables[1].columns[0]._cells[1].plain
    assert shown.splitlines() == ["   1 2 3", " 3   1 2", " 2 3   1", " 1 2 3  "]
    picture = image(rows[:1], family.vocabulary, cell=20)
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
