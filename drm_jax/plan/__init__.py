"""Memory, FLOPs and time of a run on devices that one doesn't have."""
