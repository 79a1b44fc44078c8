"""The real programs of a run, compiled for TPUs or GPUs that aren't there.

libtpu and jax's plugin for CUDA compile without any device: what they say of memory, and what
travels, are the compilers' own figures. Of a GPU's program two things are open without one: which
kernels autotuning would choose for products, and the scratch memory of cuDNN's attention.
"""

import contextlib
import dataclasses
import importlib.util
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from drm_jax.config import Experiment
from drm_jax.errors import InputError, UsageError, one_line
from drm_jax.evaluate.answerer import abstract_candidates, compile_answer
from drm_jax.parallel.mesh import ALL_DATA, MeshShape, make_mesh, placed, platform_of
from drm_jax.plan.chips import CHIPS, Topology
from drm_jax.plan.gpus import describe_gpu
from drm_jax.run.setup import state_maker, trained_parts
from drm_jax.training.batches import abstract_batch
from drm_jax.training.state import TrainState, abstract_state, state_shardings
from drm_jax.training.step import Trained, compile_train_step

_COLLECTIVE = re.compile(
    r" = (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|"
    r"collective-broadcast|ragged-all-to-all)(-start)?\("
)
_HOST = re.compile(r" (infeed|outfeed|send|recv)\(|MoveToHost|MoveToDevice|host_compute|callback")
_BEGINS = re.compile(r"(ENTRY )?(%\S+) .*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|branch_computations)=\{?(%[\w.-]+)")
"""A computation of a compiled program begins; others that an instruction calls."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
GPU_SHARE = 0.75
"""Of a GPU's memory: what jax takes, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise."""
_KINDS = (
    ("attention", re.compile(r'custom_call_target="__cudnn\$fmha')),
    ("product", re.compile(r'custom_call_target="__cublas|"__triton(_nested)?_gemm')),
    ("fusion", re.compile(r" fusion\(")),
)
"""Of a GPU's kernels, by the instructions that start them."""
_STARTS_NOTHING = re.compile(
    "parameter|get-tuple-element|tuple|bitcast|constant|partition-id|replica-id|after-all|"
    "opt-barrier|[a-z-]+-done"
)


@dataclasses.dataclass(frozen=True)
class Program:
    """What the compiler says of one program, in bytes on each device."""

    name: str
    fits: bool
    needed: float  # all of it; of a TPU's program that doesn't fit, of the temporaries alone
    available: float | None  # of the device, where the compiler has said so, or it is a GPU
    arguments: int = 0
    temporaries: int = 0
    collectives: tuple[tuple[str, tuple[int, ...], bool], ...] = ()
    """(kind, elements of each array that it gives, whether it stands in a loop)."""
    host_transfers: int = 0
    kernels: tuple[tuple[str, int], ...] = ()
    """Of a GPU: (kind, how many a call starts, loops counted as often as they run)."""


@dataclasses.dataclass(frozen=True)
class Advice:
    """What would make a step fit that doesn't."""

    options: str | None  # of the command line, tried and found to fit
    needed: float
    largest_batch: int | None  # with the options as they are


def absent_mesh(topology: Topology, shape: MeshShape = ALL_DATA) -> Mesh:
    """A mesh of devices that aren't there.

    Raises:
      UsageError: the compiler for them is missing, or knows no such devices.
    """
    return make_mesh(_tpus(topology) if topology.is_tpu else _gpus(topology), shape)


def _tpus(topology: Topology) -> list[jax.Device]:
    try:
        with quiet():
            found = topologies.get_topology_desc(platform="tpu", topology_name=topology.name)
    except Exception as error:  # of many kinds: no plugin, no such topology
        if "not installed" in str(error) or importlib.util.find_spec("libtpu") is None:
            raise UsageError(
                "--compile: libtpu is needed to compile for TPUs (no TPU is): "
                "pip install -e '.[tpu]' (Linux on x86)"
            ) from error
        raise UsageError(
            f"--topology: {topology.name}: libtpu knows no such slice: {one_line(error)[:200]}"
        ) from error
    return list(found.devices)


