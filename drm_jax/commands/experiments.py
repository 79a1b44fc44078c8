"""What the first word of `drm train` and `drm plan` names, and options that replace its parts."""

import copy
import os
from collections.abc import Sequence

from drm_jax.commands.devices import import_jax
from drm_jax.config import PARTS, Experiment, make_part
from drm_jax.errors import UsageError
from drm_jax.experiment_files import load_experiment

PART_OPTIONS = [f"--{part}" for part in PARTS]
_KINDS = {"data": "family of puzzles", "method": "method", "model": "network"}
PARTS_HELP = (
    "\n".join(
        f"  --{part + ' NAME':14}another {_KINDS[part]}: {', '.join(names)}"
        for part, names in PARTS.items()
    )
    + """

A NAME may also be that of a class of your own, package.module:name. A method or network keeps the
options that the one before had too; a family of puzzles begins with its defaults."""
)
"""What there is to choose from, for the help of a command."""


def check_first(argv: Sequence[str], command: str, what: str) -> None:
    """Raises UsageError unless the command line begins with a name: options depend on it."""
    if not argv or argv[0].startswith("-"):
        raise UsageError(f"{command}: name {what}, then its options (see {command} --help)")


def read_experiment(name: str) -> tuple[Experiment, str]:
    """The experiment of a file or of a work directory, and where its run is kept by default.

    Raises:
      UsageError: it is no experiment file, and nothing that could be a work directory.
      InputError: it isn't there, or is a folder without a config.json that can be used.
    """
    import_jax()  # methods and networks need it
    if "://" not in name and not os.path.isdir(name):
        experiment = load_experiment(name)
        return experiment, f"runs/{experiment.name}"
    from drm_jax.io.files import work_path
    from drm_jax.run.workdir import read_config

    return read_config(work_path(name)), name


def choose_parts(experiment: Experiment, argv: Sequence[str]) -> tuple[Experiment, list[str]]:
    """An experiment with the parts that --data, --method and --model name, and the other words.

    Which options there are depends on the parts, so these come first.

    Raises:
      UsageError: there is no such part.
    """
    chosen, rest = copy.copy(experiment), []
    words = iter(argv)
    for word in words:
        option, equals, value = word.partition("=")
        if option not in PART_OPTIONS:
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        part = option.removeprefix("--")
        if not value or (not equals and value.startswith("-")):
            raise UsageError(f"{option}: name one of {', '.join(PARTS[part])}")
        # Not checked yet: other options may be what makes the parts go together.
        made = make_part(part, value, getattr(experiment, part))
        object.__setattr__(chosen, part, made)
    return chosen, rest
