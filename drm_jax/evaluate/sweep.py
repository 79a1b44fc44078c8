"""Draws the curves of `evaluate.curves`: scores a state with more and more passes, or rollouts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from drm_jax.config import Experiment, with_changes
from drm_jax.evaluate.answerer import AnswerBatch
from drm_jax.evaluate.curves import Curve, Kind, Point, swept
from drm_jax.evaluate.loop import (
    Judged,
    Progress,
    answer_rollouts,
    pooled_rollouts,
)
from drm_jax.evaluate.metrics import settings_at_test
from drm_jax.evaluate.tables import shares
from drm_jax.puzzles.family import Family, Puzzles
from drm_jax.puzzles.voting import Choice
from drm_jax.training.state import TrainState


def depth_curve(
    experiment: Experiment,
    answerer_of: Callable[[Experiment], AnswerBatch],
    state: TrainState,
    mesh: Mesh,
    puzzles: Puzzles,
    points: Sequence[int],
    progress: Progress,
) -> Curve:
    """Scores with other numbers of passes, each a test of its own with its own noise levels.

    Args:
      answerer_of: the compiled answerer of an experiment.
    """
    questions = puzzles.questions(experiment.evaluate.num_augmentations)
    found = []
    for passes in points:
        changed = with_changes(experiment, {"evaluate.denoise_steps": passes})
        answer_batch = answerer_of(changed)
        judged = answer_rollouts(changed, answer_batch, state, mesh, questions, progress)
        scores = judged.judge.scores(judged.accuracy_R)
        found.append(Point(passes, {x: scores[x] for x in shares([scores])}, _passes_of(judged)))
    return _curve("depth", experiment, state, puzzles, scores, found)


def breadth_curve(
    experiment: Experiment,
    answer_batch: AnswerBatch,
    state: TrainState,
    mesh: Mesh,
    puzzles: Puzzles,
    points: Sequence[int],
    progress: Progress,
) -> Curve:
    """Scores of the first rollouts, up to as many as the last point says.

    Args:
      points: ascending.
    """
    data = experiment.data
    questions = puzzles.questions(experiment.evaluate.num_augmentations)
    of = experiment, answer_batch, state, mesh, questions, points[-1], progress
    found = []
    for count, judged in enumerate(pooled_rollouts(*of), 1):
        if count in points:
            by_choice = {
                choice: judged.judge.choosing(choice).scores(judged.accuracy_R)
                for choice in choices_of(data)
            }
            known = {c: of[data.headline] for c, of in by_choice.items() if data.headline in of}
            found.append(Point(count, known, _passes_of(judged)))
    return _curve("breadth", experiment, state, puzzles, by_choice["votes"], found)


def choices_of(data: Family) -> tuple[Choice, ...]:
    """How the answers to a family's puzzles can be chosen, the oracle last."""
    rules: tuple[Choice, ...] = ("rules",) if getattr(data, "has_rules", False) else ()
    return "votes", "halting", *rules, "oracle"


def _passes_of(judged: Judged) -> float:
    return judged.passes / max(sum(judged.asked.values()), 1)


def _curve(
    kind: Kind,
    experiment: Experiment,
    state: TrainState,
    puzzles: Puzzles,
    scores: Mapping[str, Any],
    points: Sequence[Point],
) -> Curve:
    settings = settings_at_test(experiment.evaluate, experiment.method)
    varied = [name.removeprefix("evaluate.") for name in swept(kind)]
    settings["evaluate"] = {k: x for k, x in settings["evaluate"].items() if k not in varied}
    return Curve(
        kind,
        int(state.step),
        experiment.data.headline,
        scores["test_inputs"],
        puzzles.tests_digest(),
        settings,
        tuple(points),
    )
