"""The contract of every file in experiments/: it makes an Experiment whose step can be traced.

Nothing is computed or compiled: one train step and one denoising run on shapes alone.
"""

from pathlib import Path

import chex
import jax
import pytest

from drm_jax.config import from_json, part_name, to_json
from drm_jax.evaluate.answerer import abstract_candidates, compile_answer
from drm_jax.experiment_files import load_experiment
from drm_jax.methods.carried import Halting
from drm_jax.methods.denoising import Noise
from drm_jax.model.transformer import Transformer
from drm_jax.parallel.mesh import make_mesh
from drm_jax.run.setup import state_maker, trained_parts
from drm_jax.training.batches import abstract_batch
from drm_jax.training.state import state_shardings
from drm_jax.training.step import make_train_step

FOLDER = Path(__file__).parent.parent / "experiments"
FILES = sorted(path for path in FOLDER.glob("*.py") if not path.stem.startswith("paper"))
PAPER = {
    f"{tasks}_{method}_{size}"
    for tasks in ("arc1", "arc2")
    for method in ("drm", "trm", "sprm")
    for size in ("7m", "14m")
}
BOARDS = {"sudoku_trm_mlp", "sudoku_trm_att", "sudoku_drm", "maze_trm", "maze_drm"}


def test_all_are_found():
    others = {
        "debug",
        "demo",
        "maze_demo",
        "maze_demo_rollout",
        "sudoku_demo",
        "sudoku_demo_rollout",
    }
    assert PAPER | BOARDS | others <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_contract(path):
    experiment = load_experiment(str(path))
    assert experiment.name == path.stem
    assert from_json(to_json(experiment)) == experiment
    docstring = path.read_text().split('"""')[1]
    assert f"drm train experiments/{path.name}" in docstring
    of_paper = {**dict.fromkeys(PAPER, "paper.py"), **dict.fromkeys(BOARDS, "paper_boards.py")}
    told = (FOLDER / of_paper.get(path.stem, path.name)).read_text()
    for word in ("Expected time", "memory", "Expected result"):
        assert word in told

    mesh, trained = make_mesh(jax.devices()[:1]), trained_parts(experiment, "cpu")
    state = jax.eval_shape(state_maker(trained, 0, 10))
    data, train, evaluate = experiment.data, experiment.train, experiment.evaluate
    height, width = data.boards[-1]
    cells = height * width
    batch = abstract_batch(trained.method, data.boards, data.vocabulary.mask, train.batch_size)
    new_state, sums = jax.eval_shape(make_train_step(trained, mesh), state, batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)
    assert sums["loss"].shape == ()

    count, steps = evaluate.batch_size, evaluate.denoise_steps
    shardings, network = state_shardings(state, mesh), trained.network
    answer = compile_answer(trained.method, data, network, mesh, shardings, test=evaluate, seed=0)
    result = jax.eval_shape(answer, state, abstract_candidates(count, cells))
    assert result.predicted.shape == (count, cells)
    assert result.step_predicted.shape == (steps, count, cells)


@pytest.mark.parametrize("path", [p for p in FILES if p.stem in PAPER], ids=lambda p: p.stem)
def test_paper_settings(path):
    experiment = load_experiment(str(path))
    tasks, name, size = path.stem.split("_")
    method, model, optimizer = experiment.method, experiment.model, experiment.optimizer
    assert part_name("method", method) == name
    if name == "drm":
        assert (method.supervision, method.noise) == ("final", Noise("cosine", "uniform"))
    else:
        assert method.halting == Halting(16, 0.1)
        assert method.has_mask
    if name == "sprm":
        assert method.latent_levels == 100  # of the published code
    hidden, heads, inner_steps = (768, 12, 6) if size == "14m" else (512, 8, 4)
    recursion = method.recursion
    assert (recursion.cycles, recursion.inner_steps, recursion.grad_cycles) == (3, inner_steps, 1)
    assert isinstance(model, Transformer)
    assert (model.hidden, model.heads, model.layers, model.prefix) == (hidden, heads, 2, 16)
    data, train, evaluate = experiment.data, experiment.train, experiment.evaluate
    assert (data.train, data.evaluate) == ((f"{tasks}/training",), (f"{tasks}/evaluation",))
    assert data.leaks == {"arc1": "drop", "arc2": "refuse"}[tasks]
    assert (data.canvas, data.num_augmentations) == (30, 1000)
    assert train.steps == {"arc1": 518_000, "arc2": 724_000}[tasks]
    assert (train.batch_size, evaluate.denoise_steps) == (768, 16)
    assert evaluate.every == train.steps // 10
    assert (optimizer.learning_rate, optimizer.puzzle_learning_rate) == (1e-4, 1e-2)
    assert (optimizer.weight_decay, optimizer.puzzle_weight_decay) == (0.1, 0.1)
    assert (optimizer.beta1, optimizer.beta2, optimizer.ema) == (0.9, 0.95, 0.999)
    assert optimizer.warmup_steps == 2000


def test_the_papers_are_named():
    text = (FOLDER / "paper.py").read_text()
    assert "arXiv 2604.18839" in text
    assert "arXiv 2510.04871" in text
