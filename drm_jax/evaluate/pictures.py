"""Pictures of answers and of denoising: in the terminal, and as an image.

Whether a test input is solved is said of the attempts, which are handed in; never of a candidate,
which has a vote.
"""

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Group
from rich.table import Table
from rich.text import Text

from drm_jax.evaluate.answers import Answers, Trajectory, answer_of, augmented, began_from
from drm_jax.puzzles.boards import grid_of, place
from drm_jax.puzzles.family import PAD, Board, Family, Vocabulary
from drm_jax.words import counted

Row = tuple[str, list[tuple[str, np.ndarray]]]
"""A title, and frames: a caption of one or two lines, and tokens (h, w)."""
_PAD_COLOUR, _OTHER_COLOUR, _MASK_COLOUR, _PAPER = "#26262B", "#3C3C46", "#F4EBD9", "#FFFFFF"


def token_colours(vocabulary: Vocabulary) -> np.ndarray:
    """(V, 3) uint8: the colour of each token, MASK the last; white where symbols are written."""
    symbols = vocabulary.colours or [_PAPER] * len(vocabulary.symbols)
    others = [_OTHER_COLOUR] * (vocabulary.first - PAD - 1)
    names = [_PAD_COLOUR, *others, *symbols, _MASK_COLOUR]
    return np.array([[int(name[i : i + 2], 16) for i in (1, 3, 5)] for name in names], np.uint8)


def _cell(token: int, vocabulary: Vocabulary) -> str:
    """Two characters for a token in the terminal."""
    if token == vocabulary.mask:
        return "░░"
    if token >= vocabulary.first:
        return f" {vocabulary.written[token - vocabulary.first]}"
    return "  " if token == PAD else " │"


def answer_rows(
    task: Mapping[str, Any],
    number: int,
    trajectories: Sequence[Trajectory],
    family: Family,
    most: int = 1000,
) -> list[Row]:
    """The attempts at a test input, and below them how some of its candidates were denoised.

    Args:
      task: as `Answers.tasks` has it.
      number: of the test input, from 0.
      trajectories: of this test input.
      most: how many frames a candidate has at most.
    """
    test, symbols = task["tests"][number], family.vocabulary.symbols
    answers = [(grid_of(x["grid"], symbols), x["votes"]) for x in test["answers"]]
    question, truth = (grid_of(test[name], symbols) for name in ("input", "output"))
    asked = asked_of(question, truth, test["candidates"], answers, family.attempts)
    name = f"task {task['id']}, test input {number + 1}"
    below = [candidate_row(trajectory, asked, family, most) for trajectory in trajectories]
    return [attempts_row(name, asked, family), *below]


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """A test input and its answers, for pictures; grids of symbols."""

    question: np.ndarray
    truth: np.ndarray | None
    candidates: int
    attempts: Sequence[tuple[np.ndarray, int]]  # what is handed in, and its votes, best first
    others: Sequence[tuple[np.ndarray, int]]


def asked_of(
    question: np.ndarray,
    truth: np.ndarray | None,
    candidates: int,
    answers: Sequence[tuple[np.ndarray, int]],
    attempts: int,
) -> Asked:
    """Splits answers, best first, into those that are handed in and the others.

    Args:
      attempts: how many are; a grid without cells never is.
    """
    with_cells = sum(grid.size > 0 for grid, _ in answers)  # these stand first
    count = min(attempts, with_cells)
    return Asked(question, truth, candidates, answers[:count], answers[count:])


def attempts_row(name: str, asked: Asked, family: Family) -> Row:
    """The input, the answers that are handed in with their votes, and the truth.

    Args:
      name: of the test input; the title says whether it is solved too.
    """
    frames, outcome = [("input", asked.question)], "not solved"
    for number, (grid, votes) in enumerate(asked.attempts):
        attempt = _attempt(number, family)
        said = f"\n{votes} of {counted(asked.candidates, 'vote')}" if asked.candidates > 1 else ""
        frames.append((attempt + said, grid))
        if outcome == "not solved" and np.array_equal(grid, asked.truth):
            outcome = f"solved by {attempt}" if family.attempts > 1 else "solved"
    if asked.truth is None:
        outcome = "truth unknown"
    else:
        frames.append(("truth", asked.truth))
    nothing = "" if asked.attempts else "; no answer"
    return grids_row(f"{name}: {outcome}{nothing}", frames, family.vocabulary)


