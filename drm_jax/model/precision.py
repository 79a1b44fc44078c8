"""Compute and parameter dtypes."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp

OLDER_GPU = "a GPU before Ampere"
"""The platform of NVIDIA's GPUs below compute capability 8.0, such as T4, V100 and P100. They have
no units for bfloat16, and none of cuDNN's flash attention."""
_WIDTH_FOR_CPU_UNITS = 512
"""From this width on a CPU's bfloat16 units are used: the 7M network was faster in them. So was the
demo's, of width 64, but whether it scores as well wasn't compared over seeds."""


@functools.cache
def cpu_has_bfloat16_units() -> bool:
    """Whether this machine's processor multiplies bfloat16 matrices in units of their own (AMX)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return "amx_bf16" in flags.split()


def cpu_multiplies_bfloat16() -> bool:
    """Whether jax uses the processor's bfloat16 units: 0.12 does, 0.10 doesn't."""
    return cpu_has_bfloat16_units() and jax.__version_info__ >= (0, 12)


def auto_dtype(platform: str, hidden: int) -> tuple[str, str]:
    """The compute type for a platform and a width, and the reason where it isn't the usual one.

    It follows from the device, from jax and from the width alone. No speed is measured, so a
    machine takes the same type every time.
    """
    if platform == OLDER_GPU:
        return "float32", ""  # the run's notes say why
    if platform != "cpu":
        return "bfloat16", ""
    if not cpu_has_bfloat16_units():
        return "float32", ""
    if hidden < _WIDTH_FOR_CPU_UNITS:
        return "float32", f"bfloat16 from width {_WIDTH_FOR_CPU_UNITS} on"
    if not cpu_multiplies_bfloat16():
        return "float32", "jax 0.12 would use this processor's bfloat16 units; Python 3.12 has it"
    return "bfloat16", "the processor has units for it"


def wide_type(dtype: jnp.dtype) -> jnp.dtype:
    """The type of weights and of all that is too fine for bfloat16: float32, or float64's own."""
    return jnp.promote_types(dtype, jnp.float32)


def widened(x: jax.Array) -> jax.Array:
    return x.astype(wide_type(x.dtype))
