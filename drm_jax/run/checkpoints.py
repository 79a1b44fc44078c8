"""`drm checkpoints`: what is saved in a work directory, and whether it is intact."""

import jax
from etils import epath
from rich.console import Console
from rich.table import Table

from drm_jax.errors import InputError
from drm_jax.io import checkpoint
from drm_jax.io.metrics import read_metrics
from drm_jax.run.workdir import no_checkpoint, read_config
from drm_jax.runtime.progress import progress_bar
from drm_jax.words import bytes_in_words


def list_checkpoints(workdir: epath.Path, console: Console) -> bool:
    """Prints a line for each checkpoint; whether all of them are intact.

    Each is read whole and its checksums compared, on the first device.

    Raises:
      InputError: it is not a work directory.
    """
    headline = read_config(workdir).data.headline
    folder = checkpoint.checkpoint_folder(workdir)
    steps = checkpoint.steps_in(folder)
    lines = read_metrics(workdir)
    wrong = [
        f"{folder / name}: a save that was cut off, not counted; the next start removes it"
        for name in checkpoint.unfinished_saves(workdir)
    ]
    table = Table(title=f"Checkpoints of {workdir}")
    for name in ("step", "saved", "size", "loss", headline):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verified", no_wrap=True)
    intact = 0
    with progress_bar(console) as bar:
        task = bar.add_task("verify", total=len(steps), news=())
        for step in steps:
            fault = _fault(workdir, step)
            row = _row(folder / str(step), step, lines, headline)
            bar.advance(task)
            if not (folder / str(step)).exists():
                continue  # a run that is at work has removed it meanwhile
            intact += fault is None
            wrong += [] if fault is None else [fault]
            verified = "yes" if fault is None else "NO: damaged"
            table.add_row(*row, verified)
    console.print(table)
    scored = [x for x in lines if x["kind"] == "eval" and x["step"] in steps and "tests" in x]
    others = ", ".join(str(x["step"]) for x in scored if x["tests"] != scored[-1]["tests"])
    if others:
        console.print(
            f"The scores of steps {others} are on other tests than that of step "
            f"{scored[-1]['step']}: they can't be compared",
            soft_wrap=True,
        )
    for text in wrong:
        console.print(text, soft_wrap=True)
    if not steps:
        console.print(no_checkpoint(workdir), soft_wrap=True)
    elif not table.row_count:
        console.print("The run has deleted all of them meanwhile: give the command again")
    elif not intact:
        console.print("None is left that a start could go on from: bring one back from a copy")
    elif wrong:
        console.print("A start goes on from the newest one that is verified")
    return intact == table.row_count


def _fault(workdir: epath.Path, step: int) -> str | None:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    try:
        checkpoint.restore(
            workdir, step, lambda record: checkpoint.abstract_from_record(record, device)
        )
    except InputError as error:
        return str(error)
    return None


def _row(path: epath.Path, step: int, lines: list[dict], headline: str) -> list[str]:
    """Step, time, size, the loss of the last line up to this step, and the score of this step."""
    when = checkpoint.saved_at(path)
    losses = [x.get("loss") for x in lines if x["kind"] == "train" and x["step"] <= step]
    scores = [x for x in lines if x["kind"] == "eval" and x["step"] == step]
    loss = f"{losses[-1]:.3f}" if losses and losses[-1] is not None else ""
    score = scores[-1].get(headline) if scores else None
    return [
        str(step),
        when.strftime("%Y-%m-%d %H:%M:%S") if when else "",
        bytes_in_words(checkpoint.size_of(path)),
        loss,
        "" if score is None else f"{score:.1%}",
    ]
