"""The optimiser's own arctangent, against numpy's in float64; Muon, against its definition."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workdirs import quiet, saved

from drm_jax.config import Optimizer, with_changes
from drm_jax.errors import UsageError
from drm_jax.io.files import work_path
from drm_jax.parallel.mesh import MeshShape, global_batch, make_mesh
from drm_jax.run.loop import train
from drm_jax.run.setup import set_up, training_stream
from drm_jax.training.optim import arctan2, hidden_matrices, muon, network_optimizer, warmup
from drm_jax.training.state import leaf_names, make_sharded, tree_bytes
from drm_jax.training.step import compile_train_step

_sizes = st.floats(0, 2.0**100, width=32, allow_subnormal=False)


@given(_sizes, _sizes, st.booleans())
def test_arctan2(y, x, negative):
    y = -y if negative else y
    found = arctan2(np.array([y], np.float32), np.array([x], np.float32))
    np.testing.assert_allclose(found, [np.arctan2(y, x)], rtol=4e-7, atol=1e-37)


def test_arctan2_of_moments():
    rng = np.random.default_rng(0)
    m = (rng.standard_normal(100_000) * 10.0 ** rng.uniform(-9, 1, 100_000)).astype(np.float32)
    root = (abs(m) * 10.0 ** rng.uniform(-3, 3, 100_000)).astype(np.float32)
    np.testing.assert_allclose(arctan2(m, root), np.arctan2(m, root, dtype=float), rtol=4e-7)


def test_arctan2_at_the_ends():
    found = arctan2(
        np.array([0, 0, 1, -1, np.nan, 1], "f4"), np.array([0, 1, 0, 0, 1, np.nan], "f4")
    )
    np.testing.assert_array_equal(
        found, np.array([0, 0, np.pi / 2, -np.pi / 2, np.nan, np.nan], "f4")
    )


# --- Muon --------------------------------------------------------------------------------------
def test_a_step_of_muon_by_hand():
    """Whatever the shape, its root mean square is about a fifth of the learning rate."""
    rng = np.random.default_rng(0)
    for shape in ((24, 24), (12, 48), (48, 12)):
        weight, *grads = rng.standard_normal((4, *shape)).astype(np.float32)
        transformation = muon(warmup(0.5, 4), weight_decay=0.1)
        state, m = transformation.init(weight), np.zeros(shape)
        for step, grad in enumerate(grads):
            change, state = transformation.update(jnp.asarray(grad), state, weight)
            m = 0.95 * m + 0.05 * grad
            mixed = 0.95 * m + 0.05 * grad
            rate = 0.5 * (step + 1) / 4
            found = -np.asarray(change) / rate - 0.1 * weight
            left, size, right = np.linalg.svd(found, full_matrices=False)
            wanted_left, _, wanted_right = np.linalg.svd(mixed, full_matrices=False)
            assert (size > 0.2 * 0.6 * max(shape) ** 0.5).all()
            assert (size < 0.2 * 1.3 * max(shape) ** 0.5).all()
            assert 0.15 < np.sqrt(np.mean(found**2)) < 0.22
            # of the same directions: the orthogonal factor is the same
            sign = (
                wanted_left * (wanted_left.T @ found @ wanted_right.T).diagonal()
            ) @ wanted_right
            np.testing.assert_allclose(found, sign, atol=2e-4)
            assert np.isfinite(left).all()
            assert np.isfinite(right).all()


def muon_run(tiny, devices: int, shape: MeshShape):
    """The state after two steps, and after one."""
    changes = {"optimizer.matrices": "muon", "model.dtype": "float32"}
    setup = set_up(with_changes(tiny, changes), make_mesh(jax.devices()[:devices], shape))
    state = make_sharded(setup.make_state, setup.shardings)
    step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
    for i in range(2):
        state, _ = step(state, global_batch(training_stream(setup)[i], setup.mesh))
    return setup, state


def test_muon_on_split_weights_is_that_of_one_device(tiny):
    """Whole matrices are made orthogonal, and not the parts that devices have."""
    setup, one = muon_run(tiny, 1, MeshShape())
    _, many = muon_run(tiny, 4, MeshShape(2, 2))
    moments = many.opt_state.matrices.m
    kernel = moments["layer_0"]["swiglu"]["down"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (24, 16)
    for name, a, b in zip(leaf_names(one), *map(jax.tree.leaves, (one, many)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5, err_msg=name)
    before = setup.make_state()
    for name, a, b in zip(
        leaf_names(one.params), *map(jax.tree.leaves, (before.params, one.params))
    ):
        assert (np.asarray(a) != b).any() == (name != "embed_answers"), name


def test_which_weights_are_of_muon(tiny):
    setup = set_up(with_changes(tiny, {"optimizer.matrices": "muon"}), make_mesh(jax.devices()[:1]))
    state = jax.eval_shape(setup.make_state)
    hidden = dict(zip(leaf_names(state.params), jax.tree.leaves(hidden_matrices(state.params))))
    assert {name for name, of_muon in hidden.items() if not of_muon} == {
        "embed_answers", "embed_inputs", "halt_bias", "halt_kernel", "head",
    }  # fmt: skip
    # one moment of each of them, and two of the others
    plain = jax.eval_shape(set_up(tiny, make_mesh(jax.devices()[:1])).make_state)
    saved = tree_bytes(plain.opt_state) - tree_bytes(state.opt_state)
    of_hidden = [x for x, of in zip(jax.tree.leaves(state.params), hidden.values()) if of]
    assert saved == tree_bytes(of_hidden) - 4  # a count more
    with pytest.raises(UsageError, match=r"optimizer\.matrices: muon: the model has no hidden mat"):
        network_optimizer(Optimizer(matrices="muon"), True).init({"head": jnp.zeros((2, 2))})


def test_others_than_matrices_go_on_as_ever():
    """Bit for bit: AdamATan2's state of them is theirs alone."""
    params = {"layer": {"kernel": jnp.ones((4, 6))}, "head": jnp.ones((4, 3)), "bias": jnp.ones(3)}
    grads = jax.tree.map(lambda p: jnp.linspace(-1, 1, p.size).reshape(p.shape), params)
    changes = []
    for matrices in ("adam_atan2", "muon"):
        optimizer = network_optimizer(Optimizer(matrices=matrices), True)
        changes.append(optimizer.update(grads, optimizer.init(params), params)[0])
    adam, with_muon = changes
    assert (adam.pop("layer")["kernel"] != with_muon.pop("layer")["kernel"]).any()
    chex.assert_trees_all_equal(adam, with_muon)


def test_a_run_with_muon_goes_on_as_if_never_stopped(tiny, tmp_path):
    """With other options of gradients and noise too; and another run begins with its weights."""
    changes = {
        "optimizer.matrices": "muon", "method.noise.replace": "symbols",
        "method.recursion.inner_steps": 2, "method.recursion.grad_inner_steps": 1,
    }  # fmt: skip
    experiment = with_changes(tiny, changes)
    whole, parts, third = (work_path(tmp_path / name) for name in ("whole", "parts", "third"))
    train(experiment, whole, quiet())
    train(with_changes(experiment, {"train.steps": 2}), parts, quiet())
    train(experiment, parts, quiet())
    one, other = (saved(workdir, experiment, 4) for workdir in (whole, parts))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    adam = {"optimizer.matrices": "adam_atan2"}
    with pytest.raises(UsageError, match=r"--optimizer\.matrices was 'muon', is 'adam_atan2'\)"):
        train(with_changes(experiment, adam), parts, quiet())
    begun = with_changes(experiment, adam | {"init_from": str(parts), "train.steps": 1})
    train(begun, third, quiet())
    assert hasattr(saved(third, begun, 1).opt_state, "v")
