"""Mazes as numpy arrays: a generator, symmetries, rules. Neither jax nor grain."""
