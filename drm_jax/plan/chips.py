"""Accelerators by name, with what their makers say of them; and topologies of many."""

import dataclasses
import difflib
import math
import re

from drm_jax.errors import UsageError
from drm_jax.model.precision import OLDER_GPU


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device. Rates are peaks: a program never reaches them."""

    name: str
    flops: float  # products of `dtype` a second, dense
    memory: float  # bytes of HBM
    bandwidth: float  # bytes a second from HBM
    link: float  # bytes a second to other chips of the slice or node, both directions together
    source: str
    lanes: int = 1  # the last axis of an array is padded to a multiple of this
    unit: int = 1  # side of the square unit that multiplies matrices; 1 where it hardly matters
    dimensions: int = 0  # of a TPU's topology
    capability: str = ""  # NVIDIA's compute capability
    dtype: str = "bfloat16"  # what model.dtype=auto computes in

    @property
    def platform(self) -> str:
        """As `parallel.mesh.platform_of` would say of such a device."""
        if self.dimensions:
            return "tpu"
        return "gpu" if self.dtype == "bfloat16" else OLDER_GPU


def _gpu(
    name: str,
    flops: float,
    memory: float,
    bandwidth: float,
    link: float,
    page: str,
    capability: str,
    dtype: str = "bfloat16",
) -> Chip:
    return Chip(
        name, flops, memory, bandwidth, link, f"https://www.nvidia.com/en-us/data-center/{page}/",
        capability=capability, dtype=dtype,
    )  # fmt: skip


_GOOGLE = "https://cloud.google.com/tpu/docs/"
_CHIPS = (
    Chip("v4", 275e12, 32e9, 1200e9, 300e9, f"{_GOOGLE}v4", 128, 128, 3),
    Chip("v5e", 197e12, 16e9, 819e9, 400e9, f"{_GOOGLE}v5e", 128, 128, 2),
    Chip("v5p", 459e12, 95e9, 2765e9, 1200e9, f"{_GOOGLE}v5p", 128, 128, 3),
    Chip("v6e", 918e12, 32e9, 1638e9, 800e9, f"{_GOOGLE}v6e", 128, 256, 2),
    _gpu("A100", 312e12, 80e9, 2039e9, 600e9, "a100", "8.0"),
    _gpu("L4", 121e12, 24e9, 300e9, 64e9, "l4", "8.9"),
    _gpu("H100", 989e12, 80e9, 3350e9, 900e9, "h100", "9.0"),
    _gpu("H200", 989e12, 141e9, 4800e9, 900e9, "h200", "9.0"),
    _gpu("B200", 2250e12, 180e9, 8000e9, 1800e9, "dgx-b200", "10.0"),
    _gpu("T4", 8.1e12, 16e9, 300e9, 32e9, "tesla-t4", "7.5", "float32"),
    _gpu("V100", 15.7e12, 16e9, 900e9, 300e9, "v100", "7.0", "float32"),
    _gpu("P100", 9.3e12, 16e9, 732e9, 32e9, "tesla-p100", "6.0", "float32"),
)
CHIPS = {chip.name: chip for chip in _CHIPS}
"""Read in November 2026. A100, H100, H200, B200 and V100 (its 16 GB) are the SXM ones with their
NVLink; L4, T4 and P100 are cards on PCIe."""


@dataclasses.dataclass(frozen=True)
class Topology:
    name: str
    chip: Chip
    devices: int

    @property
    def is_tpu(self) -> bool:
        return self.chip.dimensions > 0


def parse_topology(text: str) -> Topology:
    """v5e:4x4 (a slice of TPUs), 8xH100 (GPUs), H100.

    Raises:
      UsageError: no such chip, or no such shape.
    """
    gpus = re.fullmatch(r"(?:([1-9][0-9]{0,5})x)?([A-Za-z]+[0-9]+)", text)
    tpus = re.fullmatch(r"(v[0-9]+[a-z]?):([1-9][0-9]*(?:x[1-9][0-9]*)*)", text)
    name = tpus[1] if tpus else gpus[2].upper() if gpus else text.split(":")[0]
    chip = CHIPS.get(name)
    if chip is None or not (gpus if chip.dimensions == 0 else tpus):
        near = difflib.get_close_matches(name, CHIPS, 1)
        meant = f"; did you mean {near[0]}?" if near and near[0] != name else ""
        raise UsageError(
            f"--topology: {text!r}: must be a slice such as v5e:4x4 or v5p:2x2x2, or GPUs such as "
            f"8xH100; known are {', '.join(CHIPS)}{meant}"
        )
    if tpus is None:
        return Topology(text, chip, int(gpus[1] or 1))
    sides = [int(side) for side in tpus[2].split("x")]
    if len(sides) != chip.dimensions or math.prod(sides) > 2**14:
        example = "x".join(["2"] * chip.dimensions)
        raise UsageError(
            f"--topology: {text!r}: a slice of {name} has {chip.dimensions} sides, such as "
            f"{name}:{example}"
        )
    return Topology(text, chip, math.prod(sides))
