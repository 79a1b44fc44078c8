"""Real training processes, killed: started again, they end as if they had never been stopped."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from drm_jax.io import checkpoint
from drm_jax.io.files import work_path

EXPERIMENT = """
from drm_jax.config import Evaluate, Experiment, Optimizer, Train
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.arc.family import Arc

def experiment():
    return Experiment(
        name="killed",
        data=Arc(train=(), evaluate=("arc1/training",), only=("25d8a9c8", "44f52bb0"), canvas=4,
                 num_augmentations=3),
        method=Drm(Recursion(cycles=2, inner_steps=1)),
        model=Transformer(hidden=16, heads=2, layers=1, prefix=2, swiglu_multiple=8),
        optimizer=Optimizer(learning_rate=1e-2, warmup_steps=2),
        train=Train(steps=96, batch_size=4, log_every=5, checkpoint_every=7),
        evaluate=Evaluate(every=24, untrained=True, batch_size=4, denoise_steps=3),
    )
"""
# The command itself, but each step takes a while, so that a kill falls where it is meant to; and,
# if asked to, it dies within a save: all is written, and only the name is not yet the final one. Or
# it is stopped as an evaluation begins, and preempted while the save before it is waited for.
CHILD = """
import os, signal, sys, threading, time
from drm_jax.run import loop, scorer
from drm_jax.commands.main import main

batch, rename, evaluate = loop.global_batch, os.rename, scorer.evaluate
finish, waited_for = loop.checkpoint.finish, threading.Event()
stopped_at, number = os.environ.get("STOPPED", "- SIGTERM").split()
def slow_batch(*args):
    time.sleep(0.04)
    return batch(*args)
def deadly_rename(source, target, **more):
    if os.path.basename(target) == os.environ.get("DIE_SAVING"):
        os.kill(os.getpid(), signal.SIGKILL)
    if os.path.basename(target) == stopped_at:
        waited_for.wait(600)
        os.kill(os.getpid(), signal.SIGTERM)
    return rename(source, target, **more)
def stopped_evaluate(experiment, answer, state, *args):
    if str(int(state.step)) == stopped_at:
        os.kill(os.getpid(), signal.Signals[number])
    return evaluate(experiment, answer, state, *args)
def telling_finish(saver):
    waited_for.set()
    finish(saver)
