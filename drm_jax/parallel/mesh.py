"""One data axis over all devices of all processes, and the one table of where each array lies."""

import contextlib
import os
import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from drm_jax.errors import UsageError

AXIS = "data"
SPECS = (
    (r"table", P(AXIS)),  # (rows, D): the puzzle rows are split over the devices
    (r"carry(/.*)?", P(AXIS)),  # (B, …): the slots of trm and sprm
    (r"batch(/.*)?", P(AXIS)),  # (B, …): of training, and of candidates
    (r"(step|metrics)(/.*)?", P()),
    (r"(params|constants|opt_state|ema)(/.*)?", P()),
)
"""How each array of a state, of a batch and of a step's results is split: the first pattern that
matches its whole path decides. Every sharding follows from here.

The data axis is the only one that the step programs itself; XLA partitions over any other. To split
weights over a second axis, make the mesh with it and put a rule before these, such as
`(r".*/swiglu/gate_up/kernel", P(None, "model"))`: it holds for weights, moments and averages.
"""
_CHOOSING = ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "CUDA_VISIBLE_DEVICES")


def use_cpu_cores() -> None:
    """Where jax runs on the CPU, makes each core a device; call it before jax is used.

    A step of small products runs about twice as fast on two devices of one core each as on one
    device of two cores. Does nothing if the number was chosen already (JAX_NUM_CPU_DEVICES,
    XLA_FLAGS).
    """
    if cpu_devices_chosen():
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):  # an experiment file has used jax already
        jax.config.update("jax_num_cpu_devices", cores or 1)


def cpu_devices_chosen() -> bool:
    """Whether the environment says how many devices a CPU is."""
    flags = os.environ.get("XLA_FLAGS", "")
    return "JAX_NUM_CPU_DEVICES" in os.environ or "xla_force_host_platform_device_count" in flags


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis over these devices; over all devices of all processes by default.

    In the order of the processes: the rows of a batch that a process makes are those of its own
    devices. (`jax.make_mesh` may mix them.)

    Raises:
      UsageError: there are no devices of the wanted kind.
    """
    try:
        devices = jax.devices() if devices is None else devices
    except (RuntimeError, AssertionError) as error:  # none of that kind; none at all
        chosen = ", ".join(f"{k}={v}" for k, v in os.environ.items() if k in _CHOOSING)
        reason = (str(error).splitlines() or ["there is none"])[0]
        raise UsageError(
            f"jax finds no device ({chosen}): {reason}: unset that, or install jax for the device"
        ) from error
    in_order = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(in_order), (AXIS,), axis_types=(AxisType.Auto,))


def platform_of(mesh: Mesh) -> str:
    """cpu, tpu, gpu, or "another gpu": one without cuDNN's flash attention, which needs an NVIDIA
    GPU of compute capability 8.0 or more."""
    device = mesh.devices.flat[0]
    if device.platform != "gpu":
        return device.platform
    capability = re.match(r"(\d+)\.\d+$", getattr(device, "compute_capability", ""))
    return "gpu" if capability and int(capability[1]) >= 8 else "another gpu"


def spec_of(path: str) -> P:
    """How an array is split, by its path: params/layer_0/swiglu/down/kernel, carry/y, table, …

    The first part of a path alone (params, carry) names all arrays below it, as they are split over
    the data axis.

    Raises:
      KeyError: no pattern matches.
    """
    for pattern, spec in SPECS:
        if re.fullmatch(pattern, path):
            return spec
    raise KeyError(f"{path}: no pattern of parallel.mesh.SPECS matches it")


def placed(mesh: Mesh, path: str) -> NamedSharding:
    """Where an array lies, by its path; see `spec_of`."""
    return NamedSharding(mesh, spec_of(path))


def placed_whole_or_split(mesh: Mesh, path: str, shape: Sequence[int]) -> NamedSharding:
    """As `placed`; but slots that can't be split over the data axis, as those of a training batch
    of another machine, are whole on each device."""
    splits = not path.startswith("carry/") or shape[0] % mesh.shape[AXIS] == 0
    return placed(mesh, path if splits else "params")


def global_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows, assembled with the other processes' into global arrays."""
    sharding = placed(mesh, "batch")
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in batch.items()
    }
