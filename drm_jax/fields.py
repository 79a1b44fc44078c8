"""Types of the fields of a configuration, and how they are checked."""

import dataclasses
import functools
import reprlib
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from drm_jax.errors import UsageError
from drm_jax.references import did_you_mean, is_reference

MAX_NUMBER = 2**31 - 1
"""No count or rate may be larger: devices count steps in int32."""
MAX_BATCH = 2**20
NUM_LEVELS = 1000
"""Noise levels. A path back, in training or in denoising, can't have more steps."""

Count = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
CountOrZero = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
Rate = Annotated[float, Meta(ge=0, le=MAX_NUMBER)]
Share = Annotated[float, Meta(ge=0, le=1)]
Decay = Annotated[float, Meta(ge=0, lt=1)]
Batch = Annotated[int, Meta(ge=1, le=MAX_BATCH)]


_ADDED = "added"


def added(default: Any) -> Any:
    """A field that earlier versions did not have: `stable_repr` leaves it out at its default."""
    return dataclasses.field(default=default, metadata={_ADDED: True})


def stable_repr(config: Any) -> str:
    """The repr of a dataclass without `added` fields at their defaults. Digests of options are
    made of it, so that a run of an earlier version can go on."""
    if not dataclasses.is_dataclass(config):
        return repr(config)
    values = {field: getattr(config, field.name) for field in dataclasses.fields(config)}
    shown = [
        f"{field.name}={stable_repr(value)}"
        for field, value in values.items()
        if field.repr and not (_ADDED in field.metadata and value == field.default)
    ]
    return f"{type(config).__qualname__}({', '.join(shown)})"


def check_fields(config: Any, where: str = "") -> None:
    """Whether each field of a dataclass holds what its annotation says; for `__post_init__`.

    Args:
      where: the name of this part of an experiment, for errors.

    Raises:
      UsageError: one doesn't; the message names it.
    """
    for name, hint in field_hints(type(config)).items():
        _check_value(hint, getattr(config, name), f"{where}.{name}" if where else name)


def check(holds: bool, field: str, message: str) -> None:
    """Raises UsageError, with the field's name before the message, unless it holds."""
    if not holds:
        raise UsageError(f"{field}: {message}")


def check_name(value: str, field: str, built_in: Mapping[str, Any]) -> None:
    """Raises UsageError unless a value is a built-in name or a reference package.module:name."""
    check(
        value in built_in or is_reference(value),
        field,
        f"{value!r} is not one of {', '.join(built_in)}, and not a reference "
        f"package.module:function{did_you_mean(value, built_in)}",
    )


@functools.cache
def field_hints(cls: type) -> dict[str, Any]:
    """The annotation of each field of a dataclass, by name."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


# Cuts long values short, and does not recurse into deep ones.
shown = reprlib.repr


def _check_value(hint: Any, value: Any, where: str) -> None:
    """A file in Python may hold anything: a text where a tuple of texts belongs, no number, …"""
    if hint is Any:
        return
    if dataclasses.is_dataclass(hint):
        check(isinstance(value, hint), where, f"must be {hint.__name__}, not {shown(value)}")
        return
    if typing.get_origin(hint) is tuple:  # a list would do for msgspec
        check(isinstance(value, tuple), where, f"must be a tuple, not {shown(value)}")
    convert(hint, value, where)


def convert(hint: Any, value: Any, where: str) -> Any:
    """A value of plain types as the annotation wants it: a tuple of a list, a float of an int."""
    try:
        return msgspec.convert(value, hint, strict=True)
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        raise UsageError(f"{where}: {_reason(hint, error)}, not {shown(value)}") from error


def _reason(hint: Any, error: Exception) -> str:
    words = [w for part in (hint, *typing.get_args(hint)) if typing.get_origin(part) is Literal
             for w in typing.get_args(part)]  # fmt: skip
    text = str(error).split(" - at ")[0].split(", got ")[0]
    if text.startswith("Expected"):
        text = text.replace("Expected", "must be").replace("`", "").replace(" | null", " or null")
        text = text.replace("must be str", "must be one of " + ", ".join(words)) if words else text
        return text.replace("array", "a list")
    if not words:
        return "is out of range: must be less"
    # of a union; Annotated[int, …] has int as its origin
    others = [part for part in map(_plain, typing.get_args(hint)) if part in (int, float)]
    return f"must be {' or '.join(['one of ' + ', '.join(words), *(t.__name__ for t in others)])}"


def _plain(hint: Any) -> Any:
    return getattr(hint, "__origin__", hint)
