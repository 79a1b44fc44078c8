"""What only a device can tell. Skipped unless DRM_TEST_PLATFORM names its platform, as
benchmarks/gpu.sh does: cuda; or cpu, which tries these tests themselves."""

import os

import jax
import numpy as np
import pytest

from drm_jax.config import with_changes
from drm_jax.model.attention import KERNELS
from drm_jax.model.transformer import Transformer
from drm_jax.parallel.mesh import global_batch, make_mesh, platform_of
from drm_jax.run.setup import set_up, training_stream
from drm_jax.training.state import make_sharded
from drm_jax.training.step import compile_train_step

PLATFORM = os.environ.get("DRM_TEST_PLATFORM", "")
pytestmark = pytest.mark.skipif(not PLATFORM, reason="DRM_TEST_PLATFORM names no platform")


def test_the_platform_is_the_one_that_was_named():
    assert jax.devices()[0].platform == {"cuda": "gpu"}.get(PLATFORM, PLATFORM)


def test_auto_takes_a_kernel_where_the_type_is_bfloat16():
    """On GPUs from Ampere on; and it passes its trial."""
    mesh = make_mesh(jax.devices()[:1])
    platform, model = platform_of(mesh), Transformer()
    boards = ((11, 11), (30, 30))  # an odd number of tokens, and an even one
    assert (model.attention_form(platform) in KERNELS) == (platform in ("gpu", "tpu"))
    assert model.why_kernels_fail(boards, platform, jax.devices()[0]) is None


@pytest.mark.parametrize("dtype", ["float32", "auto"])
@pytest.mark.parametrize("method", ["drm", "trm"])
def test_steps_repeat_to_the_bit(tiny, method, dtype):
    """Equal puzzle ids in a batch are summed in a fixed order; nothing else may have none."""
    experiment = with_changes(
        tiny, {"method": method, "model.dtype": dtype, "train.batch_size": 16}
    )
    setup = set_up(experiment, make_mesh(jax.devices()[:1]))
    stream = training_stream(setup)
    step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
    ends = []
    for _ in range(2):
        state = make_sharded(setup.make_state, setup.shardings)
        for i in range(3):
            state, sums = step(state, global_batch(stream[i], setup.mesh))
            assert np.isfinite(sums["loss"])
        ends.append(jax.device_get(jax.tree.leaves(state)))
    for one, two in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, two)
