"""Time and memory of a training step of each objective, at the demo's size.

    python benchmarks/objectives.py
    python benchmarks/objectives.py --objectives drm path --steps 500

One after the other in turns, so that a machine that slows down slows all of them. The medians of
all steps are printed, and the scratch memory of the compiled step on each device. `path` is drm
with supervision by path; `whole` is drm with gradient through all cycles, which is what path would
cost without its loop.

Measured on 2 quiet cores of an Intel Xeon, jax 0.10.2, 300 steps each:

    drm 27.7 ms, 28.2 MB     trm 28.4 ms, 28.2 MB     sprm 29.8 ms, 29.6 MB
    path 43.6 ms, 29.3 MB    whole 97.3 ms, 83.6 MB   diffusion (2 layers) 9.8 ms, 8.7 MB
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

ALL = ("drm", "trm", "sprm", "path", "whole", "diffusion")
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--objectives", nargs="+", choices=ALL, default=ALL)
parser.add_argument("--steps", type=int, default=100, help="timed steps a round")
parser.add_argument("--rounds", type=int, default=3)
options = parser.parse_args()
sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))

import dataclasses

import jax
from demo import experiment as demo
from rich.console import Console
from rich.table import Table

from drm_jax.config import Experiment
from drm_jax.data.stream import training_stream
from drm_jax.dist.mesh import global_batch, use_cpu_cores
from drm_jax.run.setup import set_up
from drm_jax.train.state import make_sharded
from drm_jax.train.step import compile_train_step


def experiment_of(name: str) -> Experiment:
    base = demo()
    whole = dataclasses.replace(base.model, grad_cycles=base.model.cycles)
    if name == "whole":
        return dataclasses.replace(base, model=whole)
    if name == "path":
        return dataclasses.replace(base, model=whole, supervision="path")
    return dataclasses.replace(base, objective=name)


class Timed:
    """A compiled step with its state and 20 batches."""

    def __init__(self, experiment: Experiment):
        setup = set_up(experiment)
        stream = training_stream(experiment, setup.tasks, setup.ids)
        self.batches = [global_batch(stream[i], setup.mesh) for i in range(20)]
        self.state = make_sharded(setup.make_state, setup.shardings)
        step = compile_train_step(experiment, setup.network, setup.mesh, setup.shardings)
        self.step = step.lower(self.state, self.batches[0]).compile()
        self.seconds: list[float] = []
        self.run(5)
        self.seconds.clear()

    def run(self, steps: int) -> None:
        for i in range(steps):
            before = time.perf_counter()
            self.state, metrics = self.step(self.state, self.batches[i % 20])
            jax.block_until_ready(metrics)
            self.seconds.append(time.perf_counter() - before)


def main() -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    use_cpu_cores(demo().train.batch_size)
    timed = {name: Timed(experiment_of(name)) for name in options.objectives}
    for _ in range(options.rounds):
        for one in timed.values():
            one.run(options.steps)
    first = statistics.median(next(iter(timed.values())).seconds)
    table = Table(
        title=f"A step of {demo().train.batch_size} examples, {jax.device_count()} devices"
    )
    for name in ("objective", "median", f"against {options.objectives[0]}", "scratch memory"):
        table.add_column(name, justify="left" if name == "objective" else "right")
    for name, one in timed.items():
        median = statistics.median(one.seconds)
        memory = one.step.memory_analysis().temp_size_in_bytes
        table.add_row(
            name, f"{median * 1e3:.1f} ms", f"{median / first:.2f}", f"{memory / 1e6:.1f} MB"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
