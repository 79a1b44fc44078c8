"""The `drm` command: one file a command. jax is imported only where a command computes."""

import time

STARTED = time.perf_counter()
"""When this process began, as far as it can tell: a run reports the seconds to its first step."""
