"""Kernels of attention that `auto` chooses are tried at the start; stand-ins play them.

The CPU's devices are called a TPU's here, so that `auto` chooses a kernel.
"""

import dataclasses
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from drm_jax.config import Experiment
from drm_jax.io.files import work_path
from drm_jax.model import attention
from drm_jax.model.attention import flash_attention, plain_attention, why_kernel_fails
from drm_jax.model.backbone import compute_dtype
from drm_jax.model.precision import OLDER_GPU
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import make_mesh
from drm_jax.plan.chips import parse_topology
from drm_jax.plan.plan import make_plan
from drm_jax.run import setup as run_setup
from drm_jax.run.loop import train
from drm_jax.run.setup import set_up, trained_here

TWO_PROCESSES = Path(__file__).parents[1] / "failing_kernel.py"


def fails(q, k, v):
    raise RuntimeError("No valid engine configs for this graph\nand a page of C++")


@jax.custom_vjp
def fails_backward(q, k, v):
    return plain_attention(q, k, v)


def _backward(kept, grad):
    raise NotImplementedError


fails_backward.defvjp(lambda *qkv: (plain_attention(*qkv), qkv), _backward)


def is_wrong(q, k, v):
    return 2 * plain_attention(q, k, v)


def is_nan(q, k, v):
    return plain_attention(q, k, v) * jnp.nan


def fails_with_odd(q, k, v):
    if q.shape[1] % 2:
        fails(q, k, v)
    return plain_attention(q, k, v)


@pytest.fixture
def stand_in(monkeypatch):
    """Puts a function in the place of the kernel for TPUs; returns the shapes of its calls."""

    def replace(kernel) -> list[tuple[int, ...]]:
        calls = []

        def counted(q, k, v):
            calls.append(q.shape)
            return kernel(q, k, v)

        monkeypatch.setitem(attention._FORMS, "flash", counted)
        return calls

    why_kernel_fails.cache_clear()
    yield replace
    why_kernel_fails.cache_clear()


@pytest.fixture
def on_tpu(monkeypatch):
    monkeypatch.setattr(run_setup, "platform_of", lambda mesh: "tpu")


def wider(tiny: Experiment, **of_model) -> Experiment:
    """With heads as kernels take them."""
    model = dataclasses.replace(tiny.model, hidden=16, heads=2, **of_model)
    return dataclasses.replace(tiny, model=model)


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (plain_attention, None),
        (fails, "No valid engine configs for this graph"),
        (fails_backward, "NotImplementedError"),
        (is_wrong, "its results are off by 100%"),
        (is_nan, "its results are off by nan%"),
    ],
)
def test_a_kernel_is_tried_forward_and_backward(kernel, reason, stand_in):
    calls = stand_in(kernel)
    device = jax.devices()[1]
    assert why_kernel_fails("flash", 64, False, device) == reason
    assert set(calls) == {(2, 64, 64)}
    before = len(calls)
    assert why_kernel_fails("flash", 64, False, device) == reason
    assert len(calls) == before  # once in a process


def test_a_run_goes_on_without_a_kernel_that_fails(tiny, stand_in, on_tpu, tmp_path, capsys):
    calls = stand_in(fails)
    console = Console(width=200, force_terminal=False)
    report = train(wider(tiny), work_path(str(tmp_path / "run")), console)
    said = capsys.readouterr().out
    assert re.search(
        r"^Attention is plain, .* here: flash: No valid engine configs for this graph$", said, re.M
    )
    assert report.setup.network.module.attend is plain_attention
    assert report.setup.network.dtype == jnp.bfloat16
    assert report.setup.experiment.model.attention == "auto"  # the next machine tries again
    assert len(calls) == 1


def test_a_kernel_that_works_is_kept(tiny, stand_in, on_tpu):
    calls = stand_in(plain_attention)
    made = set_up(wider(tiny), make_mesh(jax.devices()[:1]))
    assert made.network.module.attend is attention._FORMS["flash"]
    assert not made.device_notes
    assert (2, 64, 8) in calls


