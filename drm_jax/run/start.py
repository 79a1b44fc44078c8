"""Where a run begins: fresh, from its newest good checkpoint, or from another run's weights."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from etils import epath
from jax.sharding import Mesh, NamedSharding

from drm_jax.config import part_name
from drm_jax.errors import InputError, UsageError
from drm_jax.io import checkpoint
from drm_jax.io.files import reaching, work_path
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import placed_leaf
from drm_jax.run.setup import Setup, fingerprint_at
from drm_jax.run.workdir import (
    PENDING,
    Change,
    config_differences,
    edited_sources,
    read_config,
    settled,
    source_names,
)
from drm_jax.training.state import TrainState, abstract_state, make_sharded, mean_row, start_from
from drm_jax.words import counted

OTHER_TESTS = "The test inputs or their outputs have changed"
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Start:
    """A state to train from, and what every checkpoint of the run records beside its own state."""

    state: TrainState
    step: int
    resumed: bool
    record: Mapping[str, Any]
    interval_totals: Mapping[str, float]
    changes: tuple[Change, ...] = ()
    other_tests: str = ""
    """The digest of the tests before, where they are others now."""


def start(
    setup: Setup,
    workdir: epath.Path,
    strict: bool,
    say: Say,
    begin_with: Callable[[], tuple[TrainState, Sequence[str]]] | None = None,
) -> Start:
    """The newest good checkpoint of the work directory; else a new state.

    Args:
      begin_with: makes the new state, instead of what the experiment says; and the digests of what
        its network was trained on.

    Raises:
      InputError: the tasks have changed, a checkpoint doesn't fit, or none can be used.
      UsageError: `init_from` can't be used.
    """
    restored = restore_own(setup, workdir, strict, say)
    if restored:
        if processes.is_first():
            for path in checkpoint.set_aside_after(workdir, restored.step):
                say(f"Set aside: {path}")
        say(f"Going on from the checkpoint of step {restored.step}")
        changes = settled(setup.changes, restored.step)
        now = dataclasses.replace(setup, changes=changes)
        record = {name: restored.record[name] for name in ("num_ids", "trained_on")}
        record |= {"fingerprint": now.fingerprint, "tests": setup.puzzles.tests_digest()}
        layout = restored.record.get("published")  # of a run that was imported: `published.weights`
        if layout is not None:  # what else is told of the file holds for that very step alone
            record["published"] = {name: layout[name] for name in ("code", "wrapper")}
        totals, before = restored.record["interval"], other_tests(setup, restored.record)
        if before:
            say(
                f"{OTHER_TESTS} since step {restored.step} was saved: its scores and those before "
                "are not compared with those from here on"
            )
        return Start(restored.state, restored.step, True, record, totals, changes, before)
    trained_on = setup.puzzles.trained_digests()
    before: Sequence[str] = ()
    if begin_with is not None:
        state, before = begin_with()
    elif setup.experiment.init_from is not None:
        state, before = _from_other(setup, setup.experiment.init_from, strict, say)
    else:
        state = make_sharded(setup.make_state, setup.shardings)
    trained_on = sorted({*trained_on, *before})
    # Kept beside each checkpoint: what the tasks are, which rows are in use, and what was trained
    # on, by this run and those that it began from.
    record = {
        "fingerprint": setup.fingerprint,
        "num_ids": setup.puzzles.num_ids,
        "trained_on": trained_on,
        "tests": setup.puzzles.tests_digest(),
    }
    return Start(state, 0, False, record, {})


def other_tests(setup: Setup, record: Mapping[str, Any]) -> str:
    """The digest of the tests when a checkpoint was saved, where they are others now; else ""."""
    before = record.get("tests", "")  # not in checkpoints of earlier versions
    return "" if before == setup.puzzles.tests_digest() else before


def restore_own(
    setup: Setup, workdir: epath.Path, strict: bool, say: Say, step: int | None = None
) -> checkpoint.Restored | None:
    """A checkpoint of this very run: of `step`, or the newest good one; None where there is none.

    Raises:
      InputError: the tasks have changed since, or the checkpoint can't be used.
    """
    target = abstract_state(setup.make_state, setup.shardings)
    if step is None:
        restored = checkpoint.restore_newest(workdir, target, strict, say)
    else:
        restored = checkpoint.restore(workdir, step, target)
    if restored:
        check_fingerprint(setup, workdir, restored)
    return restored


def check_fingerprint(setup: Setup, workdir: epath.Path, restored: checkpoint.Restored) -> None:
    """Raises InputError unless a checkpoint was trained on the tasks that are loaded."""
    if restored.record["fingerprint"] == fingerprint_at(setup, restored.step):
        return
    before = read_config(workdir)
    changed = {name for name, *_ in config_differences(before, setup.experiment)}
    renamed = [f"--{name}" for name in source_names(before) if name in changed]
    where = f"{', '.join(renamed)}: " if renamed else ""
    raise InputError(
        f"{workdir}: {where}the tasks or the noise schedule have changed since step "
        f"{restored.step} was saved; use the same ones, or another --workdir"
        f"{edited_sources(workdir)}"
    )


def check_changes(setup: Setup, workdir: epath.Path) -> None:
    """Raises UsageError where options can't be changed within this run."""
    saved = checkpoint.steps_in(checkpoint.checkpoint_folder(workdir))
    last = setup.experiment.train.steps
    if saved and saved[-1] >= last and any(change.step == PENDING for change in setup.changes):
        raise UsageError(
            f"--change: all {counted(last, 'step')} are done: it takes effect with a larger "
            "--train.steps alone"
        )
    sizes = {change.before.train.batch_size for change in setup.changes}
    carry = jax.tree.leaves(jax.eval_shape(setup.make_state).carry)
    if carry and sizes - {setup.experiment.train.batch_size}:
        raise UsageError(
            "--change train.batch_size: the method "
            f"{part_name('method', setup.experiment.method)} carries the examples of a batch from "
            "step to step, so the batch size of a run can't be changed; begin another run with "
            "--init-from"
        )


