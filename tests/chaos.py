"""Runs of one and of two processes that are preempted and killed again and again.

    python tests/chaos.py [--rounds 20] [--seed 0] [--method trm]

Two processes of four devices each are started; one of them gets SIGTERM or SIGKILL at a seeded
moment; what is left is started as one process of eight, as two of four, as one of one, and so on.
In the end the losses are those of a run that nobody disturbed. Nothing may take longer than LIMIT.
"""

import argparse
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from programs import kept_programs

LIMIT = 600
"""Seconds that any start may take, and the end of a process after the other's. It only guards
against hanging: a busy machine must not reach it."""
EXPERIMENT = """
from drm_jax.config import Evaluate, Experiment, Optimizer, Train
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.arc.family import Arc

def experiment():
    return Experiment(
        name="chaos",
        data=Arc(train=(), evaluate=("arc1/training",), only=("25d8a9c8", "44f52bb0"), canvas=4,
                 num_augmentations=3),
        method=Drm(Recursion(cycles=2, inner_steps=1)),
        model=Transformer(hidden=16, heads=2, layers=1, prefix=2, swiglu_multiple=8,
                          dtype="float64"),
        optimizer=Optimizer(learning_rate=1e-3, warmup_steps=0),
        train=Train(steps=STEPS, batch_size=16, log_every=1, checkpoint_every=7),
        evaluate=Evaluate(batch_size=16, denoise_steps=3),
    )
"""
METHODS = {
    "drm": [],
    "trm": ["--method", "trm", "--method.halting.max-steps", "4",
            "--method.halting.exploration", "0.5"],
}  # fmt: skip
"""Options of each method."""
LAYOUTS = ((2, 4), (1, 8), (2, 4), (1, 1))
"""(processes, devices of each), in turn."""


