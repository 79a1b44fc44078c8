"""The rooms of docs/architecture.md: imports point one way, and numpy rooms stay free of jax."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "drm_jax"
ROOMS = ["errors", "references", "config", "puzzles", "corruption", "data", "model", "parallel",
         "methods", "train", "io", "runtime", "evaluate", "run", "plan", "published", "report",
         "commands", "__main__"]  # fmt: skip
NUMPY_ROOMS = ("errors", "references", "config", "puzzles", "corruption")
FILES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    """The room of drm_jax.room or drm_jax.room.part; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = {module_name(path) for path in FILES}


def test_every_room_is_known():
    assert {room(m) for m in MODULES} - {""} <= set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_room_imports_only_rooms_above_it(path):
    here = room(module_name(path))
    for module in imports(path) & MODULES:
        there = room(module)
        if there not in ("", here):
            assert ROOMS.index(there) < ROOMS.index(here), f"{path} imports {module}"
        assert there != "commands" or here in ("commands", "__main__")
    assert not any(module.split(".")[0] == "experiments" for module in imports(path))


def test_no_cycles_inside_a_room():
    graph = {module_name(path): imports(path) & MODULES - {module_name(path)} for path in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_numpy_rooms_import_neither_jax_nor_grain():
    names = sorted(m for m in MODULES if room(m) in NUMPY_ROOMS)
    code = f"import sys, {', '.join(names)}; sys.exit(bool({{'jax', 'grain'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    for path in FILES:
        if room(module_name(path)) in NUMPY_ROOMS:
            assert not {"jax", "grain"} & {m.split(".")[0] for m in imports(path)}, path


def test_the_command_line_imports_jax_only_inside_commands():
    code = "import sys, drm_jax.commands.main; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
