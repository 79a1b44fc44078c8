"""Every objective through a whole run: trained, stopped, gone on with, scored."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from workdirs import log_lines, quiet, saved

from drm_jax.config import Halting
from drm_jax.evaluate.answers import unpack
from drm_jax.io.files import work_path
from drm_jax.run.loop import evaluate_workdir, train

# A vocabulary of 12 and the mixer over tokens ride along.
VARIANTS = {
    "trm": {"objective": "trm", "halting": Halting(3, 0.5), "model": {"vocab": 12}},
    "sprm": {"objective": "sprm", "halting": Halting(3, 0.5), "model": {"mixer": "mlp"}},
    "diffusion": {"objective": "diffusion", "model": {"layers": 3}},
    "path": {"supervision": "path", "model": {"grad_cycles": 2}},
}


def variant(tiny, name: str):
    changes = dict(VARIANTS[name])
    model = dataclasses.replace(tiny.model, **changes.pop("model", {}))
    train_config = dataclasses.replace(tiny.train, steps=5, checkpoint_every=2, keep_last=9)
    return dataclasses.replace(tiny, model=model, train=train_config, **changes)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_stopped_run_goes_on_bit_for_bit(tiny, tmp_path, name):
    """Stopped at step 4, within the three steps of an example where the objective carries."""
    experiment, straight = variant(tiny, name), work_path(tmp_path / "straight")
    report = train(experiment, straight, quiet())
    stopped = work_path(tmp_path / "stopped")
    shutil.copytree(straight, stopped)
    shutil.rmtree(stopped / "checkpoints" / "5")
    shutil.rmtree(stopped / "eval")
    train(experiment, stopped, quiet())
    state = saved(straight, experiment, 5)
    jax.tree.map(np.testing.assert_array_equal, saved(stopped, experiment, 5), state)
    assert log_lines(stopped) == log_lines(straight)
    assert (state.carry is not None) == (experiment.objective in ("trm", "sprm"))
    if state.carry is not None:
        assert 0 < state.carry.steps.min() <= min(5, experiment.halting.max_steps)
    again = evaluate_workdir(straight, None, quiet())
    assert again.evaluations[-1].metrics == report.evaluations[-1].metrics
    trajectory = unpack(again.evaluations[-1].trajectories[0])
    assert trajectory.predicted_NxS.shape == (3, 16)
    assert trajectory.predicted_NxS.max() < experiment.model.vocab
    assert all(np.isfinite(line["loss"]) for line in log_lines(straight) if line["kind"] == "train")


def test_the_log_of_trm_has_the_examples_that_left(tiny, tmp_path):
    """Means over the examples that left within the interval; with 3 steps each, 2 of 6 a slot."""
    config = dataclasses.replace(tiny.train, steps=6, log_every=6)
    experiment = dataclasses.replace(variant(tiny, "trm"), train=config)
    train(experiment, work_path(tmp_path), quiet())
    (line,) = (x for x in log_lines(tmp_path) if x["kind"] == "train")
    assert line["left"] == pytest.approx(1 / 3)
    assert line["left_steps"] == 3
    assert 0 <= line["left_accuracy"] <= 1
    assert 0 <= line["left_exact_accuracy"] <= line["left_halt_accuracy"] + 1


def test_init_from_another_objective(tiny, tmp_path):
    """trm begins with the weights of drm, and drm with those of trm of another batch size."""
    other, workdir = work_path(tmp_path / "drm"), work_path(tmp_path / "trm")
    train(tiny, other, quiet())
    trm = dataclasses.replace(variant(tiny, "trm"), init_from=str(other), model=tiny.model)
    train(trm, workdir, quiet())
    begun = saved(workdir, trm, 0)
    jax.tree.map(np.testing.assert_array_equal, begun.params, saved(other, tiny, 4).params)
    assert begun.carry.left.all()
    wider = dataclasses.replace(tiny.train, batch_size=8, steps=1)
    back = dataclasses.replace(tiny, init_from=str(workdir), train=wider)
    train(back, work_path(tmp_path / "back"), quiet())
    ema = saved(tmp_path / "back", back, 0).ema
    jax.tree.map(np.testing.assert_array_equal, ema, saved(workdir, trm, 5).ema)
