"""Where a run begins: fresh, from its newest good checkpoint, or from another run's weights."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from etils import epath
from jax.sharding import Mesh, NamedSharding

from drm_jax.errors import InputError, UsageError
from drm_jax.io import checkpoint
from drm_jax.io.files import reaching, work_path
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import AXIS, placed
from drm_jax.run.setup import Setup
from drm_jax.training.state import TrainState, abstract_state, make_sharded, mean_row, start_from
from drm_jax.words import counted

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Start:
    """A state to train from, and what every checkpoint of the run records beside its own state."""

    state: TrainState
    step: int
    resumed: bool
    record: Mapping[str, Any]
    interval_totals: Mapping[str, float]


def start(setup: Setup, workdir: epath.Path, strict: bool, say: Say) -> Start:
    """The newest good checkpoint of the work directory; else a new state.

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
        record = {name: restored.record[name] for name in ("fingerprint", "num_ids", "trained_on")}
        return Start(restored.state, restored.step, True, record, restored.record["interval"])
    trained_on = setup.puzzles.trained_digests()
    if setup.experiment.init_from is None:
        state = make_sharded(setup.make_state, setup.shardings)
    else:
        state, before = _from_other(setup, setup.experiment.init_from, strict, say)
        trained_on = sorted({*trained_on, *before})
    # Kept beside each checkpoint: what the tasks are, which rows are in use, and what was trained
    # on, by this run and those that it began from.
    record = {
        "fingerprint": setup.fingerprint,
        "num_ids": setup.puzzles.num_ids,
        "trained_on": trained_on,
    }
    return Start(state, 0, False, record, {})


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
    if restored and restored.record["fingerprint"] != setup.fingerprint:
        raise InputError(
            f"{workdir}: the tasks or the noise schedule have changed since step {restored.step} "
            "was saved; use the same ones, or another --workdir"
        )
    return restored


def check_init_from(setup: Setup, workdir: epath.Path) -> None:
    """Whether a fresh start could begin with `init_from`; called before anything is written.

    Raises:
      UsageError, InputError: as `start` would.
    """
    name = setup.experiment.init_from
    if name is None or checkpoint.steps_in(checkpoint.checkpoint_folder(workdir)):
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


def _check_other(setup: Setup, other: epath.Path, record: Mapping[str, Any]) -> None:
    """Raises where this run can't begin with the checkpoint of a record: shapes, leaks."""
    groups = ("params/", "ema/", "constants/")
    here = checkpoint.leaf_shapes(jax.eval_shape(setup.make_state))
    saved, wanted = (
        {leaf: shape for leaf, shape in shapes.items() if leaf.startswith(groups)}
        for shapes in (record["shapes"], here)
    )
    checkpoint.check_shapes(other, saved, wanted)
    leaked = setup.puzzles.answered_in(record["trained_on"])
    if leaked:
        raise UsageError(
            f"init_from: {other}: was trained on a test pair of evaluation task {leaked[0]} "
            f"({counted(len(leaked), 'such task')}): evaluate on other tasks, or begin with "
            "another run"
        )


def _place(mesh: Mesh, record: Mapping[str, Any], leaf: str) -> NamedSharding:
    """Where a leaf of any run's checkpoint goes; whole, if its slots can't be split over these."""
    shape, _ = record["shapes"][leaf]
    splits = not leaf.startswith("carry/") or shape[0] % mesh.shape[AXIS] == 0
    return placed(mesh, leaf if splits else "params")


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
        return checkpoint.abstract_from_record(
            record, functools.partial(_place, setup.mesh, record)
        )

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
