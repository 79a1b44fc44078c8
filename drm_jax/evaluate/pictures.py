"""Pictures of answers and of denoising: in the terminal, and as an image.

Whether a test input is solved is said of the attempts, which are handed in; never of a candidate,
which has a vote. Of families with rules given cells and conflicts are marked: see `marks`; a cell
that only differs from the truth is no conflict.
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

from drm_jax.evaluate.answers import (
    Answers,
    Trajectory,
    answer_of,
    augmented,
    began_from,
    first_symbol,
)
from drm_jax.evaluate.marks import are_marked, conflicts_in, conflicts_of_steps, given_in
from drm_jax.puzzles.boards import grid_of, place
from drm_jax.puzzles.family import PAD, Board, Family, Vocabulary
from drm_jax.words import counted


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """A board in a picture."""

    caption: str  # a few lines
    tokens_hxw: np.ndarray
    given_hxw: np.ndarray  # bool
    conflicts_hxw: np.ndarray  # bool


Row = tuple[str, list[Frame]]
"""A title, and frames."""
_PAD_COLOUR, _OTHER_COLOUR, _MASK_COLOUR, _PAPER = "#26262B", "#3C3C46", "#F4EBD9", "#FFFFFF"
_GIVEN, _ANSWERED, _BROKEN, _BROKEN_LINE = "#E3E3DF", "#0A4FB0", "#FBD3CE", "#C0271D"
"""Marks: paper of given symbols, ink of answered ones, paper and outline of conflicts."""


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
    answers = [
        Ranked(grid_of(x["grid"], symbols), x["votes"], x.get("valid")) for x in test["answers"]
    ]
    question, truth = (grid_of(test[name], symbols) for name in ("input", "output"))
    asked = asked_of(question, truth, test["candidates"], answers, family.attempts)
    name = f"task {task['id']}, test input {number + 1}"
    below = [candidate_row(trajectory, asked, family, most) for trajectory in trajectories]
    return [attempts_row(name, asked, family), *below]


@dataclasses.dataclass(frozen=True, eq=False)
class Ranked:
    """An answer to a test input."""

    grid: np.ndarray  # of symbols
    votes: int
    valid: bool | None = None
    """Whether it keeps every rule; None where there are none that tell."""


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """A test input and its answers, for pictures; grids of symbols."""

    question: np.ndarray
    truth: np.ndarray | None
    candidates: int
    attempts: Sequence[Ranked]  # what is handed in, best first
    others: Sequence[Ranked]


def asked_of(
    question: np.ndarray,
    truth: np.ndarray | None,
    candidates: int,
    answers: Sequence[Ranked],
    attempts: int,
) -> Asked:
    """Splits answers, best first, into those that are handed in and the others.

    Args:
      attempts: how many are; a grid without cells never is.
    """
    with_cells = sum(answer.grid.size > 0 for answer in answers)  # these stand first
    count = min(attempts, with_cells)
    return Asked(question, truth, candidates, answers[:count], answers[count:])


def attempts_row(name: str, asked: Asked, family: Family) -> Row:
    """The input, the answers that are handed in with their votes, and the truth.

    Args:
      name: of the test input; the title says whether it is solved too.
    """
    frames, outcome = [("input", asked.question)], "not solved"
    for number, answer in enumerate(asked.attempts):
        attempt = _attempt(number, family)
        said = [attempt]
        said += [f"{answer.votes} of {counted(asked.candidates, 'vote')}"] * (asked.candidates > 1)
        said += [] if answer.valid is None else ["valid" if answer.valid else "breaks a rule"]
        frames.append(("\n".join(said), answer.grid))
        if outcome == "not solved" and np.array_equal(answer.grid, asked.truth):
            outcome = f"solved by {attempt}" if family.attempts > 1 else "solved"
    if asked.truth is None:
        outcome = "truth unknown"
    else:
        frames.append(("truth", asked.truth))
    nothing = "" if asked.attempts else "; no answer"
    return grids_row(f"{name}: {outcome}{nothing}", frames, asked.question, family)


def _attempt(number: int, family: Family) -> str:
    return "answer" if family.attempts == 1 else f"attempt {number + 1}"


def candidate_row(trajectory: Trajectory, asked: Asked, family: Family, most: int = 1000) -> Row:
    """At most so many frames of what a candidate's steps began from, and the answer that it gave.

    As the puzzle has them: the candidate's augmentation is undone. The title says what it gave.
    """
    how = family.augmentation_name(trajectory.augmentation_A)
    how = f"under {how}" if how else "without augmentation"
    answer, gave = answer_of(trajectory, family), "another answer"
    for number, other in enumerate(asked.attempts):
        if np.array_equal(other.grid, answer):
            gave = "the answer" if family.attempts == 1 else _attempt(number, family)
    for other in asked.others:
        if np.array_equal(other.grid, answer):
            gave = f"another answer, {other.votes} of {counted(asked.candidates, 'vote')}"
    return f"candidate {how}: gave {gave}", _frames(trajectory, asked, family, most)


def _frames(trajectory: Trajectory, asked: Asked, family: Family, most: int) -> list[Frame]:
    """Frames of chosen steps, and the candidate's answer.

    Cropped alike, to a board that holds the question and the truth too. Of what a step began from
    those cells are marked that broke a rule in the answer before, and weren't masked.
    """
    augmentation_A, steps = trajectory.augmentation_A, len(trajectory.predicted_NxS)
    shown = np.unique(np.linspace(0, steps - 1, min(steps, max(1, most - 1))).round().astype(int))
    grids = [
        augmented(grid, augmentation_A, family)
        for grid in (asked.question, asked.truth)
        if grid is not None
    ]
    board = _board_of_all(trajectory.board, [grid.shape for grid in grids])
    began_NxS, conflicts = (
        began_from(trajectory, family),
        conflicts_of_steps(trajectory, family, False),
    )
    answer_before = 0 if trajectory.levels_N[0] < 0 else 1
    seen = [(f"step {i + 1}", began_NxS[i], conflicts[i - answer_before]) for i in shown]
    seen += [("candidate", trajectory.predicted_NxS[-1], conflicts[-1])]
    placed = [(name, place(tokens_S, trajectory.board, board), of) for name, tokens_S, of in seen]
    sizes = [grid.shape for grid in grids]
    sizes += [family.grid_sizes(tokens_S[None], board)[0] for _, tokens_S, _ in placed]
    height, width = (min(board[axis], max(s[axis] for s in sizes) + 1) for axis in (0, 1))
    frames = []
    for name, tokens_S, broken in placed:
        tokens_hxw = family.undo(tokens_S.reshape(board)[:height, :width], augmentation_A)
        given = given_in(asked.question, tokens_hxw.shape, family)
        kept = tokens_hxw != family.vocabulary.mask
        broken = broken & kept if broken.shape == kept.shape else np.zeros(kept.shape, bool)
        frames.append(Frame(name, tokens_hxw, given, broken))
    return frames


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
    lines, signs = legend(answers, trajectories, family), []
    if trajectories:
        signs += ["░ masked"] if trajectories[0].levels_N[0] >= 0 else []
        # Where PAD alone comes before the symbols, every grid fills the board.
        signs += ["│ ends a grid"] if family.vocabulary.first > PAD + 1 else []
    if are_marked(answers, family):
        signs += [] if family.vocabulary.colours else ["bold: given"]
        signs += ["! breaks a rule"]
    return [*lines, "; ".join(signs)] if signs else lines


def task_rows(task: Mapping[str, Any], family: Family) -> list[Row]:
    """A row for each demonstration and test of a task, as `Answers.tasks` has it."""
    rows = []
    for kind, pairs in (("demonstration", task["demonstrations"]), ("test", task["tests"])):
        for i, pair in enumerate(pairs):
            grids = [
                (name, grid_of(pair[name], family.vocabulary.symbols))
                for name in ("input", "output")
            ]
            known = [(name, grid) for name, grid in grids if grid is not None]
            hidden = "" if pair["output"] is not None else ", its output is hidden"
            rows.append(grids_row(f"{kind} {i + 1}{hidden}", known, known[0][1], family))
    return rows


def grids_row(
    title: str, grids: Sequence[tuple[str, np.ndarray]], question: np.ndarray, family: Family
) -> Row:
    """A row of grids of symbols, each with its caption, that belong to this question."""
    first = first_symbol(family)
    return title, [
        Frame(
            name,
            grid + first,
            given_in(question, grid.shape, family),
            conflicts_in(question, grid, family),
        )
        for name, grid in grids
    ]


def terminal_picture(
    task: Mapping[str, Any], trajectory: Trajectory, family: Family, columns: int
) -> Group:
    """The `answer_rows` of one candidate for rich to print, each on one line in so many columns.

    Frames that don't fit are left out: the input, the truth, the later attempts; some of the steps.
    """
    arguments = task, trajectory.test, [trajectory], family
    _, (_, frames) = answer_rows(*arguments, most=2)
    fitting = columns // _columns(frames, family.blocks)
    attempts, (title, frames) = answer_rows(*arguments, most=max(2, fitting))
    rows = [
        _fitting(attempts, family.blocks, columns),
        (title, frames[-fitting:] if fitting else frames),
    ]
    return Group(*(terminal_row(row, family, columns) for row in rows))


def _fitting(row: Row, blocks: Board | None, columns: int) -> Row:
    """An `attempts_row` with as many frames as stand beside each other; at least one."""
    title, (question, *others) = row
    fitting = columns // _columns([question, *others], blocks)
    if fitting > len(others):
        return row
    left_out = [of.caption.split("\n")[0] for of in [*others[max(fitting, 1) :], question]]
    return f"{title} (no room for: {', '.join(left_out)})", others[: max(fitting, 1)]


def _columns(frames: Sequence[Frame], blocks: Board | None) -> int:
    """How many columns of a terminal each of these frames takes, with the gap."""
    return 2 + max(
        max(
            2 * of.tokens_hxw.shape[1] + 2 * len(_ruled(of.tokens_hxw.shape, blocks)[1]),
            *map(len, of.caption.split("\n")),
        )
        for of in frames
    )


def _ruled(shape: tuple[int, ...], blocks: Board | None) -> tuple[range, range]:
    """The rows and the columns of a board before which a line stands; none where blocks don't fill
    it."""
    if blocks is None or any(side % block for side, block in zip(shape, blocks, strict=True)):
        return range(0), range(0)
    rows, columns = (range(b, side, b) for side, b in zip(shape, blocks, strict=True))
    return rows, columns


def terminal_row(row: Row, family: Family, columns: int) -> Group:
    """A title and its frames, on as many lines as they need in so many columns."""
    title, frames = row
    fitting = columns // _columns(frames, family.blocks)
    if not fitting:
        said = "(too wide for this terminal: make it wider, or look at a picture)"
        return Group(Text(title, style="bold"), Text(said, style="dim"))
    lines = []
    for start in range(0, len(frames), fitting):
        table, here = Table.grid(padding=(0, 1)), frames[start : start + fitting]
        table.add_row(*(Text(of.caption, style="dim") for of in here))
        table.add_row(*(_text(of, family.vocabulary, family.blocks) for of in here))
        lines.append(table)
    return Group(Text(title, style="bold"), *lines)


def _text(frame: Frame, vocabulary: Vocabulary, blocks: Board | None) -> Text:
    """A board as coloured characters: conflicts have a sign too, and lines stand between blocks."""
    lines_above, lines_before = _ruled(frame.tokens_hxw.shape, blocks)
    rule, styles, text = f"#000000 on {_PAPER}", _styles(vocabulary), Text()
    for row, cells in enumerate(frame.tokens_hxw.tolist()):
        if row in lines_above:
            parts = ["──" * lines_before.step] * (1 + len(lines_before))
            text.append("─┼".join(parts), style=rule)
            text.append("\n")
        for column, token in enumerate(cells):
            if column in lines_before:
                text.append(" │", style=rule)
            cell, style = _cell(token, vocabulary), styles[token]
            if frame.conflicts_hxw[row, column]:
                cell, style = f"!{cell[1]}", f"bold #ffffff on {_BROKEN_LINE}"
            elif _is_written(token, vocabulary):
                paper, ink = _paper_and_ink(frame, row, column)
                style = f"{'bold ' * bool(frame.given_hxw[row, column])}{ink} on {paper}"
            text.append(cell, style=style)
        text.append("\n")
    return text


def _styles(vocabulary: Vocabulary) -> list[str]:
    """How each token looks in the terminal."""
    colours_Vx3 = token_colours(vocabulary)
    return [
        "{} on #{:02x}{:02x}{:02x}".format("#ffffff" if dark else "#000000", *colour)
        for colour, dark in zip(colours_Vx3, colours_Vx3.mean(axis=1) < 120, strict=True)
    ]


def _is_written(token: int, vocabulary: Vocabulary) -> bool:
    """Whether it is a symbol that has no colour."""
    return not vocabulary.colours and vocabulary.first <= token < vocabulary.size


def _paper_and_ink(frame: Frame, row: int, column: int) -> tuple[str, str]:
    """Colours of a written symbol: given ones are told from answered ones."""
    if frame.given_hxw[row, column]:
        return _GIVEN, "#000000"
    return _PAPER, _ANSWERED if frame.given_hxw.any() else "#000000"


def image(
    rows: Sequence[Row], family: Family, cell: int = 12, legend: Sequence[str] = ()
) -> np.ndarray:
    """(H, W, 3) uint8: a title and its frames from left to right for each row.

    Args:
      legend: lines above them; below these marks, and tokens that are no symbols, are explained.
    """
    gap, line, font = cell, 16, ImageFont.load_default(11)
    lines = [max(of.caption.count("\n") + 1 for of in frames) for _, frames in rows]
    widths = [sum(_width(frame, cell, font) + gap for frame in frames) for _, frames in rows]
    widths += [math.ceil(font.getlength(text)) + gap for text in [*legend, *(t for t, _ in rows)]]
    heights = [
        (1 + of_row) * line + cell * max(len(of.tokens_hxw) for of in frames) + gap
        for of_row, (_, frames) in zip(lines, rows, strict=True)
    ]
    above = (len(legend) + 1) * line + gap if legend else 0
    canvas = Image.new("RGB", (max(widths) + gap, above + sum(heights) + gap), "white")
    draw, top = ImageDraw.Draw(canvas), gap
    for text in legend:
        draw.text((gap, top), text, "#666666", font)
        top += line
    if legend:
        frames = [frame for _, of_row in rows for frame in of_row]
        _explain(draw, gap, top, frames, family.vocabulary)
        top += line + gap
    for (title, frames), of_row, height in zip(rows, lines, heights, strict=True):
        draw.text((gap, top), title, "black", font)
        left = gap
        for frame in frames:
            draw.text((left, top + line), frame.caption, "#666666", font, spacing=line - 11)
            tile = _tile(frame, family.vocabulary, family.blocks, cell)
            canvas.paste(tile, (left, top + (1 + of_row) * line))
            left += _width(frame, cell, font) + gap
        top += height
    return np.asarray(canvas)


def _width(frame: Frame, cell: int, font: Any) -> int:
    captions = (math.ceil(font.getlength(line)) for line in frame.caption.split("\n"))
    return max(cell * frame.tokens_hxw.shape[1], 44, *captions)


def _explain(
    draw: ImageDraw.ImageDraw,
    left: int,
    top: int,
    frames: Sequence[Frame],
    vocabulary: Vocabulary,
) -> None:
    """A line with the colours in these frames of marks, and of tokens that are no symbols."""
    used = {token for of in frames for token in np.unique(of.tokens_hxw).tolist()}
    words = {vocabulary.mask: "masked", PAD: "outside of the grid"}
    words |= dict.fromkeys(range(PAD + 1, vocabulary.first), "ends the grid")
    colours_Vx3 = token_colours(vocabulary).tolist()
    said = [
        (tuple(colours_Vx3[token]), "#666666", text)
        for token, text in words.items()
        if token in used
    ]
    if not vocabulary.colours and any(of.given_hxw.any() for of in frames):
        said.append((_GIVEN, "#666666", "given"))
    if any(of.conflicts_hxw.any() for of in frames):
        said.append((_PAPER if vocabulary.colours else _BROKEN, _BROKEN_LINE, "breaks a rule"))
    font = ImageFont.load_default(11)
    for paper, outline, text in said:
        swatch = left, top + 1, left + 11, top + 12
        draw.rectangle(swatch, fill=paper, outline=outline, width=1 + (outline == _BROKEN_LINE))
        draw.text((left + 16, top), text, "#666666", font)
        left += 16 + math.ceil(font.getlength(text)) + 14


def _tile(frame: Frame, vocabulary: Vocabulary, blocks: Board | None, cell: int) -> Image.Image:
    """A board of squares of so many pixels; symbols without colours are written."""
    tokens_hxw = frame.tokens_hxw
    height, width = (cell * n for n in tokens_hxw.shape)
    tile = Image.fromarray(token_colours(vocabulary)[tokens_hxw])
    tile = tile.resize((width, height), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(tile)
    if not vocabulary.colours:
        _write_symbols(draw, frame, vocabulary, cell)
    rows, columns = _ruled(tokens_hxw.shape, blocks)
    for y in (row * cell for row in rows):
        draw.rectangle((0, y - 1, width, y), fill="black")
    for x in (column * cell for column in columns):
        draw.rectangle((x - 1, 0, x, height), fill="black")
    for row, column in np.argwhere(frame.conflicts_hxw).tolist():
        left, top, right, bottom = _square(row, column, cell)
        line = max(1, round(cell / 8))
        draw.rectangle((left, top, right, bottom), outline=_BROKEN_LINE, width=line)
        if vocabulary.colours:  # so that it is seen on any of them
            inside = left + line, top + line, right - line, bottom - line
            draw.rectangle(inside, outline="white")
    return tile


def _square(row: int, column: int, cell: int) -> tuple[int, int, int, int]:
    left, top = column * cell, row * cell
    return left, top, left + cell - 1, top + cell - 1


def _write_symbols(
    draw: ImageDraw.ImageDraw, frame: Frame, vocabulary: Vocabulary, cell: int
) -> None:
    font = ImageFont.load_default(max(6, round(0.8 * cell)))
    for (row, column), token in np.ndenumerate(frame.tokens_hxw):
        square = _square(row, column, cell)
        if not _is_written(token, vocabulary):
            draw.rectangle(square, outline="#D0D0D0")
            continue
        paper, ink = _paper_and_ink(frame, row, column)
        broken = frame.conflicts_hxw[row, column]
        draw.rectangle(square, fill=_BROKEN if broken else paper, outline="#D0D0D0")
        symbol = vocabulary.written[token - vocabulary.first]
        middle = square[0] + cell / 2, square[1] + cell / 2
        draw.text(middle, symbol, ink, font, anchor="mm")


def png(image_HxWx3: np.ndarray) -> bytes:
    """The image as the contents of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image_HxWx3).save(buffer, "PNG")
    return buffer.getvalue()
