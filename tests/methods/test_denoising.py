import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drm_jax.corruption.schedules import level_ratios
from drm_jax.methods.denoising import Denoising, Noise, shown
from drm_jax.methods.drm import Drm, RecursiveDenoising
from drm_jax.model.backbone import init_params
from drm_jax.model.recursion import Recursion, forward
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.arc.tokens import MASK, pad_outside

METHOD = Drm(recursion=Recursion(cycles=2, inner_steps=1))
MODEL = Transformer(hidden=16, heads=2, layers=1, prefix=1, swiglu_multiple=8)
NETWORK = MODEL.network(13, ((4, 4),), "cpu")
PARAMS, CONSTANTS = jax.jit(lambda key: init_params(NETWORK, key))(jax.random.key(0))
INPUTS = np.random.default_rng(0).integers(0, 12, (3, 16)).astype(np.uint8)
ROWS = jax.random.normal(jax.random.key(2), (3, 16))
KEYS = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(0), row))(jnp.arange(3))


def run(inputs=INPUTS, rows=ROWS, keys=KEYS, noise=METHOD.noise, **options):
    method = dataclasses.replace(METHOD, noise=noise, denoising=RecursiveDenoising(**options))
    return answered(method, inputs, rows, keys)


@functools.partial(jax.jit, static_argnums=0)
def answered(method, inputs, rows, keys):
    """Four steps."""
    return method.answer(
        NETWORK, PARAMS, CONSTANTS, inputs, rows, keys, steps=4, pad_outside=pad_outside
    )


@jax.jit
def forward_from(tokens, z=None):
    """The network on an answer, from z or from the start of training."""
    x = NETWORK.embed(PARAMS, INPUTS, ROWS)
    y = NETWORK.embed(PARAMS, tokens, ROWS, answers=True)
    z = jnp.broadcast_to(CONSTANTS["z_init"], x.shape) if z is None else z
    return forward(NETWORK, METHOD.recursion, PARAMS, x, y, z)


@pytest.mark.parametrize("remask", ["uniform", "confidence"])
def test_trajectory(remask):
    result = run(remask=remask)
    assert result.step_predicted.shape == (4, 3, 16)
    assert result.predicted.dtype == jnp.uint8
    np.testing.assert_array_equal(result.predicted, result.step_predicted[-1])
    tokens, predicted = result.step_tokens, result.step_predicted
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
    z = jnp.broadcast_to(CONSTANTS["z_init"], (3, 17, 16))
    for step in range(4):
        logits, q, (_, z) = forward_from(result.step_tokens[step], z)
        np.testing.assert_array_equal(logits.argmax(-1), result.step_predicted[step])
    np.testing.assert_allclose(result.q_halt, q[:, 0], atol=1e-5)


def test_the_first_remask_masks_all_or_is_skipped():
    assert (run().step_tokens[1] == MASK).all()
    skipped = run(first_remask="skip")
    np.testing.assert_array_equal(skipped.step_tokens[1], skipped.step_predicted[0])


def test_the_share_that_is_masked_again_may_follow_the_training_schedule():
    noise = Noise(schedule="sigmoid")  # at level 444 it masks 0.195
    many, few = run(noise=noise), run(noise=noise, remask_schedule="training")
    np.testing.assert_array_equal(few.step_tokens[1], many.step_tokens[1])
    few_masked, many_masked = (x.step_tokens[2] == MASK for x in (few, many))
    assert (few_masked <= many_masked).all()  # of one answer, by the same draws
    assert few_masked.sum() < many_masked.sum()
    trained = Denoising(remask_schedule="training").shares(noise)
    np.testing.assert_array_equal(trained, level_ratios("sigmoid"))
    np.testing.assert_array_equal(Denoising().shares(noise), level_ratios("linear"))


def test_z_may_begin_each_step_as_in_training():
    result = run(carry_z=False)
    logits, *_ = forward_from(result.step_tokens[2])
    np.testing.assert_array_equal(logits.argmax(-1), result.step_predicted[2])
    assert (run().step_predicted != result.step_predicted).any()


