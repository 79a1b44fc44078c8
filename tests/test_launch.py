import os
import shutil
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "launch" / "debug_gpu.sh"


def test_without_a_gpu_it_says_what_to_do(tmp_path):
    for tool in ("bash", "dirname"):  # and no nvidia-smi, whatever this machine has
        (tmp_path / tool).symlink_to(shutil.which(tool))
    result = subprocess.run(
        [str(tmp_path / "bash"), str(SCRIPT), "--seed", "1"],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "nvidia-smi not found" in result.stderr
    assert "drm train experiments/debug.py" in result.stderr


def test_options_reach_the_experiment(tmp_path):
    """With a stand-in driver and a stand-in drm that records what it is asked for."""
    for name, text in (("nvidia-smi", "exit 0"), ("drm", 'echo "$JAX_PLATFORMS: $*"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    copy = tmp_path / "repo" / "launch"
    copy.mkdir(parents=True)
    (copy / "debug_gpu.sh").write_text(SCRIPT.read_text())
    environment = os.environ | {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    result = subprocess.run(
        ["bash", str(copy / "debug_gpu.sh"), "--seed", "1"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "cuda: train experiments/debug.py --seed 1\n"
