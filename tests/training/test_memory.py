"""Less memory by computing again or in parts: the same step but for rounding."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from drm_jax.config import with_changes
from drm_jax.errors import UsageError
from drm_jax.parallel.mesh import global_batch, make_mesh
from drm_jax.run.setup import set_up, trained_parts, training_stream
from drm_jax.training.state import make_sharded
from drm_jax.training.step import compile_train_step, parts_of


def changed(experiment, method, remat="none", accumulate=1):
    changes = {
        "method": method, "model.remat": remat, "model.layers": 2,
        "train.accumulate": accumulate, "train.batch_size": 8,
    }  # fmt: skip
    return with_changes(experiment, changes)


def run(experiment, devices: int = 2):
    """(state after two steps, sums of the second, bytes of temporaries)."""
    setup = set_up(experiment, make_mesh(jax.devices()[:devices]))
    state = make_sharded(setup.make_state, setup.shardings)
    step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
    stream = training_stream(setup)
    batches = [global_batch(stream[i], setup.mesh) for i in range(2)]
    compiled = step.lower(state, batches[0]).compile()
    for batch in batches:
        state, sums = compiled(state, batch)
    return state, sums, compiled.memory_analysis().temp_size_in_bytes


@pytest.fixture(scope="module")
def plain(tiny):
    done = {}

    def of(method):
        if method not in done:
            done[method] = run(changed(tiny, method))
        return done[method]

    return of


@pytest.mark.parametrize(
    ("method", "remat", "accumulate"),
    [
        ("drm", "attention", 1),
        ("drm", "layer", 1),
        ("drm", "layer", 4),
        ("trm", "none", 2),
        ("sprm", "none", 2),
        ("diffusion", "layer", 2),
    ],
)
def test_the_step_is_the_same(tiny, plain, method, remat, accumulate):
    one, one_sums, _ = plain(method)
    two, two_sums, _ = run(changed(tiny, method, remat, accumulate))
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
        changes = {"method.recursion.inner_steps": 4, "model.attention": "plain"}
        wide = with_changes(tiny, changes | {"data.canvas": 12})
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
        trained = trained_parts(dataclasses.replace(tiny, train=train), "cpu")
        return parts_of(trained, (examples, cells), platform)

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
    monkeypatch.setattr("drm_jax.training.step._PART_NUMBERS", two_examples)
    auto = changed(tiny, "drm", accumulate="auto")
    assert parts_of(trained_parts(auto, "cpu"), (4, cells), "cpu") == 2
    one, two = run(changed(tiny, "drm", accumulate=2)), run(auto)
    chex.assert_trees_all_equal(one[0].params, two[0].params)
