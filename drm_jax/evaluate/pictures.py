"""Pictures of denoising: in the terminal, and as an image."""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Group
from rich.table import Table
from rich.text import Text

from drm_jax.arc.tokens import EOS, FIRST_COLOUR, MASK, NUM_COLOURS, crop, grid_sizes, to_tokens
from drm_jax.evaluate.score import Trajectory

# ARC's own ten colours, 0..9.
ARC_COLOURS = (
    "#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00",
    "#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25",
)  # fmt: skip
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
    """(caption, tokens (h, w)) of input, chosen steps, answer and truth, cropped alike."""
    canvas = int(trajectory.inputs_S.size**0.5)
    steps = len(trajectory.predicted_NxS)
    shown = np.unique(np.linspace(0, steps - 1, min(steps, max(1, most - 3))).round().astype(int))
    frames = [("input", trajectory.inputs_S)]
    frames += [(f"step {i + 1}", trajectory.tokens_NxS[i]) for i in shown]
    frames += [("answer", trajectory.predicted_NxS[-1])]
    if trajectory.truth is not None:
        frames += [("truth", to_tokens(trajectory.truth, canvas))]
    sizes = [grid_sizes(tokens_S[None])[0] for _, tokens_S in frames]
    height, width = (min(canvas, max(s[axis] for s in sizes) + 1) for axis in (0, 1))
    return [(name, t.reshape(canvas, canvas)[:height, :width]) for name, t in frames]


def is_solved(trajectory: Trajectory) -> bool:
    """Whether this one candidate is the truth."""
    if trajectory.truth is None:
        return False
    return np.array_equal(crop(trajectory.predicted_NxS[-1]), trajectory.truth)


def terminal_picture(trajectory: Trajectory, columns: int) -> Group:
    """One test input's denoising, for rich to print in at most `columns` columns.

    From left to right: the input, what steps began from (░ is masked), the answer, the truth.
    """
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in token_colours()]
    dark = token_colours().mean(axis=1) < 120
    cells = _frames(trajectory, 4)[0][1].shape[1]
    fitting = columns // (max(2 * cells, len("step 10")) + 2)
    if not fitting:
        return Group(Text("(too wide for this terminal: see denoising.png)", style="dim"))
    frames = _frames(trajectory, max(4, fitting))[-fitting:]  # answer and truth stand last
    table = Table.grid(padding=(0, 1))
    table.add_row(*(Text(name, style="dim") for name, _ in frames))
    pictures = []
    for _, tokens_hxw in frames:
        text = Text()
        for row in tokens_hxw.tolist():
            for token in row:
                ink = "#ffffff" if dark[token] else "#000000"
                text.append(_cell(token), style=f"{ink} on {colours[token]}")
            text.append("\n")
        pictures.append(text)
    table.add_row(*pictures)
    return Group(Text(_title(trajectory), style="bold"), table)


def _title(trajectory: Trajectory) -> str:
    outcome = "right" if is_solved(trajectory) else "wrong"
    outcome = "truth unknown" if trajectory.truth is None else outcome
    return f"task {trajectory.task_id}, test input {trajectory.test + 1}: {outcome}"


def image(trajectories: Sequence[Trajectory], cell: int = 12) -> np.ndarray:
    """(H, W, 3) uint8: one test input a row; input, steps, answer and truth from left to right."""
    gap, line, font = cell, 16, ImageFont.load_default(11)
    rows = [
        (_title(t), [(name, np.kron(tile, np.ones((cell, cell), int))) for name, tile in frames])
        for t in trajectories
        for frames in [_frames(t, 10)]
    ]
    widths = [sum(tile.shape[1] + gap for _, tile in tiles) for _, tiles in rows]
    widths += [math.ceil(font.getlength(title)) + gap for title, _ in rows]
    height = sum(2 * line + tiles[0][1].shape[0] + gap for _, tiles in rows)
    canvas = Image.new("RGB", (max(widths) + gap, height + gap), "white")
    draw, top = ImageDraw.Draw(canvas), gap
    for title, tiles in rows:
        draw.text((gap, top), title, "black", font)
        left, top = gap, top + 2 * line
        for name, tile in tiles:
            draw.text((left, top - line), name, "#666666", font)
            canvas.paste(Image.fromarray(token_colours()[tile]), (left, top))
            left += tile.shape[1] + gap
        top += tiles[0][1].shape[0] + gap
    return np.asarray(canvas)


def png(image_HxWx3: np.ndarray) -> bytes:
    """The image as the contents of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image_HxWx3).save(buffer, "PNG")
    return buffer.getvalue()
