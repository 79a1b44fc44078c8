"""The `drm` command: one file a command. jax is imported only where a command computes."""

import os
import time


def _seconds_since_start() -> float:
    """How long this process has been there; 0 where the system doesn't tell."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
    return seconds if 0 <= seconds < 60 else 0.0


STARTED = time.perf_counter() - _seconds_since_start()
"""When the process began, as of `time.perf_counter`."""
