"""`drm import`: a published PyTorch checkpoint becomes a checkpoint of a work directory.

file, all_config.yaml -> Experiment -> tasks, ids      all is checked before anything is written
folder of drm export  -> the run's own Experiment
weights -> params and average, table -> rows           moments, carry: fresh; step: the file's
identifiers.json, checkpoint, config.json last         a kill in between: the same command again
"""

import contextlib
import dataclasses
import functools
import math
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from rich.console import Console

from drm_jax.config import Experiment, Train, part_name
from drm_jax.errors import InputError, UsageError
from drm_jax.io import checkpoint, lock
from drm_jax.io.checksums import checksums
from drm_jax.io.files import make_folder, reaching, remove_halves, write_whole
from drm_jax.model.backbone import Params
from drm_jax.parallel.puzzle_table import padded_rows
from drm_jax.published.config import read_experiment
from drm_jax.published.counterpart import counterpart_of, mixer_of
from drm_jax.published.folder import IDENTIFIERS, Files, experiment_of, find_files
from drm_jax.published.puzzles import Data, FamilyName, first_row, names_rows
from drm_jax.published.weights import (
    Published,
    code_of,
    layout_of,
    open_published,
    puzzle_rows,
    read_network,
)
from drm_jax.run import history
from drm_jax.run.loop import describe
from drm_jax.run.setup import Setup, set_up
from drm_jax.run.workdir import changes_of, check_claim, claim, read_config
from drm_jax.training.state import TrainState, abstract_state, mean_row, start_from
from drm_jax.words import counted


def import_published(
    path: Path,
    config: Path | None,
    workdir: epath.Path,
    console: Console,
    *,
    identifiers: Path | None = None,
    reset_puzzle_table: bool = False,
    step: int | None = None,
    name: str | None = None,
    family: FamilyName | None = None,
    train: Sequence[str] | None = None,
    evaluate: Sequence[str] | None = None,
    canvas: int | None = None,
) -> None:
    """Writes the checkpoint of a published run, which `drm eval` and `drm train` can use.

    A second one of the same run, of another step, may join the first in its work directory.

    Args:
      path: a file made by torch.save, or safetensors; or a folder with one and what belongs to it.
      config: the run's all_config.yaml; that of the folder where None.
      workdir: from `io.files.work_path`.
      identifiers: the dataset's identifiers.json, the names of the puzzle table's rows.
      reset_puzzle_table: instead of it, draw puzzle ids and begin every row with the mean row.
      step: training steps done; the file's name, step_N, tells them where None.
      name: of the experiment; that of the work directory where None.
      family: of puzzles; needed where neither file tells it.
      train, evaluate: sources of puzzles; where None, those of the dataset that the config names.
      canvas: cells along a side; needed where no file tells it.

    Raises:
      InputError: a file can't be used, or the checkpoint's place is taken.
      UsageError: options that can't be combined, or another run in the work directory.
    """
    files = find_files(path, config, identifiers)
    say = functools.partial(console.print, soft_wrap=True)
    step = _step(files, step)
    name = Experiment(name or workdir.name, train=Train(steps=step)).name
    published = open_published(files.checkpoint)
    lists = identifiers if reset_puzzle_table else files.identifiers
    read = _read_own if files.experiment is not None else _read_published
    experiment, notes = read(
        files, published, name=name, step=step, family=family,
        identifiers=None if lists is None else str(lists.absolute()),
        train=train, evaluate=evaluate, canvas=canvas,
    )  # fmt: skip
    if names_rows(experiment.data):  # a folder may hold a list that names no row
        identifiers = lists
    _check_table_options(experiment.data, identifiers, reset_puzzle_table)
    experiment = _joined(workdir, experiment, identifiers)
    setup = set_up(experiment, workdir=workdir)
    _check_ids(identifiers, setup.puzzles.num_ids, published)
    say(describe(setup))
    incoming = _Incoming(published, step, identifiers, files.trained_on, _text_of(files.options))
    there = _join(setup, workdir, incoming, say)
    for line in _summary(setup, published, workdir, step, there, notes):
        say(line)


