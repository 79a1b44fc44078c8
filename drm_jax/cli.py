"""The `drm` command.

    drm data [SOURCE ...]                       look at tasks before training on them
    drm train experiments/NAME.py [--option …]  train, evaluate, keep checkpoints; again: go on
    drm eval WORKDIR [--step N]                 score one checkpoint
    drm checkpoints WORKDIR                     list checkpoints, and whether they are intact

jax is imported only inside the commands that compute.
"""

import argparse
import contextlib
import dataclasses
import difflib
import errno
import importlib.util
import io
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from drm_jax.errors import InputError, StoppedError, UsageError, one_line
from drm_jax.options import Parser, parse_fields

if TYPE_CHECKING:
    from drm_jax.config import Experiment
    from drm_jax.run.loop import Report

_TRAIN_EPILOG = """\
Options of this command:
  --workdir DIR   where everything of the run is kept: a folder or gs://BUCKET/FOLDER (runs/NAME)
  --dry-run       check all that can be checked, say what would be done, write nothing
  --strict        refuse to go on from a damaged checkpoint, instead of using the one before
  --profile N     trace N steps for TensorBoard's profiler or ui.perfetto.dev
  --init-from DIR begin with the weights of another run's newest checkpoint

All fields of the experiment are options too. drm train experiments/demo.py --help lists them with
their defaults in that experiment, such as
  --seed 1  --train.steps 2000  --data.evaluate arc2/evaluation  --model.hidden 128

The same command again goes on from the newest checkpoint. Ctrl-C saves first."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 1 for a failure, 2 for wrong usage."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _make_writable()
    code = _answer(argv)
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # it is not flushed again
        if not isinstance(error, BrokenPipeError):
            return _fail(f"what is printed can't be written: {error.strerror}", 1)
    return code


def _make_writable() -> None:
    """Output may be closed, or be of an encoding that has no boxes and no foreign letters."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _answer(argv: list[str]) -> int:
    again = shlex.join(["drm", *argv])
    try:
        return _run(argv)
    except UsageError as error:
        return _fail(error, 2)
    except InputError as error:
        return _fail(error, 1)
    except StoppedError as error:
        return _fail(f"{error}. To go on: {again}", 130)
    except KeyboardInterrupt:
        return _fail(f"stopped at once. To go on from the last checkpoint: {again}", 130)
    except BrokenPipeError:  # `drm data | head`: whoever read our output has read enough
        return 0
    except OSError as error:
        return _fail(_file_error(error), 1)
    except MemoryError:
        return _fail(_TOO_LARGE, 1)
    except Exception as error:
        # A device's memory; jax must not be imported here.
        if "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error):
            return _fail(_TOO_LARGE, 1)
        return _fail(_unexpected(error), 1)


_TOO_LARGE = (
    "not enough memory: use a smaller --train.batch-size, --evaluate.batch-size or --model.hidden, "
    "fewer --data.num-augmentations, or more devices"
)


def _file_error(error: OSError) -> str:
    """What the operating system said about a file, and what to do."""
    what = error.strerror or str(error)
    text = f"{error.filename or 'the output or a file'}: {what}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        text += "; what was saved before is intact: free some space and give the same command again"
    elif error.filename:
        text += "; put it right, or use another place"
    return text


