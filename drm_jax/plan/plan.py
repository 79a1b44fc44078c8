"""`drm plan`: what a run would need on accelerators that one doesn't have.

Experiment, Topology -> bytes of each part of the state, FLOPs, bytes sent, times    by arithmetic
                     -> the compiler's own figures (run.ahead)                       with --compile
"""

import contextlib
import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from drm_jax.config import Experiment
from drm_jax.data.evaluation import evaluation_rows, first_windows
from drm_jax.data.windows import pair_windows, window_shares
from drm_jax.evaluate.score import abstract_candidates
from drm_jax.methods.objectives import abstract_batch, trains_answers
from drm_jax.model.attention import flash_blocks
from drm_jax.model.layers import swiglu_width
from drm_jax.model.network import attention_form, make_network
from drm_jax.plan import ahead
from drm_jax.plan.chips import Topology
from drm_jax.plan.flops import Flops, count_flops
from drm_jax.puzzles.arc.tasks import training_pairs
from drm_jax.run.setup import check_split, load_puzzles
from drm_jax.train.state import init_state
from drm_jax.train.step import make_optimizer

UTILISATIONS = (0.2, 0.4, 0.6)
_SPLIT = ("table", "carry", "batch", "candidates")


@dataclasses.dataclass(frozen=True)
class Sent:
    """One kind of communication, once a step."""

    kind: str
    what: str
    payload: float  # bytes of the whole array
    sent: float  # bytes that each device sends, in a ring


@dataclasses.dataclass(frozen=True)
class Pace:
    """At a share of the chips' peak."""

    utilisation: float
    examples_per_second: float
    step_seconds: float
    days: float  # of training, without evaluations
    evaluation_hours: float  # of one evaluation


@dataclasses.dataclass(frozen=True)
class Window:
    """How many examples stand on a window of the canvas, as shares."""

    side: int
    of_training: float
    of_evaluation: float  # where candidates are answered first


@dataclasses.dataclass(frozen=True)
class Plan:
    """Bytes and FLOPs as floats; times in seconds unless said."""

    experiment: str
    topology: str
    devices: int
    chip: dict[str, Any]
    dtype: str
    attention: str | None
    """plain, blocks, flash or cudnn; None: the mixer has none."""
    parameters: int
    puzzle_ids: int
    candidates: int
    windows: tuple[Window, ...]
    """Of the canvas; FLOPs and traffic below are means over them. One where canvas is a number."""
    epochs: float
    device_bytes: dict[str, int]
    """On each device: params, constants, opt_state, ema, table, carry, batch, …"""
    state_bytes: int
    """On each device, all of the state; the batch and activations come on top."""
    train_flops: float  # an example
    again_share: float  # of it, computed again in the backward pass
    evaluate_flops: float  # a candidate
    step_flops: float
    compute_seconds: float  # of a step, at the peak
    traffic_bytes: float  # of a step and device, to and from memory, at least
    memory_seconds: float
    scores_share: float  # of the traffic that is attention's scores
    padded_tokens: int  # a mean too
    padding_share: float  # of the scores' traffic that is padding
    unit_share: float  # of the multiplying unit that attention's products fill
    sent: tuple[Sent, ...]
    link_seconds: float
    paces: tuple[Pace, ...]
    fastest: Pace
    """At the roofline: at most at that share of the peak, as the program is."""


