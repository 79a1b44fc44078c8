"""The published code's weights (goldens/*.npz) in our layout."""

from pathlib import Path

import numpy as np

from drm_jax.config import Data, Experiment, Model, Optimizer, Train
from drm_jax.model.network import make_network
from drm_jax.published.weights import JOINT, TRM, parameter_names, parameter_tree

GOLDENS = Path(__file__).parent / "goldens"
EXPERIMENT = Experiment(
    "golden",
    data=Data(canvas=8),
    model=Model(hidden=32, heads=4, cycles=3, inner_steps=2, prefix=4),
    optimizer=Optimizer(warmup_steps=0),
    train=Train(batch_size=3),
)
NETWORK = make_network(EXPERIMENT, "cpu")


def read_params(arrays, prefix: str) -> dict:
    """A parameter tree of the published names behind a prefix."""
    naming = TRM if f"train/init/{TRM.table}" in arrays.files else JOINT

    def get(name: str) -> np.ndarray:
        if prefix + name in arrays.files:
            return arrays[prefix + name]
        return np.zeros_like(arrays[f"train/init/{name}"])  # no gradient

    no_answers = {"embed_answers": np.zeros((13, 32), np.float32)}  # TRM has no such table
    return no_answers | parameter_tree(parameter_names(naming, 2, "attention"), get)
