"""The terminal that a job tells its progress to, and that it must outlive."""

import os
import sys
from typing import Any, TextIO

from rich.console import Console


def open_console(silent: bool = False) -> Console:
    """A console on standard output, or on nothing. Text is printed as it is, without markup."""
    file = open(os.devnull, "w", encoding="utf-8") if silent else _Outlived(sys.stdout)  # noqa: SIM115
    return Console(file=file, highlight=False, markup=False)


class _Outlived:
    """Standard output, until it can't be written to: a closed pipe or terminal ends no training."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:  # under the `drm` command the stream replaces them itself
            encoding = self._stream.encoding
            return self.write(text.encode(encoding, errors="replace").decode(encoding))
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
