"""The parts of a layer: RMS norm, rotary attention or a mixer over tokens, SwiGLU, which may hold a
convolution over the board."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import DotGeneralT
from jax.ad_checkpoint import checkpoint_name

from drm_jax.model.attention import KEPT, Attend
from drm_jax.model.backbone import Board, linear_init
from drm_jax.model.convolution import SIDE, centre_init, convolve
from drm_jax.model.precision import wide_type, widened


@jax.custom_vjp
def rms_norm(x: jax.Array) -> jax.Array:
    """x over its root mean square along the last axis, computed in float32. No scale."""
    return _rms_norm(x)[0]


def _rms_norm(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    wide = widened(x)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + 1e-5)
    normed = checkpoint_name((wide * inverse).astype(x.dtype), KEPT)
    # The backward pass needs what comes out, which the next product keeps anyway, and not what
    # went in.
    return normed, (normed, checkpoint_name(inverse, KEPT))


def _rms_norm_backward(kept: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array]:
    normed, inverse = widened(kept[0]), kept[1]
    wide = widened(grad)
    along = jnp.mean(wide * normed, axis=-1, keepdims=True)
    return ((inverse * (wide - normed * along)).astype(grad.dtype),)


rms_norm.defvjp(_rms_norm, _rms_norm_backward)


Angles = tuple[jax.Array | np.ndarray, jax.Array | np.ndarray]
"""cos and sin of each token's rotation, (T, d), or (B, 1, T, d) where examples differ."""


