"""The `drm` command.

    drm data [SOURCE ...]                       look at tasks before training on them
    drm train experiments/NAME.py [--option …]  train, evaluate, keep checkpoints; again: go on
    drm eval WORKDIR [--step N]                 score one checkpoint

jax is imported only inside the commands that compute.
"""

import argparse
import dataclasses
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from drm_jax.errors import InputError, UsageError

if TYPE_CHECKING:
    from drm_jax.config import Experiment
    from drm_jax.run.loop import Report

_TRAIN_EPILOG = """\
drm train experiments/demo.py --help lists every option with its default in that experiment, such as
  --seed 1  --train.steps 2000  --data.evaluate arc2/evaluation  --model.hidden 128
The same command again goes on from the newest checkpoint."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 1 for a failure, 2 for wrong usage."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except UsageError as error:
        return _fail(error, 2)
    except InputError as error:
        return _fail(error, 1)
    except BrokenPipeError:  # `drm data | head`: whoever read our output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail("stopped; the same command goes on from the last checkpoint", 130)


def _fail(error: object, code: int) -> int:
    print(f"drm: {error}", file=sys.stderr)
    return code


def _run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="drm",
        description="Denoising Recursion Models in JAX: train, evaluate and look at them on ARC.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    data = commands.add_parser("data", help="what a source of tasks holds, and what is wrong in it")
    data.add_argument(
        "source",
        nargs="*",
        default=["arc1", "arc2"],
        help="arc1, arc2 (or arc1/training, …), a folder of task files, a JSON file, or the PREFIX "
        "of Kaggle's PREFIX_challenges.json; arc1 and arc2 where none is named",
    )
    train = commands.add_parser(
        "train",
        help="train an experiment, or go on with it",
        epilog=_TRAIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    train.add_argument("experiment", nargs="?", help="a file with a function experiment()")
    evaluate = commands.add_parser("eval", help="score one checkpoint of a work directory")
    evaluate.add_argument("workdir", type=Path, help="what drm train wrote, such as runs/demo")
    evaluate.add_argument("--step", type=int, help="the checkpoint's step; the newest by default")

    if argv[:1] == ["train"]:  # its options are the experiment's fields
        if len(argv) == 1 or argv[1] in ("-h", "--help"):
            train.print_help()
            return 0 if len(argv) > 1 else 2
        if argv[1].startswith("-"):
            raise UsageError("drm train: name the experiment file first, then its options")
        return _train(argv[1], argv[2:])
    args = parser.parse_args(argv)
    if args.command == "data":
        from drm_jax.arc.describe import describe_sources

        return describe_sources(args.source)
    return _evaluate(args.workdir, args.step)


def load_experiment(path: str) -> "Experiment":
    """The experiment that a file's `experiment()` returns. Files beside it can be imported there.

    Raises:
      UsageError: there is no such file, or it defines no experiment.
    """
    from drm_jax.config import Experiment

    file = Path(path)
    if not file.is_file():
        raise UsageError(f"{path}: no such experiment file")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent.resolve()))
    try:
        spec.loader.exec_module(module)
        made = module.experiment() if hasattr(module, "experiment") else None
    except (UsageError, InputError):
        raise
    except SyntaxError as error:
        raise UsageError(f"{path}: line {error.lineno}: {error.msg}") from error
    except Exception as error:  # whatever a user's file raises
        line = traceback.extract_tb(error.__traceback__)[-1].lineno
        raise UsageError(f"{path}: line {line}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(made, Experiment):
        raise UsageError(f"{path}: must define experiment(), which returns a drm_jax Experiment")
    return made


def _train(path: str, options: list[str]) -> int:
    import tyro

    from drm_jax.config import Experiment

    base = load_experiment(path)

    @dataclasses.dataclass(frozen=True)
    class Options:
        experiment: Annotated[Experiment, tyro.conf.arg(name="")]
        workdir: Path
        """Where everything of this run is kept."""

    try:
        chosen = tyro.cli(
            Options,
            args=options,
            default=Options(base, Path("runs") / base.name),
            prog=f"drm train {path}",
            description=f"Options of {path}, with their defaults.",
        )
    except SystemExit as stop:  # tyro has printed its own message or help
        return int(stop.code or 0)

    from rich.console import Console

    from drm_jax.dist.mesh import use_cpu_cores
    from drm_jax.run.loop import train

    use_cpu_cores(chosen.experiment.train.batch_size, chosen.experiment.evaluate.batch_size)
    console = Console(highlight=False, markup=False)
    report = train(chosen.experiment, chosen.workdir, console)
    _print_report(console, report, chosen.workdir)
    return 0


def _evaluate(workdir: Path, step: int | None) -> int:
    from rich.console import Console

    from drm_jax.dist.mesh import use_cpu_cores
    from drm_jax.run.loop import evaluate_workdir
    from drm_jax.run.workdir import read_config

    experiment = read_config(workdir)
    use_cpu_cores(experiment.train.batch_size, experiment.evaluate.batch_size)
    console = Console(highlight=False, markup=False)
    _print_report(console, evaluate_workdir(workdir, step, console), workdir)
    return 0


def _print_report(console, report: "Report", workdir: Path) -> None:
    """Scores, two grids denoising, and the paths written."""
    from drm_jax.evaluate.pictures import is_solved, terminal_picture
    from drm_jax.evaluate.tables import score_table, task_table

    if not report.evaluations:
        console.print(f"All steps were done before. To score them again: drm eval {workdir}")
        return
    last = report.evaluations[-1]
    solved = [t for t in last.trajectories if is_solved(t)]
    others = [t for t in last.trajectories if not is_solved(t)]
    for trajectory in (solved[:1] + others + solved[1:])[:2]:
        console.print()
        console.print(terminal_picture(trajectory, console.width))
    if last.metrics["tasks"] <= 40:
        console.print(task_table(last))
    console.print(score_table(report.evaluations, report.setup.tasks))
    if report.setup.experiment.train.keep_best:
        console.print(
            "Each score is of one checkpoint. The best checkpoints are kept by pass@2 on these "
            "labelled test inputs: to quote the best of them selects on test labels.",
            style="dim",
        )
    console.print(f"\nWritten to {workdir}:", soft_wrap=True)
    for path in sorted(set(report.paths)):
        console.print(f"  {path}", soft_wrap=True)
