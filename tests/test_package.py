"""What holds for the whole package: declared dependencies, and dataclasses that can be compared."""

import ast
import collections.abc
import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
import tomllib
import typing
from importlib.metadata import packages_distributions
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import linen as nn

import drm_jax

ROOT = Path(drm_jax.__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def canonical(requirement: str) -> str:
    """The name of a requirement, such as markupsafe of MarkupSafe>=2."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def third_party_imports() -> set[str]:
    found = set()
    for path in (ROOT / "drm_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"drm_jax"}


def distributions_of(module: str) -> set[str]:
    return {canonical(name) for name in packages_distributions().get(module, [module])}


def test_every_import_is_declared_and_has_a_version_in_the_constraints():
    extras = [name for names in PROJECT["optional-dependencies"].values() for name in names]
    declared = {canonical(name) for name in PROJECT["dependencies"] + extras}
    undeclared = {m for m in third_party_imports() if not distributions_of(m) & declared}
    assert not undeclared, "declare them in pyproject.toml"
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonical(line) for line in lines if line and not line.startswith("#")}
    assert {canonical(name) for name in PROJECT["dependencies"]} <= pinned


def holds_array(annotation: object) -> bool:
    """Whether a value of this type is an array or holds arrays in a container."""
    if annotation in (np.ndarray, jax.Array):
        return True
    if typing.get_origin(annotation) is collections.abc.Callable:
        return False
    return any(holds_array(part) for part in typing.get_args(annotation))


def array_dataclasses() -> list[type]:
    """Every dataclass of the package with a field that is or holds arrays.

    Flax makes dataclasses of its modules, and decides how they compare.
    """
    found = set()
    for module in pkgutil.walk_packages(drm_jax.__path__, "drm_jax."):
        if module.name != "drm_jax.__main__":
            found |= {
                value
                for value in vars(importlib.import_module(module.name)).values()
                if inspect.isclass(value)
                and dataclasses.is_dataclass(value)
                and not issubclass(value, nn.Module)
                and value.__module__ == module.name
            }
    kept = [c for c in found if any(holds_array(field.type) for field in dataclasses.fields(c))]
    return sorted(kept, key=lambda c: (c.__module__, c.__qualname__))


ARRAY_DATACLASSES = array_dataclasses()


def test_dataclasses_with_arrays_are_found():
    assert {"Augmentation", "Trajectory", "TrainState", "Carry", "Answered"} <= {
        found.__name__ for found in ARRAY_DATACLASSES
    }


@pytest.mark.parametrize("with_arrays", ARRAY_DATACLASSES, ids=lambda c: c.__name__)
def test_a_dataclass_with_arrays_is_compared_by_identity(with_arrays):
    """Field by field, == raises: the truth value of an array is ambiguous."""
    assert with_arrays.__eq__ is object.__eq__
    assert with_arrays.__hash__ is object.__hash__
