"""Experiment files: Python files with a function experiment(), which returns an `Experiment`."""

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from drm_jax.config import Experiment
from drm_jax.errors import InputError, UsageError, UserCodeError
from drm_jax.references import find_module


def load_experiment(path: str | Path) -> Experiment:
    """The experiment that a file's `experiment()` returns. Files beside it can be imported there.

    Raises:
      InputError: there is no such file.
      UsageError: it is not Python, or it defines no experiment.
      UserCodeError: it raises; the cause is what it raised.
    """
    file = Path(path)
    if not _is_file(file):
        raise InputError(f"{str(path) or repr(path)}: no such experiment file or work directory")
    try:
        made = _made_by(file)
    except (UsageError, InputError):
        raise
    except SyntaxError as error:
        line = f" line {error.lineno}:" if error.lineno else ""
        raise UsageError(f"{path}:{line} {error.msg}") from error
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(file.absolute())]
        line = f" line {lines[-1]}:" if lines else ""
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        raise UserCodeError(f"{path}:{line} {said}") from error
    if not isinstance(made, Experiment):
        raise UsageError(f"{path}: must define experiment(), which returns a drm_jax Experiment")
    return made


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _made_by(file: Path) -> object:
    """What a file's experiment() returns; None where it has none."""
    folder = str(file.parent.resolve())
    sys.path.insert(0, folder)
    try:
        module = _executed(file)
        return module.experiment() if hasattr(module, "experiment") else None
    finally:
        if folder in sys.path:  # the file may have changed the path itself
            sys.path.remove(folder)


def _executed(file: Path) -> ModuleType:
    """A file's module. It stays in sys.modules: dataclasses look up annotations there.

    Its name is the one by which it can be imported from the current directory, so that a class
    that it defines can be found again by reference; if there is none, a name that nothing can be
    imported by.
    """
    name = _importable_name(file)
    if name is None:
        digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
        name = f"{file.stem}-{digest}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    return module


def _importable_name(file: Path) -> str | None:
    """package.module by which a file can be imported from here, if there is such a name."""
    path = file.resolve()
    if not path.is_relative_to(Path.cwd()):
        return None
    parts = path.relative_to(Path.cwd()).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        return None
    try:
        spec = find_module(".".join(parts))
    except (ImportError, ValueError):
        return None
    found = spec is not None and spec.origin is not None
    return ".".join(parts) if found and Path(spec.origin).resolve() == path else None
