"""GPUs as the compiler for CUDA wants them described where there is none.

jax's plugin takes the text of a message of XLA's (`GpuTargetConfigProto`), which a compiler with a
GPU fills from its driver.
"""

import dataclasses

from drm_jax.plan.chips import Chip


@dataclasses.dataclass(frozen=True)
class _Generation:
    """What a compute capability has, by the tables of NVIDIA's CUDA programming guide."""

    float32_units: int  # of a multiprocessor
    threads: int  # of a multiprocessor
    shared_kib: int  # shared memory of a multiprocessor
    block_kib: int  # the most of it for a block


_GENERATIONS = {
    "6.0": _Generation(64, 2048, 64, 48),
    "7.0": _Generation(64, 2048, 96, 96),
    "7.5": _Generation(64, 1024, 64, 64),
    "8.0": _Generation(64, 2048, 164, 163),
    "8.9": _Generation(128, 1536, 100, 99),
    "9.0": _Generation(128, 2048, 228, 227),
    "10.0": _Generation(128, 2048, 228, 227),
}


@dataclasses.dataclass(frozen=True)
class _Gpu:
    """By NVIDIA's papers on each architecture, and drivers' own figures where XLA lists them."""

    multiprocessors: int
    clock_ghz: float
    cache_mib: int  # the second level


_GPUS = {
    "P100": _Gpu(56, 1.303, 4),
    "V100": _Gpu(80, 1.53, 6),
    "T4": _Gpu(40, 1.59, 4),
    "A100": _Gpu(108, 1.41, 40),
    "L4": _Gpu(58, 2.04, 48),
    "H100": _Gpu(132, 1.98, 50),
    "H200": _Gpu(132, 1.98, 50),
    "B200": _Gpu(148, 1.965, 126),
}


def describe_gpu(chip: Chip) -> str:
    """A GPU as text of the message `GpuTargetConfigProto`."""
    gpu, generation = _GPUS[chip.name], _GENERATIONS[chip.capability]
    major, minor = chip.capability.split(".")
    fields = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "threads_per_core_limit": generation.threads,
        "shared_memory_per_block": 48 * 1024,
        "shared_memory_per_block_optin": generation.block_kib * 1024,
        "shared_memory_per_core": generation.shared_kib * 1024,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
        "core_count": gpu.multiprocessors,
        "fpus_per_core": generation.float32_units,
        "clock_rate_ghz": gpu.clock_ghz,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "thread_dim_limit_x": 1024,
        "thread_dim_limit_y": 1024,
        "thread_dim_limit_z": 64,
        "memory_bandwidth": int(chip.bandwidth),
        "device_memory_size": int(chip.memory),
        "l2_cache_size": gpu.cache_mib * 2**20,
    }
    lines = "\n".join(f"  {name}: {value}" for name, value in fields.items())
    return (
        f"gpu_device_info {{\n  cuda_compute_capability {{ major: {major} minor: {minor} }}\n"
        f'{lines}\n}}\nplatform_name: "CUDA"\ndevice_description_str: "{chip.name}"\n'
    )
