"""The network on windows of the canvas, against the whole canvas."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drm_jax.model.attention import plain_attention
from drm_jax.model.backbone import init_params
from drm_jax.model.recursion import Recursion, forward
from drm_jax.model.transformer import Transformer

CANVAS, SIDE, PREFIX = 7, 4, 3
BOARDS = ((SIDE, SIDE), (CANVAS, CANVAS))
MODEL = Transformer(hidden=32, heads=4, layers=1, prefix=PREFIX, swiglu_multiple=8)
NETWORK = MODEL.network(13, BOARDS, "cpu")
RECURSION = Recursion(cycles=2, inner_steps=2)
PARAMS, CONSTANTS = jax.jit(lambda key: init_params(NETWORK, key))(jax.random.key(0))
CORNERS = np.array([[0, 0], [3, 1], [2, 3], [0, 3]], np.int32)
CELLS = [(row + np.arange(SIDE)[:, None]) * CANVAS + col + np.arange(SIDE) for row, col in CORNERS]
CELLS_BxS = np.array(CELLS).reshape(len(CORNERS), -1)


def answers(network, params, inputs, noised, rows):
    """(logits, halting logits) of a forward pass from a noised grid."""
    x = network.embed(params, inputs, rows)
    y = network.embed(params, noised, rows, answers=True)
    z = jnp.broadcast_to(CONSTANTS["z_init"], x.shape)
    return forward(network, RECURSION, params, x, y, z)[:2]


def attending(attend):
    """The network with another function of attention."""
    return dataclasses.replace(NETWORK, module=NETWORK.module.clone(attend=attend))


@pytest.mark.parametrize("corner", ["each its own", "all at (0, 0)"])
def test_a_window_is_the_canvas_with_attention_to_the_rest_masked(corner):
    rng = np.random.default_rng(0)
    cells_BxS = CELLS_BxS if corner == "each its own" else np.tile(CELLS_BxS[:1], (4, 1))
    rows = rng.standard_normal((4, 32)).astype(np.float32)
    whole = np.zeros((2, 4, CANVAS**2), np.uint8)  # inputs, noised: PAD outside of the windows
    inside = rng.integers(0, 13, (2, 4, SIDE**2), np.uint8)
    np.put_along_axis(whole, np.broadcast_to(cells_BxS, inside.shape), inside, axis=2)
    seen_BxT = np.zeros((4, PREFIX + CANVAS**2), bool)
    seen_BxT[:, :PREFIX] = True
    np.put_along_axis(seen_BxT, PREFIX + cells_BxS, True, axis=1)
    seen_NxT = np.repeat(seen_BxT, 4, axis=0)  # 4 heads

    def masked_attention(q, k, v):
        scores = jnp.einsum("ntd,nsd->nts", q, k) * q.shape[-1] ** -0.5
        scores = jnp.where(seen_NxT[:, None], scores, -jnp.inf)
        return jnp.einsum("nts,nsd->ntd", jax.nn.softmax(scores, axis=-1), v)

    masked = attending(masked_attention)
    corners = jnp.asarray(CORNERS) if corner == "each its own" else None
    windows = NETWORK.at_window(SIDE**2, corners)

    def loss(network, take, tokens, params, rows):
        logits, q = answers(network, params, *tokens, rows)
        return (jnp.take_along_axis(logits, take, axis=1) ** 2).sum() + (q**2).sum(), (logits, q)

    def run(network, *given):
        of_network = functools.partial(loss, network)
        return jax.jit(jax.value_and_grad(of_network, argnums=(2, 3), has_aux=True))(*given)

    take_window = np.broadcast_to(np.arange(SIDE**2)[None, :, None], (4, SIDE**2, 1))
    (_, (fit, fit_q)), fit_grads = run(windows, take_window, inside, PARAMS, rows)
    (_, (full, full_q)), full_grads = run(masked, cells_BxS[..., None], whole, PARAMS, rows)
    full = np.take_along_axis(np.asarray(full), cells_BxS[..., None], axis=1)
    np.testing.assert_allclose(fit, full, atol=1e-5)
    np.testing.assert_array_equal(fit.argmax(-1), full.argmax(-1))
    np.testing.assert_allclose(fit_q, full_q, atol=1e-5)
    for a, b in zip(jax.tree.leaves(fit_grads), jax.tree.leaves(full_grads), strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b) + 1e-6

    # without the mask, or at other corners, the numbers are others: the test can fail
    plain = attending(plain_attention)
    other = np.asarray(jax.jit(functools.partial(answers, plain))(PARAMS, *whole, rows)[0])
    assert np.abs(np.take_along_axis(other, cells_BxS[..., None], axis=1) - fit).max() > 1e-2
    moved = NETWORK.at_window(SIDE**2, jnp.asarray(CORNERS[::-1].copy()))
    elsewhere = jax.jit(functools.partial(answers, moved))(PARAMS, *inside, rows)[0]
    assert np.abs(elsewhere - fit).max() > 1e-4


def test_the_whole_canvas_is_no_window():
    assert NETWORK.at_window(CANVAS**2, jnp.zeros((2, 2), jnp.int32)) is NETWORK
