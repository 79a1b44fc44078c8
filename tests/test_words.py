"""Counts agree with their nouns, wherever one is followed by a word."""

import ast
import re
from pathlib import Path

import pytest

from drm_jax.words import bytes_in_words, counted

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "drm_jax").rglob("*.py"))
NOUN = re.compile(
    r" (more |puzzle |test |denoising )?(tasks|steps|candidates|demonstrations|inputs|"
    r"puzzles|examples|checkpoints|ids|rows|cells|epochs|grids|votes|answers)\b"
)
AT_LEAST_TWO = {"devices", "processes"}
"""Not counted where there is one."""


def test_a_count_agrees_with_its_noun():
    assert counted(0, "step") == "0 steps"
    assert counted(1, "step") == "1 step"
    assert counted(2000, "step") == "2,000 steps"
    assert [counted(n, "is", "are") for n in (1, 2)] == ["1 is", "2 are"]


def plurals(path: Path) -> list[tuple[int, str]]:
    """(line, words) of each f-string that puts a plural after a value, whatever that is."""
    return [
        (string.lineno, after.value)
        for string in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(string, ast.JoinedStr)
        for value, after in zip(string.values, string.values[1:])
        if isinstance(value, ast.FormattedValue)
        and not getattr(value.value, "id", "").isupper()  # a constant
        and isinstance(after, ast.Constant)
        and NOUN.match(after.value)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_plural_follows_a_count_blindly(path):
    assert not plurals(path), "use drm_jax.words.counted"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (384e6, "384 MB"), (384_051_864e6, "384 TB")],
)
def test_bytes_have_the_unit_that_fits(count, words):
    assert bytes_in_words(count) == words
