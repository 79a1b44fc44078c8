"""The benchmarks run: what they say is for a quiet machine and for people, not for tests."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
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


# --- benchmarks/gpu.sh ---
GPU = [str(ROOT / "benchmarks" / "gpu.sh")]


def test_all_stages_of_gpu_take_at_most_8_minutes():
    assert sum(stage.limit for stage in gpu.STAGES.values()) <= 480


@pytest.mark.parametrize(
    ("ends", "state"),
    [("sys.exit(0)", "done"), ("sys.exit(3)", "failed"), ("time.sleep(600)", "out of time")],
)
def test_what_a_stage_found_is_kept_however_it_ends(ends, state, tmp_path):
    script = f"import sys, time; print('{{\"a\": 1}}\\n{{cut of', flush=True); {ends}"
    limit = 1.5 if "sleep" in ends else 60
    found = gpu.run_stage([sys.executable, "-c", script], {}, limit, tmp_path / "log")
    assert (found["state"], found["results"]) == (state, [{"a": 1}])
    assert found["seconds"] < 60


def test_figures_of_a_gpu_as_a_table():
    case = {"what": "train", "method": "drm", "batch": 96, "remat": "none", "windows": []}
    figures = {"examples_per_second": 1234.5, "share_of_peak": 0.512, "memory_bytes": 21.5e9}
    fit = {**case, "windows": [8, 30], "failed": "exit code 1; see the log"}
    form = {"with_gradient_ms": 1.25, "apart": [0.001, 0.004]}
    stages = {
        "device": {"state": "done", "results": [{"kind": "NVIDIA H100 80GB HBM3"}]},
        "training": {"state": "out of time", "results": [{**case, **figures}, fit]},
        "attention": {"state": "failed", "results": [
            {"tokens": 916, "form": "cudnn", "plain": {"with_gradient_ms": 9.5}, "cudnn": form}
        ]},
    }  # fmt: skip
    text = gpu.tables({"cpu": False, "machine": {"summary": "16 cores"}, "stages": stages})
    for line in (
        "NVIDIA H100 80GB HBM3; 16 cores. Stages: device done, training out of time, attention",
        "| train drm | 96 | none | 1,234 | 51% | 21.5 |\n",
        "| train drm, fit | 96 | none | exit code 1; see the log | | |\n",
        "| 916 | 9.50 | 1.25 | 0.0040 |\n",
    ):
        assert line in text


def test_gpu_sh_says_that_there_is_no_driver(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname"):
        (tools / name).symlink_to(shutil.which(name))
    result = subprocess.run(
        GPU, env={"PATH": str(tools), "PYTHON": sys.executable}, capture_output=True, text=True,
        check=False, encoding="utf-8",
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "nvidia-smi not found" in result.stderr


def test_every_stage_of_gpu_runs_on_a_cpu(tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable}
    environment.pop("XLA_FLAGS")
    subprocess.run([*GPU, "--cpu", "--output", str(tmp_path)], env=environment, check=True)
    report = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert set(report["stages"]) == set(gpu.STAGES)
    for name, stage in report["stages"].items():
        assert (stage["state"], bool(stage["results"])) == ("done", True), name
        assert not any("failed" in result for result in stage["results"]), name
    found = {name: stage["results"] for name, stage in report["stages"].items()}
    assert all(result["passed"] for result in (*found["tests"], found["goldens"][0]))
    assert [result["dtype"] for result in found["goldens"][1:]] == ["float32", "bfloat16"]
    assert found["goldens"][1]["gradient_apart"] == 0  # it is the same device here
    assert 0 < found["goldens"][2]["gradient_apart"] < 0.2
    assert found["resume"][0]["was_killed"]
    assert found["resume"][0]["equal"]
    assert found["demo"][0]["pass@2"] is not None
    assert "a trial of the script, no measurement" in (tmp_path / "gpu.md").read_text()


def test_shares_of_windows():
    shares = window_shares("train", [10, 16, 22, 30])
    assert math.isclose(sum(shares), 1)
    assert min(shares) > 0.05  # each size has its share of ARC-AGI-1


def test_slope():
    results = [{"value": n, "seconds": 3 * n**1.5} for n in (1, 10, 100)]
    assert math.isclose(slope(results, "seconds"), 1.5)
