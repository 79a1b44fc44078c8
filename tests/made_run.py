"""A work directory as a run leaves it, its answers made up: every outcome that there is.

Five kinds of tasks, in turn:
  solved   the truth from step 2 on
  second   two thirds of the candidates say something else
  lost     the truth at step 2, one cell wrong in the end
  shape    a row too few, or one too many
  cells    one cell wrong
"""

import dataclasses
import json

import numpy as np
from etils import epath

from drm_jax.config import Experiment
from drm_jax.evaluate.score import Evaluation, evaluate, evaluation_folder, write_evaluation
from drm_jax.io.files import write_whole
from drm_jax.methods.denoising import Denoised
from drm_jax.puzzles.arc.augment import augment
from drm_jax.puzzles.arc.tokens import MASK, to_tokens
from drm_jax.run.setup import Setup, set_up
from drm_jax.run.workdir import claim

KINDS = ("solved", "second", "lost", "shape", "cells")


def kind_of(task: int) -> str:
    """What is made of the task of this number."""
    return KINDS[task % len(KINDS)]


def grids_of(kind: str, truth: np.ndarray, row: int) -> list[np.ndarray]:
    """What a candidate predicts at each of four steps."""
    wrong = truth.copy()
    wrong[0, 0] = (wrong[0, 0] + 1) % 10
    short = truth[:-1] if len(truth) > 1 else np.vstack([truth, truth])
    if kind == "solved":
        return [wrong, truth, truth, truth]
    if kind == "second":
        return [wrong, truth, truth, wrong if row % 3 else truth]
    if kind == "lost":
        return [short, truth, wrong, wrong]
    return [wrong, wrong, *[short if kind == "shape" else wrong] * 2]


@dataclasses.dataclass
class State:
    """A state of which only the step is looked at."""

    step: int


def made_up(setup: Setup, step: int = 4) -> Evaluation:
    """An evaluation whose candidates do what their task's kind says."""
    experiment, ids = setup.experiment, setup.ids

    def answer(_, batch):
        inputs_BxS, id_B, row_B = (np.asarray(batch[x]) for x in ("inputs", "puzzle_id", "row"))
        side = int(inputs_BxS.shape[1] ** 0.5)
        paths = []
        for tokens_S, puzzle_id, row in zip(inputs_BxS, id_B.tolist(), row_B.tolist(), strict=True):
            task, way = setup.tasks[ids.task[puzzle_id]], ids.augmentation(puzzle_id)
            asked = [to_tokens(augment(pair.input, way), side) for pair in task.tests]
            same = [np.array_equal(x, tokens_S) for x in asked]
            pair = task.tests[same.index(True) if True in same else 0]
            truth = pair.input if pair.output is None else pair.output
            grids = grids_of(kind_of(ids.task[puzzle_id]), truth, row)
            paths.append([to_tokens(augment(grid, way), side) for grid in grids])
        predicted = np.array(paths, np.uint8).swapaxes(0, 1)
        draw = np.random.default_rng(0).random(predicted.shape)
        masked = draw < np.array([1, 0.5, 0.2, 0.1])[:, None, None]
        tokens = np.where(masked, MASK, np.roll(predicted, 1, axis=0)).astype(np.uint8)
        q_halt = np.linspace(-2, 2, len(predicted) * len(row_B)).reshape(len(predicted), -1)
        sure = (50 + 50 * draw).astype(np.uint8)
        return Denoised(predicted[-1], q_halt[-1], predicted, tokens, q_halt, sure)

    return evaluate(experiment, answer, State(step), setup.mesh, setup.tasks, ids)


def made_run(workdir: epath.Path, experiment: Experiment, step: int = 4) -> Evaluation:
    """Writes what a run of this experiment would leave, but for checkpoints."""
    config = dataclasses.replace(experiment.evaluate, denoise_steps=4)
    setup = set_up(dataclasses.replace(experiment, evaluate=config))
    workdir.mkdir(parents=True)
    claim(workdir, setup.experiment)
    evaluation = made_up(setup, step)
    write_evaluation(evaluation_folder(workdir, evaluation.steps), evaluation)
    lines = [
        {"step": i, "kind": "train", "loss": 3 / i, "exact_accuracy": i / step / 2,
         "examples_per_second": 100 + i}
        for i in range(1, step + 1)
    ]  # fmt: skip
    scores = {k: v for k, v in evaluation.metrics.items() if k.startswith("pass@")}
    lines.append({"step": step, "kind": "eval", **scores})
    write_whole(workdir / "metrics.jsonl", "".join(json.dumps(x) + "\n" for x in lines))
    start = {"event": "start", "step": 0, "from": "made.py", "changed": {"seed": [1, 0]},
             "jax": "0.10.2", "devices": "1 x cpu"}  # fmt: skip
    ends = {"event": "end", "how": "finished", "why": None}
    write_whole(workdir / "history.jsonl", f"{json.dumps(start)}\n{json.dumps(ends)}\n")
    return evaluation
