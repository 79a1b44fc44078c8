"""Does a large puzzle table cost anything but its own bytes?

    python -m benchmarks.puzzle_table [--rows 1000 900000] [--devices 1]

Trains the same batches against a small and a large table of width 512 in one process, turn by
turn, and prints for each: the bytes of the table; what the compiled step takes beside its
arguments; by how much the process grew when the state was made, trained, checked and saved; and the
median time of a step. The network is small on purpose, so that the table's share would show.

Measured on 2 quiet cores of an Intel Xeon, jax 0.10.2, one device (two devices in brackets):

    rows of the table             1,000           900,000
    table, MB                     8.4             1,845.5
    process grew by, MB           462 (531)       1,927 (2,015)     all of the state, and training
    median step, ms               51.4 (84.2)     51.2 (84.6)
    checksums, s                  0.4             0.65 (0.59)       no memory of their own
    saved while it trains, s      0.3             3.0 (3.7)         +3,700 MB while it is written
    restored, s                   0.1             2.3 (1.5)         +1,900 MB for a moment

The first case also pays for what any process loads. A save holds the table twice more on a CPU,
where host and device are one: the values to be written, and the writer's own buffers.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 900_000])
parser.add_argument("--devices", type=int, default=1, help="CPU devices to split the table over")
parser.add_argument("--steps", type=int, default=30)
parser.add_argument("--rounds", type=int, default=3)
options = parser.parse_args()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(options.devices))

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import peak_bytes
from drm_jax.config import Experiment, Train
from drm_jax.io import checkpoint
from drm_jax.io.checksums import checksums
from drm_jax.io.files import work_path
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.parallel.mesh import global_batch, make_mesh
from drm_jax.puzzles.arc.family import Arc
from drm_jax.run.setup import state_maker, trained_parts
from drm_jax.training.state import abstract_state, make_sharded, state_shardings
from drm_jax.training.step import compile_train_step

EXPERIMENT = Experiment(
    "puzzle_table",
    data=Arc(canvas=2),
    method=Drm(Recursion(cycles=1, inner_steps=1)),
    model=Transformer(hidden=512, heads=8, layers=1, prefix=1),
    train=Train(batch_size=32),
)


def resident() -> int:
    """Bytes of memory that this process holds now."""
    with open("/proc/self/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def batch_of(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    count, cells = EXPERIMENT.train.batch_size, EXPERIMENT.data.canvas**2
    tokens = rng.integers(0, 13, (3, count, cells), dtype=np.uint8)
    names = ("inputs", "target", "noised")
    return dict(zip(names, tokens, strict=True)) | {
        "level": np.zeros(count, np.int32),
        "reverse_targets": tokens[1][:, None],
        "puzzle_id": rng.integers(1, rows, count, dtype=np.int32),
        "weight": np.ones(count, np.float32),
    }


@dataclasses.dataclass
class Case:
    """One table size: its compiled step, its state, and the times of its steps."""

    rows: int

    def __post_init__(self):
        self.mesh = make_mesh()
        trained = trained_parts(EXPERIMENT, "cpu")
        self.make = state_maker(trained, EXPERIMENT.seed, self.rows)
        self.shardings = state_shardings(jax.eval_shape(self.make), self.mesh)
        self.step = compile_train_step(trained, self.mesh, self.shardings)
        self.rng, self.seconds = np.random.default_rng(0), []
        before = resident()
        self.state = jax.block_until_ready(make_sharded(self.make, self.shardings))
        self.table_bytes = self.state.table.nbytes
        self.rest = sum(x.nbytes for x in jax.tree.leaves(self.state)) - self.table_bytes
        self.grew = {"made": resident() - before}
        compiled = self.step.lower(self.state, self.next_batch()).compile()
        self.memory = compiled.memory_analysis()
        self.run(2)
        self.seconds.clear()
        self.grew["trained"] = self.peak_of(lambda: self.run(options.steps), before)

    def peak_of(self, work, before: int) -> int:
        peak_bytes(reset=True)
        work()
        return peak_bytes() - before

    def next_batch(self):
        return global_batch(batch_of(self.rng, self.rows), self.mesh)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            batch = self.next_batch()
            start = time.perf_counter()
            self.state, sums = self.step(self.state, batch)
            jax.block_until_ready((self.state, sums))
            self.seconds.append(time.perf_counter() - start)

    def save_and_restore(self) -> dict[str, float]:
        before, seconds, step = resident(), {}, int(self.state.step)

        def timed(name, work):
            start = time.perf_counter()
            self.grew[name] = self.peak_of(work, before)
            seconds[name] = time.perf_counter() - start

        timed("checksums", lambda: checksums(self.state))
        with tempfile.TemporaryDirectory() as folder:
            workdir = work_path(folder)

            def save():
                with checkpoint.open_checkpoints(workdir, 1, 0, {}) as saver:
                    checkpoint.save(saver, step, self.state, {})
                    self.run(3)
                    checkpoint.finish(saver)

            timed("saved while it trains", save)
            self.state = None
            target = abstract_state(self.make, self.shardings)
            before = resident()
            timed(
                "restored", lambda: setattr(self, "back", checkpoint.restore(workdir, step, target))
            )
        return seconds


def main() -> None:
    cases = [Case(rows) for rows in options.rows]
    for _ in range(options.rounds):  # turn by turn, so that a drifting machine treats all alike
        for case in cases:
            case.run(options.steps)
    print(f"{jax.devices()[0].device_kind} x {len(jax.devices())}, jax {jax.__version__}")
    for case in cases:
        mega = {name: f"{count / 1e6:,.0f}" for name, count in case.grew.items()}
        print(
            f"{case.rows:,} rows: table {case.table_bytes / 1e6:,.1f} MB, all else "
            f"{case.rest / 1e6:,.1f} MB; the step's own memory "
            f"{case.memory.temp_size_in_bytes / 1e6:,.1f} MB, of its arguments "
            f"{case.memory.alias_size_in_bytes / 1e6:,.1f} MB are updated in place; the process "
            f"grew by {mega['made']} MB (state made), {mega['trained']} MB (training, at most)"
        )
        print(f"  median step {statistics.median(case.seconds) * 1e3:.2f} ms")
    for case in cases:
        # Numbers that can't be packed, as those of a trained table.
        noise = jax.random.bits(jax.random.key(1), case.state.table.shape, jnp.uint32) >> 2
        table = jax.device_put(noise.view(jnp.float32), case.state.table.sharding)
        case.state = jax.block_until_ready(case.state.replace(table=table))
        del noise, table
        seconds = case.save_and_restore()
        for name, value in seconds.items():
            print(f"{case.rows:,} rows: {name} in {value:.2f} s, +{case.grew[name] / 1e6:,.0f} MB")


if __name__ == "__main__":
    sys.exit(main())
