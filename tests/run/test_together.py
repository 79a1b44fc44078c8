"""Real processes that work together: starts that can't work, preemptions, kills, evaluation."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from chaos import Chaos, chaos, collected, free_port


def test_chaos_with_carried_latents_and_what_comes_of_it(tmp_path):
    """Preempted and killed on three layouts (see chaos.py); then scored by two processes.

    One test, as two workers would each make the run.
    """
    run = chaos(tmp_path, "trm", seed=268, rounds=3)
    assert run.happened[0].startswith("(2, 4): SIGKILL to process 0")  # which coordinates
    assert run.happened[2].startswith("(2, 4): SIGTERM to process 1")
    answer_as_one(run)
    preempted_while_scored(run)


def answer_as_one(run: Chaos) -> None:
    folder = run.folder / "disturbed" / "eval" / f"step_{run.steps}"
    names = ("metrics.json", "submission.json", "denoising.png", "trajectories.npz")
    before = {name: (folder / name).read_bytes() for name in names}
    for name in names:
        (folder / name).unlink()
    said = collected(run.start(2, 2, "eval", "disturbed", slurm=True))
    assert {name: (folder / name).read_bytes() for name in names} == before
    assert f"Checkpoint of step {run.steps}" in said[0]
    assert said[1] == ""  # the first alone tells


SLOW_EVAL = """
import sys, time
from drm_jax.evaluate import loop
from drm_jax.commands.main import main

batch = loop.global_batch
def slow_batch(*args):
    print("a batch", file=sys.stderr, flush=True)
    time.sleep(0.3)
    return batch(*args)
loop.global_batch = slow_batch
sys.exit(main(sys.argv[1:]))
"""


def preempted_while_scored(run: Chaos) -> None:
    (run.folder / "slow_eval.py").write_text(SLOW_EVAL)
    started = run.start(2, 2, "eval", "disturbed", "--batch-size", "4", program="slow_eval.py")
    for line in started[1].stdout:  # of the one that gets the signal: it is at work
        if "a batch" in line:
            break
    started[1].send_signal(signal.SIGTERM)
    said = collected(started)
    assert [process.returncode for process in started] == [75, 75], said
    for text in said:
        ours = re.findall("^drm: .*$", text, re.MULTILINE)
        assert len(ours) == 1
        assert "stopped by SIGTERM (a preemption or scancel) while step" in ours[0]
        assert "training" not in ours[0]


BROKEN = """
import os, resource, sys, time
from drm_jax.run import loop
from drm_jax.commands.main import main
from drm_jax.parallel import processes

where, process, *argv = sys.argv[1:]
batch, seen, rename = loop.global_batch, [], os.rename
def broken_batch(*args):
    seen.append(1)
    if len(seen) == 12 and processes.index() == int(process):
        while not os.path.isdir("broken/checkpoints/7"):
            time.sleep(0.01)
        if where == "write":  # of the second checkpoint, in the background
            resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
        if where == "rename":
            os.rename = os.replace = broken_rename
    return batch(*args)
def broken_rename(source, target, **kwargs):
    if os.path.basename(target) == "14":
        raise OSError(5, "Input/output error")
    rename(source, target, **kwargs)
loop.global_batch = broken_batch
sys.exit(main(argv))
"""


@pytest.mark.parametrize(("where", "broken"), [("write", 1), ("rename", 0)])
def test_a_save_that_fails_in_one_ends_the_other(tmp_path, where, broken):
    """Orbax lets each wait for the others' part of it, for 20 minutes or for ever."""
    run = Chaos(tmp_path, 60, "trm")
    (run.folder / "broken.py").write_text(BROKEN)
    argv = (where, str(broken), "train", "chaos.py", "--workdir", "broken")
    started = run.start(2, 1, *argv, program="broken.py")
    said = collected(started)
    assert [process.returncode for process in started] == [1, 1], said
    for text in said:
        assert len(re.findall("^drm: .*$", text, re.MULTILINE)) == 1
        assert "Traceback" not in text
    line = "a checkpoint can't be saved: .*; the checkpoint of step 7 is intact"
    assert re.search(f"^drm: process {broken} of 2: .*{line}", said[broken], re.MULTILINE), said
    assert run.saved("broken") == 7


