import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drm_jax.config import Data, Experiment, Model
from drm_jax.corruption.masking import corrupt, reverse_targets
from drm_jax.methods.denoising import denoise
from drm_jax.methods.objectives import (
    drm_loss,
    find_objective,
    path_loss,
    score,
    stablemax_cross_entropy,
    trains_answers,
)
from drm_jax.model.network import init_params, make_network
from drm_jax.model.recursion import forward
from drm_jax.puzzles.arc.tokens import MASK, PAD


def float64_loss(x: np.ndarray, target: int) -> float:
    s = np.where(x >= 0, x + 1, 1 / (1 - np.minimum(x, 0)))
    others = np.delete(s, target).sum()
    return float(np.log1p(others / s[target]))


def float64_gradient(x: np.ndarray, target: int) -> np.ndarray:
    s = np.where(x >= 0, x + 1, 1 / (1 - np.minimum(x, 0)))
    ds = np.where(x >= 0, 1.0, s**2)
    gradient = ds / s.sum()
    gradient[target] = -ds[target] * np.delete(s, target).sum() / (s[target] * s.sum())
    return gradient


def test_stablemax_holds_float64s_accuracy():
    rng = np.random.default_rng(0)
    logits = rng.uniform(-50, 50, (2000, 13)).astype(np.float32)
    logits[::2] = np.round(logits[::2])  # 0 and exactly 1 among them
    logits[::5] += 40 * np.eye(13, dtype=np.float32)[rng.integers(0, 13, 400)]  # nearly right
    logits = np.clip(logits, -50, 50)
    target = rng.integers(0, 13, 2000)
    target[::5] = logits[::5].argmax(axis=-1)
    loss = stablemax_cross_entropy(logits, target)
    gradient = jax.grad(lambda x: stablemax_cross_entropy(x, target).sum())(logits)
    for i in range(2000):
        x = logits[i].astype(np.float64)
        assert float(loss[i]) == pytest.approx(float64_loss(x, target[i]), rel=1e-6)
        expected = float64_gradient(x, target[i])
        np.testing.assert_allclose(gradient[i], expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_stablemax_is_finite_where_branches_meet(dtype):
    edge = jnp.array([0.0, 1.0, -1.0, 1e4, -1e4], dtype)
    logits = jnp.stack(jnp.meshgrid(edge, edge, edge), axis=-1).reshape(-1, 3)
    for target in range(3):
        targets = jnp.full(len(logits), target)
        loss, gradient = jax.value_and_grad(
            lambda x, t=targets: stablemax_cross_entropy(x, t).sum()
        )(logits)
        assert jnp.isfinite(loss)
        assert jnp.isfinite(gradient.astype(jnp.float32)).all()
    slope = jax.grad(lambda x: stablemax_cross_entropy(x[None], jnp.array([0]))[0])(jnp.zeros(3))
    np.testing.assert_allclose(slope, [-2 / 3, 1 / 3, 1 / 3], rtol=1e-6)


def test_score_by_hand():
    """Two examples of two cells over three tokens; the second cell of the first is not scored."""
    logits = jnp.array([[[3.0, 0, 0], [0, 5, 0]], [[0, 1, 0], [0, 0, 1]]])
    target = jnp.array([[0, 0], [1, 0]])
    scored = jnp.array([[True, False], [True, True]])
    q = jnp.array([[2.0, 0], [-1, 0]])
    loss, sums = score(logits, q, target, scored, jnp.ones(2))
    cells = [np.log(6 / 4), (np.log(4 / 2) + np.log(4 / 1)) / 2]
    halts = [np.log1p(np.exp(-2.0)), np.log1p(np.exp(-1.0))]  # right: target 1; wrong: target 0
    assert float(sums["cell_loss"]) == pytest.approx(sum(cells), rel=1e-6)
    assert float(sums["halt_loss"]) == pytest.approx(sum(halts), rel=1e-6)
    assert float(loss) == pytest.approx(sum(cells) + 0.5 * sum(halts), rel=1e-6)
    assert float(sums["accuracy"]) == 1.5
    assert float(sums["exact_accuracy"]) == 1
    assert float(sums["halt_accuracy"]) == 2
    alone, only_first = score(logits, q, target, scored, jnp.array([1.0, 0.0]))
    assert float(alone) == pytest.approx(cells[0] + 0.5 * halts[0], rel=1e-6)
    assert float(only_first["count"]) == 1


def test_an_example_without_scored_cells_adds_no_cell_loss():
    logits, target = jnp.zeros((1, 2, 3)), jnp.zeros((1, 2), jnp.int32)
    _, sums = score(logits, jnp.zeros((1, 2)), target, jnp.zeros((1, 2), bool), jnp.ones(1))
    assert float(sums["cell_loss"]) == 0


# --- supervision by path -----------------------------------------------------------------------
PATH = Experiment(
    "path",
    data=Data(canvas=4),
    model=Model(hidden=16, heads=2, layers=1, cycles=4, inner_steps=2, grad_cycles=4, prefix=2,
                swiglu_multiple=8),
    supervision="path",
)  # fmt: skip
NETWORK = make_network(PATH, "cpu")


def path_batch(levels, cycles: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 12, (len(levels), 16)).astype(np.uint8)
    noise = rng.random((len(levels), 16), np.float32)
    pairs = list(zip(target, noise, levels, strict=True))
    return {
        "inputs": rng.integers(0, 12, target.shape).astype(np.uint8),
        "target": target,
        "noised": np.stack([corrupt(t, u, level, "cosine") for t, u, level in pairs]),
        "reverse_targets": np.stack(
            [reverse_targets(t, u, level, cycles, "cosine") for t, u, level in pairs]
        ),
        "weight": np.array([1, 1, 0.5], np.float32),
    }


def naive_path_loss(network, params, rows, constants, batch):
    """The same by a Python loop and stop_gradient, written from the definition."""
    config, variables = network.config, {"params": params}
    x = network.apply(variables, batch["inputs"], rows, method="embed")
    y = network.apply(variables, batch["noised"], rows, answers=True, method="embed")
    z = jnp.broadcast_to(constants["z_init"], x.shape)
    total = 0.0
    for k in range(config.cycles):
        for _ in range(config.inner_steps):
            z = network.apply(variables, z, y + x, method="block")
        y = network.apply(variables, y, z, method="block")
        logits = network.apply(variables, y, method="decode")
        target, shown = batch["target"], batch["reverse_targets"][:, k] != MASK
        scored = (target != PAD) & shown
        cell = jnp.where(scored, stablemax_cross_entropy(logits, target), 0).sum(-1)
        cell = cell / jnp.maximum(scored.sum(-1), 1)
        total += (cell * batch["weight"]).sum() / config.cycles
        if k == config.cycles - 1:
            q = network.apply(variables, y, method="halting")[:, 0]
            right = jnp.where(target != PAD, jnp.argmax(logits, -1) == target, True).all(-1)
            halting = jnp.where(right, jax.nn.softplus(-q), jax.nn.softplus(q))
            total += 0.5 * (halting * batch["weight"]).sum()
        y, z = jax.lax.stop_gradient((y, z))
    return total


@pytest.fixture(scope="module")
def start():
    params, constants = init_params(NETWORK, jax.random.key(0))
    rows = jax.random.normal(jax.random.key(1), (3, 16))
    return params, rows, constants


def test_path_loss_and_gradients_are_those_of_a_plain_loop(start):
    params, rows, constants = start
    batch = path_batch([999, 400, 1])

    def ours(params, rows):
        return path_loss(NETWORK, params, rows, constants, batch)[0]

    def naive(params, rows):
        return naive_path_loss(NETWORK, params, rows, constants, batch)

    loss, grads = jax.jit(jax.value_and_grad(ours, argnums=(0, 1)))(params, rows)
    expected, expected_grads = jax.jit(jax.value_and_grad(naive, argnums=(0, 1)))(params, rows)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(ours(params, rows)) == pytest.approx(float(expected), rel=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * max(np.linalg.norm(b), 1e-6)
    assert np.abs(grads[0]["embed_answers"]).max() > 0
    doubled = jax.jit(jax.grad(lambda p: 2 * ours(p, rows)))(params)
    np.testing.assert_allclose(doubled["head"], 2 * grads[0]["head"], rtol=1e-5)


def test_own_answers_start_where_a_tests_first_step_ends(start):
    """By hand: the tokens and z of the second of a test's steps, with the masks of the target."""
    params, rows, constants = start
    batch = path_batch([700, 400, 1000]) | {"own_answer": np.array([True, False, True])}
    first = denoise(
        NETWORK, params, constants, batch["inputs"], rows, jax.random.split(jax.random.key(0), 3),
        steps=1, remask="uniform",
    )  # fmt: skip
    own = np.where(batch["noised"] == MASK, MASK, first.predicted)
    tokens = np.where([[True], [False], [True]], own, batch["noised"])
    x = NETWORK.apply({"params": params}, batch["inputs"], rows, method="embed")
    z = jnp.broadcast_to(constants["z_init"], x.shape)

    def embed(params, tokens):
        return NETWORK.apply({"params": params}, tokens, rows, answers=True, method="embed")

    masked = embed(params, np.full_like(tokens, MASK))
    *_, (_, z_after) = forward(NETWORK, params, x, masked, z)
    z = jnp.where(batch["own_answer"][:, None, None], z_after, z)

    def expected_loss(params):
        x = NETWORK.apply({"params": params}, batch["inputs"], rows, method="embed")
        logits, q, _ = forward(NETWORK, params, x, embed(params, tokens), z)
        target = batch["target"]
        return score(logits, q, target, target != PAD, batch["weight"])[0]

    def loss(params):
        return drm_loss(NETWORK, params, rows, constants, batch)[0]

    found, expected = (jax.value_and_grad(f)(params) for f in (loss, expected_loss))
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found[1], expected[1])
    plain = drm_loss(NETWORK, params, rows, constants, path_batch([700, 400, 1000]))[0]
    assert float(plain) != pytest.approx(float(found[0]), rel=1e-3)


def test_path_scores_what_a_level_shows(start):
    """At level 0 nothing was ever masked: every cycle is scored on all cells."""
    params, rows, constants = start
    batch = path_batch([0, 0, 0])
    batch["reverse_targets"][0, :3] = MASK  # cycles that show nothing add nothing
    _, sums = path_loss(NETWORK, params, rows, constants, batch)
    _, all_sums = path_loss(NETWORK, params, rows, constants, path_batch([0, 0, 0]))
    assert float(sums["cell_loss"]) < float(all_sums["cell_loss"])
    assert float(sums["halt_loss"]) == float(all_sums["halt_loss"])
    _, final = drm_loss(NETWORK, params, rows, constants, path_batch([0, 0, 0]))
    for name in ("accuracy", "exact_accuracy", "halt_loss", "halt_accuracy"):
        assert float(final[name]) == pytest.approx(float(all_sums[name]), rel=1e-5)


def test_path_keeps_one_cycle_in_memory(start):
    """The compiled gradient's scratch memory hardly grows with the cycles."""

    def temp_bytes(cycles: int) -> int:
        model = dataclasses.replace(PATH.model, cycles=cycles, grad_cycles=cycles)
        network = make_network(dataclasses.replace(PATH, model=model), "cpu")
        params, rows, constants = start
        batch = path_batch([999, 400, 1], cycles)
        grad = jax.grad(lambda p: path_loss(network, p, rows, constants, batch)[0])
        return jax.jit(grad).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temp_bytes(12) < 1.3 * temp_bytes(2)


# --- diffusion ---------------------------------------------------------------------------------
def test_diffusion_is_one_pass_through_all_layers(start):
    params, rows, constants = start
    experiment = dataclasses.replace(PATH, objective="diffusion", supervision="final")
    batch = path_batch([999, 400, 1])
    variables = {"params": params}
    x = NETWORK.apply(variables, batch["inputs"], rows, method="embed")
    y = NETWORK.apply(variables, batch["noised"], rows, answers=True, method="embed")
    h = NETWORK.apply(variables, x + y, jnp.zeros_like(x), method="block")
    expected, _ = score(
        NETWORK.apply(variables, h, method="decode"),
        NETWORK.apply(variables, h, method="halting"),
        batch["target"],
        batch["target"] != PAD,
        batch["weight"],
    )
    loss, _ = find_objective(experiment)(NETWORK, params, rows, constants, batch)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    recursive = forward(NETWORK, params, x, y, jnp.zeros_like(x))[0]
    assert not np.allclose(recursive, NETWORK.apply(variables, h, method="decode"), atol=0.1)


def test_who_trains_the_table_of_answers():
    def trains(**changes):
        return trains_answers(dataclasses.replace(PATH, **changes))

    short = dataclasses.replace(PATH.model, grad_cycles=1)
    assert trains()
    assert not trains(supervision="final", model=short)
    assert trains(supervision="final", objective="diffusion", model=short)
    assert not trains(supervision="final", objective="trm")
