"""Full attention in a few forms that give the same numbers, up to rounding.

plain   the scores of all heads at once, kept for the backward pass
blocks  the scores of a few heads at a time, so that they stay in a CPU's cache; the backward pass
        computes them again from the logs of their sums, and memory doesn't grow with their number
flash   the same idea as a kernel for TPUs (JAX's splash attention, in Pallas)
cudnn   and for GPUs (NVIDIA's, through JAX); both want bfloat16

All take N = batch * heads as one leading axis: with contiguous operands XLA calls its matrix
product on the CPU; a strided einsum over (B, T, heads, d) was 5 times slower there at width 64.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from drm_jax.errors import UsageError, one_line
from drm_jax.model.precision import wide_type, widened
from drm_jax.model.products import row_major

Attend = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""As `plain_attention`."""
KEPT = "kept"
"""The name of what a layer keeps for its backward pass: what products give. The rest, which is
cheap, is computed again."""
SCORES = "scores"
"""The name of attention's scores, most of the memory of plain attention."""
_BLOCK_SCORES = 2**20
"""Scores that a block has at most (4 MB in float32), if it has more than one head."""
_LANES = 128
"""Flash attention takes tokens in multiples of a TPU's lanes."""
_FLASH_BLOCK = 1024
"""The most tokens of a block of flash attention. All tokens of a canvas are one block: each head is
one step of the kernel, which reads its q, k and v once."""
_FLASH_PART = 640
"""The most keys whose scores exist at a time: with 1,024 queries 2.5 MB in float32, of which the
backward pass holds four such arrays at once, and a kernel on a TPU may use 16 MB."""
_TRIED_TOKENS = 64
_TRIED_LIMIT = 0.05
"""How far a kernel may be from plain attention when it is tried, by norm: both round to bfloat16,
to 0.01 or less."""


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
    return _product("ntd,nsd->nts", q * q.shape[-1] ** -0.5, k)


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
    weights = jnp.exp(scores - largest).astype(v.dtype)
    # Of the rounded weights: those in float32 needn't be written then.
    sums = widened(weights).sum(axis=-1, keepdims=True)
    mixed = _product("nts,nsd->ntd", weights, v)
    return (mixed / sums).astype(v.dtype), (largest + jnp.log(sums))[..., 0]


def _backward(
    q: jax.Array, k: jax.Array, v: jax.Array, mixed: jax.Array, log_sums: jax.Array, grad: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of q, k and v: those of softmax, with its weights computed again.

    Scores are transposed here, keys by queries, so that no product has to read them by columns;
    that of q's gradient gives it transposed instead.
    """
    scale = q.shape[-1] ** -0.5
    scaled_q = q * scale
    along_nx1xT = (widened(grad) * widened(mixed)).sum(axis=-1)[:, None]
    weights_nxSxT = jnp.exp(_product("nsd,ntd->nst", k, scaled_q) - log_sums[:, None])
    grad_v = _product("nst,ntd->nsd", weights_nxSxT.astype(v.dtype), grad)
    grad_scores_nxSxT = weights_nxSxT * (_product("nsd,ntd->nst", v, grad) - along_nx1xT)
    grad_scores_nxSxT = row_major(grad_scores_nxSxT.astype(q.dtype))
    grad_k = _product("nst,ntd->nsd", grad_scores_nxSxT, scaled_q)
    grad_q_nxdxT = row_major(_product("nds,nst->ndt", row_major(k.mT), grad_scores_nxSxT))
    grad_q = grad_q_nxdxT.mT * scale
    return grad_q.astype(q.dtype), grad_k.astype(k.dtype), grad_v.astype(v.dtype)


def _product(names: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(names, a, b, preferred_element_type=wide_type(a.dtype))


# --- kernels of accelerators ---------------------------------------------------------------------
def flash_attention(q_NxTxd: jax.Array, k_NxTxd: jax.Array, v_NxTxd: jax.Array) -> jax.Array:
    """As `plain_attention`, by JAX's kernel for TPUs, forward and backward."""
    # Needed on TPUs only, and an experimental part of JAX.
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    count, tokens, size = q_NxTxd.shape
    block, padded = flash_blocks(tokens)
    part = max(n for n in range(_LANES, _FLASH_PART + 1, _LANES) if block % n == 0)
    sizes = splash.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=part,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=part,
        use_fused_bwd_kernel=True,  # five products instead of seven: all gradients in one pass
    )
    # Every token of a head sees every other; what pads is another segment.
    mask = splash.MultiHeadMask([splash.FullMask((padded, padded))] * count)
    segments = None
    if padded > tokens:
        segment_T = (jnp.arange(padded) >= tokens).astype(jnp.int32)
        segments = splash.SegmentIds(segment_T, segment_T)
    # The kernel itself names what it gives and the logs of the sums, which its backward pass needs.
    attend = splash.make_splash_mha(
        mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, residual_checkpoint_name=KEPT
    )
    q, k, v = (_pad(x, padded - tokens) for x in (q_NxTxd * size**-0.5, k_NxTxd, v_NxTxd))
    return attend(q, k, v, segments)[:, :tokens]


