"""docs/scaling.md: each of its commands is run, or dry-run, and its table is that of `drm plan`.

A section's commands run one after the other in a project's folder, in bash. gcloud, Slurm, pip and
the GPU's driver are stand-ins there; so is `drm`, which only records what it is asked: that is then
asked of the real one, at a tiny size or as a dry run.
"""

import dataclasses
import functools
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stand_ins import LIMIT, SLOW, Cloud, commands_of, executable, read_until, wait_for

from drm_jax.commands.main import main
from drm_jax.plan import plan as plan_module
from drm_jax.plan.chips import parse_topology
from drm_jax.plan.plan import Plan, make_plan

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "scaling.md").read_text()
EXPERIMENTS = ("arc1_drm_7m", "arc1_drm_14m", "arc2_drm_7m", "arc2_drm_14m")
TOPOLOGIES = ("v5e:4x4", "v6e:2x4", "v5p:2x2x2", "8xH100")
BUCKET = "my-drm-bucket"  # the page's
LONG_RUN = ["experiments/arc1_drm_7m.py", "--workdir", f"gs://{BUCKET}/arc1_drm_7m"]
TINY = shlex.split(
    "--train.steps 2 --train.batch-size 4 --train.log-every 1 --data.num-augmentations 1 "
    "--model.hidden 16 --model.heads 2 --model.layers 1 --method.recursion.cycles 1 "
    "--method.recursion.inner-steps 1 --evaluate.batch-size 4 --evaluate.denoise-steps 2"
)
KNOWN = shlex.split(
    ". export for mkdir python pip drm nvidia-smi gcloud srun squeue scancel .venv-tpu/bin/pip "
    ".venv-tpu/bin/drm .venv-gpu/bin/pip .venv-gpu/bin/drm launch/debug_gpu.sh launch/tpu_vm.sh "
    "launch/slurm.sh"
)
# gcloud's commands with the options that they take, by its reference.
GCLOUD = {
    "auth login": "",
    "auth application-default login": "",
    "config set": "",
    "services enable": "",
    "iam service-accounts create": "",
    "storage buckets create": "--location",
    "storage buckets add-iam-policy-binding": "--member --role",
    "storage cat": "",
    "storage cp": "--recursive",
    "storage du": "--summarize",
    "storage rm": "--recursive",
    "compute tpus accelerator-types list": "--zone",
    "compute tpus queued-resources list": "--zone",
    "compute tpus queued-resources create": "--zone --node-id --accelerator-type --runtime-version "
    "--service-account --spot",
    "compute tpus queued-resources describe": "--zone --format",
    "compute tpus queued-resources delete": "--zone --force",
    "compute tpus tpu-vm list": "--zone",
    "compute tpus tpu-vm describe": "--zone --format",
    "compute tpus tpu-vm scp": "--zone --worker",
    "compute tpus tpu-vm ssh": "--zone --worker --command --ssh-flag",
}
RECORDER = f"""#!{sys.executable} -SE
import json, os, pathlib, shutil, subprocess, sys

me, words = pathlib.Path(sys.argv[0]), sys.argv[1:]
with open(os.environ["CALLS"], "a", encoding="utf-8") as calls:
    calls.write(json.dumps([me.name, os.environ.get("JAX_PLATFORMS"), *words]) + "\\n")
if me.name == "python":
    assert words[:2] == ["-m", "venv"], words
    shutil.copytree(me.parent.parent, words[2])
elif me.name == "sbatch":
    print(7)
    subprocess.run(["bash"], input=sys.stdin.read(), text=True, check=True)
elif me.name == "srun":
    while words[0].startswith("-"):
        del words[0]
    subprocess.run(words, check=True)
"""


COMMANDS = commands_of(PAGE)