def _gpus(topology: Topology) -> list[jax.Device]:
    chip = topology.chip
    try:
        with quiet():
            found = topologies.get_topology_desc(
                platform="cuda",
                topology=f"1x1x{topology.devices}",  # slices, hosts of each, devices of each
                target_config=describe_gpu(chip),
            )
    except NotImplementedError as error:  # no plugin
        raise UsageError(
            "--compile: jax's plugin for CUDA is needed to compile for GPUs (no GPU is): "
            "pip install -e '.[gpu]' (Linux)"
        ) from error
    if float(chip.capability) < 7.5 and importlib.util.find_spec("jax_plugins.xla_cuda12") is None:
        raise UsageError(
            f"--compile: CUDA 13 has no compiler for {chip.name} (compute capability "
            f"{chip.capability}): pip install 'jax[cuda12]' instead of jax[cuda13], or leave "
            "--compile out"
        )
    return list(found.devices)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps away what C++ writes to standard error, page after page."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def compile_step(experiment: Experiment, num_ids: int, mesh: Mesh) -> Program:
    """The training step; `num_ids` is the number of puzzle ids, the blank one counted."""
    trained, state, shardings = _state(experiment, num_ids, mesh)
    step, data = compile_train_step(trained, mesh, shardings), experiment.data
    batch = abstract_batch(
        experiment.method, data.boards, data.vocabulary.mask, experiment.train.batch_size
    )
    return _compile(
        "training step", lambda: step.lower(state, _split(batch, mesh)), _gpu_memory(mesh)
    )


def compile_evaluation(experiment: Experiment, num_ids: int, mesh: Mesh) -> Program:
    """The answering of one batch of candidates."""
    trained, state, shardings = _state(experiment, num_ids, mesh)
    data, evaluate, (height, width) = (
        experiment.data,
        experiment.evaluate,
        experiment.data.boards[-1],
    )
    run = compile_answer(
        experiment.method,
        data,
        trained.network,
        mesh,
        shardings,
        test=evaluate,
        seed=experiment.seed,
    )
    batch = _split(abstract_candidates(evaluate.batch_size, height * width), mesh)
    return _compile("evaluation", lambda: run.lower(state, batch), _gpu_memory(mesh))


def _gpu_memory(mesh: Mesh) -> float | None:
    """Bytes of a GPU that jax takes; None of other devices."""
    device = mesh.devices.flat[0]
    return GPU_SHARE * CHIPS[device.device_kind].memory if device.platform == "gpu" else None


def _state(
    experiment: Experiment, num_ids: int, mesh: Mesh
) -> tuple[Trained, TrainState, TrainState]:
    """What is trained; shapes and types of a state, and its shardings."""
    trained = trained_parts(experiment, platform_of(mesh))
    make_state = state_maker(trained, experiment.seed, num_ids)
    shardings = state_shardings(jax.eval_shape(make_state), mesh)
    return trained, abstract_state(make_state, shardings), shardings