def make_plan(experiment: Experiment, topology: Topology) -> Plan:
    """The plan of a run, by arithmetic: nothing is computed on a device.

    Raises:
      UsageError: the batches can't be split over so many devices.
      InputError: a source of tasks is wrong.
    """
    chip, devices = topology.chip, topology.devices
    check_split(experiment, devices)
    tasks, ids = load_puzzles(experiment)
    platform = "tpu" if topology.is_tpu else "gpu"
    network, optimizer = make_network(experiment, platform), make_optimizer(experiment)
    form = attention_form(experiment, platform)
    state = jax.eval_shape(lambda: init_state(experiment, network, optimizer, len(ids)))
    train = experiment.train
    parts = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    parts |= {"batch": abstract_batch(experiment), "candidates": abstract_candidates(experiment)}
    device_bytes = {
        name: _bytes(part) // (devices if name in _SPLIT else 1) for name, part in parts.items()
    }
    state_bytes = sum(size for name, size in device_bytes.items() if name in _fields(state))
    rows = evaluation_rows(tasks, ids, experiment.evaluate.num_augmentations)
    pairs, sides = [pair for task in tasks for pair in training_pairs(task)], experiment.data.sides
    of_training = window_shares(pair_windows(pairs, sides), sides)
    of_evaluation = window_shares(first_windows(tasks, rows, sides), sides)
    flops = _mean_flops(experiment, form, of_training, of_evaluation)
    step_flops = flops.train * train.batch_size
    step_flops += devices * 2 * train.batch_size**2 * experiment.model.hidden  # rows of equal ids
    traffic, scores, padded = (
        _mean(of_training, column)
        for column in zip(
            *(
                _traffic(experiment, side, form, network.dtype.itemsize, chip.lanes)
                for side in sides
            ),
            strict=True,
        )
    )
    tokens = experiment.model.prefix + _mean(of_training, [side**2 for side in sides])
    head = experiment.model.hidden // experiment.model.heads
    compute = step_flops / devices / chip.flops
    sent = _communication(experiment, state, devices)
    scores_share, traffic = scores / traffic, traffic * train.batch_size / devices
    memory = traffic / chip.bandwidth

    def pace(share: float) -> Pace:
        seconds = compute / share
        evaluation = len(rows) * flops.evaluate / (share * devices * chip.flops)
        days = train.steps * seconds / 86400
        return Pace(share, train.batch_size / seconds, seconds, days, evaluation / 3600)

    return Plan(
        experiment=experiment.name,
        topology=topology.name,
        devices=devices,
        chip=dataclasses.asdict(chip),
        dtype=network.dtype.name,
        attention=form if experiment.model.mixer == "attention" else None,
        parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(state.params)),
        puzzle_ids=len(ids) - 1,
        candidates=len(rows),
        windows=tuple(map(Window, sides, of_training, of_evaluation)),
        epochs=train.steps * train.batch_size / len(pairs),
        device_bytes=device_bytes,
        state_bytes=state_bytes,
        train_flops=flops.train,
        again_share=flops.again / flops.train,
        evaluate_flops=flops.evaluate,
        step_flops=step_flops,
        compute_seconds=compute,
        traffic_bytes=traffic,
        memory_seconds=memory,
        scores_share=scores_share,
        padded_tokens=round(padded),
        padding_share=1 - tokens / padded,
        unit_share=min(1.0, head / chip.unit),
        sent=sent,
        link_seconds=sum(item.sent for item in sent) / (chip.link / 2),
        paces=tuple(map(pace, UTILISATIONS)),
        fastest=pace(compute / max(compute, memory)),
    )


def _fields(state: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(state)}


