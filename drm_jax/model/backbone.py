"""What the rest of the code asks of a network: a block f, an embedding, a read-out.

A backbone is a frozen dataclass of options that makes a network. A network holds shapes and no
weights: its methods are pure functions of (params, arrays). Parameters are a plain dict, made once,
outside of any loop. Beside them stand two fixed vectors (D,), y_init and z_init: saved with the
weights, never trained.

B batch, S cells of a board, P puzzle-prefix tokens, T = P + S, D width, V vocabulary.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from drm_jax.errors import UsageError
from drm_jax.model.precision import auto_dtype, wide_type, widened
from drm_jax.references import reference_to

Params = dict[str, Any]
Board = tuple[int, int]
"""Height and width, in cells."""

# std 1/sqrt(D) over the last axis, truncated like the linear layers.
embedding_init = nn.initializers.variance_scaling(1.0, "fan_out", "truncated_normal")
# Truncated at two standard deviations, which are widened so that the std after the cut is
# exactly 1/sqrt(fan in).
linear_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
_unit_init = nn.initializers.truncated_normal(stddev=1.0 / 0.87962566103423978)


class Network(Protocol):
    """A network for boards of some sizes. All latents are (B, T, D) in the compute type."""

    hidden: int
    """D"""
    prefix: int
    """P"""
    vocab: int
    """V; where a method masks cells, the last token is MASK."""
    boards: Sequence[Board]
    """From small to large: windows of the last one, the whole board."""
    dtype: jnp.dtype
    """Of computation; parameters are of `wide_type(dtype)`."""

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters."""

    def embed(
        self, params: Params, tokens_BxS: jax.Array, rows_BxD: jax.Array, answers: bool = False
    ) -> jax.Array:
        """Tokens of inputs, or of answers, after the prefix that a puzzle row fills: (B, T, D)."""

    def block(self, params: Params, h: jax.Array, injection: jax.Array) -> jax.Array:
        """f(h, injection), (B, T, D)."""

    def decode(self, params: Params, y: jax.Array) -> jax.Array:
        """Logits (B, S, V) of the cells, of `wide_type`."""

    def halting(self, params: Params, y: jax.Array) -> jax.Array:
        """Halting logits (B, 2), halt and continue, of `wide_type`."""

    def at_window(self, cells: int, corner_Bx2: jax.Array | None = None) -> "Network":
        """The network for windows of `cells` cells; `corner` is where on the board each begins."""


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that f moves to and from memory, at the least, for one example and one call.

    As if what stands between two products were one program: each product reads its operands and
    writes its result once. A backward pass moves twice as much as a forward one.
    """

    forward: float
    """Of a call without gradient."""
    with_gradient: float
    """Of a call that is differentiated: both passes, and what is computed again."""
    scores: float
    """The part of `forward` that is attention's scores."""
    scores_with_gradient: float
    padded_tokens: int
    """P + S tokens, as the arrays of a device are padded."""
    head_size: int | None = None
    """The inner side of attention's products; None: there is no attention."""


class Backbone(Protocol):
    """Options of a network: a frozen dataclass. One that derives from it and isn't planned for
    devices (`drm plan`) needs `network` alone."""

    hidden: int
    prefix: int
    dtype: str
    """auto, float32, bfloat16 or float64: see `compute_dtype`."""

    def network(self, vocab: int, boards: Sequence[Board], platform: str) -> Network:
        """The network for a vocabulary of `vocab` tokens.

        Args:
          platform: "cpu", "tpu", …, as of `parallel.mesh.platform_of`.

        Raises:
          UsageError: it can't be for these boards, or not on this platform.
        """

    def block_flops(self, cells: int) -> float:
        """Floating-point operations of f for one example, forward.

        Raises:
          UsageError: they aren't known.
        """
        raise UsageError(_NOT_KNOWN.format(reference_to(type(self))))

    def again_share(self, cells: int, platform: str) -> float:
        """The share of f's FLOPs that a backward pass computes again, on a platform."""
        return 0.0

    def traffic(self, cells: int, platform: str, lanes: int) -> Traffic:
        """What f moves to and from the memory of a device.

        Args:
          lanes: the last axis of an array is padded to a multiple of it.

        Raises:
          UsageError: it isn't known.
        """
        raise UsageError(_NOT_KNOWN.format(reference_to(type(self))))

    def attention_form(self, platform: str) -> str | None:
        """How attention is computed on a platform, by its name; None: there is none."""
        return None

    def why_kernels_fail(
        self, boards: Sequence[Board], platform: str, device: jax.Device
    ) -> str | None:
        """Tries once, on a device, each kernel that `auto` has chosen for these boards.

        Returns:
          What went wrong; None where all work, or there are none.
        """
        return None

    def without_kernels(self) -> "Backbone":
        """The same network with what works on all devices where `auto` has chosen a kernel."""
        return self

    def less_memory(self, platform: str) -> Sequence[tuple[str, "Backbone"]]:
        """The same network with less kept for the backward pass, in other ways, the fastest first.

        Returns:
          Options of the command line, such as "--model.remat layer", and the backbone with them.
        """
        return ()


_NOT_KNOWN = (
    "model: {}: the work of a backbone of your own isn't known: plan transformer or token_mixer, "
    "of a size that costs about as much"
)


def compute_dtype(name: str, platform: str, hidden: int) -> jnp.dtype:
    """The compute type that a `Backbone.dtype` means on a platform, for a network of this width."""
    return jnp.dtype(auto_dtype(platform, hidden)[0] if name == "auto" else name)


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
    wide = wide_type(network.dtype)
    constants = {
        "y_init": _unit_init(y_key, (network.hidden,), wide),
        "z_init": _unit_init(z_key, (network.hidden,), wide),
    }
    return network.init(params_key), constants


# --- embedding and read-out, for any backbone ----------------------------------------------------
def embed(
    table_VxD: jax.Array, tokens_BxS: jax.Array, rows_BxD: jax.Array, prefix: int, dtype: jnp.dtype
) -> jax.Array:
    """sqrt(D) * concat(puzzle prefix, table[token]): (B, T, D) in the compute type.

    Args:
      tokens_BxS: integers.
      rows_BxD: the puzzle rows; each fills the first D numbers of its P x D prefix.
    """
    vocab, hidden = table_VxD.shape
    # A product with one-hot rows: its gradient is a product too, where a gather's is a scatter.
    one_hot = jax.nn.one_hot(tokens_BxS, vocab, dtype=dtype)
    cells_BxSxD = one_hot @ table_VxD.astype(dtype)
    prefix_BxPxD = jnp.pad(rows_BxD[:, None], ((0, 0), (0, prefix - 1), (0, 0)))
    tokens = jnp.concatenate([prefix_BxPxD.astype(dtype), cells_BxSxD], axis=1)
    return tokens * jnp.asarray(hidden**0.5, dtype)


def decode(head_DxV: jax.Array, y_BxTxD: jax.Array, prefix: int) -> jax.Array:
    """Logits (B, S, V) of the cells, of `wide_type`."""
    head, wide = head_DxV.astype(y_BxTxD.dtype), wide_type(y_BxTxD.dtype)
    return jnp.matmul(y_BxTxD[:, prefix:], head, preferred_element_type=wide)


def halting(kernel_Dx2: jax.Array, bias_2: jax.Array, y_BxTxD: jax.Array) -> jax.Array:
    """Halting logits (B, 2), halt and continue; read from the first prefix token."""
    return widened(y_BxTxD[:, 0]) @ kernel_Dx2 + bias_2
