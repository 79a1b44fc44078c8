"""Full attention in a few forms that give the same numbers, up to rounding.

plain   the scores of all heads at once, kept for the backward pass
blocks  the scores of a few heads at a time, so that they stay in a CPU's cache; the backward pass
        computes them again from the logs of their sums, and memory doesn't grow with their number

All take N = batch * heads as one leading axis: with contiguous operands XLA calls its matrix
product on the CPU; a strided einsum over (B, T, heads, d) was 5 times slower there at width 64.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from drm_jax.model.precision import wide_type

Attend = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""As `plain_attention`."""
KEPT = "kept"
"""The name of what a layer keeps for its backward pass: what products give. The rest, which is
cheap, is computed again."""
SCORES = "scores"
"""The name of attention's scores, most of the memory of plain attention."""
_BLOCK_SCORES = 2**20
"""Scores that a block has at most (4 MB in float32), if it has more than one head."""


def plain_attention(q_NxTxd: jax.Array, k_NxTxd: jax.Array, v_NxTxd: jax.Array) -> jax.Array:
    """softmax(q k / sqrt(d)) v, all (N, T, d); softmax in float32."""
    scores_NxTxT = checkpoint_name(_scores(q_NxTxd, k_NxTxd), SCORES)
    weights_NxTxT = jax.nn.softmax(scores_NxTxT, axis=-1).astype(v_NxTxd.dtype)
    return checkpoint_name(jnp.einsum("nts,nsd->ntd", weights_NxTxT, v_NxTxd), KEPT)


def blocked_attention(q_NxTxd: jax.Array, k_NxTxd: jax.Array, v_NxTxd: jax.Array) -> jax.Array:
    """As `plain_attention`, some heads after the other."""
    count, tokens = q_NxTxd.shape[:2]
    most = max(1, _BLOCK_SCORES // tokens**2)
    return _in_blocks(max(n for n in range(1, min(most, count) + 1) if count % n == 0))(
        q_NxTxd, k_NxTxd, v_NxTxd
    )


def _scores(q: jax.Array, k: jax.Array) -> jax.Array:
    scale = q.shape[-1] ** -0.5
    wide = wide_type(q.dtype)
    return jnp.einsum("ntd,nsd->nts", q * scale, k, preferred_element_type=wide)


@functools.cache
def _in_blocks(heads: int):
    """Attention of `heads` heads at a time."""

    def blocks(x: jax.Array) -> jax.Array:
        return x.reshape(-1, heads, *x.shape[1:])

    def flat(x: jax.Array) -> jax.Array:
        return x.reshape(-1, *x.shape[2:])

    def one_by_one(function, arrays):
        found = lax.map(lambda block: function(*block), jax.tree.map(blocks, arrays))
        return jax.tree.map(flat, found)

    @jax.custom_vjp
    def attention(q, k, v):
        return one_by_one(lambda *block: _forward(*block)[0], (q, k, v))

    def forward(q, k, v):
        mixed, log_sums = one_by_one(_forward, (q, k, v))
        mixed, log_sums = checkpoint_name(mixed, KEPT), checkpoint_name(log_sums, KEPT)
        return mixed, (q, k, v, mixed, log_sums)

    def backward(kept, grad):
        return one_by_one(_backward, (*kept, grad))

    attention.defvjp(forward, backward)
    return attention


def _forward(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What a block of heads attends to, and the logs (n, T) of the sums of exponentials."""
    scores = _scores(q, k)
    largest = scores.max(axis=-1, keepdims=True)
    weights = jnp.exp(scores - largest)
    sums = weights.sum(axis=-1, keepdims=True)
    wide = wide_type(v.dtype)
    mixed = jnp.einsum("nts,nsd->ntd", weights.astype(v.dtype), v, preferred_element_type=wide)
    return (mixed / sums).astype(v.dtype), (largest + jnp.log(sums))[..., 0]


def _backward(
    q: jax.Array, k: jax.Array, v: jax.Array, mixed: jax.Array, log_sums: jax.Array, grad: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of q, k and v: those of softmax, with its weights computed again."""
    wide, scale = wide_type(q.dtype), q.shape[-1] ** -0.5
    product = functools.partial(jnp.einsum, preferred_element_type=wide)
    weights = jnp.exp(_scores(q, k) - log_sums[..., None])
    grad_v = product("nts,ntd->nsd", weights.astype(v.dtype), grad)
    along = (grad.astype(wide) * mixed.astype(wide)).sum(axis=-1, keepdims=True)
    grad_scores = weights * (product("ntd,nsd->nts", grad, v) - along)
    grad_scores = grad_scores.astype(q.dtype)
    grad_q = product("nts,nsd->ntd", grad_scores, k) * scale
    grad_k = product("nts,ntd->nsd", grad_scores, q * scale)
    return grad_q.astype(q.dtype), grad_k.astype(k.dtype), grad_v.astype(v.dtype)


def find_attention(name: str, platform: str, dtype: jnp.dtype) -> Attend:
    """The attention of `config.Model.attention` for a platform ("cpu", "gpu", "tpu", …)."""
    if name == "auto":
        name = "blocks" if platform == "cpu" else "plain"
    return {"plain": plain_attention, "blocks": blocked_attention}[name]