def _attempt(number: int, family: Family) -> str:
    return "answer" if family.attempts == 1 else f"attempt {number + 1}"


def candidate_row(trajectory: Trajectory, asked: Asked, family: Family, most: int = 1000) -> Row:
    """At most so many frames of what a candidate's steps began from, and the answer that it gave.

    As the puzzle has them: the candidate's augmentation is undone. The title says what it gave.
    """
    how = family.augmentation_name(trajectory.augmentation_A)
    how = f"under {how}" if how else "without augmentation"
    answer, gave = answer_of(trajectory, family), "another answer"
    for number, (grid, _) in enumerate(asked.attempts):
        if np.array_equal(grid, answer):
            gave = "the answer" if family.attempts == 1 else _attempt(number, family)
    for grid, votes in asked.others:
        if np.array_equal(grid, answer):
            gave = f"another answer, {votes} of {counted(asked.candidates, 'vote')}"
    return f"candidate {how}: gave {gave}", _frames(trajectory, asked, family, most)


def _frames(
    trajectory: Trajectory, asked: Asked, family: Family, most: int
) -> list[tuple[str, np.ndarray]]:
    """(caption, tokens (h, w)) of chosen steps, and the candidate's answer.

    Cropped alike, to a board that holds the question and the truth too.
    """
    augmentation_A, steps = trajectory.augmentation_A, len(trajectory.predicted_NxS)
    shown = np.unique(np.linspace(0, steps - 1, min(steps, max(1, most - 1))).round().astype(int))
    grids = [
        augmented(grid, augmentation_A, family)
        for grid in (asked.question, asked.truth)
        if grid is not None
    ]
    board = _board_of_all(trajectory.board, [grid.shape for grid in grids])
    seen = [(f"step {i + 1}", began_from(trajectory, family)[i]) for i in shown]
    seen += [("candidate", trajectory.predicted_NxS[-1])]
    placed = [(name, place(tokens_S, trajectory.board, board)) for name, tokens_S in seen]
    sizes = [grid.shape for grid in grids]
    sizes += [family.grid_sizes(tokens_S[None], board)[0] for _, tokens_S in placed]
    height, width = (min(board[axis], max(s[axis] for s in sizes) + 1) for axis in (0, 1))
    return [
        (name, family.undo(t.reshape(board)[:height, :width], augmentation_A)) for name, t in placed
    ]


def _board_of_all(board: Board, shapes: Sequence[tuple[int, ...]]) -> Board:
    """A board that holds grids of these shapes too; where it is square, so is that."""
    height, width = (max(of, *(shape[axis] for shape in shapes)) for axis, of in enumerate(board))
    return (max(height, width),) * 2 if board[0] == board[1] else (height, width)


def legend(answers: Answers, trajectories: Sequence[Trajectory], family: Family) -> list[str]:
    """What the frames of `answer_rows` are, in a few lines.

    Args:
      trajectories: those that are shown.
    """
    voted = any(test["candidates"] > 1 for task in answers.tasks for test in task["tests"])
    lines = []
    if voted and family.attempts == 1:
        lines = ["answer: the one with the most votes"]
    elif voted:
        lines = [
            f"attempts: the {counted(family.attempts, 'answer')} with the most votes, handed in"
        ]
    if trajectories:
        latents = trajectories[0].levels_N[0] < 0  # steps begin from them, not from a grid
        lines.append("steps: the answer after each" if latents else "steps: what each began from")
        lines.append("candidate: what it answered" + ", one of the votes" * voted)
    if trajectories and len(answers.steps) > 1:
        lines.append(f"steps and candidate are of step {answers.steps[-1]} alone")
    return lines


