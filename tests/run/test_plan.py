"""`drm plan`: its bytes against compiled programs, its answers, and what it refuses."""

import dataclasses
import importlib.util
import json
import math
from pathlib import Path

import jax
import pytest

from drm_jax.cli import main
from drm_jax.config import Experiment, to_json
from drm_jax.dist.mesh import make_mesh
from drm_jax.errors import UsageError
from drm_jax.run import ahead
from drm_jax.run.chips import CHIPS, Topology, parse_topology
from drm_jax.run.plan import make_plan
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


@pytest.mark.parametrize("objective", ["drm", "trm", "sprm"])
@pytest.mark.parametrize("devices", [1, 4])
def test_bytes_are_the_compiled_program_s(tiny, objective, devices):
    experiment = dataclasses.replace(tiny, objective=objective)
    made = make_plan(experiment, Topology("x", CHIPS["H100"], devices))
    mesh = make_mesh(jax.devices()[:devices])
    program = ahead.compile_step(experiment, made.puzzle_ids + 1, mesh)
    unused = {  # what the step doesn't take in, though it comes with a batch
        "drm": 4 + experiment.model.cycles * experiment.data.canvas**2,
        "trm": 0,
        "sprm": 0,
    }[objective]
    batch = made.device_bytes["batch"] - unused * experiment.train.batch_size // devices
    assert program.arguments == made.state_bytes + batch
    assert made.puzzle_ids == len(set_up(experiment, mesh).ids) - 1


def of_gradients(collectives) -> list:
    """Sizes of each all-reduce of more than a vector."""
    return [sizes for kind, sizes, _ in collectives if kind == "all-reduce" and max(sizes) > 64]


@pytest.mark.parametrize("objective", ["drm", "sprm", "diffusion"])
def test_what_is_sent_is_what_the_compiled_program_sends(tiny, objective):
    experiment = dataclasses.replace(tiny, objective=objective)
    made = make_plan(experiment, Topology("x", CHIPS["H100"], 4))
    mesh = make_mesh(jax.devices()[:4])
    program = ahead.compile_step(experiment, made.puzzle_ids + 1, mesh)
    reductions = of_gradients(program.collectives)
    assert len(reductions) == 1
    gradient = next(item for item in made.sent if "gradient" in item.what)
    spread = [item.payload for item in made.sent if "spread" in item.what]  # may travel with it
    found = 4 * sum(n for n in reductions[0] if n > 1)
    assert found - gradient.payload in (0, *(share * x for x in spread for share in (0.25, 0.5, 1)))
    rows = 4 * experiment.train.batch_size * experiment.model.hidden
    assert made.sent[1].payload == made.sent[2].payload == rows
    assert program.host_transfers == 0


def test_one_device_sends_nothing(tiny):
    made = make_plan(tiny, parse_topology("H100"))
    assert made.link_seconds == 0
    assert math.isclose(
        made.paces[1].days, 2 * made.paces[1].utilisation / 0.8 * made.paces[1].days
    )


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
    for words in ("8 x A100, each 312 TFLOP/s", "Memory of a device", "Roofline: ", "all-reduce"):
        assert words in out
    assert "--compile" not in out  # there is no compiler for it


def test_json(written, capsys):
    assert main(["plan", written, "--topology", "v5e:2x2", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["device_bytes"]["table"] == 4096 * 16 * 4 // 4
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
        (["--topology", "H100", "--objective", "a:b"], 2, "objective: a:b: the work of"),
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
