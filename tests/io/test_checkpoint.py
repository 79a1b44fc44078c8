import json

import jax
import numpy as np
import pytest

from drm_jax.data.stream import training_stream
from drm_jax.dist.mesh import global_batch, make_mesh
from drm_jax.errors import InputError
from drm_jax.io import checkpoint
from drm_jax.io.metrics import MetricsLog
from drm_jax.run.setup import set_up
from drm_jax.train.state import abstract_state, make_sharded
from drm_jax.train.step import compile_train_step


def test_a_saved_state_is_the_state_though_its_buffers_are_donated(tiny, tmp_path):
    """Saved in the background while training goes on, and restored onto more devices."""
    setup = set_up(tiny, make_mesh(jax.devices()[:1]))
    state = make_sharded(setup.make_state, setup.shardings)
    step = compile_train_step(tiny, setup.network, setup.mesh, setup.shardings)
    stream = training_stream(tiny, setup.tasks, setup.ids)
    kept = {}
    with checkpoint.open_checkpoints(tmp_path, 2, 1) as manager:
        for i in range(1, 5):
            state, _ = step(state, global_batch(stream[i], setup.mesh))
            kept[i] = jax.tree.map(np.array, jax.device_get(state))
            checkpoint.save(manager, i, state, f"print {i}", {"pass@2": 1.0 if i == 1 else 0.0})
        manager.wait_until_finished()
        assert sorted(manager.all_steps()) == [1, 3, 4]  # the best, and the two newest
        assert checkpoint.saved_fingerprint(manager, 3) == "print 3"
        wide = set_up(tiny, make_mesh(jax.devices()[:4]))
        target = abstract_state(wide.make_state, wide.shardings)
        for i in (1, 3, 4):
            restored = checkpoint.restore(manager, i, target)
            jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), kept[i])
            assert len(restored.table.sharding.device_set) == 4
        assert checkpoint.existing_step(manager, None) == 4
        with pytest.raises(InputError, match="no checkpoint of step 2; there are 1, 3, 4"):
            checkpoint.existing_step(manager, 2)


def test_no_checkpoint_yet(tmp_path):
    with (
        checkpoint.open_checkpoints(tmp_path, 1, 0) as manager,
        pytest.raises(InputError, match="holds no checkpoint yet"),
    ):
        checkpoint.existing_step(manager, None)


def test_log_lines_past_the_restored_step_are_dropped(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.scalars(step, "train", {"loss": 1.0 / step})
        log.scalars(3, "train", {"loss": float("nan")})
        log.picture(3, "a", np.zeros((4, 4, 3), np.uint8))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "ki')  # torn by a kill
    with MetricsLog(tmp_path, 2) as log:
        log.scalars(3, "train", {"loss": 7.0})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 0.5), (3, 7.0)]
    assert list((tmp_path / "tensorboard").glob("events*"))
