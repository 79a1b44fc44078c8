"""What is measured of a trained run: a score for each setting at test time, and where it errs.

checkpoint ─┬─ test inputs, denoised with 1, 2, 4 … passes      wrong cells, pass@2
            ├─ the same with changes at test time               of drm and its own changes
            ├─ true outputs, masked at a level, one pass        errors by noise level
            └─ a test's own path of 16 passes                   what each pass begins from
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from drm_jax.config import CARRIED, Experiment, with_changes
from drm_jax.corruption.masking import corrupt
from drm_jax.data.evaluation import Truths, evaluation_batches, evaluation_rows
from drm_jax.evaluate.score import compile_denoise, evaluate
from drm_jax.model.recursion import forward, one_pass
from drm_jax.puzzles.arc.tokens import MASK, PAD
from drm_jax.run.setup import Setup, set_up
from drm_jax.run.start import restore_own
from drm_jax.train.state import TrainState
from experiments.study.protocol import OWN_AT_TEST, PUBLISHED_STEPS, TEST_STEPS, Run

LEVELS = (0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999, 1000)
VOTERS = (1, 2, 4, 8, 17)
"""Candidates of each ARC test input that vote: the plain one, and augmentations."""


def settings(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, changes of the experiment) for each setting at test time that a run is scored at."""
    for steps in TEST_STEPS:
        yield f"published@{steps}", {"evaluate.denoise_steps": steps}
    if run.method in ("drm", "diffusion"):
        for steps in TEST_STEPS[1:-1]:
            changes = {"evaluate.remask": "confidence", "evaluate.denoise_steps": steps}
            yield f"confidence@{steps}", changes
    if run.method == "drm":
        for name, changes in OWN_AT_TEST.items():
            if name != "confidence":  # that was above
                steps = {"evaluate.denoise_steps": PUBLISHED_STEPS}
                yield f"{name}@{PUBLISHED_STEPS}", changes | steps
    if run.family == "arc" and run.stage != "tuning":
        for voters in VOTERS[:-1]:
            yield f"voters{voters}@{run.denoise_steps}", {"evaluate.num_augmentations": voters - 1}


def score_run(run: Run, experiment: Experiment, workdir: epath.Path) -> dict[str, Any]:
    """All that is measured of a run's newest checkpoint, for its row."""
    setup = set_up(experiment, workdir=workdir)
    state = restore_own(setup, workdir, True, print, experiment.train.steps).state
    scores = {name: _score(setup, state, changes) for name, changes in settings(run)}
    if run.stage == "tuning":
        for score in scores.values():
            del score["per_task"]
    row = {"scores": scores}
    if run.method not in CARRIED:
        row["errors_by_level"] = errors_by_level(setup, state)
        row["path"] = own_path(setup, state)
    jax.clear_caches()
    return row


def _score(setup: Setup, state: TrainState, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The share of wrong cells, of all and of each test input, and pass@k."""
    changed = with_changes(setup.experiment, {**changes, "evaluate.trajectories": "off"})
    denoise = compile_denoise(changed, setup.network, setup.mesh, setup.shardings)
    metrics = evaluate(changed, denoise, state, setup.mesh, setup.tasks, setup.ids).metrics
    return {
        "wrong_cells": round(1 - metrics["cell_accuracy"], 5),
        "pass@1": round(metrics["pass@1"], 5),
        "pass@2": round(metrics["pass@2"], 5),
        "per_task": {
            name: [round(1 - x, 4) for x in of["cell_accuracy"]]
            for name, of in metrics["per_task"].items()
        },
    }


# --- where it errs -----------------------------------------------------------------------------
def errors_by_level(setup: Setup, state: TrainState) -> list[dict[str, float | None]]:
    """How often one pass errs when it begins as in training: from the truth, masked at a level.

    Returns:
      For each level, the share of scored cells that are masked, and the shares of those masked, and
      of those shown, that are answered wrongly; None where there are none. Of the cells of all
      candidates pooled, so that large grids weigh more than in a score.
    """
    experiment, network = setup.experiment, setup.network
    run_pass = one_pass if experiment.objective == "diffusion" else forward

    @jax.jit
    def answer(state: TrainState, batch: Mapping[str, jax.Array], tokens: jax.Array) -> jax.Array:
        variables = {"params": state.ema}
        rows = state.table[batch["puzzle_id"]]
        x = network.apply(variables, batch["inputs"], rows, method="embed")
        y = network.apply(variables, tokens, rows, answers=True, method="embed")
        z = jnp.broadcast_to(state.constants["z_init"].astype(x.dtype), x.shape)
        return jnp.argmax(run_pass(network, state.ema, x, y, z)[0], axis=-1)

    rng, found = np.random.default_rng(experiment.seed), []
    for level in LEVELS:
        counts = np.zeros(4)
        for batch, real, truth, scored in _batches(setup):
            noise = rng.random(truth.shape, np.float32)
            tokens = corrupt(truth, noise, level, experiment.noise.schedule)
            wrong = np.asarray(answer(state, batch, tokens)) != truth
            scored = scored & real[:, None]
            masked = tokens == MASK
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
    denoise = compile_denoise(experiment, setup.network, setup.mesh, setup.shardings)
    counts = np.zeros((PUBLISHED_STEPS, 8))
    for batch, real, truth, scored in _batches(setup):
        result = denoise(state, batch)
        tokens, predicted = map(np.asarray, (result.trajectory_tokens, result.trajectory_predicted))
        inside, outside = scored & real[:, None], ~scored & real[:, None]
        for i in range(PUBLISHED_STEPS):
            shown = tokens[i] != MASK
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


def _batches(setup: Setup) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, ...]]:
    """All candidates: batches, which rows of them are real, their truths, what is scored."""
    rows = evaluation_rows(setup.tasks, setup.ids, None)
    side = setup.experiment.data.side
    truths = Truths(setup.tasks, setup.ids, rows, side)
    size = setup.experiment.evaluate.batch_size
    every = np.arange(len(rows))
    for batch in evaluation_batches(setup.tasks, setup.ids, rows, every, side, size):
        real = batch["row"] < len(rows)
        yield batch, real, *truths.tokens(np.minimum(batch["row"], len(rows) - 1))
