"""drm_rollout: what training shows the model is what a test shows it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from workdirs import quiet, saved

from drm_jax.config import with_changes
from drm_jax.corruption.schedules import level_ratios
from drm_jax.errors import UsageError
from drm_jax.io.files import work_path
from drm_jax.methods.denoising import Noise
from drm_jax.methods.drm import RecursiveDenoising
from drm_jax.methods.drm_rollout import DrmRollout
from drm_jax.model.backbone import init_params
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.run.loop import train

VOCABULARY, MASK, CELLS = 13, 12, 16
NETWORK = Transformer(hidden=16, heads=2, layers=1, prefix=2, swiglu_multiple=16).network(
    VOCABULARY, ((4, 4),), "cpu"
)
PARAMS, CONSTANTS = jax.jit(lambda key: init_params(NETWORK, key))(jax.random.key(0))
METHOD = DrmRollout(Recursion(cycles=2, inner_steps=1), rollout=4, from_target=0.0, halts=False)
rng = np.random.default_rng(0)
ROWS = jax.random.normal(jax.random.key(2), (3, 16))
EXAMPLES = {
    "inputs": rng.integers(1, 12, (3, CELLS)).astype(np.uint8),
    "target": rng.integers(1, 12, (3, CELLS)).astype(np.uint8),
    "puzzle_id": np.arange(3, dtype=np.int32),
    "weight": np.ones(3, np.float32),
}


def arriving(seed: int, **changes):
    """Examples that arrive, all masked."""
    bits = np.random.default_rng(seed)
    return EXAMPLES | {
        "begin_tokens": np.full((3, CELLS), MASK, np.uint8),
        "begin_place": np.zeros(3, np.int32),
        "begin_seed": bits.integers(0, 2**32, 3, np.uint32),
        "least_steps": np.zeros(3, np.int32),
    } | changes  # fmt: skip


def step(method, carry, batch):
    carry, batch = method.refill(carry, batch, CONSTANTS)
    _, sums, carry = method.loss(NETWORK, PARAMS, ROWS, CONSTANTS, batch, carry)
    return carry, sums


@pytest.mark.parametrize(
    ("remask", "carries", "replace"),
    [
        ("uniform", {}, "mask"),
        ("uniform", {"carry_z": False}, "mask"),
        ("uniform", {"z_passes": 2}, "mask"),
        ("confidence", {}, "mask"),
        ("confidence", {"carry_z": False}, "mask"),
        ("uniform", {}, "symbols"),
        ("confidence", {"carry_z": False}, "symbols"),
    ],
)
def test_a_rollout_in_training_is_a_test(remask, carries, replace):
    """With the weights held still, each slot sees the tokens that a test of its key sees."""
    denoising = RecursiveDenoising(remask, **carries)
    method = dataclasses.replace(METHOD, noise=Noise(replace=replace), denoising=denoising)
    first = arriving(1)
    answered = method.answer(
        NETWORK, PARAMS, CONSTANTS, first["inputs"], ROWS,
        jax.vmap(jax.random.key)(jnp.asarray(first["begin_seed"])),
        steps=4, pad_outside=lambda x: x,
    )  # fmt: skip
    carry = method.empty_carry(NETWORK, 3)
    for n in range(4):
        carry, batch = method.refill(carry, arriving(1 + n), CONSTANTS)
        np.testing.assert_array_equal(carry.tokens, answered.step_tokens[n])
        _, sums, carry = method.loss(NETWORK, PARAMS, ROWS, CONSTANTS, batch, carry)
        right = (answered.step_predicted[n] == EXAMPLES["target"]).mean(axis=1).sum()
        assert float(sums["accuracy"]) == pytest.approx(float(right), rel=1e-5)
    assert carry.left.all()


def test_a_slot_keeps_its_example_until_the_path_ends():
    carry, other = METHOD.empty_carry(NETWORK, 3), arriving(9)
    other["inputs"] = other["inputs"][::-1].copy()
    carry, _ = step(METHOD, carry, arriving(1))
    for _ in range(3):
        np.testing.assert_array_equal(carry.example["inputs"], EXAMPLES["inputs"])
        carry, sums = step(METHOD, carry, other)
    assert (float(sums["left"]), float(sums["left_steps"])) == (3, 12)
    carry, sums = step(METHOD, carry, other)
    np.testing.assert_array_equal(carry.example["inputs"], other["inputs"])
    assert (carry.steps == 1).all()
    assert float(sums["left"]) == 0


def test_a_rollout_may_begin_within_the_path():
    begin = {"begin_place": np.array([0, 2, 3], np.int32), "begin_tokens": EXAMPLES["target"]}
    carry, _ = METHOD.refill(METHOD.empty_carry(NETWORK, 3), arriving(1, **begin), CONSTANTS)
    np.testing.assert_array_equal(carry.tokens, EXAMPLES["target"])
    carry, sums = step(METHOD, METHOD.empty_carry(NETWORK, 3), arriving(1, **begin))
    np.testing.assert_array_equal(carry.left, [False, False, True])
    assert float(sums["left"]) == 1


def test_halting_ends_a_rollout_if_asked_to():
    sure = dict(PARAMS)
    path = next(k for k in sure if "halt" in k)
    sure[path] = jax.tree.map(lambda x: jnp.full_like(x, 5.0) if x.ndim == 1 else x, sure[path])
    left = []
    for halts in (False, True):
        method = dataclasses.replace(METHOD, halts=halts)
        carry, batch = method.refill(method.empty_carry(NETWORK, 3), arriving(1), CONSTANTS)
        *_, carry = method.loss(NETWORK, sure, ROWS, CONSTANTS, batch, carry)
        left.append(bool(carry.left.all()))
    assert left == [False, True]


@pytest.mark.parametrize("first", ["full", "skip"])
def test_the_place_on_the_path_has_as_many_cells_masked(first):
    denoising = RecursiveDenoising(first_remask=first)
    method = dataclasses.replace(METHOD, rollout=16, denoising=denoising)
    level_B = np.array([0, 1, 200, 500, 900, 1000])
    place_B = method.place_of(level_B)
    share_N = method.denoising.shares(method.noise)[method.test_levels(16)]
    ratio_B = level_ratios(method.noise.schedule)[level_B]
    assert place_B[0] == 15
    assert place_B[-1] == 0
    assert (np.diff(place_B) <= 0).all()
    for place, ratio in zip(place_B[1:], ratio_B[1:], strict=True):
        assert place == 15 or share_N[place] <= ratio + 1e-6
        assert place in (0, 2) or share_N[place - 1] > ratio - 1e-6  # of 2 with skip it is 0


def test_options_that_would_do_nothing_are_refused():
    for noise in (
        Noise(own_answers=0.5),
        Noise(all_masked=0.5),
        Noise(kind="spatially_correlated"),
    ):
        with pytest.raises(UsageError, match=r"method\.noise"):
            dataclasses.replace(METHOD, noise=noise)
    dataclasses.replace(METHOD, noise=Noise(all_masked=0.5), from_target=0.5)


def test_draws_are_of_as_many_targets_as_asked():
    def bits(purpose, each):
        return np.random.default_rng(purpose).integers(0, 2**32, (4000, each), np.uint32)

    target = np.ones((4000, CELLS), np.uint8)
    method = dataclasses.replace(METHOD, from_target=0.25, rollout=8, noise=Noise("linear"))
    rows = method.draw(bits, target, (4, 4), MASK)
    whole = (rows["begin_tokens"] == MASK).all(axis=1)
    assert 0.7 < whole.mean() < 0.8
    assert (rows["begin_place"][whole] == 0).mean() > 0.95  # some noised targets are masked whole
    assert len(set(rows["begin_place"].tolist())) >= 6
    assert (rows["least_steps"] == 0).all()
    noise = Noise("linear", replace="symbols")
    replaced = dataclasses.replace(method, noise=noise).draw(bits, target, (4, 4), MASK)
    jax.tree.map(np.testing.assert_array_equal, replaced, rows)  # symbols follow from begin_seed


def test_it_trains_and_goes_on_as_if_never_stopped(tiny, tmp_path):
    experiment = with_changes(tiny, {"method": "drm_rollout", "method.rollout": 3})
    whole, parts = work_path(tmp_path / "whole"), work_path(tmp_path / "parts")
    train(experiment, whole, quiet())
    train(with_changes(experiment, {"train.steps": 2}), parts, quiet())
    train(experiment, parts, quiet())
    one, other = (saved(workdir, experiment, 4) for workdir in (whole, parts))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert one.carry.steps.max() > 0
