"""`drm plan`: its bytes against compiled programs, its answers, and what it refuses."""

import dataclasses
import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from drm_jax.commands.main import main
from drm_jax.config import Experiment, to_json, with_changes
from drm_jax.errors import InputError, UsageError
from drm_jax.model.precision import OLDER_GPU
from drm_jax.parallel.mesh import MeshShape, make_mesh
from drm_jax.plan import ahead
from drm_jax.plan import command as plan_module
from drm_jax.plan.chips import CHIPS, Topology, parse_topology
from drm_jax.plan.gpus import describe_gpu
from drm_jax.plan.plan import make_plan
from drm_jax.plan.show import describe_program, roofline
from drm_jax.run.setup import set_up

ROOT = Path(__file__).parents[2]
HAS_CUDA = any(importlib.util.find_spec(f"jax_cuda{n}_plugin") is not None for n in (12, 13))


@pytest.mark.parametrize(
    ("text", "name", "devices"),
    [
        ("v5e:4x4", "v5e", 16),
        ("v6e:2x4", "v6e", 8),
        ("v4:2x2x1", "v4", 4),
        ("v5p:2x2x2", "v5p", 8),
        ("8xH100", "H100", 8),
        ("h200", "H200", 1),
        ("2xT4", "T4", 2),
        ("v100", "V100", 1),
        ("l4", "L4", 1),
    ],
)
def test_topologies(text, name, devices):
    topology = parse_topology(text)
    assert (topology.chip.name, topology.devices, topology.name) == (name, devices, text)
    assert topology.is_tpu == name.startswith("v")
    assert (topology.chip.platform == "tpu") == topology.is_tpu


@pytest.mark.parametrize(
    "text",
    ["", "v5e", "v5e:4", "v5e:4x4x4", "v5e:0x4", "v7:2x2", "H100:4x4", "0xH100", "8xv5e", "8x"],
)
def test_what_is_no_topology(text):
    with pytest.raises(UsageError, match="--topology: ") as raised:
        parse_topology(text)
    assert "\n" not in str(raised.value)


def test_chips_say_where_their_figures_are_from():
    for chip in CHIPS.values():
        assert chip.source.startswith("https://")
        low, high = (1e14, 1e16) if chip.dtype == "bfloat16" else (5e12, 2e13)
        assert low < chip.flops < high
        assert chip.bandwidth > chip.link / 2


@pytest.mark.parametrize("method", ["drm", "trm", "sprm"])
@pytest.mark.parametrize("devices", [1, 4])
def test_bytes_are_the_compiled_program_s(tiny, method, devices):
    experiment = with_changes(tiny, {"method": method})
    made = make_plan(experiment, Topology("x", CHIPS["H100"], devices))
    mesh = make_mesh(jax.devices()[:devices])
    program = ahead.compile_step(experiment, made.puzzle_ids + 1, mesh)
    unused = {  # what the step doesn't take in, though it comes with a batch
        "drm": 4 + tiny.method.recursion.cycles * experiment.data.canvas**2,
        "trm": 0,
        "sprm": 0,
    }[method]
    batch = made.device_bytes["batch"] - unused * experiment.train.batch_size // devices
    assert program.arguments == made.state_bytes + batch
    assert made.puzzle_ids == set_up(experiment, mesh).puzzles.num_ids - 1


