"""From an experiment to everything that training and evaluation share."""

import contextlib
import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Hashable
from pathlib import Path

import grain
import jax
from etils import epath
from jax.sharding import Mesh

from drm_jax.config import Evaluate, Experiment, Train
from drm_jax.data.stream import BatchMaker, fingerprint
from drm_jax.errors import InputError, UsageError, UserCodeError
from drm_jax.evaluate.answerer import AnswerBatch, compile_answer
from drm_jax.io.files import reaching
from drm_jax.model.backbone import Network
from drm_jax.model.precision import OLDER_GPU
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import (
    ALL_DATA,
    MeshShape,
    batch_parts,
    cpu_devices_chosen,
    make_mesh,
    platform_of,
)
from drm_jax.parallel.puzzle_table import ROW_MULTIPLE
from drm_jax.puzzles.family import Puzzles
from drm_jax.run.checks import check_method
from drm_jax.run.workdir import (
    PENDING,
    Change,
    changes_of,
    config_differences,
    edited_sources,
    kept_path,
    read_config,
    source_names,
)
from drm_jax.training.state import TrainState, init_state, state_shardings
from drm_jax.training.step import Trained
from drm_jax.words import counted

_checked: set[Hashable] = set()
"""Methods that were tried in this process, each with all that the trial depends on."""


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """The puzzles, the mesh and the network of a run, and how its state is made and laid out."""

    experiment: Experiment
    puzzles: Puzzles
    mesh: Mesh
    trained: Trained
    make_state: Callable[[], TrainState]
    shardings: TrainState
    changes: tuple[Change, ...] = ()  # that were made within the run, oldest first
    device_notes: tuple[str, ...] = ()  # of `trained_here`

    @property
    def network(self) -> Network:
        return self.trained.network

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for people: what of the puzzles, and of their candidates, was left out; what the
        devices can't do."""
        asked = self.experiment.evaluate.num_augmentations
        return (
            *self.device_notes, *self.puzzles.notes, *self.puzzles.notes_on_questions(asked)
        )  # fmt: skip

    @functools.cached_property
    def fingerprint(self) -> str:
        """Tells the data stream from any other: it is saved, and compared on resume."""
        return fingerprint_at(self, PENDING + 1)


