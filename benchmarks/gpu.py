"""Everything that only a GPU can tell, in stages that together take at most 8 minutes.

    benchmarks/gpu.sh                    on the first GPU; figures in runs/gpu/gpu.json and gpu.md
    benchmarks/gpu.sh --only attention training
    benchmarks/gpu.sh --cpu              every stage on the CPU, at tiny sizes, to try the script

Each stage is a process of its own, with a limit on its time; what it found before it failed or ran
out of time is kept, and the next stage follows. Programs that were compiled are kept in the output
folder, so a second run measures more.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, machine, timed

Result = dict[str, Any]
WINDOWS = (8, 14, 18, 25, 30)
"""Of canvas=fit: fewer than `Arc.windows` has, since each is a program to compile."""


_CPU_LIMIT = 3600
"""Seconds of a stage on a CPU, which may be slow and busy."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage: what it yields, one result after the other, and its limit in seconds."""

    run: Callable[[bool], Iterator[Result]]
    limit: int


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpu", action="store_true", help="every stage on the CPU, tiny")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "gpu")
    options = parser.parse_args()
    folder = options.output.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a stage ends with this
    report: dict[str, Any] = {"cpu": options.cpu, "machine": machine(), "stages": {}}
    for name in options.only:
        limit = _CPU_LIMIT if options.cpu else STAGES[name].limit
        print(f"{name}: at most {limit} s", flush=True)
        command = [sys.executable, "-m", "benchmarks.gpu", "--stage", name]
        environment = {
            "JAX_PLATFORMS": "cpu" if options.cpu else "cuda,cpu",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        }
        command += ["--cpu"] * options.cpu
        log = folder / f"{name}.log"
        report["stages"][name] = found = run_stage(command, environment, limit, log)
        print(f"  {found['state']} after {found['seconds']:.0f} s", flush=True)
        text = json.dumps(report, indent=2) + "\n"
        (folder / "gpu.json").write_text(text, encoding="utf-8")
        (folder / "gpu.md").write_text(tables(report), encoding="utf-8")
    print(f"Written: {folder / 'gpu.json'}, {folder / 'gpu.md'}; logs beside them")
    return 0 if all(one["state"] == "done" for one in report["stages"].values()) else 1


def run_stage(
    command: list[str], environment: dict[str, str], limit: float, log: Path
) -> dict[str, Any]:
    """What a stage found, line after line of JSON, and how it ended: done, failed, or out of time.

    Args:
      environment: beside this process's own.
      limit: seconds.
      log: gets its standard error.
    """
    began, environment = time.monotonic(), {**os.environ, **environment}
    with log.open("w", encoding="utf-8") as errors, tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=errors, start_new_session=True
        )
        try:
            state = "failed" if process.wait(limit) else "done"
        except subprocess.TimeoutExpired:
            state = "out of time"
        finally:
            _kill_group(process)  # and what it has started
        output.seek(0)
        lines = output.read().decode(errors="replace").splitlines()
    results = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    seconds = time.monotonic() - began
    return {"state": state, "seconds": seconds, "log": str(log), "results": results}


def _kill_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def child(name: str, cpu: bool) -> None:
    """A stage, in its own process: one line of JSON for each result."""
    for result in STAGES[name].run(cpu):
        print(json.dumps(result), flush=True)


# --- the stages ----------------------------------------------------------------------------------
def device(cpu: bool) -> Iterator[Result]:
    """The device, and whether attention's kernel works there."""
    import jax

    from drm_jax.model.attention import KERNELS, choose_attention, why_kernel_fails
    from drm_jax.model.backbone import compute_dtype
    from drm_jax.parallel.mesh import make_mesh, platform_of

    first = jax.devices()[0]
    platform = platform_of(make_mesh([first]))
    dtype = compute_dtype("auto", platform, 512)
    form = choose_attention("auto", platform, dtype, 64)
    fails = {}
    if form in KERNELS:
        fails = {f"odd={odd}": why_kernel_fails(form, 64, odd, first) for odd in (False, True)}
    yield {
        "kind": first.device_kind, "devices": jax.device_count(), "platform": platform,
        "compute_capability": getattr(first, "compute_capability", ""), "dtype": dtype.name,
        "attention": form, "kernel_fails": fails, "memory": _memory(first, "bytes_limit"),
    }  # fmt: skip


