"""PORT INDEX: one of two processes that try a kernel, which works in the first alone."""

import dataclasses
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

from tiny import TINY

from drm_jax.model import attention
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import make_mesh
from drm_jax.run import setup
from drm_jax.runtime.quiet import silence_libraries

PORT, INDEX = sys.argv[1:]


def kernel(q, k, v):
    if INDEX == "1":
        raise RuntimeError("only process 1 can't")
    return attention.plain_attention(q, k, v)


silence_libraries()
attention._FORMS["flash"] = kernel
setup.platform_of = lambda mesh: "tpu"
processes.join(f"127.0.0.1:{PORT}", 2, int(INDEX), join_timeout=120, heartbeat_timeout=60)
model = dataclasses.replace(TINY.model, hidden=16, heads=2)
trained, notes = setup.trained_here(dataclasses.replace(TINY, model=model), make_mesh())
print(trained.network.module.attend.__name__, notes[0].partition("here: ")[2])
processes.leave()