def _unexpected(error: Exception) -> str:
    """A fault of ours: one line here, all of it in a file."""
    with tempfile.NamedTemporaryFile("w", prefix="drm-", suffix=".log", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    text = (str(error).strip() or "no message").splitlines()[0][:200]
    return f"unexpected {type(error).__name__}: {text} (please report it with {file.name})"


def _fail(error: object, code: int) -> int:
    with contextlib.suppress(OSError):  # stderr is closed or full too: the code has to do
        print(f"drm: {one_line(error)}", file=sys.stderr, flush=True)
    return code


def _run(argv: list[str]) -> int:
    commands: dict[str, tuple[Callable[[list[str]], int], str]] = {
        "data": (_data, "what a source of tasks holds, and what is wrong in it"),
        "train": (_train, "train an experiment, or go on with it"),
        "eval": (_evaluate, "score one checkpoint of a work directory"),
        "checkpoints": (_checkpoints, "list the checkpoints of a work directory, and verify them"),
    }
    lines = [f"  {name:13}{text}" for name, (_, text) in commands.items()]
    parser = Parser(
        prog="drm",
        usage="drm [-h] [--version] COMMAND ...",
        description="Denoising Recursion Models in JAX: train, evaluate and look at them on ARC.",
        epilog="\n".join(["commands (drm COMMAND --help tells more):", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    if argv and not argv[0].startswith("-"):
        if argv[0] in commands:
            return commands[argv[0]][0](argv[1:])
        near = difflib.get_close_matches(argv[0], commands, 1)
        meant = f"did you mean {near[0]}?" if near else f"use {', '.join(commands)}"
        raise UsageError(f"{argv[0]}: there is no such command; {meant}")
    if parser.parse_args(argv).version:
        from drm_jax import __version__

        print(f"drm_jax {__version__}")
        return 0
    parser.print_help()
    return 2


def _data(argv: list[str]) -> int:
    from drm_jax.arc.describe import describe_sources

    parser = Parser(prog="drm data", description="What sources of tasks hold and share.")
    parser.add_argument(
        "source",
        nargs="*",
        default=["arc1", "arc2"],
        help="arc1, arc2 (or arc1/training, …), a folder of task files, a JSON file, the PREFIX "
        "of Kaggle's PREFIX_challenges.json, or package.module:function; arc1 and arc2 "
        "where none is named",
    )
    return describe_sources(parser.parse_args(argv).source)


def load_experiment(path: str) -> "Experiment":
    """The experiment that a file's `experiment()` returns. Files beside it can be imported there.

    Raises:
      UsageError: there is no such file, or it defines no experiment.
    """
    from drm_jax.config import Experiment

    file = Path(path)
    if not _is_file(file):
        raise UsageError(f"{path or repr(path)}: no such experiment file")
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
        line = f" line {error.lineno}:" if error.lineno else ""
        raise UsageError(f"{path}:{line} {error.msg}") from error
    except (Exception, SystemExit) as error:  # whatever a user's file raises
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(file.absolute())]
        line = f" line {lines[-1]}:" if lines else ""
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        raise UsageError(f"{path}:{line} {said}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(made, Experiment):
        raise UsageError(f"{path}: must define experiment(), which returns a drm_jax Experiment")
    return made


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _train(argv: list[str]) -> int:
    parser = Parser(
        prog="drm train",
        usage="drm train experiments/NAME.py [--option value ...]",
        description="Train an experiment: a file with a function experiment().",
        epilog=_TRAIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    if argv and argv[0] in ("-h", "--help"):
        parser.print_help()
        return 0
    if not argv or argv[0].startswith("-"):
        raise UsageError(
            "drm train: name the experiment file first, then its options (see drm train --help)"
        )
    import tyro

    from drm_jax.config import Experiment

    base = load_experiment(argv[0])

    @dataclasses.dataclass(frozen=True)
    class Options:
        experiment: Annotated[Experiment, tyro.conf.arg(name="")]
        workdir: str
        """Where everything of this run is kept: a folder, or gs://BUCKET/FOLDER."""
        dry_run: bool = False
        """Check all that can be checked, say what would be done, and write nothing."""
        strict: bool = False
        """Refuse to go on from a damaged checkpoint, instead of using the one before."""
        profile: int = 0
        """Trace so many steps, for TensorBoard's profiler or ui.perfetto.dev."""

    chosen = parse_fields(Options, Options(base, f"runs/{base.name}"), argv)
    if chosen is None:
        return 0
    if chosen.profile < 0:
        raise UsageError(f"--profile: must be at least 0, not {chosen.profile}")
    _import_jax()
    from drm_jax.dist.mesh import use_cpu_cores
    from drm_jax.io.files import work_path
    from drm_jax.run.console import open_console
    from drm_jax.run.dry_run import dry_run
    from drm_jax.run.loop import train

    experiment, workdir = chosen.experiment, work_path(chosen.workdir)
    use_cpu_cores(experiment.train.batch_size, experiment.evaluate.batch_size)
    console = open_console()
    if chosen.dry_run:
        dry_run(experiment, workdir, console)
        return 0
    report = train(experiment, workdir, console, strict=chosen.strict, profile_steps=chosen.profile)
    _print_report(console, report, workdir)
    return 0


def _import_jax() -> None:
    """Raises UsageError where an environment variable keeps jax from being imported."""
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise UsageError(f"{error}: unset or correct this environment variable") from error


def _evaluate(argv: list[str]) -> int:
    parser = Parser(prog="drm eval", description="Score one checkpoint of a work directory.")
    parser.add_argument("workdir", help="what drm train wrote, such as runs/demo or gs://…")
    parser.add_argument("--step", type=int, help="the checkpoint's step; the newest by default")
    parser.add_argument(
        "--strict", action="store_true", help="refuse a damaged newest checkpoint, instead of "
        "scoring the one before"
    )  # fmt: skip
    args = parser.parse_args(argv)
    _import_jax()
    from drm_jax.dist.mesh import use_cpu_cores
    from drm_jax.io.files import work_path
    from drm_jax.run.console import open_console
    from drm_jax.run.loop import evaluate_workdir
    from drm_jax.run.workdir import read_config

    workdir = work_path(args.workdir)
    experiment = read_config(workdir)
    use_cpu_cores(experiment.train.batch_size, experiment.evaluate.batch_size)
    console = open_console()
    report = evaluate_workdir(workdir, args.step, console, strict=args.strict)
    _print_report(console, report, workdir)
    return 0


def _checkpoints(argv: list[str]) -> int:
    parser = Parser(
        prog="drm checkpoints",
        description="List the checkpoints of a work directory: step, size, scores, and whether "
        "every value is what was saved. Exit code 1 if one is not. Reads alone, on the CPU.",
    )
    parser.add_argument("workdir", help="what drm train wrote, such as runs/demo or gs://…")
    args = parser.parse_args(argv)
    os.environ["JAX_PLATFORMS"] = "cpu"  # a run on this machine may hold its accelerator
    _import_jax()
    from drm_jax.io.files import work_path
    from drm_jax.run.checkpoints import list_checkpoints
    from drm_jax.run.console import open_console

    fine = list_checkpoints(work_path(args.workdir), open_console())
    return 0 if fine else 1


def _print_report(console, report: "Report", workdir: os.PathLike) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
