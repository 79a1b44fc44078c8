"""Families of puzzles: what the rest of the code knows of them. Neither jax nor grain."""
