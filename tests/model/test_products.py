"""Row-major products are products, for all that surrounds them; where a CPU has bfloat16 units, in
bfloat16 too."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drm_jax.model import products
from drm_jax.model.precision import cpu_multiplies_bfloat16
from drm_jax.model.transformer import TokenMixer, Transformer

needs_units = pytest.mark.skipif(
    not cpu_multiplies_bfloat16(), reason="needs a CPU with AMX, and jax 0.12"
)


def dense(dtype: str, dot_general) -> nn.Dense:
    return nn.Dense(24, use_bias=False, dtype=dtype, dot_general=dot_general)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=needs_units)])
@pytest.mark.parametrize("rows", [1, 2, 33, 257])
@pytest.mark.parametrize("around", ["jit", "vmap", "scan", "transposed"])
def test_value_and_gradients_are_those_of_a_plain_product_in_float32(dtype, rows, around):
    rng = np.random.default_rng(rows)
    x = jnp.asarray(rng.standard_normal((3, rows, 16)), jnp.float32)
    weights = dense(dtype, None).init(jax.random.key(0), x[0])

    def loss(weights, x, dtype, dot_general):
        def one(x_NxD):
            return dense(dtype, dot_general).apply(weights, x_NxD).astype("float32")

        if around == "vmap":
            y = jax.vmap(one)(x)
        elif around == "scan":
            y = jax.lax.scan(lambda _, x_NxD: (None, one(x_NxD)), None, x)[1]
        elif around == "transposed":
            y = one(x[0].T[:, :16].T if rows >= 16 else x[0]).T
        else:
            y = one(x[0])
        return jnp.sin(y).sum()

    def found(dtype, dot_general):
        run = jax.jit(jax.value_and_grad(lambda w, x: loss(w, x, dtype, dot_general), (0, 1)))
        return run(weights, x)

    both = found(dtype, products.dense_product), found("float32", None)
    far = 1e-5 if dtype == "float32" else 0.03
    for ours, plain in zip(*map(jax.tree.leaves, both), strict=True):
        assert jnp.linalg.norm(ours - plain) <= far * jnp.linalg.norm(plain)


def test_a_transposed_operand_is_copied():
    """Else XLA reads it by columns, and no unit of the processor takes the product."""
    x, grad = jnp.ones((40, 16)), jnp.ones((40, 24))

    def of_kernel(product):
        compiled = jax.jit(lambda x, grad: product(x.T, grad)).lower(x, grad).compile()
        return compiled.as_text()

    assert "f32[16,40]{1,0}" in of_kernel(products._row_major_product)
    assert "f32[16,40]{1,0}" not in of_kernel(jnp.matmul)


def test_dense_layers_use_them_where_a_cpu_has_units(monkeypatch):
    for units in (True, False):
        monkeypatch.setattr(products, "cpu_multiplies_bfloat16", lambda units=units: units)
        assert (products.find_dense_product("cpu", jnp.bfloat16) is not None) == units
        assert products.find_dense_product("cpu", jnp.float32) is None
        assert products.find_dense_product("gpu", jnp.bfloat16) is None


@pytest.mark.parametrize(
    "model",
    [
        Transformer(hidden=32, heads=2, prefix=2, swiglu_multiple=16, dtype="bfloat16"),
        TokenMixer(hidden=32, prefix=2, swiglu_multiple=16, dtype="bfloat16"),
    ],
    ids=["attention", "mixer"],
)
@needs_units
def test_a_network_in_units_is_near_one_in_float32(model):
    network = model.network(12, [(5, 7)], "cpu")
    wide = dataclasses.replace(model, dtype="float32").network(12, [(5, 7)], "cpu")
    params = network.init(jax.random.key(0))
    h = jax.random.normal(jax.random.key(1), (3, 37, 32), jnp.float32)

    def gradient(net):
        def loss(params):
            y = net.block(params, h.astype(net.dtype), h.astype(net.dtype))
            return jnp.square(y.astype("float32")).sum() + y.astype("float32")[..., 0].sum()

        return jax.jit(jax.grad(loss))(params)

    near, exact = (
        jnp.concatenate([x.ravel() for x in jax.tree.leaves(gradient(net)["layer_0"])])
        for net in (network, wide)
    )
    assert jnp.linalg.norm(near - exact) < 0.03 * jnp.linalg.norm(exact)
