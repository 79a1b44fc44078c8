"""`drm show`: a task, or how a run answered it, in the terminal and as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from rich.console import Console

from drm_jax.errors import InputError
from drm_jax.evaluate.answers import (
    ANSWERS,
    Answers,
    Packed,
    read_answers,
    read_trajectories,
    unpack,
)
from drm_jax.evaluate.files import settings_in
from drm_jax.evaluate.pictures import (
    Row,
    answer_rows,
    image,
    legend,
    png,
    task_rows,
    terminal_legend,
    terminal_row,
)
from drm_jax.io.files import write_whole
from drm_jax.puzzles.family import Family
from drm_jax.report.collect import SHOWN_PATHS, evaluation_of, of_one_evaluation
from drm_jax.run.workdir import read_config
from drm_jax.words import counted


def show_task(
    task: Mapping[str, Any],
    family: Family,
    console: Console,
    png_path: epath.Path | None = None,
) -> None:
    """Prints a task: its demonstrations, its test inputs, and their outputs where they are known.

    Args:
      task: as one of `evaluate.answers.Answers.tasks`; answers aren't needed.
    """
    console.print(f"Task {task['id']} of {task['source']}", soft_wrap=True)
    _put(task_rows(task, family), family, console, png_path)


def show_denoising(
    workdir: epath.Path,
    task_id: str,
    console: Console,
    *,
    step: int | None = None,
    png_path: epath.Path | None = None,
) -> None:
    """Prints the attempts at each test input of a task, and below them how the candidates were
    denoised that an evaluation has kept.

    Args:
      step: of the evaluation; the newest one where None.

    Raises:
      InputError: nothing was evaluated, or not this task.
    """
    family = read_config(workdir).data
    folder = evaluation_of(workdir, [] if step is None else [step])

    def read() -> tuple[Answers, list[Packed]]:
        answers = read_answers(folder, family.vocabulary)
        return answers, read_trajectories(folder, answers, family.vocabulary)

    answers, kept = of_one_evaluation(folder, read)
    task = answers.task(task_id)
    if task is None:
        raise InputError(
            f"{task_id}: not among the {counted(len(answers.tasks), 'task')} of {folder / ANSWERS}"
        )
    found = [unpack(packed) for packed in kept if packed.task == task_id]
    shown = found[:SHOWN_PATHS]
    settings = settings_in(folder)
    levels = [str(test["difficulty"]) for test in task["tests"] if "difficulty" in test]
    console.print(
        f"Task {task_id} at step {answers.steps[-1]}"
        f"{f', {family.difficulty}: ' if levels else ''}{', '.join(levels)}"
        f"{f', with other settings than the run: {settings}' if settings else ''}",
        soft_wrap=True,
    )
    for line in terminal_legend(answers, shown, family):
        console.print(line, style="dim")
    rows = [
        row
        for number in range(len(task["tests"]))
        for row in answer_rows(task, number, [of for of in shown if of.test == number], family)
    ]
    _put(rows, family, console, png_path, legend(answers, shown, family))
    if len(found) > len(shown):
        console.print(f"\nand {counted(len(found) - len(shown), 'more candidate')}, kept too")
    if not found:
        console.print(
            f"\nNo denoising of it was kept: drm eval {workdir} --step {answers.steps[-1]} "
            "--trajectories selected",
            soft_wrap=True,
        )


def _put(
    rows: Sequence[Row],
    family: Family,
    console: Console,
    png_path: epath.Path | None,
    lines_above: Sequence[str] = (),
) -> None:
    for row in rows:
        console.print()
        console.print(terminal_row(row, family, console.width))
    if png_path is not None:
        write_whole(png_path, png(image(rows, family, legend=lines_above)))
        console.print(f"\nWritten: {png_path}", soft_wrap=True)
