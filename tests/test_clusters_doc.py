"""docs/clusters.md: each of its commands is run, in bash, with stand-ins for what isn't ours.

The stand-ins record what they are asked; their commands and options are those of their references.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stand_ins import LAUNCH, LIMIT, commands_of, executable

ROOT = LAUNCH.parent
PAGE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
COMMANDS = commands_of(PAGE)
# By command, the options that it takes.
KNOWN = {
    "docker build": "--build-arg --platform --tag",
    "docker push": "",
    "docker run": "--env --gpus --rm --shm-size --user --volume",
    "gcloud artifacts repositories create": "--location --project --repository-format",
    "gcloud auth configure-docker": "",
    "gcloud container clusters create": "--location --project --workload-pool",
    "gcloud container clusters get-credentials": "--location --project",
    "gcloud container node-pools create": "--cluster --location --machine-type --node-locations "
    "--num-nodes --project --tpu-topology",
    "gcloud storage buckets add-iam-policy-binding": "--member --role",
    "gcluster deploy": "-d",
    "git clone": "",
    "kubectl apply": "--filename --server-side",
    "kubectl create": "--dry-run --filename",
    "kubectl create serviceaccount": "",
    "kubectl delete jobset": "",
    "kubectl get": "--ignore-not-found --output",
    "kubectl logs": "--follow --selector",
    "kubectl wait": "--for --namespace --timeout",
    "make": "-C",
    "pipx install": "",
    "sky check": "",
    "sky jobs cancel": "--name",
    "sky jobs launch": "--detach-run --yes",
    "sky jobs logs": "--name",
    "sky jobs queue": "",
}
RECORDER = f"""#!{sys.executable} -SE
import json, os, sys

asked = sys.argv[1:]
given = None
files = [word.removeprefix("--filename=") for word in asked if word.startswith("--filename=")]
files += [word for word in asked if word.endswith(".yaml") and "jobs" in asked]
for name in files:
    if name == "-":
        given = sys.stdin.read()
    elif not name.startswith("https:"):
        given = open(name, encoding="utf-8").read()
with open(os.environ["CALLS"], "a", encoding="utf-8") as calls:
    calls.write(json.dumps([os.path.basename(sys.argv[0]), asked, given]) + "\\n")
"""


class World:
    """A project's folder and a machine with stand-ins."""

    def __init__(self, folder: Path):
        self.root, self.record, tools = folder / "project", folder / "calls", folder / "bin"
        for name in ("launch", "experiments"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        (self.root / "cluster-toolkit").mkdir()
        tools.mkdir()
        for name in {command.split()[0] for command in KNOWN} - {"gcluster"}:
            executable(tools / name, RECORDER)
        executable(self.root / "cluster-toolkit" / "gcluster", RECORDER)
        self.environment = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "CALLS": str(self.record),
            "HOME": str(folder),
        }

    def run(self, before: list[str], command: str) -> list[list]:
        """The calls of the stand-ins: name, words, and the file that was given, if any."""
        self.record.unlink(missing_ok=True)
        result = subprocess.run(
            ["bash", "-c", "set -eu\n" + "".join(before) + command], cwd=self.root,
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            encoding="utf-8", timeout=LIMIT, check=False,
        )  # fmt: skip
        assert result.returncode == 0, f"{command}{result.stdout}{result.stderr}"
        if not self.record.exists():
            return []
        return [json.loads(line) for line in self.record.read_text("utf-8").splitlines()]


def check_known(name: str, words: list[str]) -> None:
    """That there is such a command, which takes these options."""
    assert all(words), words  # no variable is empty
    line = " ".join([name, *words])
    (command,) = [
        known
        for known in sorted(KNOWN, key=len, reverse=True)
        if line == known or line.startswith(f"{known} ")
    ][:1]
    options = words[: words.index("drm")] if name == "docker" and "drm" in words else words
    given = {word.split("=")[0] for word in options if word.startswith("-")}
    assert given <= set(KNOWN[command].split()), line


