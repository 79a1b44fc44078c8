"""Programs that are compiled once and then loaded from a folder: most of a tiny run's time."""

from pathlib import Path

import jax

_OPTIONS = {
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
    "jax_compilation_cache_max_size": 2**32,  # with a bound jax locks the folder: it can be shared
}


def keep_programs(folder: Path) -> None:
    """In this process."""
    for name, value in {"jax_compilation_cache_dir": str(folder), **_OPTIONS}.items():
        jax.config.update(name, value)


def kept_programs(folder: Path) -> dict[str, str]:
    """The environment of a child that keeps them."""
    options = {"jax_compilation_cache_dir": folder, **_OPTIONS}
    return {name.upper(): str(value) for name, value in options.items()}
