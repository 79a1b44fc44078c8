"""`drm export`: a checkpoint of a work directory becomes a folder as the published code and model
hubs expect it; `drm import` in reverse.

config.json -> the published options         what has no counterpart is refused first
checkpoint  -> averaged network, constants, puzzle rows -> tensors by published names
puzzle ids  -> identifiers.json              the run's files -> README.md
"""

import dataclasses
import filecmp
import functools
import json
import math
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from rich.console import Console

from drm_jax import __version__
from drm_jax.config import Experiment, to_json
from drm_jax.errors import InputError, UsageError
from drm_jax.io import checkpoint
from drm_jax.io.files import is_remote, write_whole
from drm_jax.parallel.mesh import make_mesh
from drm_jax.published.card import Exported, card
from drm_jax.published.counterpart import Counterpart, check_counterpart, counterpart_of, mixer_of
from drm_jax.published.folder import ABOUT, CONFIG, IDENTIFIERS, OPTIONS, TRAINED_ON, WEIGHTS
from drm_jax.published.puzzles import first_row, names_rows
from drm_jax.published.torch_files import Format, load_package, write_tensors
from drm_jax.published.weights import CODES, Layout, to_published
from drm_jax.puzzles.arc.identifiers import names_of, read_identifiers
from drm_jax.run.evaluation import check_checkpoints
from drm_jax.run.history import read_history
from drm_jax.run.setup import set_up
from drm_jax.run.start import check_fingerprint, target_of_other
from drm_jax.run.workdir import kept_path, read_config
from drm_jax.words import bytes_in_words, counted

Say = Callable[[str], None]
_CARD = "README.md"
_COMPILED = "_orig_mod.model."
"""Before each name in a file of the published training script, which compiles the network."""


