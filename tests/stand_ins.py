"""Stand-ins for gcloud and for the machines of a cloud, and the commands of a page of docs/.

The stand-in gcloud keeps a cloud in a folder. Its hosts are folders, in which it really executes
what goes through ssh; only `drm`, Python and pip are stand-ins there. It records what it is asked.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

LAUNCH = Path(__file__).parent.parent / "launch"
TPU = {"TPU_TYPE": "v5litepod-8", "TPU_ZONE": "us-west4-a", "POLL_SECONDS": "0.03"}
TRAIN = ["experiments/tiny.py", "--workdir", "gs://bucket/x"]
LIMIT = 300
"""Seconds that anything may take. It only guards against hanging: what must not be waited for takes
longer, and a busy machine must not reach it."""

GCLOUD = f"""#!{sys.executable} -SE
import json, os, pathlib, shutil, signal, subprocess, sys, time

cloud = pathlib.Path(os.environ["CLOUD"])
with open(cloud / "calls.jsonl", "a", encoding="utf-8") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1:3] != ["compute", "tpus"] or sys.argv[4:5] == ["list"]:
    sys.exit()  # is recorded, no more
group, verb, *words = sys.argv[3:]
options = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
names = [word for word in words if not word.startswith("--")]
node = cloud / "node"


def fail(text):
    sys.exit("ERROR: (gcloud.compute.tpus) " + text)


def hosts():
    if (cloud / "taken_away").exists() or not node.exists():
        fail("ssh: connect to host: timed out")
    every = sorted(node.iterdir())
    return every if options["--worker"] == "all" else [every[int(options["--worker"])]]


if (cloud / f"fail_{{verb}}").exists():
    fail((cloud / f"fail_{{verb}}").read_text())
states = cloud / "states"  # what describe says, one by one; the last for ever
if verb == "create":
    if states.exists():
        fail("ALREADY_EXISTS: " + names[0])
    (cloud / "taken_away").unlink(missing_ok=True)
    for i in range(int((cloud / "hosts").read_text())):
        (node / f"w-{{i}}").mkdir(parents=True)
    shutil.copy(cloud / "next_states", states)  # last: now it is there
elif verb == "describe":
    if not states.exists():
        fail("NOT_FOUND: Resource was not found")
    first, *rest = states.read_text().split()
    if group == "queued-resources":
        states.write_text(" ".join(rest or [first]))
    lost = (cloud / "taken_away").exists()
    print("SUSPENDED" if lost else first if group == "queued-resources" else "READY")