def mesh_for(*batch_sizes: int) -> Mesh:
    """A mesh over all devices; on CPUs, over as many that each gets 8 examples of every batch.

    The user's own number of CPU devices stands. With fewer than all, each process has as many.

    Raises:
      UsageError: as `make_mesh`.
    """
    mesh = make_mesh()
    devices = list(mesh.devices.flat)
    if devices[0].platform != "cpu" or cpu_devices_chosen():
        return mesh
    of_process: dict[int, list[jax.Device]] = {}
    for device in devices:
        of_process.setdefault(device.process_index, []).append(device)
    common = math.gcd(*(size // len(of_process) for size in batch_sizes))
    most = min(*map(len, of_process.values()), max(1, common // 8))
    used = _most_sharing(common, most, len(of_process))
    return make_mesh([device for own in of_process.values() for device in own[:used]])


def _most_sharing(batch_size: int, most: int, processes: int = 1) -> int:
    """How many of a process's devices, at most so many, its batch and the table can be split over;
    1 where they can't be."""
    fitting = (
        n for n in range(most, 0, -1) if batch_size % n == 0 and ROW_MULTIPLE % (n * processes) == 0
    )
    return next(fitting, 1)


def own_mesh(experiment: Experiment, shape: MeshShape) -> Mesh:
    """The mesh of a run: over all devices where a shape is asked for; else see `mesh_for`.

    Raises:
      UsageError: as `make_mesh`.
    """
    if shape != ALL_DATA:
        return make_mesh(shape=shape)
    train, evaluate = experiment.train, experiment.evaluate
    return mesh_for(train.batch_size // train.least_parts, evaluate.batch_size)


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
    mesh = mesh or own_mesh(experiment, ALL_DATA)
    check_split(experiment.train, experiment.evaluate, batch_parts(mesh))
    return _set_up(experiment, mesh, workdir)


def set_up_to_evaluate(
    experiment: Experiment,
    say: Callable[[str], None],
    workdir: epath.Path,
    puzzles: Puzzles | None = None,
    shape: MeshShape = ALL_DATA,
) -> Setup:
    """As `set_up`, for a run that is only scored: its training batch need not be split.

    Uses as many devices as the batch of an evaluation can be split over; `say` is told where these
    are not all.

    Args:
      puzzles: instead of those that the experiment names.
      shape: of the mesh; where one is asked for, all devices are needed.

    Raises:
      InputError, UsageError: as `set_up`; of several processes all devices are needed.
    """
    size = experiment.evaluate.batch_size
    mesh = own_mesh(experiment, shape)
    if processes.count() > 1 or shape != ALL_DATA:
        _check_devices(mesh.size)
        _check_batch("evaluate", size, mesh.size)
        return _set_up(experiment, mesh, workdir, puzzles)
    used = _most_sharing(size, mesh.size)
    if used < mesh.size:
        say(
            f"{used} of {mesh.size} devices are used: a batch of {counted(size, 'candidate')} "
            "can't be split over more of them; --batch-size changes that"
        )
        mesh = make_mesh(list(mesh.devices.flat)[:used])
    return _set_up(experiment, mesh, workdir, puzzles)


def _set_up(
    experiment: Experiment,
    mesh: Mesh,
    workdir: epath.Path | None,
    puzzles: Puzzles | None = None,
) -> Setup:
    if experiment.model.dtype == "float64" and not jax.config.jax_enable_x64:
        raise UsageError("model.dtype: float64 needs JAX_ENABLE_X64=1 in the environment")
    trained, device_notes = trained_here(experiment, mesh)
    experiment.method.level_ratios()  # a user's own schedule is found and checked first
    _check_once(experiment, trained)
    puzzles = puzzles or load_puzzles(experiment, workdir)
    make_state = state_maker(trained, experiment.seed, puzzles.num_ids)
    shardings = state_shardings(jax.eval_shape(make_state), mesh)
    changes = () if workdir is None else changes_of(workdir, experiment)
    return Setup(experiment, puzzles, mesh, trained, make_state, shardings, changes, device_notes)


def _check_once(experiment: Experiment, trained: Trained) -> None:
    """As `check_method`, which takes seconds, but once in a process for equal parts."""
    data, size = experiment.data, experiment.train.batch_size
    parts = (experiment.method, experiment.model, data.boards, data.vocabulary, size)
    with contextlib.suppress(TypeError):  # a part of the user's own that has no hash
        if parts in _checked:
            return
    check_method(trained, data.boards, data.vocabulary.mask)
    with contextlib.suppress(TypeError):
        _checked.add(parts)


def fingerprint_at(setup: Setup, step: int) -> str:
    """The fingerprint that a checkpoint of this step has: of all that its stream followed from.

    Where options that decide the stream were changed before, it is a digest of the whole row.
    """
    whole = before = ""
    for first, version in _versions(setup, step):
        data, size = version.data, version.train.batch_size
        now = fingerprint(setup.puzzles, data.boards, version.method, version.seed, size)
        if not before:
            whole = now
        elif now != before:
            whole = hashlib.sha256(f"{whole} {first} {now}".encode()).hexdigest()[:16]
        before = now
    return whole


def _versions(setup: Setup, step: int) -> list[tuple[int, Experiment]]:
    """What was in force until a checkpoint of this step, oldest first; each after which step."""
    made = [change for change in setup.changes if change.step < step]
    later = setup.changes[len(made) :]
    last = later[0].before if later else setup.experiment
    experiments = [*(change.before for change in made), last]
    return list(zip([0, *(change.step for change in made)], experiments, strict=True))


def first_batch(setup: Setup, step: int) -> int:
    """Which batch of the stream the step after this one trains on: `step`, unless the batch size
    was changed before. Then the examples go on behind those that were seen (on boards of several
    sizes, about there)."""
    versions = _versions(setup, PENDING + 1)
    batch = seen = 0
    ends = [first for first, _ in versions[1:]] + [step]
    for (first, version), end in zip(versions, ends, strict=True):
        size = version.train.batch_size
        batch = -(-seen // size) + end - first
        seen = batch * size
    return batch


def trained_parts(experiment: Experiment, platform: str) -> Trained:
    """What a training step of an experiment follows from, on a platform.

    Raises:
      UsageError: a backbone that can't work there.
    """
    data, method = experiment.data, experiment.method
    vocab = data.vocabulary.size + method.has_mask
    network = experiment.model.network(vocab, data.boards, platform)
    return Trained(method, network, experiment.optimizer, experiment.train)


def trained_here(experiment: Experiment, mesh: Mesh) -> tuple[Trained, tuple[str, ...]]:
    """As `trained_parts`, on devices that are there: kernels that `auto` chose are tried on them.

    Where one fails in any process, all do without. Of several processes all must call this.

    Returns:
      What is trained, and lines for people: what the devices can't do.

    Raises:
      UsageError: as `trained_parts`.
    """
    platform, model = platform_of(mesh), experiment.model
    trained = trained_parts(experiment, platform)
    notes = []
    if platform == OLDER_GPU and model.dtype == "auto":
        kind = mesh.devices.flat[0].device_kind
        notes.append(f"Products are of float32: {kind} is {platform}, without bfloat16 units")
    reason = ""
    if hasattr(model, "why_kernels_fail"):  # a backbone of the user's own may do without
        reason = model.why_kernels_fail(experiment.data.boards, platform, mesh.local_devices[0])
    reasons = [told for told in processes.exchange(reason or "") if told]
    if reasons:
        notes.append(
            "Attention is plain, slower and of more memory: the kernel was tried, and doesn't work "
            f"here: {reasons[0]}"
        )
        experiment = dataclasses.replace(experiment, model=model.without_kernels())
        trained = trained_parts(experiment, platform)
    return trained, tuple(notes)


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
        test=experiment.evaluate,
        seed=experiment.seed,
    )


def check_split(train: Train, evaluate: Evaluate, devices: int) -> None:
    """Raises UsageError unless every device gets as much of the table and of the batches.

    Args:
      devices: along the data axis.
    """
    _check_devices(devices)
    _check_batch("train", train.batch_size, devices)
    _check_batch("evaluate", evaluate.batch_size, devices)
    if train.batch_size // devices % train.least_parts:
        raise UsageError(
            f"train.accumulate: the {counted(train.batch_size // devices, 'example')} of a device "
            f"can't be split into {train.accumulate}"
        )


def _check_devices(devices: int) -> None:
    if ROW_MULTIPLE % devices:
        raise UsageError(
            f"{devices} devices can't share the puzzle table: use a power of two of them, or three "
            f"times one (up to {ROW_MULTIPLE:,})"
        )


def _check_batch(field: str, size: int, devices: int) -> None:
    if size % devices:
        raise UsageError(
            f"{field}.batch_size: {counted(size, 'example')} can't be split over {devices} "
            f"devices: make it a multiple of {devices}, or use another number of devices"
        )


def load_puzzles(experiment: Experiment, workdir: epath.Path | None = None) -> Puzzles:
    """The puzzles of an experiment; errors as of `set_up`."""
    kept: dict[str, Path] = {
        name: kept_path(workdir, name, path) for name, path in experiment.data.kept_files.items()
    }
    if workdir is None:
        return experiment.data.load(experiment.seed, kept)
    try:
        with reaching(workdir):
            return experiment.data.load(experiment.seed, kept)
    except (InputError, UsageError) as error:
        where = _where_from(workdir, experiment, str(error))
        if not where or isinstance(error, UserCodeError):
            raise
        raise type(error)(f"{error}{where}") from error


def _where_from(workdir: epath.Path, experiment: Experiment, message: str) -> str:
    """Where the source that a message is about is named, if in the run's config.json; what was
    edited there."""
    if not (workdir / "config.json").exists():
        return ""
    before, names = read_config(workdir), set(source_names(experiment))
    names -= {name for name, *_ in config_differences(before, experiment)}
    for name in sorted(names):
        value = getattr(experiment.data, name.removeprefix("data."))
        named = value if isinstance(value, tuple) else (value,)
        about = message.removeprefix(f"{name}: ")
        if any(isinstance(word, str) and word and about.startswith(word) for word in named):
            option = f"--{name.replace('_', '-')}"
            return (
                f"; the name comes from {workdir / 'config.json'}: where the files have moved, say "
                f"where they are with {option}"
            )
    edited = edited_sources(workdir)
    if not edited and message.startswith(tuple(f"{name}: " for name in names)):
        return f"; it stands in {workdir / 'config.json'}"
    return edited