def terminal_legend(
    answers: Answers, trajectories: Sequence[Trajectory], family: Family
) -> list[str]:
    """`legend`, and what the characters mean that are no symbols."""
    lines = legend(answers, trajectories, family)
    if trajectories:
        signs = ["░ masked"] if trajectories[0].levels_N[0] >= 0 else []
        # Where PAD alone comes before the symbols, every grid fills the board.
        signs += ["│ ends a grid"] if family.vocabulary.first > PAD + 1 else []
        lines += ["; ".join(signs)] if signs else []
    return lines


def task_rows(task: Mapping[str, Any], vocabulary: Vocabulary) -> list[Row]:
    """A row for each demonstration and test of a task, as `Answers.tasks` has it."""
    rows = []
    for kind, pairs in (("demonstration", task["demonstrations"]), ("test", task["tests"])):
        for i, pair in enumerate(pairs):
            grids = [
                (name, grid_of(pair[name], vocabulary.symbols)) for name in ("input", "output")
            ]
            known = [(name, grid) for name, grid in grids if grid is not None]
            hidden = "" if pair["output"] is not None else ", its output is hidden"
            rows.append(grids_row(f"{kind} {i + 1}{hidden}", known, vocabulary))
    return rows


def grids_row(title: str, grids: Sequence[tuple[str, np.ndarray]], vocabulary: Vocabulary) -> Row:
    """A row of grids of symbols, each with its caption."""
    return title, [(name, grid + np.uint8(vocabulary.first)) for name, grid in grids]


def terminal_picture(
    task: Mapping[str, Any], trajectory: Trajectory, family: Family, columns: int
) -> Group:
    """The `answer_rows` of one candidate for rich to print, each on one line in so many columns.

    Frames that don't fit are left out: the input, the truth, the later attempts; some of the steps.
    """
    arguments = task, trajectory.test, [trajectory], family
    _, (_, frames) = answer_rows(*arguments, most=2)
    fitting = columns // _columns(frames)
    attempts, (title, frames) = answer_rows(*arguments, most=max(2, fitting))
    rows = [_fitting(attempts, columns), (title, frames[-fitting:] if fitting else frames)]
    return Group(*(terminal_row(row, family.vocabulary, columns) for row in rows))


def _fitting(row: Row, columns: int) -> Row:
    """An `attempts_row` with as many frames as stand beside each other; at least one."""
    title, (question, *others) = row
    fitting = columns // _columns([question, *others])
    if fitting > len(others):
        return row
    left_out = [name.split("\n")[0] for name, _ in [*others[max(fitting, 1) :], question]]
    return f"{title} (no room for: {', '.join(left_out)})", others[: max(fitting, 1)]


def _columns(frames: Sequence[tuple[str, np.ndarray]]) -> int:
    """How many columns of a terminal each of these frames takes, with the gap."""
    return max(max(2 * tile.shape[1], *map(len, name.split("\n"))) for name, tile in frames) + 2


def terminal_row(row: Row, vocabulary: Vocabulary, columns: int) -> Group:
    """A title and its frames, on as many lines as they need in so many columns."""
    title, frames = row
    fitting = columns // _columns(frames)
    if not fitting:
        said = "(too wide for this terminal: make it wider, or look at a picture)"
        return Group(Text(title, style="bold"), Text(said, style="dim"))
    lines = []
    for start in range(0, len(frames), fitting):
        table, here = Table.grid(padding=(0, 1)), frames[start : start + fitting]
        table.add_row(*(Text(name, style="dim") for name, _ in here))
        table.add_row(*(_text(tokens_hxw, vocabulary) for _, tokens_hxw in here))
        lines.append(table)
    return Group(Text(title, style="bold"), *lines)


def _text(tokens_hxw: np.ndarray, vocabulary: Vocabulary) -> Text:
    """Tokens as coloured characters."""
    colours_Vx3 = token_colours(vocabulary)
    styles = [
        "{} on #{:02x}{:02x}{:02x}".format("#ffffff" if dark else "#000000", *colour)
        for colour, dark in zip(colours_Vx3, colours_Vx3.mean(axis=1) < 120, strict=True)
    ]
    text = Text()
    for cells in tokens_hxw.tolist():
        for token in cells:
            text.append(_cell(token, vocabulary), style=styles[token])
        text.append("\n")
    return text


