"""The weights that an adaptation begins with: those of a run, or of a file of weights.

A file of weights is what others need of a run: its experiment, the averaged network, the mean of
its puzzle rows, and digests of what it was trained on. It holds no puzzle rows.
"""

import dataclasses
import io
import json
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from drm_jax.config import Experiment, from_json, to_json
from drm_jax.errors import InputError, UsageError
from drm_jax.io import checkpoint
from drm_jax.io.files import work_path, write_whole
from drm_jax.model.backbone import Params
from drm_jax.parallel.mesh import make_mesh
from drm_jax.puzzles.arc.puzzles import ArcPuzzles
from drm_jax.puzzles.arc.tokens import VOCABULARY
from drm_jax.puzzles.family import Family
from drm_jax.run.setup import Setup, load_puzzles
from drm_jax.run.start import check_network, target_of_other
from drm_jax.run.workdir import read_config
from drm_jax.solve.asked import Known
from drm_jax.training.state import TrainState, make_sharded, mean_row, start_from

Say = Callable[[str], None]
SUFFIX = ".npz"
SHIPPED = {
    name: epath.Path(__file__).parent / "shipped" / f"{name}{SUFFIX}"
    for name in ("small", "sudoku", "maze")
}
"""Files of weights in the package, by the names that stand for them: see docs/weights.md."""
_FORMAT = 1
_ABOUT, _ROW, _GROUPS = "about", "row", ("ema", "constants")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Where weights come from, looked at but not read yet."""

    path: epath.Path
    experiment: Experiment
    trained_on: Sequence[str]
    """Digests of what they were trained on, as `arc.leaks.trained_digests` gives."""
    num_ids: int
    """Puzzle ids of the run; 0 where its rows aren't kept."""


def find_source(name: str) -> Source:
    """The weights of a run by its work directory, of a file of weights, or of those `SHIPPED`.

    Raises:
      InputError: it is none of these, or can't be read.
    """
    path = SHIPPED[name] if name in SHIPPED else work_path(name, "--from")
    if path.name.endswith(SUFFIX):
        about, _ = _read_file(path)
        return Source(path, _experiment_in(path, about), about["trained_on"], 0)
    experiment = read_config(path)
    for step in reversed(checkpoint.steps_in(checkpoint.checkpoint_folder(path))):
        try:
            record = checkpoint.read_record(path, step)
        except checkpoint.DamagedError:  # told of where it is restored
            continue
        return Source(path, experiment, record["trained_on"], record["num_ids"])
    raise InputError(f"--from: {name}: holds no checkpoint that can be used; train it first")


def find_arc_source(name: str) -> Source:
    """As `find_source`, of a network for ARC tasks.

    Raises:
      UsageError: it is for other puzzles.
    """
    source = find_source(name)
    if not is_for_arc(source.experiment.data):
        raise UsageError(
            f"--from: {source.path}: its puzzles are not ARC tasks: name other weights"
        )
    return source


def is_for_arc(data: Family) -> bool:
    """Whether puzzles are ARC tasks."""
    return data.vocabulary == VOCABULARY and hasattr(data, "canvas")


def puzzles_of(source: Source, say: Say) -> ArcPuzzles | None:
    """The tasks that weights were trained with, where their rows are kept and their sources are
    there; `say` is told where these are not."""
    if not source.num_ids:
        return None
    try:
        puzzles = load_puzzles(source.experiment, source.path)
    except (InputError, UsageError) as error:
        say(f"No puzzle row of {source.path} is taken over: its tasks can't be loaded: {error}")
        return None
    return puzzles if puzzles.num_ids == source.num_ids else None


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """A network, and the puzzle rows to begin with."""

    network: Params
    constants: Params
    row_D: jax.Array | np.ndarray
    """For tasks that it doesn't know: the mean of all rows."""
    known_NxD: jax.Array | None = None
    """The rows of those that it knows."""


def read_weights(
    source: Source, state: TrainState, mesh: Mesh, known: Known | None, strict: bool, say: Say
) -> Weights:
    """Reads the averaged weights, and the rows of known tasks.

    Args:
      state: of the run that begins with them, or its shapes.

    Raises:
      InputError: they are of another network, or damaged.
    """
    if not source.num_ids:
        about, arrays = _read_file(source.path)
        check_network(state, source.path, about["shapes"], tuple(f"{g}/" for g in _GROUPS))
        tree = unflatten_dict(arrays, sep="/")
        return Weights(tree["ema"], tree["constants"], tree[_ROW])

    def target(record: Mapping[str, Any]) -> dict[str, Any]:
        check_network(state, source.path, record["shapes"])
        return target_of_other(mesh, record)

    restored = checkpoint.restore_newest(source.path, target, strict, say)
    saved = restored.state
    row_D = jax.jit(mean_row, static_argnames="num_ids")(
        saved["table"], num_ids=restored.record["num_ids"]
    )
    known_NxD = None if known is None else saved["table"][jnp.asarray(known.old_N)]
    say(f"Beginning with the averaged weights of step {restored.step} of {source.path}")
    return Weights(saved["ema"], saved["constants"], row_D, known_NxD)


