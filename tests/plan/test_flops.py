"""Our count of FLOPs against XLA's of a program whose loops are unrolled."""

import dataclasses
import functools

import jax
import pytest
from jax import lax

from drm_jax.config import Evaluate, Experiment, Train, with_changes
from drm_jax.errors import UsageError
from drm_jax.evaluate.answerer import abstract_candidates, compile_answer
from drm_jax.methods import carried, denoising, method
from drm_jax.methods.drm import Drm
from drm_jax.methods.method import Method
from drm_jax.model import attention, recursion
from drm_jax.model.backbone import Backbone
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.parallel.mesh import make_mesh
from drm_jax.plan.flops import Flops, count_flops
from drm_jax.puzzles.arc.family import Arc
from drm_jax.run.setup import state_maker, trained_parts
from drm_jax.training.batches import abstract_batch
from drm_jax.training.state import state_shardings
from drm_jax.training.step import compile_train_step

BASE = Experiment(
    name="flops",
    data=Arc(canvas=10),
    method=Drm(Recursion(cycles=2, inner_steps=2)),
    model=Transformer(hidden=128, heads=2, layers=2, prefix=4, attention="plain"),
    train=Train(batch_size=16),
    evaluate=Evaluate(batch_size=4, denoise_steps=3),
)
CASES = {
    "drm": {},
    "drm, all cycles": {"method.recursion.grad_cycles": 2},
    "path": {"method.supervision": "path", "method.recursion.grad_cycles": 2},
    "drm, inner steps": {
        "method.recursion.inner_steps": 3,
        "method.recursion.grad_cycles": 2,
        "method.recursion.grad_inner_steps": 1,
    },
    "path, inner steps": {
        "method.supervision": "path",
        "method.recursion.grad_cycles": 2,
        "method.recursion.grad_inner_steps": 1,
    },
    "trm": {"method": "trm"},
    "sprm": {"method": "sprm"},
    "diffusion": {"method": "diffusion", "model.layers": 4},
    "drm_rollout": {"method": "drm_rollout"},
    "drm_rollout, inner steps": {
        "method": "drm_rollout",
        "method.recursion.grad_inner_steps": 1,
    },
    "own answers": {"method.noise.own_answers": 0.5},
    "convolution": {"model.convolution": True},
    "mixer": {"model": "token_mixer", "model.swiglu_multiple": 64},
}


def of_case(case: str) -> Experiment:
    return with_changes(BASE, CASES[case])


def counted_by_us(experiment: Experiment, platform: str = "cpu") -> Flops:
    (height, width), steps = experiment.data.boards[-1], experiment.evaluate.denoise_steps
    return count_flops(
        experiment.method, experiment.model, vocab=13, cells=height * width, denoise_steps=steps,
        platform=platform,
    )  # fmt: skip


def lowered_step(experiment: Experiment):
    """The training step on one device, not yet compiled."""
    mesh = make_mesh(jax.devices()[:1])
    trained = trained_parts(experiment, "cpu")
    state = jax.eval_shape(state_maker(trained, 0, 10))
    step = compile_train_step(trained, mesh, state_shardings(state, mesh))
    batch = abstract_batch(
        experiment.method, experiment.data.boards, 12, experiment.train.batch_size
    )
    return step.lower(state, batch)


@pytest.fixture
def unrolled(monkeypatch):
    """Every loop as a row of its steps: XLA counts the body of a loop once."""
    scan = functools.partial(lax.scan, unroll=True)
    for module in (recursion, denoising, carried, method):
        monkeypatch.setattr(module, "lax", Lax(scan))


class Lax:
    def __init__(self, scan):
        self.scan = scan

    def __getattr__(self, name):
        return getattr(lax, name)


@pytest.mark.parametrize("case", CASES)
def test_training(case, unrolled):
    experiment = of_case(case)
    counted = lowered_step(experiment).compile().cost_analysis()["flops"]
    ours = counted_by_us(experiment).train * experiment.train.batch_size
    assert ours == pytest.approx(counted, rel=0.03), (case, ours / counted)


@pytest.mark.parametrize("case", ["drm", "trm", "diffusion", "mixer"])
def test_denoising(case, unrolled):
    experiment = of_case(case)
    mesh, trained = make_mesh(jax.devices()[:1]), trained_parts(experiment, "cpu")
    state = jax.eval_shape(state_maker(trained, 0, 10))
    count = experiment.evaluate.batch_size
    shardings = state_shardings(state, mesh)
    run = compile_answer(
        trained.method,
        experiment.data,
        trained.network,
        mesh,
        shardings,
        test=experiment.evaluate,
        seed=0,
    )
    candidates = abstract_candidates(count, 100)
    counted = run.lower(state, candidates).compile().cost_analysis()["flops"]
    ours = counted_by_us(experiment).evaluate * count
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
        return lowered_step(experiment).cost_analysis()["flops"]

    changed = with_changes(BASE, {"model.remat": remat, "model.attention": form})
    more = written(changed) - written(BASE)
    ours = counted_by_us(changed).again * BASE.train.batch_size
    # what isn't a product, such as softmax, differs too
    assert ours == pytest.approx(more, rel=0.05 if form == "plain" else 0.08), ours / more


@pytest.mark.parametrize("model", ["transformer", "token_mixer"])
def test_what_a_convolution_adds(model, unrolled):
    """In the program as it is written, which computes a row's two gaps too, of 10 cells."""

    def more(count) -> float:
        with_it = with_changes(BASE, {"model": model, "model.convolution": True})
        return count(with_it) - count(with_changes(BASE, {"model": model}))

    written = more(lambda of: lowered_step(of).cost_analysis()["flops"])
    ours = more(lambda of: counted_by_us(of).train) * BASE.train.batch_size
    assert ours * 1.2 == pytest.approx(written, rel=0.05), ours / written
    blocks = BASE.method.work().blocks + 2 * BASE.method.work().grad_blocks
    again = BASE.method.work().grad_blocks
    forward = BASE.model.layers * 18 * 100 * BASE.model.swiglu_width
    assert ours == pytest.approx((blocks + again) * forward * BASE.train.batch_size)


def test_useful_work_is_the_same_in_all_forms():
    auto = with_changes(BASE, {"model.attention": "auto"})
    one = counted_by_us(BASE, "tpu")
    for platform in ("cpu", "tpu", "gpu"):  # blocks, flash, cudnn
        other = counted_by_us(auto, platform)
        assert other.again > one.again == 0
        assert other.train - other.again == one.train
        assert other.evaluate == one.evaluate


@dataclasses.dataclass(frozen=True)
class OwnMethod(Method):
    trains_answers = False


@dataclasses.dataclass(frozen=True)
class OwnBackbone(Backbone):
    hidden: int = 8


def test_parts_of_ones_own_are_refused():
    sizes = {"vocab": 13, "cells": 100, "denoise_steps": 3, "platform": "cpu"}
    with pytest.raises(UsageError, match=r"test_flops:OwnMethod: the work of a method of your own"):
        count_flops(OwnMethod(), BASE.model, **sizes)
    with pytest.raises(UsageError, match=r"test_flops:OwnBackbone: the work of a backbone of your"):
        count_flops(BASE.method, OwnBackbone(), **sizes)