def _bytes(tree: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _mean(shares: Sequence[float], values: Sequence[float]) -> float:
    return sum(share * value for share, value in zip(shares, values, strict=True))


def _mean_flops(
    experiment: Experiment,
    form: str,
    of_training: Sequence[float],
    of_evaluation: Sequence[float],
) -> Flops:
    """FLOPs of the mean example over windows, given their shares."""
    each = [count_flops(experiment, side, form) for side in experiment.data.sides]
    return Flops(
        train=_mean(of_training, [flops.train for flops in each]),
        again=_mean(of_training, [flops.again for flops in each]),
        evaluate=_mean(of_evaluation, [flops.evaluate for flops in each]),
    )


def _traffic(
    experiment: Experiment, side: int, form: str, size: int, lanes: int
) -> tuple[float, float, int]:
    """(bytes an example to and from memory, those of the scores, padded tokens), at the least.

    As if what stands between two products were one program: each product reads its operands and
    writes its result once. A backward pass moves twice as much as a forward one.

    Args:
      side: of the canvas or window.
      form: of attention; the scores of flash and cudnn stay on the chip.
      size: bytes of a number of the compute type.
    """
    model = experiment.model
    tokens = model.prefix + side**2
    padded = -(-tokens // lanes) * lanes
    inner = swiglu_width(model.hidden, model.expansion, model.swiglu_multiple)
    # norms 6, gate_up and down 2, qkv 4, rotary 4, attention 4, out 2; gate_up 2, silu 3, down 1
    of_layer = tokens * size * (22 * model.hidden + 6 * inner)
    scores = sums = 0.0
    if model.mixer == "attention" and form in ("flash", "cudnn"):
        if form == "flash":
            padded = flash_blocks(tokens)[1]
        # q, k, v and the result as the kernel takes and gives them, tokens and heads padded
        head = model.hidden // model.heads
        numbers = model.heads * padded * -(-head // lanes) * lanes
        of_layer += 4 * size * (numbers - tokens * model.hidden)
        # the logs of the sums in float32, written for all lanes and read, where a gradient follows
        sums = 2 * 4.0 * model.heads * padded * lanes
    elif model.mixer == "attention":
        # float32 scores out and in, then their weights out and in
        scores = model.heads * tokens * padded * 2.0 * (4 + size)
    else:
        of_layer *= 2
    blocks = model.cycles * (model.inner_steps + 1)
    window = model.grad_cycles * (model.inner_steps + 1)
    if experiment.objective == "diffusion":
        blocks = window = 1
    again = {"none": (0, 0), "attention": (0, 1), "layer": (1, 1)}[model.remat]
    layers = model.layers * (blocks + 2 * window)
    more = model.layers * window
    all_scores = scores * (layers + again[1] * more)
    whole = of_layer * (layers + again[0] * more) + all_scores + sums * (1 + again[0]) * more
    return whole, all_scores, padded


def _communication(experiment: Experiment, state: Any, devices: int) -> tuple[Sent, ...]:
    """What a step sends, by kind: the gradient once, batch-sized rows, and scalars."""
    ring = (devices - 1) / devices
    params = dict(state.params)
    if not trains_answers(experiment):
        params.pop("embed_answers")  # it has no gradient
    count, width = experiment.train.batch_size, experiment.model.hidden
    rows, ids = 4.0 * count * width, 4.0 * count
    gradient = float(_bytes(params))
    sent = [
        Sent("all-reduce", "gradient of the network", gradient, 2 * ring * gradient),
        Sent("reduce-scatter", "puzzle rows of the batch", rows, ring * rows),
        Sent("all-gather", "their gradients", rows, ring * rows),
        Sent("all-gather", "puzzle ids, twice", 2 * ids, 2 * ring * ids),
    ]
    if experiment.objective == "sprm":
        spread = 4 * 4.0 * width
        sent.append(Sent("all-reduce", "mean and spread of latents", spread, 2 * ring * spread))
    return tuple(sent)


# --- the command ---------------------------------------------------------------------------------
def plan(
    experiment: Experiment, topology: Topology, console: Console, *, compiles: bool, as_json: bool
) -> int:
    """Prints a plan; returns the exit code: 1 where a compiled program doesn't fit.

    Raises:
      UsageError, InputError: see `make_plan` and `ahead.tpu_mesh`.
    """
    mesh = ahead.tpu_mesh(topology) if compiles else None  # what fails at once comes first
    made = make_plan(experiment, topology)
    if not as_json:
        show(made, console)
    programs, advice = [], None
    if mesh is not None:
        say = functools.partial(_say, console if not as_json else Console(quiet=True))
        num_ids = made.puzzle_ids + 1
        with console.status("") if not as_json else contextlib.nullcontext():
            for name, compiler in _COMPILERS.items():
                say(f"Compiling the {name} for {topology.name}")
                programs.append(compiler(experiment, num_ids, mesh))
                if not as_json:
                    for line in describe_program(programs[-1], made):
                        _say(console, line)
            if not programs[0].fits:
                advice = ahead.advise(experiment, num_ids, mesh, programs[0], say)
    if as_json:
        found = [dataclasses.asdict(program) for program in programs]
        whole = dataclasses.asdict(made) | {"programs": found}
        whole["advice"] = None if advice is None else dataclasses.asdict(advice)
        print(json.dumps(whole, indent=2))
    elif advice is not None:
        for line in describe_advice(advice, experiment):
            _say(console, line)
    return 0 if all(program.fits for program in programs) else 1


_COMPILERS = {"training step": ahead.compile_step, "evaluation": ahead.compile_evaluation}


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False)


def describe_program(program: ahead.Program, made: Plan) -> list[str]:
    """What the compiler says of a program."""
    if not program.fits:
        available = f" of {_gib(program.available)}" if program.available else ""
        return [
            f"{program.name.capitalize()}: does not fit: activations alone need "
            f"{_gib(program.needed)}{available} a device"
        ]
    kinds: dict[str, int] = {}
    for kind, _, _ in program.collectives:
        kinds[kind] = kinds.get(kind, 0) + 1
    in_loops = sum(in_loop for _, _, in_loop in program.collectives)
    counted = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())) or "nothing"
    nominal = made.chip["memory"] * 2**30 / 1e9
    doubt = ""
    if program.needed > nominal:
        doubt = f" (more than {_gib(nominal)}, though the compiler takes it: don't rely on it)"
    return [
        f"{program.name.capitalize()}: fits: {_gib(program.needed)} a device{doubt}, of which "
        f"{_gib(program.temporaries)} activations and {program.arguments / 1e6:,.1f} MB arguments; "
        f"sent between devices: {counted}; in loops: {in_loops}; to the host: "
        f"{program.host_transfers}"
    ]


