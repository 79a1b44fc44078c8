"""Before jax computes: where it keeps compiled programs, and how many devices a CPU is."""

from drm_jax.config import Evaluate, Train
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import use_cpu_cores
from drm_jax.runtime.programs import keep_programs


def prepare_devices(train: Train, evaluate: Evaluate) -> None:
    """Call it before jax is used; afterwards it changes nothing."""
    keep_programs()
    use_cpu_cores(
        train.batch_size // (processes.count() * train.least_parts),
        evaluate.batch_size // processes.count(),
    )