def export_published(
    workdir: epath.Path,
    form: Format,
    console: Console,
    *,
    output: epath.Path | None = None,
    step: int | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a checkpoint's averaged weights as a folder that the published code and hubs read.

    Args:
      workdir: from `io.files.work_path`.
      form: of the file of weights.
      output: the folder; WORKDIR/export/step_N_FORM where None.
      step: of the checkpoint; the newest good one where None.
      licence: an id for the card, which the run's files don't tell.
      overwrite: replace files of other content in the folder.

    Raises:
      InputError: there is no such checkpoint, the folder has a file of other content, or the
        puzzles can't be loaded whose ids must be named.
      UsageError: the published code has no counterpart of the experiment, or a package is missing.
    """
    say = functools.partial(console.print, soft_wrap=True)
    experiment = read_config(workdir)
    check_counterpart(experiment)
    _check_place(workdir, output)
    for package, pip_name in ((form, None), ("yaml", "pyyaml")):
        load_package(package, Path(output or workdir), "write", pip_name)
    check_checkpoints(workdir)
    mesh = make_mesh(jax.devices()[:1])
    restored = _restored(workdir, step, mesh, say)
    ours = counterpart_of(
        experiment,
        restored.record.get("published", {}).get("code"),
        _num_rows(experiment, restored),
        _computed_in(experiment, workdir),
    )
    layout = _layout(restored, ours, form)
    tensors = _tensors(experiment, layout, restored)
    name = f"step_{restored.step}" if form == "torch" else WEIGHTS
    texts = _texts(experiment, restored, ours, layout)
    texts |= _identifiers(experiment, workdir, restored, mesh, say)
    about = _exported(experiment, workdir, restored, ours, layout, tensors, licence)
    texts[_CARD] = card(dataclasses.replace(about, files=_purposes(name, texts))).encode()
    folder = Path(output or workdir / "export" / f"step_{restored.step}_{form}")
    written = _write(folder, name, tensors, texts, form, overwrite, say)
    for line in _summary(about, folder, written):
        say(line)


def _check_place(workdir: epath.Path, output: epath.Path | None) -> None:
    place = output or workdir
    if is_remote(place):
        raise UsageError(
            f"--output: {place} is a bucket: name a folder of this machine, and copy it from there"
        )
    if output is None:
        return
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output: {output} is a file: name a folder")
    if (output / "run.json").exists():
        raise UsageError(f"--output: {output} is the work directory of a run: name another folder")


# --- what is exported -----------------------------------------------------------------------------
def _restored(workdir: epath.Path, step: int | None, mesh: Mesh, say: Say) -> checkpoint.Restored:
    target = functools.partial(target_of_other, mesh)
    if step is None:
        restored = checkpoint.restore_newest(workdir, target, False, say)
    else:
        restored = checkpoint.restore(workdir, checkpoint.existing_step(workdir, step), target)
    say(f"Checkpoint of step {restored.step} in {workdir}: read, and as it was saved")
    return restored


def _num_rows(experiment: Experiment, restored: checkpoint.Restored) -> int:
    """Rows of the published puzzle table."""
    return restored.record["num_ids"] - (first_row(experiment.data) or 0)


def _computed_in(experiment: Experiment, workdir: epath.Path) -> str | None:
    """The type that the run was computed in when it last started, as far as its files tell."""
    told = [line["dtype"] for line in read_history(workdir) if "dtype" in line]
    named = experiment.model.dtype
    return told[-1] if told else None if named == "auto" else named


def _layout(restored: checkpoint.Restored, ours: Counterpart, form: Format) -> Layout:
    """The one that the checkpoint was imported in. Else names as the form's readers take them: the
    published training script, or the network's class."""
    kept = restored.record.get("published")
    if kept is not None:
        return Layout(**kept)
    return Layout(ours.code, _COMPILED if form == "torch" else "")


def _tensors(
    experiment: Experiment, layout: Layout, restored: checkpoint.Restored
) -> dict[str, np.ndarray]:
    state, model = restored.state, experiment.model
    first = first_row(experiment.data) or 0
    rows_NxD = np.asarray(state["table"])[first : restored.record["num_ids"]]
    constants = {name: np.asarray(x) for name, x in state["constants"].items()}
    return to_published(layout, model.layers, mixer_of(model), state["ema"], constants, rows_NxD)


def _texts(
    experiment: Experiment, restored: checkpoint.Restored, ours: Counterpart, layout: Layout
) -> dict[str, bytes]:
    """The small files but for the card, by name."""
    about = {
        "version": __version__,
        "step": restored.step,
        "experiment": json.loads(to_json(experiment)),
    }
    trained_on = json.dumps(restored.record["trained_on"])
    return {
        CONFIG: (json.dumps({**ours.network, ABOUT: about}, indent=2) + "\n").encode(),
        OPTIONS: (layout.options or _options_text(ours, restored.step)).encode(),
        TRAINED_ON: (trained_on + "\n").encode(),
    }


def _options_text(ours: Counterpart, step: int) -> str:
    import yaml

    return (
        "# Written by drm export, for the published code. The run counted steps, not epochs: 1 "
        f"stands there\n# since the code needs a number. The weights had {counted(step, 'step')}.\n"
    ) + yaml.safe_dump(dict(ours.options), sort_keys=False)


def _identifiers(
    experiment: Experiment,
    workdir: epath.Path,
    restored: checkpoint.Restored,
    mesh: Mesh,
    say: Say,
) -> dict[str, bytes]:
    """identifiers.json, where puzzles have rows of their own.

    Raises:
      InputError: the tasks can't be loaded, or are not those of the checkpoint.
    """
    data, num_ids = experiment.data, restored.record["num_ids"]
    if not names_rows(data):
        return {}
    if data.identifiers is not None:
        (name, original), *_ = data.kept_files.items()
        path = kept_path(workdir, name, original)
        if len(read_identifiers(path)) != num_ids:
            raise InputError(
                f"{path}: doesn't name the {counted(num_ids, 'row')} of the checkpoint's puzzle "
                "table: bring back the file that the run began with"
            )
        return {IDENTIFIERS: path.read_bytes()}
    say(f"Loading the tasks, to name {counted(num_ids, 'puzzle row')}")
    setup = set_up(experiment, mesh, workdir=workdir)
    check_fingerprint(setup, workdir, restored)
    return {IDENTIFIERS: (json.dumps(names_of(setup.puzzles.ids)) + "\n").encode()}


# --- the card -------------------------------------------------------------------------------------
def _exported(
    experiment: Experiment,
    workdir: epath.Path,
    restored: checkpoint.Restored,
    ours: Counterpart,
    layout: Layout,
    tensors: Mapping[str, np.ndarray],
    licence: str | None,
) -> Exported:
    table = tensors[layout.wrapper + CODES[layout.code].table]
    numbers = sum(
        math.prod(array.shape)
        for name, array in tensors.items()
        if name.removeprefix(layout.wrapper) not in layout.others
    )
    return Exported(
        workdir=workdir,
        experiment=experiment,
        step=restored.step,
        layout=layout,
        numbers=numbers - table.size,
        rows=len(table),
        files={},
        network=ours.network,
        notes=ours.notes,
        licence=licence,
    )


_PURPOSES = {
    CONFIG: "what the network's class is constructed with; all options of the run under `drm_jax`",
    OPTIONS: "the options of the published code's training script",
    IDENTIFIERS: "the name of each row of the puzzle table",
    TRAINED_ON: "digests of the puzzles that it was trained on, by which drm_jax knows them again",
}


def _purposes(name: str, texts: Mapping[str, bytes]) -> dict[str, str]:
    """What each file is for, by name."""
    return {name: "the weights"} | {of: _PURPOSES[of] for of in _PURPOSES if of in texts}


# --- files ----------------------------------------------------------------------------------------
def _write(
    folder: Path,
    name: str,
    tensors: Mapping[str, np.ndarray],
    texts: Mapping[str, bytes],
    form: Format,
    overwrite: bool,
    say: Say,
) -> list[tuple[Path, str]]:
    """Writes all files, or none where one of other content is there; each path, and what was done.

    Raises:
      InputError: see above; or the file of weights can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(array.nbytes for array in tensors.values())
    say(f"Writing {name}: {counted(len(tensors), 'tensor')}, {bytes_in_words(size)}")
    half = folder / f".{name}.{os.getpid()}.half"
    try:
        _write_half(half, folder / name, tensors, form)
        found = {of: _is_there(folder / of, text) for of, text in texts.items()}
        found[name] = _is_there(folder / name, half)
        others = [str(folder / of) for of, same in found.items() if same is False]
        if others and not overwrite:
            raise InputError(
                f"{others[0]}: is there with other content ({counted(len(others), 'such file')}): "
                "name another --output, or say --overwrite"
            )
        if found[name] is not True:
            half.replace(folder / name)
        for of, text in texts.items():
            if found[of] is not True:
                write_whole(epath.Path(folder / of), text)
    finally:
        half.unlink(missing_ok=True)
    done = {True: "was there, the same", False: "overwritten", None: ""}
    return [(folder / of, done[found[of]]) for of in (name, *texts)]


def _write_half(half: Path, path: Path, tensors: Mapping[str, np.ndarray], form: Format) -> None:
    try:
        write_tensors(half, tensors, form)
    except OSError:
        raise
    except Exception as error:  # torch and safetensors have errors of their own for a full disk
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise InputError(f"{path}: can't be written: {first}") from error


def _is_there(path: Path, content: bytes | Path) -> bool | None:
    """Whether a file has this content, or that of another file; None where it isn't there."""
    if not path.exists():
        return None
    if isinstance(content, Path):
        return filecmp.cmp(path, content, shallow=False)
    return path.read_bytes() == content


def _summary(about: Exported, folder: Path, written: list[tuple[Path, str]]) -> list[str]:
    lines = [
        f"{about.experiment.name}, step {about.step:,}: averaged weights, {about.numbers:,} "
        f"numbers of the network and {counted(about.rows, 'puzzle row')}, as "
        f"{about.network['name']}"
    ]
    lines += about.notes
    if about.licence is None:
        lines.append("The card names no licence, since the run's files don't: say --license ID")
    if not about.is_scored:
        lines.append("The card has no score, since this step was not scored")
    lines.append(f"\nWritten to {folder}:")
    for path, done in sorted(written, key=lambda of: of[0].name != _CARD):
        lines.append(f"  {path}{f' ({done})' if done else ''}")
    again = shlex.join(
        ["drm", "import", str(folder), "--workdir", f"runs/{about.experiment.name}_2"]
    )
    lines += [
        f"\nRead {_CARD} before you publish it: it names your sources of puzzles and your command.",
        "Next:",
    ]
    if not about.is_scored:
        score = shlex.join(["drm", "eval", str(about.workdir), "--step", str(about.step)])
        lines.append(f"  {score}    and export again with --overwrite")
    return [*lines, f"  {again}"]
