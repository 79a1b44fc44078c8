"""Pages of the docs: Markdown from a template and tables."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2


def rendered(name: str, **facts: Any) -> str:
    """The text of a template of this folder.

    Raises:
      jinja2.UndefinedError: it names a fact that isn't there.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    return environment.from_string(text).render(**facts)


def table(lines: Iterator[Sequence[Any]]) -> str:
    """A table in Markdown; the first line is its head."""
    head, *body = ([str(cell) for cell in line] for line in lines)
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))
