"""jax, imported: its mistakes in the environment answered in one line."""

import os

from drm_jax.errors import UsageError


def import_jax() -> None:
    """Raises UsageError where an environment variable keeps jax from being imported."""
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise UsageError(f"{error}: unset or correct this environment variable") from error


def import_jax_on_cpu() -> None:
    """For what only reads: a run on this machine may hold its accelerator."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import_jax()
