"""Experiment files: what they may do, and what is said of those that can't be used."""

import dataclasses
import sys
import textwrap
import typing

import pytest

from drm_jax.config import from_json, part_name, to_json
from drm_jax.errors import UsageError, UserCodeError
from drm_jax.experiment_files import load_experiment

PLAIN = "from drm_jax.config import Experiment\ndef experiment(): return Experiment('plain')\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "must define experiment"),
        ("def experiment(): return 7", "must define experiment"),
        ("def experiment(:", "line 1"),
    ],
)
def test_bad_experiment_files(tmp_path, text, message):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_experiment(str(path))


def test_an_experiment_may_import_its_neighbours(tmp_path):
    (tmp_path / "neighbour.py").write_text(PLAIN)
    path = tmp_path / "derived.py"
    path.write_text(
        textwrap.dedent("""
        import dataclasses
        import neighbour

        def experiment():
            return dataclasses.replace(neighbour.experiment(), name="derived")
        """)
    )
    assert load_experiment(str(path)).name == "derived"


ANNOTATED = """
from __future__ import annotations

import dataclasses
from drm_jax.config import Experiment

@dataclasses.dataclass(frozen=True)
class Size:
    hidden: int = 8
    kind: Kind | None = None

class Kind: pass

@dataclasses.dataclass(frozen=True)
class Mine(Experiment):
    size: Size = Size()

def experiment(): return Mine("annotated")
"""


def test_a_dataclass_with_annotations_that_are_text(tmp_path):
    path = tmp_path / "annotated.py"
    path.write_text(ANNOTATED)
    made = load_experiment(path)
    assert made.name == "annotated"
    hints = typing.get_type_hints(type(made.size))  # found again later, in the file's module
    assert [field.name for field in dataclasses.fields(made.size)] == list(hints)
    assert hints["hidden"] is int


def test_the_path_is_what_it_was(tmp_path, monkeypatch):
    """Also where the file puts a folder of its own before the others."""
    path = tmp_path / "plain.py"
    path.write_text(f"import sys\nsys.path.insert(0, '/mine')\n{PLAIN}")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = list(sys.path)
    load_experiment(path)
    assert sys.path == ["/mine", *before]


def test_two_files_of_one_name_are_two_modules(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.py").write_text(PLAIN.replace("plain", name))
    assert [load_experiment(tmp_path / n / "same.py").name for n in "aba"] == ["a", "b", "a"]


def test_what_a_file_raises_is_kept(tmp_path):
    path = tmp_path / "raises.py"
    path.write_text("x = 1\ny = x / 0\n")
    before = set(sys.modules)
    with pytest.raises(UserCodeError, match=r"raises\.py: line 2: ZeroDivisionError") as raised:
        load_experiment(path)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert set(sys.modules) == before


OWN = """
import dataclasses
from drm_jax.config import Experiment
from drm_jax.methods.trm import Trm

@dataclasses.dataclass(frozen=True)
class Mine(Trm):
    pass

def experiment(): return Experiment("own", method=Mine())
"""


def test_a_class_of_the_file_is_found_again_where_the_file_can_be_imported(tmp_path, monkeypatch):
    (tmp_path / "somewhere").mkdir()
    (tmp_path / "somewhere" / "own_class.py").write_text(OWN)
    (tmp_path / "own class.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    made = load_experiment("somewhere/own_class.py")
    assert part_name("method", made.method) == "somewhere.own_class:Mine"
    assert from_json(to_json(made)) == made
    made = load_experiment("own class.py")
    with pytest.raises(UsageError, match="method: the class Mine can't be found again"):
        part_name("method", made.method)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made = load_experiment(tmp_path / "somewhere" / "own_class.py")
    with pytest.raises(UsageError, match="method: the class Mine can't be found again"):
        to_json(made)
