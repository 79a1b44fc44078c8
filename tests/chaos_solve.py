"""drm solve, stopped and killed at random moments.

    python tests/chaos_solve.py [--rounds 20] [--seed 0] [--each]

Two tiny ARC tasks, adapted from the weights of a tiny run. Whenever it is looked at, there is a
submission with two attempts at every test input; and after all stops it ends with the answers, and
the very weights, of a solve that was never stopped.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
TASKS = ("0d3d703e", "25d8a9c8")
SIGNALS = {signal.SIGKILL: (-9, 137), signal.SIGTERM: (75, -15), signal.SIGINT: (130, -2)}
_TINY = """
from drm_jax.config import with_changes
from tiny import TINY

def experiment():
    return with_changes(TINY, {"train.steps": 2})
"""


def valid(folder: Path) -> str:
    """What is wrong with the submission; "" where nothing is."""
    try:
        found = json.loads((folder / "submission.json").read_text())
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    if set(found) != set(TASKS):
        return f"has the tasks {sorted(found)}"
    for name, entries in found.items():
        for entry in entries:
            if set(entry) != {"attempt_1", "attempt_2"}:
                return f"{name} has {sorted(entry)}"
            for grid in entry.values():
                if not grid or len({len(row) for row in grid}) != 1:
                    return f"{name} has no grid: {grid}"
    return ""


class Solve:
    """The command, and where it writes."""

    def __init__(self, folder: Path, weights: Path, each: bool, environment: dict[str, str]):
        self.folder, self._environment = folder, environment
        self._command = [
            sys.executable, "-m", "drm_jax", "solve", "arc1/training", "--only", *TASKS,
            "--from", str(weights), "--steps", "1500", "--num-augmentations", "7",
            "--batch-size", "4", "--output", str(folder), *(["--each"] if each else []),
        ]  # fmt: skip

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            self._command, env=self._environment, cwd=ROOT,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip

    def watched(self, seconds: float, number: int) -> tuple[int, str]:
        """Runs for so long, looking at the submission all the time, then sends a signal.

        Returns the exit code, and what it said.
        """
        was_there, child = (self.folder / "submission.json").exists(), self.start()
        until = time.monotonic() + seconds
        while child.poll() is None and time.monotonic() < until:
            wrong = valid(self.folder)
            was_there |= not wrong
            assert not (was_there and wrong), wrong
            time.sleep(0.05)
        if child.poll() is None:
            child.send_signal(number)
        _, said = child.communicate()
        wrong = valid(self.folder)
        assert not (was_there and wrong), wrong
        return child.returncode, said


def chaos(folder: Path, rounds: int, seed: int, each: bool) -> None:
    """Raises AssertionError where anything isn't as it must be."""
    (folder / "tiny_run.py").write_text(_TINY)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu",
                   "XDG_CACHE_HOME": str(folder / "cache")}  # fmt: skip
    weights = folder / "weights"
    subprocess.run(
        [sys.executable, "-m", "drm_jax", "train", str(folder / "tiny_run.py"),
         "--workdir", str(weights)],
        env=environment, check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    straight = Solve(folder / "straight", weights, each, environment)
    began = time.monotonic()
    assert straight.start().wait() == 0
    whole = time.monotonic() - began
    print(f"never stopped: {whole:.1f} s")
    disturbed, drawn, stops = Solve(folder / "disturbed", weights, each, environment), None, 0
    generator = random.Random(seed)
    for number in range(rounds):
        drawn = generator.choice(list(SIGNALS))
        seconds = generator.uniform(0.3, 1.1 * whole)
        code, said = disturbed.watched(seconds, drawn)
        print(f"{number + 1}: {drawn.name} after {seconds:.1f} s: exit code {code}")
        assert code in (0, *SIGNALS[drawn]), said
        stops += code != 0
        if code == 0:
            _compare(straight.folder, disturbed.folder)
            disturbed = Solve(folder / f"disturbed_{number}", weights, each, environment)
    assert disturbed.start().wait() == 0
    _compare(straight.folder, disturbed.folder)
    print(f"{stops} stops: the same answers")


def _compare(straight: Path, disturbed: Path) -> None:
    for name in ("submission.json", "candidates.jsonl.gz"):
        same = (straight / name).read_bytes() == (disturbed / name).read_bytes()
        assert same, f"{disturbed / name} is not that of a solve that was never stopped"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chaos(Path(folder), options.rounds, options.seed, options.each)
    return 0


if __name__ == "__main__":
    sys.exit(main())
