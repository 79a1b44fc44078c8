"""How a score changes with more thinking: with the passes of a test, and with rollouts of it.

eval/step_N/curve_depth.json     the score after 1, 2, 4, … passes
eval/step_N/curve_breadth.json   the score of 1, 2, 4, … rollouts, by how an answer is chosen

Both can be read without jax.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from etils import epath

from drm_jax.errors import InputError
from drm_jax.evaluate.tables import as_html, curve_table

Kind = Literal["depth", "breadth"]
POINTS = (1, 2, 4, 8, 16, 32)
"""Passes, or rollouts."""


@dataclasses.dataclass(frozen=True)
class Point:
    """Scores at one place of a curve."""

    at: int
    """Passes, or rollouts."""
    scores: Mapping[str, float]
    """Of depth: the shares that the family's judge gives, by name. Of breadth: the headline, by how
    the answer is chosen; that of the oracle says how often a right answer was there to choose."""
    passes: float
    """How many an answer took, on average over candidates; an early exit saves some."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Scores of one checkpoint with more and more passes, or rollouts."""

    kind: Kind
    step: int
    headline: str
    test_inputs: int
    tests: str
    """Digest of what was answered: see `metrics.json`."""
    settings: Mapping[str, Any]
    """Of the test, but for what changes along the curve."""
    points: Sequence[Point]

    def _repr_html_(self) -> str:
        return as_html(curve_table(self))


def swept(kind: Kind) -> tuple[str, ...]:
    """The settings of a test that a curve varies, by dotted name."""
    if kind == "depth":
        return ("evaluate.denoise_steps",)
    return "evaluate.rollouts", "evaluate.choose"


def curve_file(kind: Kind) -> str:
    """The name of its file, in the folder of an evaluation."""
    return f"curve_{kind}.json"


def curve_text(curve: Curve) -> str:
    """The contents of its file."""
    return json.dumps({"format": 1, **dataclasses.asdict(curve)}, indent=1) + "\n"


def read_curves(folder: epath.Path) -> dict[str, Curve]:
    """The curves that lie in the folder of an evaluation, by kind.

    Raises:
      InputError: one can't be used.
    """
    found = {}
    for kind in get_args(Kind):
        path = folder / curve_file(kind)
        if not path.exists():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            fields = {field.name: content[field.name] for field in dataclasses.fields(Curve)}
            points = tuple(_point(**point) for point in fields.pop("points"))
            if not points or content["format"] != 1:
                raise ValueError("no points, or of another format")
            found[kind] = Curve(**fields, points=points)
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{path}: can't be read: {str(error)[:200]}; draw it again with drm eval --curve"
            ) from error
    return found


def _point(at: int, scores: Mapping[str, float], passes: float) -> Point:
    return Point(int(at), {str(name): float(x) for name, x in scores.items()}, float(passes))
