"""Time and memory of a training step or an evaluation, by objective, size, canvas, batch and type.

    python -m benchmarks.step                                   the 7M DRM, batches of 2 and 4
    python -m benchmarks.step --sizes demo w64 w128 7m --batch 32
    python -m benchmarks.step --what evaluate --batch 2
    python -m benchmarks.step --objectives drm trm sprm path whole diffusion --sizes demo --batch 32
    python -m benchmarks.step --set model.attention=plain --set model.attention=blocks

GFLOP/s are those of the matrix products that the method needs, as `drm plan` counts them: what is
computed twice counts once. "of matmul" is their share of the rate of a 4096^3 float32 product,
which is measured in the same process before and after.
"""

import dataclasses
import json
import statistics
import sys
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


def main() -> None:
    options = _options()
    cases = [
        {
            "what": options.what, "objective": objective, "size": size, "batch": batch,
            "canvas": canvas, "dtype": dtype, "set": change, "devices": devices,
            "repeats": options.repeats,
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
        "A training step" if options.what == "train" else "An evaluation of one batch, 16 steps",
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


def _options() -> Any:
    parser = harness.parser(__doc__)
    parser.add_argument("--what", choices=("train", "evaluate"), default="train")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=["drm"])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["7m"])
    parser.add_argument("--batch", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--canvas", nargs="+", type=int, default=[0], help="0: the size's own")
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    parser.add_argument("--devices", nargs="+", type=int, default=[0], help="0: as drm train")
    parser.add_argument("--repeats", type=int, default=5, help="steps timed in each process")
    parser.add_argument(
        "--set", action="append", default=[], metavar="model.FIELD=VALUE", help="another case"
    )
    options = parser.parse_args()
    options.set = options.set or [""]
    return options


def _name(result: dict[str, Any]) -> str:
    canvas = f" canvas {result['canvas']}" if result["canvas"] else ""
    devices = f" x{result['devices']}" if result["devices"] else ""
    objective = "" if result["objective"] == "drm" else f"{result['objective']} "
    name = f"{objective}{result['size']}{canvas} batch {result['batch']}{devices}"
    return f"{name} {result['dtype']} {result['set']}".rstrip()


def experiment_of(case: dict[str, Any]) -> Any:
    """The experiment of a case."""
    from drm_jax.config import Data, Evaluate, Experiment, Model, Train

    hidden, heads, cycles, inner_steps, prefix, multiple, canvas = SIZES[case["size"]]
    objective, batch = case["objective"], case["batch"]
    all_cycles = objective in ("path", "whole")
    model = Model(
        hidden=hidden, heads=heads, cycles=cycles, inner_steps=inner_steps, prefix=prefix,
        swiglu_multiple=multiple, dtype=case["dtype"], grad_cycles=cycles if all_cycles else 1,
    )  # fmt: skip
    if case["set"]:
        field, _, value = case["set"].removeprefix("model.").partition("=")
        kind = type(getattr(model, field))
        model = dataclasses.replace(model, **{field: kind(value)})
    return Experiment(
        "benchmark",
        data=Data(canvas=case["canvas"] or canvas),
        objective="drm" if all_cycles else objective,
        supervision="path" if objective == "path" else "final",
        model=model,
        train=Train(batch_size=batch),
        evaluate=Evaluate(batch_size=batch),
    )


def child(case: dict[str, Any]) -> dict[str, Any]:
    """The figures of one case, in this process."""
    import time

    import jax
    import numpy as np

    from drm_jax.dist.mesh import global_batch, make_mesh, use_cpu_cores
    from drm_jax.evaluate.score import abstract_candidates, compile_denoise
    from drm_jax.model.network import make_network
    from drm_jax.run.flops import count_flops
    from drm_jax.train.objectives import abstract_batch
    from drm_jax.train.state import init_state, make_sharded, state_shardings
    from drm_jax.train.step import compile_train_step, make_optimizer

    experiment = experiment_of(case)
    if case["devices"]:
        jax.config.update("jax_num_cpu_devices", case["devices"])
    else:
        use_cpu_cores(case["batch"])
    mesh = make_mesh()
    before = harness.matmul_rate() if jax.device_count() == 1 else 0
    network = make_network(experiment, mesh.devices.flat[0].platform)
    optimizer = make_optimizer(experiment)

    def make_state():
        return init_state(experiment, network, optimizer, 4096)

    shardings = state_shardings(jax.eval_shape(make_state), mesh)
    state = make_sharded(make_state, shardings)
    trains = case["what"] == "train"
    rng = np.random.default_rng(0)
    shapes = abstract_batch(experiment) if trains else abstract_candidates(experiment)
    batch = global_batch({k: _draw(rng, k, x) for k, x in shapes.items()}, mesh)
    compiler = compile_train_step if trains else compile_denoise
    start = time.perf_counter()
    program = compiler(experiment, network, mesh, shardings).lower(state, batch).compile()
    compile_seconds = time.perf_counter() - start

    def run() -> Any:
        nonlocal state
        if not trains:
            return program(state, batch)
        state, metrics = program(state, batch)
        return metrics

    harness.timed(run, 1)
    seconds = harness.timed(run, case["repeats"])
    flops = count_flops(experiment)
    return {
        "seconds": statistics.median(seconds),
        "flops": (flops.train - flops.again if trains else flops.evaluate) * case["batch"],
        "matmul": max(before, harness.matmul_rate()) * (1 if before else jax.device_count()),
        "peak_bytes": harness.peak_bytes(),
        "scratch_bytes": program.memory_analysis().temp_size_in_bytes,
        "compile_seconds": compile_seconds,
        "devices": jax.device_count(),
    }


def _draw(rng: Any, name: str, x: Any) -> Any:
    if name == "weight":
        import numpy as np

        return np.ones(x.shape, x.dtype)
    high = {"puzzle_id": 4096, "level": 1000, "least_steps": 1, "latent_level": 100}.get(name, 12)
    return rng.integers(1 if name == "target" else 0, high, x.shape, x.dtype)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(json.loads(sys.argv[2]))))
    else:
        main()
