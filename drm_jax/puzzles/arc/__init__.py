"""ARC tasks as numpy arrays: loading, tokens, augmentation, voting. Neither jax nor grain."""