@pytest.mark.parametrize(("canvas", "form"), [(4, "flash"), (5, "plain")])
def test_it_is_tried_with_as_many_tokens(canvas, form, tiny, stand_in, on_tpu):
    """An odd number goes another way through cuDNN."""
    stand_in(fails_with_odd)
    experiment = wider(tiny)
    data = dataclasses.replace(experiment.data, canvas=canvas)
    trained, notes = trained_here(dataclasses.replace(experiment, data=data), make_mesh())
    assert trained.network.module.attend is attention._FORMS[form]
    assert len(notes) == (form == "plain")


@pytest.mark.parametrize("form", ["plain", "blocks", "flash"])
def test_what_was_asked_for_is_not_tried(form, tiny, stand_in, on_tpu):
    """A kernel that is asked for by its name and fails says so itself."""
    calls = stand_in(fails)
    trained, notes = trained_here(wider(tiny, attention=form), make_mesh())
    assert trained.network.module.attend is attention._FORMS[form]
    assert (notes, calls) == ((), [])


def test_nothing_is_tried_on_a_cpu_nor_for_a_plan(tiny, stand_in, monkeypatch):
    calls = stand_in(fails)
    monkeypatch.setitem(attention._FORMS, "cudnn", attention._FORMS["flash"])
    trained_here(wider(tiny), make_mesh())
    for topology in ("v5e:2x2", "4xH100"):
        make_plan(wider(tiny), parse_topology(topology))
    assert calls == []


@pytest.mark.parametrize("told", [("", "cudnn: no"), ("flash: no", ""), ("flash: no", "flash: 2")])
def test_all_processes_fall_back_where_one_must(told, tiny, stand_in, on_tpu, monkeypatch):
    stand_in(fails if told[0] else plain_attention)
    given = []
    monkeypatch.setattr(processes, "exchange", lambda text="": given.append(text) or list(told))
    trained, notes = trained_here(wider(tiny), make_mesh())
    assert trained.network.module.attend is plain_attention
    assert bool(given[0]) == bool(told[0])
    assert notes[0].endswith(told[0] or told[1])


def test_two_processes_of_which_one_fails():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    running = [
        subprocess.Popen(
            [sys.executable, str(TWO_PROCESSES), str(port), str(index)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        )
        for index in (0, 1)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    for out, err in said:
        assert out == "plain_attention flash: only process 1 can't\n", err


def test_gpus_before_ampere_compute_in_float32(tiny, monkeypatch):
    monkeypatch.setattr(run_setup, "platform_of", lambda mesh: OLDER_GPU)
    made = set_up(wider(tiny), make_mesh(jax.devices()[:1]))
    assert made.network.dtype == jnp.float32
    assert made.network.module.attend is plain_attention
    (note,) = made.device_notes
    assert note == "Products are of float32: cpu is a GPU before Ampere, without bfloat16 units"
    assert made.notes[0] == note  # which a run's first lines are made of
    asked = set_up(wider(tiny, dtype="bfloat16"), make_mesh(jax.devices()[:1]))
    assert (asked.network.dtype, asked.device_notes) == (jnp.bfloat16, ())


@pytest.mark.parametrize(
    ("platform", "name"),
    [("cpu", "float32"), (OLDER_GPU, "float32"), ("gpu", "bfloat16"), ("tpu", "bfloat16"),
     ("another gpu", "bfloat16")],
)  # fmt: skip
def test_compute_types(platform, name):
    assert compute_dtype("auto", platform, 64) == name
    assert compute_dtype("float64", platform, 64) == "float64"


def test_the_kernel_itself_passes_its_trial(monkeypatch):
    """Interpreted on the CPU."""
    import functools

    from jax.experimental.pallas.ops.tpu import splash_attention

    make = functools.partial(splash_attention.make_splash_mha, interpret=True)
    monkeypatch.setattr(splash_attention, "make_splash_mha", make)
    why_kernel_fails.cache_clear()
    assert attention._FORMS["flash"] is flash_attention
    assert why_kernel_fails("flash", 64, True, jax.devices()[0]) is None
    why_kernel_fails.cache_clear()
