"""All forms of attention give what softmax gives, and its gradient."""

import dataclasses
import functools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental.pallas.ops.tpu import splash_attention

from drm_jax.errors import UsageError
from drm_jax.model import attention
from drm_jax.model.attention import (
    blocked_attention,
    choose_attention,
    cudnn_attention,
    find_attention,
    flash_attention,
    plain_attention,
)
from drm_jax.model.backbone import init_params
from drm_jax.model.precision import OLDER_GPU
from drm_jax.model.transformer import Transformer
from drm_jax.parallel.mesh import global_batch, make_mesh, platform_of
from drm_jax.run.setup import set_up, training_stream
from drm_jax.training.state import make_sharded
from drm_jax.training.step import compile_train_step


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


# --- Flash attention, interpreted on the CPU ---


@pytest.fixture
def interpreted(monkeypatch):
    """The kernel's own way to be interpreted. (Pallas's for whole programs knows no remat.)"""
    make = functools.partial(splash_attention.make_splash_mha, interpret=True)
    monkeypatch.setattr(splash_attention, "make_splash_mha", make)


def test_flash_blocks():
    windows = (21, 80, 160, 272, 416, 592, 916, 1024)
    for tokens, padded in zip(windows, (128, 128, 256, 384, 512, 640, 1024, 1024), strict=True):
        assert attention.flash_blocks(tokens) == (padded, padded)
    assert attention.flash_blocks(1025) == (512, 1536)


@pytest.mark.parametrize(
    ("count", "tokens", "size", "dtype", "block"),
    [
        (3, 41, 16, "float32", 1024),
        (2, 150, 64, "float32", 1024),
        (2, 128, 8, "float32", 1024),  # no padding
        (2, 150, 64, "bfloat16", 1024),
        (1, 300, 16, "float32", 256),  # three blocks of 128
    ],
)
def test_flash_is_exact(count, tokens, size, dtype, block, interpreted, monkeypatch):
    monkeypatch.setattr(attention, "_FLASH_BLOCK", block)
    *qkv, grad = inputs(count, tokens, size, dtype)
    mixed, backward = jax.vjp(flash_attention, *qkv)
    expected, expected_grads = exact(*qkv, grad)
    limit = 1e-6 if dtype == "float32" else 0.01
    for ours, theirs in zip((mixed, *backward(grad)), (expected, *expected_grads), strict=True):
        assert ours.dtype == dtype
        assert ours.shape == theirs.shape
        assert distance(ours, theirs) < limit


def test_what_pads_has_no_influence(interpreted, monkeypatch):
    """Whatever stands there."""

    def pad(x, more):
        return jnp.pad(x, ((0, 0), (0, more), (0, 0)), constant_values=50.0)

    *qkv, grad = inputs(2, 41, 16)
    monkeypatch.setattr(attention, "_pad", pad)
    mixed, backward = jax.vjp(flash_attention, *qkv)
    expected, expected_grads = exact(*qkv, grad)
    for ours, theirs in zip((mixed, *backward(grad)), (expected, *expected_grads), strict=True):
        assert distance(ours, theirs) < 1e-6


def test_large_scores_stay_finite_in_flash(interpreted):
    q, k, v, grad = (100 * x for x in inputs(2, 9, 8))
    mixed, backward = jax.vjp(flash_attention, q, k, v)
    assert all(jnp.isfinite(x).all() for x in (mixed, *backward(grad)))
    np.testing.assert_allclose(mixed, plain_attention(q, k, v), rtol=1e-5, atol=1e-4)


def test_a_training_step_with_flash(tiny, interpreted):
    """In the loops, computed again, in the shards of two devices: the gradient is that of plain."""
    model = dataclasses.replace(tiny.model, remat="layer")
    setup = set_up(dataclasses.replace(tiny, model=model), make_mesh(jax.devices()[:2]))
    batch = global_batch(training_stream(setup)[0], setup.mesh)
    moments = []
    for attend in (plain_attention, flash_attention):
        module = setup.network.module.clone(attend=attend)
        network = dataclasses.replace(setup.network, module=module)
        trained = dataclasses.replace(setup.trained, network=network)
        step = compile_train_step(trained, setup.mesh, setup.shardings)
        state, _ = step(make_sharded(setup.make_state, setup.shardings), batch)
        moments.append(jax.tree.leaves(state.opt_state.m))
    for plain, flash in zip(*moments, strict=True):
        assert np.linalg.norm(plain - flash) <= 2e-5 * np.linalg.norm(plain)


# --- Programs for accelerators, written on a machine without one ---

ACCELERATED = Transformer(hidden=32, heads=2, layers=1, prefix=2, swiglu_multiple=8)


@pytest.fixture
def some_cudnn(monkeypatch):
    """jax asks for cuDNN's version, of which it only compares that it is new enough."""
    from jax._src.cudnn import fused_attention_stablehlo

    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)


def kernels(remat: str, platform: str, side: int = 4) -> list[str]:
    """Calls of kernels in the gradient of a loop of one layer, in their order."""
    model = dataclasses.replace(ACCELERATED, remat=remat)
    network = model.network(13, ((side, side),), platform)
    params = jax.eval_shape(lambda: init_params(network, jax.random.key(0)))[0]
    h = jax.ShapeDtypeStruct((2, 2 + side**2, 32), jnp.bfloat16)

    def loss(params, h):
        def step(y, _):
            return network.block(params, y, h), None

        return lax.scan(step, h, length=3)[0].astype(jnp.float32).sum()

    traced = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(params, h)
    text = traced.lower(lowering_platforms=("cuda" if platform == "gpu" else platform,)).as_text()
    return re.findall(r"custom_call @(tpu_custom_call|__cudnn\S+?)\(", text)


