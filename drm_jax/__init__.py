"""Denoising Recursion Models in JAX: train, evaluate and look at looped transformers on puzzles.

    import drm_jax
    run = drm_jax.train(experiment, "runs/mine")      # or drm_jax.open_run("runs/demo")
    run.evaluate(denoise_steps=4).metrics
    run.answer(task)

docs/library.md has the rest. Names are imported when they are first used: jax is not imported here.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "train": "drm_jax.api",
    "open_run": "drm_jax.api",
    "Run": "drm_jax.api",
    "load_tasks": "drm_jax.api",
    "load_experiment": "drm_jax.experiment_files",
    "with_changes": "drm_jax.config",
    "Experiment": "drm_jax.config",
    "Optimizer": "drm_jax.config",
    "Train": "drm_jax.config",
    "Evaluate": "drm_jax.config",
    "Arc": "drm_jax.puzzles.arc.family",
    "Sudoku": "drm_jax.puzzles.sudoku.family",
    "Maze": "drm_jax.puzzles.maze.family",
    "Transformer": "drm_jax.model.transformer",
    "TokenMixer": "drm_jax.model.transformer",
    "Recursion": "drm_jax.model.recursion",
    "Noise": "drm_jax.methods.denoising",
    "Denoising": "drm_jax.methods.denoising",
    "RecursiveDenoising": "drm_jax.methods.drm",
    "Halting": "drm_jax.methods.carried",
    "Drm": "drm_jax.methods.drm",
    "Trm": "drm_jax.methods.trm",
    "Sprm": "drm_jax.methods.sprm",
    "Diffusion": "drm_jax.methods.diffusion",
    "DrmRollout": "drm_jax.methods.drm_rollout",
    "UsageError": "drm_jax.errors",
    "InputError": "drm_jax.errors",
    "StoppedError": "drm_jax.errors",
}
"""The public names, and where each is defined."""

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'drm_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
