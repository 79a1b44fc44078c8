"""Stablemax and the score of a batch, against the definitions in float64 and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drm_jax.methods.loss import score, stablemax_cross_entropy


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
    loss = np.asarray(jax.jit(stablemax_cross_entropy)(logits, target))
    gradient = jax.jit(jax.grad(lambda x: stablemax_cross_entropy(x, target).sum()))(logits)
    gradient = np.asarray(gradient)
    for i in range(2000):
        x = logits[i].astype(np.float64)
        assert float(loss[i]) == pytest.approx(float64_loss(x, target[i]), rel=1e-6)
        expected = float64_gradient(x, target[i])
        np.testing.assert_allclose(gradient[i], expected, rtol=1e-5, atol=1e-12)


@jax.jit
def value_and_gradient(logits, targets):
    return jax.value_and_grad(lambda x: stablemax_cross_entropy(x, targets).sum())(logits)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_stablemax_is_finite_where_branches_meet(dtype):
    edge = np.array([0.0, 1.0, -1.0, 1e4, -1e4], dtype)
    logits = np.stack(np.meshgrid(edge, edge, edge), axis=-1).reshape(-1, 3)
    for target in range(3):
        targets = np.full(len(logits), target)
        loss, gradient = value_and_gradient(logits, targets)
        assert np.isfinite(loss)
        assert np.isfinite(gradient.astype(np.float32)).all()
    _, slope = value_and_gradient(np.zeros((1, 3), np.float32), np.array([0]))
    np.testing.assert_allclose(slope[0], [-2 / 3, 1 / 3, 1 / 3], rtol=1e-6)


def test_score_by_hand():
    """Two examples of two cells over three tokens; the second cell of the first is not scored."""
    logits = jnp.array([[[3.0, 0, 0], [0, 5, 0]], [[0, 1, 0], [0, 0, 1]]])
    target = jnp.array([[0, 0], [1, 0]])
    scored = jnp.array([[True, False], [True, True]])
    q = jnp.array([[2.0, 0], [-1, 0]])
    score_of = jax.jit(score)
    loss, sums = score_of(logits, q, target, scored, jnp.ones(2))
    cells = [np.log(6 / 4), (np.log(4 / 2) + np.log(4 / 1)) / 2]
    halts = [np.log1p(np.exp(-2.0)), np.log1p(np.exp(-1.0))]  # right: target 1; wrong: target 0
    assert float(sums["cell_loss"]) == pytest.approx(sum(cells), rel=1e-6)
    assert float(sums["halt_loss"]) == pytest.approx(sum(halts), rel=1e-6)
    assert float(loss) == pytest.approx(sum(cells) + 0.5 * sum(halts), rel=1e-6)
    assert float(sums["accuracy"]) == 1.5
    assert float(sums["exact_accuracy"]) == 1
    assert float(sums["halt_accuracy"]) == 2
    alone, only_first = score_of(logits, q, target, scored, jnp.array([1.0, 0.0]))
    assert float(alone) == pytest.approx(cells[0] + 0.5 * halts[0], rel=1e-6)
    assert float(only_first["count"]) == 1


def test_an_example_without_scored_cells_adds_no_cell_loss():
    logits, target = jnp.zeros((1, 2, 3)), jnp.zeros((1, 2), jnp.int32)
    halting, none = jnp.zeros((1, 2)), jnp.zeros((1, 2), bool)
    _, sums = jax.jit(score)(logits, halting, target, none, jnp.ones(1))
    assert float(sums["cell_loss"]) == 0
