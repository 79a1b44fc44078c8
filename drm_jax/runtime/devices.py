"""Before jax computes: where it keeps programs, and that each core of a CPU is a device."""

from drm_jax.parallel.mesh import use_cpu_cores
from drm_jax.runtime.programs import keep_programs


def prepare_devices() -> None:
    """Call it before jax is used; afterwards it changes nothing."""
    keep_programs()
    use_cpu_cores()