@pytest.mark.parametrize(
    ("method", "matrices"), [("drm", "adam_atan2"), ("trm", "adam_atan2"), ("drm", "muon")]
)
def test_what_split_weights_take_and_send_is_the_compiled_program_s(tiny, method, matrices):
    """Bytes to the last one; elements that travel, but for what the method sums."""
    changes = {"method": method, "optimizer.matrices": matrices}
    experiment, shape = with_changes(tiny, changes), MeshShape(2, 2)
    made = make_plan(experiment, Topology("x", CHIPS["H100"], 4), shape)
    mesh = make_mesh(jax.devices()[:4], shape)
    program = ahead.compile_step(experiment, made.puzzle_ids + 1, mesh)
    unused = 4 + tiny.method.recursion.cycles * experiment.data.canvas**2 if method == "drm" else 0
    batch = made.device_bytes["batch"] - unused * experiment.train.batch_size // 4
    assert program.arguments == made.state_bytes + batch
    whole = make_plan(experiment, Topology("x", CHIPS["H100"], 4))
    assert made.device_bytes["params"] < 0.51 * whole.device_bytes["params"]
    assert made.device_bytes["gathered"] == whole.device_bytes["params"]
    assert "gathered" not in whole.device_bytes
    for kind, parts in (("all-gather", 1), ("reduce-scatter", 2)):
        sizes = [n for which, of, _ in program.collectives if which == kind for n in of]
        payload = sum(item.payload for item in made.sent if item.kind == kind)
        rows = 4 * experiment.train.batch_size * experiment.model.hidden
        if kind == "reduce-scatter":  # what each device gives of rows is a quarter of them
            payload += rows * (parts / 4 - 1)
        unused = 4 * 13 * experiment.model.hidden if kind == "all-gather" and method == "trm" else 0
        assert 4 * parts * sum(sizes) == payload - unused


def of_gradients(collectives) -> list:
    """Sizes of each all-reduce of more than a vector."""
    return [sizes for kind, sizes, _ in collectives if kind == "all-reduce" and max(sizes) > 64]


@pytest.mark.parametrize("method", ["drm", "sprm", "diffusion"])
def test_what_is_sent_is_what_the_compiled_program_sends(tiny, method):
    experiment = with_changes(tiny, {"method": method})
    made = make_plan(experiment, Topology("x", CHIPS["H100"], 4))
    mesh = make_mesh(jax.devices()[:4])
    program = ahead.compile_step(experiment, made.puzzle_ids + 1, mesh)
    reductions = of_gradients(program.collectives)
    assert len(reductions) == 1
    gradient = next(item for item in made.sent if "gradient" in item.what)
    spread = [item.payload for item in made.sent if "method" in item.what]  # may travel with it
    found = 4 * sum(n for n in reductions[0] if n > 1)
    assert found - gradient.payload in (0, *(share * x for x in spread for share in (0.25, 0.5, 1)))
    rows = 4 * experiment.train.batch_size * experiment.model.hidden
    assert made.sent[1].payload == made.sent[2].payload == rows
    assert program.host_transfers == 0


def test_one_device_sends_nothing(tiny):
    made = make_plan(tiny, parse_topology("H100"))
    assert made.link_seconds == 0
    assert all(item.sent == 0 for item in made.sent)


def test_times_are_those_of_a_share_of_the_peak(tiny):
    made = make_plan(tiny, parse_topology("2xH100"))
    at_peak = made.step_flops / (2 * 989e12)
    for pace in (*made.paces, made.fastest):
        assert math.isclose(pace.step_seconds, at_peak / pace.utilisation)
        assert math.isclose(pace.examples_per_second, tiny.train.batch_size / pace.step_seconds)
        assert math.isclose(pace.days * 86400, tiny.train.steps * pace.step_seconds)
    assert [pace.utilisation for pace in made.paces] == [0.2, 0.4, 0.6]
    bound = max(at_peak, made.traffic_bytes / 3350e9)
    assert math.isclose(made.fastest.step_seconds, bound)
    assert made.fastest.utilisation < 1  # memory bounds so small a network
    more = make_plan(with_changes(tiny, {"evaluate.rollouts": 4}), parse_topology("2xH100"))
    assert more.candidates == 4 * made.candidates
    for pace, of_more in zip(made.paces, more.paces, strict=True):
        assert math.isclose(4 * pace.evaluation_hours, of_more.evaluation_hours)


def of_model(tiny: Experiment, **of_model) -> Experiment:
    return dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, **of_model))


