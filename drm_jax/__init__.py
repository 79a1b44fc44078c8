"""Denoising Recursion Models in JAX: train, evaluate and look at looped transformers on ARC."""

__version__ = "0.1.0"
