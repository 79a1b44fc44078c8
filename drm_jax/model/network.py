"""The network's parameters and its four pure pieces: embed, block, decode, halting.

Parameters are a plain dict, made once, outside of any loop:
  embed_inputs, embed_answers (V, D); layer_i/…; head (D, V); halt_kernel (D, 2), halt_bias (2,).
Beside them stand two fixed vectors (D,), y_init and z_init: saved with the weights, never trained.
"""

import contextlib
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from drm_jax.config import Experiment, Model
from drm_jax.model.attention import (
    KEPT,
    SCORES,
    Attend,
    choose_attention,
    find_attention,
    is_cudnn_forward,
    plain_attention,
)
from drm_jax.model.layers import Angles, Layer, linear_init, rotary_angles, swiglu_width
from drm_jax.model.precision import wide_type, widened

Params = dict[str, Any]
# std 1/sqrt(D) over the last axis, cut like the linear layers.
_embedding_init = nn.initializers.variance_scaling(1.0, "fan_out", "truncated_normal")


def _keep(*names: str) -> Any:
    by_name = jax.checkpoint_policies.save_only_these_names(*names)
    return jax.checkpoint_policies.save_from_both_policies(by_name, is_cudnn_forward)


_POLICIES = {
    "none": _keep(KEPT, SCORES),
    "attention": _keep(KEPT),
    "layer": jax.checkpoint_policies.nothing_saveable,
}
_unit_init = nn.initializers.truncated_normal(stddev=1.0 / 0.87962566103423978)


class Network(nn.Module):
    """Holds the shapes; each method is used through `apply` as a pure function of the params."""

    config: Model
    canvas: int
    dtype: jnp.dtype
    attend: Attend = plain_attention
    angles: Angles | None = None
    """Rotations of windows of the canvas, from `at_windows`; None: of the whole canvas."""

    def setup(self):
        config = self.config
        width, token_width = (
            swiglu_width(size, config.expansion, config.swiglu_multiple)
            for size in (config.hidden, config.prefix + self.canvas**2)
        )
        if config.mixer == "attention":
            token_width = None
        table_shape, wide = (config.vocab, config.hidden), wide_type(self.dtype)
        self.embed_inputs = self.param("embed_inputs", _embedding_init, table_shape, wide)
        self.embed_answers = self.param("embed_answers", _embedding_init, table_shape, wide)
        # Outside of loops XLA would undo what is computed again, and memory with it.
        prevent_cse = config.remat != "none"
        layer = nn.remat(Layer, prevent_cse=prevent_cse, policy=_POLICIES[config.remat])
        self.layer = [
            layer(config.heads, width, self.dtype, self.attend, token_width)
            for _ in range(config.layers)
        ]
        self.head = self.param("head", linear_init, table_shape[::-1], wide)
        self.halt_kernel = self.param(
            "halt_kernel", nn.initializers.zeros, (config.hidden, 2), wide
        )
        self.halt_bias = self.param("halt_bias", nn.initializers.constant(-5.0), (2,), wide)

    def __call__(self, tokens_BxS: jax.Array, rows_BxD: jax.Array) -> jax.Array:
        """Touches every parameter once, for initialisation."""
        both = self.embed(tokens_BxS, rows_BxD) + self.embed(tokens_BxS, rows_BxD, answers=True)
        h_BxTxD = self.block(both, both)
        return self.decode(h_BxTxD).sum() + self.halting(h_BxTxD).sum()

    def embed(self, tokens_BxS: jax.Array, rows_BxD: jax.Array, answers: bool = False) -> jax.Array:
        """sqrt(D) * concat(puzzle prefix, table[token]): (B, T, D) in the compute type.

        Args:
          tokens_BxS: integers.
          rows_BxD: the puzzle rows; each fills the first D numbers of its P x D prefix.
          answers: use the table of answers instead of that of inputs.
        """
        table_VxD = self.embed_answers if answers else self.embed_inputs
        # A product with one-hot rows: its gradient is a product too, where a gather's is a scatter.
        one_hot = jax.nn.one_hot(tokens_BxS, self.config.vocab, dtype=self.dtype)
        cells_BxSxD = one_hot @ table_VxD.astype(self.dtype)
        prefix_BxPxD = jnp.pad(rows_BxD[:, None], ((0, 0), (0, self.config.prefix - 1), (0, 0)))
        tokens = jnp.concatenate([prefix_BxPxD.astype(self.dtype), cells_BxSxD], axis=1)
        return tokens * jnp.asarray(self.config.hidden**0.5, self.dtype)

    def block(self, h_BxTxD: jax.Array, injection_BxTxD: jax.Array) -> jax.Array:
        """f(h, injection): the layers applied to their sum. One f serves every loop step."""
        h_BxTxD = h_BxTxD + injection_BxTxD
        for layer in self.layer:
            h_BxTxD = layer(h_BxTxD, self.angles)
        return h_BxTxD

    def decode(self, y_BxTxD: jax.Array) -> jax.Array:
        """Logits (B, S, V) float32 of the canvas cells."""
        cells = y_BxTxD[:, self.config.prefix :]
        head, wide = self.head.astype(self.dtype), wide_type(self.dtype)
        return jnp.matmul(cells, head, preferred_element_type=wide)

    def halting(self, y_BxTxD: jax.Array) -> jax.Array:
        """Halting logits (B, 2) float32: halt, continue; read from the first prefix token."""
        return widened(y_BxTxD[:, 0]) @ self.halt_kernel + self.halt_bias


