"""The drm command: one file a command. jax is imported only where a command computes."""
