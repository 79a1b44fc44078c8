"""The benchmarks run: what they say is for a quiet machine and for people, not for tests."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import COMMANDS
from benchmarks.canvas import window_shares
from benchmarks.scaling import slope

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("module", sorted({command.split()[0] for command in COMMANDS.values()}))
def test_each_explains_itself(module):
    assert "--json" in run(f"benchmarks.{module}", "--help")


def test_a_step_is_measured(tmp_path):
    file = tmp_path / "step.json"
    small = ("--sizes", "demo", "--batch", "8", "--rounds", "1", "--repeats", "1")
    assert "demo batch 8" in run("benchmarks.step", *small, "--json", str(file))
    written = json.loads(file.read_text())
    (result,) = written["results"]
    assert written["machine"]["jax"]
    assert result["seconds"] > 0
    assert result["flops"] > 1e8
    assert result["matmul"] > result["flops"] / result["seconds"] > 0


def test_shares_of_windows():
    shares = window_shares("train", [10, 16, 22, 30])
    assert math.isclose(sum(shares), 1)
    assert min(shares) > 0.05  # each size has its share of ARC-AGI-1


def test_slope():
    results = [{"value": n, "seconds": 3 * n**1.5} for n in (1, 10, 100)]
    assert math.isclose(slope(results, "seconds"), 1.5)
