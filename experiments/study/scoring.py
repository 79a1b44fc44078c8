"""What is measured of a trained run: a score for each setting at test time, and where it errs.

checkpoint ─┬─ test inputs, denoised with 1, 2, 4 … passes      wrong cells, pass@2
            ├─ the same with changes at test time               of drm and its own changes
            ├─ true outputs, masked at a level, one pass        errors by noise level
            └─ a test's own path of 16 passes                   what each pass begins from
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from drm_jax.config import Experiment, with_changes
from drm_jax.corruption.masking import corrupt
from drm_jax.evaluate.answerer import AnswerBatch
from drm_jax.evaluate.loop import evaluate, question_batches
from drm_jax.methods.diffusion import Diffusion
from drm_jax.methods.method import embedded, spread
from drm_jax.model.backbone import Params
from drm_jax.model.recursion import Pass, forward, one_pass
from drm_jax.puzzles.family import PAD
from drm_jax.run.setup import Setup, answerer, set_up
from drm_jax.run.start import restore_own
from drm_jax.training.state import TrainState
from experiments.study.protocol import OWN_AT_TEST, PUBLISHED_STEPS, TEST_STEPS, Run

LEVELS = (0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999, 1000)
SOLVED = ("pass@1", "pass@2", "exact")
"""What families call the share of tests that are solved."""
VOTERS = (1, 2, 4, 8, 17)
"""Candidates of each ARC test input that vote: the plain one, and augmentations."""


def settings(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, changes of the experiment) for each setting at test time that a run is scored at."""
    for steps in TEST_STEPS:
        yield f"published@{steps}", {"evaluate.denoise_steps": steps}
    if run.method in ("drm", "diffusion"):
        for steps in TEST_STEPS[1:-1]:
            yield f"confidence@{steps}", _denoising({"remask": "confidence"}, steps)
    if run.method == "drm":
        for name, changes in OWN_AT_TEST.items():
            if name != "confidence":  # that was above
                yield f"{name}@{PUBLISHED_STEPS}", _denoising(changes, PUBLISHED_STEPS)
    if run.family == "arc" and run.stage != "tuning":
        for voters in VOTERS[:-1]:
            yield f"voters{voters}@{run.denoise_steps}", {"evaluate.num_augmentations": voters - 1}