@pytest.mark.parametrize(("remat", "forward"), [("none", 1), ("attention", 1), ("layer", 2)])
def test_the_forward_kernel_runs_again_only_where_it_should(remat, forward, some_cudnn):
    """What it gives is kept, the logs of the sums too; unless all of a layer is computed again."""
    assert len(kernels(remat, "tpu")) == forward + 1
    names = kernels(remat, "gpu")
    assert names.count("__cudnn$fmhaSoftmax") == forward
    assert names.count("__cudnn$fmhaSoftmaxBackward") == 1
    assert len(names) == forward + 1


def test_cudnn_takes_an_odd_number_of_tokens(some_cudnn):
    assert kernels("none", "gpu", side=3) == kernels("none", "gpu", side=4)  # 11 tokens, and 18


# --- Which ---


@pytest.mark.parametrize(
    ("platform", "dtype", "size", "expected"),
    [
        ("cpu", "float32", 64, "blocks"),
        ("cpu", "bfloat16", 64, "blocks"),
        ("tpu", "bfloat16", 64, "flash"),
        ("tpu", "bfloat16", 256, "flash"),
        ("tpu", "bfloat16", 264, "plain"),
        ("tpu", "float32", 64, "plain"),
        ("gpu", "bfloat16", 64, "cudnn"),
        ("gpu", "bfloat16", 136, "plain"),
        ("gpu", "bfloat16", 4, "plain"),
        ("gpu", "float32", 64, "plain"),
        ("another gpu", "bfloat16", 64, "plain"),
        (OLDER_GPU, "bfloat16", 64, "plain"),
        (OLDER_GPU, "float32", 64, "plain"),
    ],
)
def test_auto(platform, dtype, size, expected):
    assert choose_attention("auto", platform, jnp.dtype(dtype), size) == expected
    for name in ("plain", "blocks"):
        assert choose_attention(name, platform, jnp.dtype(dtype), size) == name


def test_each_form_has_its_function():
    bfloat16 = jnp.dtype("bfloat16")
    assert find_attention("plain", "cpu", bfloat16, 64) is plain_attention
    assert find_attention("blocks", "gpu", bfloat16, 64) is blocked_attention
    assert find_attention("flash", "tpu", bfloat16, 64) is flash_attention
    assert find_attention("cudnn", "gpu", bfloat16, 64) is cudnn_attention


@pytest.mark.parametrize(
    ("name", "platform", "dtype", "size", "words"),
    [
        ("flash", "cpu", "bfloat16", 64, "flash needs a TPU, and this is cpu: use plain"),
        ("flash", "gpu", "bfloat16", 64, "flash needs a TPU"),
        ("flash", "tpu", "float32", 64, "flash computes in bfloat16, not float32: set model.dtype"),
        ("cudnn", "cpu", "bfloat16", 64, "cudnn needs an NVIDIA GPU of compute capability 8.0"),
        ("cudnn", "tpu", "bfloat16", 64, "cudnn needs an NVIDIA GPU"),
        ("cudnn", "another gpu", "bfloat16", 64, "cudnn needs an NVIDIA GPU"),
        ("cudnn", OLDER_GPU, "bfloat16", 64, "8.0 or more, and this is a GPU before Ampere: use"),
        ("cudnn", "gpu", "float32", 64, "cudnn computes in bfloat16, not float32"),
        ("cudnn", "gpu", "bfloat16", 192, "takes heads of 8, 16, … 128 numbers, not 192: change"),
        ("flash", "tpu", "bfloat16", 4, "takes heads of 8, 16, … 256 numbers, not 4: change"),
    ],
)
def test_what_cannot_work_is_refused(name, platform, dtype, size, words):
    with pytest.raises(UsageError, match=re.escape(words)) as raised:
        choose_attention(name, platform, jnp.dtype(dtype), size)
    assert re.match(r"model\.attention: .*, or leave model\.attention at auto$", str(raised.value))


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ({"platform": "cpu"}, "cpu"),
        ({"platform": "tpu"}, "tpu"),
        ({"platform": "gpu", "compute_capability": "9.0"}, "gpu"),
        ({"platform": "gpu", "compute_capability": "10.3"}, "gpu"),
        ({"platform": "gpu", "compute_capability": "8.0"}, "gpu"),
        ({"platform": "gpu", "compute_capability": "7.5"}, OLDER_GPU),
        ({"platform": "gpu", "compute_capability": "6.0"}, OLDER_GPU),
        ({"platform": "gpu", "compute_capability": "gfx942"}, "another gpu"),  # of AMD
        ({"platform": "gpu"}, "another gpu"),
    ],
)
def test_platforms(device, expected):
    assert platform_of(SimpleNamespace(devices=np.array([SimpleNamespace(**device)]))) == expected


def test_a_run_that_cannot_attend_is_refused_at_its_start(tiny):
    model = dataclasses.replace(tiny.model, attention="flash")
    with pytest.raises(UsageError, match=r"model\.attention: flash needs a TPU, and this is cpu"):
        set_up(dataclasses.replace(tiny, model=model))
