"""The gradient of SwiGLU's elementwise part, which GPUs compute by a formula of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drm_jax.model import layers


def numbers(dtype):
    rng = np.random.default_rng(0)
    return [jnp.asarray(3 * rng.standard_normal(shape), dtype) for shape in ((5, 16), (5, 8))]


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-6), ("bfloat16", 0.01)])
def test_both_formulas_are_the_gradient(dtype, limit):
    gate_up, grad = numbers(dtype)
    gate, up = np.split(np.asarray(gate_up, np.float64), 2, axis=-1)
    wide, share = np.asarray(grad, np.float64), 1 / (1 + np.exp(-gate))
    exact = np.concatenate(
        [wide * up * share * (1 + gate * (1 - share)), wide * gate * share], axis=-1
    )
    found = [jax.vjp(layers.gated, gate_up)[1](grad)[0]]
    found += [form(gate_up, grad) for form in (layers._by_halves, layers._in_one_kernel)]
    for one in found:
        assert one.dtype == dtype
        assert np.linalg.norm(np.asarray(one, np.float64) - exact) < limit * np.linalg.norm(exact)


@pytest.mark.parametrize(("platform", "joined"), [("cuda", False), ("tpu", True), ("cpu", True)])
def test_each_platform_has_its_formula(platform, joined):
    """In the program as it is written: on a GPU no two halves are put side by side."""

    def gradient(gate_up, grad):
        return jax.vjp(layers.gated, gate_up)[1](grad)[0]

    lowered = jax.jit(gradient).trace(*numbers("float32")).lower(lowering_platforms=(platform,))
    text = lowered.as_text()
    assert ("stablehlo.concatenate" in text or "stablehlo.pad" in text) == joined
    if platform == "cpu":
        assert "conditional" not in lowered.compile().as_text()  # decided when it is compiled
