"""Pictures of denoising: in the terminal, and as an image."""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Group
from rich.table import Table
from rich.text import Text

from drm_jax.evaluate.answers import Trajectory
from drm_jax.puzzles.arc.augment import augment, augmented_name, undo_tokens
from drm_jax.puzzles.arc.tasks import Task
from drm_jax.puzzles.arc.tokens import (
    EOS,
    FIRST_COLOUR,
    MASK,
    NUM_COLOURS,
    grid_sizes,
    on_canvas,
    to_tokens,
)

# ARC's own ten colours, 0..9.
ARC_COLOURS = (
    "#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00",
    "#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25",
)  # fmt: skip
Row = tuple[str, list[tuple[str, np.ndarray]]]
"""A title, and frames: a caption and tokens (h, w)."""
_PAD_COLOUR, _EOS_COLOUR, _MASK_COLOUR = "#26262B", "#3C3C46", "#F4EBD9"


def token_colours() -> np.ndarray:
    """(V, 3) uint8: the colour of each token."""
    names = [_PAD_COLOUR, _EOS_COLOUR, *ARC_COLOURS, _MASK_COLOUR]
    return np.array([[int(name[i : i + 2], 16) for i in (1, 3, 5)] for name in names], np.uint8)


def _cell(token: int) -> str:
    if FIRST_COLOUR <= token < FIRST_COLOUR + NUM_COLOURS:
        return f" {token - FIRST_COLOUR}"
    return {EOS: " │", MASK: "░░"}.get(token, "  ")


def _frames(trajectory: Trajectory, most: int) -> list[tuple[str, np.ndarray]]:
    """(caption, tokens (h, w)) of input, chosen steps, answer and truth, cropped alike.

    As the task has them: the candidate's augmentation is undone.
    """
    augmentation, steps = trajectory.augmentation, len(trajectory.predicted_NxS)
    shown = np.unique(np.linspace(0, steps - 1, min(steps, max(1, most - 3))).round().astype(int))
    grids = [("input", augment(trajectory.question, augmentation))]
    if trajectory.truth is not None:
        grids += [("truth", augment(trajectory.truth, augmentation))]
    side = max(trajectory.side, *(max(grid.shape) for _, grid in grids))  # of all, one canvas
    question, *truth = ((name, to_tokens(grid, side)) for name, grid in grids)
    seen = [(f"step {i + 1}", trajectory.tokens_NxS[i]) for i in shown]
    seen += [("answer", trajectory.predicted_NxS[-1])]
    frames = [question, *((name, on_canvas(tokens_S, side)) for name, tokens_S in seen), *truth]
    sizes = [grid_sizes(tokens_S[None])[0] for _, tokens_S in frames]
    height, width = (min(side, max(s[axis] for s in sizes) + 1) for axis in (0, 1))
    return [
        (name, undo_tokens(t.reshape(side, side)[:height, :width], augmentation))
        for name, t in frames
    ]


def denoising(trajectory: Trajectory, most: int = 1000) -> Row:
    """The input, at most so many frames in all of what steps began from, the answer, the truth."""
    return _title(trajectory), _frames(trajectory, most)


def task_rows(task: Task) -> list[Row]:
    """A row for each demonstration and test input of a task: input and output."""
    rows = []
    for kind, pairs in (("demonstration", task.demonstrations), ("test", task.tests)):
        for i, pair in enumerate(pairs):
            grids = [("input", pair.input)]
            grids += [("output", pair.output)] if pair.output is not None else []
            frames = [(name, grid + np.uint8(FIRST_COLOUR)) for name, grid in grids]
            hidden = "" if pair.output is not None else ", its output is hidden"
            rows.append((f"{kind} {i + 1}{hidden}", frames))
    return rows


def terminal_picture(trajectory: Trajectory, columns: int) -> Group:
    """One test input's denoising on one line, for rich to print in at most `columns` columns.

    From left to right: the input, what steps began from (░ is masked), the answer, the truth.
    """
    title, frames = denoising(trajectory, 4)
    fitting = columns // _columns(frames)
    if fitting:  # answer and truth stand last
        frames = denoising(trajectory, max(4, fitting))[1][-fitting:]
    return terminal_row((title, frames), columns)


def _columns(frames: Sequence[tuple[str, np.ndarray]]) -> int:
    """How many columns of a terminal each of these frames takes, with the gap."""
    return max(max(2 * tile.shape[1], len(name)) for name, tile in frames) + 2


def terminal_row(row: Row, columns: int) -> Group:
    """A title and its frames, on as many lines as they need in so many columns."""
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in token_colours()]
    dark = token_colours().mean(axis=1) < 120
    title, frames = row
    fitting = columns // _columns(frames)
    if not fitting:
        said = "(too wide for this terminal: make it wider, or look at a picture)"
        return Group(Text(title, style="bold"), Text(said, style="dim"))
    lines = []
    for start in range(0, len(frames), fitting):
        table = Table.grid(padding=(0, 1))
        here, pictures = frames[start : start + fitting], []
        table.add_row(*(Text(name, style="dim") for name, _ in here))
        for _, tokens_hxw in here:
            text = Text()
            for cells in tokens_hxw.tolist():
                for token in cells:
                    ink = "#ffffff" if dark[token] else "#000000"
                    text.append(_cell(token), style=f"{ink} on {colours[token]}")
                text.append("\n")
            pictures.append(text)
        table.add_row(*pictures)
        lines.append(table)
    return Group(Text(title, style="bold"), *lines)


def _title(trajectory: Trajectory) -> str:
    outcome = "right" if trajectory.is_right else "wrong"
    outcome = "truth unknown" if trajectory.truth is None else outcome
    _, *how = augmented_name("", trajectory.augmentation).split("|||")
    how = f", asked under {' '.join(how)}" if how else ""
    return f"task {trajectory.task_id}, test input {trajectory.test + 1}{how}: {outcome}"


def image(rows: Sequence[Row], cell: int = 12) -> np.ndarray:
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
            height_of, width_of = (cell * n for n in tile.shape)
            picture = Image.fromarray(token_colours()[tile])
            picture = picture.resize((width_of, height_of), Image.Resampling.NEAREST)
            canvas.paste(picture, (left, top + 2 * line))
            left += max(width_of, 44) + gap
        top += height
    return np.asarray(canvas)


def png(image_HxWx3: np.ndarray) -> bytes:
    """The image as the contents of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image_HxWx3).save(buffer, "PNG")
    return buffer.getvalue()