@pytest.mark.parametrize(
    ("topology", "dtype", "form"),
    [
        ("v5e:2x2", "auto", "flash"),
        ("v5e:2x2", "float32", "plain"),
        ("4xH100", "auto", "cudnn"),
        ("4xH100", "float32", "plain"),
        ("4xL4", "auto", "cudnn"),
    ],
)
def test_a_plan_is_of_the_attention_that_auto_chooses(topology, dtype, form, tiny):
    topology = parse_topology(topology)
    made = make_plan(of_model(tiny, dtype=dtype), topology)
    plain = make_plan(of_model(tiny, dtype=dtype, attention="plain"), topology)
    assert (made.attention, plain.attention) == (form, "plain")
    assert (made.scores_share > 0) == (form == "plain")
    assert plain.scores_share > 0
    assert (made.again_share > 0) == (form != "plain")  # the scores, in the backward pass
    kept, lost = roofline(made), roofline(plain)
    assert any("(flash attention) the bound would be" in line for line in lost)
    if form != "plain":
        assert any(f"stay on the chip (model.attention: {form})" in line for line in kept)
        assert not any("would be" in line for line in kept)


def test_a_convolution_is_planned(tiny):
    plain = make_plan(tiny, parse_topology("H100"))
    made = make_plan(of_model(tiny, convolution=True, positions="board"), parse_topology("H100"))
    assert made.parameters - plain.parameters == 9 * tiny.model.swiglu_width  # of one layer
    # read and written in bfloat16: forward, again, and twice for the gradient
    calls = tiny.method.work().blocks + 3 * tiny.method.work().grad_blocks
    moved = 2 * 2 * tiny.data.canvas**2 * tiny.model.swiglu_width * calls * tiny.train.batch_size
    assert math.isclose(made.traffic_bytes - plain.traffic_bytes, moved)
    assert made.train_flops > plain.train_flops


@pytest.mark.parametrize("name", ["T4", "V100", "P100"])
def test_a_gpu_before_ampere_is_planned_in_float32(name, tiny):
    made = make_plan(tiny, parse_topology(f"4x{name}"))
    assert (made.dtype, made.attention, CHIPS[name].platform) == ("float32", "plain", OLDER_GPU)
    assert not any("flash attention" in line for line in roofline(made))  # it has none
    narrow = make_plan(of_model(tiny, dtype="bfloat16"), parse_topology(f"4x{name}"))
    assert (narrow.dtype, narrow.attention) == ("bfloat16", "plain")


def test_what_flash_attention_moves(tiny):
    """Of a canvas of 30: only what goes in and out, with tokens and heads padded to 128."""
    experiment = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, canvas=30))
    experiment = of_model(experiment, hidden=512, heads=8, prefix=16)
    plain = make_plan(of_model(experiment, attention="plain"), parse_topology("v5e:2x2"))
    flash = make_plan(experiment, parse_topology("v5e:2x2"))
    model = experiment.model
    recursion = experiment.method.recursion
    calls = recursion.inner_steps + 1
    passes = model.layers * calls * (recursion.cycles + 2 * recursion.grad_cycles)
    kept = passes * 4 * 2 * (8 * 1024 * 128 - 916 * 512)  # bfloat16
    sums = model.layers * calls * recursion.grad_cycles * 2 * 4 * 8 * 1024 * 128
    without_scores = plain.traffic_bytes * (1 - plain.scores_share)
    examples = experiment.train.batch_size / 4
    assert math.isclose(flash.traffic_bytes, without_scores + examples * (kept + sums))
    assert flash.traffic_bytes < 0.4 * plain.traffic_bytes
    assert flash.padded_tokens == 1024
    assert any("25% more of them" in line for line in roofline(flash))


def test_a_plan_without_attention(tiny):
    made = make_plan(with_changes(tiny, {"model": "token_mixer"}), parse_topology("v5e:2x2"))
    assert (made.attention, made.scores_share) == (None, 0)
    assert not any("attention" in line or "scores" in line for line in roofline(made))