@dataclasses.dataclass(frozen=True)
class _Incoming:
    """A checkpoint that is imported."""

    published: Published
    step: int
    identifiers: Path | None
    trained_on: tuple[str, ...]
    """Digests, beside those of the puzzles that are loaded."""
    options: str | None
    """The text of its all_config.yaml."""


def _text_of(path: Path) -> str | None:
    """A file in UTF-8; None where it isn't there, or isn't."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_bytes().decode()


def _read_own(files: Files, published: Published, **given: Any) -> tuple[Experiment, list[str]]:
    """The experiment of a folder of `drm export`, and no notes; arguments as of `read_experiment`.

    Raises:
      InputError: it is none, or not of these weights.
      UsageError: an option is for folders of others.
    """
    for option, value in (("--data", given["family"]), ("--canvas", given["canvas"])):
        if value is not None:
            raise UsageError(f"{option}: {files.about} tells it: leave {option} out")
    sources = {of: tuple(given[of]) for of in ("train", "evaluate") if given[of] is not None}
    experiment = experiment_of(files, sources)
    data = experiment.data
    if names_rows(data):
        names = given["identifiers"]
        rows = data.rows_per_task if names is None else None  # they go with drawn ids alone
        data = dataclasses.replace(data, identifiers=names, rows_per_task=rows)
    train = dataclasses.replace(experiment.train, steps=given["step"])
    experiment = dataclasses.replace(experiment, name=given["name"], data=data, train=train)
    _check_own(experiment, files.about, published)
    return experiment, []


def _check_own(experiment: Experiment, about: Path, published: Published) -> None:
    """Raises InputError unless an experiment can be of these weights; sizes are compared later."""
    try:
        ours = counterpart_of(experiment, code_of(published), published.num_ids, None).network
    except UsageError as error:
        raise InputError(f"{about}: is not of {published.path}: {error}") from error
    says = (ours["L_layers"], mixer_of(experiment.model), ours["vocab_size"])
    has = (published.layers, published.mixer, published.vocab)
    if has != says:
        raise InputError(
            f"{about}: is not of {published.path}: layers, mixer and vocabulary are {says} in the "
            f"one and {has} in the other"
        )


def _read_published(
    files: Files, published: Published, **given: Any
) -> tuple[Experiment, list[str]]:
    return read_experiment(files.options, published, **given)


def _join(
    setup: Setup, workdir: epath.Path, incoming: _Incoming, say: Callable[[str], None]
) -> bool:
    """Saves the checkpoint in the work directory; True where it was there already."""
    experiment, step = setup.experiment, incoming.step
    state = _state(setup, incoming.published, step)
    make_folder(workdir)
    with lock.hold(workdir, say) as held:
        remove_halves(workdir)
        check_claim(workdir, experiment)
        there = _is_there(setup, workdir, step, state, say)
        if not there:
            _save(setup, workdir, incoming, state, held)
        claim(workdir, experiment, changes_of(workdir, experiment))
        if not there or not history.read_history(workdir):
            name = incoming.published.path.name
            history.note(workdir, {"event": "import", "step": step, "from": name})
    return there


def _check_table_options(data: Data, identifiers: Path | None, reset_puzzle_table: bool) -> None:
    if not names_rows(data):
        if identifiers is not None or reset_puzzle_table:
            option = "--reset-puzzle-table" if identifiers is None else "--identifiers"
            raise UsageError(
                f"{option} is for puzzles with rows of their own, as of ARC; this checkpoint has "
                f"one row for all puzzles, which is kept: leave out {option}"
            )
        return
    if (identifiers is None) == reset_puzzle_table:
        return
    raise UsageError(
        "a puzzle table belongs to a list of puzzles: name it, --identifiers identifiers.json "
        "of the published dataset, or begin with new rows, --reset-puzzle-table"
        if identifiers is None
        else "--identifiers keeps the puzzle table and --reset-puzzle-table doesn't: choose one"
    )


def _check_ids(identifiers: Path | None, num_ids: int, published: Published) -> None:
    """Raises InputError unless every row of the table that is kept has its name."""
    if identifiers is not None and num_ids != published.num_ids:
        raise InputError(
            f"{identifiers}: names {counted(num_ids, 'puzzle id')}, but the table in "
            f"{published.path} has {counted(published.num_ids, 'row')}: use the identifiers.json "
            "that it was trained with"
        )


def _save(
    setup: Setup, workdir: epath.Path, incoming: _Incoming, state: TrainState, held: lock.Lock
) -> None:
    """Writes the checkpoint, and before it the names of its rows."""
    if incoming.identifiers is not None:
        write_whole(workdir / IDENTIFIERS, incoming.identifiers.read_bytes())
    keeps_table = first_row(setup.experiment.data) is not None
    layout = layout_of(incoming.published, incoming.options, keeps_table)
    record = {
        "fingerprint": setup.fingerprint,
        "num_ids": setup.puzzles.num_ids,
        "trained_on": sorted({*setup.puzzles.trained_digests(), *incoming.trained_on}),
        "tests": setup.puzzles.tests_digest(),
        "interval": {},
        "published": dataclasses.asdict(layout),
    }
    with checkpoint.open_checkpoints(workdir, sys.maxsize, 0, {}) as saver:
        held.check()
        checkpoint.save(saver, incoming.step, state, record)
        checkpoint.finish(saver)


def _step(files: Files, step: int | None) -> int:
    """The step that was given, or that of the folder, or of a file called step_N."""
    file = files.checkpoint
    in_name = re.fullmatch(r"step_(\d{1,10})(\.\w+)?", file.name)
    told = int(in_name[1]) if files.step is None and in_name else files.step
    if step is None and told is None:
        raise UsageError(f"{file}: the name, unlike step_N, doesn't tell the steps: give --step N")
    return told if step is None else step


def _joined(workdir: epath.Path, experiment: Experiment, identifiers: Path | None) -> Experiment:
    """The experiment, made as long as that of the work directory, if there is one.

    Raises:
      UsageError: what is there is another experiment.
    """
    with reaching(workdir):
        if (workdir / "config.json").exists():
            before, kept = read_config(workdir), workdir / IDENTIFIERS
            new_before = first_row(before.data) is None
            if new_before != (first_row(experiment.data) is None):
                rows = "new rows" if new_before else "the published rows"
                raise UsageError(
                    f"{workdir}: holds a run with {rows} in its puzzle table: use another --workdir"
                )
            if identifiers is not None and kept.exists():
                if kept.read_bytes() != identifiers.read_bytes():
                    raise UsageError(
                        f"{workdir}: holds a run with other identifiers: use another --workdir"
                    )
                data = dataclasses.replace(experiment.data, identifiers=before.data.identifiers)
                experiment = dataclasses.replace(experiment, data=data)
            steps = max(experiment.train.steps, before.train.steps)
            longer = dataclasses.replace(experiment.train, steps=steps)
            experiment = dataclasses.replace(experiment, train=longer)
    check_claim(workdir, experiment)
    return experiment


def _state(setup: Setup, published: Published, step: int) -> TrainState:
    """A state as after `step` steps, but for moments and carry, which are fresh."""
    params, constants = read_network(published, setup.network)
    num_ids, width = setup.puzzles.num_ids, setup.network.hidden
    keeps_rows = first_row(setup.experiment.data) is not None

    def begin(params: Params, constants: Params, row_D: jax.Array) -> TrainState:
        fresh = setup.make_state()
        params = {**fresh.params, **params}  # files of TRM have no embed_answers
        state = start_from(fresh, params, params, constants, row_D, num_ids)
        state = state.replace(step=jnp.asarray(step, jnp.int32))
        return state.replace(table=None) if keeps_rows else state

    # The table first: it is the largest, and twice in memory while it is read.
    table, row_D, shardings = _table(setup, published), jnp.zeros(width), setup.shardings
    if keeps_rows:
        shardings = shardings.replace(table=None)
    else:
        row_D = jax.jit(mean_row, static_argnames="num_ids")(table, num_ids=published.num_ids)
        table = None
    state = jax.jit(begin, out_shardings=shardings)(params, constants, row_D)
    return state.replace(table=table) if keeps_rows else state


def _table(setup: Setup, published: Published) -> jax.Array:
    """The published puzzle table, padded as ours are; each device reads its own rows."""
    first = first_row(setup.experiment.data) or 0
    shape = (padded_rows(first + published.num_ids), setup.network.hidden)

    def rows_of_device(index: tuple[slice, ...]) -> np.ndarray:
        start, stop, _ = index[0].indices(shape[0])
        return puzzle_rows(published, start - first, stop - first)

    return jax.make_array_from_callback(shape, setup.shardings.table, rows_of_device)


def _is_there(
    setup: Setup, workdir: epath.Path, step: int, state: TrainState, say: Callable[[str], None]
) -> bool:
    """Whether this very checkpoint was imported before. If it was damaged since, it is set aside.

    Raises:
      InputError: another one has its place, or stands there without a config.json.
    """
    folder = checkpoint.checkpoint_folder(workdir)
    steps = checkpoint.steps_in(folder)
    others = sorted({*steps} - {step})
    if others and not (workdir / "config.json").exists():  # it could be of any run
        raise InputError(
            f"{folder / str(others[0])}: is of an import that was stopped: give that command again "
            "first, or use another --workdir"
        )
    if step not in steps:
        return False
    try:
        saved = checkpoint.read_record(workdir, step)["checksums"]
        for leaf, value in checksums(state).items():
            if leaf.startswith(("params/", "constants/", "table")) and saved.get(leaf) != value:
                raise InputError(
                    f"{folder / str(step)}: is another checkpoint of this step ({leaf} differs): "
                    "use another --workdir, or say which --step this one is of"
                )
        checkpoint.restore(workdir, step, abstract_state(setup.make_state, setup.shardings))
    except checkpoint.DamagedError as error:
        say(f"{error}; moved to {checkpoint.set_aside(workdir, step)}")
        return False
    return True


def _summary(
    setup: Setup,
    published: Published,
    workdir: epath.Path,
    step: int,
    there: bool,
    notes: Sequence[str],
) -> list[str]:
    """What was imported, where it lies, and what can be done with it."""
    experiment = setup.experiment
    numbers = sum(math.prod(t.shape) for t in published.tensors.values())
    rows = math.prod(published.tensors[published.naming.table].shape)
    table = f"the puzzle table of {counted(published.num_ids, 'row')}"
    if first_row(experiment.data) is None:
        new = setup.puzzles.num_ids - 1
        table = (
            f"the mean of {counted(published.num_ids - 1, 'puzzle row')} for "
            f"{counted(new, 'new id')}"
        )
    method = part_name("method", experiment.method)
    lines = [
        f"{published.path}: {'was imported before' if there else 'imported'} as step {step:,} of "
        f"{experiment.name}: {method}, {counted(len(published.tensors), 'tensor')}, "
        f"{numbers - rows:,} numbers of the network, {table}",
    ]
    if published.naming.answers is None:
        lines.append("It has no table of answer embeddings: drawn from the seed, and not used")
    lines += notes
    lines.append("Moments begin anew, and with them the warm-up of the network's learning rate")
    paths = [checkpoint.checkpoint_folder(workdir) / str(step), workdir / "config.json"]
    if first_row(experiment.data) == 0:  # else nothing names the rows
        paths.append(workdir / IDENTIFIERS)
    lines += [
        f"\n{'It lies in' if there else 'Written to'} {workdir}:",
        *(f"  {path}" for path in paths),
    ]
    longer = step + max(1, round(step / 10))
    lines += [
        "\nNext:",
        f"  drm eval {shlex.quote(str(workdir))} --step {step}",
        f"  drm train {shlex.quote(str(workdir))} --train.steps {longer}",
    ]
    return lines
