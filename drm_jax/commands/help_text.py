"""Texts of --help: what options do, in lines as wide as the terminal."""

import ast
import dataclasses
import inspect
import itertools
import re
import shutil
import textwrap
import typing
from collections.abc import Iterator, Sequence
from typing import Any

HELP = ("-h", "--help", "--help-all")
"""The options that ask for help; the last one for all of it."""


def fitted(text: str) -> str:
    """A text whose lines are as wide as the terminal, at most 100, and broken between words.

    Lines that begin with a letter are one paragraph with those below. Others, such as "  drm data
    arc1    what the tasks are", stay lines of their own.
    """
    width = min(shutil.get_terminal_size().columns, 100)
    lines: list[str] = []
    for line in text.split("\n"):
        goes_on = bool(lines and lines[-1][:1].isalpha() and line[:1].isalpha())
        lines[len(lines) - goes_on :] = [f"{lines[-1]} {line}" if goes_on else line]
    return "\n".join(part for line in lines for part in _broken(line, width))


def _broken(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    example, _, words = line.strip().partition("  ")
    if not indent or not words:
        return _filled(line.strip(), width, indent, indent + "  " if indent else "")
    return [*_filled(example, width, indent, indent + "  "),
            *_filled(words.strip(), width, indent + "    ", indent + "    ")]  # fmt: skip


def _filled(text: str, width: int, first: str, later: str) -> list[str]:
    return textwrap.wrap(
        text, max(width, 20), initial_indent=first, subsequent_indent=later,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def explanations(cls: type) -> dict[str, str]:
    """By name, what stands below the fields of a dataclass, each as one line."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body
        except (OSError, TypeError, SyntaxError, AttributeError):  # it has no source
            continue
        for field, below in itertools.pairwise(body):
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and is_text:
                found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def short_help(default: Any, options: Sequence[str], prog: str, description: str) -> str:
    """The options that people change most, with their defaults, and how to see all of them.

    Args:
      default: a frozen dataclass; its dataclasses are groups of options.
      options: which to show, such as "--train.steps"; those that there aren't are left out.
    """
    known = {option: (value, text) for option, value, text in _options_of(default)}
    lines = [f"usage: {prog} [--option value ...]", "", description.strip(), ""]
    lines.append("Options that are changed most, with what they are here:")
    for option in options:
        if option in known:
            value, text = known[option]
            shown = f"{option} {_shown(value)}".strip()
            lines.append(f"  {shown:35}  {_in_short(text)}".rstrip())
    lines += ["", f"All {len(known)} options: {prog} --help-all"]
    return fitted("\n".join(lines))


def _in_short(text: str) -> str:
    """What comes before the first point, semicolon, colon or bracket, if that says enough."""
    first = re.match(r"\w+,? \w+,? [^.;:(]*", text)
    return (first[0] if first else text).strip(" .")


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def _options_of(part: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Options, their values and what they do, of a dataclass and of those in it."""
    texts, marked = explanations(type(part)), typing.get_type_hints(type(part), include_extras=True)
    for field in dataclasses.fields(part):
        value, written = getattr(part, field.name), field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            marks = getattr(marked[field.name], "__metadata__", ())
            flat = any(getattr(mark, "name", None) == "" for mark in marks)
            yield from _options_of(value, prefix if flat else f"{prefix}{written}.")
        else:
            yield f"--{prefix}{written}", value, texts.get(field.name, "")
