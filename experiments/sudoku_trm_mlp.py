"""TRM with the token mixer on Sudoku-Extreme.

    drm train experiments/sudoku_trm_mlp.py

Settings, data, expected time and result: see paper_boards.py.
"""

from paper_boards import paper

from drm_jax.config import Experiment


def experiment() -> Experiment:
    return paper("sudoku_trm_mlp", "sudoku", "trm", "mlp")
