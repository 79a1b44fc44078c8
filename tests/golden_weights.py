"""The published code's weights (goldens/*.npz) in our layout."""

from pathlib import Path

import numpy as np

from drm_jax.config import Optimizer, Train
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.published.weights import JOINT, TRM, parameter_names, parameter_tree

GOLDENS = Path(__file__).parent / "goldens"
RECURSION = Recursion(cycles=3, inner_steps=2)
MODEL = Transformer(hidden=32, heads=4, prefix=4)
OPTIMIZER = Optimizer(warmup_steps=0)
TRAIN = Train(batch_size=3)
NETWORK = MODEL.network(13, [(8, 8)], "cpu")
MASK = 12


def read_params(arrays, prefix: str) -> dict:
    """A parameter tree of the published names behind a prefix."""
    naming = TRM if f"train/init/{TRM.table}" in arrays.files else JOINT

    def get(name: str) -> np.ndarray:
        if prefix + name in arrays.files:
            return arrays[prefix + name]
        return np.zeros_like(arrays[f"train/init/{name}"])  # no gradient

    no_answers = {"embed_answers": np.zeros((13, 32), np.float32)}  # TRM has no such table
    return no_answers | parameter_tree(parameter_names(naming, 2, "attention"), get)
