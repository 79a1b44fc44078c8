"""Three training steps on many devices, as a program of its own; tests/parallel/test_topologies.py.

    python three_steps.py OUT drm,trm,drm32,trm32 1,8,2x4 [PROCESSES PROCESS PORT]

A mesh is a number of devices, or DATAxFSDP. Writes OUT.npz: of each case and mesh the gradients of
every step, and parameters, averages, table and carry after the third; and OUT.CASE.MESH.hlo, the
compiled step.
Those with 32 are in float32; there puzzle rows take their gradient itself, which sign-SGD hides.
"""

import dataclasses
import os
import sys

out, cases, meshes = sys.argv[1], sys.argv[2].split(","), sys.argv[3].split(",")
group = sys.argv[4:]
processes, process = (int(group[0]), int(group[1])) if group else (1, 0)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_ENABLE_X64"] = "1"
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={8 // processes} --xla_backend_optimization_level=0"
)

import jax
import numpy as np
from jax.experimental import multihost_utils
from tiny import TINY

from drm_jax.config import Evaluate, Optimizer, Train, with_changes
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.parallel.mesh import MeshShape, global_batch, make_mesh
from drm_jax.run.setup import set_up, training_stream
from drm_jax.training import step as step_module
from drm_jax.training.optim import sign_sgd
from drm_jax.training.state import leaf_names, make_sharded
from drm_jax.training.step import FINITE, SLOT_IDS, compile_train_step

if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"127.0.0.1:{group[2]}", processes, process, initialization_timeout=600
    )

BASE = dataclasses.replace(
    TINY,
    # loops within loops, forward and backward: a collective must not slip into one
    method=Drm(recursion=Recursion(cycles=3, inner_steps=2, grad_cycles=2)),
    optimizer=Optimizer(learning_rate=1e-2, warmup_steps=0),
    train=Train(batch_size=24),
    evaluate=Evaluate(batch_size=24),
)
METHODS = {
    "drm": {},
    "trm": {"method": "trm", "method.halting.max_steps": 2, "method.halting.exploration": 0.5},
}


def whole(x: jax.Array | np.ndarray) -> np.ndarray:
    """All of an array, on every process."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
        return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def by_name(prefix: str, tree) -> dict[str, np.ndarray]:
    arrays = [whole(x) for x in jax.tree.leaves(tree)]
    return {f"{prefix}/{name}": x for name, x in zip(leaf_names(tree), arrays, strict=True)}


def plain(rows: jax.Array, grads: jax.Array, *_: object) -> jax.Array:
    return rows - grads


found = {}
for case in cases:
    single = case.endswith("32")
    step_module.sign_sgd = plain if single else sign_sgd
    changes = {"model.dtype": "float32" if single else "float64"}
    experiment = with_changes(BASE, changes | METHODS[case.removesuffix("32")])
    for name in meshes:
        shape = MeshShape(*map(int, name.split("x")))
        devices = jax.devices()[: shape.data * shape.fsdp]
        setup = set_up(experiment, make_mesh(devices, shape))
        state = make_sharded(setup.make_state, setup.shardings)
        stream = training_stream(setup, process, processes)
        batches = [global_batch(stream[i], setup.mesh) for i in range(3)]
        step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
        step = step.lower(state, batches[0]).compile()
        with open(f"{out}.{case}.{name}.hlo", "w", encoding="utf-8") as file:
            file.write(step.as_text())
        here, decay = f"{case}/{name}", experiment.optimizer.beta1
        for i, batch in enumerate(batches):
            m, table_before = by_name(f"{here}/gradient{i}", state.opt_state.m), whole(state.table)
            state, sums = step(state, batch)
            new_m = by_name(f"{here}/gradient{i}", state.opt_state.m)
            # m <- m + (1 - b1)(g - m): the gradient itself, whose scale Adam would hide
            found |= {key: m[key] + (new_m[key] - m[key]) / (1 - decay) for key in m}
            if single:
                found[f"{here}/gradient{i}/rows"] = table_before - whole(state.table)
            found[f"{here}/loss{i}"] = whole(sums["loss"])
            found[f"{here}/slots{i}"] = whole(sums[SLOT_IDS])
            assert whole(sums[FINITE]).all()
        for part in ("params", "ema", "table", "carry"):
            found |= by_name(f"{here}/{part}", getattr(state, part))
if process == 0:
    np.savez(f"{out}.npz", **found)
