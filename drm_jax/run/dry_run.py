"""`drm train … --dry-run`: checks all that can be checked without computing or writing."""

import math

import jax
import numpy as np
from etils import epath
from rich.console import Console

from drm_jax.config import Experiment
from drm_jax.evaluate.answerer import abstract_candidates
from drm_jax.io import checkpoint, lock
from drm_jax.parallel.mesh import AXIS
from drm_jax.run.loop import describe
from drm_jax.run.setup import Setup, answerer, set_up, training_stream
from drm_jax.run.start import check_init_from
from drm_jax.run.workdir import check_claim
from drm_jax.training.step import make_train_step
from drm_jax.words import counted


def dry_run(experiment: Experiment, workdir: epath.Path, console: Console) -> None:
    """Says what a start would do. Loads the puzzles, makes a batch, traces both programs.

    Raises:
      InputError, UsageError: as `run.loop.train` would before its first step.
    """
    setup = set_up(experiment, workdir=workdir)
    goes_on = check_claim(workdir, experiment)
    check_init_from(setup, workdir)
    state = jax.eval_shape(setup.make_state)
    jax.eval_shape(
        make_train_step(setup.trained, setup.mesh), state, _shapes(training_stream(setup)[0])
    )
    candidates = setup.puzzles.questions(experiment.evaluate.num_augmentations).count
    if candidates:
        height, width = experiment.data.boards[-1]
        answer = answerer(setup)
        batch = abstract_candidates(experiment.evaluate.batch_size, height * width)
        jax.eval_shape(answer, state, batch)
    numbers, place = _numbers(setup, state, candidates), _place(workdir, goes_on)
    for line in [describe(setup), *setup.puzzles.notes, *numbers, *place]:
        console.print(line, soft_wrap=True)
    console.print("Nothing was computed or written")


def _shapes(batch: dict[str, np.ndarray]) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}


def _bytes(tree) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _numbers(setup: Setup, state, candidates: int) -> list[str]:
    train, parts = setup.experiment.train, setup.mesh.shape[AXIS]
    examples = int(setup.puzzles.examples_G.sum())
    network = sum(math.prod(x.shape) for x in jax.tree.leaves(state.params))
    whole, carry = _bytes(state), _bytes(state.carry)
    split = carry + _bytes(state.table)
    of_carry = f", the carried slots {carry / parts / 1e6:,.1f} MB" if carry else ""
    return [
        f"Training: {counted(train.steps, 'step')} of {counted(train.batch_size, 'example')}, "
        f"{counted(round(train.steps * train.batch_size / examples), 'epoch')} of "
        f"{counted(examples, 'example')}",
        f"Evaluation: {counted(candidates, 'candidate')}, "
        f"{counted(setup.experiment.evaluate.denoise_steps, 'denoising step')} each",
        f"Network: {network:,} parameters; state on each device: "
        f"{(whole - split + split / parts) / 1e6:,.1f} MB, of which the puzzle table "
        f"{_bytes(state.table) / parts / 1e6:,.1f} MB{of_carry}; activations come on top",
        f"A checkpoint: about {whole / 1e6:,.0f} MB or less; {train.keep_last} newest and "
        f"{train.keep_best} best are kept, one every {counted(train.checkpoint_every, 'step')}",
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
