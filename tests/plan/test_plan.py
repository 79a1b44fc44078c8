"""`drm plan`: its bytes against compiled programs, its answers, and what it refuses."""

import dataclasses
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from drm_jax.commands.main import main
from drm_jax.config import Experiment, to_json, with_changes
from drm_jax.errors import InputError, UsageError
from drm_jax.parallel.mesh import MeshShape, make_mesh
from drm_jax.plan import ahead
from drm_jax.plan import command as plan_module
from drm_jax.plan.chips import CHIPS, Topology, parse_topology
from drm_jax.plan.plan import make_plan
from drm_jax.plan.show import roofline
from drm_jax.run.setup import set_up

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "name", "devices"),
    [
        ("v5e:4x4", "v5e", 16),
        ("v6e:2x4", "v6e", 8),
        ("v4:2x2x1", "v4", 4),
        ("v5p:2x2x2", "v5p", 8),
        ("8xH100", "H100", 8),
        ("h200", "H200", 1),
    ],
)
def test_topologies(text, name, devices):
    topology = parse_topology(text)
    assert (topology.chip.name, topology.devices, topology.name) == (name, devices, text)
    assert topology.is_tpu == name.startswith("v")


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
        assert 1e14 < chip.flops < 1e16
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


@pytest.mark.parametrize("method", ["drm", "trm"])
def test_what_split_weights_take_and_send_is_the_compiled_program_s(tiny, method):
    """Bytes to the last one; elements that travel, but for what the method sums."""
    experiment, shape = with_changes(tiny, {"method": method}), MeshShape(2, 2)
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


def of_model(tiny: Experiment, **of_model) -> Experiment:
    return dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, **of_model))


@pytest.mark.parametrize(
    ("topology", "dtype", "form"),
    [
        ("v5e:2x2", "auto", "flash"),
        ("v5e:2x2", "float32", "plain"),
        ("4xH100", "auto", "cudnn"),
        ("4xH100", "float32", "plain"),
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
        "8 x A100, each 312 TFLOP/s",
        "Memory of a device",
        "% roofline ",
        "Roofline: ",
        "all-reduce",
    ):
        assert words in out
    assert "--compile" not in out  # there is no compiler for it


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
        (["--topology", "8xH100", "--compile"], 2, "only programs for TPUs can be compiled"),
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
    monkeypatch.setattr(ahead, "tpu_mesh", lambda topology: mesh)
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


# --- The real compiler, where it is installed ---


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
@pytest.mark.parametrize("method", ["drm", "trm", "sprm", "diffusion"])
def test_the_tpu_program_reduces_once_and_leaves_the_host_alone(method, tiny, tmp_path):
    """In a process of its own, where `drm plan` sets what libtpu needs."""
    experiment = with_changes(wider(tiny), {"method": method})
    (tmp_path / "config.json").write_text(to_json(experiment))
    command = [sys.executable, "-m", "drm_jax", "plan", str(tmp_path), "--topology", "v5e:2x2"]
    result = subprocess.run(
        [*command, "--compile", "--json"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    made = json.loads(result.stdout)
    assert made["attention"] == "flash"
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
