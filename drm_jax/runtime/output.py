"""Standard output, whose loss a command must not pass over in silence."""

from typing import Any, TextIO


class OutputClosedError(BrokenPipeError):
    """Whoever read our standard output has read enough."""


class Output:
    """A standard output whose broken pipe can be told from any other one.

    `lost` is the error by which something that was printed was lost: a full disk, a closed file.
    A pipe that its reader has closed is none.
    """

    def __init__(self, stream: TextIO, lost: OSError | None = None):
        self._stream, self.lost = stream, lost

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            raise self._told(error) from None

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise self._told(error) from None

    def _told(self, error: OSError) -> OSError:
        if isinstance(error, BrokenPipeError):
            return OutputClosedError(*error.args)
        self.lost = error
        return error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