def _split(batch: dict[str, jax.ShapeDtypeStruct], mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    sharding = placed(mesh, "batch")
    return {k: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for k, x in batch.items()}


def _compile(name: str, lower: Callable[[], Any], gpu_memory: float | None = None) -> Program:
    """Args: gpu_memory: bytes that a program may use; None: not of a GPU."""
    try:
        with quiet():
            compiled = lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise InputError(f"--compile: the {name} can't be compiled: {error}") from error
        sizes = [float(n) * _UNITS[unit] for n, unit in re.findall(r"([\d.]+)([KMGT])", str(error))]
        needed, available = (*sizes[:2], None, None)[:2]
        return Program(name, False, needed or math.inf, available)
    memory, text = compiled.memory_analysis(), compiled.as_text()
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    needed += memory.generated_code_size_in_bytes
    needed += memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Program(
        name,
        gpu_memory is None or needed <= gpu_memory,  # a GPU's compiler refuses nothing
        needed,
        gpu_memory,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        tuple(collectives(text)),
        len(_HOST.findall(text)),
        () if gpu_memory is None else tuple(kernels(text).items()),
    )


def collectives(text: str) -> list[tuple[str, tuple[int, ...], bool]]:
    """(kind, elements of each array that it gives, whether it stands in a loop), of a program.

    Args:
      text: a compiled program's own.
    """
    found, bodies, calls, here, parts = [], set(), {}, "", set()
    for line in text.splitlines():
        begins = _BEGINS.match(line)
        if begins:
            here, in_entry = begins[2], bool(begins[1])
        bodies |= set(re.findall(r"(?:body|condition)=(%[\w.-]+)", line))
        calls.setdefault(here, set()).update(_CALLED.findall(line))
        match = _COLLECTIVE.search(line)
        if match:
            shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
            sizes = tuple(math.prod(int(n) for n in shape.split(",") if n) for shape in shapes)
            # A TPU spreads one over several fusions, to compute meanwhile; each of them names it.
            part = (match[2], sizes, *re.findall(r"channel_id=\d+", line))
            if in_entry or part not in parts:
                found.append((here, match[2], sizes))
            if not in_entry:
                parts.add(part)
    in_loops, todo = set(), list(bodies)
    while todo:
        name = todo.pop()
        if name not in in_loops:
            in_loops.add(name)
            todo += calls.get(name, ())
    return [(kind, sizes, where in in_loops) for where, kind, sizes in found]


def kernels(text: str) -> dict[str, int]:
    """Kernels of a GPU that one call of a program starts, by kind: attention, product (of
    matrices), fusion, communication, other. About: a custom call may start several.

    Args:
      text: a compiled program's own.
    """
    lines: dict[str, list[str]] = {}
    entry = here = ""
    for line in text.splitlines():
        begins = _BEGINS.match(line)
        if begins:
            here = begins[2]
            entry = here if begins[1] else entry
        elif here:
            lines.setdefault(here, []).append(line)
    found = dict.fromkeys(("attention", "product", "fusion", "communication", "other"), 0)
    todo = [(entry, 1)]
    while todo:
        name, times = todo.pop()
        for line in lines.get(name, ()):
            starts = re.search(r" = .*? ([a-z][\w-]*)\(", line)
            if starts is None or _STARTS_NOTHING.fullmatch(starts[1]):
                continue
            if starts[1] == "while":
                trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
                body = re.search(r"body=(%[\w.-]+)", line)[1]
                todo.append((body, times * int(trips[1] if trips else 1)))
            elif starts[1] in ("call", "conditional", "async-start"):
                todo += [(one, times) for one in _CALLED.findall(line)]
            else:
                found[_kind_of_kernel(line)] += times
    return {kind: count for kind, count in found.items() if count}


def _kind_of_kernel(line: str) -> str:
    if _COLLECTIVE.search(line):
        return "communication"
    return next((kind for kind, pattern in _KINDS if pattern.search(line)), "other")


# --- what would fit ------------------------------------------------------------------------------
def advise(
    experiment: Experiment, num_ids: int, mesh: Mesh, failed: Program, say: Callable[[str], None]
) -> Advice:
    """What would make a training step fit: options that were compiled and do; the largest batch."""
    part = experiment.train.batch_size // mesh.size
    for options, changed in _less_memory(experiment, platform_of(mesh)):
        if part % changed.train.least_parts:
            continue
        say(f"Trying {options}")
        program = compile_step(changed, num_ids, mesh)
        if _safely(program, failed):
            break
    else:
        options, program = None, failed
    return Advice(options, program.needed, _largest_batch(experiment, num_ids, mesh, failed, say))


def _safely(program: Program, failed: Program) -> bool:
    """Whether it fits by its own figures too: the compiler takes some that add up to more."""
    return program.fits and program.needed <= (failed.available or math.inf)


def _less_memory(experiment: Experiment, platform: str) -> Iterator[tuple[str, Experiment]]:
    """Options of the command line that save memory, the fastest first; the experiment with them."""
    parts, model = experiment.train.least_parts, experiment.model
    models = list(model.less_memory(platform))
    last = models[-1] if models else ("", model)
    tries = [(*one, parts) for one in models]
    tries += [(*last, 2**n) for n in range(1, 8) if 2**n > parts]
    for option, changed, accumulate in tries:
        options = [option] if option else []
        options += [f"--train.accumulate {accumulate}"] if accumulate > 1 else []
        train = dataclasses.replace(experiment.train, accumulate=accumulate)
        yield " ".join(options), dataclasses.replace(experiment, model=changed, train=train)


def _largest_batch(
    experiment: Experiment, num_ids: int, mesh: Mesh, failed: Program, say: Callable[[str], None]
) -> int | None:
    """The largest batch that compiles, found by halves; None where not even one example a part."""
    unit = mesh.size * experiment.train.least_parts

    def fits(parts: int) -> bool:
        say(f"Trying --train.batch-size {parts * unit}")
        train = dataclasses.replace(experiment.train, batch_size=parts * unit)
        program = compile_step(dataclasses.replace(experiment, train=train), num_ids, mesh)
        return _safely(program, failed)

    low, high = 0, experiment.train.batch_size // unit  # fits; doesn't
    if failed.available:  # memory grows about as the batch: most of the search is saved
        guess = int(high * failed.available / failed.needed)
        if 0 < guess < high:
            low, high = (guess, high) if fits(guess) else (low, guess)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * unit or None
