"""Time and memory of a training step, by method, size, canvas, batch and type.

    python -m benchmarks.step                                   the 7M DRM, batches of 2 and 4
    python -m benchmarks.step --sizes demo w64 w128 7m --batch 32
    python -m benchmarks.step --methods drm trm sprm path whole diffusion --sizes demo --batch 32
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
METHODS = ("drm", "trm", "sprm", "path", "whole", "diffusion")


def main(what: str = "train", title: str = "A training step") -> None:
    """Args: what: train or evaluate."""
    options = _options(what)
    cases = [
        {
            "what": what, "method": method, "size": size, "batch": batch, "canvas": canvas,
            "dtype": dtype, "set": change, "devices": devices, "repeats": options.repeats,
        }
        for method in options.methods
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
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["drm"])
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
    method = "" if result["method"] == "drm" else f"{result['method']} "
    name = f"{method}{result['size']}{canvas} batch {result['batch']}{devices}"
    return f"{name} {result['dtype']} {result['set']}".rstrip()


def case_of(**fields: Any) -> dict[str, Any]:
    """A case with what benchmarks of one program leave out."""
    usual = {"what": "train", "method": "drm", "canvas": 0, "dtype": "float32", "devices": 0}
    return {**usual, "set": "", "repeats": 3, **fields}


def experiment_of(case: dict[str, Any]) -> Any:
    """The experiment of a case."""
    from drm_jax.config import Evaluate, Experiment, Train, with_changes
    from drm_jax.model.transformer import Transformer
    from drm_jax.puzzles.arc.family import Arc

    hidden, heads, cycles, inner_steps, prefix, multiple, canvas = SIZES[case["size"]]
    batch = case["batch"]
    experiment = Experiment(
        "benchmark",
        data=Arc(canvas=case["canvas"] or canvas),
        method=_method(case["method"], cycles, inner_steps),
        model=Transformer(
            hidden=hidden, heads=heads, prefix=prefix, swiglu_multiple=multiple, dtype=case["dtype"]
        ),
        train=Train(batch_size=batch),
        evaluate=Evaluate(batch_size=batch),
    )
    changes = dict(change.split("=", 1) for change in case["set"].split())
    return with_changes(experiment, {name: _value(text) for name, text in changes.items()})


def _method(name: str, cycles: int, inner_steps: int) -> Any:
    """One of `METHODS`."""
    from drm_jax.methods.diffusion import Diffusion
    from drm_jax.methods.drm import Drm
    from drm_jax.methods.sprm import Sprm
    from drm_jax.methods.trm import Trm
    from drm_jax.model.recursion import Recursion

    if name == "diffusion":
        return Diffusion()
    if name in ("trm", "sprm"):
        return {"trm": Trm, "sprm": Sprm}[name](Recursion(cycles, inner_steps))
    grad_cycles = 1 if name == "drm" else cycles
    supervision = "path" if name == "path" else "final"
    return Drm(Recursion(cycles, inner_steps, grad_cycles), supervision=supervision)


def flops_of(experiment: Any, what: str, side: int | None = None) -> float:
    """FLOPs of an example on a CPU, without what is computed again.

    Args:
      side: of its window; None: on the whole canvas.
    """
    from drm_jax.plan.flops import count_flops

    data, method = experiment.data, experiment.method
    flops = count_flops(
        method,
        experiment.model,
        vocab=data.vocabulary.size + method.has_mask,
        cells=(side or data.sides[-1]) ** 2,
        denoise_steps=experiment.evaluate.denoise_steps,
        platform="cpu",
    )
    return flops.train - flops.again if what == "train" else flops.evaluate


def _value(text: str) -> Any:
    """A number, numbers between commas, or the text."""
    if "," in text:
        return tuple(map(int, text.split(",")))
    return int(text) if text.isdigit() else text


class Running:
    """The experiment of a case with a state, in this process."""

    def __init__(self, case: dict[str, Any], mesh: Any = None):
        """Args: mesh: None: of the case's devices, or as `drm train` takes them."""
        import jax

        from drm_jax.parallel.mesh import make_mesh, use_cpu_cores
        from drm_jax.run.setup import mesh_for, state_maker, trained_here
        from drm_jax.training.state import make_sharded, state_shardings

        self.case, self.experiment = case, experiment_of(case)
        if mesh is not None:
            self.mesh = mesh
        elif case["devices"]:
            jax.config.update("jax_num_cpu_devices", case["devices"])
            self.mesh = make_mesh()
        else:
            use_cpu_cores()
            self.mesh = mesh_for(case["batch"])
        self.trained, self.notes = trained_here(self.experiment, self.mesh)
        make_state = state_maker(self.trained, self.experiment.seed, case.get("rows", 4096))
        self.shardings = state_shardings(jax.eval_shape(make_state), self.mesh)
        self.make_state = lambda: make_sharded(make_state, self.shardings)
        self.state = None

    def program(self, side: int | None = None) -> tuple[Callable[[], Any], Any]:
        """(what runs it once on made-up examples, the compiled program).

        Args:
          side: of a window, with canvas=fit.
        """
        import numpy as np

        from drm_jax.parallel.mesh import global_batch

        trains, rng = self.case["what"] == "train", np.random.default_rng(0)
        shapes, step = self._to_train(side) if trains else self._to_answer(side)
        batch = global_batch({k: _draw(rng, k, x) for k, x in shapes.items()}, self.mesh)
        self.state = self.make_state() if self.state is None else self.state
        program = step.lower(self.state, batch).compile()

        def run() -> Any:
            if not trains:
                return program(self.state, batch)
            self.state, metrics = program(self.state, batch)
            return metrics

        return run, program

    def _to_train(self, side: int | None) -> tuple[dict[str, Any], Any]:
        """The shapes of a batch, and the training step."""
        from drm_jax.training.batches import abstract_batch
        from drm_jax.training.step import compile_train_step

        data, size = self.experiment.data, self.case["batch"]
        board = (side, side) if side else None
        method, mask = self.experiment.method, data.vocabulary.mask
        shapes = abstract_batch(method, data.boards, mask, size, board)
        return shapes, compile_train_step(self.trained, self.mesh, self.shardings)

    def _to_answer(self, side: int | None) -> tuple[dict[str, Any], Any]:
        """The shapes of a batch of candidates, and the program that answers it."""
        from drm_jax.evaluate.answerer import abstract_candidates, compile_answer

        experiment = self.experiment
        shapes = abstract_candidates(self.case["batch"], (side or experiment.data.sides[-1]) ** 2)
        return shapes, compile_answer(
            experiment.method, experiment.data, self.trained.network, self.mesh, self.shardings,
            test=experiment.evaluate, seed=experiment.seed,
        )  # fmt: skip


def child(case: dict[str, Any]) -> dict[str, Any]:
    """The figures of one case, in this process."""
    import time

    import jax

    running = Running(case)
    before = harness.matmul_rate()
    harness.peak_bytes(reset=True)
    start = time.perf_counter()
    run, program = running.program()
    compile_seconds = time.perf_counter() - start
    harness.timed(run, 1)
    seconds = harness.timed(run, case["repeats"])
    peak, of_one = harness.peak_bytes(), flops_of(running.experiment, case["what"])
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