def test_a_plan_of_windows_is_that_of_their_mean(tiny):
    """Of each window as a canvas, by the share of pairs, or of candidates, that stand on it."""
    topology = parse_topology("v5e:2x2")

    def of_canvas(canvas, **options):
        data = dataclasses.replace(
            tiny.data, canvas=canvas, only=("25d8a9c8", "a416b8f3"), **options
        )
        return make_plan(dataclasses.replace(tiny, data=data), topology)

    fit, small, large = of_canvas("fit", windows=(4, 12)), None, of_canvas(12)
    data = dataclasses.replace(tiny.data, canvas=4, only=("25d8a9c8",))
    small = make_plan(dataclasses.replace(tiny, data=data), topology)
    first, last = fit.windows
    assert (first.height, last.width) == (4, 12)
    assert first.of_training == 4 / 7  # 4 demonstrations of 3 x 3, 3 of up to 4 x 8
    assert first.of_evaluation == 1 / 2
    for name, share in (("train_flops", 4 / 7), ("evaluate_flops", 1 / 2)):
        mean = share * getattr(small, name) + (1 - share) * getattr(large, name)
        assert math.isclose(getattr(fit, name), mean)
    mean = 4 / 7 * small.traffic_bytes + 3 / 7 * large.traffic_bytes
    assert math.isclose(fit.traffic_bytes, mean)
    assert fit.device_bytes["candidates"] == large.device_bytes["candidates"]  # the largest
    assert [window.of_training for window in large.windows] == [1]


@pytest.fixture
def written(tiny, tmp_path):
    """The tiny experiment as a work directory."""
    (tmp_path / "config.json").write_text(to_json(wider(tiny)))
    return str(tmp_path)


def wider(tiny: Experiment) -> Experiment:
    train = dataclasses.replace(tiny.train, batch_size=8)
    return dataclasses.replace(
        tiny, train=train, evaluate=dataclasses.replace(tiny.evaluate, batch_size=8)
    )


def test_it_is_printed(written, capsys):
    assert main(["plan", written, "--topology", "8xA100", "--model.hidden", "32"]) == 0
    out = capsys.readouterr().out
    for words in (
        "8 x A100, each 312 TFLOP/s of bfloat16",
        "Memory of a device",
        "% roofline ",
        "Roofline: ",
        "all-reduce",
    ):
        assert words in out
    assert "slower than the peak" not in out
    argv = ["plan", written, "--topology", "T4", "--model.dtype", "bfloat16"]
    assert main(argv) == 0
    assert "bfloat16 products, slower than the peak, which is of float32" in capsys.readouterr().out


