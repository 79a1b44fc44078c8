"""`drm show`: a task, or how a run answered it, in the terminal and as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from rich.console import Console

from drm_jax.errors import InputError
from drm_jax.evaluate.answers import ANSWERS, read_answers, read_trajectories, unpack
from drm_jax.evaluate.pictures import Row, denoising, image, png, task_rows, terminal_row
from drm_jax.io.files import write_whole
from drm_jax.puzzles.family import Vocabulary
from drm_jax.report.collect import SHOWN_PATHS, evaluation_of
from drm_jax.run.workdir import read_config


def show_task(
    task: Mapping[str, Any],
    vocabulary: Vocabulary,
    console: Console,
    png_path: epath.Path | None = None,
) -> None:
    """Prints a task: its demonstrations, its test inputs, and their outputs where they are known.

    Args:
      task: as one of `evaluate.answers.Answers.tasks`; answers aren't needed.
    """
    console.print(f"Task {task['id']} of {task['source']}")
    _put(task_rows(task, vocabulary), vocabulary, console, png_path)


def show_denoising(
    workdir: epath.Path,
    task_id: str,
    console: Console,
    *,
    step: int | None = None,
    png_path: epath.Path | None = None,
) -> None:
    """Prints how the candidates of a task that an evaluation has kept were denoised.

    Args:
      step: of the evaluation; the newest one where None.

    Raises:
      InputError: nothing was evaluated, or not this task; or no denoising of it was kept.
    """
    family = read_config(workdir).data
    folder = evaluation_of(workdir, [] if step is None else [step])
    answers = read_answers(folder, family.vocabulary)
    if answers.task(task_id) is None:
        raise InputError(
            f"{task_id}: not among the {len(answers.tasks)} tasks of {folder / ANSWERS}"
        )
    kept = read_trajectories(folder, answers, family.vocabulary)
    found = [packed for packed in kept if packed.task == task_id]
    if not found:
        raise InputError(
            f"{folder}: no denoising of {task_id} was kept: drm eval {workdir} --step "
            f"{answers.steps[-1]} --trajectories selected"
        )
    steps = "what each step began from (░ masked)"
    if found[0].levels_N[0] < 0:  # they begin from latents, not a grid
        steps = "the answer after each step"
    ends = "; │ ends a grid" if family.vocabulary.first > 1 else ""
    console.print(f"Task {task_id} at step {answers.steps[-1]}: {steps}{ends}")
    rows = [denoising(unpack(packed), family) for packed in found[:SHOWN_PATHS]]
    _put(rows, family.vocabulary, console, png_path)
    if len(found) > SHOWN_PATHS:
        console.print(f"\nand {len(found) - SHOWN_PATHS} more candidates, which were kept too")


def _put(
    rows: Sequence[Row], vocabulary: Vocabulary, console: Console, png_path: epath.Path | None
) -> None:
    for row in rows:
        console.print()
        console.print(terminal_row(row, vocabulary, console.width))
    if png_path is not None:
        write_whole(png_path, png(image(rows, vocabulary)))
        console.print(f"\nWritten: {png_path}", soft_wrap=True)