def tests(cpu: bool) -> Iterator[Result]:
    """The tests that need the device."""
    yield _pytest(cpu, "tests/test_gpu.py")


def goldens(cpu: bool) -> Iterator[Result]:
    """The published numbers, in float32; then the same step in two types against a CPU's."""
    yield _pytest(cpu, "tests/test_goldens.py", JAX_DEFAULT_MATMUL_PRECISION="highest")
    yield from _types_against_cpu(cpu)


def _pytest(cpu: bool, file: str, **more: str) -> Result:
    environment = {**os.environ, **more, "DRM_TEST_PLATFORM": "cpu" if cpu else "cuda"}
    command = [sys.executable, "-m", "pytest", file, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    print(done.stdout, done.stderr, file=sys.stderr)
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    return {"tests": file, "passed": done.returncode == 0, "said": last}


def _types_against_cpu(cpu: bool) -> Iterator[Result]:
    """How far loss and gradient of a step are from those of float32 on a CPU, by norm."""
    import jax
    import numpy as np

    from benchmarks.step import case_of

    size, batch = ("demo", 4) if cpu else ("w128", 4)
    on_cpu, here = jax.devices("cpu")[0], jax.devices()[0]
    exact = None
    for where, dtype in ((on_cpu, "float32"), (here, "float32"), (here, "bfloat16")):
        case = case_of(size=size, batch=batch, dtype=dtype)
        loss, gradient = _loss_and_gradient(case, where)
        if exact is None:
            exact = loss, gradient
            continue
        apart = np.linalg.norm(gradient - exact[1]) / np.linalg.norm(exact[1])
        yield {
            "dtype": dtype, "loss": loss, "loss_on_cpu": exact[0],
            "loss_apart": abs(loss / exact[0] - 1), "gradient_apart": float(apart),
        }  # fmt: skip


def _loss_and_gradient(case: dict[str, Any], where: Any) -> tuple[float, Any]:
    """Of the first step from fresh weights on a device; the gradient is one long vector."""
    import jax
    import numpy as np

    from benchmarks.step import Running
    from drm_jax.parallel.mesh import make_mesh

    running = Running(case, make_mesh([where]))
    run, _ = running.program()
    loss = float(run()["loss"])
    # the first moment of the first step is (1 - beta1) times the gradient
    moments = jax.device_get(jax.tree.leaves(running.state.opt_state.m))
    return loss, np.concatenate([np.ravel(m) for m in moments]).astype(np.float64)


def attention(cpu: bool) -> Iterator[Result]:
    """The kernel against plain attention, forward and gradient: values, time and memory."""
    import jax
    import jax.numpy as jnp

    from drm_jax.model.attention import (
        choose_attention,
        find_attention,
        plain_attention,
        with_gradient,
    )
    from drm_jax.parallel.mesh import make_mesh, platform_of

    platform, dtype = platform_of(make_mesh(jax.devices()[:1])), jnp.dtype("bfloat16")
    form = choose_attention("auto", platform, dtype, 64)
    kernel = find_attention(form, platform, dtype, 64)
    count, sides = (4, (3, 4)) if cpu else (8 * 96, (30, *WINDOWS[:-1], 11))
    for side in sides:
        tokens = 16 + side**2
        keys = jax.random.split(jax.random.key(side), 4)
        numbers = [jax.random.normal(key, (count, tokens, 64), dtype) for key in keys]
        few = [x[:16].astype(jnp.float32) for x in numbers]  # of all, float32 scores take 2.6 GB
        with jax.default_matmul_precision("highest"):
            exact = with_gradient(plain_attention)(*few)
        found: Result = {"tokens": tokens, "heads": count, "form": form}
        for name, attend in (("plain", plain_attention), (form, kernel)):
            found[name] = _attention_figures(attend, numbers, exact, cpu)
        yield found


def _attention_figures(attend: Any, numbers: list[Any], exact: Any, cpu: bool) -> Result:
    """Times, memory, and how far from exact results of the first heads."""
    import jax

    from drm_jax.model.attention import with_gradient

    run, forward = with_gradient(attend), jax.jit(attend)
    scratch = run.lower(*numbers).compile().memory_analysis().temp_size_in_bytes
    apart = [_apart(ours[: len(x)], x) for ours, x in zip(run(*numbers), exact, strict=True)]
    jax.block_until_ready(forward(*numbers[:3]))
    return {
        "forward_ms": 1e3 * _median(lambda: forward(*numbers[:3]), cpu),
        "with_gradient_ms": 1e3 * _median(lambda: run(*numbers), cpu),
        "scratch_bytes": scratch,
        "apart": apart,
    }


def _apart(ours: Any, theirs: Any) -> float:
    import numpy as np

    ours, theirs = (np.asarray(x).astype(np.float64) for x in (ours, theirs))
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def _median(function: Callable[[], Any], cpu: bool) -> float:
    return statistics.median(timed(function, 1 if cpu else 10))


def training(cpu: bool) -> Iterator[Result]:
    """Training steps of the 7M networks: examples/s, share of peak, memory. In the order of what is
    wanted first: the stage may run out of time."""
    if cpu:
        cases = [("drm", 8, "none", ()), ("trm", 8, "layer", ()), ("drm", 8, "none", (4, 6))]
    else:
        cases = [
            ("drm", 96, "none", ()), ("drm", 384, "none", ()), ("drm", 768, "layer", ()),
            ("drm", 384, "none", WINDOWS), ("trm", 384, "none", ()), ("drm", 192, "none", ()),
            ("trm", 96, "none", ()), ("trm", 768, "layer", ()),
        ]  # fmt: skip
    for method, batch, remat, windows in cases:
        yield _in_a_process("train", method, batch, remat, windows, cpu)


def evaluation(cpu: bool) -> Iterator[Result]:
    """Candidates/s of the 7M DRM, 16 denoising steps."""
    for batch in (8,) if cpu else (96, 384):
        yield _in_a_process("evaluate", "drm", batch, "none", (), cpu)


def _in_a_process(
    what: str, method: str, batch: int, remat: str, windows: tuple[int, ...], cpu: bool
) -> Result:
    """One case in a process of its own, so that its memory is its own and its failure too."""
    case = {"what": what, "method": method, "batch": batch, "remat": remat, "windows": windows}
    command = [sys.executable, "-m", "benchmarks.gpu", "--case", json.dumps({**case, "cpu": cpu})]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        return {**case, "failed": f"exit code {done.returncode}; see the log"}
    return {**case, **json.loads(done.stdout.splitlines()[-1])}


def measure(case: dict[str, Any]) -> Result:
    """The figures of a case, in this process."""
    import jax

    from benchmarks import canvas, step
    from drm_jax.parallel.mesh import make_mesh

    sides, cpu = case["windows"], case["cpu"]
    change = f"model.remat={case['remat']}"
    if sides:
        change += f" data.canvas=fit data.windows={','.join(map(str, sides))}"
    size, dtype = ("demo", "auto") if cpu else ("7m", "auto")
    device = jax.devices()[0]
    running = step.Running(
        step.case_of(
            what=case["what"], method=case["method"], size=size, batch=case["batch"], dtype=dtype,
            set=change,
        ),
        make_mesh([device]),
    )  # fmt: skip
    compiling, seconds, flops = 0.0, [], []
    for side in sides or (None,):
        began = time.perf_counter()
        job, _ = running.program(side)
        compiling += time.perf_counter() - began
        timed(job, 2)
        seconds.append(statistics.median(timed(job, 1 if cpu else 5)))
        flops.append(step.flops_of(running.experiment, case["what"], side))
    shares = [1.0]
    if sides:
        shares = [1 / len(sides)] * len(sides) if cpu else canvas.window_shares("train", [*sides])
    mean = sum(share * of_one for share, of_one in zip(shares, seconds, strict=True))
    useful = sum(share * of_one for share, of_one in zip(shares, flops, strict=True))
    rate, peak = case["batch"] / mean, _peak(device.device_kind)
    return {
        "dtype": running.trained.network.dtype.name, "notes": list(running.notes),
        "seconds": seconds, "shares": shares, "examples_per_second": rate,
        "flops_per_second": useful * rate, "share_of_peak": useful * rate / peak if peak else None,
        "memory_bytes": _memory(device, "peak_bytes_in_use"),
        "compile_seconds": compiling,
    }  # fmt: skip


def _peak(kind: str) -> float | None:
    """FLOP/s at the peak of a kind of device, in the type that auto computes in, if it is known."""
    from drm_jax.plan.chips import CHIPS

    words = kind.replace("-", " ").split()
    return next((chip.flops for chip in CHIPS.values() if chip.name in words), None)


def _memory(device: Any, name: str) -> int | None:
    return (device.memory_stats() or {}).get(name)


def demo(cpu: bool) -> Iterator[Result]:
    """`make demo`'s run: seconds, examples/s, the score."""
    with tempfile.TemporaryDirectory() as folder:
        workdir, began = Path(folder) / "demo", time.perf_counter()
        steps = ("--train.steps", "20") if cpu else ()
        code = _drm("train", "experiments/demo.py", "--workdir", str(workdir), *steps)
        rates = _logged(workdir, "train", "examples_per_second").values()
        scores = [*_logged(workdir, "eval", "pass@2").values()]
        yield {
            "code": code, "seconds": time.perf_counter() - began,
            "examples_per_second": statistics.median(rates) if rates else None,
            "pass@2": scores[-1] if scores else None,
        }  # fmt: skip


def resume(cpu: bool) -> Iterator[Result]:
    """A run that is killed and goes on against one that nobody disturbed: the same losses, to the
    last bit?"""
    sizes = "--train.steps 60 --train.log-every 5 --train.checkpoint-every 10 --evaluate.every 60"
    options = ["experiments/debug.py", *sizes.split()]
    if cpu:
        options += ["--model.hidden", "16", "--model.heads", "2", "--train.batch-size", "8"]
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        codes = [_drm("train", *options, "--workdir", str(whole))]
        process = subprocess.Popen(
            [*_DRM, "train", *options, "--workdir", str(killed)], cwd=ROOT, stdout=sys.stderr
        )
        while process.poll() is None and not (killed / "checkpoints" / "20").exists():
            time.sleep(0.02)
        was_killed = process.poll() is None
        process.kill()
        process.wait()
        codes.append(_drm("train", *options, "--workdir", str(killed)))
        losses = [_logged(one, "train", "loss") for one in (whole, killed)]
        yield {"codes": codes, "was_killed": was_killed, "lines": len(losses[0]),
               "equal": bool(losses[0]) and losses[0] == losses[1]}  # fmt: skip


_DRM = [sys.executable, "-m", "drm_jax"]


def _drm(*words: str) -> int:
    return subprocess.run([*_DRM, *words], cwd=ROOT, stdout=sys.stderr).returncode


def _logged(workdir: Path, kind: str, name: str) -> dict[int, float]:
    """What a run has logged of one number, by step."""
    from drm_jax.io.files import work_path
    from drm_jax.io.metrics import read_metrics

    lines = read_metrics(work_path(workdir))
    return {line["step"]: line[name] for line in lines if line["kind"] == kind and name in line}


def profile(cpu: bool) -> Iterator[Result]:
    """A trace of training steps of the 7M DRM, for TensorBoard's profiler or ui.perfetto.dev."""
    import jax

    from benchmarks.step import Running, case_of
    from drm_jax.parallel.mesh import make_mesh

    size, batch, steps = ("demo", 8, 2) if cpu else ("7m", 96, 10)
    running = Running(
        case_of(size=size, batch=batch, dtype="auto", set="model.remat=none"),
        make_mesh(jax.devices()[:1]),
    )
    run, program = running.program()
    timed(run, 2)
    folder = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).parent
    (folder / "step.hlo.txt").write_text(program.as_text(), encoding="utf-8")
    with jax.profiler.trace(str(folder / "profile"), create_perfetto_trace=True):
        seconds = timed(run, steps)
    yield {"steps": steps, "seconds_a_step": statistics.median(seconds),
           "trace": str(folder / "profile"), "program": str(folder / "step.hlo.txt")}  # fmt: skip


