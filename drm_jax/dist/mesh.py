"""One data axis over all devices, and where each array lies on it.

    network parameters, moments, averages, step   replicated
    puzzle table (rows, D)                        rows split over the axis
    batch (B, …)                                  examples split over the axis
"""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from drm_jax.errors import UsageError

AXIS = "data"


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis over these devices; over all devices of all processes by default."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), (AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def split_rows(mesh: Mesh) -> NamedSharding:
    """Split along the first axis: batches and the puzzle table."""
    return NamedSharding(mesh, P(AXIS))


def global_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows, assembled with the other processes' into global arrays."""
    sharding = split_rows(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in batch.items()
    }


def check_divides(mesh: Mesh, batch_size: int, field: str) -> None:
    """Raises UsageError unless every device gets the same number of examples."""
    if batch_size % mesh.size:
        raise UsageError(f"{field}: {batch_size} examples can't be split over {mesh.size} devices")
