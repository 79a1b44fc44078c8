"""Denoise every test input, undo, vote, score; and pictures of it."""
