"""Pictures of denoising, in the terminal and as images."""

import dataclasses

import numpy as np
import pytest
from ruled import PATH, Corridors, Unruled, corridors

from drm_jax.evaluate.answers import Answers, Trajectory, answer_of, augmented, pack, unpack
from drm_jax.evaluate.pictures import (
    answer_rows,
    grids_row,
    image,
    legend,
    terminal_legend,
    terminal_picture,
    terminal_row,
    token_colours,
)
from drm_jax.puzzles.arc.augment import Augmentation
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tokens import MASK, VOCABULARY, to_tokens
from drm_jax.puzzles.boards import grid_rows
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.puzzles.sudoku.symmetries import from_bits, identity, num_bits

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


def captions(frames) -> list[str]:
    return [frame.caption for frame in frames]


def one_of(trajectory: Trajectory, family=ARC) -> dict:
    """A task with this candidate alone."""
    return asked(trajectory, family, (answer_of(trajectory, family), 1))


def test_pictures_show_the_tokens():
    tokens = np.array([[3, 1], [1, 0]], np.uint8).reshape(-1)
    trajectory = trajectory_of([tokens, tokens], [np.full(4, MASK), tokens], A)
    _, row = answer_rows(one_of(trajectory), 0, [trajectory], ARC)
    picture, cell = image([row, row], ARC, 20), 20
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
    plain, explained = image(rows, ARC), image(rows, ARC, legend=lines)
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
    assert captions(frames) == [name for name, _ in expected]
    for frame, (_, grid) in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.tokens_hxw, grid + 2)
    assert below == f"candidate without augmentation: gave {gave}"
    assert captions(steps) == ["step 1", "candidate"]


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
    frames = {frame.caption: frame.tokens_hxw for frame in frames}
    np.testing.assert_array_equal(frames["candidate"], [[4, 5, 1], [1, 1, 0]])
    assert (frames["step 1"] == MASK).all()


def test_a_truth_larger_than_the_window_is_pictured():
    small = to_tokens(A, 2)
    trajectory = trajectory_of([small], [np.full(4, MASK)], np.full((5, 4), 3, np.uint8))
    (title, attempts), (_, frames) = answer_rows(one_of(trajectory), 0, [trajectory], ARC)
    assert title.endswith("not solved")
    assert [of.tokens_hxw.shape for of in attempts] == [(1, 1), (1, 1), (5, 4)]
    assert {of.tokens_hxw.shape for of in frames} == {(5, 5)}


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


def path_of(family, question, answers, masked=None, way=None, truth=None) -> Trajectory:
    """The denoising of a candidate whose steps answered these grids, under a symmetry."""
    count, cells = len(answers), question.size
    way = identity(len(question)) if way is None and isinstance(family, Sudoku) else way
    way = np.zeros(0, np.uint8) if way is None else way
    tokens = [family.to_tokens(augmented(grid, way, family), question.shape) for grid in answers]
    hidden = np.zeros((count, cells), bool) if masked is None else masked
    hidden[0] = True
    levels = np.array([1000, *[500] * (count - 1)])
    return Trajectory(
        "p", 0, question, truth, 1, way, levels, question.shape, np.zeros(count, np.float32),
        np.array(tokens, np.uint8), hidden, np.full((count, cells), 90, np.uint8),
    )  # fmt: skip


CLUES = np.array([[0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 0, 1], [1, 2, 3, 0]], np.uint8)


def test_symbols_without_colours_are_written():
    family, truth = Unruled(side=4), np.where(CLUES, CLUES, 4).astype(np.uint8)
    trajectory = path_of(family, CLUES, [truth, truth], truth=truth)
    rows = answer_rows(one_of(trajectory, family), 0, [trajectory], family)
    (title, frames), (below, steps) = rows
    assert title == "task p, test input 1: solved"
    assert captions(frames) == ["input", "answer", "truth"]
    assert below == "candidate without augmentation: gave the answer"
    assert captions(steps) == ["step 1", "step 2", "candidate"]
    voted = asked(trajectory, family, (truth, 3), (truth[::-1], 2))
    (_, frames), _ = answer_rows(voted, 0, [trajectory], family)
    assert captions(frames) == ["input", "answer\n3 of 5 votes", "truth"]
    shown = terminal_text(rows[0], family, 0).plain
    assert shown.splitlines() == ["   1 2 3", " 3   1 2", " 2 3   1", " 1 2 3  "]
    inside = tile_of(rows[0], family, 0).reshape(4, 20, 4, 20, 3)
    dark = (inside < 100).any(axis=(1, 3, 4))
    np.testing.assert_array_equal(dark, CLUES > 0)


