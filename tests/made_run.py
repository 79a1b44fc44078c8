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
from drm_jax.evaluate.answers import augmented
from drm_jax.evaluate.files import Evaluation, evaluation_folder, write_evaluation
from drm_jax.evaluate.loop import evaluate
from drm_jax.io.files import write_whole
from drm_jax.methods.method import Answered
from drm_jax.puzzles.fixed import FixedBoard
from drm_jax.run.setup import Setup, set_up
from drm_jax.run.workdir import claim

KINDS = ("solved", "second", "lost", "shape", "cells")


def kind_of(task: int) -> str:
    """What is made of the task of this number."""
    return KINDS[task % len(KINDS)]


def grids_of(kind: str, truth: np.ndarray, row: int, symbols: int, sized: bool) -> list[np.ndarray]:
    """What a candidate predicts at each of four steps.

    Args:
      symbols: how many there are.
      sized: all grids are of one size.
    """
    wrong = truth.copy()
    wrong[0, 0] = (wrong[0, 0] + 1) % symbols
    short = truth[:-1] if len(truth) > 1 else np.vstack([truth, truth])
    short = wrong if sized else short
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
    experiment, family = setup.experiment, setup.experiment.data
    questions = setup.puzzles.questions(experiment.evaluate.num_augmentations)
    asked = [questions.candidate(row) for row in range(questions.count)]
    number = {name: i for i, name in enumerate(dict.fromkeys(of.task for of in asked))}
    symbols, sized = len(family.vocabulary.symbols), isinstance(family, FixedBoard)
    board_of = {height * width: (height, width) for height, width in family.boards}

    def path(row, board):
        candidate = asked[row if row < len(asked) else 0]
        truth = candidate.question if candidate.truth is None else candidate.truth
        grids = grids_of(kind_of(number[candidate.task]), truth, row, symbols, sized)
        turned = [augmented(grid, candidate.augmentation_A, family) for grid in grids]
        return [family.to_tokens(grid, board) for grid in turned]

    def answer(_, batch):
        inputs_BxS, row_B = np.asarray(batch["inputs"]), np.asarray(batch["row"])
        paths = [path(row, board_of[inputs_BxS.shape[1]]) for row in row_B.tolist()]
        predicted = np.array(paths, np.uint8).swapaxes(0, 1)
        draw = np.random.default_rng(0).random(predicted.shape)
        masked = draw < np.array([1, 0.5, 0.2, 0.1])[:, None, None]
        before = np.roll(predicted, 1, axis=0)
        tokens = np.where(masked, family.vocabulary.mask, before).astype(np.uint8)
        q_halt = np.linspace(-2, 2, len(predicted) * len(row_B)).reshape(len(predicted), -1)
        sure = (50 + 50 * draw).astype(np.uint8)
        used = np.full(len(row_B), len(predicted))
        return Answered(predicted[-1], q_halt[-1], predicted, tokens, q_halt, sure, used)

    return evaluate(experiment, answer, State(step), setup.mesh, setup.puzzles)


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
    names = ("pass@", experiment.data.headline)
    scores = {k: v for k, v in evaluation.metrics.items() if k.startswith(names)}
    tests = evaluation.metrics["tests"]
    lines.append({"step": step, "kind": "eval", **scores, "tests": tests})
    write_whole(workdir / "metrics.jsonl", "".join(json.dumps(x) + "\n" for x in lines))
    start = {"event": "start", "step": 0, "from": "made.py", "changed": {"seed": [1, 0]},
             "jax": "0.10.2", "devices": "1 x cpu"}  # fmt: skip
    ends = {"event": "end", "how": "finished", "why": None}
    write_whole(workdir / "history.jsonl", f"{json.dumps(start)}\n{json.dumps(ends)}\n")
    return evaluation