class Chaos:
    """Starts of one run in a folder."""

    def __init__(self, folder: Path, steps: int, method: str):
        self.folder, self.steps, self.method = folder, steps, method
        self.happened: list[str] = []
        text = EXPERIMENT.replace("STEPS", str(steps))
        (folder / "chaos.py").write_text(text)

    def start(
        self,
        processes: int,
        devices: int,
        *argv: str,
        program: str | None = None,
        slurm: bool = False,
    ) -> list[subprocess.Popen]:
        """The `drm` command, or a program of the folder that calls it, in each process.

        They are told of each other, or find each other as if `srun` had started them.
        """
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_FLAGS", "JAX_"))}
        clean |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "PYTHONUNBUFFERED": "1"}
        clean |= {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(Path(__file__).parents[1])}
        clean |= {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # compiles in half the time
        clean |= kept_programs(self.folder / "programs")
        port, started = free_port(), []
        command = [program] if program else ["-m", "drm_jax"]
        for i in range(processes):
            together = ["--coordinator", f"127.0.0.1:{port}", "--process-id", str(i)]
            together += ["--num-processes", str(processes)]
            here = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "127.0.0.1"}
            here |= {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}
            here |= {"SLURM_NTASKS": str(processes), "JAX_COORDINATOR_PORT": str(port)}
            by_option = processes > 1 and not slurm
            started.append(
                subprocess.Popen(
                    [sys.executable, *command, *argv, *(together if by_option else [])],
                    cwd=self.folder,
                    env=clean | (here if slurm else {}),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        return started

    def train(self, name: str, processes: int, devices: int) -> list[subprocess.Popen]:
        options = ["--workdir", name, "--heartbeat-timeout", "20", *METHODS[self.method]]
        return self.start(processes, devices, "train", "chaos.py", *options)

    def losses(self, name: str) -> dict[int, float]:
        """The loss of each logged step."""
        path = self.folder / name / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        values = {}
        for text in lines:
            try:
                line = json.loads(text)
            except ValueError:  # it is being written
                continue
            if line["kind"] == "train":
                values[line["step"]] = line["loss"]
        return values

    def saved(self, name: str) -> int:
        """The newest step that has a checkpoint, 0 for none."""
        folder = self.folder / name / "checkpoints"
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
        return max([int(name) for name in names if name.isdigit()], default=0)

    def disturb(self, name: str, layout: tuple[int, int], rng: random.Random, most: int) -> str:
        """One start, ended by a signal some steps after it began; returns what happened.

        Raises:
          AssertionError: a process hung, gave no or a wrong reason, or something was lost.
        """
        before, number = self.saved(name), rng.choice((signal.SIGTERM, signal.SIGKILL))
        started = self.train(name, *layout)
        hit = rng.randrange(len(started))
        # Beyond what a killed start has logged, which stands there until this one has begun.
        logged = max(self.losses(name), default=0)
        target = max(min(before + rng.randrange(3, 25), most), logged + 1)
        end = time.monotonic() + LIMIT
        while max(self.losses(name), default=0) < target:
            assert time.monotonic() < end, "no step is logged"
            assert all(process.poll() is None for process in started), collected(started)
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        sent = time.monotonic()
        started[hit].send_signal(number)
        said = collected(started)
        took = time.monotonic() - sent
        what = f"{layout}: {number.name} to process {hit} after step {target}"
        codes = [process.returncode for process in started]
        if number == signal.SIGTERM and self.steps not in self.losses(name):
            assert codes == [75] * len(started), (what, codes, said)
            assert self.saved(name) == max(self.losses(name)), (what, said)
        elif number == signal.SIGKILL:
            assert codes[hit] == -signal.SIGKILL, (what, codes, said)
            assert all(c == 1 for i, c in enumerate(codes) if i != hit), (what, codes, said)
            # the save under way may be lost, and the steps since the one before
            assert self.saved(name) >= max(self.losses(name)) - 2 * 7, (what, said)
        for i, text in enumerate(said):
            ours = re.findall("^drm: .*$", text, re.MULTILINE)
            assert len(ours) == (codes[i] > 0), (what, text)
            assert "Traceback" not in text, (what, text)
            assert "*** Check failure" not in text, (what, text)
        resumed = re.findall("Going on from the checkpoint of step ([0-9]+)", said[0])
        assert resumed == ([str(before)] if before else []), (what, said)
        return f"{what}: ended in {took:.1f} s, step {self.saved(name)} is saved"

    def finish(self, name: str, layout: tuple[int, int]) -> None:
        started = self.train(name, *layout)
        said = collected(started)
        assert [process.returncode for process in started] == [0] * len(started), said

    def assert_like(self, name: str, other: str) -> None:
        one, two = self.losses(name), self.losses(other)
        assert sorted(one) == sorted(two) == list(range(1, self.steps + 1))
        worst = max(abs(one[step] - two[step]) for step in one)
        assert worst <= 1e-9, worst
        answers = [
            (self.folder / x / "eval" / f"step_{self.steps}" / "submission.json").read_text()
            for x in (name, other)
        ]
        assert answers[0] == answers[1]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def collected(started: Sequence[subprocess.Popen]) -> list[str]:
    """What each process has said, once all have ended; none outlives this."""
    end, said = time.monotonic() + LIMIT, []
    try:
        for process in started:
            said.append(process.communicate(timeout=max(end - time.monotonic(), 0.1))[0])
    finally:
        for process in started:
            process.kill()
            process.communicate()
    return said


def chaos(folder: Path, method: str, seed: int, rounds: int) -> Chaos:
    """As the page above says; raises AssertionError where it isn't so."""
    run, rng = Chaos(folder, 30 * (rounds + 1), method), random.Random(seed)
    run.finish("straight", (1, 1))
    for i in range(rounds):
        layout = LAYOUTS[i % len(LAYOUTS)]
        run.happened.append(run.disturb("disturbed", layout, rng, run.steps - 20))
        print(run.happened[-1], flush=True)
    run.finish("disturbed", LAYOUTS[rounds % len(LAYOUTS)])
    run.assert_like("disturbed", "straight")
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", choices=METHODS, default="trm")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        began = time.monotonic()
        chaos(Path(temporary), args.method, args.seed, args.rounds)
        print(f"{args.method}: the same losses within 1e-9, {time.monotonic() - began:.0f} s")
