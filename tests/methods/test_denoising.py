import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drm_jax.config import Data, Experiment, Model
from drm_jax.corruption.schedules import level_ratios, mask_ratio
from drm_jax.methods.denoising import denoise, pad_outside, remask_confidence, remask_uniform
from drm_jax.model.network import init_params, make_network
from drm_jax.model.recursion import forward
from drm_jax.puzzles.arc.tokens import MASK, PAD, grid_sizes, to_tokens

EXPERIMENT = Experiment(
    "denoise",
    data=Data(canvas=4),
    model=Model(hidden=16, heads=2, cycles=2, inner_steps=1, prefix=1, swiglu_multiple=8),
)
NETWORK = make_network(EXPERIMENT, "cpu")
PARAMS, CONSTANTS = init_params(NETWORK, jax.random.key(0))
INPUTS = np.random.default_rng(0).integers(0, 12, (3, 16)).astype(np.uint8)
ROWS = jax.random.normal(jax.random.key(2), (3, 16))
KEYS = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(0), row))(jnp.arange(3))


def run(inputs=INPUTS, rows=ROWS, keys=KEYS, **options):
    options = {"steps": 4, "remask": "uniform"} | options
    return denoise(NETWORK, PARAMS, CONSTANTS, inputs, rows, keys, **options)


@pytest.mark.parametrize("remask", ["uniform", "confidence"])
def test_trajectory(remask):
    result = run(remask=remask)
    assert result.trajectory_predicted.shape == (4, 3, 16)
    assert result.predicted.dtype == jnp.uint8
    np.testing.assert_array_equal(result.predicted, result.trajectory_predicted[-1])
    tokens, predicted = result.trajectory_tokens, result.trajectory_predicted
    assert (tokens[0] == MASK).all()
    for step in range(1, 4):  # each step begins from the last prediction, a part of it masked
        same = (tokens[step] == predicted[step - 1]) | (tokens[step] == MASK)
        assert same.all()
    masked = (tokens == MASK).sum(axis=(1, 2))
    assert masked[0] == 48
    assert masked[-1] < masked[0]


def test_denoising_is_a_loop_over_forward():
    """z carries over from step to step, y is embedded anew with the prefix of the start."""
    result = run()
    variables = {"params": PARAMS}
    x = NETWORK.apply(variables, INPUTS, ROWS, method="embed")
    z = jnp.broadcast_to(CONSTANTS["z_init"], x.shape)
    for step in range(4):
        tokens = result.trajectory_tokens[step]
        y = NETWORK.apply(variables, tokens, ROWS, answers=True, method="embed")
        logits, q, (_, z) = forward(NETWORK, PARAMS, x, y, z)
        np.testing.assert_array_equal(logits.argmax(-1), result.trajectory_predicted[step])
    np.testing.assert_allclose(result.q_halt, q[:, 0], atol=1e-5)


def test_the_first_remask_masks_all_or_is_skipped():
    assert (run().trajectory_tokens[1] == MASK).all()
    skipped = run(first_remask="skip")
    np.testing.assert_array_equal(skipped.trajectory_tokens[1], skipped.trajectory_predicted[0])


def test_the_share_that_is_masked_again_may_follow_the_training_schedule():
    shares = level_ratios("cosine")
    assert (shares[0], shares[1000]) == (0, 1)
    few, many = run(), run(shares=shares)  # at level 445 the cosine masks 0.41
    np.testing.assert_array_equal(few.trajectory_tokens[1], many.trajectory_tokens[1])
    draw = jnp.linspace(0, 0.999, 1000)[None]
    tokens = remask_uniform(jnp.full((1, 1000), 5), draw, jnp.int32(700), shares)
    assert (tokens == MASK).sum() == round(1000 * float(mask_ratio("cosine", np.int64(700))))


def test_z_may_begin_each_step_as_in_training():
    result = run(carry_z=False)
    tokens = result.trajectory_tokens[2]
    variables = {"params": PARAMS}
    x = NETWORK.apply(variables, INPUTS, ROWS, method="embed")
    y = NETWORK.apply(variables, tokens, ROWS, answers=True, method="embed")
    z = jnp.broadcast_to(CONSTANTS["z_init"], x.shape)
    logits, *_ = forward(NETWORK, PARAMS, x, y, z)
    np.testing.assert_array_equal(logits.argmax(-1), result.trajectory_predicted[2])
    assert (run().trajectory_predicted != result.trajectory_predicted).any()


