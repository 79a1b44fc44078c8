"""From an experiment to everything that training and evaluation share."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
from etils import epath
from jax.sharding import Mesh

from drm_jax.config import Data, Experiment
from drm_jax.corruption.schedules import ratio_table
from drm_jax.data.stream import fingerprint
from drm_jax.errors import InputError, UsageError
from drm_jax.io.files import reaching
from drm_jax.methods.objectives import check_objective
from drm_jax.model.network import Network, make_network
from drm_jax.parallel.mesh import make_mesh, platform_of
from drm_jax.parallel.puzzle_table import ROW_MULTIPLE
from drm_jax.puzzles.arc.augment import PuzzleIds, puzzle_ids
from drm_jax.puzzles.arc.identifiers import adopt_identifiers, read_identifiers
from drm_jax.puzzles.arc.roles import load_tasks
from drm_jax.puzzles.arc.tasks import Task, largest_side, training_pairs
from drm_jax.references import is_reference
from drm_jax.run.workdir import identifiers_path
from drm_jax.train.state import TrainState, init_state, state_shardings
from drm_jax.train.step import make_optimizer


@dataclasses.dataclass(frozen=True)
class Setup:
    """The tasks, the mesh and the network of a run, and how its state is made and laid out.

    `fingerprint` tells the data stream from any other: it is saved and compared on resume.
    """

    experiment: Experiment
    tasks: Sequence[Task]
    ids: PuzzleIds
    mesh: Mesh
    network: Network
    make_state: Callable[[], TrainState]
    shardings: TrainState
    fingerprint: str


def set_up(
    experiment: Experiment, mesh: Mesh | None = None, *, workdir: epath.Path | None = None
) -> Setup:
    """Loads the tasks, draws or adopts their ids, and describes (but doesn't make) the state.

    Args:
      workdir: may hold the run's copy of the list `data.identifiers`.

    Raises:
      InputError: a source or the list of ids is wrong, or a grid doesn't fit the canvas.
      UsageError: a batch can't be split over the devices, or a function of the user's own doesn't
        do what it must.
    """
    mesh = mesh or make_mesh()
    if experiment.model.dtype == "float64" and not jax.config.jax_enable_x64:
        raise UsageError("model.dtype: float64 needs JAX_ENABLE_X64=1 in the environment")
    network = make_network(experiment, platform_of(mesh))
    ratio_table(experiment.noise.schedule)  # a user's own functions are found and checked first
    if is_reference(experiment.objective):
        check_objective(experiment, network)
    check_split(experiment, mesh.size)
    tasks, ids = load_puzzles(experiment, workdir)
    optimizer = make_optimizer(experiment)

    def make_state() -> TrainState:
        return init_state(experiment, network, optimizer, len(ids))

    shardings = state_shardings(jax.eval_shape(make_state), mesh)
    stream = fingerprint(experiment, tasks, ids)
    return Setup(experiment, tasks, ids, mesh, network, make_state, shardings, stream)


def check_split(experiment: Experiment, devices: int) -> None:
    """Raises UsageError unless every device gets as much of the table and of the batches."""
    if ROW_MULTIPLE % devices:
        raise UsageError(
            f"{devices} devices can't share the puzzle table: use a power of two of them "
            f"(up to {ROW_MULTIPLE})"
        )
    train, evaluate = experiment.train, experiment.evaluate
    for field, size in (("train", train.batch_size), ("evaluate", evaluate.batch_size)):
        if size % devices:
            raise UsageError(
                f"{field}.batch_size: {size} examples can't be split over {devices} devices"
            )
    if train.batch_size // devices % train.least_parts:
        raise UsageError(
            f"train.accumulate: the {train.batch_size // devices} examples of a device can't be "
            f"split into {train.accumulate}"
        )


def load_puzzles(
    experiment: Experiment, workdir: epath.Path | None = None
) -> tuple[list[Task], PuzzleIds]:
    """The tasks of an experiment and their puzzle ids; errors as of `set_up`."""
    data = experiment.data
    tasks = load_tasks(data.train, data.evaluate, data.only, data.leaks)
    for task in tasks:
        if largest_side(task) > data.side:
            raise InputError(
                f"task {task.id} ({task.source}): a grid has {largest_side(task)} cells along a "
                f"side, more than {_canvas_name(data)}; leave it out or use a larger canvas"
            )
    if not any(training_pairs(task) for task in tasks):
        raise InputError("data.train, data.evaluate: there is no pair to train on")
    return tasks, _puzzle_ids(experiment, tasks, workdir)


def _canvas_name(data: Data) -> str:
    return f"data.canvas {data.side}" if data.canvas != "fit" else f"data.windows' {data.side}"


def _puzzle_ids(
    experiment: Experiment, tasks: Sequence[Task], workdir: epath.Path | None
) -> PuzzleIds:
    data = experiment.data
    if data.identifiers is None:
        return puzzle_ids(tasks, data.num_augmentations, experiment.seed)
    path = identifiers_path(workdir, data.identifiers)
    with reaching(path):
        names = read_identifiers(path)
    return adopt_identifiers(names, tasks, path)