loop.global_batch, os.rename, scorer.evaluate = slow_batch, deadly_rename, stopped_evaluate
loop.checkpoint.finish = telling_finish
sys.exit(main(sys.argv[1:]))
"""


class Runs:
    """Starts the same command in work directories of one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "killed.py").write_text(EXPERIMENT)
        (folder / "child.py").write_text(CHILD)

    def logged_at(self, name: str) -> int:
        """When metrics.jsonl was last written, in ns; 0 where there is none."""
        with contextlib.suppress(OSError):
            return (self.folder / name / "metrics.jsonl").stat().st_mtime_ns
        return 0

    def start(self, name: str, **environment: str) -> subprocess.Popen:
        self.logged_before = self.logged_at(name)
        return subprocess.Popen(
            [sys.executable, "child.py", "train", "killed.py", "--workdir", name],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def log(self, name: str) -> list[dict]:
        lines = []
        with contextlib.suppress(OSError):
            for text in (self.folder / name / "metrics.jsonl").read_text().splitlines():
                with contextlib.suppress(ValueError):
                    lines.append(json.loads(text))
        return lines

    def wait_for_step(self, run: subprocess.Popen, name: str, step: int) -> None:
        """Until this start of the run has logged a step."""
        end = time.monotonic() + 600
        # a start before may have logged later steps, which this one drops as it begins
        while self.logged_at(name) == self.logged_before or not any(
            line["step"] >= step for line in self.log(name)
        ):
            assert run.poll() is None, run.stdout.read()
            assert time.monotonic() < end
            time.sleep(0.005)

    def finish(self, name: str) -> str:
        run = self.start(name)
        said, _ = run.communicate()
        assert run.returncode == 0, said
        return said

    def assert_like(self, name: str, other: str) -> None:
        """Parameters bit for bit, each line but for its timing, each file of each evaluation."""
        states = [last_state(self.folder / x) for x in (name, other)]
        assert len(states[0]) > 20
        jax.tree.map(np.testing.assert_array_equal, *states)
        logs = [[untimed(line) for line in self.log(x)] for x in (name, other)]
        assert logs[0] == logs[1]
        assert [x["step"] for x in logs[0] if x["kind"] == "eval"] == [0, 24, 48, 72, 96]
        assert [x["step"] for x in logs[0] if x["kind"] == "train"] == [*range(5, 96, 5), 96]
        for step in (0, 24, 48, 72, 96):
            for file in ("metrics.json", "submission.json", "denoising.png"):
                path = Path("eval") / f"step_{step}" / file
                a, b = (self.folder / x / path for x in (name, other))
                assert a.read_bytes() == b.read_bytes()


def untimed(line: dict) -> dict:
    return {k: v for k, v in line.items() if k != "examples_per_second"}


def last_state(workdir: Path) -> dict:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    restored = checkpoint.restore(
        work_path(workdir), 96, lambda record: checkpoint.abstract_from_record(record, device)
    )
    leaves = jax.tree_util.tree_leaves_with_path(restored.state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that was not stopped stands in `straight`."""
    runs = Runs(tmp_path_factory.mktemp("kill"))
    runs.finish("straight")
    return runs


def test_killed_at_five_points_it_ends_as_if_it_had_not_been(runs):
    """Four kills at seeded moments, and one within a save."""
    rng = random.Random(3)
    first, second, third, last = (
        rng.randrange(*window) for window in ((8, 20), (25, 40), (62, 70), (72, 80))
    )
    saving = rng.choice((49, 56))

    def kill_at(step: int) -> str:
        run = runs.start("killed")
        runs.wait_for_step(run, "killed", step // 5 * 5)
        time.sleep(rng.uniform(0, 0.1))
        run.kill()
        said = run.communicate()[0]
        assert run.returncode == -signal.SIGKILL, said
        return said

    kill_at(first)
    kill_at(second)
    run = runs.start("killed", DIE_SAVING=str(saving))
    said = run.communicate()[0]
    assert run.returncode == -signal.SIGKILL, said
    left = {path.name for path in (runs.folder / "killed" / "checkpoints").iterdir()}
    assert f"{saving}.orbax-checkpoint-tmp" in left
    assert str(saving) not in left
    said = kill_at(third)
    assert f"{saving}.orbax-checkpoint-tmp: damaged: a save that was cut off" in said
    assert f"Going on from the checkpoint of step {saving - 7}" in said
    assert "is stale: it ended without letting go" in said
    kill_at(last)
    runs.finish("killed")
    runs.assert_like("killed", "straight")


def test_ctrl_c_saves_and_says_how_to_go_on(runs):
    run = runs.start("stopped")
    runs.wait_for_step(run, "stopped", 30)
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate()
    assert run.returncode == 130
    assert "Stopping: this step is finished and saved first" in said
    saved = checkpoint.steps_in(checkpoint.checkpoint_folder(work_path(runs.folder / "stopped")))
    assert f"drm: stopped; step {saved[-1]} is saved in " in said
    assert "To go on: drm train killed.py --workdir stopped" in said
    assert "Traceback" not in said
    assert f"Going on from the checkpoint of step {saved[-1]}" in runs.finish("stopped")
    runs.assert_like("stopped", "straight")


def test_sigterm_saves_and_asks_for_another_start(runs):
    """At a seeded moment, again and again until it has ended; then during an evaluation."""
    rng = random.Random(4)

    def saved() -> list[int]:
        folder = checkpoint.checkpoint_folder(work_path(runs.folder / "preempted"))
        return checkpoint.steps_in(folder)

    run = runs.start("preempted")
    runs.wait_for_step(run, "preempted", rng.randrange(8, 20) // 5 * 5)
    time.sleep(rng.uniform(0, 0.1))
    end = time.monotonic() + 600
    while run.poll() is None:
        assert time.monotonic() < end
        run.send_signal(signal.SIGTERM)
        time.sleep(0.002)
    said = run.communicate()[0]
    assert run.returncode == 75, said
    last = saved()[-1]
    assert last < 24
    assert said.count("Stopping after SIGTERM (a preemption or scancel): this step is") == 1
    assert f"drm: stopped by SIGTERM (a preemption or scancel); step {last} is saved in " in said
    assert "To go on: drm train killed.py --workdir preempted" in said
    assert "Traceback" not in said

    for step, number, code in ((48, "SIGTERM", 75), (72, "SIGINT", 130)):
        run = runs.start("preempted", STOPPED=f"{step} {number}")
        said = run.communicate(timeout=600)[0]
        assert run.returncode == code, said
        assert f"Going on from the checkpoint of step {last}" in said
        assert f" while step {step} was evaluated; all training up to it is saved. To go" in said
        last = saved()[-1]
        assert last == step
        assert not any(x["step"] == step and x["kind"] == "eval" for x in runs.log("preempted"))

    said = runs.finish("preempted")
    assert "Going on from the checkpoint of step 72" in said
    assert "is stale" not in said  # the lock was let go each time
    runs.assert_like("preempted", "straight")
