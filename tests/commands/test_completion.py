"""The script of `drm completion`, run by bash, and `python -m drm_jax`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from drm_jax.commands.main import COMMANDS, main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(capsys) -> str:
    assert main(["completion", "bash"]) == 0
    return capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("", set(COMMANDS)),
        ("tr", {"train"}),
        ("train ", {"mini.py", "my experiments", "runs"}),
        ("plan m", {"mini.py", "my experiments"}),
        ("eval ", {"my experiments", "runs"}),
        ("report runs/", {"runs/demo"}),
        ("train mini.py --train.ste", {"--train.steps"}),
        ("train mini.py --method ", {"drm", "trm", "sprm", "diffusion", "drm_rollout"}),
        ("train mini.py --method trm --method.halting.max", {"--method.halting.max-steps"}),
        ("plan mini.py --data.si", {"--data.side"}),
        ("eval runs/demo --outs", {"--outside"}),
        ("eval runs/demo --help", {"--help", "--help-all"}),
        ("import file --ide", {"--identifiers"}),
        ("show x --source n", {"notes.txt"}),
        ("completion ", {"bash", "zsh"}),
    ],
)
def test_bash_completes(typed, found, script, tmp_path):
    for folder in ("runs/demo", "my experiments"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("mini.py", "notes.txt"):
        (tmp_path / file).touch()
    words = ["drm", *typed.split(" ")]
    quoted = " ".join(f"'{word}'" for word in words)
    ask = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _drm\n"
    ask += "printf '%s\\n' \"${COMPREPLY[@]}\""
    said = subprocess.run(
        ["bash", "-c", f"{script}\n{ask}"], cwd=tmp_path, capture_output=True, encoding="utf-8",
        check=True,
    )  # fmt: skip
    assert said.stderr == ""
    assert set(said.stdout.splitlines()) == found


def test_zsh_reads_the_same_script(script, capsys):
    assert main(["completion", "zsh"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("autoload ")
    assert out.endswith(script)
    assert main(["completion", "fish"]) == 2


def test_the_package_runs_as_a_module(tmp_path):
    def module(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "drm_jax", *argv], cwd=tmp_path, capture_output=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)}, encoding="utf-8", check=False,
        )  # fmt: skip

    helped = module("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith("usage: drm ")
    wrong = module("trian")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("drm: trian: there is no such command; did you mean train?")
