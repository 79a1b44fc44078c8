"""DRM: supervision by path, start states of the model's own, one step at a time."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drm_jax.corruption.masking import corrupt, reverse_targets
from drm_jax.errors import UsageError
from drm_jax.methods.denoising import Noise, shown
from drm_jax.methods.diffusion import Diffusion
from drm_jax.methods.drm import Drm, path_loss
from drm_jax.methods.loss import score, stablemax_cross_entropy
from drm_jax.methods.sprm import Sprm
from drm_jax.methods.trm import Trm
from drm_jax.model.backbone import init_params
from drm_jax.model.recursion import Recursion, forward
from drm_jax.model.transformer import Transformer

PAD, MASK = 0, 12
RECURSION = Recursion(cycles=4, inner_steps=1, grad_cycles=4)
FINAL = Drm(recursion=RECURSION)
PATH = Drm(recursion=RECURSION, supervision="path")
MODEL = Transformer(hidden=16, heads=2, layers=1, prefix=2, swiglu_multiple=8)
NETWORK = MODEL.network(13, ((4, 4),), "cpu")


def path_batch(levels, cycles: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 12, (len(levels), 16)).astype(np.uint8)
    noise = rng.random((len(levels), 16), np.float32)
    pairs = list(zip(target, noise, levels, strict=True))
    return {
        "inputs": rng.integers(0, 12, target.shape).astype(np.uint8),
        "target": target,
        "noised": np.stack([corrupt(t, u, level, "cosine", MASK) for t, u, level in pairs]),
        "reverse_targets": np.stack(
            [reverse_targets(t, u, level, cycles, "cosine", MASK) for t, u, level in pairs]
        ),
        "weight": np.array([1, 1, 0.5], np.float32),
    }


def naive_path_loss(network, params, rows, constants, batch, recursion=RECURSION):
    """The same by a Python loop and stop_gradient, written from the definition."""
    x = network.embed(params, batch["inputs"], rows)
    y = network.embed(params, batch["noised"], rows, answers=True)
    z = jnp.broadcast_to(constants["z_init"], x.shape)
    total = 0.0
    for k in range(4):
        for step in range(recursion.inner_steps):
            z = jax.lax.stop_gradient(z) if step == recursion.cut_steps else z
            z = network.block(params, z, y + x)
        y = network.block(params, y, z)
        logits = network.decode(params, y)
        target, shown = batch["target"], batch["reverse_targets"][:, k] != MASK
        scored = (target != PAD) & shown
        cell = jnp.where(scored, stablemax_cross_entropy(logits, target), 0).sum(-1)
        cell = cell / jnp.maximum(scored.sum(-1), 1)
        total += (cell * batch["weight"]).sum() / 4
        if k == 3:
            q = network.halting(params, y)[:, 0]
            right = jnp.where(target != PAD, jnp.argmax(logits, -1) == target, True).all(-1)
            halting = jnp.where(right, jax.nn.softplus(-q), jax.nn.softplus(q))
            total += 0.5 * (halting * batch["weight"]).sum()
        y, z = jax.lax.stop_gradient((y, z))
    return total


def loss_of(method, params, rows, constants, batch):
    """(loss, sums) of a method that carries nothing."""
    loss, sums, carry = method.loss(NETWORK, params, rows, constants, batch, None)
    assert carry is None
    return loss, sums


compiled_loss_of = jax.jit(loss_of, static_argnums=0)


@pytest.fixture(scope="module")
def start():
    params, constants = jax.jit(lambda key: init_params(NETWORK, key))(jax.random.key(0))
    rows = jax.random.normal(jax.random.key(1), (3, 16))
    return params, rows, constants


@pytest.mark.parametrize("grad_inner_steps", [None, 1])
def test_path_loss_and_gradients_are_those_of_a_plain_loop(start, grad_inner_steps):
    params, rows, constants = start
    batch = path_batch([999, 400, 1])
    sizes = {"inner_steps": 1 if grad_inner_steps is None else 3}
    sizes["grad_inner_steps"] = grad_inner_steps
    recursion = dataclasses.replace(RECURSION, **sizes)
    method = dataclasses.replace(PATH, recursion=recursion)

    def ours(params, rows):
        return loss_of(method, params, rows, constants, batch)[0]

    def naive(params, rows):
        return naive_path_loss(NETWORK, params, rows, constants, batch, recursion)

    @jax.jit
    def scaled(scale, params, rows):
        return jax.value_and_grad(lambda *of: scale * ours(*of), argnums=(0, 1))(params, rows)

    loss, grads = scaled(1.0, params, rows)
    expected, expected_grads = jax.jit(jax.value_and_grad(naive, argnums=(0, 1)))(params, rows)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    forward_alone = compiled_loss_of(method, params, rows, constants, batch)[0]
    assert float(forward_alone) == pytest.approx(float(expected), rel=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * max(np.linalg.norm(b), 1e-6)
    assert np.abs(grads[0]["embed_answers"]).max() > 0
    _, (doubled, _) = scaled(2.0, params, rows)
    np.testing.assert_allclose(doubled["head"], 2 * grads[0]["head"], rtol=1e-5)


@pytest.mark.parametrize("symbols", [False, True])
def test_own_answers_start_where_a_tests_first_step_ends(start, symbols):
    """By hand: the tokens and z of the second of a test's steps, with the masks of the target."""
    params, rows, constants = start
    batch = path_batch([700, 400, 1000]) | {"own_answer": np.array([True, False, True])}
    seed, noise = np.array([5, 6, 7], np.uint32), Noise(replace="symbols" if symbols else "mask")
    if symbols:
        batch["symbol_seed"] = seed
    method = dataclasses.replace(FINAL, noise=noise)
    one_step = functools.partial(method.answer, NETWORK, steps=1, pad_outside=None)
    keys = jax.vmap(jax.random.key)(seed)
    first = jax.jit(one_step)(params, constants, batch["inputs"], rows, keys)
    own = np.where(batch["noised"] == MASK, MASK, first.predicted)
    tokens = np.where([[True], [False], [True]], own, batch["noised"])

    def embed(params, tokens, index):
        tokens = shown(NETWORK, jnp.asarray(tokens), keys, index) if symbols else tokens
        return NETWORK.embed(params, tokens, rows, answers=True)

    @jax.jit
    def begins(params):
        x = NETWORK.embed(params, batch["inputs"], rows)
        z = jnp.broadcast_to(constants["z_init"], x.shape)
        masked = embed(params, np.full_like(tokens, MASK), 0)
        *_, (_, z_after) = forward(NETWORK, RECURSION, params, x, masked, z)
        return jnp.where(batch["own_answer"][:, None, None], z_after, z)

    z = begins(params)

    def expected_loss(params):
        x = NETWORK.embed(params, batch["inputs"], rows)
        logits, q, _ = forward(NETWORK, RECURSION, params, x, embed(params, tokens, 1), z)
        target = batch["target"]
        return score(logits, q, target, target != PAD, batch["weight"])[0]

    def loss(params):
        return loss_of(FINAL, params, rows, constants, batch)[0]

    found, expected = (jax.jit(jax.value_and_grad(f))(params) for f in (loss, expected_loss))
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found[1], expected[1])
    plain = compiled_loss_of(FINAL, params, rows, constants, path_batch([700, 400, 1000]))[0]
    assert float(plain) != pytest.approx(float(found[0]), rel=1e-3)


