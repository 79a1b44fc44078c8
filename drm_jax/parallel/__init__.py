"""Meshes, shardings and the row-sharded puzzle table."""
