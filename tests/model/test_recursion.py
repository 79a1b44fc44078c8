"""The recursive block: scan equals a Python loop, and gradient flows from the window alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drm_jax.errors import UsageError
from drm_jax.model.backbone import init_params
from drm_jax.model.layers import rms_norm, rotary_angles, rotate, swiglu_width
from drm_jax.model.recursion import Recursion, forward, recur
from drm_jax.model.transformer import TokenMixer, Transformer

BOARDS = ((3, 3),)
MODEL = Transformer(hidden=16, heads=2, layers=1, prefix=2, swiglu_multiple=8)
RECURSION = Recursion(cycles=3, inner_steps=2)
NETWORK = MODEL.network(13, BOARDS, "cpu")


def initialised(network):
    """(parameters, constants)"""
    return jax.jit(lambda key: init_params(network, key))(jax.random.key(0))


PARAMS, _ = initialised(NETWORK)
X, Y, Z = jax.random.normal(jax.random.key(1), (3, 2, 11, 16))


@functools.partial(jax.jit, static_argnums=0)
def forward_of(network, *given):
    return forward(network, RECURSION, *given)


def python_loop(params, x, y, z, cycles, inner_steps, grad_cycles, cut_steps=0):
    for cycle in range(cycles):
        begins = cycle == cycles - grad_cycles
        if begins and cycle:
            y, z = jax.lax.stop_gradient((y, z))
        for step in range(inner_steps):
            if begins and step == cut_steps > 0:
                z = jax.lax.stop_gradient(z)
            z = NETWORK.block(params, z, y + x)
        y = NETWORK.block(params, y, z)
    return y, z


@pytest.mark.parametrize(
    ("grad_cycles", "cut_steps"), [(1, 0), (2, 0), (3, 0), (1, 1), (2, 2), (3, 2)]
)
def test_scan_equals_a_python_loop(grad_cycles, cut_steps):
    sizes = {"cycles": 3, "inner_steps": 3 if cut_steps else 2, "grad_cycles": grad_cycles}
    sizes["cut_steps"] = cut_steps

    def scanned(params, x, y, z):
        return recur(NETWORK.block, params, x, y, z, **sizes)

    def looped(params, x, y, z):
        return python_loop(params, x, y, z, **sizes)

    def gradients_and_latents(run):
        def of(*args):
            y, z = run(*args)
            return (y**2).sum() + (y * z).sum(), (y, z)

        return jax.jit(jax.grad(of, argnums=(0, 1, 2, 3), has_aux=True))(PARAMS, X, Y, Z)

    (ours, latents), (theirs, expected) = map(gradients_and_latents, (scanned, looped))
    for a, b in zip(latents, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3, rtol=1e-3), ours, theirs)
    starts_get_gradient = (np.asarray(ours[2]) != 0).any(), (np.asarray(ours[3]) != 0).any()
    assert starts_get_gradient == (grad_cycles == 3, grad_cycles == 3 and not cut_steps)


def test_cycles_without_gradient_keep_nothing_for_the_backward_pass():
    """Memory of a gradient doesn't grow with the cycles before the window."""

    def temp_bytes(cycles: int) -> int:
        def loss(params):
            y, _ = recur(
                NETWORK.block, params, X, Y, Z, cycles=cycles, inner_steps=2, grad_cycles=1
            )
            return y.sum()

        return jax.jit(jax.grad(loss)).lower(PARAMS).compile().memory_analysis().temp_size_in_bytes

    assert temp_bytes(12) < 1.3 * temp_bytes(2)


