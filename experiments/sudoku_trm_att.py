"""TRM with attention on Sudoku-Extreme.

    drm train experiments/sudoku_trm_att.py

Settings, data, expected time and result: see paper_boards.py.
"""

from paper_boards import paper

from drm_jax.config import Experiment


def experiment() -> Experiment:
    return paper("sudoku_trm_att", "sudoku", "trm", "att")