elif verb == "delete":
    if not states.exists():
        fail("NOT_FOUND: Resource was not found")
    assert "--force" in words
    for pid in node.glob("*/drm_run/pid"):
        try:
            os.killpg(int(pid.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            pass
    shutil.rmtree(node)
    states.unlink()
elif verb == "scp":
    for host in hosts():
        shutil.copy(names[0], host / names[1].split(":")[1])
elif verb == "ssh":
    worst = 0
    for host in hosts():
        env = {{"HOME": str(host), "CLOUD": str(cloud), "HOST": host.name}}
        env |= {{"PATH": str(cloud / "host_bin") + ":/usr/bin:/bin"}}
        command = ["bash", "-c", options["--command"]]
        worst = max(worst, subprocess.run(command, env=env, cwd=host).returncode)
    sys.exit(worst)
if (cloud / f"slow_{{verb}}").exists():
    time.sleep(2 * {LIMIT})
"""
# On a host. Like the real ones, drm goes on from what the work directory holds.
PYTHON = """#!/bin/bash
[ "$*" = "-m venv .venv" ] || exit 9
mkdir -p .venv/bin
cp "$CLOUD/host_bin/drm" "$CLOUD/host_bin/pip" .venv/bin
"""
DRM = r"""#!/bin/bash
printf '%s\0' "$@" >"$CLOUD/arguments.$HOST"
step=$(cat "$CLOUD/bucket/step" 2>/dev/null || echo 0)
touch ~/joined
until [ -e ~/../w-0/joined ] && [ -e ~/../w-1/joined ]; do sleep 0.02; done
echo "goes on from step $step"
echo "$step" >>"$CLOUD/starts.$HOST"
trap 'echo saved; exit 130' INT
trap 'echo saved; exit 75' TERM
turn() { # STEP: waits for host w-0, which counts
  if [ "$HOST" = w-0 ]; then echo "$1" >"$CLOUD/bucket/step"; fi
  until [ "$(cat "$CLOUD/bucket/step")" -ge "$1" ]; do sleep 0.02; done
}
"""
SLOW = DRM + 'while [ ! -e "$CLOUD/go" ]; do sleep 0.05; done\necho "the end"\n'


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


# Also where the tests run in the background or under nohup, which ignore them. In between, since
# preexec_fn forks, and jax has threads.
HEAR_SIGNALS = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Cloud:
    """The cloud of the stand-in gcloud, and the launcher that uses it."""

    def __init__(self, folder: Path, project: Path):
        self.folder, self.project, self.processes = folder, project, []
        for name in ("bin", "host_bin", "bucket"):
            (folder / name).mkdir(parents=True)
        executable(folder / "bin" / "gcloud", GCLOUD)
        executable(folder / "host_bin" / "python3.12", PYTHON)
        executable(folder / "host_bin" / "hostname", '#!/bin/sh\necho "t1v-$HOST"\n')
        executable(folder / "host_bin" / "pip", '#!/bin/sh\necho "$*" >"$CLOUD/pip.$HOST"\n')
        self.set("hosts", "2")
        self.drm(DRM + "turn 3\n")
        self.will_be("WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")

    def drm(self, text: str) -> None:
        executable(self.folder / "host_bin" / "drm", text)

    def will_be(self, *states: str) -> None:
        (self.folder / "next_states").write_text(" ".join(states))

    def set(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(text)

    def exists(self) -> bool:
        return (self.folder / "states").exists()

    def every_call(self) -> list[list[str]]:
        path = self.folder / "calls.jsonl"
        return list(map(json.loads, path.read_text().splitlines())) if path.exists() else []

    def calls(self, verb: str) -> list[list[str]]:
        return [call for call in self.every_call() if call[3:4] == [verb]]

    def started(self) -> int:
        """How often the run was started on the hosts."""
        return sum("tpu_worker.sh start " in " ".join(call) for call in self.calls("ssh"))

    def start(self, *words: str, **settings: str) -> subprocess.Popen:
        here = {k: v for k, v in os.environ.items() if not k.startswith("TPU_")}
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        command = [str(self.project / "launch" / "tpu_vm.sh"), *(words or TRAIN)]
        process = subprocess.Popen(
            [sys.executable, "-SEc", HEAR_SIGNALS, *command],
            env=here | TPU | {"PATH": path, "CLOUD": str(self.folder)} | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a terminal's Ctrl-C goes to a group
        )
        self.processes.append(process)
        return process

    def run(self, *words: str, **settings: str) -> tuple[int, str]:
        process = self.start(*words, **settings)
        output = process.communicate(timeout=LIMIT)[0]
        return process.returncode, output

    def close(self) -> None:
        """Ends what is still at work."""
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdout.close()
        for pid in self.folder.glob("node/*/drm_run/pid"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(pid.read_text()), signal.SIGKILL)


def read_until(process: subprocess.Popen, text: str) -> str:
    output = ""
    for line in process.stdout:
        output += line
        if text in line:
            return output
    raise AssertionError(f"no {text!r} in {output}")


def wait_for(ready) -> None:
    end = time.monotonic() + LIMIT
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


def commands_of(page: str) -> dict[str, list[str]]:
    """By section: what stands in indented or fenced blocks, a command at a time."""
    found = {}
    for title, text in re.findall(r"^##+ (.*)\n((?:(?!##).*\n)*)", page, re.M):
        lines = re.findall(
            r"^    (.*)\n", re.sub(r"```\w*\n(.*?)```", indented, text, flags=re.S), re.M
        )
        commands, command = [], ""
        for line in lines:
            command += line + "\n"
            if not line.endswith("\\") and not (command.startswith("for ") and line != "done"):
                commands.append(command)
                command = ""
        assert not command, command
        found[title] = commands
    return {title: commands for title, commands in found.items() if commands}


def indented(match: re.Match) -> str:
    return re.sub("^", "    ", match[1], flags=re.M)
