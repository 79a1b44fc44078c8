"""A folder with a published checkpoint: its files, and what `drm export` adds for `drm import`."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drm_jax.config import PARTS, Experiment, from_json
from drm_jax.errors import InputError, UsageError
from drm_jax.puzzles.arc.files import read_json
from drm_jax.references import is_reference

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
OPTIONS = "all_config.yaml"
IDENTIFIERS = "identifiers.json"
TRAINED_ON = "trained_on.json"
ABOUT = "drm_jax"
"""The key of config.json under which `drm export` tells of the run."""


@dataclasses.dataclass(frozen=True)
class Files:
    """A published checkpoint, as far as its folder tells."""

    checkpoint: Path
    options: Path
    identifiers: Path | None = None
    about: Path | None = None
    """The config.json of a folder that `drm export` wrote, which tells what follows."""
    step: int | None = None
    experiment: dict[str, Any] | None = None
    """Of the run, as config.json has it: `experiment_of` makes it one."""
    trained_on: tuple[str, ...] = ()
    """Digests of what it was trained on."""


def find_files(path: Path, options: Path | None, identifiers: Path | None) -> Files:
    """The files of a checkpoint that is named by itself, or by its folder.

    Args:
      options, identifiers: as they were named; None: not.

    Raises:
      InputError: they can't be found, or are not what they should be.
      UsageError: a file needs its options named.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file: name the published checkpoint")
    if not path.is_dir():
        if options is None:
            raise UsageError(f"{path}: name its options, --config {OPTIONS}; or name a folder")
        return Files(path, options, identifiers)
    own = path / IDENTIFIERS
    found = Files(
        _weights_in(path), options or path / OPTIONS, identifiers or (own if own.exists() else None)
    )
    about = _about(path / CONFIG) if options is None else None
    if about is None:
        return found
    trained_on = path / TRAINED_ON
    return dataclasses.replace(
        found,
        about=path / CONFIG,
        step=about["step"],
        experiment=about["experiment"],
        trained_on=tuple(read_json(trained_on)) if trained_on.exists() else (),
    )


def _weights_in(folder: Path) -> Path:
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_file() and re.fullmatch(rf"{re.escape(WEIGHTS)}|step_\d+(\.\w+)?", path.name)
    )
    if len(names) != 1:
        what = f"several checkpoints ({', '.join(names)})" if names else "no checkpoint"
        raise InputError(
            f"{folder}: holds {what}: name the file, {WEIGHTS} or step_N, and --config"
        )
    return folder / names[0]


def _about(path: Path) -> dict[str, Any] | None:
    """What `drm export` wrote of the run; None where it wrote nothing there."""
    if not path.exists():
        return None
    about = read_json(path)
    about = about.get(ABOUT) if isinstance(about, dict) else None
    if about is None:
        return None
    fine = isinstance(about, dict) and isinstance(about.get("experiment"), dict)
    if not fine or type(about.get("step")) is not int:
        raise InputError(f"{path}: {ABOUT}: must hold a step and an experiment")
    return about


def experiment_of(files: Files, sources: Mapping[str, tuple[str, ...]]) -> Experiment:
    """The experiment of a folder that `drm export` wrote.

    Args:
      sources: of puzzles, by train and evaluate, where they are others than there.

    Raises:
      InputError: it isn't one; or it names code, which an import doesn't load.
    """
    path, tree = files.about, dict(files.experiment)
    data = tree.get("data")
    if isinstance(data, dict):
        tree["data"] = data | {name: list(of) for name, of in sources.items()}
    for part, known in PARTS.items():
        kind = tree[part].get("type") if isinstance(tree.get(part), dict) else None
        if kind not in known:
            raise InputError(f"{path}: {part} is {kind}, not one of {', '.join(known)}")
    named = next((text for text in _texts(tree) if is_reference(text)), None)
    if named is not None:
        raise InputError(
            f"{path}: names code, {named}, which an import doesn't load: where it is a source of "
            "puzzles, name others with --train and --evaluate"
        )
    try:
        return from_json(json.dumps(tree))
    except UsageError as error:
        raise InputError(f"{path}: {error}") from error


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for inner in tree.values() if isinstance(tree, dict) else tree:
            yield from _texts(inner)