def test_inner_steps_without_gradient_change_nothing_but_gradients():
    """The same bits forward; nothing of them is kept: memory doesn't grow with their number."""
    loss = jax.jit(
        lambda params, sizes: recur(NETWORK.block, params, X, Y, Z, **dict(sizes)),
        static_argnums=1,
    )
    sizes = {"cycles": 2, "inner_steps": 4, "grad_cycles": 1}
    whole = loss(PARAMS, tuple(sizes.items()))
    for cut_steps in (1, 3):
        cut = loss(PARAMS, (*sizes.items(), ("cut_steps", cut_steps)))
        jax.tree.map(np.testing.assert_array_equal, whole, cut)

    def temp_bytes(inner_steps: int, cut_steps: int) -> int:
        def loss(params):
            sizes = {"cycles": 1, "inner_steps": inner_steps, "grad_cycles": 1}
            return recur(NETWORK.block, params, X, Y, Z, **sizes, cut_steps=cut_steps)[0].sum()

        return jax.jit(jax.grad(loss)).lower(PARAMS).compile().memory_analysis().temp_size_in_bytes

    assert temp_bytes(14, 12) < 1.1 * temp_bytes(4, 2)
    assert temp_bytes(14, 12) < 0.5 * temp_bytes(14, 0)


def test_forward_shapes_and_types():
    logits, q, (y, z) = forward_of(NETWORK, PARAMS, X, Y, Z)
    assert (logits.shape, logits.dtype) == ((2, 9, 13), jnp.float32)
    assert (q.shape, q.dtype) == ((2, 2), jnp.float32)
    assert y.shape == z.shape == X.shape
    np.testing.assert_array_equal(q, np.full((2, 2), -5.0))  # W starts at 0, b at -5


def test_bfloat16_compute_keeps_float32_weights():
    network = dataclasses.replace(MODEL, dtype="bfloat16").network(13, BOARDS, "cpu")
    params, _ = initialised(network)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    low = (X.astype(jnp.bfloat16), Y.astype(jnp.bfloat16), Z.astype(jnp.bfloat16))
    logits, _, (y, _) = forward_of(network, params, *low)
    assert (logits.dtype, y.dtype) == (jnp.float32, jnp.bfloat16)
    exact = forward_of(NETWORK, params, X, Y, Z)[0]
    assert np.corrcoef(logits.ravel(), exact.ravel())[0, 1] > 0.99


def test_compute_type_follows_the_platform():
    assert MODEL.network(13, BOARDS, "tpu").dtype == jnp.bfloat16
    assert NETWORK.dtype == jnp.float32


def test_paper_sizes():
    for model, millions in ((Transformer(), 6.83), (Transformer(hidden=768, heads=12), 14.18)):
        network = model.network(13, ((2, 2),), "cpu")
        params, _ = jax.eval_shape(lambda n=network: init_params(n, jax.random.key(0)))
        assert sum(p.size for p in jax.tree.leaves(params)) / 1e6 == pytest.approx(
            millions, abs=0.02
        )
    assert swiglu_width(512, 4, 256) == 1536


def test_initialisation_has_the_stated_spread():
    network = Transformer(hidden=256).network(13, ((2, 2),), "cpu")
    params, constants = initialised(network)
    params, constants = jax.device_get((params, constants))
    kernel = params["layer_0"]["attention"]["qkv"]["kernel"]
    assert kernel.std() == pytest.approx(1 / 16, rel=0.02)
    assert abs(kernel).max() <= 2.001 / 0.8796 / 16
    assert params["layer_0"]["swiglu"]["down"]["kernel"].std() == pytest.approx(768**-0.5, rel=0.02)
    assert params["embed_inputs"].std() == pytest.approx(1 / 16, rel=0.05)
    assert constants["y_init"].std() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("head_size", [8, 12, 32, 64])
def test_rotary_angles_are_those_of_torch_at_position_900(head_size):
    """A frequency that is one bit off would show as 3e-5 there."""
    torch = pytest.importorskip("torch")
    power = torch.arange(0, head_size, 2, dtype=torch.float32) / head_size
    angle = torch.outer(torch.arange(916, dtype=torch.float32), 1.0 / 10000.0**power)
    for ours, theirs in zip(rotary_angles(916, head_size), (angle.cos(), angle.sin())):
        np.testing.assert_allclose(ours, torch.cat([theirs, theirs], -1).numpy(), atol=2e-7)


