"""Time and memory of a training step, by objective, size, canvas, batch and type.

    python -m benchmarks.step                                   the 7M DRM, batches of 2 and 4
    python -m benchmarks.step --sizes demo w64 w128 7m --batch 32
    python -m benchmarks.step --objectives drm trm sprm path whole diffusion --sizes demo --batch 32
    python -m benchmarks.step --set model.attention=plain --set model.attention=blocks

`path` is drm with supervision by path; `whole` is drm with gradient through all cycles, which is
what path would cost without its loop. GFLOP/s are those of the matrix products that the method
needs, as `drm plan` counts them: what is computed twice counts once. "of matmul" is their share of
the rate of 4096^3 float32 products, one on each device, measured in the same process before and
after.
"""

import statistics
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import harness
from benchmarks.harness import Column

SIZES = {
    # width, heads, cycles, inner steps, prefix, swiglu multiple, canvas
    "demo": (64, 2, 2, 2, 2, 64, 6),
    "w64": (64, 2, 3, 4, 16, 64, 30),
    "w128": (128, 2, 3, 4, 16, 64, 30),
    "w256": (256, 4, 3, 4, 16, 256, 30),
    "7m": (512, 8, 3, 4, 16, 256, 30),
    "14m": (768, 12, 3, 6, 16, 256, 30),
}
OBJECTIVES = ("drm", "trm", "sprm", "path", "whole", "diffusion")


def main(what: str = "train", title: str = "A training step") -> None:
    """Args: what: train or evaluate."""
    options = _options(what)
    cases = [
        {
            "what": what, "objective": objective, "size": size, "batch": batch, "canvas": canvas,
            "dtype": dtype, "set": change, "devices": devices, "repeats": options.repeats,
        }
        for objective in options.objectives
        for size in options.sizes
        for canvas in options.canvas
        for dtype in options.dtype
        for batch in options.batch
        for devices in options.devices
        for change in options.set
    ]  # fmt: skip
    results = harness.measure_all("benchmarks.step", cases, options.rounds)
    first = results[0]["seconds"]
    harness.report(
        title,
        results,
        [
            Column("case", _name),
            Column("s", lambda r: f"{r['seconds']:.4f}"),
            Column("against first", lambda r: f"{r['seconds'] / first:.2f}"),
            Column("examples/s", lambda r: f"{r['batch'] / r['seconds']:.3f}"),
            Column("GFLOP/s", lambda r: f"{r['flops'] / r['seconds'] / 1e9:.0f}"),
            Column("matmul", lambda r: f"{r['matmul'] / 1e9:.0f}"),
            Column("of matmul", lambda r: f"{r['flops'] / r['seconds'] / r['matmul']:.0%}"),
            Column("peak GB", lambda r: f"{r['peak_bytes'] / 1e9:.2f}"),
            Column("scratch GB", lambda r: f"{r['scratch_bytes'] / 1e9:.2f}"),
            Column("compile s", lambda r: f"{r['compile_seconds']:.1f}"),
        ],
        options,
    )


