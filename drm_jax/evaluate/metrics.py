"""metrics.json: what was scored, how, and the scores that the family's judge gives."""

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from drm_jax import __version__
from drm_jax.config import Evaluate, Experiment
from drm_jax.evaluate.files import Evaluation
from drm_jax.methods.method import Method
from drm_jax.model.backbone import compute_dtype
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import devices_in_words, platform_of
from drm_jax.puzzles.family import Board


def metrics_of(
    experiment: Experiment,
    steps: Sequence[int],
    scores: Mapping[str, Any],
    asked: Mapping[Board, int],
    passes: int,
    tests: str,
    alone: Sequence[Evaluation] = (),
) -> dict[str, Any]:
    """The metrics of one checkpoint, or of an ensemble of those that were scored alone.

    Args:
      scores: from `Judge.scores`.
      asked: how many candidates were answered on each board.
      passes: how many they took in all.
      tests: a digest of what was answered and its truth: other tests give other scores.
    """
    metrics: dict[str, Any] = {"experiment": experiment.name, "seed": experiment.seed}
    if alone:
        each = [_short(e.metrics, experiment.data.headline) for e in alone]
        metrics |= {"ensemble": True, "checkpoint_steps": list(steps), "per_checkpoint": each}
    else:
        metrics["checkpoint_step"] = steps[0]
    metrics |= {"candidates": scores["candidates"], "tests": tests}
    metrics |= settings_at_test(experiment.evaluate, experiment.method)
    if experiment.init_from is not None:
        metrics["initial_weights"] = experiment.init_from
    labelled = experiment.data.headline in scores
    metrics["best_checkpoints_selected_on_test_labels"] = (
        labelled and experiment.train.keep_best > 0
    )
    if len(asked) > 1 and not alone:
        metrics["denoised_on_windows"] = {
            str(height) if height == width else f"{height}x{width}": count
            for (height, width), count in asked.items()
        }
    if experiment.evaluate.exits_early and not alone:
        most = sum(asked.values()) * experiment.evaluate.denoise_steps
        metrics["passes"] = {"used": passes, "without_exit": most}
    return metrics | {name: value for name, value in scores.items() if name != "candidates"}


def _short(metrics: Mapping[str, Any], headline: str) -> dict[str, Any]:
    """What an ensemble's metrics hold of each of its checkpoints."""
    names = ("checkpoint_step", "candidates", headline)
    return {k: v for k, v in metrics.items() if k in names or "@" in k}


def settings_at_test(evaluate: Evaluate, method: Method) -> dict[str, Any]:
    """Everything that matters at test time alone."""
    settings: dict[str, Any] = {"evaluate": dataclasses.asdict(evaluate)}
    denoising = getattr(method, "denoising", None)
    if denoising is not None:
        settings["denoising"] = dataclasses.asdict(denoising)
    return settings


def made_with(experiment: Experiment, mesh: Mesh) -> dict[str, Any]:
    """Versions and devices, for those who read of a run later."""
    model = experiment.model
    return {
        "drm_jax": __version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "devices": devices_in_words(mesh),
        "processes": processes.count(),
        "dtype": compute_dtype(model.dtype, platform_of(mesh), model.hidden).name,
    }
