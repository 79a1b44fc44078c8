"""Less memory by computing again or in parts: the same step but for rounding."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from drm_jax.data.stream import training_stream
from drm_jax.errors import UsageError
from drm_jax.parallel.mesh import global_batch, make_mesh
from drm_jax.run.setup import set_up
from drm_jax.train.state import make_sharded
from drm_jax.train.step import compile_train_step, parts_of


def changed(experiment, objective, remat="none", accumulate=1):
    model = dataclasses.replace(experiment.model, remat=remat, layers=2)
    train = dataclasses.replace(experiment.train, accumulate=accumulate, batch_size=8)
    return dataclasses.replace(experiment, objective=objective, model=model, train=train)


def run(experiment, devices: int = 2):
    """(state after two steps, sums of the second, bytes of temporaries)."""
    setup = set_up(experiment, make_mesh(jax.devices()[:devices]))
    state = make_sharded(setup.make_state, setup.shardings)
    step = compile_train_step(experiment, setup.network, setup.mesh, setup.shardings)
    stream = training_stream(experiment, setup.tasks, setup.ids)
    batches = [global_batch(stream[i], setup.mesh) for i in range(2)]
    compiled = step.lower(state, batches[0]).compile()
    for batch in batches:
        state, sums = compiled(state, batch)
    return state, sums, compiled.memory_analysis().temp_size_in_bytes


@pytest.fixture(scope="module")
def plain(tiny):
    done = {}

    def of(objective):
        if objective not in done:
            done[objective] = run(changed(tiny, objective))
        return done[objective]

    return of


@pytest.mark.parametrize(
    ("objective", "remat", "accumulate"),
    [
        ("drm", "attention", 1),
        ("drm", "layer", 1),
        ("drm", "layer", 4),
        ("trm", "none", 2),
        ("sprm", "none", 2),
        ("diffusion", "layer", 2),
    ],
)
def test_the_step_is_the_same(tiny, plain, objective, remat, accumulate):
    one, one_sums, _ = plain(objective)
    two, two_sums, _ = run(changed(tiny, objective, remat, accumulate))
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path((one.opt_state.m, one.carry)),
        jax.tree.leaves((two.opt_state.m, two.carry)),
        strict=True,
    ):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.linalg.norm(a - b) <= 2e-5 * np.linalg.norm(a), path
    np.testing.assert_allclose(one.table, two.table, rtol=0, atol=1e-6)
    for name in one_sums:
        np.testing.assert_allclose(one_sums[name], two_sums[name], rtol=1e-4, err_msg=name)


def test_it_takes_less_memory(tiny):
    def temporaries(**options) -> int:
        # inner steps in a loop: XLA on a CPU undoes what is computed again outside of loops
        model = dataclasses.replace(tiny.model, inner_steps=4, attention="plain")
        data = dataclasses.replace(tiny.data, canvas=12)
        wide = dataclasses.replace(tiny, data=data, model=model)
        return run(changed(wide, "drm", **options), devices=1)[2]

    plain = temporaries()
    assert temporaries(remat="attention") < 0.7 * plain
    assert temporaries(remat="layer") < 0.4 * plain
    assert temporaries(accumulate=4) < 0.5 * plain


def test_parts_must_be_equal(tiny):
    with pytest.raises(UsageError, match=r"train\.accumulate: the 4 examples of a device can't be"):
        run(changed(tiny, "drm", accumulate=3))


def test_parts_of_auto(tiny):
    def parts(examples, cells, platform="cpu", **options):
        train = dataclasses.replace(tiny.train, **options)
        experiment = dataclasses.replace(tiny, train=train)
        return parts_of(experiment, {"inputs": np.zeros((examples, cells))}, platform)

    numbers = 2**20 // tiny.model.hidden - tiny.model.prefix  # cells of a part
    assert parts(12, numbers) == 12
    assert parts(12, numbers // 5) == 3  # of 4: 5 don't divide 12
    assert parts(12, 9) == 1
    assert parts(2, 2 * numbers) == 2  # never less than one example
    assert parts(12, numbers, "tpu") == 1
    assert parts(12, 9, accumulate=6) == parts(12, 9, "tpu", accumulate=6) == 6


def test_parts_of_auto_are_used(tiny, monkeypatch):
    """What an experiment says nothing about is the step of as many parts."""
    cells = tiny.data.canvas**2
    two_examples = 2 * (tiny.model.prefix + cells) * tiny.model.hidden
    monkeypatch.setattr("drm_jax.train.step._PART_NUMBERS", two_examples)
    auto = changed(tiny, "drm", accumulate="auto")
    assert parts_of(auto, {"inputs": np.zeros((4, cells))}, "cpu") == 2
    one, two = run(changed(tiny, "drm", accumulate=2)), run(auto)
    chex.assert_trees_all_equal(one[0].params, two[0].params)