def _options(what: str) -> Any:
    parser = harness.parser(sys.modules["__main__"].__doc__)
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=["drm"])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["7m"])
    parser.add_argument("--batch", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--canvas", nargs="+", type=int, default=[0], help="0: the size's own")
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    parser.add_argument("--devices", nargs="+", type=int, default=[0], help="0: as drm train")
    parser.add_argument(
        "--repeats", type=int, default=5 if what == "train" else 1, help="timed in each process"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE",
        help="another case, with such as model.attention=plain or train.accumulate=1",
    )  # fmt: skip
    options = parser.parse_args()
    options.set = options.set or [""]
    return options


def _name(result: dict[str, Any]) -> str:
    canvas = f" canvas {result['canvas']}" if result["canvas"] else ""
    devices = f" x{result['devices']}" if result["devices"] else ""
    objective = "" if result["objective"] == "drm" else f"{result['objective']} "
    name = f"{objective}{result['size']}{canvas} batch {result['batch']}{devices}"
    return f"{name} {result['dtype']} {result['set']}".rstrip()


def case_of(**fields: Any) -> dict[str, Any]:
    """A case with what benchmarks of one program leave out."""
    usual = {"what": "train", "objective": "drm", "canvas": 0, "dtype": "float32", "devices": 0}
    return {**usual, "set": "", "repeats": 3, **fields}


def experiment_of(case: dict[str, Any]) -> Any:
    """The experiment of a case."""
    from drm_jax.config import Data, Evaluate, Experiment, Model, Train, with_changes

    hidden, heads, cycles, inner_steps, prefix, multiple, canvas = SIZES[case["size"]]
    objective, batch = case["objective"], case["batch"]
    all_cycles = objective in ("path", "whole")
    model = Model(
        hidden=hidden, heads=heads, cycles=cycles, inner_steps=inner_steps, prefix=prefix,
        swiglu_multiple=multiple, dtype=case["dtype"], grad_cycles=cycles if all_cycles else 1,
    )  # fmt: skip
    experiment = Experiment(
        "benchmark",
        data=Data(canvas=case["canvas"] or canvas),
        objective="drm" if all_cycles else objective,
        supervision="path" if objective == "path" else "final",
        model=model,
        train=Train(batch_size=batch),
        evaluate=Evaluate(batch_size=batch),
    )
    changes = dict(change.split("=", 1) for change in case["set"].split())
    return with_changes(experiment, {name: _value(text) for name, text in changes.items()})


def _value(text: str) -> Any:
    """A number, numbers between commas, or the text."""
    if "," in text:
        return tuple(map(int, text.split(",")))
    return int(text) if text.isdigit() else text


class Running:
    """The experiment of a case with a state, in this process."""

    def __init__(self, case: dict[str, Any]):
        import jax

        from drm_jax.model.network import make_network
        from drm_jax.parallel.mesh import make_mesh, platform_of, use_cpu_cores
        from drm_jax.train.state import init_state, make_sharded, state_shardings
        from drm_jax.train.step import make_optimizer

        self.case, self.experiment = case, experiment_of(case)
        if case["devices"]:
            jax.config.update("jax_num_cpu_devices", case["devices"])
        else:
            use_cpu_cores(case["batch"])
        self.mesh = make_mesh()
        self.network = make_network(self.experiment, platform_of(self.mesh))
        optimizer = make_optimizer(self.experiment)

        def make_state():
            return init_state(self.experiment, self.network, optimizer, case.get("rows", 4096))

        self.shardings = state_shardings(jax.eval_shape(make_state), self.mesh)
        self.make_state = lambda: make_sharded(make_state, self.shardings)
        self.state = None

    def program(self, side: int | None = None) -> tuple[Callable[[], Any], Any]:
        """(what runs it once on made-up examples, the compiled program).

        Args:
          side: of a window, with canvas=fit.
        """
        import numpy as np

        from drm_jax.evaluate.score import abstract_candidates, compile_denoise
        from drm_jax.methods.objectives import abstract_batch
        from drm_jax.parallel.mesh import global_batch
        from drm_jax.train.step import compile_train_step

        trains, rng = self.case["what"] == "train", np.random.default_rng(0)
        shapes = (abstract_batch if trains else abstract_candidates)(self.experiment, side)
        batch = global_batch({k: _draw(rng, k, x) for k, x in shapes.items()}, self.mesh)
        compiler = compile_train_step if trains else compile_denoise
        step = compiler(self.experiment, self.network, self.mesh, self.shardings)
        self.state = self.make_state() if self.state is None else self.state
        program = step.lower(self.state, batch).compile()

        def run() -> Any:
            if not trains:
                return program(self.state, batch)
            self.state, metrics = program(self.state, batch)
            return metrics

        return run, program


def child(case: dict[str, Any]) -> dict[str, Any]:
    """The figures of one case, in this process."""
    import time

    import jax

    from drm_jax.plan.flops import count_flops

    running = Running(case)
    before = harness.matmul_rate()
    harness.peak_bytes(reset=True)
    start = time.perf_counter()
    run, program = running.program()
    compile_seconds = time.perf_counter() - start
    harness.timed(run, 1)
    seconds = harness.timed(run, case["repeats"])
    peak, flops = harness.peak_bytes(), count_flops(running.experiment)
    of_one = flops.train - flops.again if case["what"] == "train" else flops.evaluate
    return {
        "seconds": statistics.median(seconds),
        "flops": of_one * case["batch"],
        "matmul": max(before, harness.matmul_rate()),
        "peak_bytes": peak,
        "scratch_bytes": program.memory_analysis().temp_size_in_bytes,
        "compile_seconds": compile_seconds,
        "devices": jax.device_count(),
    }


def _draw(rng: Any, name: str, x: Any) -> Any:
    if name == "weight":
        import numpy as np

        return np.ones(x.shape, x.dtype)
    high = {
        "puzzle_id": 900,
        "corner": 1,
        "level": 1000,
        "least_steps": 1,
        "latent_level": 100,
    }.get(name, 12)
    return rng.integers(1 if name == "target" else 0, high, x.shape, x.dtype)


if __name__ == "__main__":
    harness.run(main, child)