def _denoising(changes: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Changes of the experiment: of method.denoising, and the passes."""
    of_method = {f"method.denoising.{name}": value for name, value in changes.items()}
    return {**of_method, "evaluate.denoise_steps": steps}


def score_run(run: Run, experiment: Experiment, workdir: epath.Path) -> dict[str, Any]:
    """All that is measured of a run's newest checkpoint, for its row."""
    setup = set_up(experiment, workdir=workdir)
    state = restore_own(setup, workdir, True, print, experiment.train.steps).state
    scores = {name: _score(setup, state, changes) for name, changes in settings(run)}
    if run.stage == "tuning":
        for score in scores.values():
            del score["per_task"]
    row = {"scores": scores}
    if hasattr(experiment.method, "denoising"):
        row["errors_by_level"] = errors_by_level(setup, state)
        row["path"] = own_path(setup, state)
    jax.clear_caches()
    return row


def _score(setup: Setup, state: TrainState, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The share of wrong cells, of all and of each test input, and what is solved: pass@k of ARC,
    exact of Sudoku."""
    changed = with_changes(setup.experiment, {**changes, "evaluate.trajectories": "off"})
    metrics = evaluate(
        changed,
        _answer_batch(setup, changed),
        state,
        setup.mesh,
        setup.puzzles,
    ).metrics
    solved = {name: round(metrics[name], 5) for name in SOLVED if name in metrics}
    return {
        "wrong_cells": round(1 - metrics["cell_accuracy"], 5),
        **solved,
        "per_task": {
            name: [round(1 - x, 4) for x in of["cell_accuracy"]]
            for name, of in metrics["per_task"].items()
        },
    }


def _answer_batch(setup: Setup, experiment: Experiment) -> AnswerBatch:
    """The program that answers with the settings of an experiment, on the setup of a run."""
    return answerer(dataclasses.replace(setup, experiment=experiment))


# --- where it errs -----------------------------------------------------------------------------
def errors_by_level(setup: Setup, state: TrainState) -> list[dict[str, float | None]]:
    """How often one pass errs when it begins as in training: from the truth, masked at a level.

    Returns:
      For each level, the share of scored cells that are masked, and the shares of those masked, and
      of those shown, that are answered wrongly; None where there are none. Of the cells of all
      candidates pooled, so that large grids weigh more than in a score.
    """
    experiment, network, mask = setup.experiment, setup.network, _mask(setup)
    method = experiment.method

    def run_pass(params: Params, x: jax.Array, y: jax.Array, z: jax.Array) -> Pass:
        if isinstance(method, Diffusion):
            return one_pass(network, params, x, y, z)
        return forward(network, method.recursion, params, x, y, z)

    @jax.jit
    def answer(state: TrainState, batch: Mapping[str, jax.Array], tokens: jax.Array) -> jax.Array:
        rows = state.table[batch["puzzle_id"]]
        x = network.embed(state.ema, batch["inputs"], rows)
        y = embedded(network, state.ema, tokens, rows)
        z = spread(state.constants["z_init"], x)
        return jnp.argmax(run_pass(state.ema, x, y, z)[0], axis=-1)

    rng, found = np.random.default_rng(experiment.seed), []
    for level in LEVELS:
        counts = np.zeros(4)
        for batch, real, truth, scored in _batches(setup):
            noise = rng.random(truth.shape, np.float32)
            tokens = corrupt(truth, noise, level, method.noise.schedule, mask)
            wrong = np.asarray(answer(state, batch, tokens)) != truth
            scored = scored & real[:, None]
            masked = tokens == mask
            for i, cells in enumerate((scored & masked, scored & ~masked)):
                counts[2 * i : 2 * i + 2] += cells.sum(), (cells & wrong).sum()
        masked, masked_wrong, shown, shown_wrong = counts
        found.append(
            {
                "level": level,
                "masked": _share(masked, masked + shown),
                "masked_wrong": _share(masked_wrong, masked),
                "shown_wrong": _share(shown_wrong, shown),
            }
        )
    return found


def own_path(setup: Setup, state: TrainState) -> list[dict[str, float | None]]:
    """What each of 16 passes of a test begins from and answers, as published.

    Returns:
      For each pass: the share of scored cells that are masked when it begins; of those shown, the
      share that is wrong; of the cells outside of the true grid that are shown, the share that
      isn't PAD (in training of drm both are 0); of all scored cells the share that is answered
      wrongly, and the share whose answer differs from that of the pass before. Of the cells of all
      candidates pooled.
    """
    experiment = with_changes(setup.experiment, {"evaluate.denoise_steps": PUBLISHED_STEPS})
    answer_batch, mask = _answer_batch(setup, experiment), _mask(setup)
    counts = np.zeros((PUBLISHED_STEPS, 8))
    for batch, real, truth, scored in _batches(setup):
        answered = answer_batch(state, batch)
        tokens, predicted = map(np.asarray, (answered.step_tokens, answered.step_predicted))
        inside, outside = scored & real[:, None], ~scored & real[:, None]
        for i in range(PUBLISHED_STEPS):
            shown = tokens[i] != mask
            changed = predicted[i] != predicted[max(i - 1, 0)]
            cells = (
                inside, inside & ~shown, inside & shown, inside & shown & (tokens[i] != truth),
                outside & shown, outside & shown & (tokens[i] != PAD),
                inside & (predicted[i] != truth), inside & changed,
            )  # fmt: skip
            counts[i] += [which.sum() for which in cells]
    return [
        {
            "masked": _share(masked, every),
            "shown_wrong": _share(shown_wrong, shown),
            "outside_not_pad": _share(outside_not_pad, outside),
            "answered_wrong": _share(wrong, every),
            "changed": _share(changed, every),
        }
        for every, masked, shown, shown_wrong, outside, outside_not_pad, wrong, changed in counts
    ]


def _share(part: float, whole: float) -> float | None:
    return round(float(part / whole), 4) if whole else None


def _mask(setup: Setup) -> int:
    """The token MASK."""
    return setup.experiment.data.vocabulary.mask


def _batches(setup: Setup) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, ...]]:
    """All candidates: batches, which rows of them are real, their truths, what is scored."""
    questions, (board,) = setup.puzzles.questions(None), setup.experiment.data.boards
    every, size = np.arange(questions.count), setup.experiment.evaluate.batch_size
    for batch in question_batches(questions, every, board, size):
        real = batch["row"] < questions.count
        yield batch, real, *questions.truths(np.minimum(batch["row"], questions.count - 1))
