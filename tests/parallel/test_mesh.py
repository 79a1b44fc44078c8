import dataclasses
import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from drm_jax.config import Evaluate, Experiment, with_changes
from drm_jax.errors import UsageError
from drm_jax.evaluate.answerer import compile_answer
from drm_jax.evaluate.loop import question_batches
from drm_jax.methods.method import Answered
from drm_jax.parallel import mesh as mesh_module
from drm_jax.parallel.mesh import (
    BATCH_AXES,
    SPECS,
    MeshShape,
    global_batch,
    make_mesh,
    parse_mesh_shape,
    spec_of,
)
from drm_jax.run.setup import Setup, check_split, set_up, training_stream
from drm_jax.training.state import TrainState, leaf_names, make_sharded
from drm_jax.training.step import compile_train_step


def devices_for(*batches: tuple[int, ...], cores: int = 4, **environment: str) -> list[int]:
    """How many CPU devices runs with these batch sizes use, one after the other in one process."""
    code = (
        f"import os; os.sched_getaffinity = lambda _: range({cores})\n"
        "from drm_jax.parallel.mesh import use_cpu_cores\n"
        "from drm_jax.run.setup import mesh_for\n"
        "use_cpu_cores()\n"
        f"print([mesh_for(*sizes).size for sizes in {batches}])"
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


def test_each_run_uses_as_many_cores_as_its_batches_split_over():
    assert devices_for((8, 13), (32, 64), (16, 64), (24, 24)) == [1, 4, 2, 3]
    assert devices_for((320, 320), cores=5) == [4]  # five can't share the puzzle table
    # The user's own choice stands.
    assert devices_for((32, 64), (8, 8), JAX_NUM_CPU_DEVICES="3") == [3, 3]


def test_a_batch_must_split(tiny):
    check_split(tiny.train, tiny.evaluate, 4)
    with pytest.raises(UsageError, match=r"train\.batch_size: 4 examples can't be split over 8"):
        check_split(tiny.train, tiny.evaluate, 8)
    with pytest.raises(UsageError, match=r"4 examples .* 3 devices: make it a multiple of 3"):
        check_split(tiny.train, tiny.evaluate, 3)
    with pytest.raises(UsageError, match="5 devices can't share the puzzle table: use a power"):
        check_split(tiny.train, tiny.evaluate, 5)


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 6, 8, 12, 16, 24, 48, 96, 192, 384, 768])
def test_the_published_batch_splits_over(tiny, devices):
    """Of 768: over powers of two, and over three times one."""
    train, evaluate = (dataclasses.replace(x, batch_size=768) for x in (tiny.train, tiny.evaluate))
    check_split(train, evaluate, devices)


# --- where arrays lie ----------------------------------------------------------------------------
GATE_UP = r".*/swiglu/gate_up/kernel"


def patterns_of(path: str) -> list[str]:
    return [pattern for pattern, _ in SPECS if re.fullmatch(pattern, path)]


@pytest.mark.parametrize("method", ["drm", "trm", "sprm", "diffusion"])
def test_each_leaf_of_a_state_matches_one_pattern(tiny, method):
    setup = set_up(with_changes(tiny, {"method": method}), make_mesh(jax.devices()[:2]))
    names = leaf_names(setup.shardings)
    assert {len(patterns_of(name)) for name in names} == {1}
    split = {name for name in names if spec_of(name) == P(BATCH_AXES)}
    assert split == {name for name in names if name.split("/")[0] in ("table", "carry")}
    assert {spec_of(name) for name in names} == {P(BATCH_AXES), P()}


def test_a_path_of_no_pattern_is_an_error():
    with pytest.raises(KeyError, match=r"tables: no pattern of parallel\.mesh\.SPECS"):
        spec_of("tables")


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((16, 48), P(None, "fsdp")),
        ((48, 16), P("fsdp")),
        ((16, 16), P("fsdp")),  # the first of equals
        ((6, 16), P(None, "fsdp")),
        ((3, 3, 48), P(None, None, "fsdp")),  # of a convolution
        ((6, 10), P()),  # nothing divides by 4
        ((16,), P()),  # no matrix
        ((), P()),
    ],
)
def test_weights_are_split_along_their_longest_axis(shape, spec):
    assert spec_of("ema/some/kernel", shape, 4) == spec
    assert spec_of("ema/some/kernel", shape) == P()
    assert spec_of("constants/y_init", shape, 4) == P()


