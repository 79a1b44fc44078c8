"""The errors that a user can cause; the command line answers each in one line."""


def one_line(message: object) -> str:
    """A message as one line of printable text, whatever stands in the names that it holds."""
    text = str(message).strip()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class UsageError(ValueError):
    """An option or a configuration that can't work. Exit code 2."""


class UserCodeError(UsageError):
    """Code of the user's own raised what its cause says; shown with the cause's traceback."""


class InputError(Exception):
    """A file, a task or a checkpoint that is not as it should be. Exit code 1."""


class StoppedError(Exception):
    """A run was told to stop, and it ended in order."""

    exit_code = 130


class PreemptedError(StoppedError):
    """By SIGTERM: the same command, somewhere, should go on with it."""

    exit_code = 75  # EX_TEMPFAIL
