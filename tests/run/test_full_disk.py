"""A disk that is really full: a small file system of memory, in a name space of the test's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENT = """
from drm_jax.config import Evaluate, Experiment, Train
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.arc.family import Arc

def experiment():
    return Experiment(
        name="full",
        data=Arc(train=(), evaluate=("arc1/training",), only=("25d8a9c8",), canvas=4,
                 num_augmentations=1),
        method=Drm(Recursion(cycles=1, inner_steps=1)),
        model=Transformer(hidden=16, heads=1, layers=1, prefix=1, swiglu_multiple=8),
        train=Train(steps=40, batch_size=4, log_every=1, checkpoint_every=1, keep_last=99),
        evaluate=Evaluate(batch_size=4, denoise_steps=2),
    )
"""
# Fills the disk, lists what is left, makes room, goes on.
SCRIPT = """
mount -t tmpfs -o size=1500k tmpfs disk || exit 77
run="$PYTHON -m drm_jax"
$run train full.py --workdir disk/run; echo "exit code $?"
ls disk/run/checkpoints
$run checkpoints disk/run; echo "exit code $?"
mount -o remount,size=60m disk
$run train full.py --workdir disk/run; echo "exit code $?"
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("full")
    (folder / "disk").mkdir()
    (folder / "full.py").write_text(EXPERIMENT)
    try:
        result = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", SCRIPT],
            cwd=folder,
            env=os.environ
            | {"PYTHON": sys.executable, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare here to make a small disk with")
    if result.returncode == 77 or "unshare failed" in result.stderr:
        pytest.skip("this system lets no user mount a small disk")
    return result.stdout + result.stderr


def test_a_full_disk_ends_the_run_in_one_line(said):
    assert "exit code 1" in said
    assert re.search(r"^drm: .*[Nn]o space left.*give the same command again$", said, re.M), said
    assert "Traceback" not in said
    assert "Exception" not in said


def test_what_was_saved_is_intact_and_the_leftover_is_gone(said):
    listing = said[: said.index("Checkpoints of")]
    assert "orbax-checkpoint-tmp" not in listing
    rows = re.findall(r"^│ +(\d+) │.*│ (\S+) +│$", said, re.M)
    assert len(rows) >= 3
    assert {verified for _, verified in rows} == {"yes"}


def test_with_some_room_it_goes_on(said):
    saved = re.findall(r"^│ +(\d+) │.*│ yes +│$", said, re.M)
    assert f"Going on from the checkpoint of step {saved[-1]}" in said
    assert said.count("exit code 0") == 2
