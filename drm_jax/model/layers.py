"""The parts of a layer: RMS norm, rotary attention or a mixer over tokens, SwiGLU."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# Truncated at two standard deviations, which are widened so that the std after the cut is
# exactly 1/sqrt(fan in).
linear_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


def wide_type(dtype: jnp.dtype) -> jnp.dtype:
    """The type of weights and of all that is too fine for bfloat16: float32, or float64's own."""
    return jnp.promote_types(dtype, jnp.float32)


def widened(x: jax.Array) -> jax.Array:
    return x.astype(wide_type(x.dtype))


def rms_norm(x: jax.Array) -> jax.Array:
    """x over its root mean square along the last axis, computed in float32. No scale."""
    wide = widened(x)
    mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(mean_square + 1e-5)).astype(x.dtype)


def rotary_angles(tokens: int, head_size: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin (T, head_size) float32 of each position's rotation, theta 10000.

    The power is rounded once, from float64: numpy's own in float32 may be a bit off, which position
    900 makes 3e-5 of.
    """
    exponent = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    frequency = np.float32(1) / np.power(10000.0, exponent, dtype=np.float64).astype(np.float32)
    angle = np.outer(np.arange(tokens, dtype=np.float32), frequency)
    angle = np.concatenate([angle, angle], axis=-1)
    return np.cos(angle), np.sin(angle)


def rotate(x_NxTxd: jax.Array, cos_Txd: np.ndarray, sin_Txd: np.ndarray) -> jax.Array:
    """Rotary positions in the half-split form: (a, b) -> (a cos - b sin, b cos + a sin).

    Computed in float32: bfloat16 can't tell the angles of far positions apart.
    """
    a, b = jnp.split(x_NxTxd, 2, axis=-1)
    turned = jnp.concatenate([-b, a], axis=-1)
    return (x_NxTxd * cos_Txd + turned * sin_Txd).astype(x_NxTxd.dtype)


def attend(q_NxTxd: jax.Array, k_NxTxd: jax.Array, v_NxTxd: jax.Array) -> jax.Array:
    """Full attention with N = batch * heads as one leading axis; softmax in float32.

    One leading axis and contiguous operands let XLA call its matrix product on the CPU; a strided
    einsum over (B, T, heads, d) was 5 times slower there at width 64.
    """
    scale = q_NxTxd.shape[-1] ** -0.5
    scores_NxTxT = jnp.einsum(
        "ntd,nsd->nts",
        q_NxTxd * scale,
        k_NxTxd,
        preferred_element_type=wide_type(q_NxTxd.dtype),
    )
    weights_NxTxT = jax.nn.softmax(scores_NxTxT, axis=-1).astype(v_NxTxd.dtype)
    return jnp.einsum("nts,nsd->ntd", weights_NxTxT, v_NxTxd)


def _dense_options(dtype: jnp.dtype) -> dict[str, Any]:
    return {
        "use_bias": False,
        "dtype": dtype,
        "param_dtype": wide_type(dtype),
        "kernel_init": linear_init,
    }


class Attention(nn.Module):
    """Multi-head attention over all T tokens. Kernel columns: q, k, v, each heads x head size."""

    heads: int
    dtype: jnp.dtype
    keep_scores: bool = True  # for the backward pass; else they are computed again

    @nn.compact
    def __call__(self, x_BxTxD: jax.Array) -> jax.Array:
        batch, tokens, hidden = x_BxTxD.shape
        size = hidden // self.heads
        dense = _dense_options(self.dtype)
        qkv = nn.Dense(3 * hidden, name="qkv", **dense)(x_BxTxD)
        qkv = qkv.reshape(batch, tokens, 3, self.heads, size).transpose(2, 0, 3, 1, 4)
        q, k, v = qkv.reshape(3, batch * self.heads, tokens, size)
        cos, sin = rotary_angles(tokens, size)
        attended = attend if self.keep_scores else jax.checkpoint(attend)
        mixed = attended(rotate(q, cos, sin), rotate(k, cos, sin), v)
        mixed = mixed.reshape(batch, self.heads, tokens, size).transpose(0, 2, 1, 3)
        return nn.Dense(hidden, name="out", **dense)(mixed.reshape(batch, tokens, hidden))


class SwiGLU(nn.Module):
    """down(silu(gate) * up). Kernel columns of `gate_up`: gate, then up."""

    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BxTxD: jax.Array) -> jax.Array:
        dense = _dense_options(self.dtype)
        gate, up = jnp.split(nn.Dense(2 * self.width, name="gate_up", **dense)(x_BxTxD), 2, axis=-1)
        return nn.Dense(x_BxTxD.shape[-1], name="down", **dense)(nn.silu(gate) * up)


def swiglu_width(hidden: int, expansion: float, multiple: int) -> int:
    """2/3 of `expansion` times the width, rounded up to a multiple."""
    return -(-round(expansion * hidden * 2 / 3) // multiple) * multiple


class Layer(nn.Module):
    """Post-norm: h <- rms(h + mix(h)); h <- rms(h + swiglu(h)).

    Tokens are mixed by attention; or, where `token_width` is given, by a SwiGLU of that width over
    the token axis, each channel by itself. The norm after it runs over tokens too, as published.
    """

    heads: int
    width: int
    dtype: jnp.dtype
    token_width: int | None = None
    keep_scores: bool = True

    @nn.compact
    def __call__(self, h_BxTxD: jax.Array) -> jax.Array:
        if self.token_width is None:
            attention = Attention(self.heads, self.dtype, self.keep_scores, name="attention")
            h_BxTxD = rms_norm(h_BxTxD + attention(h_BxTxD))
        else:
            mixer, h_BxDxT = SwiGLU(self.token_width, self.dtype, name="mixer"), h_BxTxD.mT
            h_BxTxD = rms_norm(h_BxDxT + mixer(h_BxDxT)).mT
        swiglu = SwiGLU(self.width, self.dtype, name="swiglu")
        return rms_norm(h_BxTxD + swiglu(h_BxTxD))