# Processes of each case: (number of processes, index, options); codes; what the lines hold.
BAD_STARTS = {
    "options": (
        [(2, 0, "--seed 3"), (2, 1, "--seed 4")],
        [2, 2],
        ["disagree: seed is 3 in process 0 and 4 in process 1"] * 2,
    ),
    "counts": (
        [(2, 0, ""), (3, 1, "")],
        [2, 1],
        ["--num-processes is 2 in process 0 and 3 in process 1"] * 2,
    ),
    "data": (
        [(2, 0, "--data.train mine.json"), (2, 1, "--data.train mine.json")],
        [2, 2],
        ["disagree: the data (a digest of all training pairs"] * 2,
    ),
    "method": (
        [(2, i, "--data.only 25d8a9c8 --method own:Own") for i in (0, 1)],
        [2, 2],
        ["disagree: the code of method (a digest) is "] * 2,
    ),
    "no data": (
        [(2, 0, "--data.train only_in_0"), (2, 1, "--data.train only_in_0")],
        [1, 1],
        ["process 0 of 2: ends, since process 1 has: only_in_0: no", "1 of 2: only_in_0: no"],
    ),
    "missing": (
        [(2, 0, "--join-timeout 5")],
        [1],
        ["drm: not all processes have come in time (--join-timeout)"],
    ),
    "no coordinator": (
        [(2, 1, "--join-timeout 5")],
        [1],
        ["drm: --coordinator: no process 0 answers at 127.0.0.1"],
    ),
    "port in use": (
        [(2, 0, "")],
        [1],
        ["of this machine can't be used: Address already in use"],
    ),
}
OWN = """
import dataclasses
from drm_jax.methods.drm import Drm

@dataclasses.dataclass(frozen=True)
class Own(Drm):
    def loss(self, *arguments):
        total, sums, carry = super().loss(*arguments)
        return {} * total, sums, carry
"""


def test_a_start_that_cannot_work_gets_one_line_from_every_process(tmp_path):
    run = Chaos(tmp_path, 20, "drm")
    for i, colour in enumerate((1, 2)):
        (tmp_path / str(i)).mkdir()
        task = {"train": [{"input": [[1]], "output": [[colour]]}], "test": [{"input": [[3]]}]}
        (tmp_path / str(i) / "mine.json").write_text(json.dumps(task))
        (tmp_path / str(i) / "own.py").write_text(OWN.format(i))
    (tmp_path / "0" / "only_in_0").mkdir()
    (tmp_path / "0" / "only_in_0" / "mine.json").write_text(json.dumps(task))
    with socket.create_server(("", 0)) as taken:
        for case, (processes, codes, lines) in BAD_STARTS.items():
            port = taken.getsockname()[1] if case == "port in use" else free_port()
            started = [start_in(run, *process, port) for process in processes]
            said = collected(started)
            assert [process.returncode for process in started] == codes, (case, said)
            for text, line in zip(said, lines, strict=True):
                assert text.startswith("drm: "), (case, said)
                assert len(text.splitlines()) == 1, (case, said)
                assert line in text, (case, said)
    assert not (tmp_path / "never").exists()


def start_in(
    run: Chaos, count: int, index: int, options: str, port: int, before: Sequence[str] = ()
) -> subprocess.Popen:
    """A process in a folder of its own; `before` are words that come before the command."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_FLAGS", "JAX_"))}
    clean |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-m", "drm_jax", "train", str(run.folder / "chaos.py")]
    command += ["--workdir", str(run.folder / "never"), "--coordinator", f"127.0.0.1:{port}"]
    command += ["--num-processes", str(count), "--process-id", str(index)]
    return subprocess.Popen(
        [*before, *command, "--data.only", "mine", "25d8a9c8", *options.split()],
        cwd=run.folder / str(index),
        env=clean | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_work_directory_that_is_not_shared(tmp_path):
    """The second process has a file system of its own in its place."""
    run, port = Chaos(tmp_path, 20, "drm"), free_port()
    (tmp_path / "never").mkdir()
    for i in (0, 1):
        (tmp_path / str(i)).mkdir()
    apart = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    apart += [f'mount -t tmpfs tmpfs "{tmp_path}/never" && exec "$@"', "sh"]
    try:
        allowed = subprocess.run([*apart, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if allowed.returncode:
        pytest.skip("this system lets no user mount a disk")
    options = "--data.only 25d8a9c8"
    started = [start_in(run, 2, i, options, port, apart if i else ()) for i in (0, 1)]
    said = collected(started)
    assert [process.returncode for process in started] == [1, 1], said
    for text in said:
        ours = re.findall("^drm: .*$", text, re.MULTILINE)
        assert len(ours) == 1
        assert f"{tmp_path}/never: is not the same place for all processes" in ours[0]
    assert not list((tmp_path / "never").glob("check*"))