def flash_blocks(tokens: int) -> tuple[int, int]:
    """(tokens of a block, tokens in all) of flash attention, padded to whole blocks."""
    padded = -(-tokens // _LANES) * _LANES
    if padded <= _FLASH_BLOCK:
        return padded, padded
    block = _FLASH_BLOCK // 2  # less padding than with whole ones
    return block, -(-tokens // block) * block


def cudnn_attention(q_NxTxd: jax.Array, k_NxTxd: jax.Array, v_NxTxd: jax.Array) -> jax.Array:
    """As `plain_attention`, by NVIDIA's cuDNN, forward and backward."""
    count, tokens, _ = q_NxTxd.shape
    # jax takes no odd number of tokens where there is a gradient.
    q, k, v = (_pad(x, tokens % 2)[:, :, None] for x in (q_NxTxd, k_NxTxd, v_NxTxd))
    lengths = jnp.full((count,), tokens, jnp.int32) if tokens % 2 else None
    mixed = jax.nn.dot_product_attention(
        q, k, v, query_seq_lengths=lengths, key_value_seq_lengths=lengths, implementation="cudnn"
    )
    return mixed[:, :tokens, 0]


def _pad(x_NxTxd: jax.Array, more: int) -> jax.Array:
    return jnp.pad(x_NxTxd, ((0, 0), (0, more), (0, 0)))


def is_cudnn_forward(primitive: Any, *_: Any, **__: Any) -> bool:
    """A policy of `jax.checkpoint`: keep what cuDNN gives, the logs of its sums too.

    They have no names; without them the backward pass would begin with another forward one.
    """
    return primitive.name == "dot_product_attention_fwd_wrapper"


# --- which -------------------------------------------------------------------------------------
_FORMS = {
    "plain": plain_attention,
    "blocks": blocked_attention,
    "flash": flash_attention,
    "cudnn": cudnn_attention,
}
_BEST = {"cpu": "blocks", "tpu": "flash", "gpu": "cudnn"}
KERNELS = ("flash", "cudnn")
_MOST_HEAD = {"flash": 256, "cudnn": 128}
"""Head sizes: above them flash has too little memory on the chip; cuDNN's limit before Hopper."""


def choose_attention(name: str, platform: str, dtype: jnp.dtype, head_size: int) -> str:
    """plain, blocks, flash or cudnn: what `config.Model.attention` means.

    Args:
      platform: "cpu", "tpu", …, as of `parallel.mesh.platform_of`.

    Raises:
      UsageError: it can't work there.
    """
    if name == "auto":
        best = _BEST.get(platform, "plain")
        return "plain" if _why_not(best, platform, dtype, head_size) else best
    reason = _why_not(name, platform, dtype, head_size)
    if reason:
        raise UsageError(f"model.attention: {name} {reason}, or leave model.attention at auto")
    return name


def find_attention(name: str, platform: str, dtype: jnp.dtype, head_size: int) -> Attend:
    """The function of `choose_attention`."""
    return _FORMS[choose_attention(name, platform, dtype, head_size)]


def _why_not(name: str, platform: str, dtype: jnp.dtype, head_size: int) -> str | None:
    """Why a form can't work, and what would; None if it can."""
    if name not in KERNELS:
        return None
    home = next(home for home, best in _BEST.items() if best == name)
    if platform != home:
        kind = "a TPU" if home == "tpu" else "an NVIDIA GPU of compute capability 8.0 or more"
        return f"needs {kind}, and this is {platform}: use plain"
    if dtype != jnp.bfloat16:
        return f"computes in bfloat16, not {dtype}: set model.dtype to it"
    most = _MOST_HEAD[name]
    if head_size % 8 or head_size > most:
        return f"takes heads of 8, 16, … {most} numbers, not {head_size}: change model.heads"
    return None


def with_gradient(attend: Attend) -> Callable[..., tuple[jax.Array, ...]]:
    """(q, k, v, gradient of the result) -> what is attended to, and the gradients of q, k and v;
    compiled."""

    def run(q, k, v, grad):
        mixed, backward = jax.vjp(attend, q, k, v)
        return mixed, *backward(grad)

    return jax.jit(run)


@functools.cache
def why_kernel_fails(form: str, head_size: int, odd: bool, device: jax.Device) -> str | None:
    """Tries a kernel on a few tokens, forward and gradient, in bfloat16, against plain attention.

    Args:
      odd: whether the number of tokens is.

    Returns:
      What went wrong, in one line; None where it works.
    """
    rng = np.random.default_rng(0)
    shape = (2, _TRIED_TOKENS + odd, head_size)
    numbers = [rng.standard_normal(shape).astype(jnp.bfloat16) for _ in range(4)]

    def both(attend: Attend) -> list[np.ndarray]:
        found = with_gradient(attend)(*jax.device_put(numbers, device))
        return [np.asarray(x, np.float32) for x in jax.device_get(found)]

    try:
        found = both(_FORMS[form])
    except Exception as error:  # of any kind: it comes from a compiler, a driver or a library
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return one_line(lines[0])[:200]
    pairs = zip(found, both(plain_attention), strict=True)
    far = np.max([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs])
    # A NaN is not <= either.
    return None if far <= _TRIED_LIMIT else f"its results are off by {far:.0%}"
