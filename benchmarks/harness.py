"""What the benchmarks share: a child process for each case, this machine's matmul rate, tables.

A case is measured in a process of its own, so that its peak memory is its own. Cases take turns, so
that a machine that slows down slows all of them, and medians over the rounds are printed. The rate
of a 4096 x 4096 x 4096 product is measured before and after each case, in the same process.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).parent.parent
UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
"""Flags of /proc/cpuinfo that say how a processor multiplies matrices."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table: its title, and what it shows of a result."""

    title: str
    show: Callable[[dict[str, Any]], str]


def parser(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    made = argparse.ArgumentParser(
        description=description.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    made.add_argument("--rounds", type=int, default=3, help="processes for each case, in turns")
    made.add_argument("--json", type=Path, help="write all figures to this file")
    return made


def measure_all(module: str, cases: Sequence[dict[str, Any]], rounds: int) -> list[dict[str, Any]]:
    """Runs `python -m MODULE --child CASE` for each case, in turns.

    Returns:
      For each case its fields and the median over the rounds of every figure; `spread` holds the
      smallest and the largest.
    """
    turns = [i for _ in range(rounds) for i in range(len(cases))]
    found: list[list[dict[str, Any]]] = [[] for _ in cases]
    for i in track(turns, "measuring", console=Console(stderr=True)):
        found[i].append(_child(module, cases[i]))
    return [case | _medians(figures) for case, figures in zip(cases, found, strict=True)]


def _child(module: str, case: dict[str, Any]) -> dict[str, Any]:
    environment = {"JAX_PLATFORMS": "cpu", **os.environ}
    command = [sys.executable, "-m", module, "--child", json.dumps(case)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _medians(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    numbers = {
        k: [r[k] for r in rounds] for k, v in rounds[0].items() if isinstance(v, int | float)
    }
    spread = {name: [min(values), max(values)] for name, values in numbers.items()}
    medians = {name: statistics.median(values) for name, values in numbers.items()}
    return rounds[0] | medians | {"spread": spread}


def report(
    title: str,
    results: Sequence[dict[str, Any]],
    columns: Sequence[Column],
    options: argparse.Namespace,
) -> None:
    """Prints a table, and writes the JSON file that was asked for."""
    table = Table(title=f"{title}\n{machine()['summary']}")
    for column in columns:
        table.add_column(column.title, justify="right")
    for result in results:
        table.add_row(*(column.show(result) for column in columns))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if options.json:
        whole = {"title": title, "machine": machine(), "results": list(results)}
        options.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
        print(f"Written: {options.json}")


def machine() -> dict[str, str]:
    """The processor, its cores and units, and the versions that matter."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    said = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    flags = said.get("flags", "").split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {
        "processor": said.get("model name") or platform.processor() or platform.machine(),
        "units": " ".join(unit for unit in UNITS if unit in flags),
        "cores": str(cores),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "grain", "numpy")},
    }
    versions = f"Python {found['python']}, jax {found['jax']}"
    processor = f"{found['processor']} ({found['units']})" if found["units"] else found["processor"]
    return {**found, "summary": f"{found['cores']} cores of {processor}, {versions}"}


def run(main: Callable[[], None], child: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """What a benchmark does: `main`; or `child`, where `measure_all` has started it with a case."""
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(json.loads(sys.argv[2]))))
    else:
        main()


# --- in the child --------------------------------------------------------------------------------
def timed(function: Callable[[], Any], times: int) -> list[float]:
    """Seconds of each of several calls; jax's answers are waited for."""
    import jax

    seconds = []
    for _ in range(times):
        before = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - before)
    return seconds


def matmul_rate(side: int = 4096, dtype: str = "float32") -> float:
    """FLOP/s of products of two matrices, one on each device at once: the best of three."""
    import jax
    import jax.numpy as jnp

    from drm_jax.parallel.mesh import make_mesh, placed

    mesh = make_mesh()
    split = placed(mesh, "batch")
    product = jax.jit(jnp.matmul, in_shardings=(split, split), out_shardings=split)
    a = jax.device_put(jnp.ones((mesh.size, side, side), dtype), split)
    jax.block_until_ready(product(a, a))
    return mesh.size * 2 * side**3 / min(timed(lambda: product(a, a), 3))


def peak_bytes(reset: bool = False) -> int:
    """The most memory that this process has held since the last reset; 0 without /proc."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
