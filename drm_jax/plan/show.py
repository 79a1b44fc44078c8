"""A plan, and what the compiler says, for people."""

from rich.console import Console
from rich.table import Table

from drm_jax.config import Experiment
from drm_jax.plan.ahead import GPU_SHARE, Advice, Program
from drm_jax.plan.plan import Plan
from drm_jax.words import counted


def show(plan: Plan, console: Console) -> None:
    """Prints a plan."""
    for line in (*_state_lines(plan), *_step_lines(plan)):
        say(console, line)
    console.print(_pace_table(plan))
    if any(pace.utilisation > plan.fastest.utilisation for pace in plan.paces):
        say(console, "* above the roofline of the program as it is")
    for line in roofline(plan):
        say(console, line)
    for item in plan.sent:
        say(
            console,
            f"  {item.kind} of {item.what}: {item.payload / 1e6:,.2f} MB, each device sends "
            f"{item.sent / 1e6:,.2f}",
        )


def say(console: Console, text: str) -> None:
    """Prints one line, however long."""
    console.print(text, soft_wrap=True, highlight=False)


def _state_lines(plan: Plan) -> list[str]:
    """The devices, the network, and memory."""
    chip = plan.chip
    sizes = ", ".join(
        f"{_NAMES.get(name, name)} {size / 1e6:,.1f}"
        for name, size in plan.device_bytes.items()
        if size >= 5e4
    )
    peak = chip["dtype"]
    slower = "" if plan.dtype == peak else f", slower than the peak, which is of {peak}"
    split = f" ({plan.mesh})" if "gathered" in plan.device_bytes else ""
    return [
        f"{plan.experiment} on {plan.topology}: {plan.devices} x {chip['name']}{split}, each "
        f"{chip['flops'] / 1e12:,.0f} TFLOP/s of {peak}, {chip['memory'] / 1e9:,.0f} GB at "
        f"{chip['bandwidth'] / 1e9:,.0f} GB/s, {chip['link'] / 1e9:,.0f} GB/s to others "
        f"({chip['source']})",
        f"Network: {plan.parameters:,} parameters, {plan.dtype} products{slower}; "
        f"{counted(plan.puzzle_ids, 'puzzle id')}",
        f"Memory of a device, MB: {sizes}; state {plan.state_bytes / 1e6:,.1f} in all. Activations "
        "come on top: --compile tells",
    ]


def _step_lines(plan: Plan) -> list[str]:
    """Windows, and what a step computes."""
    lines = []
    if len(plan.windows) > 1:
        shares = ", ".join(
            f"{w.height} x {w.width} {w.of_training:.0%} and {w.of_evaluation:.0%}"
            for w in plan.windows
        )
        lines.append(
            f"Windows, by their share of training and of evaluation: {shares}. What follows is of "
            "the mean over them; batches of the largest take the most memory"
        )
    again = f", {plan.again_share:.0%} of it computed again" if plan.again_share else ""
    lines.append(
        f"A step: {plan.step_flops:.2e} FLOPs, {plan.train_flops:.2e} an example{again}; a "
        f"candidate of an evaluation {plan.evaluate_flops:.2e}"
    )
    return lines


def _pace_table(plan: Plan) -> Table:
    table = Table(
        title=f"{counted(round(plan.epochs), 'epoch')}, by the share of the peak that is reached"
    )
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
    return table


_NAMES = {
    "params": "network",
    "opt_state": "moments",
    "ema": "average",
    "table": "puzzle table",
    "carry": "carried slots",
    "candidates": "candidates of an evaluation",
    "gathered": "whole weights in a step",
    "gradients": "their gradients",
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
    if plan.scores_share and plan.chip["dtype"] == "bfloat16":  # on others no kernel does it
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


# --- what the compiler says --------------------------------------------------------------------
def describe_program(program: Program, plan: Plan) -> list[str]:
    """What the compiler says of a program."""
    on_gpu = not plan.chip["dimensions"]
    available = f" of {_gib(program.available)}" if program.available else ""
    if not program.fits:
        what = "it needs" if on_gpu else "activations alone need"
        share = f" ({_OF_GPU})" if on_gpu else ""
        return [
            f"{program.name.capitalize()}: does not fit: {what} {_gib(program.needed)}{available} "
            f"a device{share}"
        ]
    kinds: dict[str, int] = {}
    for kind, _, _ in program.collectives:
        kinds[kind] = kinds.get(kind, 0) + 1
    in_loops = sum(in_loop for _, _, in_loop in program.collectives)
    counted = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())) or "nothing"
    nominal = plan.chip["memory"] * 2**30 / 1e9
    doubt = f"{available} ({_OF_GPU})" if on_gpu else ""
    if not on_gpu and program.needed > nominal:
        doubt = f" (more than {_gib(nominal)}, though the compiler takes it: don't rely on it)"
    lines = [
        f"{program.name.capitalize()}: fits: {_gib(program.needed)} a device{doubt}, of which "
        f"{_gib(program.temporaries)} activations and {program.arguments / 1e6:,.1f} MB arguments; "
        f"sent between devices: {counted}; in loops: {in_loops}; to the host: "
        f"{program.host_transfers}"
    ]
    if program.kernels:
        counts = ", ".join(f"{n:,} {kind}" for kind, n in program.kernels)
        lines.append(f"  kernels, loops counted as often as they run: {counts}")
    if dict(program.kernels).get("attention"):
        lines.append(
            "  the scratch memory of cuDNN's attention, known to a GPU alone, is not in it"
        )
    return lines


_OF_GPU = (
    f"{GPU_SHARE:.0%} of the GPU's, as jax takes it; XLA_PYTHON_CLIENT_MEM_FRACTION changes that"
)


def describe_advice(advice: Advice, experiment: Experiment) -> list[str]:
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
