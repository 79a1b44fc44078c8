"""Compiled programs are kept between runs, so that a run that is started again needn't compile.

jax keeps them (its persistent compilation cache) under a key of program, versions, flags and
processor; a program that was kept is the one that was compiled, to the last bit of its answers.
"""

import contextlib
import os
from pathlib import Path

import jax

_MOST_BYTES = 2**31
"""What is kept at most; the least recently used programs go first."""
_LEAST_SECONDS = 0.1
"""Programs that compile faster are not kept."""


def keep_programs() -> None:
    """Has jax keep programs in drm_jax's part of the user's cache folder.

    Does nothing where JAX_COMPILATION_CACHE_DIR names another place, or where the folder can't be
    made or written. JAX_ENABLE_COMPILATION_CACHE=0 turns it off.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(caches, "drm_jax", "programs").absolute()
        # Whoever writes there decides what runs here.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_compilation_cache_max_size", _MOST_BYTES)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