@pytest.mark.parametrize("method", [FINAL, PATH, Diffusion()])
def test_symbols_in_training_are_shown_in_the_place_of_masks(start, method):
    """As if they had been drawn before: what is scored stays as it is."""
    params, rows, constants = start
    seed = np.array([5, 6, 7], np.uint32)
    masked = path_batch([999, 400, 1])
    by_hand = shown(NETWORK, jnp.asarray(masked["noised"]), jax.vmap(jax.random.key)(seed), 0)
    assert (by_hand != MASK).all()
    expected = compiled_loss_of(method, params, rows, constants, masked | {"noised": by_hand})
    found = compiled_loss_of(method, params, rows, constants, masked | {"symbol_seed": seed})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
    plain, _ = compiled_loss_of(method, params, rows, constants, masked)
    assert float(plain) != pytest.approx(float(found[0]), rel=1e-4)


def test_path_scores_what_a_level_shows(start):
    """At level 0 nothing was ever masked: every cycle is scored on all cells."""
    params, rows, constants = start
    batch = path_batch([0, 0, 0])
    batch["reverse_targets"][0, :3] = MASK  # cycles that show nothing add nothing
    _, sums = compiled_loss_of(PATH, params, rows, constants, batch)
    _, all_sums = compiled_loss_of(PATH, params, rows, constants, path_batch([0, 0, 0]))
    assert float(sums["cell_loss"]) < float(all_sums["cell_loss"])
    assert float(sums["halt_loss"]) == float(all_sums["halt_loss"])
    _, final = compiled_loss_of(FINAL, params, rows, constants, path_batch([0, 0, 0]))
    for name in ("accuracy", "exact_accuracy", "halt_loss", "halt_accuracy"):
        assert float(final[name]) == pytest.approx(float(all_sums[name]), rel=1e-5)