def make_network(experiment: Experiment, platform: str) -> Network:
    """The network of an experiment, in the compute type and the form of attention that suit a
    platform ("cpu", "tpu", …, as of `dist.mesh.platform_of`).

    Raises:
      UsageError: a form of attention that can't work there.
    """
    attend = find_attention(*_for_attention(experiment, platform))
    return Network(
        experiment.model, experiment.data.side, compute_dtype(experiment, platform), attend
    )


def attention_form(experiment: Experiment, platform: str) -> str:
    """plain, blocks, flash or cudnn: how the network of an experiment attends on a platform."""
    return choose_attention(*_for_attention(experiment, platform))


def _for_attention(experiment: Experiment, platform: str) -> tuple[str, str, jnp.dtype, int]:
    model = experiment.model
    head_size = model.hidden // model.heads
    return model.attention, platform, compute_dtype(experiment, platform), head_size


def compute_dtype(experiment: Experiment, platform: str) -> jnp.dtype:
    dtype = experiment.model.dtype
    if dtype == "auto":
        dtype = "float32" if platform == "cpu" else "bfloat16"
    return jnp.dtype(dtype)


def at_windows(network: Network, cells: int, corner_Bx2: jax.Array | None = None) -> Network:
    """The network for windows of its canvas: a cell keeps the position that it has on the canvas.

    Args:
      cells: of a window, S.
      corner_Bx2: row and column of each window's first cell; None: all are in the canvas's corner.

    Returns:
      The network itself where the window is the whole canvas.
    """
    side, canvas, prefix = math.isqrt(cells), network.canvas, network.config.prefix
    if side == canvas:
        return network
    head_size = network.config.hidden // network.config.heads
    all_angles = rotary_angles(prefix + canvas**2, head_size)
    cell_S = (np.arange(side)[:, None] * canvas + np.arange(side)).reshape(-1) + prefix
    if corner_Bx2 is None:
        position = np.concatenate([np.arange(prefix), cell_S])
        return network.clone(angles=tuple(angle[position] for angle in all_angles))
    cell_BxS = cell_S + (corner_Bx2 @ np.array([canvas, 1], np.int32))[:, None]
    prefix_BxP = jnp.broadcast_to(np.arange(prefix), (len(corner_Bx2), prefix))
    position_BxT = jnp.concatenate([prefix_BxP, cell_BxS], axis=1)
    # one more axis, for the heads
    return network.clone(angles=tuple(jnp.asarray(x)[position_BxT][:, None] for x in all_angles))


def exact_products(network: Network) -> contextlib.AbstractContextManager:
    """While a program is traced: products of float32 are of float32 on accelerators too.

    By default a GPU rounds their factors to TF32 and a TPU to bfloat16. Does nothing where the
    compute type is bfloat16.
    """
    exact = network.dtype == wide_type(network.dtype)
    return jax.default_matmul_precision("highest") if exact else contextlib.nullcontext()


def init_params(network: Network, key: jax.Array) -> tuple[Params, Params]:
    """(params, constants), all of `wide_type`; constants are y_init and z_init (D,)."""
    params_key, y_key, z_key = jax.random.split(key, 3)
    tokens = jnp.zeros((1, network.canvas**2), jnp.int32)
    hidden = network.config.hidden
    # All forms of attention have the same parameters; plans ask on machines where not all work.
    plain = network.clone(attend=plain_attention)
    params = plain.init(params_key, tokens, jnp.zeros((1, hidden)))["params"]
    wide = wide_type(network.dtype)
    constants = {
        "y_init": _unit_init(y_key, (hidden,), wide),
        "z_init": _unit_init(z_key, (hidden,), wide),
    }
    return params, constants
