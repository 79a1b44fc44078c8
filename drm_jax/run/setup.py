"""From an experiment to everything that training and evaluation share."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import grain
import jax
from etils import epath
from jax.sharding import Mesh

from drm_jax.config import Evaluate, Experiment, Train
from drm_jax.data.stream import BatchMaker, fingerprint
from drm_jax.errors import UsageError
from drm_jax.evaluate.answerer import AnswerBatch, compile_answer
from drm_jax.io.files import reaching
from drm_jax.model.backbone import Network
from drm_jax.parallel.mesh import AXIS, make_mesh, platform_of
from drm_jax.parallel.puzzle_table import ROW_MULTIPLE
from drm_jax.puzzles.family import Puzzles
from drm_jax.run.checks import check_method
from drm_jax.run.workdir import kept_path
from drm_jax.training.state import TrainState, init_state, state_shardings
from drm_jax.training.step import Trained
from drm_jax.words import counted


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """The puzzles, the mesh and the network of a run, and how its state is made and laid out.

    `fingerprint` tells the data stream from any other: it is saved and compared on resume.
    """

    experiment: Experiment
    puzzles: Puzzles
    mesh: Mesh
    trained: Trained
    make_state: Callable[[], TrainState]
    shardings: TrainState
    fingerprint: str

    @property
    def network(self) -> Network:
        return self.trained.network


def set_up(
    experiment: Experiment, mesh: Mesh | None = None, *, workdir: epath.Path | None = None
) -> Setup:
    """Loads the puzzles, and describes (but doesn't make) the state.

    Args:
      workdir: may hold the run's copies of files that its puzzles follow from.

    Raises:
      InputError: a source or a file is wrong, or a puzzle doesn't fit the board.
      UsageError: a batch can't be split over the devices, or a part of the user's own doesn't do
        what it must.
    """
    mesh = mesh or make_mesh()
    if experiment.model.dtype == "float64" and not jax.config.jax_enable_x64:
        raise UsageError("model.dtype: float64 needs JAX_ENABLE_X64=1 in the environment")
    trained = trained_parts(experiment, platform_of(mesh))
    experiment.method.level_ratios()  # a user's own schedule is found and checked first
    check_split(experiment.train, experiment.evaluate, mesh.shape[AXIS])
    data, batch_size = experiment.data, experiment.train.batch_size
    check_method(trained, data.boards, data.vocabulary.mask)
    puzzles = load_puzzles(experiment, workdir)
    make_state = state_maker(trained, experiment.seed, puzzles.num_ids)
    shardings = state_shardings(jax.eval_shape(make_state), mesh)
    stream = fingerprint(puzzles, data.boards, experiment.method, experiment.seed, batch_size)
    return Setup(experiment, puzzles, mesh, trained, make_state, shardings, stream)


def trained_parts(experiment: Experiment, platform: str) -> Trained:
    """What a training step of an experiment follows from, on a platform.

    Raises:
      UsageError: a backbone that can't work there.
    """
    data, method = experiment.data, experiment.method
    vocab = data.vocabulary.size + method.has_mask
    network = experiment.model.network(vocab, data.boards, platform)
    return Trained(method, network, experiment.optimizer, experiment.train)


def state_maker(trained: Trained, seed: int, num_ids: int) -> Callable[[], TrainState]:
    """Makes a fresh state."""

    def make_state() -> TrainState:
        return init_state(
            trained.method,
            trained.network,
            trained.transformation(),
            seed=seed,
            batch_size=trained.train.batch_size,
            num_ids=num_ids,
        )

    return make_state


def training_stream(setup: Setup, process: int = 0, processes: int = 1) -> grain.MapDataset:
    """The batches of each training step, endless: the rows of one of several processes."""
    experiment = setup.experiment
    maker = BatchMaker(
        setup.puzzles,
        experiment.data.boards,
        experiment.data.vocabulary.mask,
        experiment.method,
        seed=experiment.seed,
        batch_size=experiment.train.batch_size,
        process=process,
        processes=processes,
    )
    return grain.MapDataset.source(maker)


def answerer(setup: Setup) -> AnswerBatch:
    """The compiled answerer of a run, with its settings of a test."""
    experiment = setup.experiment
    return compile_answer(
        experiment.method,
        experiment.data,
        setup.network,
        setup.mesh,
        setup.shardings,
        steps=experiment.evaluate.denoise_steps,
        seed=experiment.seed,
    )


def check_split(train: Train, evaluate: Evaluate, devices: int) -> None:
    """Raises UsageError unless every device gets as much of the table and of the batches.

    Args:
      devices: along the data axis.
    """
    if ROW_MULTIPLE % devices:
        raise UsageError(
            f"{devices} devices can't share the puzzle table: use a power of two of them, or three "
            f"times one (up to {ROW_MULTIPLE:,})"
        )
    for field, size in (("train", train.batch_size), ("evaluate", evaluate.batch_size)):
        if size % devices:
            raise UsageError(
                f"{field}.batch_size: {counted(size, 'example')} can't be split over {devices} "
                f"devices: make it a multiple of {devices}, or use another number of devices"
            )
    if train.batch_size // devices % train.least_parts:
        raise UsageError(
            f"train.accumulate: the {counted(train.batch_size // devices, 'example')} of a device "
            f"can't be split into {train.accumulate}"
        )


def load_puzzles(experiment: Experiment, workdir: epath.Path | None = None) -> Puzzles:
    """The puzzles of an experiment; errors as of `set_up`."""
    kept: dict[str, Path] = {
        name: kept_path(workdir, name, path) for name, path in experiment.data.kept_files.items()
    }
    if workdir is None:
        return experiment.data.load(experiment.seed, kept)
    with reaching(workdir):
        return experiment.data.load(experiment.seed, kept)