def test_path_keeps_one_cycle_in_memory(start):
    """The compiled gradient's scratch memory hardly grows with the cycles."""

    def temp_bytes(cycles: int) -> int:
        recursion = dataclasses.replace(RECURSION, cycles=cycles, grad_cycles=cycles)
        params, rows, constants = start
        batch = path_batch([999, 400, 1], cycles)
        grad = jax.grad(lambda p: path_loss(NETWORK, p, rows, constants, batch, recursion)[0])
        return jax.jit(grad).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temp_bytes(12) < 1.3 * temp_bytes(2)


# --- diffusion ---------------------------------------------------------------------------------
def test_diffusion_is_one_pass_through_all_layers(start):
    params, rows, constants = start
    batch = path_batch([999, 400, 1])

    @jax.jit
    def by_hand(params):
        x = NETWORK.embed(params, batch["inputs"], rows)
        y = NETWORK.embed(params, batch["noised"], rows, answers=True)
        h = NETWORK.block(params, x + y, jnp.zeros_like(x))
        logits, target = NETWORK.decode(params, h), batch["target"]
        halting = NETWORK.halting(params, h)
        loss, _ = score(logits, halting, target, target != PAD, batch["weight"])
        return loss, logits, forward(NETWORK, RECURSION, params, x, y, jnp.zeros_like(x))[0]

    expected, logits, recursive = by_hand(params)
    loss, _ = compiled_loss_of(Diffusion(), params, rows, constants, batch)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert not np.allclose(recursive, logits, atol=0.1)


# --- which options go together -----------------------------------------------------------------
def test_who_trains_the_table_of_answers():
    short = dataclasses.replace(RECURSION, grad_cycles=1)
    assert PATH.trains_answers
    assert FINAL.trains_answers
    assert not Drm(recursion=short).trains_answers
    assert Diffusion().trains_answers
    assert not Trm(recursion=RECURSION).trains_answers
    assert not Sprm(recursion=RECURSION).trains_answers


def test_a_path_is_scored_in_every_cycle():
    with pytest.raises(UsageError, match=r"method\.recursion\.grad_cycles: supervision=path"):
        Drm(supervision="path")
    noise = dataclasses.replace(FINAL.noise, own_answers=0.5)
    with pytest.raises(UsageError, match=r"method\.noise\.own_answers: is for supervision=final"):
        dataclasses.replace(PATH, noise=noise)
