"""`drm train … --dry-run`: checks all that can be checked without computing or writing."""

import dataclasses
import math
import os
from collections.abc import Collection

import jax
from etils import epath
from jax.sharding import Mesh
from rich.console import Console

from drm_jax.config import Experiment
from drm_jax.errors import InputError
from drm_jax.evaluate.answerer import abstract_candidates
from drm_jax.io import checkpoint, lock
from drm_jax.io.files import free_path
from drm_jax.parallel.mesh import ALL_DATA, MeshShape, batch_parts, platform_of
from drm_jax.run.differences import in_words
from drm_jax.run.loop import check_start, describe
from drm_jax.run.setup import Setup, answerer, own_mesh, set_up, training_stream
from drm_jax.run.workdir import config_differences, config_unsure, left_behind, read_config
from drm_jax.training.batches import abstract_batch
from drm_jax.training.state import tree_bytes
from drm_jax.training.step import make_train_step
from drm_jax.words import bytes_in_words, counted


def dry_run(
    experiment: Experiment,
    workdir: epath.Path,
    console: Console,
    *,
    changing: Collection[str] = (),
    anew: bool = False,
    shape: MeshShape = ALL_DATA,
) -> None:
    """Says what a start would do. Loads the puzzles, makes an example, traces both programs.

    Args:
      changing, anew, shape: as of `run.loop.train`.

    Raises:
      InputError, UsageError: as `run.loop.train` would before its first step; or InputError where
        this machine has too little memory for it.
    """
    setup = set_up(experiment, own_mesh(experiment, shape), workdir=workdir)
    goes_on = check_start(setup, workdir, changing, anew)
    state = jax.eval_shape(setup.make_state)
    data, method, size = experiment.data, experiment.method, experiment.train.batch_size
    training_stream(_of_one_example(setup))[0]
    batch = abstract_batch(method, data.boards, data.vocabulary.mask, size)
    jax.eval_shape(make_train_step(setup.trained, setup.mesh), state, batch)
    candidates = setup.puzzles.questions(experiment.evaluate.num_augmentations).count
    if candidates:
        height, width = experiment.data.boards[-1]
        answer = answerer(setup)
        batch = abstract_candidates(experiment.evaluate.batch_size, height * width)
        jax.eval_shape(answer, state, batch)
    numbers, place = _numbers(setup, state, candidates), _place(experiment, workdir, goes_on, anew)
    for line in [describe(setup), *setup.notes, *numbers, *place]:
        console.print(line, soft_wrap=True)
    console.print("Nothing was computed or written")
    _check_memory(setup, state)


def _of_one_example(setup: Setup) -> Setup:
    """With a batch of one: an extreme one takes minutes to make."""
    train = dataclasses.replace(setup.experiment.train, batch_size=1, accumulate="auto")
    experiment = dataclasses.replace(setup.experiment, train=train)
    return dataclasses.replace(setup, experiment=experiment)


def _check_memory(setup: Setup, state) -> None:
    """Raises InputError where the state, or the least that an example or candidate needs beside it,
    is more than the memory of a device."""
    experiment, parts = setup.experiment, batch_parts(setup.mesh)
    of_state = tree_bytes(state, setup.shardings)
    height, width = experiment.data.boards[-1]
    of_one = height * width * experiment.model.hidden * setup.network.dtype.itemsize
    batch = experiment.train.batch_size // parts // experiment.train.least_parts
    if experiment.train.accumulate == "auto" and platform_of(setup.mesh) == "cpu":
        batch = 1  # its parts are as small as need be
    rows = max(batch, experiment.evaluate.batch_size // parts)
    needed, there = of_state + rows * of_one, _memory(setup.mesh)
    if needed > there:
        raise InputError(
            f"it doesn't fit on this machine: a device would need {bytes_in_words(needed)} or "
            f"more, and has {bytes_in_words(there)}: use a smaller --model.hidden, "
            "--train.batch-size or --evaluate.batch-size, fewer --data.num-augmentations, or more "
            "devices"
        )


def _memory(mesh: Mesh) -> float:
    """Bytes of a device; those of a CPU share what the machine has."""
    stats = mesh.devices.flat[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / len(mesh.local_devices)


def _numbers(setup: Setup, state, candidates: int) -> list[str]:
    train, shardings = setup.experiment.train, setup.shardings
    examples = int((setup.puzzles.examples_G * setup.puzzles.visits_G).sum())
    network = sum(math.prod(x.shape) for x in jax.tree.leaves(state.params))
    carry = tree_bytes(state.carry, shardings.carry)
    of_carry = f", the carried slots {bytes_in_words(carry)}" if carry else ""
    return [
        f"Training: {counted(train.steps, 'step')} of {counted(train.batch_size, 'example')}, "
        f"{counted(round(train.steps * train.batch_size / examples), 'epoch')} of "
        f"{counted(examples, 'example')}",
        f"Evaluation: {counted(candidates, 'candidate')}, "
        f"{counted(setup.experiment.evaluate.denoise_steps, 'denoising step')} each",
        f"Network: {network:,} parameters; state on each device: "
        f"{bytes_in_words(tree_bytes(state, shardings))}, of which the puzzle table "
        f"{bytes_in_words(tree_bytes(state.table, shardings.table))}{of_carry}; activations "
        "come on top",
        f"A checkpoint: about {bytes_in_words(tree_bytes(state))} or less; {train.keep_last} "
        f"newest and {train.keep_best} best are kept, one every "
        f"{counted(train.checkpoint_every, 'step')}",
    ]


def _place(experiment: Experiment, workdir: epath.Path, goes_on: bool, anew: bool) -> list[str]:
    """What a start would do in a work directory.

    Raises:
      DamagedError: it has checkpoints, none of which can be used.
    """
    lines, step = [], 0
    if goes_on:
        step, lines = _newest(workdir)
        lines += [text for text in [config_unsure(workdir)] if text]
        begin = f"go on from the checkpoint of step {step or 0:,}"
        again = "start again, no checkpoint was saved yet"
        lines.append(f"{workdir}: would {again if step is None else begin}")
    else:
        lines.append(f"{workdir}: would be a new run")
    found = left_behind(workdir) if anew else []
    if found:
        aside, names = free_path(workdir, "before"), ", ".join(path.name for path in found)
        lines.append(f"{workdir}: would set aside in {aside.name}/: {names}")
    if (workdir / "config.json").exists():
        lines += [
            f"would change {name} {in_words(was)} -> {in_words(now)} from step {(step or 0) + 1:,}"
            for name, was, now in config_differences(read_config(workdir), experiment)
        ]
    holder = lock.held_elsewhere(workdir)
    return lines + ([f"{workdir}: another run is at work here now: {holder}"] if holder else [])


def _newest(workdir: epath.Path) -> tuple[int | None, list[str]]:
    """The newest checkpoint whose record can be read; and what is said of those that are newer."""
    damages: list[str] = []
    for step in reversed(checkpoint.steps_in(checkpoint.checkpoint_folder(workdir))):
        try:
            checkpoint.read_record(workdir, step)
            return step, damages
        except checkpoint.DamagedError as error:
            damages.append(str(error))
    if damages:
        raise checkpoint.DamagedError(
            f"{damages[0]}; no other checkpoint can be used: bring one back from a copy"
        )
    return None, []
