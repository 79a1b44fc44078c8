"""The terminal that a job tells its progress to, and that it must outlive."""

import copy
import os
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text


def open_console(silent: bool = False) -> Console:
    """A console on standard output, or on nothing. Text is printed as it is, without markup."""
    file = open(os.devnull, "w", encoding="utf-8") if silent else _Outlived(sys.stdout)  # noqa: SIM115
    return _Console(file=file, highlight=False, markup=False, emoji=False)


class _Console(Console):
    """A console that breaks no word: a table that it is too narrow for is printed as a list."""

    def print(self, *objects: Any, **options: Any) -> None:
        if len(objects) == 1 and isinstance(objects[0], Table):
            self._print_table(objects[0])
            return
        lines = objects[0].split("\n") if len(objects) == 1 and isinstance(objects[0], str) else []
        long = any(self._longest_word(line) > self.width for line in lines)
        if self.is_terminal and (long or options.get("soft_wrap")):
            objects = ("\n".join(self._wrapped(line) for line in lines),)
        options["soft_wrap"] = options.get("soft_wrap") or long
        super().print(*objects, **options)

    def _print_table(self, table: Table) -> None:
        # Each column has a border and two spaces.
        least = 1 + sum(3 + self._least_width(column) for column in table.columns)
        if table.title and self._longest_word(str(table.title)) > min(least, self.width):
            table, title = copy.copy(table), table.title
            table.title = None
            super().print(title, soft_wrap=True)
        if least <= self.width:
            super().print(table)
            return
        for line in _as_list(table):
            super().print(line, soft_wrap=True)

    def _wrapped(self, line: str) -> str:
        """Broken between words: a terminal breaks within them. A longer word is left to it."""
        indent = line[: len(line) - len(line.lstrip())]
        return textwrap.fill(
            line.lstrip(), self.width, initial_indent=indent, subsequent_indent=indent,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip

    def _longest_word(self, content: Any) -> int:
        return Measurement.get(self, self.options.update(width=10**6), content).minimum

    def _least_width(self, column: Column) -> int:
        """At which no word of a column is broken."""
        wide = self.options.update(width=10**6)
        sizes = [Measurement.get(self, wide, cell) for cell in (column.header, *column.cells)]
        return max(size.maximum if column.no_wrap else size.minimum for size in sizes)


def _as_list(table: Table) -> Iterator[Text]:
    """The title; of each row its first cell, and below it the others with their headers."""
    if table.title:
        yield Text(str(table.title), style="italic")
    headers = [str(column.header) for column in table.columns]
    for first, *others in zip(*(column.cells for column in table.columns), strict=True):
        yield Text.assemble(_text(first), style="bold")
        for header, cell in zip(headers[1:], others, strict=True):
            if str(cell):
                yield Text.assemble(f"  {header}: ", _text(cell))


def _text(cell: Any) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))


# What stands for these where a stream can't show them; any other character is a question mark.
_PLAIN = {
    "░": ":",
    "│": "|",
    "─": "-",
    "┼": "+",
    "█": "#",
    "–": "-",
    "×": "x",
    "→": ">",
    "…": "...",
}


def _shown(character: str, encoding: str) -> str:
    """A character as a stream of this encoding can show it."""
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return _PLAIN.get(character, "?")
    return character


class _Outlived:
    """Standard output, until it can't be written to: a closed pipe or terminal ends no training."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = "".join(_shown(character, encoding) for character in text)
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Sends all that follows, and what is still in the buffer, nowhere."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
