"""Which Python `make` takes, of interpreters that stand in for several versions."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="needs make")


def stand_in(folder: Path, name: str, version: tuple[int, int], makes_environments: bool) -> None:
    """An interpreter that says it is of a version; without ensurepip, as Debian's python3 is."""
    prelude = f"import sys; sys.version_info = {(*version, 0)}"
    if not makes_environments:
        prelude += "; sys.modules['ensurepip'] = None"
    program = f"{prelude}; exec(sys.argv.pop(1))"
    path = folder / name
    path.write_text(
        f'#!/bin/sh\nshift\nexec {sys.executable} -c "{program}" "$@"\n', encoding="utf-8"
    )
    path.chmod(0o755)


def dry_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [MAKE, "--dry-run", "demo", f"VENV={folder / 'venv'}", *arguments],
        cwd=ROOT,
        env={"PATH": str(folder), "SHELL": "/bin/sh"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )


@pytest.mark.parametrize(
    ("interpreters", "taken"),
    [
        ({"python3": (3, 11), "python3.11": (3, 11), "python3.13": (3, 13)}, "python3.13"),
        ({"python3": (3, 13), "python3.12": (3, 12)}, "python3"),
        ({"python3": (3, 14), "python3.11": (3, 11)}, "python3.11"),
        ({"python3": (3, 14)}, "python3"),
        ({"python3": (3, 10)}, None),
        ({}, None),
    ],
    ids=["newest", "python3 is the newest", "one too new", "nothing else", "too old", "none"],
)
def test_the_newest_supported_python_is_taken(tmp_path, interpreters, taken):
    for name, version in interpreters.items():
        stand_in(tmp_path, name, version, makes_environments=True)
    printed = dry_run(tmp_path).stdout
    assert f"{taken or ''} -m venv {tmp_path}/venv" in printed
    assert f'test -n "{taken or ""}" ||' in printed  # else it says what is needed


def test_one_that_makes_no_environments_is_passed_over(tmp_path):
    stand_in(tmp_path, "python3.13", (3, 13), makes_environments=False)
    stand_in(tmp_path, "python3.12", (3, 12), makes_environments=True)
    assert f"python3.12 -m venv {tmp_path}/venv" in dry_run(tmp_path).stdout


def test_without_any_it_says_what_is_needed(tmp_path):
    stand_in(tmp_path, "python3", (3, 12), makes_environments=False)
    done = subprocess.run(
        [MAKE, "demo", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode
    assert "needs Python 3.11, 3.12 or 3.13" in done.stdout
    assert "apt install python3-venv" in done.stdout
    assert not (tmp_path / "venv").exists()