def test_rotary_products_depend_on_distance_alone():
    cos, sin = rotary_angles(8, 4)
    q, k = np.random.default_rng(0).standard_normal((2, 1, 1, 4)).astype(np.float32)
    turned_q = rotate(np.tile(q, (1, 8, 1)), cos, sin)[0]
    turned_k = rotate(np.tile(k, (1, 8, 1)), cos, sin)[0]
    products = np.asarray(turned_q @ turned_k.T)
    for distance in range(-3, 4):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-5)
    assert not np.allclose(products[0, 1], products[0, 2], atol=1e-3)


def test_rms_norm():
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32) * 100
    np.testing.assert_allclose(np.mean(np.square(rms_norm(x)), axis=-1), 1, rtol=1e-5)


def test_the_puzzle_row_fills_the_first_prefix_token():
    rows = jnp.ones((2, 16))
    embedded = jax.jit(NETWORK.embed)(PARAMS, jnp.zeros((2, 9), jnp.int32), rows)
    embedded = np.asarray(embedded)
    np.testing.assert_allclose(embedded[:, 0], 4.0)  # sqrt(16)
    np.testing.assert_array_equal(embedded[:, 1], 0)
    np.testing.assert_allclose(embedded[:, 2], np.tile(4 * PARAMS["embed_inputs"][0], (2, 1)))


# --- the mixer over tokens ---------------------------------------------------------------------
def test_mixer_over_tokens():
    """Each channel is mixed over tokens by itself; the norm after it runs over tokens."""
    model = TokenMixer(hidden=16, layers=1, prefix=2, swiglu_multiple=8)
    network = model.network(13, BOARDS, "cpu")
    params, _ = initialised(network)
    assert set(params["layer_0"]) == {"mixer", "swiglu"}
    gate_up = params["layer_0"]["mixer"]["gate_up"]["kernel"]
    down = params["layer_0"]["mixer"]["down"]["kernel"]
    assert (gate_up.shape, down.shape) == ((11, 64), (32, 11))  # ceil(29 / 8) * 8 = 32

    def rms(x, axis):
        return x / np.sqrt(np.mean(np.square(x), axis=axis, keepdims=True) + 1e-5)

    def swiglu(x, gate_up, down):
        gate, up = np.split(x @ gate_up, 2, axis=-1)
        return (gate / (1 + np.exp(-gate)) * up) @ down

    h = np.asarray(X + Y)
    mixed = swiglu(h.transpose(0, 2, 1), gate_up, down).transpose(0, 2, 1)
    h = rms(h + mixed, axis=1)
    cells = (params["layer_0"]["swiglu"][name]["kernel"] for name in ("gate_up", "down"))
    expected = rms(h + swiglu(h, *cells), axis=2)
    ours = jax.jit(network.block)(params, X, Y)
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert swiglu_width(97, 4, 256) == 512  # a 9 x 9 board with a prefix of 16


def test_a_token_mixer_has_one_size_of_board():
    with pytest.raises(UsageError, match=r"data\.canvas: fit needs a backbone with attention"):
        TokenMixer(hidden=16).network(13, ((3, 3), (5, 5)), "cpu")


def test_a_vocabulary_of_twelve():
    network = MODEL.network(12, BOARDS, "cpu")
    params, _ = initialised(network)
    assert params["embed_inputs"].shape == (12, 16)
    assert forward_of(network, params, X, Y, Z)[0].shape == (2, 9, 12)


def test_more_cycles_with_gradient_than_there_are():
    with pytest.raises(UsageError, match=r"method\.recursion\.grad_cycles: 4 is more than the 3"):
        Recursion(cycles=3, grad_cycles=4)


def test_the_gradient_window_counts_blocks():
    window = Recursion(cycles=3, inner_steps=4, grad_cycles=2, grad_inner_steps=1)
    assert (window.blocks, window.grad_blocks, window.cut_steps) == (15, 7, 3)
    whole = dataclasses.replace(window, grad_inner_steps=None)
    assert (whole.grad_blocks, whole.cut_steps) == (10, 0)
    assert dataclasses.replace(window, grad_inner_steps=4).cut_steps == 0
    with pytest.raises(
        UsageError, match=r"recursion\.grad_inner_steps: 5 is more than the inner_s"
    ):
        dataclasses.replace(window, grad_inner_steps=5)
