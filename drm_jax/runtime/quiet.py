"""What the libraries below us log and warn of, which our own messages say in one line.

Orbax tells of every file it writes, and of a failure in a traceback for each thread and array;
gcsfs prints a traceback of what it raises too.
"""

import contextlib
import functools
import logging
import sys
import warnings
from collections.abc import Callable, Iterator

_NAMES = ("absl", "asyncio", "concurrent.futures", "gcsfs")


def silence_libraries() -> None:
    """Until the process ends: for programs of our own."""
    for name in _NAMES:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    if getattr(sys.unraisablehook, "func", None) is not _report_but_leftovers:
        sys.unraisablehook = functools.partial(_report_but_leftovers, sys.unraisablehook)


def _report_but_leftovers(
    report: Callable[["sys.UnraisableHookArgs"], object], unraisable: "sys.UnraisableHookArgs"
) -> None:
    """Where one array can't be read, Orbax gives up the reads of the others, and Python complains
    of each."""
    code = getattr(unraisable.object, "cr_code", None)
    of_orbax = code is not None and "orbax" in code.co_filename
    if not of_orbax and str(unraisable.exc_value) != "Event loop is closed":
        report(unraisable)


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Within a program of somebody else's: levels, filters and hook are put back at the end."""
    levels = {name: logging.getLogger(name).level for name in _NAMES}
    hook = sys.unraisablehook
    with warnings.catch_warnings():
        silence_libraries()
        try:
            yield
        finally:
            sys.unraisablehook = hook
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