def describe_advice(advice: ahead.Advice, experiment: Experiment) -> list[str]:
    lines = []
    if advice.options:
        lines.append(f"It fits with {advice.options}: {_gib(advice.needed)} a device")
    else:
        lines.append("No remat and no accumulation makes it fit: use more devices")
    if advice.largest_batch:
        lines.append(
            f"As it is, the largest batch that fits is {advice.largest_batch} "
            f"(--train.batch-size; the experiment's is {experiment.train.batch_size})"
        )
    return lines


def _gib(size: float) -> str:
    return f"{size / 2**30:,.2f} GiB"


# --- for people ----------------------------------------------------------------------------------
def show(plan: Plan, console: Console) -> None:
    """Prints a plan."""
    chip = plan.chip
    say = functools.partial(_say, console)
    say(
        f"{plan.experiment} on {plan.topology}: {plan.devices} x {chip['name']}, each "
        f"{chip['flops'] / 1e12:,.0f} TFLOP/s, {chip['memory'] / 1e9:,.0f} GB at "
        f"{chip['bandwidth'] / 1e9:,.0f} GB/s, {chip['link'] / 1e9:,.0f} GB/s to others "
        f"({chip['source']})"
    )
    sizes = ", ".join(
        f"{_NAMES.get(name, name)} {size / 1e6:,.1f}"
        for name, size in plan.device_bytes.items()
        if size >= 5e4
    )
    slower = "" if plan.dtype == "bfloat16" else ", slower than the peak, which is of bfloat16"
    say(
        f"Network: {plan.parameters:,} parameters, {plan.dtype} products{slower}; "
        f"{plan.puzzle_ids:,} puzzle ids"
    )
    say(
        f"Memory of a device, MB: {sizes}; state {plan.state_bytes / 1e6:,.1f} in all. Activations "
        f"come on top{': --compile tells' if chip['dimensions'] else ''}"
    )
    if len(plan.windows) > 1:
        shares = ", ".join(
            f"{w.side} x {w.side} {w.of_training:.0%} and {w.of_evaluation:.0%}"
            for w in plan.windows
        )
        say(
            f"Windows, by their share of training and of evaluation: {shares}. What follows is of "
            "the mean over them; batches of the largest take the most memory"
        )
    again = f", {plan.again_share:.0%} of it computed again" if plan.again_share else ""
    say(
        f"A step: {plan.step_flops:.2e} FLOPs, {plan.train_flops:.2e} an example{again}; a "
        f"candidate of an evaluation {plan.evaluate_flops:.2e}"
    )
    table = Table(title=f"{plan.epochs:,.0f} epochs, by the share of the peak that is reached")
    for name in ("utilisation", "examples/s", "ms a step", "days", "hours an evaluation"):
        table.add_column(name, justify="right")
    most = plan.fastest.utilisation
    for pace in sorted((*plan.paces, plan.fastest), key=lambda pace: pace.utilisation):
        mark = " roofline" if pace is plan.fastest else " *" if pace.utilisation > most else ""
        table.add_row(
            f"{pace.utilisation:.0%}{mark}",
            f"{pace.examples_per_second:,.0f}",
            f"{1e3 * pace.step_seconds:,.0f}",
            f"{pace.days:,.2f}",
            f"{pace.evaluation_hours:,.2f}",
        )
    console.print(table)
    if any(pace.utilisation > most for pace in plan.paces):
        say("* above the roofline of the program as it is")
    for line in roofline(plan):
        say(line)
    for item in plan.sent:
        say(
            f"  {item.kind} of {item.what}: {item.payload / 1e6:,.2f} MB, each device sends "
            f"{item.sent / 1e6:,.2f}"
        )