@given(arrays(np.uint8, (4, 25), elements=st.integers(0, MASK)))
def test_outside_of_the_answered_grid_is_padding(predicted):
    predicted[0] = to_tokens(np.ones((2, 3), np.uint8), 5)
    predicted[1, :] = 5
    tokens = np.asarray(pad_outside(predicted))
    np.testing.assert_array_equal(tokens[:2], predicted[:2])  # a target is left as it is
    np.testing.assert_array_equal(grid_sizes(tokens), grid_sizes(predicted))
    for row, (height, width) in zip(range(4), grid_sizes(predicted), strict=True):
        kept = np.zeros((5, 5), bool)
        kept[: height + 1, : width + 1] = True
        kept[height : height + 1, width : width + 1] = False
        assert (tokens[row].reshape(5, 5)[~kept] == PAD).all()
        same = tokens[row].reshape(5, 5) == predicted[row].reshape(5, 5)
        assert same[kept].all()


def test_what_is_outside_enters_the_next_step_as_padding():
    result = run(outside="pad")
    entered = result.trajectory_tokens[-1]
    wanted = pad_outside(result.trajectory_predicted[-2])
    assert ((entered == wanted) | (entered == MASK)).all()
    assert (result.trajectory_predicted[-2] != wanted).any()


def test_a_row_does_not_depend_on_its_batch():
    whole, alone = run(), run(INPUTS[1:2], ROWS[1:2], KEYS[1:2])
    np.testing.assert_array_equal(whole.predicted[1], alone.predicted[0])
    np.testing.assert_allclose(whole.q_halt[1], alone.q_halt[0], atol=1e-5)


def test_draws_follow_the_key():
    other = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(1), row))(jnp.arange(3))
    assert (run().trajectory_tokens[2] != run(keys=other).trajectory_tokens[2]).any()


def test_uniform_remask_at_the_ends():
    predicted = jnp.arange(12)[None]
    draw = jnp.linspace(0, 0.999, 12)[None]
    assert (remask_uniform(predicted, draw, jnp.int32(1000)) == MASK).all()
    np.testing.assert_array_equal(remask_uniform(predicted, draw, jnp.int32(0)), predicted)


@pytest.mark.parametrize(("level", "cells"), [(72, 375), (72, 625), (650, 780), (285, 900)])
def test_the_number_of_masked_cells_is_the_same_compiled(level, cells):
    """level/1000 is rounded in float32, as published; XLA's own division may round otherwise."""
    predicted = np.where(np.arange(900) < cells, 5, PAD).astype(np.uint8)[None]
    draws = np.random.default_rng(0).random((2, 1, 900), np.float32)
    tokens = jax.jit(remask_confidence)(predicted, *draws, jnp.int32(level))
    share = np.float32(level) / np.float32(1000)
    assert (tokens == MASK).sum() == np.floor(share * np.float32(cells))


def test_confidence_remask_takes_the_least_sure_and_spares_pad():
    rng = np.random.default_rng(0)
    predicted = np.full((1, 300), 5)
    predicted[0, :100] = PAD
    confidence = rng.random((1, 300)).astype(np.float32)
    tokens = remask_confidence(predicted, confidence, rng.random((1, 300)), jnp.int32(750))
    masked = np.asarray(tokens[0]) == MASK
    assert masked.sum() == 150  # 0.75 of the 200 that are not PAD
    assert not masked[:100].any()
    least_sure = np.argsort(confidence[0, 100:])[:148] + 100  # 0.99 of 150
    assert masked[least_sure].all()


def test_cells_predicted_mask_stay_masked():
    predicted = np.full((1, 10), MASK)
    ones = np.ones((1, 10), np.float32)
    for tokens in (
        remask_uniform(predicted, ones, jnp.int32(1)),
        remask_confidence(predicted, ones, ones, jnp.int32(1)),
    ):
        assert (tokens == MASK).all()