def check_drm(words: list[str]) -> None:
    """A command of `drm train` of which only experiment and work directory are said."""
    assert words[0] == "train"
    assert (ROOT / words[1]).is_file()
    assert set(words[2:]) <= {"--dry-run"} or words[2] == "--workdir", words


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("clusters"))


@pytest.mark.parametrize("title", COMMANDS)
def test_every_command(title, world):
    titles = list(COMMANDS)
    said = [
        command
        for earlier in titles[: titles.index(title)]
        for command in COMMANDS[earlier]
        if command.startswith("export ")
    ]
    for command in COMMANDS[title]:
        calls = world.run(said, command)
        if command.startswith("export "):
            said.append(command)
        words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
        silent = words[0] in ("export", "mkdir") or ("launch/" in words[0] and "--dry-run" in words)
        assert bool(calls) != silent, command
        for name, asked, given in calls:
            check_known(name, asked)
            if name == "docker" and asked[0] == "run":
                image = next(i for i, word in enumerate(asked) if word.split(":")[0] == "drm")
                check_drm(asked[image + 1 :])
            elif given is not None:
                assert list(yaml.safe_load_all(given))
        if words[0] == "launch/gke.sh" and not silent:
            assert [asked[0] for _, asked, _ in calls] == ["get", "create"]
        if words[0] == "launch/sky.sh" and not silent:
            assert [asked[:2] for _, asked, _ in calls] == [["jobs", "launch"]]


def test_the_page_goes_all_the_way():
    every = "".join(command for commands in COMMANDS.values() for command in commands)
    for words in (
        "docker build --tag", "docker push", "cluster-toolkit/gcluster deploy", "kueue.yaml",
        "node-pools create", "\nlaunch/gke.sh --dry-run", "\nlaunch/gke.sh experiments/arc1",
        "SLICES=2 ", "NODES=2 ", "kubectl delete jobset", "sky jobs launch", "ACCELERATORS=tpu-",
    ):  # fmt: skip
        assert words in every, words


def test_no_command_hides_in_a_sentence():
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^    .*\n", "", PAGE, flags=re.M))
    tools = ("drm", "gcloud", "kubectl", "docker", "sky", "cluster-toolkit/gcluster")
    hidden = {code for code in inline if code.split()[0] in tools and " " in code}
    assert hidden == {
        "docker stop --time 600", "gcloud projects describe", "kubectl delete jobset",
        "cluster-toolkit/gcluster destroy gke-tpu-v6e", "gcloud container clusters delete",
        "sky status",
    }  # fmt: skip


def test_the_queue_is_one_for_the_page():
    """Its names fit each other, the page's run, and what the manifest asks for."""
    text = (LAUNCH / "kueue.yaml").read_text(encoding="utf-8")
    flavor, cluster, local = yaml.safe_load_all(text)
    assert [part["kind"] for part in (flavor, cluster, local)] == [
        "ResourceFlavor", "ClusterQueue", "LocalQueue",
    ]  # fmt: skip
    (group,) = cluster["spec"]["resourceGroups"]
    (quota,) = group["flavors"]
    assert quota["name"] == flavor["metadata"]["name"]
    assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    assert f"QUEUE={local['metadata']['name']} " in PAGE
    manifest = subprocess.run(
        [str(LAUNCH / "gke.sh"), "--dry-run", "experiments/debug.py", "--workdir=gs://b/x"],
        env={"PATH": "/usr/bin:/bin", "TOPOLOGY": "v5e:4x4", "IMAGE": "drm:tpu"},
        capture_output=True, text=True, encoding="utf-8", check=True,
    ).stdout  # fmt: skip
    job = yaml.safe_load(manifest)["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert flavor["spec"]["nodeLabels"].items() <= pod["nodeSelector"].items()
    (asked,) = pod["containers"][0]["resources"]["requests"].items()
    assert asked[0] == quota["resources"][0]["name"] == group["coveredResources"][0]
    assert quota["resources"][0]["nominalQuota"] >= asked[1] * job["parallelism"]
