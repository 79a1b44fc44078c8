"""The convolution within SwiGLU: by hand, its gradient, and networks that have it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from drm_jax.model.convolution import convolve
from drm_jax.model.layers import Convolution
from drm_jax.model.transformer import TokenMixer, Transformer

PREFIX, BOARD = 2, (3, 4)
MODEL = Transformer(
    hidden=16, heads=2, layers=1, prefix=PREFIX, swiglu_multiple=8, attention="plain"
)
MIXER = TokenMixer(hidden=16, layers=1, prefix=PREFIX, swiglu_multiple=8)
KEY = jax.random.key(0)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def by_hand(cells: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Of (B, height, width, F)."""
    found = np.zeros_like(cells)
    height, width = cells.shape[1:3]
    for r in range(height):
        for c in range(width):
            for i in range(3):
                for j in range(3):
                    row, column = r + i - 1, c + j - 1
                    if 0 <= row < height and 0 <= column < width:
                        found[:, r, c] += kernel[i, j] * cells[:, row, column]
    return found


@pytest.mark.parametrize("board", [(3, 4), (1, 1), (1, 5), (4, 1)])
def test_by_hand(board):
    """The prefix stays as it is."""
    tokens, kernel = numbers(2, PREFIX + board[0] * board[1], 5), numbers(3, 3, 5)
    module = Convolution(board, jnp.dtype("float32"))
    found = np.asarray(module.apply({"params": {"kernel": kernel}}, tokens))
    np.testing.assert_array_equal(found[:, :PREFIX], tokens[:, :PREFIX])
    expected = by_hand(tokens[:, PREFIX:].reshape(2, *board, 5), kernel)
    np.testing.assert_allclose(found[:, PREFIX:].reshape(expected.shape), expected, atol=1e-5)


def test_a_case_in_plain_numbers():
    """Right and below: 1 + 2 of the cell to the right + 3 of the one below."""
    kernel = np.zeros((3, 3, 1), np.float32)
    kernel[1, 1], kernel[1, 2], kernel[2, 1] = 1, 2, 3
    cells = np.arange(1, 7, dtype=np.float32).reshape(1, 6, 1)  # 1 2 3 / 4 5 6
    found = convolve(cells, kernel, (2, 3))
    assert np.ravel(found).tolist() == [1 + 4 + 12, 2 + 6 + 15, 3 + 18, 4 + 10, 5 + 12, 6]


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-5), ("bfloat16", 0.01)])
def test_gradient_is_that_of_xla_s_own_convolution(dtype, limit):
    cells, kernel, grad = numbers(2, 12, 5), numbers(3, 3, 5), numbers(2, 12, 5)

    def of_xla(cells, kernel):
        rows = cells.reshape(2, *BOARD, 5)
        names = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            rows, kernel[:, :, None], (1, 1), "SAME", None, None, names, feature_group_count=5
        ).reshape(cells.shape)

    def both(convolution, of):
        found, backward = jax.vjp(convolution, jnp.asarray(cells, of), jnp.asarray(kernel))
        return found, *backward(jnp.asarray(grad, of))

    ours = both(lambda *given: convolve(*given, BOARD), dtype)
    assert [x.dtype for x in ours] == [dtype, dtype, jnp.float32]
    for found, expected in zip(ours, both(of_xla, "float32"), strict=True):
        far = np.linalg.norm(np.asarray(found, np.float32) - expected)
        assert far < limit * np.linalg.norm(expected)


# --- networks -----------------------------------------------------------------------------------
def network_of(model, boards=(BOARD,)):
    return model.network(13, boards, "cpu")


def fresh(model, boards=(BOARD,)):
    return jax.jit(network_of(model, boards).init)(KEY)


