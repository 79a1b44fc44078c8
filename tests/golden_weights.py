"""The published code's weights (goldens/*.npz) in our layout."""

from pathlib import Path

import jax
import numpy as np
import optax

from drm_jax.config import Optimizer, Train
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.parallel.mesh import make_mesh
from drm_jax.published.weights import JOINT, TRM, parameter_names, parameter_tree
from drm_jax.training.optim import average, network_optimizer, sign_sgd
from drm_jax.training.state import make_sharded, state_shardings
from drm_jax.training.step import compile_train_step

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


def optimizer_step(trains_answers: bool):
    """Compiled: (params, opt_state, averages by decay, gradients) -> the same after a step."""
    optimizer = network_optimizer(OPTIMIZER, trains_answers)

    @jax.jit
    def step(params, opt_state, averages, grads):
        changes, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, changes)
        averages = {
            decay: average(shadow, params, float(decay)) for decay, shadow in averages.items()
        }
        return params, opt_state, averages

    return step


@jax.jit
def row_step(row, grads):
    """A puzzle row after a step of sign-SGD."""
    return sign_sgd(row, grads, 1e-2, 0.1)


def whole_step(trained, make_state):
    """(the state on one device, the compiled training step)"""
    mesh = make_mesh(jax.devices()[:1])
    shardings = state_shardings(jax.eval_shape(make_state), mesh)
    state = make_sharded(make_state, shardings)
    return state, compile_train_step(trained, mesh, shardings)