STAGES = {
    "device": Stage(device, 25),
    "tests": Stage(tests, 40),
    "attention": Stage(attention, 45),
    "training": Stage(training, 160),
    "goldens": Stage(goldens, 55),
    "evaluation": Stage(evaluation, 40),
    "demo": Stage(demo, 45),
    "resume": Stage(resume, 40),
    "profile": Stage(profile, 30),
}
"""In this order; all limits together are 480 s."""


# --- the page ------------------------------------------------------------------------------------
def tables(report: dict[str, Any]) -> str:
    """The figures in Markdown, for docs/performance.md."""
    stages = report["stages"]
    lines = [_state_of(report), ""]
    found = stages.get("training", {}).get("results", []) + stages.get("evaluation", {}).get(
        "results", []
    )
    if found:
        lines += ["| | batch | remat | examples/s | share of peak | memory, GB |"]
        lines += ["|---|---|---|---|---|---|"]
        lines += [_row(result) for result in found] + [""]
    found = stages.get("attention", {}).get("results", [])
    if found:
        form = found[0]["form"]
        lines += [
            f"| tokens | plain, ms with gradient | {form}, ms | {form}'s distance from exact |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {r['tokens']} | {r['plain']['with_gradient_ms']:.2f} | "
            f"{r[form]['with_gradient_ms']:.2f} | {max(r[form]['apart']):.4f} |"
            for r in found
        ] + [""]
    for name in ("device", "tests", "goldens", "demo", "resume", "profile"):
        for result in stages.get(name, {}).get("results", []):
            lines.append(f"- {name}: {json.dumps(result)}")
    return "\n".join(lines) + "\n"


