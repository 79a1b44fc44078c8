"""The published code's weights (goldens/drm.npz) in our layout."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from drm_jax.config import Data, Experiment, Model, Optimizer, Train
from drm_jax.model.network import Network

GOLDENS = Path(__file__).parent / "goldens"
EXPERIMENT = Experiment(
    "golden",
    data=Data(canvas=8),
    model=Model(hidden=32, heads=4, cycles=3, inner_steps=2, prefix=4),
    optimizer=Optimizer(warmup_steps=0),
    train=Train(batch_size=3),
)
NETWORK = Network(EXPERIMENT.model, EXPERIMENT.data.canvas, jnp.dtype("float32"))

_NAMES = {
    "embed_inputs": "core.embed_tokens.embedding_weight",
    "embed_answers": "core.embed_tokens_labels.embedding_weight",
    "head": "core.lm_head.weight",
    "halt_kernel": "core.q_head.weight",
    "halt_bias": "core.q_head.bias",
}
_LAYER_NAMES = {
    ("attention", "qkv"): "self_attn.qkv_proj",
    ("attention", "out"): "self_attn.o_proj",
    ("swiglu", "gate_up"): "mlp.gate_up_proj",
    ("swiglu", "down"): "mlp.down_proj",
}


def read_params(arrays, prefix: str) -> dict:
    """A parameter tree from published names; torch keeps weights as (out, in)."""

    def get(name: str) -> np.ndarray:
        key = f"{prefix}{name}"
        if key not in arrays.files:  # no gradient
            return np.zeros_like(arrays[f"train/init/{name}"])
        return arrays[key]

    params = {ours: get(theirs) for ours, theirs in _NAMES.items()}
    params["head"], params["halt_kernel"] = params["head"].T, params["halt_kernel"].T
    for i in range(2):
        layer = params[f"layer_{i}"] = {"attention": {}, "swiglu": {}}
        for (part, ours), theirs in _LAYER_NAMES.items():
            kernel = get(f"core.recurrent_block.layers.{i}.{theirs}.weight").T
            layer[part][ours] = {"kernel": kernel}
    return params
