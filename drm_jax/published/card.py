"""README.md of an exported checkpoint: what its run's own files say, and what they don't."""

import dataclasses
import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from drm_jax import __version__
from drm_jax.config import Experiment, part_name
from drm_jax.evaluate.files import evaluations
from drm_jax.evaluate.tables import is_shown
from drm_jax.published.counterpart import sources_of
from drm_jax.published.folder import WEIGHTS
from drm_jax.published.weights import Layout
from drm_jax.run.history import read_history
from drm_jax.words import counted

_PAPERS = {
    "drm": "Denoising Recursion Model (arXiv 2604.18839)",
    "trm": "Tiny Recursion Model (arXiv 2510.04871)",
    "sprm": "Tiny Recursion Model with noise on its carried latents (SPRM, arXiv 2604.18839)",
}
"""What each method is, by its name."""
_COUNTS = ("tasks", "test_inputs", "candidates", "votes")


@dataclasses.dataclass(frozen=True)
class Exported:
    """What a card is about."""

    workdir: epath.Path
    experiment: Experiment
    step: int
    layout: Layout
    numbers: int
    """Of the network."""
    rows: int
    """Of the puzzle table."""
    files: Mapping[str, str]
    """What each file of the folder is, by name; the weights first."""
    network: Mapping[str, Any]
    """What the published network's class is constructed with."""
    notes: Sequence[str]
    """Where the published code would differ."""
    licence: str | None

    @property
    def is_scored(self) -> bool:
        return self.step in evaluations(self.workdir)


def card(about: Exported) -> str:
    """The text of README.md, with the front matter that model hubs read."""
    import yaml

    method, data = (part_name(part, getattr(about.experiment, part)) for part in ("method", "data"))
    front = {} if about.licence is None else {"license": about.licence}
    front |= {"library_name": "drm_jax", "tags": ["drm_jax", method, data]}
    heading = f"{about.experiment.name}, step {about.step:,}"
    what = (
        f"A {_PAPERS[method]} for puzzles of the family {data}, exported by drm_jax {__version__}: "
        f"{about.numbers:,} numbers of the network (its averaged weights), and "
        f"{counted(about.rows, 'puzzle row')}."
    )
    sections = {
        "Files": _files(about),
        "Use": _use(about),
        "Data": _data(about),
        "Training": _training(about),
        "Scores": _scores(about),
        "Licence": [about.licence or "Not stated."],
    }
    body = [f"# {heading}", what]
    for title, lines in sections.items():
        body += [f"## {title}", *lines]
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n" + "\n\n".join(body) + "\n"


def _files(about: Exported) -> Iterator[str]:
    yield "\n".join(f"- `{name}`: {what}" for name, what in about.files.items())


def _use(about: Exported) -> Iterator[str]:
    yield "In drm_jax, to score it and to train on:"
    yield "    drm import FOLDER --workdir runs/imported\n    drm eval runs/imported"
    yield "In the published code:"
    yield _example(about)
    if about.notes:
        yield "Where the published code differs:"
        yield "\n".join(f"- {note}." for note in about.notes)


def _example(about: Exported) -> str:
    """How the published code loads the weights."""
    name, (module, _, cls) = next(iter(about.files)), about.network["name"].partition("@")
    loaded = (
        ("from safetensors.torch import load_file", f'load_file("FOLDER/{name}")')
        if name == WEIGHTS
        else ("import torch", f'torch.load("FOLDER/{name}", map_location="cpu")')
    )
    bare = f'{{name.removeprefix("{about.layout.wrapper}"): x for name, x in tensors.items()}}'
    lines = [
        "import json",
        loaded[0],
        f"from models.{module} import {cls}",
        "",
        f'network = {cls}(json.load(open("FOLDER/config.json")))',
        f"tensors = {loaded[1]}",
        f"network.load_state_dict({bare if about.layout.wrapper else 'tensors'}, assign=True)",
    ]
    if about.layout.others:
        lines[-1] = lines[-1].replace("assign=True", "assign=True, strict=False")
    return "\n".join(f"    {line}" if line else "" for line in lines)


