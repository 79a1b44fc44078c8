"""Pictures of denoising: in the terminal, and as an image."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Group
from rich.table import Table
from rich.text import Text

from drm_jax.evaluate.answers import Trajectory, augmented, began_from, is_right
from drm_jax.puzzles.boards import grid_of, place
from drm_jax.puzzles.family import PAD, Board, Family, Vocabulary

Row = tuple[str, list[tuple[str, np.ndarray]]]
"""A title, and frames: a caption and tokens (h, w)."""
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


def _frames(trajectory: Trajectory, family: Family, most: int) -> list[tuple[str, np.ndarray]]:
    """(caption, tokens (h, w)) of input, chosen steps, answer and truth, cropped alike.

    As the puzzle has them: the candidate's augmentation is undone.
    """
    augmentation_A, steps = trajectory.augmentation_A, len(trajectory.predicted_NxS)
    shown = np.unique(np.linspace(0, steps - 1, min(steps, max(1, most - 3))).round().astype(int))
    grids = [("input", augmented(trajectory.question, augmentation_A, family))]
    if trajectory.truth is not None:
        grids += [("truth", augmented(trajectory.truth, augmentation_A, family))]
    board = _board_of_all(trajectory.board, [grid.shape for _, grid in grids])
    question, *truth = ((name, family.to_tokens(grid, board)) for name, grid in grids)
    seen = [(f"step {i + 1}", began_from(trajectory, family)[i]) for i in shown]
    seen += [("answer", trajectory.predicted_NxS[-1])]
    placed = [(name, place(tokens_S, trajectory.board, board)) for name, tokens_S in seen]
    frames = [question, *placed, *truth]
    sizes = [family.grid_sizes(tokens_S[None], board)[0] for _, tokens_S in frames]
    height, width = (min(board[axis], max(s[axis] for s in sizes) + 1) for axis in (0, 1))
    return [
        (name, family.undo(t.reshape(board)[:height, :width], augmentation_A)) for name, t in frames
    ]


def _board_of_all(board: Board, shapes: Sequence[tuple[int, ...]]) -> Board:
    """A board that holds grids of these shapes too; where it is square, so is that."""
    height, width = (max(of, *(shape[axis] for shape in shapes)) for axis, of in enumerate(board))
    return (max(height, width),) * 2 if board[0] == board[1] else (height, width)


def denoising(trajectory: Trajectory, family: Family, most: int = 1000) -> Row:
    """The input, at most so many frames in all of what steps began from, the answer, the truth."""
    return _title(trajectory, family), _frames(trajectory, family, most)


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


def terminal_picture(trajectory: Trajectory, family: Family, columns: int) -> Group:
    """One test input's denoising on one line, for rich to print in at most `columns` columns.

    From left to right: the input, what steps began from (░ is masked), the answer, the truth.
    """
    title, frames = denoising(trajectory, family, 4)
    fitting = columns // _columns(frames)
    if fitting:  # answer and truth stand last
        frames = denoising(trajectory, family, max(4, fitting))[1][-fitting:]
    return terminal_row((title, frames), family.vocabulary, columns)


def _columns(frames: Sequence[tuple[str, np.ndarray]]) -> int:
    """How many columns of a terminal each of these frames takes, with the gap."""
    return max(max(2 * tile.shape[1], len(name)) for name, tile in frames) + 2


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


def _title(trajectory: Trajectory, family: Family) -> str:
    outcome = "right" if is_right(trajectory, family) else "wrong"
    outcome = "truth unknown" if trajectory.truth is None else outcome
    how = family.augmentation_name(trajectory.augmentation_A)
    how = f", asked under {how}" if how else ""
    return f"task {trajectory.task}, test input {trajectory.test + 1}{how}: {outcome}"


def image(rows: Sequence[Row], vocabulary: Vocabulary, cell: int = 12) -> np.ndarray:
    """(H, W, 3) uint8: a title and its frames from left to right for each row."""
    gap, line, font = cell, 16, ImageFont.load_default(11)
    widths = [sum(max(cell * t.shape[1], 44) + gap for _, t in tiles) for _, tiles in rows]
    widths += [math.ceil(font.getlength(title)) + gap for title, _ in rows]
    heights = [2 * line + cell * max(len(tile) for _, tile in tiles) + gap for _, tiles in rows]
    canvas = Image.new("RGB", (max(widths) + gap, sum(heights) + gap), "white")
    draw, top = ImageDraw.Draw(canvas), gap
    for (title, tiles), height in zip(rows, heights, strict=True):
        draw.text((gap, top), title, "black", font)
        left = gap
        for name, tile in tiles:
            draw.text((left, top + line), name, "#666666", font)
            canvas.paste(_tile(tile, vocabulary, cell), (left, top + 2 * line))
            left += max(cell * tile.shape[1], 44) + gap
        top += height
    return np.asarray(canvas)


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
