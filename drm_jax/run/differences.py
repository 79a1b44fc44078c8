"""The options of runs in words, and those in which runs differ."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from drm_jax.config import PARTS, Experiment, part_name
from drm_jax.words import first_few


def differing_options(experiments: Sequence[Experiment]) -> dict[str, list[str]]:
    """What each experiment has of every option in which two of them differ, in words.

    By dotted name, in the order of the configuration; an experiment's name is left out. An option
    that an experiment doesn't have, since its method is another one, is "–" there. Options of
    different families of puzzles aren't compared: they mean different things.
    """
    of_each = [options_of(experiment) for experiment in experiments]
    families, found = {options["data"] for options in of_each}, {}
    for name in dict.fromkeys(name for options in of_each for name in options):
        if len(families) > 1 and name.startswith("data."):
            continue
        first, *others = [options[name] for options in of_each if name in options]
        if name != "name" and any(other != first for other in others):
            found[name] = [in_words(of[name]) if name in of else "–" for of in of_each]
    return found


def options_of(config: Any, prefix: str = "") -> dict[str, Any]:
    """All options of an experiment by dotted name; for a part of it, such as data, its kind."""
    options = {}
    for field in dataclasses.fields(config):
        name, value = f"{prefix}{field.name}", getattr(config, field.name)
        if name in PARTS:
            options[name] = part_name(name, value)
        if dataclasses.is_dataclass(value):
            options |= options_of(value, f"{name}.")
        elif name not in PARTS:
            options[name] = value
    return options


def in_words(value: Any) -> str:
    """An option's value; of a long list the first ones."""
    if value is None:
        return "not set"
    if isinstance(value, tuple):
        return first_few(list(map(plain, value)), 8) or "none"
    return f"{value:,}" if type(value) is int else plain(value)


def plain(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
