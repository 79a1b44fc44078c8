"""Our count of FLOPs against XLA's of a program whose loops are unrolled."""

import dataclasses
import functools

import jax
import pytest
from jax import lax

from drm_jax.config import Data, Evaluate, Experiment, Model, Noise, Train
from drm_jax.errors import UsageError
from drm_jax.evaluate.score import abstract_candidates, compile_denoise
from drm_jax.methods import denoising
from drm_jax.methods.objectives import abstract_batch
from drm_jax.model import attention, recursion
from drm_jax.model.network import make_network
from drm_jax.parallel.mesh import make_mesh
from drm_jax.plan.flops import count_flops
from drm_jax.train.state import init_state, state_shardings
from drm_jax.train.step import compile_train_step, make_optimizer

BASE = Experiment(
    name="flops",
    data=Data(canvas=10),
    model=Model(
        hidden=128, heads=2, layers=2, cycles=2, inner_steps=2, prefix=4, attention="plain"
    ),
    train=Train(batch_size=16),
    evaluate=Evaluate(batch_size=4, denoise_steps=3),
)
CASES = {
    "drm": {},
    "drm, all cycles": {"model": {"grad_cycles": 2}},
    "path": {"supervision": "path", "model": {"grad_cycles": 2}},
    "trm": {"objective": "trm"},
    "sprm": {"objective": "sprm"},
    "diffusion": {"objective": "diffusion", "model": {"layers": 4}},
    "own answers": {"noise": Noise(own_answers=0.5)},
    "mixer": {"model": {"mixer": "mlp", "swiglu_multiple": 64}},
}


def of_case(case: str) -> Experiment:
    changes = dict(CASES[case])
    model = dataclasses.replace(BASE.model, **changes.pop("model", {}))
    return dataclasses.replace(BASE, model=model, **changes)


@pytest.fixture
def unrolled(monkeypatch):
    """Every loop as a row of its steps: XLA counts the body of a loop once."""
    scan = functools.partial(lax.scan, unroll=True)
    for module in (recursion, denoising):
        monkeypatch.setattr(module, "lax", Lax(scan))


class Lax:
    def __init__(self, scan):
        self.scan = scan

    def __getattr__(self, name):
        return getattr(lax, name)


@pytest.mark.parametrize("case", CASES)
def test_training(case, unrolled):
    experiment = of_case(case)
    mesh, network = make_mesh(jax.devices()[:1]), make_network(experiment, "cpu")
    optimizer = make_optimizer(experiment)
    state = jax.eval_shape(lambda: init_state(experiment, network, optimizer, 10))
    step = compile_train_step(experiment, network, mesh, state_shardings(state, mesh))
    counted = step.lower(state, abstract_batch(experiment)).compile().cost_analysis()["flops"]
    ours = count_flops(experiment).train * experiment.train.batch_size
    assert ours == pytest.approx(counted, rel=0.03), (case, ours / counted)


@pytest.mark.parametrize("case", ["drm", "trm", "diffusion", "mixer"])
def test_denoising(case, unrolled):
    experiment = of_case(case)
    mesh, network = make_mesh(jax.devices()[:1]), make_network(experiment, "cpu")
    optimizer = make_optimizer(experiment)
    state = jax.eval_shape(lambda: init_state(experiment, network, optimizer, 10))
    run = compile_denoise(experiment, network, mesh, state_shardings(state, mesh))
    candidates = abstract_candidates(experiment)
    counted = run.lower(state, candidates).compile().cost_analysis()["flops"]
    ours = count_flops(experiment).evaluate * experiment.evaluate.batch_size
    assert ours == pytest.approx(counted, rel=0.03), (case, ours / counted)


@pytest.mark.parametrize(
    ("form", "remat"),
    [("plain", "attention"), ("plain", "layer"), ("blocks", "none"), ("blocks", "layer")],
)
def test_what_is_computed_again(form, remat, unrolled, monkeypatch):
    """In the program as it is written: XLA on a CPU removes what is computed twice."""
    # blocks stand for the kernels, whose products XLA doesn't see: all heads in one, counted once
    monkeypatch.setattr(attention, "_BLOCK_SCORES", 10**9)

    def written(experiment: Experiment) -> float:
        mesh, network = make_mesh(jax.devices()[:1]), make_network(experiment, "cpu")
        optimizer = make_optimizer(experiment)
        state = jax.eval_shape(lambda: init_state(experiment, network, optimizer, 10))
        step = compile_train_step(experiment, network, mesh, state_shardings(state, mesh))
        return step.lower(state, abstract_batch(experiment)).cost_analysis()["flops"]

    model = dataclasses.replace(BASE.model, remat=remat, attention=form)
    changed = dataclasses.replace(BASE, model=model)
    more = written(changed) - written(BASE)
    ours = count_flops(changed, attention_form=form).again * BASE.train.batch_size
    # what isn't a product, such as softmax, differs too
    assert ours == pytest.approx(more, rel=0.05 if form == "plain" else 0.08), ours / more


def test_useful_work_is_the_same_in_all_forms():
    one, other = count_flops(BASE), count_flops(BASE, attention_form="flash")
    assert other.again > one.again == 0
    assert other.train - other.again == one.train
    assert other.evaluate == one.evaluate


def test_an_objective_of_ones_own_is_refused():
    with pytest.raises(UsageError, match=r"a\.b:c: the work of an objective of your own"):
        count_flops(dataclasses.replace(BASE, objective="a.b:c"))