def check_init_from(setup: Setup, workdir: epath.Path, anew: bool = False) -> None:
    """Whether a fresh start could begin with `init_from`; called before anything is written.

    Args:
      anew: what is in the work directory is set aside.

    Raises:
      UsageError, InputError: as `start` would.
    """
    name = setup.experiment.init_from
    goes_on = not anew and bool(checkpoint.steps_in(checkpoint.checkpoint_folder(workdir)))
    if name is None or goes_on:
        return
    other = work_path(name, "init_from")
    with reaching(other):
        steps = checkpoint.steps_in(checkpoint.checkpoint_folder(other))
    if not steps:
        raise InputError(f"init_from: {name}: holds no checkpoint; name the folder of a run")
    for step in reversed(steps):
        try:
            record = checkpoint.read_record(other, step)
        except checkpoint.DamagedError:  # told of, or refused, where it is restored
            continue
        _check_other(setup, other, record)
        return


def check_network(
    state: TrainState,
    other: epath.Path,
    saved: Mapping[str, Any],
    groups: tuple[str, ...] = ("params/", "ema/", "constants/"),
) -> None:
    """Raises InputError unless the network of another run has the shapes of this one's.

    Args:
      state: of this run, or its shapes.
      saved: [shape, dtype] of each leaf there, by name.
      groups: how the names of those that are compared begin.
    """
    here = checkpoint.leaf_shapes(state)
    saved, wanted = (
        {leaf: shape for leaf, shape in shapes.items() if leaf.startswith(groups)}
        for shapes in (saved, here)
    )
    checkpoint.check_shapes(other, saved, wanted)


def _check_other(setup: Setup, other: epath.Path, record: Mapping[str, Any]) -> None:
    """Raises where this run can't begin with the checkpoint of a record: shapes, leaks."""
    check_network(jax.eval_shape(setup.make_state), other, record["shapes"])
    leaked = setup.puzzles.answered_in(record["trained_on"])
    if leaked:
        raise UsageError(
            f"init_from: {other}: was trained on a test pair of evaluation task {leaked[0]} "
            f"({counted(len(leaked), 'such task')}): evaluate on other tasks, or begin with "
            "another run"
        )


def target_of_other(mesh: Mesh, record: Mapping[str, Any]) -> dict[str, Any]:
    """What a restore of any run's checkpoint aims at, by its record; slots that can't be split over
    these devices are whole on each."""

    def place(leaf: str) -> NamedSharding:
        return placed_leaf(mesh, leaf, record["shapes"][leaf][0])

    return checkpoint.abstract_from_record(record, place)


def _from_other(
    setup: Setup, name: str, strict: bool, say: Say
) -> tuple[TrainState, Sequence[str]]:
    """A fresh state with the network of another work directory's newest good checkpoint.

    Returns also the digests of what that network was trained on.

    Raises:
      UsageError: it was trained on answers that this run asks for.
    """
    other = work_path(name, "init_from")

    def target(record: Mapping[str, Any]) -> dict[str, Any]:
        _check_other(setup, other, record)
        return target_of_other(setup.mesh, record)

    restored = checkpoint.restore_newest(other, target, strict, say)
    saved, num_ids = restored.state, setup.puzzles.num_ids
    row_D = jax.jit(mean_row, static_argnames="num_ids")(
        saved["table"], num_ids=restored.record["num_ids"]
    )
    say(f"Beginning with the weights of step {restored.step} of {name}; new puzzle rows")
    begin = jax.jit(
        start_from, out_shardings=setup.shardings, donate_argnums=0, static_argnames="num_ids"
    )
    fresh = make_sharded(setup.make_state, setup.shardings)
    state = begin(fresh, saved["params"], saved["ema"], saved["constants"], row_D, num_ids=num_ids)
    return state, restored.record["trained_on"]