# --- marks ----------------------------------------------------------------------------------------
# Clues, and an answer that puts a 4 beside the 4 of a row, and takes the 1 of the last row away.
QUESTION = np.array([[1, 0, 0, 4], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]], np.uint8)
ANSWER = np.array([[1, 2, 4, 4], [4, 3, 1, 2], [2, 1, 3, 3], [3, 4, 2, 1]], np.uint8)
BROKEN = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0]], bool)
RULED = Sudoku(side=4)


def terminal_text(row, family, number: int):
    """What a frame of a row prints."""
    return terminal_row(row, family, 200).renderables[1].columns[number]._cells[1]


def tile_of(row, family, number: int, cell: int = 20) -> np.ndarray:
    """The pixels of a frame's board, of a row of boards of 4 x 4."""
    side = 4 * cell
    left, top = cell + number * (side + cell), cell + 2 * 16
    return image([(row[0], row[1][: number + 1])], family, cell)[top:, left:][:side, :side]


def rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def marked_row():
    """The input, and the answer that breaks rules."""
    return grids_row("", [("input", QUESTION), ("answer", ANSWER)], QUESTION, RULED)


def test_the_terminal_marks_given_cells_conflicts_and_blocks():
    """Conflicts by a sign, since a stream may have no colours."""
    row = marked_row()
    assert terminal_text(row, RULED, 0).plain.splitlines() == [
        " 1   │   4", "     │    ", "─────┼────", "     │    ", "     │ 1  ",
    ]  # fmt: skip
    text = terminal_text(row, RULED, 1)
    assert text.plain.splitlines() == [
        " 1 2 │!4!4", " 4 3 │ 1 2", "─────┼────", " 2 1 │!3!3", " 3 4 │!2 1",
    ]  # fmt: skip
    style = {text.plain[span.start : span.end]: span.style for span in text.spans}
    assert text.spans[0].style == "bold #000000 on #E3E3DF"  # the first clue
    assert style[" 2"] == "#0A4FB0 on #FFFFFF"  # answered
    assert style["!4"] == "bold #ffffff on #C0271D"


