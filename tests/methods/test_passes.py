"""What is added to the passes of a test: noise on latents, an early exit."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drm_jax.config import Evaluate
from drm_jax.errors import UsageError
from drm_jax.methods.diffusion import Diffusion
from drm_jax.methods.drm import Drm
from drm_jax.methods.method import Answered, Method
from drm_jax.methods.passes import NO_EXIT, Exit, scan_to_exit, with_latent_noise
from drm_jax.methods.trm import Trm
from drm_jax.model.backbone import init_params
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer

RECURSION = Recursion(cycles=2, inner_steps=1)
METHODS = {"drm": Drm(RECURSION), "trm": Trm(RECURSION), "diffusion": Diffusion()}
NETWORK = Transformer(hidden=16, heads=2, layers=1, prefix=1, swiglu_multiple=8).network(
    13, ((4, 4),), "cpu"
)
INITIAL, CONSTANTS = jax.jit(lambda key: init_params(NETWORK, key))(jax.random.key(0))
# Not as a network begins, whose halting logits are all the same.
PARAMS = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(1), p.shape), INITIAL)
INPUTS = np.random.default_rng(0).integers(0, 12, (3, 16)).astype(np.uint8)
ROWS = jax.random.normal(jax.random.key(2), (3, 16))
STEPS = 6


def keys(first: int) -> jax.Array:
    return jax.vmap(lambda row: jax.random.fold_in(jax.random.key(0), row))(first + jnp.arange(3))


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def answered(method, key_B, noise=0.0, exits=NO_EXIT) -> Answered:
    return method.answer(
        NETWORK, PARAMS, CONSTANTS, INPUTS, ROWS, key_B,
        steps=STEPS, pad_outside=lambda tokens: tokens, latent_noise=noise, exits=exits,
    )  # fmt: skip


def test_noise_is_on_latents_alone_and_new_in_each_pass():
    carry = {
        "tokens": jnp.ones((3, 4), jnp.uint8),
        "y": jnp.zeros((3, 500)),
        "z": jnp.zeros((3, 8)),
    }
    first, again, later = (
        with_latent_noise(carry, keys(0), jnp.int32(index), 0.5) for index in (0, 0, 1)
    )
    np.testing.assert_array_equal(first["tokens"], carry["tokens"])
    np.testing.assert_array_equal(first["y"], again["y"])
    np.testing.assert_allclose(first["y"].std(axis=1), 0.5, rtol=0.1)
    for name in ("y", "z"):
        assert (first[name] != later[name]).all()
    rows = [*np.asarray(first["y"])[:, :8], *np.asarray(first["z"])]
    assert len({row.tobytes() for row in rows}) == 6  # of each row and each latent its own
    other = with_latent_noise(carry, keys(1), jnp.int32(0), 0.5)
    np.testing.assert_array_equal(other["y"][:2], first["y"][1:])  # a row's draws are its key's


@pytest.mark.parametrize("name", METHODS)
def test_rollouts_differ_by_noise(name):
    method = METHODS[name]
    plain = answered(method, keys(0))
    if name != "diffusion":
        more = answered(method, keys(0), 0.3)
        assert (plain.q_halt != more.q_halt).all()
        assert (answered(method, keys(5), 0.3).q_halt != more.q_halt).all()
    same = np.array_equal(answered(method, keys(5)).q_halt, plain.q_halt)
    assert same == (not method.draws_at_test)
    np.testing.assert_array_equal(plain.passes, STEPS)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("exits", [Exit(change=0.2), Exit(entropy=2.2), Exit(0.0, 2.1)], ids=str)
def test_an_answer_is_that_of_the_pass_at_which_it_is_final(name, exits):
    """Against all passes, looked at afterwards."""
    method = METHODS[name]
    whole, early = answered(method, keys(0)), answered(method, keys(0), 0.0, exits)
    predicted, entropy = np.asarray(whole.step_predicted), entropies(method)
    for row in range(3):
        final = next(
            (n for n in range(STEPS)
             if (exits.change is not None and n > 0
                 and (predicted[n, row] != predicted[n - 1, row]).mean() <= exits.change)
             or (exits.entropy is not None and entropy[n, row] <= exits.entropy)),
            STEPS - 1,
        )  # fmt: skip
        assert early.passes[row] == final + 1
        np.testing.assert_array_equal(early.predicted[row], predicted[final, row])
        assert early.q_halt[row] == whole.step_q_halt[final, row]
        for n in range(STEPS):
            np.testing.assert_array_equal(
                early.step_predicted[n, row], predicted[min(n, final), row]
            )


def entropies(method) -> np.ndarray:
    """(N, B) of each pass of `answered`."""
    start, one_pass = method.passes(
        NETWORK, PARAMS, CONSTANTS, INPUTS, ROWS, keys(0), pad_outside=lambda tokens: tokens
    )
    found = []
    for index, level in enumerate(method.remasked_levels(STEPS)):
        start, given = jax.jit(one_pass)(start, jnp.int32(index), jnp.int32(level))
        found.append(np.asarray(given.entropy))
    assert (np.array(found) > 0).all()
    assert (np.array(found) < np.log(13)).all()
    return np.array(found)


def test_no_pass_is_computed_once_all_answers_are_final():
    """The second row is final after pass 2, the first after pass 4."""

    @dataclasses.dataclass
    class Given:
        predicted: jax.Array
        entropy: jax.Array

    jax.tree_util.register_dataclass(Given)
    computed = []

    def step(carry, at):
        jax.debug.callback(lambda n: computed.append(int(n)), at[0])
        entropy_B = jnp.where(at[0] + 1 >= jnp.array([4, 2]), 0.0, 1.0)
        return carry + 1, Given(jnp.full((2, 3), carry, jnp.uint8), entropy_B)

    steps = jnp.arange(8), jnp.zeros(8, jnp.int32)
    run = jax.jit(lambda: scan_to_exit(step, jnp.uint8(0), steps, Exit(entropy=0.5), 2))
    given, used = jax.block_until_ready(run())
    jax.effects_barrier()
    assert sorted(computed) == [0, 1, 2, 3]
    assert used.tolist() == [4, 2]
    assert given.predicted[:, :, 0].tolist() == [[0, 0], [1, 1], [2, 1], [3, 1], *[[3, 1]] * 4]


def test_settings_that_do_nothing_are_refused(tiny):
    def with_test(method, **settings):
        return dataclasses.replace(tiny, method=method, evaluate=Evaluate(batch_size=4, **settings))

    with pytest.raises(UsageError, match="would all be alike"):
        with_test(Trm(RECURSION), rollouts=2)
    with_test(Trm(RECURSION), rollouts=2, latent_noise=0.1)
    with_test(Drm(RECURSION), rollouts=2)
    with pytest.raises(UsageError, match="from tokens alone"):
        with_test(Diffusion(), latent_noise=0.1)
    with pytest.raises(UsageError, match="arc has no rules"):
        with_test(Drm(RECURSION), choose="rules")
    for setting in ({"latent_noise": 0.1}, {"exit_change": 0.0}, {"exit_entropy": 0.1}):
        with pytest.raises(UsageError, match="an `answer` of its own"):
            with_test(OwnAnswer(), **setting)
    with_test(OwnAnswer(), rollouts=2)


@dataclasses.dataclass(frozen=True)
class OwnAnswer(Method):
    """A method that answers in its own way."""

    def loss(self, *args):
        raise NotImplementedError

    def answer(self, *args, **more):
        raise NotImplementedError
