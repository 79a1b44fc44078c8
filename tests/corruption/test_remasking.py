"""Remasking at test time, of arrays of numpy and of jax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drm_jax.corruption.remasking import remask_confidence, remask_uniform, remasked_levels
from drm_jax.corruption.schedules import denoising_levels, level_ratios, ratio_table

PAD, MASK = 0, 12


def test_shares_of_another_schedule():
    shares = level_ratios("cosine")
    assert (shares[0], shares[1000]) == (0, 1)
    draw = jnp.linspace(0, 0.999, 1000)[None]
    tokens = remask_uniform(jnp.full((1, 1000), 5), draw, jnp.int32(700), MASK, shares)
    assert (tokens == MASK).sum() == round(1000 * float(ratio_table("cosine")[700]))


@pytest.mark.parametrize("steps", [1, 2, 16, 1000])
def test_levels_of_remasking(steps):
    np.testing.assert_array_equal(remasked_levels(steps, "full"), denoising_levels(steps))
    skipped = remasked_levels(steps, "skip")
    assert skipped[0] == 0
    np.testing.assert_array_equal(skipped[1:], denoising_levels(steps)[1:])


def test_uniform_remask_at_the_ends():
    predicted = jnp.arange(12)[None]
    draw = jnp.linspace(0, 0.999, 12)[None]
    assert (remask_uniform(predicted, draw, jnp.int32(1000), MASK) == MASK).all()
    np.testing.assert_array_equal(remask_uniform(predicted, draw, jnp.int32(0), MASK), predicted)


@pytest.mark.parametrize(("level", "cells"), [(72, 375), (72, 625), (650, 780), (285, 900)])
def test_the_number_of_masked_cells_is_the_same_compiled(level, cells):
    """level/1000 is rounded in float32, as published; XLA's own division may round otherwise."""
    predicted = np.where(np.arange(900) < cells, 5, PAD).astype(np.uint8)[None]
    draws = np.random.default_rng(0).random((2, 1, 900), np.float32)
    tokens = jax.jit(remask_confidence)(predicted, *draws, jnp.int32(level), MASK)
    share = np.float32(level) / np.float32(1000)
    assert (tokens == MASK).sum() == np.floor(share * np.float32(cells))


def test_confidence_remask_takes_the_least_sure_and_spares_pad():
    rng = np.random.default_rng(0)
    predicted = np.full((1, 300), 5)
    predicted[0, :100] = PAD
    confidence = rng.random((1, 300)).astype(np.float32)
    tokens = remask_confidence(predicted, confidence, rng.random((1, 300)), jnp.int32(750), MASK)
    masked = np.asarray(tokens[0]) == MASK
    assert masked.sum() == 150  # 0.75 of the 200 that are not PAD
    assert not masked[:100].any()
    least_sure = np.argsort(confidence[0, 100:])[:148] + 100  # 0.99 of 150
    assert masked[least_sure].all()


def test_cells_predicted_mask_stay_masked():
    predicted = np.full((1, 10), MASK)
    ones = np.ones((1, 10), np.float32)
    for tokens in (
        remask_uniform(predicted, ones, jnp.int32(1), MASK),
        remask_confidence(predicted, ones, ones, jnp.int32(1), MASK),
    ):
        assert (tokens == MASK).all()


# --- arrays of numpy and of jax ------------------------------------------------------------------
SHARES = st.sampled_from(["linear", "cosine", "sigmoid"]).map(level_ratios)


@st.composite
def grids(draw):
    """Predicted tokens (B, S) with PAD and MASK among them, confidence with ties, and a draw."""
    shape = draw(st.sampled_from([(1, 1), (3, 37)]))  # each is compiled
    predicted = draw(arrays(np.uint8, shape, elements=st.integers(0, MASK)))
    confidence = draw(arrays(np.float32, shape, elements=st.sampled_from([0.25, 0.5, 0.75, 1])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return predicted, confidence, rng.random(shape, np.float32)


@functools.cache
def jitted(function):
    return jax.jit(functools.partial(function, mask=MASK))


def assert_numpy_equals_jax(function, given, level, shares):
    """Compiled, as in the loop of a test; and not."""
    ours = function(*given, level, MASK, shares)
    assert isinstance(ours, np.ndarray)
    given = [jnp.asarray(x) for x in given]
    plain = function(*given, jnp.int32(level), MASK, shares)
    assert isinstance(plain, jax.Array)
    np.testing.assert_array_equal(ours, plain)
    compiled = jitted(function)(*given, level=jnp.int32(level), shares=shares)
    np.testing.assert_array_equal(ours, compiled)


@given(grids(), st.integers(0, 1000), SHARES)
def test_uniform_remask_of_numpy_is_that_of_jax(drawn, level, shares):
    predicted, _, draw = drawn
    assert_numpy_equals_jax(remask_uniform, (predicted, draw), level, shares)


@given(grids(), st.integers(0, 1000), SHARES)
def test_confidence_remask_of_numpy_is_that_of_jax(drawn, level, shares):
    assert_numpy_equals_jax(remask_confidence, drawn, level, shares)
