"""A user's own functions: a field of the config may name one as "package.module:function".

The name is kept, not the function, so config.json stays plain text. docs/extending.md shows how.
"""

import difflib
import functools
import hashlib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from drm_jax.errors import InputError, UsageError


def is_reference(name: str) -> bool:
    """Whether a name has the form package.module:function."""
    module, colon, function = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), function))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error's line: the known name that is nearest, if one is near."""
    nearest = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def load_function(reference: str, field: str) -> Callable[..., Any]:
    """The function that a reference names. Modules in the current directory are found too.

    Whatever the function raises later becomes a UsageError of one line.

    Args:
      field: the field of the config that holds the reference, for errors.

    Raises:
      UsageError: the module can't be imported, or has no such function.
    """
    where = f"{field} {reference}"
    module_name, _, name = reference.partition(":")
    if os.getcwd() not in sys.path:  # an installed command doesn't look there
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever a user's module raises
        if isinstance(error, ModuleNotFoundError) and _is_part(error.name, module_name):
            raise UsageError(
                f"{where}: there is no module {error.name}: run drm from the folder that holds "
                f"{module_name.split('.')[0]}, or install it"
            ) from error
        raise UsageError(f"{where}: can't be imported: {_place(error, module_name)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [n for n, value in vars(module).items() if callable(value)]
        file = getattr(module, "__file__", None) or module_name  # a plain folder has none
        raise UsageError(f"{where}: {file} defines no function {name}{did_you_mean(name, known)}")

    @functools.wraps(function)
    def answered(*args: Any) -> Any:
        try:
            return function(*args)
        except (UsageError, InputError):
            raise
        except (Exception, SystemExit) as error:  # whatever a user's function raises
            raise UsageError(f"{where}: {_place(error, module_name)}") from error

    return answered


def code_digest(reference: str) -> str:
    """Of the file that holds a loaded function; what that file imports is not in it."""
    path = getattr(sys.modules.get(reference.partition(":")[0]), "__file__", None)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8] if path else "unknown"


def _is_part(found: str | None, module: str) -> bool:
    """Whether what was not found is the module or a package around it."""
    return f"{module}.".startswith(f"{found}.")


def _place(error: BaseException, module: str) -> str:
    """FILE, line N: what happened, in one line; the deepest line of the user's own module."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    path = os.path.join(os.sep, *module.split("."))
    ends = (f"{path}.py", os.path.join(path, "__init__.py"))
    own = [frame for frame in frames if frame.filename.endswith(ends)]
    frame = (own or frames)[-1]
    message = str(error).strip().split("\n")[0]
    return f"{frame.filename}, line {frame.lineno}: {type(error).__name__}: {message}"
