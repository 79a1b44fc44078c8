"""The errors that a user can cause; the command line answers each in one line."""


class UsageError(ValueError):
    """An option or a configuration that can't work. Exit code 2."""


class InputError(Exception):
    """A file, a task or a checkpoint that is not as it should be. Exit code 1."""


class StoppedError(Exception):
    """The user stopped a run, and it ended in order. Exit code 130."""
