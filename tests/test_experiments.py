"""The contract of every file in experiments/: it makes an Experiment whose step can be traced.

Nothing is computed or compiled: one train step and one denoising run on shapes alone.
"""

import re
from pathlib import Path

import jax
import pytest

from drm_jax.commands.main import load_experiment
from drm_jax.config import from_json, to_json
from drm_jax.evaluate.score import abstract_candidates, compile_denoise
from drm_jax.methods.objectives import abstract_batch
from drm_jax.model.network import make_network
from drm_jax.parallel.mesh import make_mesh
from drm_jax.train.state import init_state, state_shardings
from drm_jax.train.step import make_optimizer, make_train_step

FILES = sorted((Path(__file__).parent.parent / "experiments").glob("*.py"))
PAPER = {
    f"arc{generation}_{objective}_{size}"
    for generation in (1, 2)
    for objective in ("drm", "trm", "sprm")
    for size in ("7m", "14m")
}


def test_all_are_found():
    assert PAPER | {"debug", "demo"} <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_contract(path):
    experiment = load_experiment(str(path))
    assert experiment.name == path.stem
    assert from_json(to_json(experiment)) == experiment
    docstring = path.read_text().split('"""')[1]
    assert f"drm train experiments/{path.name}" in docstring
    for word in ("Expected time", "memory", "Expected result"):
        assert word in docstring

    mesh = make_mesh(jax.devices()[:1])
    network, optimizer = make_network(experiment, "cpu"), make_optimizer(experiment)
    state = jax.eval_shape(lambda: init_state(experiment, network, optimizer, 10))
    cells, batch = experiment.data.canvas**2, abstract_batch(experiment)
    new_state, sums = jax.eval_shape(make_train_step(experiment, network, mesh), state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), new_state) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert sums["loss"].shape == ()

    count, rows = experiment.evaluate.batch_size, abstract_candidates(experiment)
    shardings = state_shardings(state, mesh)
    result = jax.eval_shape(compile_denoise(experiment, network, mesh, shardings), state, rows)
    assert result.predicted.shape == (count, cells)
    steps = experiment.evaluate.denoise_steps
    assert result.trajectory_predicted.shape == (steps, count, cells)


@pytest.mark.parametrize("path", [p for p in FILES if p.stem in PAPER], ids=lambda p: p.stem)
def test_paper_settings(path):
    experiment = load_experiment(str(path))
    generation, objective, size = path.stem.split("_")
    assert (experiment.objective, experiment.supervision) == (objective, "final")
    assert experiment.data.evaluate == (f"{generation}/evaluation",)
    assert (experiment.halting.max_steps, experiment.halting.exploration) == (16, 0.1)
    assert experiment.noise.latent_levels == 100  # of the published code
    large = size == "14m"
    model, optimizer = experiment.model, experiment.optimizer
    assert (model.hidden, model.heads, model.inner_steps) == (
        (768, 12, 6) if large else (512, 8, 4)
    )
    assert (model.layers, model.cycles, model.grad_cycles, model.prefix) == (2, 3, 1, 16)
    assert (model.mixer, model.vocab) == ("attention", 13)
    assert (experiment.data.canvas, experiment.data.num_augmentations) == (30, 1000)
    assert (experiment.train.batch_size, experiment.evaluate.denoise_steps) == (768, 16)
    assert (optimizer.learning_rate, optimizer.puzzle_learning_rate) == (1e-4, 1e-2)
    assert (optimizer.weight_decay, optimizer.puzzle_weight_decay) == (0.1, 0.1)
    assert (optimizer.beta1, optimizer.beta2, optimizer.ema) == (0.9, 0.95, 0.999)
    assert (optimizer.warmup_steps, experiment.noise.schedule) == (2000, "cosine")
    assert re.search(r"arXiv 2604.18839|arc\d_drm_\w+`", path.read_text())
