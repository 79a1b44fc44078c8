"""Orbax checkpoints of the whole TrainState, restorable onto any mesh."""

import logging
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from drm_jax.errors import InputError
from drm_jax.train.state import TrainState

BEST_METRIC = "pass@2"
# Orbax tells of every file it writes; absl's logger then drowns the progress bar.
logging.getLogger("absl").setLevel(logging.ERROR)


def checkpoint_folder(workdir: Path) -> Path:
    return (workdir / "checkpoints").absolute()


def read_checkpoints(workdir: Path) -> ocp.CheckpointManager:
    """The checkpoints of a work directory, for reading alone: a run may be writing there."""
    options = ocp.CheckpointManagerOptions(read_only=True)
    return ocp.CheckpointManager(checkpoint_folder(workdir), options=options)


def open_checkpoints(workdir: Path, keep_last: int, keep_best: int) -> ocp.CheckpointManager:
    """The checkpoints of a work directory: newest and best kept. Use it as a context manager."""
    policies: list[Any] = [checkpoint_managers.LatestN(keep_last)]
    if keep_best:
        policies.append(
            checkpoint_managers.BestN(
                get_metric_fn=lambda metrics: metrics[BEST_METRIC],
                n=keep_best,
                keep_checkpoints_without_metrics=False,
            )
        )
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(checkpoint_folder(workdir), options=options)


def save(
    manager: ocp.CheckpointManager,
    step: int,
    state: TrainState,
    fingerprint: str,
    metrics: dict[str, float] | None,
) -> None:
    """Starts a save; it is written in the background.

    Args:
      fingerprint: of the data stream, see `data.stream.fingerprint`.
      metrics: scores of this very state, if it was evaluated; decides which ones are best.
    """
    args = ocp.args.Composite(
        state=ocp.args.StandardSave(state), data=ocp.args.JsonSave({"fingerprint": fingerprint})
    )
    manager.save(step, args=args, metrics=metrics)


def restore(manager: ocp.CheckpointManager, step: int | None, target: TrainState) -> TrainState:
    """The state saved at a step (the newest where None), laid out as the target says.

    Args:
      target: shapes, types and shardings, see `train.state.abstract_state`.

    Raises:
      InputError: there is no such checkpoint.
    """
    step = existing_step(manager, step)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
    return manager.restore(step, args=args)["state"]


def saved_fingerprint(manager: ocp.CheckpointManager, step: int) -> str:
    """The fingerprint of the data stream that a checkpoint was trained on."""
    args = ocp.args.Composite(data=ocp.args.JsonRestore())
    return manager.restore(step, args=args)["data"]["fingerprint"]


def existing_step(manager: ocp.CheckpointManager, step: int | None) -> int:
    """`step`, or the newest where None.

    Raises:
      InputError: it isn't there.
    """
    steps = sorted(manager.all_steps())
    if not steps:
        raise InputError(f"{manager.directory}: holds no checkpoint yet")
    if step is None:
        return steps[-1]
    if step not in steps:
        raise InputError(
            f"{manager.directory}: no checkpoint of step {step}; there are "
            f"{', '.join(map(str, steps))}"
        )
    return step
