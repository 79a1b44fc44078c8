"""A training step in PyTorch and in ours, in turns, in float32 and bfloat16; needs torch.

    python -m benchmarks.torch_step                 the 7M DRM on 30x30, batches of 2
    python -m benchmarks.torch_step --sizes demo --batch 8 --rounds 1 --repeats 1

For docs/performance.md, by hand, on a machine that does nothing else. What PyTorch computes is in
`benchmarks.torch_network`: the same network and products, of our own writing. Each case runs in a
process of its own, and cases take turns; medians over the processes are printed. Where a processor
has no instructions for bfloat16 (avx512_bf16, amx_bf16), PyTorch multiplies it by scalar code, and
a 7M step takes minutes: say --dtype float32 there, or --repeats 1 --rounds 1. "products" is the
rate of 4096^3 products of the case's own type, by the same library in the same process, and "of
products" the step's share of it. "to PyTorch" is PyTorch's time of the same case over this one's.
"""

import statistics
import sys
from typing import Any

from benchmarks import harness, step
from benchmarks.harness import Column

LIBRARIES = ("PyTorch", "drm_jax")


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=step.SIZES, default=["7m"])
    parser.add_argument("--batch", nargs="+", type=int, default=[2])
    parser.add_argument(
        "--dtype", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"]
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed in each process")
    options = parser.parse_args()
    torch_version = _torch_version()
    cases = [
        step.case_of(library=library, size=size, batch=batch, dtype=dtype, repeats=options.repeats)
        for size in options.sizes
        for batch in options.batch
        for dtype in options.dtype
        for library in LIBRARIES
    ]
    results = harness.measure_all("benchmarks.torch_step", cases, options.rounds)
    for result in results:
        result["flops"] = step.flops_of(step.experiment_of(result), "train") * result["batch"]
    harness.report(
        f"A training step in PyTorch {torch_version} and in ours",
        results,
        [
            Column("case", lambda r: f"{r['size']} batch {r['batch']} {r['dtype']}"),
            Column("", lambda r: r["library"]),
            Column("s", lambda r: f"{r['seconds']:.4f}"),
            Column("to PyTorch", lambda r: f"{_torch_seconds(results, r) / r['seconds']:.2f}"),
            Column("examples/s", lambda r: f"{r['batch'] / r['seconds']:.3f}"),
            Column("GFLOP/s", lambda r: f"{r['flops'] / r['seconds'] / 1e9:.0f}"),
            Column("products", lambda r: f"{r['matmul'] / 1e9:.0f}"),
            Column("of products", lambda r: f"{r['flops'] / r['seconds'] / r['matmul']:.0%}"),
            Column("peak GB", lambda r: f"{r['peak_bytes'] / 1e9:.2f}"),
        ],
        options,
    )
    for line in best_types(results):
        print(line)


def _torch_version() -> str:
    try:
        import torch
    except ImportError:
        sys.exit("benchmarks.torch_step needs torch: pip install torch")
    return torch.__version__


def _torch_seconds(results: list[dict[str, Any]], of: dict[str, Any]) -> float:
    """PyTorch's median of the case that `of` is of."""
    names = ("size", "batch", "dtype")
    return next(
        r["seconds"]
        for r in results
        if r["library"] == "PyTorch" and all(r[name] == of[name] for name in names)
    )


def best_types(results: list[dict[str, Any]]) -> list[str]:
    """A line for each size and batch: both libraries in the type that is faster for them."""
    lines = []
    for size, batch in dict.fromkeys((r["size"], r["batch"]) for r in results):
        of_case = [r for r in results if (r["size"], r["batch"]) == (size, batch)]
        torchs, ours = (
            min((r for r in of_case if r["library"] == library), key=lambda r: r["seconds"])
            for library in LIBRARIES
        )
        lines.append(
            f"{size} batch {batch}, each in its faster type: PyTorch {torchs['seconds']:.4f} s "
            f"({torchs['dtype']}), drm_jax {ours['seconds']:.4f} s ({ours['dtype']}): "
            f"{torchs['seconds'] / ours['seconds']:.2f} times PyTorch's speed"
        )
    return lines


def child(case: dict[str, Any]) -> dict[str, Any]:
    """The figures of one case, in this process."""
    if case["library"] == "PyTorch":
        return _torch_child(case)
    figures = step.child(case)
    kept = {name: figures[name] for name in ("seconds", "peak_bytes")}
    return kept | {"matmul": harness.matmul_rate(dtype=case["dtype"])}


def _torch_child(case: dict[str, Any]) -> dict[str, Any]:
    import torch

    from benchmarks.torch_network import make_step

    dtype = getattr(torch, case["dtype"])
    matmul = _product_rate(dtype)
    harness.peak_bytes(reset=True)
    run = make_step(sizes_of(case), case["batch"], dtype)
    harness.timed(run, 1)
    seconds = harness.timed(run, case["repeats"])
    return {
        "seconds": statistics.median(seconds),
        "peak_bytes": harness.peak_bytes(),
        "matmul": matmul,
        "threads": torch.get_num_threads(),
    }


def _product_rate(dtype: Any, side: int = 4096) -> float:
    """FLOP/s of PyTorch's products: the best of three, or the first where one takes long."""
    import torch

    a = torch.ones(side, side, dtype=dtype)
    torch.mm(a[:512, :512], a[:512, :512])  # its threads are started
    seconds = harness.timed(lambda: torch.mm(a, a), 1)
    if seconds[0] < 10:
        seconds += harness.timed(lambda: torch.mm(a, a), 2)
    return 2 * side**3 / min(seconds)


def sizes_of(case: dict[str, Any]) -> Any:
    """The sizes of a case's network, for PyTorch."""
    from benchmarks.torch_network import Sizes
    from drm_jax.model.layers import swiglu_width

    hidden, heads, cycles, inner_steps, prefix, multiple, canvas = step.SIZES[case["size"]]
    width = swiglu_width(hidden, 4.0, multiple)
    return Sizes(hidden, heads, width, cycles, inner_steps, prefix, canvas**2)


if __name__ == "__main__":
    harness.run(main, child)
