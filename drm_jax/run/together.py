"""What several processes must have in common before they train: code, options, data, a disk."""

import dataclasses
import hashlib
import importlib.metadata
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath

import drm_jax
from drm_jax.config import PARTS, part_name
from drm_jax.errors import InputError
from drm_jax.io import lock
from drm_jax.parallel import processes
from drm_jax.references import code_digest
from drm_jax.run.setup import Setup

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_SHARED_SECONDS = 20.0
"""How long a shared disk may take to show one machine what another has written."""


def check_same_start(experiment: Any, workdir: epath.Path, **options: Any) -> None:
    """Raises UsageError if processes differ in code, libraries or options; before the data."""
    if processes.count() == 1:
        return
    values = {
        "--num-processes": str(processes.count()),
        "drm_jax": f"{drm_jax.__version__} ({_code_digest()})",
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        "the work directory": str(workdir),
        **{name: repr(value) for name, value in options.items()},
        **{part: part_name(part, getattr(experiment, part)) for part in PARTS},
        **dict(_flat(dataclasses.asdict(experiment), "")),
    }
    processes.agree(values)


def check_same_data(setup: Setup) -> None:
    """Raises UsageError if processes have read other tasks, or differ in devices."""
    if processes.count() == 1:
        return
    mesh = setup.mesh
    values = {
        "the data (a digest of all training pairs and puzzle ids)": setup.fingerprint,
        "the data (a digest of all test inputs)": setup.puzzles.tests_digest(),
        "the kind of devices": mesh.devices.flat[0].device_kind,
        "the number of devices of a process": str(len(mesh.local_devices)),
        "the compute type": setup.network.dtype.name,
    }
    for part in PARTS:
        values[f"the code of {part} (a digest)"] = code_digest(
            type(getattr(setup.experiment, part))
        )
    processes.agree(values)


def check_shared(workdir: epath.Path) -> None:
    """Waits until all processes see the lock that process 0 has written.

    Raises:
      InputError: one of them doesn't: it looks at another disk.
    """
    held = processes.of_first(lock.holder_id(workdir) if processes.is_first() else "")
    end = time.monotonic() + _SHARED_SECONDS
    while processes.count() > 1 and lock.holder_id(workdir) != held:
        if time.monotonic() > end:
            raise InputError(
                f"{workdir}: is not the same place for all processes: use a disk that all share, "
                "or gs://BUCKET/FOLDER"
            )
        time.sleep(0.2)
    processes.exchange()


def _code_digest() -> str:
    digest, package = hashlib.sha256(), Path(drm_jax.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def _flat(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", repr(inner)