class World:
    """A project's folder, and a machine with stand-ins."""

    def __init__(self, folder: Path):
        self.root, self.tools, self.record = folder / "project", folder / "bin", folder / "calls"
        for name in ("launch", "experiments"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        self.cloud = Cloud(folder / "cloud", self.root)
        self.tools.mkdir()
        for name in ("nvidia-smi", "sbatch", "srun", "squeue", "scancel"):
            executable(self.tools / name, RECORDER)
        environment = self.root / ".venv" / "bin"
        environment.mkdir(parents=True)
        for name in ("drm", "pip", "python"):
            executable(environment / name, RECORDER)
        (environment / "activate").write_text('export PATH="$PWD/.venv/bin:$PATH"\n')
        self.environment = {
            "HOME": str(folder / "home"),
            "PATH": f"{self.tools}:{folder / 'cloud' / 'bin'}:/usr/bin:/bin",
            "CALLS": str(self.record),
            "CLOUD": str(folder / "cloud"),
            "POLL_SECONDS": "0.03",
        }

    def run(self, before: list[str], command: str) -> list[list[str]]:
        """The calls of all stand-ins, after those commands whose effect a shell keeps."""
        script = "set -eu\n" + "".join(before) + command
        self.record.unlink(missing_ok=True)
        asked = len(self.cloud.every_call())
        result = subprocess.run(
            ["bash", "-c", script], cwd=self.root, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        assert result.returncode == 0, f"{command}{result.stdout}{result.stderr}"
        calls = [json.loads(line) for line in self.record.read_text().splitlines()] if (
            self.record.exists()
        ) else []  # fmt: skip
        on_host = self.cloud.folder / "arguments.w-0"
        if on_host.exists():
            calls.append(["drm", "tpu,cpu", *on_host.read_text().split("\0")[:-1]])
            on_host.unlink()
        calls += [["gcloud", None, *call] for call in self.cloud.every_call()[asked:]]
        return calls


def keeps(command: str) -> bool:
    """Whether its effect is the shell's own."""
    return command.startswith(("export ", ". "))


def before(title: str) -> list[str]:
    """What earlier sections have set in the shell."""
    titles = list(COMMANDS)
    return [c for t in titles[: titles.index(title)] for c in COMMANDS[t] if keeps(c)]


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Tasks and puzzle ids of a plan, once for each source."""
    loaded, load = {}, plan_module.load_puzzles

    def load_once(experiment):
        key = (experiment.data, experiment.seed)
        if key not in loaded:
            loaded[key] = load(experiment)
        return loaded[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "load_puzzles", load_once)
        yield


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = World(tmp_path)
    monkeypatch.chdir(world.root)
    yield world
    world.cloud.close()


@functools.cache
def would_train(words: tuple[str, ...]) -> None:
    """A dry run of the real `drm train`."""
    assert main(["train", *words, "--dry-run"]) == 0


@functools.cache
def compiles(topology: str) -> None:
    """At a tiny size; two examples a device."""
    sizes = ["--train.batch-size", "32", "--evaluate.batch-size", "32"]
    options = ["--topology", topology, "--compile", *TINY, *sizes]
    assert main(["plan", "experiments/debug.py", *options]) == 0


def without_workdir(words: list[str]) -> tuple[str, ...]:
    """So that the same run in another place isn't tried again."""
    if "--workdir" not in words:
        return tuple(words)
    at = words.index("--workdir")
    assert re.match(rf"gs://{BUCKET}/.|/.*/drm_runs/.|runs/.", words[at + 1])
    return (*words[:at], *words[at + 2 :])


def ask_drm(platforms: str | None, words: list[str], capsys) -> None:
    """The same of the real one."""
    verb, *rest = words
    local = platforms is None and verb == "train" and "--dry-run" not in rest
    if local:
        assert main([*words, *TINY]) == 0
        assert main([*words, *TINY]) == 0  # again, as the page says
        assert "Going on from the checkpoint of step 2\n" in capsys.readouterr().out
    elif verb == "train":
        would_train(without_workdir([word for word in rest if word != "--dry-run"]))
    elif verb == "plan" and "--compile" in words:
        words.remove("--compile")
        assert main(words) == 0
        topology = words[words.index("--topology") + 1]
        module, extra = ("libtpu", "tpu") if ":" in topology else ("jax_cuda13_plugin", "gpu")
        if importlib.util.find_spec(module):
            compiles(topology)
        else:
            assert main([*words, "--compile"]) == 2
            assert f"pip install -e '.[{extra}]'" in capsys.readouterr().err
    else:
        assert verb in ("plan", "eval", "checkpoints"), words
        assert main(words) == 0


def check_gcloud(words: list[str]) -> None:
    """That gcloud has this command, with these options."""
    (name,) = [name for name in GCLOUD if words[: name.count(" ") + 1] == name.split()]
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    assert options <= {*GCLOUD[name].split(), "--quiet", "--project"}, words
    assert all(words), words  # no variable is empty


def check_pip(words: list[str]) -> None:
    assert words[:4] == ["install", "-c", "constraints.txt", "-e"], words
    (extra,) = re.fullmatch(r"\.\[(\w+)\]", words[4]).groups()
    assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()
    assert len(words) == 5


# --- What has to be there before a section, and what happens within ---


def train_tiny(workdir: str) -> None:
    assert main(["train", "experiments/debug.py", "--workdir", workdir, *TINY]) == 0


def start_long_run(world: World, **settings: str) -> None:
    """On a slice; the script that started it is gone."""
    world.cloud.drm(SLOW)
    process = world.cloud.start(*LONG_RUN, **settings)
    read_until(process, "goes on from step 0")
    process.kill()
    process.wait()


def wait_until_saved(world: World) -> None:
    """And stopped, as by Ctrl-C, on both hosts."""
    codes = [world.cloud.folder / "node" / f"w-{i}" / "drm_run" / "code" for i in range(2)]
    wait_for(lambda: all(code.exists() for code in codes))
    assert [code.read_text() for code in codes] == ["130\n", "130\n"]


def settings_of(commands: list[str]) -> dict[str, str]:
    script = "".join(commands) + "env -0"
    result = subprocess.run(
        ["bash", "-c", script], env={"PATH": "/usr/bin:/bin", "HOME": ""}, capture_output=True,
        text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    variables = dict(text.split("=", 1) for text in result.stdout.split("\0")[:-1])
    return {k: v for k, v in variables.items() if k.startswith("TPU_")}


@pytest.mark.parametrize("title", COMMANDS)
def test_every_command(title, world, fake_gcs, capsys):
    kept = [command for command in before(title) if not command.startswith(". ")]
    fake_gcs.buckets[BUCKET] = {}
    if title.startswith("6. "):
        start_long_run(world, **settings_of(kept))
    if title.startswith("7. "):
        train_tiny(LONG_RUN[-1])
    if title.startswith("8. "):
        start_long_run(world, **settings_of(kept))
    said = before(title)
    if title == "The compilers' figures":
        for name in (".venv-tpu", ".venv-gpu"):  # of section 3
            shutil.copytree(".venv", name)
    for command in COMMANDS[title]:
        words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
        assert words[0] in KNOWN, f"no way to run this is known: {command}"
        if words[0] == "srun":
            train_tiny(f"{world.environment['HOME']}/drm_runs/arc1_drm_7m")
        calls = world.run(said, command)
        assert calls or words[0] in (".", "export", "mkdir") or "--dry-run" in words, command
        for name, platforms, *asked in calls:
            if name == "drm":
                ask_drm(platforms, asked, capsys)
            elif name == "gcloud":
                check_gcloud(asked)
            elif name == "pip":
                check_pip(asked)
            else:
                assert name in ("python", "nvidia-smi", "sbatch", "srun", "squeue", "scancel")
        if keeps(command):
            said.append(command)
        if "tpu_worker.sh stop" in command:
            wait_until_saved(world)
            world.cloud.set("go")
    if title[0] in "568":
        assert not world.cloud.exists()  # the page's own commands leave nothing


def test_no_command_hides_in_a_sentence():
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^    .*\n", "", PAGE, flags=re.M))
    tools = ("drm", "gcloud", "pip", "python", "make", "srun", "sbatch", "scancel")
    words = [code.split() for code in inline if code != "make demo"]
    hidden = [" ".join(code) for code in words if code[0] in tools and len(code) > 1]
    assert set(hidden) <= {"drm train", "drm plan", "drm eval"}
    assert not re.search(r"`launch/\S+\.sh ", " ".join(f"`{code}`" for code in inline))
    assert "`make demo`" in PAGE
    subprocess.run(["make", "--dry-run", "demo"], cwd=ROOT, check=True, capture_output=True)


def test_the_page_goes_all_the_way():
    """From a debug run to a pod and to Slurm; more than that some command is there."""
    every = "".join(command for commands in COMMANDS.values() for command in commands)
    for words in (
        "drm train experiments/debug.py", "launch/debug_gpu.sh --workdir", " --compile\n",
        "\nlaunch/tpu_vm.sh --dry-run", "\nlaunch/tpu_vm.sh experiments/arc1_drm_7m.py",
        "tpu_worker.sh stop", "drm eval gs://", "queued-resources delete", " launch/slurm.sh exp",
    ):  # fmt: skip
        assert words in every, words


# --- The tables ---


@pytest.fixture
def make_plans(monkeypatch) -> Callable[..., list[Plan]]:
    """Plans of the four experiments, on the four topologies in turn."""
    kept = {}
    load = plan_module.load_puzzles

    def load_once(experiment):
        key = experiment.data, experiment.seed
        if key not in kept:
            kept[key] = load(experiment)
        return kept[key]

    monkeypatch.setattr(plan_module, "load_puzzles", load_once)
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    experiments = [importlib.import_module(name).experiment() for name in EXPERIMENTS]

    def make(attention: str = "auto") -> list[Plan]:
        changed = [
            dataclasses.replace(one, model=dataclasses.replace(one.model, attention=attention))
            for one in experiments
        ]
        return [make_plan(one, parse_topology(to)) for one in changed for to in TOPOLOGIES]

    return make


def row(plan: Plan) -> str:
    most = plan.fastest
    cells = [f"`{plan.experiment}`", plan.topology, f"{plan.state_bytes / 1e6:,.0f}"]
    for pace in plan.paces[:2]:
        star = "*" if pace.utilisation > most.utilisation else ""
        cells += [f"{pace.examples_per_second:,.0f}{star}", f"{pace.days:.1f}{star}"]
    cells += [f"{1e3 * plan.compute_seconds:,.0f}", f"{1e3 * plan.memory_seconds:,.0f}"]
    cells += [f"{most.utilisation:.0%}", f"{most.examples_per_second:,.0f}", f"{most.days:.1f}"]
    return f"| {' | '.join(cells)} |\n"


def slowed_ms(plan: Plan) -> float:
    """Products of a step, with what pads tokens and heads; the backward kernel on one core of two.

    Forward passes of attention are those of all cycles and one computed again; a backward pass is
    five products, where a forward one is two.
    """
    experiment = importlib.import_module(plan.experiment).experiment()
    model, recursion = experiment.model, experiment.method.recursion
    attention = model.layers * (recursion.inner_steps + 1) * model.attention_flops(30**2)
    forward, backward = (recursion.cycles + 1) * attention, 2.5 * attention
    more = (plan.padded_tokens / 916) ** 2 / plan.unit_share
    cores = 2 if plan.chip["name"] == "v5p" else 1
    flops = plan.train_flops + forward * (more - 1) + backward * (more * cores - 1)
    return 1e3 * flops * experiment.train.batch_size / plan.devices / plan.chip["flops"]


def test_the_tables_are_those_of_the_plans(make_plans):
    plans, with_plain = make_plans(), make_plans("plain")
    assert PAGE.count("|\n| `arc") >= len(plans)
    for plan in plans:
        assert row(plan) in PAGE
    for size, first in (("7M", 0), ("14M", 4)):
        pairs = list(zip(plans, with_plain, strict=True))[first : first + 4]
        bounds = [[1e3 * plan.fastest.step_seconds for plan in pair] for pair in pairs]
        cells = " | ".join(f"{ours:,.0f} ms instead of {plain:,.0f}" for ours, plain in bounds)
        assert f"| {size} | {cells} |\n" in PAGE
        products = [(slowed_ms(plan), 1e3 * plan.compute_seconds) for plan, _ in pairs[:3]]
        cells = " | ".join(
            f"{slowed:,.0f} instead of {counted:,.0f}" for slowed, counted in products
        )
        assert f"| {size} | {cells} |\n" in PAGE
    shares = [f"{plan.scores_share:.0%}" for plan in with_plain]
    assert f"{min(shares)[:-1]} to {max(shares)} of all traffic" in " ".join(PAGE.split())
    more = [
        one.train_flops / two.train_flops - 1 for one, two in zip(plans, with_plain, strict=True)
    ]
    said = f"{100 * min(more):.1f} to {100 * max(more):.1f}% more products"
    assert said in " ".join(PAGE.split())
    assert {f"{plan.again_share:.0%} of a step's FLOPs" for plan in plans} == {
        "18% of a step's FLOPs"
    }
    assert "18% of a step's FLOPs" in " ".join(PAGE.split())


def test_the_bar_is_compared_with_the_plan_of_one_gpu(make_plans):
    experiment = importlib.import_module("arc1_drm_7m").experiment()
    plan = make_plan(experiment, parse_topology("H100"))
    slow, middle, fast = (f"{pace.examples_per_second:,.0f}" for pace in plan.paces)
    most = plan.fastest
    said = (
        f"{slow} examples/s at 20%, {middle} at 40%, {fast} at 60%, and "
        f"{most.examples_per_second:,.0f} at the roofline, {most.utilisation:.0%}"
    )
    assert said in " ".join(PAGE.split())
    days = experiment.train.steps * experiment.train.batch_size / 4600 / 86400
    assert round(days, 1) == 1.0  # with fit, in a day
