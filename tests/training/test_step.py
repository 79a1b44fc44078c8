"""The compiled step: one device equals many, and only touched rows of the table change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from drm_jax.config import Evaluate, Optimizer, with_changes
from drm_jax.evaluate.answerer import compile_answer
from drm_jax.evaluate.loop import question_batches
from drm_jax.parallel import puzzle_table
from drm_jax.parallel.mesh import BATCH_AXES, global_batch, make_mesh
from drm_jax.run.setup import set_up, state_maker, training_stream
from drm_jax.training.optim import average, network_optimizer, sign_sgd, warmup
from drm_jax.training.state import make_sharded
from drm_jax.training.step import FINITE, SLOT_IDS, compile_train_step


def run_steps(experiment, devices: int, steps: int = 3):
    setup = set_up(experiment, make_mesh(jax.devices()[:devices]))
    state = make_sharded(setup.make_state, setup.shardings)
    step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
    stream = training_stream(setup)
    history, touched = [], set()
    for i in range(steps):
        batch = stream[i]
        touched |= set(batch["puzzle_id"].tolist())
        state, sums = step(state, global_batch(batch, setup.mesh))
        assert sums.pop(FINITE).all()
        np.testing.assert_array_equal(sums.pop(SLOT_IDS), batch["puzzle_id"])
        history.append({name: float(value) for name, value in sums.items()})
    return setup, jax.device_get(state), history, touched


@pytest.fixture(scope="module")
def one_device(tiny):
    return run_steps(tiny, 1)


def test_one_device_equals_four(tiny, one_device):
    _, state, history, _ = one_device
    _, many_state, many_history, _ = run_steps(tiny, 4)
    for one, many in zip(history, many_history, strict=True):
        assert one == pytest.approx(many, rel=1e-4)
    # Gradients themselves: m after three steps is a fixed mix of them.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-6),
        state.opt_state.m,
        many_state.opt_state.m,
    )
    np.testing.assert_allclose(state.table, many_state.table, atol=1e-6)


def test_only_touched_rows_change(one_device):
    setup, state, _, touched = one_device
    changed = np.flatnonzero((state.table != 0).any(axis=1))
    assert set(changed.tolist()) <= touched
    assert len(changed) > 0
    assert state.table.shape == (12288, setup.experiment.model.hidden)


def test_what_a_step_changes(one_device):
    setup, state, history, _ = one_device
    fresh = jax.device_get(make_sharded(setup.make_state, setup.shardings))
    assert int(state.step) == 3
    np.testing.assert_array_equal(state.params["embed_answers"], fresh.params["embed_answers"])
    np.testing.assert_array_equal(state.constants["z_init"], fresh.constants["z_init"])
    assert (state.params["embed_inputs"] != fresh.params["embed_inputs"]).any()
    drift = [
        np.abs(tree["head"] - fresh.params["head"]).max() for tree in (state.params, state.ema)
    ]
    assert 0 < drift[1] < drift[0] / 50
    assert all(np.isfinite(h["loss"]) for h in history)


def test_answer_embeddings_train_when_all_cycles_carry_gradient(tiny):
    changes = {"method.recursion.grad_cycles": tiny.method.recursion.cycles}
    setup, state, _, _ = run_steps(with_changes(tiny, changes), 1, steps=1)
    fresh = make_sharded(setup.make_state, setup.shardings)
    assert (state.params["embed_answers"] != np.asarray(fresh.params["embed_answers"])).any()


def on_table(function, devices: int):
    mesh = make_mesh(jax.devices()[:devices])
    return jax.jit(
        jax.shard_map(
            function, mesh=mesh, in_specs=P(BATCH_AXES), out_specs=P(BATCH_AXES), check_vma=False
        )
    )


@pytest.mark.parametrize("devices", [1, 4])
def test_table_lookup_and_update(devices):
    rng = np.random.default_rng(0)
    table = rng.standard_normal((16, 3)).astype(np.float32)
    ids = np.array([0, 15, 7, 7, 3, 7, 12, 15], np.int32)
    grads = rng.standard_normal((8, 3)).astype(np.float32)

    def lookup(table, ids):
        return puzzle_table.lookup(table, ids, BATCH_AXES)

    rows = on_table(lookup, devices)(table, ids)
    np.testing.assert_array_equal(rows, table[ids])

    def rule(rows, grads):
        return rows * 2 + grads

    def update(table, ids, grads):
        return puzzle_table.update(table, ids, grads, rule, BATCH_AXES)

    expected = table.copy()
    for row in np.unique(ids):
        expected[row] = table[row] * 2 + grads[ids == row].sum(axis=0)
    np.testing.assert_allclose(on_table(update, devices)(table, ids, grads), expected, atol=1e-6)


def test_table_is_padded_to_a_fixed_multiple():
    assert [puzzle_table.padded_rows(n) for n in (1, 12288, 12289)] == [12288, 12288, 24576]


def test_sign_sgd_and_average():
    rows = sign_sgd(jnp.array([1.0, 1.0, 1.0]), jnp.array([5.0, -0.1, 0.0]), 0.1, 0.5)
    np.testing.assert_allclose(rows, [0.85, 1.05, 0.95], rtol=1e-6)
    assert float(average(jnp.array(1.0), jnp.array(3.0), 0.75)) == 1.5


def test_warmup():
    schedule = warmup(1e-4, 2000)
    counts = [0, 999, 1999, 5000]
    rates = [float(schedule(jnp.array(c))) for c in counts]
    assert rates == pytest.approx([5e-8, 5e-5, 1e-4, 1e-4], rel=1e-5)
    assert float(warmup(1.0, 0)(jnp.array(0))) == 1.0


def test_a_parameter_without_gradient_does_not_decay():
    params = {"embed_answers": jnp.ones(2), "head": jnp.ones(2)}
    zero = {"embed_answers": jnp.zeros(2), "head": jnp.zeros(2)}
    for trains_answers in (False, True):
        optimizer = network_optimizer(Optimizer(warmup_steps=0), trains_answers)
        changes, _ = optimizer.update(zero, optimizer.init(params), params)
        assert bool((changes["embed_answers"] != 0).any()) == trains_answers
        assert (changes["head"] != 0).all()


def test_the_table_costs_its_own_bytes_once(tiny):
    """Compiled for 1,000 and for 900,000 rows on four devices: all else is the same."""
    setup = set_up(tiny)
    batch = training_stream(setup)[0]
    batch = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}
    memory, table_bytes = [], []
    for num_ids in (1_000, 900_000):
        state = jax.eval_shape(state_maker(setup.trained, tiny.seed, num_ids))
        step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
        memory.append(step.lower(state, batch).compile().memory_analysis())
        table_bytes.append(state.table.size * 4 // setup.mesh.size)
    small, large = memory
    added = table_bytes[1] - table_bytes[0]
    assert added > 10_000_000
    assert large.argument_size_in_bytes - small.argument_size_in_bytes == added
    assert large.alias_size_in_bytes - small.alias_size_in_bytes == added  # updated in place
    assert large.output_size_in_bytes - small.output_size_in_bytes == added
    assert large.temp_size_in_bytes <= small.temp_size_in_bytes + 10_000


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_float32_asks_for_exact_products(tiny, dtype):
    """Forward and backward, in every product of the step that training and an answer compile."""
    experiment = with_changes(tiny, {"model.dtype": dtype})
    setup = set_up(experiment, make_mesh(jax.devices()[:1]))
    state = jax.eval_shape(setup.make_state)
    batch = training_stream(setup)[0]
    step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
    data = experiment.data
    rows = next(question_batches(setup.puzzles.questions(0), np.arange(1), data.boards[-1], 4))
    test = Evaluate(denoise_steps=3)
    answer = compile_answer(
        experiment.method, data, setup.network, setup.mesh, setup.shardings, test=test, seed=0
    )
    for program, given in ((step, batch), (answer, rows)):
        text = program.lower(state, given).as_text()
        products = [line for line in text.splitlines() if "dot_general" in line]
        exact = ["precision = [HIGHEST, HIGHEST]" in line for line in products]
        assert len(products) > 8
        assert all(exact) if dtype == "float32" else sum(exact) <= 1  # one of the table's rows


def test_a_step_of_the_rows_alone(tiny):
    """Network, moments and average stay; the rows change as in a whole step."""
    setup = set_up(tiny, make_mesh(jax.devices()[:1]))
    batch = global_batch(training_stream(setup)[0], setup.mesh)
    after = []
    for rows_only in (False, True):
        step = compile_train_step(setup.trained, setup.mesh, setup.shardings, rows_only)
        state, sums = step(make_sharded(setup.make_state, setup.shardings), batch)
        after.append((jax.device_get(state), jax.device_get(sums)))
    (whole, whole_sums), (alone, sums) = after
    before = jax.device_get(setup.make_state())
    for name in ("params", "opt_state", "ema"):
        jax.tree.map(np.testing.assert_array_equal, getattr(alone, name), getattr(before, name))
    np.testing.assert_allclose(alone.table, whole.table, atol=1e-7)
    assert (alone.table != before.table).any()
    assert alone.step == 1
    assert sums["loss"] == pytest.approx(whole_sums["loss"])
    assert sums[FINITE].all()
    assert len(sums[FINITE]) == len(whole_sums[FINITE])
