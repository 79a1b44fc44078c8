"""Published PyTorch checkpoints as work directories."""