def _data(about: Exported) -> Iterator[str]:
    data, imported = about.experiment.data, about.layout.file
    if imported is not None:
        yield (
            f"These weights were imported from the published file `{imported}`; what they were "
            "trained on is known only from the options beside it."
        )
    rows = [(name, ", ".join(getattr(data, name))) for name in ("train", "evaluate")]
    if not sources_of(data):
        rows = [("puzzles", "made from a seed")]
    rows += [
        (field.name, _shown(getattr(data, field.name)))
        for field in dataclasses.fields(data)
        if field.name not in ("train", "evaluate", "identifiers")
        and getattr(data, field.name) != field.default
    ]
    yield _table(("option of the data", "value"), rows)
    yield "`config.json` has all options of the run, under `drm_jax`."


def _training(about: Exported) -> Iterator[str]:
    train = about.experiment.train
    lines = read_history(about.workdir)
    begun = max((i for i, line in enumerate(lines) if line["event"] == "anew"), default=-1)
    lines = [line for line in lines[begun + 1 :] if line.get("step", 0) <= about.step]
    starts = [line for line in lines if line["event"] == "start"]
    if about.layout.file is None or starts:
        yield (
            f"Step {about.step:,} of {counted(train.steps, 'step')} of "
            f"{counted(train.batch_size, 'example')}, seed {about.experiment.seed}."
        )
    if any(line["event"] == "import" for line in lines):
        imported = next(line for line in lines if line["event"] == "import")
        yield f"The run began with step {imported['step']:,}, imported from `{imported['from']}`."
    if about.experiment.init_from is not None:
        yield f"It began with the weights of another run, `{about.experiment.init_from}`."
    command = next((_command(line) for line in starts if "from" in line), None)
    yield f"    {command}" if command else "The command is not in the run's history."
    made = [
        f"- step {line['step']:,}: `{name}` was {_shown(was)}, is {_shown(now)}"
        for line in lines
        if line["event"] == "change"
        for name, (was, now) in line["changed"].items()
    ]
    if made:
        yield "Changed within the run:\n\n" + "\n".join(made)
    names = ("devices", "dtype", "drm_jax", "jax", "python")
    used = dict.fromkeys(tuple(str(line.get(name, "?")) for name in names) for line in starts)
    if used:
        yield _table(("devices", "computed in", "drm_jax", "jax", "Python"), list(used))


def _command(start: Mapping[str, Any]) -> str:
    """The command that a line of the history tells of."""
    words = ["drm", "train", str(start["from"])]
    for name, (_, value) in start.get("changed", {}).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            group, dot, last = option.removeprefix("--").rpartition(".")
            words.append(option if value else f"--{group}{dot}no-{last}")
        else:
            words += [option, *([_shown(x) for x in value] if isinstance(value, list) else [])]
            words += [] if isinstance(value, list) else [_shown(value)]
    return shlex.join(words)


def _scores(about: Exported) -> Iterator[str]:
    folder = evaluations(about.workdir).get(about.step)
    if folder is None:
        yield "This step was not scored in its run."
        return
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    rows = [(name, f"{metrics[name]:,}") for name in _COUNTS if name in metrics]
    rows += [
        (name, f"{value:.1%}")
        for name, value in metrics.items()
        if isinstance(value, float) and math.isfinite(value) and is_shown(name, metrics)
    ]
    yield f"Of this one checkpoint, on the data's `evaluate` (`{folder.name}` of the run):"
    yield _table(("", "value"), rows)
    settings = metrics.get("evaluate", {}) | metrics.get("denoising", {})
    told = ("denoise_steps", "num_augmentations", *metrics.get("denoising", {}))
    yield "Settings of the test: " + ", ".join(
        f"{name} {_shown(settings[name])}" for name in told if name in settings
    ) + "."  # fmt: skip
    if metrics.get("best_checkpoints_selected_on_test_labels"):
        yield (
            "The run keeps its best checkpoints by their score on these labelled tests: to quote "
            "the best of them selects on test labels."
        )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(_shown, value)) or "none"
    if value is None:
        return "by default"
    return value if isinstance(value, str) else json.dumps(value)