def image(
    rows: Sequence[Row], vocabulary: Vocabulary, cell: int = 12, legend: Sequence[str] = ()
) -> np.ndarray:
    """(H, W, 3) uint8: a title and its frames from left to right for each row.

    Args:
      legend: lines above them; below these the tokens that are no symbols are explained.
    """
    gap, line, font = cell, 16, ImageFont.load_default(11)
    lines = [max(name.count("\n") + 1 for name, _ in tiles) for _, tiles in rows]
    widths = [sum(_width(frame, cell, font) + gap for frame in tiles) for _, tiles in rows]
    widths += [math.ceil(font.getlength(text)) + gap for text in [*legend, *(t for t, _ in rows)]]
    heights = [
        (1 + of_row) * line + cell * max(len(tile) for _, tile in tiles) + gap
        for of_row, (_, tiles) in zip(lines, rows, strict=True)
    ]
    above = (len(legend) + 1) * line + gap if legend else 0
    canvas = Image.new("RGB", (max(widths) + gap, above + sum(heights) + gap), "white")
    draw, top = ImageDraw.Draw(canvas), gap
    for text in legend:
        draw.text((gap, top), text, "#666666", font)
        top += line
    if legend:
        _explain_tokens(draw, gap, top, rows, vocabulary)
        top += line + gap
    for (title, tiles), of_row, height in zip(rows, lines, heights, strict=True):
        draw.text((gap, top), title, "black", font)
        left = gap
        for name, tile in tiles:
            draw.text((left, top + line), name, "#666666", font, spacing=line - 11)
            canvas.paste(_tile(tile, vocabulary, cell), (left, top + (1 + of_row) * line))
            left += _width((name, tile), cell, font) + gap
        top += height
    return np.asarray(canvas)


def _width(frame: tuple[str, np.ndarray], cell: int, font: Any) -> int:
    name, tile = frame
    return max(cell * tile.shape[1], 44, *(math.ceil(font.getlength(x)) for x in name.split("\n")))


def _explain_tokens(
    draw: ImageDraw.ImageDraw, left: int, top: int, rows: Sequence[Row], vocabulary: Vocabulary
) -> None:
    """A line with the colours of the tokens in these rows that are no symbols."""
    used = {token for _, tiles in rows for _, tile in tiles for token in np.unique(tile).tolist()}
    words = {vocabulary.mask: "masked", PAD: "outside of the grid"}
    words |= dict.fromkeys(range(PAD + 1, vocabulary.first), "ends the grid")
    font, colours_Vx3 = ImageFont.load_default(11), token_colours(vocabulary)
    for token, text in words.items():
        if token in used:
            colour = tuple(colours_Vx3[token].tolist())
            draw.rectangle((left, top + 1, left + 11, top + 12), fill=colour, outline="#666666")
            draw.text((left + 16, top), text, "#666666", font)
            left += 16 + math.ceil(font.getlength(text)) + 14


def _tile(tokens_hxw: np.ndarray, vocabulary: Vocabulary, cell: int) -> Image.Image:
    """Tokens as squares of so many pixels; symbols without colours are written."""
    height, width = (cell * n for n in tokens_hxw.shape)
    tile = Image.fromarray(token_colours(vocabulary)[tokens_hxw])
    tile = tile.resize((width, height), Image.Resampling.NEAREST)
    if vocabulary.colours:
        return tile
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(max(6, round(0.8 * cell)))
    for (row, column), token in np.ndenumerate(tokens_hxw):
        left, top = column * cell, row * cell
        draw.rectangle((left, top, left + cell - 1, top + cell - 1), outline="#D0D0D0")
        if vocabulary.first <= token < vocabulary.size:
            symbol = vocabulary.written[token - vocabulary.first]
            middle = left + cell / 2, top + cell / 2
            draw.text(middle, symbol, "black", font, anchor="mm")
    return tile


def png(image_HxWx3: np.ndarray) -> bytes:
    """The image as the contents of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image_HxWx3).save(buffer, "PNG")
    return buffer.getvalue()