def test_json(written, capsys):
    assert main(["plan", written, "--topology", "v5e:2x2", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["device_bytes"]["table"] == 12288 * 16 * 4 // 4
    assert plan["state_bytes"] > plan["device_bytes"]["table"]
    assert plan["programs"] == []
    days = [pace["days"] for pace in plan["paces"]]
    assert days == sorted(days, reverse=True)


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ([], 2, "name one, such as v5e:4x4"),
        (["--topology", "v5e:9x9"], 2, "81 devices can't share the puzzle table"),
        (["--topology", "16xH100"], 2, "train.batch_size: 8 examples can't be split over 16"),
        (
            ["--topology", "T4", "--model.attention", "cudnn", "--model.dtype", "bfloat16"],
            2,
            "cudnn needs an NVIDIA GPU of compute capability 8.0 or more, and this is a GPU before",
        ),
        (["--topology", "H100", "--train.step", "3"], 2, "did you mean --train.steps"),
        (["--topology", "H100", "--model.attention", "flash"], 2, "model.attention: flash needs a"),
        (
            ["--topology", "H100", "--method", "tests.plan.test_flops:OwnMethod"],
            2,
            "OwnMethod: the work of",
        ),
        (["--topology", "H100", "--data.evaluate", "arc9"], 1, "arc9: no such source"),
    ],
)
def test_bad_input(written, argv, code, words, capsys):
    assert main(["plan", written, *argv]) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu_it_says_what_to_install(written, capsys):
    assert main(["plan", written, "--topology", "v5e:2x2", "--compile"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "pip install -e '.[tpu]'" in err


@pytest.mark.skipif(HAS_CUDA, reason="jax's plugin for CUDA is installed")
def test_without_the_plugin_for_cuda_it_says_what_to_install(written, capsys):
    assert main(["plan", written, "--topology", "8xH100", "--compile"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "jax's plugin for CUDA is needed" in err
    assert "pip install -e '.[gpu]'" in err


@pytest.mark.parametrize("name", [chip.name for chip in CHIPS.values() if chip.capability])
def test_gpus_are_described_to_the_compiler(name):
    text = describe_gpu(CHIPS[name])
    fields = dict(re.findall(r"(\w+): (\S+)", text))
    assert f"{fields['major']}.{fields['minor']}" == CHIPS[name].capability
    assert float(fields["device_memory_size"]) == CHIPS[name].memory
    # products of float32, two operations each, within what makers round and clocks vary
    peak = 2e9 * math.prod(
        float(fields[field]) for field in ("core_count", "fpus_per_core", "clock_rate_ghz")
    )
    assert peak == pytest.approx(FLOAT32[name], rel=0.02)


FLOAT32 = {  # FLOP/s, by NVIDIA's pages on each
    "A100": 19.5e12, "L4": 30.3e12, "H100": 67e12, "H200": 67e12, "B200": 75e12, "T4": 8.1e12,
    "V100": 15.7e12, "P100": 9.3e12,
}  # fmt: skip


# --- What doesn't fit, with a stand-in for the compiler ---

GIB = 2**30


def of_memory(experiment: Experiment, num_ids: int, mesh) -> ahead.Program:
    """As the compiler answers, where an example takes a GiB and the device has 16."""
    share = {"none": 1.0, "attention": 0.5, "layer": 0.125}[experiment.model.remat]
    examples = experiment.train.batch_size / mesh.size / experiment.train.least_parts
    needed = examples * share * GIB
    return ahead.Program("training step", needed <= 16 * GIB, needed, 16 * GIB)


def of_batch(tiny: Experiment, size: int, **of_train) -> Experiment:
    train = dataclasses.replace(tiny.train, batch_size=size, **of_train)
    return dataclasses.replace(of_model(tiny, attention="plain"), train=train)


@pytest.mark.parametrize(
    ("size", "options", "largest"),
    [
        (40, "--model.remat attention", 32),
        (80, "--model.remat layer", 32),
        (1024, "--model.remat layer --train.accumulate 4", 32),
        (1026, None, 32),  # no way to divide 513 examples
    ],
)
def test_what_would_fit_is_found(size, options, largest, tiny, monkeypatch):
    monkeypatch.setattr(ahead, "compile_step", of_memory)
    experiment, mesh, said = of_batch(tiny, size), make_mesh(jax.devices()[:2]), []
    failed = of_memory(experiment, 1, mesh)
    assert not failed.fits
    advice = ahead.advise(experiment, 1, mesh, failed, said.append)
    assert (advice.options, advice.largest_batch) == (options, largest)
    assert any(f"--train.batch-size {largest}" in text for text in said)
    if options:
        assert f"Trying {options}" in said
        assert advice.needed <= 16 * GIB < failed.needed


def test_scores_that_are_not_kept_are_not_computed_again(tiny, monkeypatch):
    monkeypatch.setattr(ahead, "compile_step", of_memory)
    mesh, said = make_mesh(jax.devices()[:2]), []
    experiment = of_model(of_batch(tiny, 40), attention="blocks")
    advice = ahead.advise(experiment, 1, mesh, of_memory(experiment, 1, mesh), said.append)
    assert advice.options == "--model.remat layer"
    assert not any("attention" in text for text in said)


def test_options_that_are_there_stay(tiny, monkeypatch):
    monkeypatch.setattr(ahead, "compile_step", of_memory)
    experiment, mesh = of_batch(tiny, 512, accumulate=2), make_mesh(jax.devices()[:2])
    advice = ahead.advise(experiment, 1, mesh, of_memory(experiment, 1, mesh), lambda text: None)
    assert (advice.options, advice.largest_batch) == (
        "--model.remat layer --train.accumulate 2",
        64,
    )


def test_not_one_example_fits(tiny, monkeypatch):
    def never(experiment, num_ids, mesh):
        return ahead.Program("training step", False, 99 * GIB, None)

    monkeypatch.setattr(ahead, "compile_step", never)
    mesh = make_mesh(jax.devices()[:2])
    advice = ahead.advise(of_batch(tiny, 8), 1, mesh, never(0, 0, 0), lambda text: None)
    assert (advice.options, advice.largest_batch) == (None, None)


def raises(text: str):
    def lower():
        raise jax.errors.JaxRuntimeError(text)

    return lower


def test_a_compiler_s_no_is_an_answer():
    program = ahead._compile(
        "training step",
        raises("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G"),
    )
    assert (program.fits, program.needed, program.available) == (False, 20.5 * GIB, 15.75 * GIB)
    with pytest.raises(InputError, match="the evaluation can't be compiled: INTERNAL: no"):
        ahead._compile("evaluation", raises("INTERNAL: no"))


@pytest.mark.parametrize(("size", "code"), [(16, 0), (40, 1)])
def test_what_does_not_fit_is_said(size, code, written, capsys, monkeypatch):
    """With exit code 1, and what would; what fits, with what the compiler found."""
    mesh = make_mesh(jax.devices()[:2])
    found = (("all-reduce", (7,), False), ("all-gather", (5,), True))
    evaluation = ahead.Program("evaluation", True, 2 * GIB, None, 1000000, GIB, found, 3)
    compilers = {"training step": of_memory, "evaluation": lambda *_: evaluation}
    monkeypatch.setattr(ahead, "compile_step", of_memory)
    monkeypatch.setattr(ahead, "absent_mesh", lambda *_: mesh)
    monkeypatch.setattr(plan_module, "_COMPILERS", compilers)
    argv = ["plan", written, "--topology", "v5e:1x2", "--compile", "--train.batch-size", str(size)]
    argv += ["--model.attention", "plain"]
    assert main(argv) == code
    out = capsys.readouterr().out
    assert "Evaluation: fits: 2.00 GiB a device, of which 1.00 GiB activations and 1.0 MB" in out
    assert "1 all-gather, 1 all-reduce; in loops: 1; to the host: 3" in out
    refused = "Training step: does not fit: activations alone need 20.00 GiB of 16.00 GiB a device"
    assert (refused in out) == bool(code)
    assert ("It fits with --model.remat attention: 10.00 GiB a device" in out) == bool(code)
    wanted = "largest batch that fits is 32 (--train.batch-size; the experiment's is 40)"
    assert (wanted in out) == bool(code)
    assert main([*argv, "--json"]) == code
    made = json.loads(capsys.readouterr().out)
    assert [program["fits"] for program in made["programs"]] == [not code, True]
    assert (made["advice"] or {}).get("largest_batch") == (32 if code else None)


class Compiled:
    """A program of a GPU, as its compiler gives it."""

    def __init__(self, activations: float):
        self._activations = int(activations)

    def compile(self):
        return self

    def memory_analysis(self):
        return SimpleNamespace(
            argument_size_in_bytes=GIB, temp_size_in_bytes=self._activations,
            generated_code_size_in_bytes=0, output_size_in_bytes=GIB, alias_size_in_bytes=GIB,
        )  # fmt: skip

    def as_text(self):
        return GPU_PROGRAM


@pytest.mark.parametrize(("activations", "fits"), [(10 * GIB, True), (12 * GIB, False)])
def test_a_gpu_s_compiler_refuses_nothing(activations, fits, tiny):
    """What fits follows from the memory that jax takes: 12e9 of 16e9 bytes."""
    program = ahead._compile(
        "training step", lambda: Compiled(activations), ahead.GPU_SHARE * CHIPS["T4"].memory
    )
    assert (program.fits, program.needed, program.available) == (fits, activations + GIB, 12e9)
    lines = describe_program(program, make_plan(tiny, parse_topology("T4")))
    words = f"{program.needed / GIB:.2f} GiB"
    if fits:
        assert f"fits: {words} a device of 11.18 GiB (75% of the GPU's" in lines[0]
        assert "3 attention, 4 product, 11 fusion, 1 communication, 1 other" in lines[1]
        assert "scratch memory of cuDNN's attention" in lines[2]
    else:
        (line,) = lines
        assert f"does not fit: it needs {words} of 11.18 GiB a device (75% of the GPU's" in line


# As the compiler writes it, much shortened.
GPU_PROGRAM = """HloModule jit_step, is_scheduled=true

%fused_add (param_0: f32[4,8], param_1: f32[4,8]) -> f32[4,8] {
  %param_0 = f32[4,8]{1,0} parameter(0)
  %param_1 = f32[4,8]{1,0} parameter(1)
  ROOT %add = f32[4,8]{1,0} add(%param_0, %param_1)
}

%body (arg: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %arg = (s32[], bf16[4,8]{1,0}) parameter(0)
  %x = bf16[4,8]{1,0} get-tuple-element(%arg), index=1
  %loop_add_fusion = bf16[4,8]{1,0} fusion(%x, %x), kind=kLoop, calls=%fused_add
  %gemm_fusion_dot = bf16[4,8]{1,0} fusion(%x), kind=kCustom, calls=%f, backend_config={\
"fusion_backend_config":{"kind":"__triton_nested_gemm_fusion"}}
  %fwd = (bf16[4,8]{1,0}, f32[4]{0}, u8[0]{0}) custom-call(%x, %x, %x), custom_call_target=\
"__cudnn$fmhaSoftmax", operand_layout_constraints={}
  ROOT %tuple = (s32[], bf16[4,8]{1,0}) tuple(%i, %gemm_fusion_dot)
}

%outer (arg: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %while.1 = (s32[], bf16[4,8]{1,0}) while(%arg), condition=%cond, body=%body, backend_config={\
"known_trip_count":{"n":"3"},"known_init_step":{"init":"0","step":"1"}}
  ROOT %loop_fusion = (s32[], bf16[4,8]{1,0}) fusion(%while.1), kind=kLoop, calls=%fused_add
}

%called (p: f32[4,8]) -> f32[4,8] {
  %copy.1 = f32[4,8]{1,0} copy(%p)
  ROOT %input_reduce_fusion = f32[4]{0} fusion(%copy.1), kind=kInput, calls=%fused_add
}

ENTRY %main (p: f32[4,8]) -> f32[4,8] {
  %p = f32[4,8]{1,0} parameter(0), metadata={op_name="copy(fusion(("}
  %c = s32[] constant(1)
  %matmul = (f32[4,8]{1,0}, s8[4194304]{0}) custom-call(%p, %p), custom_call_target=\
"__cublas$lt$matmul"
  %while.2 = (s32[], bf16[4,8]{1,0}) while(%t), condition=%cond, body=%outer
  %call = f32[4]{0} call(%p), to_apply=%called
  %all-reduce-start = f32[4,8]{1,0} all-reduce-start(%p), channel_id=1, to_apply=%region
  %all-reduce-done = f32[4,8]{1,0} all-reduce-done(%all-reduce-start)
  %f1 = f32[4,8]{1,0} fusion(%p), kind=kLoop, calls=%fused_add
  %f2 = f32[4,8]{1,0} fusion(%p), kind=kLoop, calls=%fused_add
  %f3 = f32[4,8]{1,0} fusion(%p), kind=kLoop, calls=%fused_add
  %f4 = f32[4,8]{1,0} fusion(%p), kind=kLoop, calls=%fused_add
  %f5 = f32[4,8]{1,0} fusion(%p), kind=kLoop, calls=%fused_add
  ROOT %f6 = f32[4,8]{1,0} fusion(%p), kind=kLoop, calls=%fused_add
}
"""


def test_kernels_are_counted_as_often_as_loops_run():
    found = ahead.kernels(GPU_PROGRAM)
    assert found == {"attention": 3, "product": 4, "fusion": 11, "communication": 1, "other": 1}
    assert ahead.kernels("") == {}
    assert ahead.collectives(GPU_PROGRAM) == [("all-reduce", (32,), False)]


# --- The real compilers, where they are installed ---


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
@pytest.mark.parametrize("method", ["drm", "trm", "sprm", "diffusion"])
def test_the_tpu_program_reduces_once_and_leaves_the_host_alone(method, tiny, tmp_path):
    made = compiled_plan(with_changes(wider(tiny), {"method": method}), "v5e:2x2", tmp_path)
    assert made["attention"] == "flash"
    assert_reduces_once(made)


def compiled_plan(experiment: Experiment, topology: str, folder: Path) -> dict:
    """In a process of its own, where `drm plan` sets what the compilers need."""
    (folder / "config.json").write_text(to_json(experiment))
    command = [sys.executable, "-m", "drm_jax", "plan", str(folder), "--topology", topology]
    result = subprocess.run(
        [*command, "--compile", "--json"], capture_output=True, text=True, check=True, cwd=ROOT,
        encoding="utf-8",
    )  # fmt: skip
    return json.loads(result.stdout)


def assert_reduces_once(made: dict) -> None:
    training, evaluation = made["programs"]
    assert training["fits"]
    assert evaluation["fits"]
    gradient = next(item for item in made["sent"] if "gradient" in item["what"])["payload"] / 4
    sizes = [sum(size) for kind, size, _ in training["collectives"] if kind == "all-reduce"]
    assert sum(size >= gradient for size in sizes) == 1
    assert sum(sizes) < 2 * gradient
    for program in (training, evaluation):
        assert not any(in_loop for _, _, in_loop in program["collectives"])
        assert program["host_transfers"] == 0


@pytest.mark.skipif(not HAS_CUDA, reason="needs jax's plugin for CUDA")
@pytest.mark.parametrize(
    ("topology", "method", "form"),
    [("4xH100", "drm", "cudnn"), ("4xH100", "sprm", "cudnn"), ("2xA100", "trm", "cudnn"),
     ("2xL4", "diffusion", "cudnn"), ("2xT4", "drm", "plain")],
)  # fmt: skip
def test_the_gpu_program_reduces_once_and_leaves_the_host_alone(
    topology, method, form, tiny, tmp_path
):
    made = compiled_plan(with_changes(wider(tiny), {"method": method}), topology, tmp_path)
    assert made["attention"] == form
    assert_reduces_once(made)
    for program in made["programs"]:
        kinds = dict(program["kernels"])
        assert ("attention" in kinds) == (form == "cudnn")
        assert kinds["product"] > 0
        assert program["needed"] < program["available"]


@pytest.mark.skipif(not HAS_CUDA, reason="needs jax's plugin for CUDA")
def test_what_does_not_fit_a_gpu_is_found(tiny, tmp_path):
    """Without a refusal of the compiler's: by its figures."""
    (tmp_path / "config.json").write_text(to_json(of_batch(tiny, 2**20)))
    command = [sys.executable, "-m", "drm_jax", "plan", str(tmp_path), "--topology", "T4"]
    result = subprocess.run(
        [*command, "--compile"], capture_output=True, text=True, check=False, cwd=ROOT,
        encoding="utf-8",
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "Training step: does not fit: it needs" in result.stdout
    assert "It fits with --" in result.stdout


@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None, reason="needs the plugin for CUDA 13"
)
def test_cuda_13_does_not_compile_for_what_it_no_longer_knows(tiny):
    with pytest.raises(UsageError, match=r"no compiler for V100 .*jax\[cuda12\]"):
        ahead.absent_mesh(parse_topology("V100"))
