"""All forms of attention give what softmax gives, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drm_jax.model import attention
from drm_jax.model.attention import blocked_attention, find_attention, plain_attention


def inputs(count, tokens, size, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal((count, tokens, size)), dtype) for _ in range(4)]


def distance(ours, theirs):
    """Relative, by norm."""
    return np.linalg.norm(np.asarray(ours, np.float64) - theirs) / np.linalg.norm(theirs)


def exact(q, k, v, grad):
    """(mixed, gradients of q, k, v) in float64, in plain numpy."""
    q, k, v, grad = (np.asarray(x, np.float64) for x in (q, k, v, grad))
    scale = q.shape[-1] ** -0.5
    scores = scale * q @ k.swapaxes(1, 2)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    grad_weights = grad @ v.swapaxes(1, 2)
    grad_scores = weights * (grad_weights - (grad_weights * weights).sum(axis=-1, keepdims=True))
    grads = scale * grad_scores @ k, scale * grad_scores.swapaxes(1, 2) @ q
    return weights @ v, (*grads, weights.swapaxes(1, 2) @ grad)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("block", [1, 150, 700, 10**9])  # 1, 1, 3 and all 6 heads at a time
def test_blocks_are_exact(monkeypatch, block, dtype):
    monkeypatch.setattr(attention, "_BLOCK_SCORES", block)
    *qkv, grad = inputs(6, 15, 8, dtype)
    mixed, backward = jax.vjp(blocked_attention, *qkv)
    expected, expected_grads = exact(*qkv, grad)
    limit = 1e-6 if dtype == "float32" else 0.01
    for ours, theirs in zip((mixed, *backward(grad)), (expected, *expected_grads), strict=True):
        assert ours.dtype == dtype
        assert distance(ours, theirs) < limit


def test_plain_is_exact():
    *qkv, grad = inputs(6, 15, 8)
    mixed, backward = jax.vjp(plain_attention, *qkv)
    expected, expected_grads = exact(*qkv, grad)
    for ours, theirs in zip((mixed, *backward(grad)), (expected, *expected_grads), strict=True):
        assert distance(ours, theirs) < 1e-6


def test_large_scores_stay_finite():
    q, k, v, grad = (100 * x for x in inputs(2, 9, 4))
    mixed, backward = jax.vjp(blocked_attention, q, k, v)
    assert all(jnp.isfinite(x).all() for x in (mixed, *backward(grad)))
    np.testing.assert_allclose(mixed, plain_attention(q, k, v), rtol=1e-5, atol=1e-4)


def test_no_array_of_all_scores_exists():
    """Neither forward nor backward: that is what blocks are for."""
    *qkv, _ = inputs(512, 130, 8)  # heads of 16,900 scores: many blocks

    def loss(*qkv):
        return blocked_attention(*qkv).sum()

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*qkv).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 512 * 130 * 130 / 2


def test_auto_by_platform():
    assert find_attention("auto", "cpu", jnp.dtype("float32")) is blocked_attention
    assert find_attention("plain", "cpu", jnp.dtype("float32")) is plain_attention
