"""The errors that a user can cause; the command line answers each in one line."""


def one_line(message: object) -> str:
    """A message as one line of printable text, whatever stands in the names that it holds."""
    text = str(message).strip()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class UsageError(ValueError):
    """An option or a configuration that can't work. Exit code 2."""


class InputError(Exception):
    """A file, a task or a checkpoint that is not as it should be. Exit code 1."""


class StoppedError(Exception):
    """The user stopped a run, and it ended in order. Exit code 130."""
