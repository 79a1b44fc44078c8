import os
import subprocess
import sys

import pytest

from drm_jax.errors import UsageError
from drm_jax.run.setup import check_split


def devices_for(*batch_sizes: int, **environment: str) -> int:
    """How many CPU devices a fresh process has after `use_cpu_cores`."""
    code = (
        "import jax; from drm_jax.parallel.mesh import use_cpu_cores; "
        f"use_cpu_cores(*{batch_sizes}); print(len(jax.devices()))"
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)


def test_cores_become_devices_as_far_as_batches_split():
    count = devices_for(32, 64)
    assert 1 <= count <= min(4, os.cpu_count())
    assert 32 % count == 0
    assert devices_for(32, 64, JAX_NUM_CPU_DEVICES="3") == 3  # the user's own choice stands


def test_small_or_odd_batches_stay_on_one_device():
    assert devices_for(8, 13) == 1


def test_a_batch_must_split(tiny):
    check_split(tiny, 4)
    with pytest.raises(UsageError, match=r"train\.batch_size: 4 examples can't be split over 8"):
        check_split(tiny, 8)
    with pytest.raises(UsageError, match="3 devices can't share the puzzle table"):
        check_split(tiny, 3)
