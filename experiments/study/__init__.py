"""A comparison of methods that one machine can run: python -m experiments.study."""