def rotary_angles(tokens: int, head_size: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin (T, head_size) float32 of each position's rotation, theta 10000.

    The power is rounded once, from float64: numpy's own in float32 may be a bit off, which position
    900 makes 3e-5 of.
    """
    return _turned(_angle(np.arange(tokens), head_size))


def board_angles(prefix: int, board: Board, head_size: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin (T, head_size) float32 of positions in two dimensions: half of a head's pairs
    turn by the row of a cell, the others by its column, each as a head of half the size would.

    A product of two cells depends on the differences of their rows and of their columns alone. The
    prefix stands on the diagonal before the board: token p at (p, p), the cell of row r and column
    c at (P + r, P + c). So no two tokens share a place: of the prefix, of which the puzzle row
    fills a part, the others have nothing else to be told apart by.

    Args:
      prefix: P.
      head_size: a multiple of 4.
    """
    row_S, column_S = np.indices(board).reshape(2, -1) + prefix
    diagonal_P = np.arange(prefix)
    places = (np.concatenate([diagonal_P, of_cells]) for of_cells in (row_S, column_S))
    return _turned(np.concatenate([_angle(place, head_size // 2) for place in places], axis=-1))


def _angle(position_T: np.ndarray, size: int) -> np.ndarray:
    """(T, size / 2) float32: the angle of each pair of `size` numbers."""
    exponent = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    frequency = np.float32(1) / np.power(10000.0, exponent, dtype=np.float64).astype(np.float32)
    return np.outer(position_T.astype(np.float32), frequency)


def _turned(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    angle = np.concatenate([angle, angle], axis=-1)
    return np.cos(angle), np.sin(angle)


def rotate(x: jax.Array, cos: jax.Array | np.ndarray, sin: jax.Array | np.ndarray) -> jax.Array:
    """Rotary positions in the half-split form: (a, b) -> (a cos - b sin, b cos + a sin).

    Computed in float32: bfloat16 can't tell the angles of far positions apart.

    Args:
      x: (…, T, d).
      cos, sin: as `rotary_angles` gives, (T, d), or of more axes.
    """
    a, b = jnp.split(x, 2, axis=-1)
    turned = jnp.concatenate([-b, a], axis=-1)
    return (x * cos + turned * sin).astype(x.dtype)


def _dense_options(dtype: jnp.dtype, product: DotGeneralT | None) -> dict[str, Any]:
    return {
        "use_bias": False,
        "dtype": dtype,
        "param_dtype": wide_type(dtype),
        "kernel_init": linear_init,
        "dot_general": product,
    }


class Attention(nn.Module):
    """Multi-head attention over all T tokens. Kernel columns: q, k, v, each heads x head size."""

    heads: int
    dtype: jnp.dtype
    attend: Attend
    product: DotGeneralT | None = None
    """As of `products.find_dense_product`."""

    @nn.compact
    def __call__(self, x_BxTxD: jax.Array, angles: Angles | None = None) -> jax.Array:
        batch, tokens, hidden = x_BxTxD.shape
        size = hidden // self.heads
        dense = _dense_options(self.dtype, self.product)
        qkv = nn.Dense(3 * hidden, name="qkv", **dense)(x_BxTxD.reshape(-1, hidden))
        qkv = qkv.reshape(batch, tokens, 3, self.heads, size).transpose(2, 0, 3, 1, 4)
        q, k, v = qkv
        cos, sin = rotary_angles(tokens, size) if angles is None else angles
        flat = (batch * self.heads, tokens, size)
        turned = [x.reshape(flat) for x in (rotate(q, cos, sin), rotate(k, cos, sin), v)]
        mixed = self.attend(*(checkpoint_name(x, KEPT) for x in turned))
        mixed = mixed.reshape(batch, self.heads, tokens, size).transpose(0, 2, 1, 3)
        out = nn.Dense(hidden, name="out", **dense)(mixed.reshape(-1, hidden))
        return out.reshape(batch, tokens, hidden)


def _gated(gate_up: jax.Array) -> jax.Array:
    # In float32: rounding each step to bfloat16 takes a CPU longer than the steps.
    gate, up = (widened(x) for x in jnp.split(gate_up, 2, axis=-1))
    return (nn.silu(gate) * up).astype(gate_up.dtype)


@jax.custom_vjp
def gated(gate_up: jax.Array) -> jax.Array:
    """silu(gate) * up, (…, W), of gate and up side by side, (…, 2W)."""
    return _gated(gate_up)


def _gated_backward(gate_up: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
    return (jax.lax.platform_dependent(gate_up, grad, cuda=_in_one_kernel, default=_by_halves),)


def _by_halves(gate_up: jax.Array, grad: jax.Array) -> jax.Array:
    return jax.vjp(_gated, gate_up)[1](grad)[0]


def _in_one_kernel(gate_up: jax.Array, grad: jax.Array) -> jax.Array:
    """As `_by_halves`. XLA for GPUs would write each half's gradient, and then copy both side by
    side. This is elementwise over both, so it is one kernel, which moves half as many bytes."""
    halves = (*grad.shape[:-1], 2, grad.shape[-1])
    gate, up, wide = (
        jnp.broadcast_to(widened(x)[..., None, :], halves)
        for x in (*jnp.split(gate_up, 2, axis=-1), grad)
    )
    share = jax.nn.sigmoid(gate)
    of_gate, of_up = wide * up * share * (1 + gate * (1 - share)), wide * gate * share
    is_gate = jax.lax.broadcasted_iota(jnp.int32, halves, len(halves) - 2) == 0
    return jnp.where(is_gate, of_gate, of_up).astype(gate_up.dtype).reshape(gate_up.shape)


gated.defvjp(lambda gate_up: (_gated(gate_up), gate_up), _gated_backward)


class Convolution(nn.Module):
    """Each channel of a cell with those of the cells around it; the prefix stays as it is."""

    board: Board
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BxTxF: jax.Array) -> jax.Array:
        shape = (SIDE, SIDE, x_BxTxF.shape[-1])
        kernel = self.param("kernel", centre_init, shape, wide_type(self.dtype))
        prefix = x_BxTxF.shape[1] - self.board[0] * self.board[1]
        cells = convolve(x_BxTxF[:, prefix:], kernel, self.board)
        return jnp.concatenate([x_BxTxF[:, :prefix], cells], axis=1)


class SwiGLU(nn.Module):
    """down(silu(gate) * up). Kernel columns of `gate_up`: gate, then up."""

    width: int
    dtype: jnp.dtype
    product: DotGeneralT | None = None
    board: Board | None = None
    """Over which silu(gate) * up is convolved; None: it isn't."""

    @nn.compact
    def __call__(self, x_BxTxD: jax.Array) -> jax.Array:
        dense = _dense_options(self.dtype, self.product)
        gate_up = nn.Dense(2 * self.width, name="gate_up", **dense)(
            x_BxTxD.reshape(-1, x_BxTxD.shape[-1])
        )
        inner = gated(checkpoint_name(gate_up, KEPT))
        if self.board is not None:
            convolution = Convolution(self.board, self.dtype, name="convolution")
            by_tokens = convolution(inner.reshape(*x_BxTxD.shape[:2], self.width))
            inner = by_tokens.reshape(inner.shape)
        down = nn.Dense(x_BxTxD.shape[-1], name="down", **dense)(inner)
        return down.reshape(x_BxTxD.shape)


def swiglu_width(hidden: int, expansion: float, multiple: int) -> int:
    """2/3 of `expansion` times the width, rounded up to a multiple."""
    return -(-round(expansion * hidden * 2 / 3) // multiple) * multiple


class Layer(nn.Module):
    """Post-norm: h <- rms(h + mix(h)); h <- rms(h + swiglu(h)).

    Tokens are mixed by attention; or, where `token_width` is given, by a SwiGLU of that width over
    the token axis, each channel by itself. The norm after it runs over tokens too, as published.
    Where `board` is given, the SwiGLU over channels holds a convolution over it.
    """

    heads: int
    width: int
    dtype: jnp.dtype
    attend: Attend
    token_width: int | None = None
    product: DotGeneralT | None = None
    board: Board | None = None

    @nn.compact
    def __call__(self, h_BxTxD: jax.Array, angles: Angles | None = None) -> jax.Array:
        if self.token_width is None:
            attention = Attention(
                self.heads, self.dtype, self.attend, self.product, name="attention"
            )
            h_BxTxD = rms_norm(h_BxTxD + attention(h_BxTxD, angles))
        else:
            mixer = SwiGLU(self.token_width, self.dtype, self.product, name="mixer")
            h_BxDxT = h_BxTxD.mT
            h_BxTxD = rms_norm(h_BxDxT + mixer(h_BxDxT)).mT
        swiglu = SwiGLU(self.width, self.dtype, self.product, self.board, name="swiglu")
        return rms_norm(h_BxTxD + swiglu(h_BxTxD))