def test_images_mark_given_cells_conflicts_and_blocks():
    row, cell = marked_row(), 20
    found = tile_of(row, RULED, 1)
    paper = found[4::cell, 4::cell]  # beside the digits
    given = (QUESTION > 0) & ~BROKEN
    for mark, colour in ((given, "#E3E3DF"), (BROKEN, "#FBD3CE"), (~given & ~BROKEN, "#FFFFFF")):
        assert mark.any()
        assert (paper[mark] == rgb(colour)).all(), colour
    outlined = (found[1::cell, cell // 2 :: cell] == rgb("#C0271D")).all(axis=2)
    np.testing.assert_array_equal(outlined, BROKEN)
    between = found[4::cell, 2 * cell - 1 : 2 * cell + 1]
    assert (between[[0, 1]] < 10)[1].all()  # a line between blocks, two pixels wide
    assert (found[4::cell, cell - 1] > 100).all()  # none within a block
    blue = (found == rgb("#0A4FB0")).all(axis=2).reshape(4, cell, 4, cell).any(axis=(1, 3))
    np.testing.assert_array_equal(blue, QUESTION == 0)


def test_steps_are_marked_as_answers_are():
    """Under a symmetry, which is undone. What a step began from has the marks of the answer before,
    where it wasn't masked."""
    way = from_bits(np.arange(99, dtype=np.uint32)[None, : num_bits(4)] * 0x9E3779B9, 4)[0]
    hidden = np.zeros((3, 4, 4), bool)
    hidden[1, 0, 2:] = True
    masked = np.array([augmented(x.astype(np.uint8), way, RULED) for x in hidden]) > 0
    trajectory = path_of(RULED, QUESTION, [ANSWER] * 3, masked.reshape(3, 16), way)
    (_, attempts), (_, steps) = answer_rows(one_of(trajectory, RULED), 0, [trajectory], RULED)
    np.testing.assert_array_equal(attempts[1].conflicts_hxw, BROKEN)
    expected = [np.zeros((4, 4), bool), BROKEN & ~hidden[1], BROKEN, BROKEN]
    assert captions(steps) == ["step 1", "step 2", "step 3", "candidate"]
    for frame, conflicts in zip(steps, expected, strict=True):
        np.testing.assert_array_equal(frame.conflicts_hxw, conflicts, frame.caption)
        np.testing.assert_array_equal(frame.given_hxw, QUESTION > 0)


def test_a_cell_that_only_differs_from_the_truth_is_no_conflict():
    truth = np.array([[1, 2, 3, 4], [3, 4, 2, 1], [2, 3, 4, 1], [4, 1, 2, 3]], np.uint8)
    other = np.array([[1, 3, 2, 4], [2, 4, 3, 1], [3, 1, 4, 2], [4, 2, 1, 3]], np.uint8)
    trajectory = path_of(RULED, QUESTION, [other], truth=truth)
    (title, frames), _ = answer_rows(one_of(trajectory, RULED), 0, [trajectory], RULED)
    assert "not solved" in title
    assert not frames[1].conflicts_hxw.any()


def test_whether_an_answer_is_valid_is_said():
    trajectory = path_of(RULED, QUESTION, [ANSWER])
    task = asked(trajectory, RULED, (ANSWER, 1))
    for verdict, said in ((True, "answer\nvalid"), (False, "answer\nbreaks a rule")):
        task["tests"][0]["answers"][0]["valid"] = verdict
        (_, frames), *_ = answer_rows(task, 0, [trajectory], RULED)
        assert captions(frames) == ["input", said]


def test_marks_are_explained_where_there_are_some():
    trajectory = path_of(RULED, QUESTION, [ANSWER])
    task = one_of(trajectory, RULED)
    answers = Answers((5,), "drm", {}, [task])
    assert terminal_legend(answers, [trajectory], RULED)[-1] == (
        "░ masked; bold: given; ! breaks a rule"
    )
    plain = terminal_legend(answers, [trajectory], Unruled(side=4))
    assert plain[-1] == "░ masked"
    above = image(answer_rows(task, 0, [trajectory], RULED), RULED, legend=["x"])[12 + 16 :][:16]
    for colour in ("#E3E3DF", "#FBD3CE"):
        assert (above == rgb(colour)).all(axis=2).sum() > 50, colour
    plain = image(answer_rows(task, 0, [trajectory], Unruled(side=4)), RULED, legend=["x"])
    assert not (plain[28:44] == rgb("#FBD3CE")).all(axis=2).any()


def test_a_path_over_its_maze():
    """In colours; what breaks a rule is outlined, on any of them."""
    family = Corridors(side=8)
    question, truth = corridors(8, 0)
    cut, cell = truth.copy(), 20
    cut[tuple(np.argwhere(cut == PATH)[2])] = question[0, 0]  # a wall on the path
    row = grids_row("", [("answer", cut)], question, family)
    conflicts, found = row[1][0].conflicts_hxw, image([row], family, cell)[20 + 32 :, 20:]
    found = found[: 8 * cell, : 8 * cell]
    middle = found[cell // 2 :: cell, cell // 2 :: cell]
    np.testing.assert_array_equal(middle, token_colours(family.vocabulary)[cut + 1])
    outlined = (found[::cell, cell // 2 :: cell] == rgb("#C0271D")).all(axis=2)
    np.testing.assert_array_equal(outlined, conflicts)
    assert 0 < conflicts.sum() < (truth == PATH).sum() + 1
    text = terminal_text(row, family, 0).plain.splitlines()
    signs = np.array([[line[2 * c] == "!" for c in range(8)] for line in text])
    np.testing.assert_array_equal(signs, conflicts)


@pytest.mark.parametrize("columns", [22, 40, 80, 120])
@pytest.mark.parametrize("side", [4, 9])
def test_ruled_boards_keep_to_the_width(columns, side):
    from rich.console import Console

    family, question = Sudoku(side=side), np.eye(side, dtype=np.uint8)
    trajectory = path_of(family, question, [np.ones_like(question)] * 6)
    console = Console(width=columns, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_picture(one_of(trajectory, family), trajectory, family, columns))
    lines = console.export_text().splitlines()
    console.file.close()
    assert max(map(len, lines)) <= columns
    drawn = [line for line in lines if "┼" in line]
    if columns == 22 and side == 9:
        assert not drawn  # too wide
    else:
        assert len(drawn) == {4: 2, 9: 4}[side]  # in two rows of boards


def test_a_packed_trajectory_is_the_same():
    rng = np.random.default_rng(0)
    predicted, tokens = rng.integers(0, 13, (2, 3, 9), np.uint8)
    trajectory = trajectory_of(predicted, tokens, A)
    found = unpack(pack(trajectory))
    for field in dataclasses.fields(Trajectory):
        before, after = getattr(trajectory, field.name), getattr(found, field.name)
        np.testing.assert_array_equal(before, after)