_NAMES = {
    "params": "network",
    "opt_state": "moments",
    "ema": "average",
    "table": "puzzle table",
    "carry": "carried slots",
    "candidates": "candidates of an evaluation",
}


def roofline(plan: Plan) -> list[str]:
    """What bounds a step, and what attention and padding cost; one text each."""
    compute, memory = plan.compute_seconds, plan.memory_seconds
    bound = (
        f"memory bounds it: at most {plan.fastest.utilisation:.0%} of the peak"
        if memory > compute
        else "products bound it"
    )
    lines = [
        f"Roofline: products {1e3 * compute:,.0f} ms a step at the peak; memory "
        f"{1e3 * memory:,.0f} ms for {plan.traffic_bytes / 1e9:,.0f} GB: {bound}"
    ]
    if plan.scores_share:
        without = max(compute, memory * (1 - plan.scores_share))
        lines.append(
            f"  attention's scores are {plan.scores_share:.0%} of that traffic; kept on the chip "
            f"(flash attention) the bound would be {1e3 * without:,.0f} ms"
        )
    on_chip = plan.attention in ("flash", "cudnn")
    if on_chip:
        lines.append(f"  attention's scores stay on the chip (model.attention: {plan.attention})")
    if plan.attention and plan.padding_share:
        tokens = round(plan.padded_tokens * (1 - plan.padding_share))
        more = (plan.padded_tokens / tokens) ** 2 - 1
        lines.append(
            f"  {tokens} tokens are padded to {plan.padded_tokens} along "
            + (
                f"both axes of the scores: {more:.0%} more of them than counted above"
                if on_chip
                else f"one axis of the scores: {plan.padding_share:.0%} of them is padding"
            )
        )
    if plan.attention and plan.unit_share < 1:
        lines.append(
            f"  heads fill {plan.unit_share:.0%} of the {plan.chip['unit']}-wide unit that "
            "multiplies matrices: attention's products take that much longer"
        )
    lines.append(f"Sent in a step: {1e3 * plan.link_seconds:,.2f} ms at half of the links' peak")
    return lines
