"""Compiled programs are kept in the user's cache folder, and what is kept computes the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from drm_jax.runtime.programs import keep_programs


def command(folder: Path, *argv: str) -> str:
    """What `drm` prints in an environment whose cache folder is in `folder`."""
    project = Path(__file__).parents[2]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    clean |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(folder / "cache")}
    clean["PYTHONPATH"] = f"{project}{os.pathsep}{project / 'tests'}"
    done = subprocess.run(
        [sys.executable, "-m", "drm_jax", *argv],
        cwd=folder, env=clean, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_second_run_compiles_nothing_and_computes_the_same(tmp_path):
    (tmp_path / "tiny_run.py").write_text(
        "from tiny import TINY\n\n\ndef experiment():\n    return TINY\n"
    )
    kept = tmp_path / "cache" / "drm_jax" / "programs"

    def run(name: str) -> list[dict]:
        said = command(tmp_path, "train", "tiny_run.py", "--workdir", name)
        assert "First step after" in said
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        timed = ("examples_per_second", "seconds")
        return [
            {k: v for k, v in json.loads(line).items() if not k.endswith(timed)} for line in lines
        ]

    first = run("first")
    programs = {path.name for path in kept.glob("*-cache")}
    assert any("train_step" in name for name in programs)
    assert kept.stat().st_mode & 0o077 == 0
    assert run("second") == first
    assert {path.name for path in kept.glob("*train_step*-cache")} <= programs


@pytest.fixture
def no_cache():
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_another_place_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    keep_programs()
    assert jax.config.jax_compilation_cache_dir == before
    assert not any(tmp_path.iterdir())


def test_without_a_place_nothing_is_kept(tmp_path, monkeypatch, no_cache):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_programs()
    assert jax.config.jax_compilation_cache_dir is None
