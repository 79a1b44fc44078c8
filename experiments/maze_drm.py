"""DRM on Maze-Hard.

    drm train experiments/maze_drm.py

Settings, data, expected time and result: see paper_boards.py.
"""

from paper_boards import paper

from drm_jax.config import Experiment


def experiment() -> Experiment:
    return paper("maze_drm", "maze", "drm", "att")
