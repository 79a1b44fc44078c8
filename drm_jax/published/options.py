"""A YAML file of options, read by dotted keys."""

import contextlib
from pathlib import Path
from typing import Any

from drm_jax.errors import InputError
from drm_jax.published.torch_files import load_package


class Options:
    """A YAML file (or JSON, which is YAML) by dotted keys. Errors name the file and the key."""

    def __init__(self, path: Path):
        yaml = load_package("yaml", path, pip_name="pyyaml")
        self.path = path
        try:
            self._values = yaml.safe_load(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: can't be read: {error.strerror}") from error
        except RecursionError as error:
            raise InputError(f"{path}: not valid YAML: nested too deeply") from error
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that there is not
            mark = getattr(error, "problem_mark", None)
            where = f"line {mark.line + 1}: " if mark else ""
            said = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise InputError(f"{path}: not valid YAML: {where}{said}") from error

    def find(self, key: str) -> Any:
        """A value as it is; None where there is none."""
        value = self._values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """A value of a kind: str, bool, int, float. Needed where there is no default."""
        value = self.find(key)
        if value is None:
            if default is None:
                raise InputError(f"{self.path}: {key} is missing")
            return default
        if kind in (int, float) and not isinstance(value, bool):
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                number = float(value)  # YAML takes 1e-4, without a point, for a text
                if kind is float or number.is_integer():
                    return kind(number)
        elif type(value) is kind:
            return value
        raise InputError(f"{self.path}: {key}: {value!r} is not {_KINDS[kind]}")

    def names(self, key: str) -> list[str]:
        """A list of texts; a single one counts, and so does none."""
        value = self.find(key)
        value = [] if value is None else value if isinstance(value, list) else [value]
        return [str(item) for item in value]

    def refuse(self, key: str, reason: str) -> InputError:
        return InputError(f"{self.path}: {key} is {_shown(self.find(key))}: {reason}")

    def only(self, key: str, kind: type, allowed: Any, default: Any = None) -> None:
        """Raises unless a value is the one that we have."""
        value = self.get(key, kind, default)
        if value != allowed:
            raise self.refuse(key, f"only {_shown(allowed)} can be imported")


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_KINDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
