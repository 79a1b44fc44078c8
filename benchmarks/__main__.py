"""All benchmarks, one after the other: `make bench`.

    python -m benchmarks [FOLDER]      tables here, JSON in FOLDER (runs/benchmarks by default)

About 24 minutes on 2 cores. Nothing else should run meanwhile.
"""

import subprocess
import sys
from pathlib import Path

from benchmarks.harness import ROOT

COMMANDS = {
    "step": "step --sizes 7m --batch 2 4",
    "step_bfloat16": "step --sizes 7m --batch 2 --dtype bfloat16",
    "step_small": "step --sizes w64 w128 --batch 8",
    "step_demo": "step --sizes demo --batch 32 --methods drm trm sprm path diffusion --repeats 100",
    "evaluation": "evaluation --sizes 7m --batch 2",
    "canvas": "canvas --rounds 1",
    "data": "data",
    "start": "start",
    "report": "report",
    "scaling": "scaling --rounds 1",
}


def main() -> int:
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__)
        return 0 if len(sys.argv) == 2 else 2
    folder = Path(sys.argv[1] if sys.argv[1:] else ROOT / "runs" / "benchmarks").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in COMMANDS.items():
        module, *options = command.split()
        options += ["--json", str(folder / f"{name}.json")]
        print(f"python -m benchmarks.{command}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *options], cwd=ROOT)
        if code.returncode:
            return code.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