@pytest.mark.parametrize(
    ("text", "devices", "fitted"),
    [
        ("", 8, "data=8,fsdp=1"),
        ("fsdp=4", 8, "data=2,fsdp=4"),
        ("data=2,fsdp=4", 8, "data=2,fsdp=4"),
        ("fsdp=8,data=1", 8, "data=1,fsdp=8"),
        ("data=3", 3, "data=3,fsdp=1"),
    ],
)
def test_shapes_of_a_mesh(text, devices, fitted):
    assert str(parse_mesh_shape(text).fitted(devices)) == fitted


@pytest.mark.parametrize(
    ("text", "devices", "message"),
    [
        ("fsdp=4", 6, r"--mesh: fsdp=4 needs a multiple of 4 devices, and there are 6: give"),
        ("data=2,fsdp=4", 1, r"--mesh: data=2,fsdp=4 needs 8 devices, and there is 1: give num"),
        ("model=2", 8, r"--mesh: 'model=2': give the number of devices along each axis, such as"),
        ("fsdp=0", 8, "--mesh: 'fsdp=0'"),
        ("fsdp=4,", 8, "--mesh: 'fsdp=4,'"),
        ("fsdp=2,fsdp=4", 8, "--mesh: 'fsdp=2,fsdp=4'"),
        ("4", 8, "--mesh: '4'"),
    ],
)
def test_meshes_that_can_not_be(text, devices, message):
    with pytest.raises(UsageError, match=message):
        parse_mesh_shape(text).fitted(devices)


def test_one_more_rule_splits_a_weight_over_a_third_axis(tiny, monkeypatch):
    """Two steps on a mesh of 2 x 2 are those of one device; no other code changes."""
    experiment = with_changes(tiny, {"model.dtype": "float32"})
    expected, answers = two_steps(experiment, make_mesh(jax.devices()[:1]))
    monkeypatch.setattr(mesh_module, "SPECS", ((GATE_UP, P(None, "model")), *SPECS))
    devices = np.array(jax.devices()[:4]).reshape(2, 1, 2)
    state, many_answers = two_steps(experiment, Mesh(devices, (*BATCH_AXES, "model")))
    parts = {
        name: tuple(np.divide(x.shape, x.addressable_shards[0].data.shape))
        for name, x in zip(leaf_names(state), jax.tree.leaves(state), strict=True)
    }
    of_gate_up = {name for name in parts if re.fullmatch(GATE_UP, name)}
    assert len(of_gate_up) == 4 * experiment.model.layers  # weights, two moments, the average
    assert {parts.pop(name) for name in of_gate_up} == {(1, 2)}
    assert parts.pop("table") == (2, 1)
    assert all(set(split) <= {1} for split in parts.values())
    for one, many in zip(jax.tree.leaves(expected), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(answers.predicted, many_answers.predicted)


def test_a_network_with_a_convolution_is_split_as_others_are(tiny):
    """Two steps of weights that are split are those of one device."""
    changes = {"model.dtype": "float32", "model.convolution": True, "model.positions": "board"}
    experiment = with_changes(tiny, changes)
    expected = after_two_steps(set_up(experiment, make_mesh(jax.devices()[:1])))
    state = after_two_steps(set_up(experiment, make_mesh(jax.devices()[:4], MeshShape(2, 2))))
    kernel = state.params["layer_0"]["swiglu"]["convolution"]["kernel"]
    assert kernel.sharding.spec == P(None, None, "fsdp")
    assert np.abs(np.asarray(kernel)[0]).max() > 1e-3  # it is trained
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def two_steps(experiment: Experiment, mesh: Mesh) -> tuple[TrainState, Answered]:
    """The state after two steps, and what it answers to the first candidates."""
    setup = set_up(experiment, mesh)
    state = after_two_steps(setup)
    questions, data = setup.puzzles.questions(None), experiment.data
    candidates = next(question_batches(questions, np.arange(4), data.boards[-1], 4))
    test = Evaluate(denoise_steps=3)
    answer = compile_answer(
        experiment.method, data, setup.network, mesh, setup.shardings, test=test, seed=0
    )
    return state, answer(state, global_batch(candidates, mesh))


def after_two_steps(setup: Setup) -> TrainState:
    state = make_sharded(setup.make_state, setup.shardings)
    stream = training_stream(setup)
    step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
    for i in range(2):
        state, _ = step(state, global_batch(stream[i], setup.mesh))
    return state
