"""How glibc allocates memory for programs that jax compiled for a CPU."""

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import os
import sys

import jax

# Parameters of mallopt(3), as /usr/include/malloc.h numbers them.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_NEVER_TRIM = 2**31 - 1

NARROW = 128
"""Up to this width of a network it pays: at 256 steps are no faster, and take twice the memory."""


def keep_freed_memory() -> None:
    """Has this process keep the memory that it frees; call it before jax is used.

    XLA allocates what a step needs anew for each step. glibc returns so large a block to the system
    when it is freed, and the system zeroes its pages before it gives them out again: for a narrow
    network that is a quarter of the time of a step (docs/performance.md).

    Does nothing where the C library isn't glibc, where the environment sets malloc's parameters,
    or where jax may use an accelerator.
    """
    if sys.platform != "linux":
        return
    if any(name.startswith(("GLIBC_TUNABLES", "MALLOC_")) for name in os.environ):
        return
    if _may_have_accelerator():
        return
    with contextlib.suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        # All threads take blocks from one heap, which only grows.
        for parameter, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER_TRIM), (_ARENA_MAX, 1)):
            mallopt(parameter, value)


def _may_have_accelerator() -> bool:
    """Whether a plugin of jax is installed that runs programs elsewhere. Doesn't start any."""
    if jax.config.jax_platforms == "cpu":
        return False
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return bool(plugins) or importlib.util.find_spec("libtpu") is not None
