"""The mesh of all devices of all processes, and the one table of where each array lies.

data    each device has examples of its own, and all have the same weights
fsdp    likewise, but each device keeps only a part of the weights, their moments and their average
        (fully sharded data parallelism); `parallel.fsdp` puts them together for a step
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from drm_jax.errors import UsageError
from drm_jax.model.precision import OLDER_GPU
from drm_jax.words import counted

DATA, FSDP = "data", "fsdp"
BATCH_AXES = (DATA, FSDP)
"""What batches, slots and the puzzle table are split over: both axes."""
Axes = str | tuple[str, ...]
"""Names of what a batch is split over: `BATCH_AXES`, or the axis of a vmap."""
_BY_SHAPE = object()
SPECS = (
    (r"table", P(BATCH_AXES)),  # (rows, D): the puzzle rows
    (r"carry(/.*)?", P(BATCH_AXES)),  # (B, …): slots of the batch
    (r"batch(/.*)?", P(BATCH_AXES)),  # (B, …): of training, and of candidates
    (r"(step|metrics|constants)(/.*)?", P()),
    (r"(params|opt_state|ema)(/.*)?", _BY_SHAPE),  # along its longest axis over fsdp
)
"""How each array of a state, of a batch and of a step's results is split: the first pattern that
matches its whole path decides. Every sharding follows from here.

The axes data and fsdp are the only ones that the step programs itself; XLA partitions over any
other. To split weights over a third axis, make the mesh with it and put a rule before these, such
as `(r".*/swiglu/gate_up/kernel", P(None, "model"))`: it holds for weights, moments and averages.
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


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """How many devices are along each axis of the mesh."""

    data: int | None = None
    """None: as many as there are for `fsdp`."""
    fsdp: int = 1

    def fitted(self, devices: int) -> "MeshShape":
        """The same with `data`, for so many devices.

        Raises:
          UsageError: they are not as many, or not a multiple.
        """
        data = devices // self.fsdp if self.data is None else self.data
        if data * self.fsdp != devices:
            wanted = "a multiple of " if self.data is None else ""
            raise UsageError(
                f"--mesh: {self} needs {wanted}{counted((self.data or 1) * self.fsdp, 'device')}, "
                f"and there {'is' if devices == 1 else 'are'} {devices}: give numbers whose "
                f"product is {devices}"
            )
        return MeshShape(data, self.fsdp)

    def __str__(self) -> str:
        return ",".join(f"{k}={v}" for k, v in vars(self).items() if v is not None)


ALL_DATA = MeshShape()
"""Each device has the whole weights."""


def parse_mesh_shape(text: str) -> MeshShape:
    """data=8,fsdp=4 or fsdp=4; "": all on data.

    Raises:
      UsageError: it is none of these.
    """
    if not text:
        return ALL_DATA
    sizes = dict(re.findall(rf"({DATA}|{FSDP})=([1-9][0-9]{{0,5}})(?:,|$)", text))
    if ",".join(f"{k}={v}" for k, v in sizes.items()) != text:
        raise UsageError(
            f"--mesh: {text!r}: give the number of devices along each axis, such as data=8,fsdp=4, "
            "or fsdp=4 (data takes the rest)"
        )
    return MeshShape(**{k: int(v) for k, v in sizes.items()})


def make_mesh(devices: list[jax.Device] | None = None, shape: MeshShape = ALL_DATA) -> Mesh:
    """A mesh over these devices; over all devices of all processes by default.

    In the order of the processes: the rows of a batch that a process makes are those of its own
    devices, and neighbours share the weights. (`jax.make_mesh` may mix them.)

    Raises:
      UsageError: there are no devices of the wanted kind, or not so many.
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
    shape = shape.fitted(len(in_order))
    grid = np.array(in_order).reshape(shape.data, shape.fsdp)
    return Mesh(grid, BATCH_AXES, axis_types=(AxisType.Auto,) * 2)


def batch_parts(mesh: Mesh | AbstractMesh) -> int:
    """Into how many parts batches, slots and the puzzle table are split."""
    return mesh.shape[DATA] * mesh.shape[FSDP]


def devices_in_words(mesh: Mesh) -> str:
    """Such as "8 x TPU v5 lite", and how they are laid out where weights are split."""
    fsdp = mesh.shape.get(FSDP, 1)  # drm solve --each has a mesh of its own
    split = f" ({MeshShape(mesh.shape[DATA], fsdp)})" if fsdp > 1 else ""
    return f"{mesh.size} x {mesh.devices.flat[0].device_kind}{split}"


def platform_of(mesh: Mesh) -> str:
    """cpu, tpu, gpu; OLDER_GPU; or "another gpu", which is not of NVIDIA, so has no cuDNN."""
    device = mesh.devices.flat[0]
    if device.platform != "gpu":
        return device.platform
    capability = re.match(r"(\d+)\.\d+$", getattr(device, "compute_capability", ""))
    if capability is None:
        return "another gpu"
    return "gpu" if int(capability[1]) >= 8 else OLDER_GPU


def spec_of(path: str, shape: Sequence[int] = (), fsdp: int = 1) -> P:
    """How an array is split, by its path: params/layer_0/swiglu/down/kernel, carry/y, table, …

    The first part of a path alone (carry, batch) names all arrays below it.

    Args:
      shape: of a weight, a moment or an average.
      fsdp: devices along that axis of the mesh.

    Raises:
      KeyError: no pattern matches.
    """
    for pattern, spec in SPECS:
        if re.fullmatch(pattern, path):
            return _longest_over_fsdp(shape, fsdp) if spec is _BY_SHAPE else spec
    raise KeyError(f"{path}: no pattern of parallel.mesh.SPECS matches it")


def _longest_over_fsdp(shape: Sequence[int], fsdp: int) -> P:
    """The longest axis of a matrix that divides, the first of equals; other arrays stay whole."""
    fitting = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if fsdp == 1 or len(shape) < 2 or not fitting:
        return P()
    axis = max(fitting, key=lambda axis: shape[axis])
    return P(*[None] * axis, FSDP)


def placed(mesh: Mesh | AbstractMesh, path: str, shape: Sequence[int] = ()) -> NamedSharding:
    """Where an array lies, by its path; see `spec_of`."""
    return NamedSharding(mesh, spec_of(path, shape, mesh.shape[FSDP]))


def placed_leaf(mesh: Mesh | AbstractMesh, path: str, shape: Sequence[int]) -> NamedSharding:
    """As `placed`, a leaf of a state; but slots that can't be split over the devices, as those of a
    training batch of another machine, are whole on each."""
    if path.startswith("carry/") and shape[0] % batch_parts(mesh):
        return NamedSharding(mesh, P())
    return placed(mesh, path, shape)


def global_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows, assembled with the other processes' into global arrays."""
    sharding = placed(mesh, "batch")
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in batch.items()
    }
