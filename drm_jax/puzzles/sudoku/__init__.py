"""Sudoku puzzles as numpy arrays: a generator, symmetries, exact match. Neither jax nor grain."""