def with_weights(state: TrainState, weights: Weights, num_ids: int) -> TrainState:
    """A fresh state with these weights, as weights and as their average, and all puzzle rows at the
    mean row."""
    network = jax.tree.map(jnp.asarray, weights.network)
    return start_from(state, network, network, weights.constants, weights.row_D, num_ids)


def first_state(weights: Weights, setup: Setup, known: Known | None) -> TrainState:
    """The first state of a run with these weights; a known task keeps its rows."""

    def begin(state: TrainState, parts: tuple[Any, ...]) -> TrainState:
        weights = Weights(*parts)
        state = with_weights(state, weights, setup.puzzles.num_ids)
        if known is None:
            return state
        return state.replace(table=state.table.at[known.new_N].set(weights.known_NxD))

    fresh = make_sharded(setup.make_state, setup.shardings)
    parts = (weights.network, weights.constants, weights.row_D, weights.known_NxD)
    return jax.jit(begin, out_shardings=setup.shardings, donate_argnums=0)(fresh, parts)


def known_tables(
    known: Known | None, weights: Weights, puzzles: ArcPuzzles
) -> dict[int, jax.Array]:
    """The rows (ids of the task, D) of each known task, by its place among all tasks."""
    if known is None:
        return {}
    where = {int(new): n for n, new in enumerate(known.new_N)}
    return {
        place: weights.known_NxD[np.array([where[i] for i in ids.tolist()])]
        for place, ids in enumerate(puzzles.ids.of_task)
        if puzzles.tasks[place].id in known.tasks
    }


# --- files of weights -----------------------------------------------------------------------------
def write_weights(path: epath.Path, workdir: epath.Path, mesh: Mesh, say: Say) -> int:
    """Writes the newest checkpoint of a run as a file of weights; returns its bytes.

    Raises:
      InputError: the work directory holds no checkpoint that can be used.
    """
    experiment = read_config(workdir)
    checkpoint.existing_step(workdir, None)
    restored = checkpoint.restore_newest(
        workdir, lambda record: target_of_other(mesh, record), False, say
    )
    saved, record = restored.state, restored.record
    arrays = {
        name: np.asarray(leaf)
        for name, leaf in flatten_dict({g: saved[g] for g in _GROUPS}, sep="/").items()
    }
    arrays[_ROW] = np.asarray(mean_row(saved["table"], record["num_ids"]))
    about = {
        "format": _FORMAT,
        "experiment": json.loads(to_json(experiment)),
        "step": restored.step,
        "trained_on": record["trained_on"],
        "shapes": {name: [list(x.shape), x.dtype.name] for name, x in arrays.items()},
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, **{_ABOUT: np.frombuffer(json.dumps(about).encode(),
                                                                   np.uint8)})  # fmt: skip
    write_whole(path, buffer.getvalue())
    return len(buffer.getvalue())


def _read_file(path: epath.Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop(_ABOUT).tobytes())
        if about["format"] != _FORMAT:
            raise ValueError(f"of format {about['format']}, not {_FORMAT}")
        about["trained_on"], about["shapes"], arrays[_ROW]
    except FileNotFoundError as error:
        raise InputError(f"--from: {path}: there is no such file") from error
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"--from: {path}: not a file of weights: {error}") from error
    return about, arrays


def _experiment_in(path: epath.Path | Path, about: Mapping[str, Any]) -> Experiment:
    try:
        return from_json(json.dumps(about["experiment"]))
    except UsageError as error:
        raise InputError(f"--from: {path}: {error}") from error


def main(argv: Sequence[str]) -> int:
    """python -m drm_jax.solve.weights WORKDIR FILE.npz"""
    if len(argv) != 2 or not argv[1].endswith(SUFFIX):
        print("usage: python -m drm_jax.solve.weights WORKDIR FILE.npz", file=sys.stderr)
        return 2
    try:
        path = work_path(argv[1])
        size = write_weights(path, work_path(argv[0]), make_mesh(jax.devices()[:1]), print)
    except (InputError, UsageError) as error:
        print(f"{argv[0]}: {error}", file=sys.stderr)
        return 1
    print(f"{path}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