@functools.cache
def block_and_gradient(model, boards=(BOARD,), window=None):
    """Compiled: (params, h, injection) -> f, and its gradient by the parameters."""
    network = network_of(model, boards)
    network = network if window is None else network.at_window(window)

    def loss(params, h, injection):
        out = network.block(params, h, injection)
        return (out[..., 0] ** 2).sum() + (out[..., 1:] * h[..., :-1]).sum(), out

    return jax.jit(jax.grad(loss, has_aux=True))


def inputs(tokens: int) -> np.ndarray:
    return numbers(2, 3, tokens, 16)


@pytest.mark.parametrize("model", [MODEL, MIXER], ids=["attention", "mixer"])
def test_a_fresh_network_is_that_without_it(model):
    """All other parameters too, to the bit; and every tap is trained."""
    convolved = dataclasses.replace(model, convolution=True)
    plain, params = map(fresh, (model, convolved))
    kernel = params["layer_0"]["swiglu"].pop("convolution")["kernel"]
    width = plain["layer_0"]["swiglu"]["down"]["kernel"].shape[0]
    assert (kernel.shape, kernel.dtype) == ((3, 3, width), jnp.float32)
    assert jax.tree.structure(plain) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, plain, params)
    params["layer_0"]["swiglu"]["convolution"] = {"kernel": kernel}
    given = inputs(PREFIX + 12)
    _, expected = block_and_gradient(model)(plain, *given)
    grads, found = block_and_gradient(convolved)(params, *given)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    grad = np.asarray(grads["layer_0"]["swiglu"]["convolution"]["kernel"])
    assert (np.abs(grad).max(axis=-1) > 1e-4).all()


def trained(model, boards=(BOARD,)):
    """Parameters with taps that are no longer those of the start."""
    params = fresh(model, boards)
    convolution = params["layer_0"]["swiglu"]["convolution"]
    convolution["kernel"] = convolution["kernel"] + 0.3 * numbers(*convolution["kernel"].shape)
    return params


@pytest.mark.parametrize(
    "changes",
    [{"remat": "attention"}, {"remat": "layer"}, {"attention": "blocks"}],
    ids=lambda changes: next(iter(changes.values())),
)
def test_it_is_the_same_however_it_is_computed(changes):
    model = dataclasses.replace(MODEL, convolution=True)
    given = trained(model), *inputs(PREFIX + 12)
    ours = block_and_gradient(dataclasses.replace(model, **changes))(*given)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4),
        ours,
        block_and_gradient(model)(*given),
    )


def test_a_window_has_a_border_of_its_own():
    """With positions by row and column a window at the corner is a board of its size."""
    model = dataclasses.replace(MODEL, convolution=True, positions="board")
    boards = ((3, 3), (5, 5))
    params, given = trained(model, boards), inputs(PREFIX + 9)
    of_window = block_and_gradient(model, boards, window=9)(params, *given)
    of_board = block_and_gradient(model, ((3, 3),))(params, *given)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), of_window, of_board)
    # as if all cells beyond it were 0
    kernel, cells = numbers(3, 3, 4), np.zeros((1, 5, 5, 4), np.float32)
    cells[:, 1:4, 2:5] = numbers(1, 3, 3, 4)
    whole = convolve(cells.reshape(1, 25, 4), kernel, (5, 5)).reshape(cells.shape)
    alone = convolve(cells[:, 1:4, 2:5].reshape(1, 9, 4), kernel, (3, 3))
    np.testing.assert_allclose(np.ravel(whole[:, 1:4, 2:5]), np.ravel(alone), atol=1e-5)


def test_bfloat16_compute():
    model = dataclasses.replace(MODEL, convolution=True)
    params, given = trained(model), inputs(PREFIX + 12)
    _, wide = block_and_gradient(model)(params, *given)
    narrow = dataclasses.replace(model, dtype="bfloat16")
    grads, found = block_and_gradient(narrow)(params, *jnp.asarray(given, jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    assert grads["layer_0"]["swiglu"]["convolution"]["kernel"].dtype == jnp.float32
    assert np.linalg.norm(np.asarray(found, np.float32) - wide) < 0.02 * np.linalg.norm(wide)
