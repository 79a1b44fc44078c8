"""What drm train and drm eval print at their end."""

import os
import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console

from drm_jax.evaluate.answers import unpack
from drm_jax.evaluate.files import evaluations
from drm_jax.evaluate.pictures import terminal_legend, terminal_picture
from drm_jax.evaluate.tables import curve_table, difficulty_table, score_table, task_table
from drm_jax.methods.method import has_passes
from drm_jax.parallel import processes
from drm_jax.puzzles.fixed import FixedBoard
from drm_jax.report.write import write_report
from drm_jax.solve.weights import is_for_arc

if TYPE_CHECKING:
    from drm_jax.evaluate.curves import Curve
    from drm_jax.run.scorer import Report


def print_summary(console: Console, report: "Report", workdir: os.PathLike) -> None:
    """Scores, two grids denoising, and the paths written. Writes the report too."""
    if not report.evaluations:
        again = shlex.join(["drm", "eval", str(workdir)])
        console.print("All steps were done before. To score them again:")
        console.out(f"  {again}", highlight=False)
        return
    last = report.evaluations[-1]
    _print_denoising(console, report)
    if last.metrics["tasks"] <= 40:
        console.print(task_table(last))
    by_difficulty = difficulty_table(last)
    if by_difficulty is not None:
        console.print(by_difficulty)
    console.print(score_table(report.evaluations, report.setup.puzzles.baselines()))
    _print_remarks(console, report)
    paths = set(report.paths)
    # The page shows what the run's own settings gave.
    if processes.is_first() and not report.changed:
        paths.add(write_report([workdir], steps=last.steps))
    _print_paths(console, paths, workdir)
    data, method = report.setup.experiment.data, report.setup.experiment.method
    if is_for_arc(data) or (isinstance(data, FixedBoard) and has_passes(method)):
        console.print("\nTo pose puzzles of your own and watch its answers:")
        console.out(f"  {shlex.join(['drm', 'play', str(workdir)])}", highlight=False)


def print_curve(console: Console, curve: "Curve", report: "Report", workdir: os.PathLike) -> None:
    """The points of a curve, and the paths written. Writes the report too, if there are answers."""
    console.print(curve_table(curve))
    _print_settings(console, report)
    paths = set(report.paths)
    scored = curve.step in evaluations(workdir)
    if processes.is_first() and not report.changed and scored:
        paths.add(write_report([workdir], steps=(curve.step,)))
    _print_paths(console, paths, workdir)
    if not scored and not report.changed:
        again = shlex.join(["drm", "eval", str(workdir), "--step", str(curve.step)])
        console.print("\nA report shows it once this checkpoint is scored:")
        console.out(f"  {again}", highlight=False)


def _print_paths(console: Console, paths: Iterable[os.PathLike], workdir: os.PathLike) -> None:
    console.print(f"\nWritten to {workdir}:", soft_wrap=True)
    for path in sorted(paths, key=_order_to_open):
        console.print(f"  {path}", soft_wrap=True)


def _order_to_open(path: os.PathLike) -> tuple[bool, bool, str]:
    """What people look at comes first: the page, then the pictures."""
    name = os.fspath(path)
    return not name.endswith(".html"), not name.endswith(".png"), name


def _print_denoising(console: Console, report: "Report") -> None:
    """Two test inputs, one that is solved and one that isn't if there are: their attempts, and how
    one candidate was denoised."""
    last, family = report.evaluations[-1], report.setup.experiment.data
    pictured = [unpack(packed) for packed in last.pictured]
    if not pictured:
        return
    tasks = {of.task: last.answers.task(of.task) for of in pictured}
    ranks = [tasks[of.task]["tests"][of.test]["rank_of_truth"] for of in pictured]
    solved = [rank is not None and rank <= family.attempts for rank in ranks]
    first = [of for of, good in zip(pictured, solved, strict=True) if good]
    others = [of for of, good in zip(pictured, solved, strict=True) if not good]
    console.print()
    for line in terminal_legend(last.answers, pictured, family):
        console.print(line, style="dim")
    for trajectory in (first[:1] + others + first[1:])[:2]:
        console.print()
        task = tasks[trajectory.task]
        console.print(terminal_picture(task, trajectory, family, console.width))


def _print_settings(console: Console, report: "Report") -> None:
    """Which settings are not the run's own."""
    if report.changed:
        settings = ", ".join(f"{name}={value}" for name, value in report.changed.items())
        console.print(f"With settings that are not the run's own: {settings}.", soft_wrap=True)


def _print_remarks(console: Console, report: "Report") -> None:
    """What has to be said where the scores are quoted."""
    last = report.evaluations[-1]
    _print_settings(console, report)
    if "passes" in last.metrics:
        used, most = (last.metrics["passes"][x] for x in ("used", "without_exit"))
        console.print(f"Early exit: {used:,} passes instead of {most:,} ({used / most:.0%}).")
    if last.is_ensemble:
        console.print(
            "The last score is of an ensemble, which pools the votes of its checkpoints: say so "
            "where you quote it."
        )
    if last.metrics["best_checkpoints_selected_on_test_labels"]:
        alone = "" if last.is_ensemble else "Each score is of one checkpoint. "
        headline = report.setup.experiment.data.headline
        console.print(
            f"{alone}The best checkpoints are kept by {headline} on these "
            "labelled test inputs: to quote the best of them selects on test labels.",
            style="dim",
        )
