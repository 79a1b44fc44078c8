"""The rooms of docs/architecture.md: imports point one way, numpy rooms stay free of jax, and
families of puzzles, methods and backbones are known by name in config.py alone."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from drm_jax.config import PARTS

PACKAGE = Path(__file__).parent.parent / "drm_jax"
ROOMS = ["errors", "words", "references", "fields", "random_bits", "config", "experiment_files",
         "puzzles", "corruption", "data", "model", "parallel", "methods", "training", "io",
         "runtime", "evaluate", "run", "plan", "published", "report", "solve", "play", "api",
         "commands", "__main__"]  # fmt: skip
NUMPY_ROOMS = ROOMS[: ROOMS.index("corruption") + 1]
CORE_ROOMS = ("corruption", "data", "model", "methods", "parallel", "training", "io")
"""Rooms that know no family of puzzles, only what all families have."""
OF_ALL_FAMILIES = ("drm_jax.puzzles.family", "drm_jax.puzzles.boards")
"""All that they may know of puzzles."""
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


FAMILIES = {path.parent.name for path in PACKAGE.glob("puzzles/*/family.py")}


def family(module: str) -> str:
    """The family of puzzles that a module belongs to; "" if to none."""
    parts = module.split(".")
    inside = parts[1:2] == ["puzzles"] and len(parts) > 2 and parts[2] in FAMILIES
    return parts[2] if inside else ""


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_the_core_knows_no_family(path):
    """Corruption, models, methods, …, only what all families have."""
    if room(module_name(path)) in CORE_ROOMS:
        for module in imports(path) & MODULES:
            known = room(module) != "puzzles" or module in ("drm_jax.puzzles", *OF_ALL_FAMILIES)
            assert known, f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_family_knows_another(path):
    """Nor does what they share know any."""
    here = module_name(path)
    if room(here) == "puzzles":
        for module in imports(path) & MODULES:
            assert family(module) in ("", family(here)), f"{path} imports {module}"


def test_families_are_found():
    assert {"arc", "sudoku"} <= FAMILIES
    assert family("drm_jax.puzzles.arc.tokens") == "arc"
    assert {family(f"drm_jax{x}") for x in ("", ".puzzles", ".puzzles.boards", ".data")} == {""}


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


# --- names are compared where they are chosen, and nowhere else ----------------------------------
BUILT_IN = {name for names in PARTS.values() for name in names}
CLASSES = {
    reference.partition(":")[2]: reference.partition(":")[0].rpartition(".")[0]
    for names in PARTS.values()
    for reference in names.values()
}
"""The built-in parts of an experiment, and the package that each is defined in."""


def compared(path: Path) -> list[tuple[int, str]]:
    """(line, text) of every string that a file compares or matches."""
    return [
        (constant.lineno, constant.value)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare | ast.MatchValue)
        for constant in ast.walk(node)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    ]


def classes_asked_for(path: Path) -> list[tuple[int, str]]:
    """(line, name) of every class that a file compares types with, by isinstance or by a match."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Name("isinstance" | "issubclass"), args=[_, asked]):
                kinds = asked
            case ast.MatchClass(cls=kinds) | ast.Compare(comparators=[kinds, *_]):
                pass
            case _:
                continue
        for name in ast.walk(kinds):
            if isinstance(name, ast.Name | ast.Attribute):
                text = name.id if isinstance(name, ast.Name) else name.attr
                found.append((name.lineno, text))
    return found


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_what_a_part_is_called_decides_nothing(path):
    if module_name(path) == "drm_jax.config":
        return
    assert [x for x in compared(path) if x[1] in BUILT_IN] == []
    here = module_name(path)
    for line, name in classes_asked_for(path):
        if name in CLASSES:
            assert here.startswith(CLASSES[name] + "."), f"{path}:{line} asks for {name}"


def test_such_a_comparison_is_noticed(tmp_path):
    file = tmp_path / "x.py"
    file.write_text(
        """
if method == "trm" or name in ("arc", "x"):
    pass
match name:
    case "drm" | "sprm":
        pass
if isinstance(method, (int, methods.Drm)) or type(data) is Arc:
    pass
match model:
    case TokenMixer(hidden=3):
        pass
call("sudoku")
"""
    )
    assert {text for _, text in compared(file)} == {"trm", "arc", "x", "drm", "sprm"}
    asked = {name for _, name in classes_asked_for(file)}
    assert asked & set(CLASSES) == {"Drm", "Arc", "TokenMixer"}
