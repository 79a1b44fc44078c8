"""Whole jobs: set-up, the training loop, the evaluation of a work directory."""
