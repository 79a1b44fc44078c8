"""Every method through a whole run: trained, stopped, gone on with, scored."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from workdirs import log_lines, quiet, saved

from drm_jax.config import Experiment, from_json, with_changes
from drm_jax.evaluate.answers import unpack
from drm_jax.fields import Count, check_fields
from drm_jax.io.files import work_path
from drm_jax.methods.drm import Drm
from drm_jax.run.evaluation import evaluate_workdir
from drm_jax.run.loop import train


@dataclasses.dataclass(frozen=True)
class Repeated(Drm):
    """A method as of a user's own: drm, but an example stays in its slot of the batch for some
    steps, under other noise."""

    repeats: Count = 3
    """Training steps in a row that an example stays."""

    def __post_init__(self):
        super().__post_init__()
        check_fields(self, "method")

    def empty_carry(self, network, batch_size):
        """A row for each slot; after 0 steps the slot is free."""
        height, width = network.boards[-1]
        boards_BxS = jnp.zeros((batch_size, height * width), jnp.uint8)
        return {
            "inputs": boards_BxS,
            "target": boards_BxS,
            "puzzle_id": jnp.zeros(batch_size, jnp.int32),
            "weight": jnp.zeros(batch_size, jnp.float32),
            "steps": jnp.zeros(batch_size, jnp.int32),
        }

    def refill(self, carry, batch, constants):
        """A free slot takes the example that arrives; a busy one keeps its own, under the noise
        that arrives."""
        free_B = carry["steps"] == 0
        example = {
            name: jnp.where(free_B.reshape(-1, *[1] * (kept.ndim - 1)), batch[name], kept)
            for name, kept in carry.items()
            if name != "steps"
        }
        noise_BxS = batch["noised"] != batch["target"]
        noised_BxS = jnp.where(noise_BxS, batch["noised"], example["target"])
        return {**carry, **example}, {**batch, **example, "noised": noised_BxS}

    def loss(self, network, params, rows_BxD, constants, batch, carry):
        loss, sums, _ = super().loss(network, params, rows_BxD, constants, batch, None)
        return loss, sums, {**carry, "steps": (carry["steps"] + 1) % self.repeats}


HALTING = {"method.halting.max_steps": 3, "method.halting.exploration": 0.5}
# A vocabulary of 12 and the token mixer ride along.
VARIANTS = {
    "trm": {"method": "trm", **HALTING, "method.mask_token": False},
    "sprm": {"method": "sprm", **HALTING, "model": "token_mixer"},
    "diffusion": {"method": "diffusion", "model.layers": 3},
    "path": {"method.supervision": "path", "method.recursion.grad_cycles": 2},
    "of one's own": {"method": f"{__name__}:Repeated"},
}


def variant(tiny: Experiment, name: str) -> Experiment:
    train_config = dataclasses.replace(tiny.train, steps=5, checkpoint_every=2, keep_last=9)
    return dataclasses.replace(with_changes(tiny, VARIANTS[name]), train=train_config)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_stopped_run_goes_on_bit_for_bit(tiny, tmp_path, name):
    """Stopped at step 4, within the three steps of an example where the method carries."""
    experiment, straight = variant(tiny, name), work_path(tmp_path / "straight")
    report = train(experiment, straight, quiet())
    assert from_json((straight / "config.json").read_text()) == experiment
    stopped = work_path(tmp_path / "stopped")
    shutil.copytree(straight, stopped)
    shutil.rmtree(stopped / "checkpoints" / "5")
    shutil.rmtree(stopped / "eval")
    train(experiment, stopped, quiet())
    state = saved(straight, experiment, 5)
    jax.tree.map(np.testing.assert_array_equal, saved(stopped, experiment, 5), state)
    assert log_lines(stopped) == log_lines(straight)
    assert (state.carry is not None) == (name in ("trm", "sprm", "of one's own"))
    if name == "of one's own":
        assert state.carry["steps"].tolist() == [5 % experiment.method.repeats] * 4
        assert state.carry["target"].any(axis=1).all()
    elif state.carry is not None:
        assert 0 < state.carry.steps.min() <= min(5, experiment.method.halting.max_steps)
    again = evaluate_workdir(straight, None, quiet())
    assert again.evaluations[-1].metrics == report.evaluations[-1].metrics
    trajectory = unpack(again.evaluations[-1].trajectories[0])
    assert trajectory.predicted_NxS.shape == (3, 16)
    assert report.setup.network.vocab == (12 if name == "trm" else 13)
    assert trajectory.predicted_NxS.max() < report.setup.network.vocab
    assert all(np.isfinite(line["loss"]) for line in log_lines(straight) if line["kind"] == "train")


def test_what_is_carried_decides_what_is_trained_on(tiny, tmp_path):
    """Else the run of one's own method that goes on bit for bit would show nothing."""
    states = []
    for repeats in (1, 3):
        changes = VARIANTS["of one's own"] | {"method.repeats": repeats}
        experiment = with_changes(tiny, changes | {"train.steps": 2})
        train(experiment, work_path(tmp_path / str(repeats)), quiet())
        states.append(saved(tmp_path / str(repeats), experiment, 2))
    assert not np.array_equal(states[0].params["head"], states[1].params["head"])


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


def test_init_from_another_method(tiny, tmp_path):
    """trm begins with the weights of drm, and drm with those of trm of another batch size."""
    other, workdir = work_path(tmp_path / "drm"), work_path(tmp_path / "trm")
    train(tiny, other, quiet())
    changes = {"init_from": str(other), "method.mask_token": True}
    trm = with_changes(variant(tiny, "trm"), changes)
    train(trm, workdir, quiet())
    begun = saved(workdir, trm, 0)
    jax.tree.map(np.testing.assert_array_equal, begun.params, saved(other, tiny, 4).params)
    assert begun.carry.left.all()
    wider = dataclasses.replace(tiny.train, batch_size=8, steps=1)
    back = dataclasses.replace(tiny, init_from=str(workdir), train=wider)
    train(back, work_path(tmp_path / "back"), quiet())
    ema = saved(tmp_path / "back", back, 0).ema
    jax.tree.map(np.testing.assert_array_equal, ema, saved(workdir, trm, 5).ema)
