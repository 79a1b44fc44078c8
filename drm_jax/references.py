"""A user's own code: a field of the config may name it as "package.module:name".

The name is kept, not the object, so config.json stays plain text. docs/extending.md shows how.
"""

import difflib
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from drm_jax.errors import UsageError


def is_reference(name: str) -> bool:
    """Whether a name has the form package.module:name."""
    module, colon, last = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), last))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error's line: the known name that is nearest, if one is near."""
    nearest = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def load(reference: str, field: str) -> Callable[..., Any]:
    """The function or class that a reference names. Modules in the current directory are found too.

    What the module raises while it is imported, or the function later, is not changed.

    Args:
      field: the field of the config that holds the reference, for errors.

    Raises:
      UsageError: there is no such module, it isn't Python, or it has no such function or class.
    """
    where = f"{field} {reference}"
    module_name, _, name = reference.partition(":")
    _look_here()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not _is_part(error.name, module_name):
            raise
        raise UsageError(
            f"{where}: there is no module {error.name}: run drm from the folder that holds "
            f"{module_name.split('.')[0]}, or install it"
        ) from error
    except SyntaxError as error:
        place = f"{error.filename}, line {error.lineno}"
        raise UsageError(f"{where}: can't be imported: {place}: {error.msg}") from error
    found = getattr(module, name, None)
    if not callable(found):
        known = [n for n, value in vars(module).items() if callable(value)]
        file = getattr(module, "__file__", None) or module_name  # a plain folder has none
        raise UsageError(
            f"{where}: {file} defines no function or class {name}{did_you_mean(name, known)}"
        )
    return found


def find_module(name: str) -> ModuleSpec | None:
    """Where a module would be imported from, as `load` would; None where there is none."""
    _look_here()
    return importlib.util.find_spec(name)


def _look_here() -> None:
    """An installed command doesn't look for modules in the current directory."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def reference_to(value: Any) -> str:
    """The reference package.module:name of a class or function."""
    return f"{value.__module__}:{value.__qualname__}"


def code_digest(cls: type) -> str:
    """Of the file that defines a class; what that file imports is not in it."""
    path = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8] if path else "unknown"


def _is_part(found: str | None, module: str) -> bool:
    """Whether what was not found is the module or a package around it."""
    return f"{module}.".startswith(f"{found}.")