def _state_of(report: dict[str, Any]) -> str:
    kinds = [one["kind"] for one in report["stages"].get("device", {}).get("results", [])]
    states = ", ".join(f"{name} {one['state']}" for name, one in report["stages"].items())
    where = f"{kinds[0] if kinds else 'device not known'}; {report['machine']['summary']}"
    tiny = " Tiny sizes on a CPU: a trial of the script, no measurement." if report["cpu"] else ""
    return f"{where}.{tiny} Stages: {states}."


def _row(result: Result) -> str:
    fit = ", fit" if result["windows"] else ""
    name = f"| {result['what']} {result['method']}{fit} | {result['batch']} | {result['remat']} | "
    if "failed" in result:
        return f"{name}{result['failed']} | | |"
    share, memory = result["share_of_peak"], result["memory_bytes"]
    cells = [
        f"{result['examples_per_second']:,.0f}",
        "" if share is None else f"{share:.0%}",
        "" if memory is None else f"{memory / 1e9:.1f}",
    ]
    return name + " | ".join(cells) + " |"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stage"]:
        child(sys.argv[2], "--cpu" in sys.argv)
    elif sys.argv[1:2] == ["--case"]:
        print(json.dumps(measure(json.loads(sys.argv[2]))))
    else:
        sys.exit(main())
