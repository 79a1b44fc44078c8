"""Slots of the batch: who stays, who is replaced, and the same on any number of devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from drm_jax.config import with_changes
from drm_jax.methods.carried import Halting, empty_carry, refill
from drm_jax.methods.sprm import kept_signal, latent_noise, perturb
from drm_jax.parallel.mesh import BATCH_AXES, global_batch, make_mesh
from drm_jax.random_bits import draw_bits
from drm_jax.run.setup import set_up, trained_parts, training_stream
from drm_jax.training.state import make_sharded
from drm_jax.training.step import SLOT_IDS, compile_train_step

CONSTANTS = {"y_init": jnp.full(16, 2.0), "z_init": jnp.full(16, 3.0)}


@pytest.fixture
def trm(tiny):
    return with_changes(tiny, {"method": "trm", "method.halting": Halting(3, 0.5)})


def arriving(experiment, first: int) -> dict[str, np.ndarray]:
    """Four rows told apart by their numbers."""
    count = experiment.train.batch_size
    row = np.arange(first, first + count)
    cells = np.tile(row[:, None], (1, experiment.data.canvas**2)).astype(np.uint8)
    return {
        "inputs": cells,
        "target": cells + 100,
        "puzzle_id": row.astype(np.int32),
        "weight": np.ones(count, np.float32),
        "least_steps": row.astype(np.int32),
    }


def test_a_left_slot_takes_what_arrives_and_a_busy_one_drops_it(trm):
    carry = empty_carry(trained_parts(trm, "cpu").network, trm.train.batch_size)
    carry, batch = refill(carry, arriving(trm, 10), CONSTANTS)
    assert batch["puzzle_id"].tolist() == [10, 11, 12, 13]
    assert (carry.y == 2).all()
    assert (carry.z == 3).all()
    carry = carry.replace(
        y=carry.y + 5, steps=jnp.array([1, 2, 3, 4]), left=jnp.array([False, True, False, True])
    )
    carry, batch = refill(carry, arriving(trm, 20), CONSTANTS)
    assert batch["puzzle_id"].tolist() == [10, 21, 12, 23]
    assert batch["inputs"][:, 0].tolist() == [10, 21, 12, 23]
    assert batch["target"][:, -1].tolist() == [110, 121, 112, 123]
    assert batch["least_steps"].tolist() == [20, 21, 22, 23]  # afresh for busy slots too
    assert carry.y[:, 0, 0].tolist() == [7, 2, 7, 2]
    assert carry.steps.tolist() == [1, 0, 3, 0]
    assert carry.example["puzzle_id"].tolist() == [10, 21, 12, 23]


@pytest.mark.parametrize("method", ["trm", "sprm"])
def test_one_device_equals_four(trm, method):
    """Nine steps in which slots are left and refilled; examples and counters bit for bit."""
    levels = {"method.latent_levels": 1000} if method == "sprm" else {}
    experiment = with_changes(trm, {"method": method, "seed": 1, **levels})
    runs = []
    for devices in (1, 4):
        setup = set_up(experiment, make_mesh(jax.devices()[:devices]))
        state = make_sharded(setup.make_state, setup.shardings)
        step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
        stream = training_stream(setup)
        assert state.carry.y.sharding.shard_shape(state.carry.y.shape)[0] == 4 // devices
        history, gone = [], 0
        for i in range(9):
            state, sums = step(state, global_batch(stream[i], setup.mesh))
            history.append((sums[SLOT_IDS].tolist(), state.carry.steps.tolist()))
            gone += int(sums["left"])
        assert gone >= 8
        runs.append((history, jax.device_get(state)))
    (one_history, one), (many_history, many) = runs
    assert one_history == many_history
    assert len({tuple(ids) for ids, _ in one_history}) >= 3
    jax.tree.map(np.testing.assert_array_equal, one.carry.example, many.carry.example)
    for name in ("y", "z"):
        ours, theirs = getattr(one.carry, name), getattr(many.carry, name)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
    # Gradients themselves: m is a fixed mix of them.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-6),
        one.opt_state.m,
        many.opt_state.m,
    )


def test_an_example_stays_at_most_max_steps(trm):
    """With a halting bias of -5 nothing leaves early: every third step all slots are new."""
    setup = set_up(trm, make_mesh(jax.devices()[:1]))
    state = make_sharded(setup.make_state, setup.shardings)
    step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
    stream = training_stream(setup)
    for i in range(6):
        state, sums = step(state, global_batch(stream[i], setup.mesh))
        first = stream[i - i % 3]["puzzle_id"]
        np.testing.assert_array_equal(sums[SLOT_IDS], first)
        ends = i % 3 == 2
        assert (sums["left"], sums["left_steps"]) == ((4, 12) if ends else (0, 0))
    np.testing.assert_array_equal(state.carry.example["target"], stream[3]["target"])


def test_latents_are_perturbed_alike_on_any_devices():
    rng = np.random.default_rng(0)
    x, normal = rng.standard_normal((2, 4, 6, 5)).astype(np.float32)
    x = x * np.arange(1, 6, dtype=np.float32) + np.arange(5, dtype=np.float32)
    level = np.array([0, 99, 500, 999])
    beta = np.linspace(1e-4, 0.02, 1000)
    kept = np.cumprod(1 - beta)[level][:, None, None]
    np.testing.assert_allclose(kept_signal(level)[:, None, None], kept, rtol=1e-5)
    noise = x.mean(axis=(0, 1)) + x.std(axis=(0, 1), ddof=1) * normal
    expected = np.sqrt(kept) * x + np.sqrt(1 - kept) * noise
    np.testing.assert_allclose(perturb(x, level, normal), expected, atol=2e-5)
    for devices in (1, 4):
        split = jax.shard_map(
            lambda x, level, normal: perturb(x, level, normal, BATCH_AXES),
            mesh=make_mesh(jax.devices()[:devices]),
            in_specs=P(BATCH_AXES),
            out_specs=P(BATCH_AXES),
        )
        np.testing.assert_allclose(split(x, level, normal), expected, atol=2e-5)


def test_noise_of_a_slot_depends_on_its_seed_alone():
    both = latent_noise(jnp.array([3, 7, 3], jnp.uint32), (400, 50))
    assert both.shape == (2, 3, 400, 50)
    np.testing.assert_array_equal(both[:, 0], both[:, 2])
    alone = latent_noise(jnp.array([7], jnp.uint32), (400, 50))
    np.testing.assert_array_equal(both[:, 1], alone[:, 0])
    for draws in (both[0, 0], both[0, 1], both[1, 0]):
        assert abs(float(draws.mean())) < 0.03
        assert float(draws.std()) == pytest.approx(1, abs=0.02)
    assert abs(np.corrcoef(both[0, 0].ravel(), both[1, 0].ravel())[0, 1]) < 0.03


def test_draws_of_a_slot(trm):
    """Exploration at its chance, least steps uniform from 2 to the most; levels and seeds."""
    changes = {"method": "sprm", "method.halting": Halting(16, 0.1)}
    setup = set_up(with_changes(trm, changes))
    rows = [training_stream(setup)[i] for i in range(1500)]
    least = np.concatenate([row["least_steps"] for row in rows])
    drawn = least[least > 0]
    assert len(drawn) / len(least) == pytest.approx(0.1, abs=0.012)
    assert set(drawn.tolist()) == set(range(2, 17))
    assert np.bincount(drawn, minlength=17)[2:].std() < 3 * np.sqrt(len(drawn) / 15)
    levels = np.concatenate([row["latent_level"] for row in rows])
    assert levels.shape == (6000, 2)
    assert set(levels[:, 0].tolist()) == set(levels[:, 1].tolist()) == set(range(100))
    assert (levels[:, 0] == levels[:, 1]).mean() < 0.03
    seeds = np.concatenate([row["latent_seed"] for row in rows])
    assert len(set(seeds.tolist())) >= 5999
    once = dataclasses.replace(setup.experiment.method, halting=Halting(1, 1.0))
    draws = once.draw(lambda _, each: draw_bits([0], 0, 4, each), rows[0]["target"], (4, 4), 12)
    assert not draws["least_steps"].any()