def test_z_may_begin_anew_after_some_steps():
    result = run(z_passes=3)
    z = jnp.broadcast_to(CONSTANTS["z_init"], (3, 17, 16))
    for step in range(4):
        if step == 3:
            z = jnp.broadcast_to(CONSTANTS["z_init"], z.shape)
        logits, _, (_, z) = forward_from(result.step_tokens[step], z)
        np.testing.assert_array_equal(logits.argmax(-1), result.step_predicted[step])
    assert (run().step_predicted[3] != result.step_predicted[3]).any()
    alone = run(z_passes=3, carry_z=False)
    np.testing.assert_array_equal(alone.step_predicted, run(carry_z=False).step_predicted)


def test_what_is_outside_enters_the_next_step_as_padding():
    result = run(outside="pad")
    entered = result.step_tokens[-1]
    wanted = pad_outside(result.step_predicted[-2])
    assert ((entered == wanted) | (entered == MASK)).all()
    assert (result.step_predicted[-2] != wanted).any()


def test_a_row_does_not_depend_on_its_batch():
    whole, alone = run(), run(INPUTS[1:2], ROWS[1:2], KEYS[1:2])
    np.testing.assert_array_equal(whole.predicted[1], alone.predicted[0])
    np.testing.assert_allclose(whole.q_halt[1], alone.q_halt[0], atol=1e-5)


def test_draws_follow_the_key():
    other = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(1), row))(jnp.arange(3))
    assert (run().step_tokens[2] != run(keys=other).step_tokens[2]).any()


def test_levels_of_a_test():
    assert METHOD.test_levels(4).tolist() == [1000, 1000, 444, 112]
    skip = dataclasses.replace(METHOD, denoising=RecursiveDenoising(first_remask="skip"))
    assert skip.test_levels(4).tolist() == [1000, 0, 444, 112]


# --- random symbols in the place of MASK -------------------------------------------------------
SYMBOLS = Noise(replace="symbols")


@pytest.mark.parametrize("remask", ["uniform", "confidence"])
def test_what_is_masked_is_shown_as_random_symbols(remask):
    """A loop over forward that never sees MASK; the masks themselves are drawn as ever."""
    result = run(noise=SYMBOLS, remask=remask)
    assert (result.step_tokens[0] == MASK).all()
    z = jnp.broadcast_to(CONSTANTS["z_init"], (3, 17, 16))
    seen_before = None
    for step, tokens in enumerate(result.step_tokens):
        seen = shown(NETWORK, tokens, KEYS, step)
        masked = tokens == MASK
        np.testing.assert_array_equal(seen[~masked], tokens[~masked])
        assert ((seen > 0) & (seen < MASK))[masked].all()
        if step == 1:  # all masked again, and shown anew
            assert (seen != seen_before).mean() > 0.5
        seen_before = seen
        logits, _, (_, z) = forward_from(seen, z)
        np.testing.assert_array_equal(logits.argmax(-1), result.step_predicted[step])
    if remask == "uniform":
        other = run(remask=remask).step_tokens == MASK
        found = (result.step_tokens == MASK) & (np.roll(result.step_predicted, 1, 0) != MASK)
        assert (found <= other).all()


def test_symbols_of_a_row_do_not_depend_on_its_batch():
    whole = run(noise=SYMBOLS)
    alone = run(INPUTS[1:2], ROWS[1:2], KEYS[1:2], noise=SYMBOLS)
    np.testing.assert_array_equal(whole.step_tokens[:, 1], alone.step_tokens[:, 0])
    np.testing.assert_array_equal(whole.predicted[1], alone.predicted[0])


def test_symbols_are_uniform_and_each_pass_has_its_own():
    keys = jax.vmap(jax.random.key)(jnp.arange(3000))
    tokens = jnp.full((3000, 16), MASK, jnp.uint8)
    one, two = (np.asarray(shown(NETWORK, tokens, keys, index)) for index in (0, 1))
    assert one.dtype == np.uint8
    counts = np.bincount(one.ravel(), minlength=13)
    assert counts[0] == counts[MASK] == 0
    assert abs(counts[1:MASK] * 11 / one.size - 1).max() < 0.06
    assert (one == two).mean() == pytest.approx(1 / 11, abs=0.01)
    assert (one[1:] == one[:-1]).mean() == pytest.approx(1 / 11, abs=0.01)
    mixed = shown(NETWORK, tokens, keys, jnp.arange(3000) % 2)
    np.testing.assert_array_equal(mixed, np.where(np.arange(3000)[:, None] % 2, two, one))
