"""`drm train … --dry-run`: checks all that can be checked without computing or writing."""

import math

import jax
import numpy as np
from etils import epath
from rich.console import Console

from drm_jax.config import Experiment
from drm_jax.data.evaluation import evaluation_batches, evaluation_rows
from drm_jax.data.stream import training_stream
from drm_jax.evaluate.score import compile_denoise
from drm_jax.io import checkpoint, lock
from drm_jax.puzzles.arc.tasks import training_pairs
from drm_jax.run.loop import describe
from drm_jax.run.setup import Setup, set_up
from drm_jax.run.start import check_init_from
from drm_jax.run.workdir import check_claim
from drm_jax.train.step import make_train_step


def dry_run(experiment: Experiment, workdir: epath.Path, console: Console) -> None:
    """Says what a start would do. Loads the tasks, makes a batch, traces both programs.

    Raises:
      InputError, UsageError: as `run.loop.train` would before its first step.
    """
    setup = set_up(experiment, workdir=workdir)
    goes_on = check_claim(workdir, experiment)
    check_init_from(setup, workdir)
    state = jax.eval_shape(setup.make_state)
    batch = training_stream(experiment, setup.tasks, setup.ids)[0]
    jax.eval_shape(make_train_step(experiment, setup.network, setup.mesh), state, _shapes(batch))
    rows = evaluation_rows(setup.tasks, setup.ids, experiment.evaluate.num_augmentations)
    if len(rows):
        size = experiment.evaluate.batch_size
        first, side = np.zeros(1, np.int64), experiment.data.side
        candidates = next(evaluation_batches(setup.tasks, setup.ids, rows, first, side, size))
        denoise = compile_denoise(experiment, setup.network, setup.mesh, setup.shardings)
        jax.eval_shape(denoise, state, _shapes(candidates))
    for line in [describe(setup), *_numbers(setup, state, len(rows)), *_place(workdir, goes_on)]:
        console.print(line, soft_wrap=True)
    console.print("Nothing was computed or written")


def _shapes(batch: dict[str, np.ndarray]) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}


def _bytes(tree) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _numbers(setup: Setup, state, candidates: int) -> list[str]:
    train, mesh = setup.experiment.train, setup.mesh
    pairs = sum(len(training_pairs(task)) for task in setup.tasks)
    network = sum(math.prod(x.shape) for x in jax.tree.leaves(state.params))
    whole, carry = _bytes(state), _bytes(state.carry)
    split = carry + _bytes(state.table)
    of_carry = f", the carried slots {carry / mesh.size / 1e6:,.1f} MB" if carry else ""
    return [
        f"Training: {train.steps:,} steps of {train.batch_size} examples, "
        f"{train.steps * train.batch_size / pairs:,.0f} epochs of {pairs:,} pairs",
        f"Evaluation: {candidates:,} candidates, {setup.experiment.evaluate.denoise_steps} "
        "denoising steps each",
        f"Network: {network:,} parameters; state on each device: "
        f"{(whole - split + split / mesh.size) / 1e6:,.1f} MB, of which the puzzle table "
        f"{_bytes(state.table) / mesh.size / 1e6:,.1f} MB{of_carry}; activations come on top",
        f"A checkpoint: about {whole / 1e6:,.0f} MB or less; {train.keep_last} newest and "
        f"{train.keep_best} best are kept, one every {train.checkpoint_every:,} steps",
    ]


def _place(workdir: epath.Path, goes_on: bool) -> list[str]:
    steps = checkpoint.steps_in(checkpoint.checkpoint_folder(workdir))
    if not goes_on:
        lines = [f"{workdir}: would be a new run"]
    elif steps:
        lines = [f"{workdir}: would go on from the checkpoint of step {steps[-1]:,}"]
    else:
        lines = [f"{workdir}: would start again, no checkpoint was saved yet"]
    holder = lock.held_elsewhere(workdir)
    return lines + ([f"{workdir}: another run is at work here now: {holder}"] if holder else [])
