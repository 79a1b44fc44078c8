"""How long until something happens: `drm --help`, and the first training step of the demo.

    python -m benchmarks.start

The first step counts from the command, as `drm train` says it: without any program kept from
before, and with them.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import Column

_DEMO = ("train", "experiments/demo.py", "--train.steps", "2", "--evaluate.no-untrained")


def main() -> None:
    options = harness.parser(__doc__).parse_args()
    harness.report(
        "Start",
        harness.measure_all("benchmarks.start", [{}], options.rounds),
        [
            Column("drm --help, s", lambda r: f"{r['help']:.2f}"),
            Column("drm train --help, s", lambda r: f"{r['train_help']:.2f}"),
            Column("first step, nothing kept, s", lambda r: f"{r['cold']:.1f}"),
            Column("first step, programs kept, s", lambda r: f"{r['warm']:.1f}"),
        ],
        options,
    )


def child(case: dict[str, Any]) -> dict[str, Any]:
    """The figures of one round; each command is a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (first_step(Path(folder), name) for name in ("cold", "warm"))
        return {
            "help": _run(folder, "--help")[1],
            "train_help": _run(folder, "train", "experiments/demo.py", "--help")[1],
            "cold": cold,
            "warm": warm,
        }


def first_step(folder: Path, name: str) -> float:
    """Seconds to the first step, as the run itself says."""
    text, _ = _run(folder, *_DEMO, "--workdir", str(folder / name))
    return float(re.search(r"First step after ([\d.]+) s", text)[1])


def _run(caches: os.PathLike | str, *arguments: str) -> tuple[str, float]:
    """What `drm` prints, and how long it takes."""
    clean = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    clean |= {"XDG_CACHE_HOME": str(caches)}
    before = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "drm_jax", *arguments],
        cwd=harness.ROOT, env=clean, stdout=subprocess.PIPE, check=True, encoding="utf-8",
    )  # fmt: skip
    return done.stdout, time.perf_counter() - before


if __name__ == "__main__":
    harness.run(main, child)
