"""The `drm` command.

    drm data [SOURCE ...]                       look at tasks before training on them
    drm train experiments/NAME.py [--option …]  train, evaluate, keep checkpoints; again: go on
    drm train WORKDIR [--train.steps N]         go on with a run, or make it longer
    drm eval WORKDIR [--step N]                 score one checkpoint
    drm eval WORKDIR --steps N,M / --last K     score several, and their votes pooled
    drm report WORKDIR [WORKDIR ...]            one HTML file: scores, curves, tasks, denoising
    drm show [WORKDIR] TASK_ID                  a task, or its denoising, in the terminal
    drm runs DIR                                work directories, what became of them, scores
    drm checkpoints WORKDIR                     list checkpoints, and whether they are intact
    drm import CHECKPOINT --config … --workdir  a published PyTorch checkpoint as a work directory
    drm plan experiments/NAME.py --topology …   memory, time and traffic on devices not yet rented

jax is imported only inside the commands that need it.
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
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

from drm_jax.commands.options import (
    GROUP_HELP,
    Group,
    Parser,
    distinct_steps,
    parse_fields,
    take_group,
)
from drm_jax.errors import InputError, StoppedError, UsageError, one_line
from drm_jax.runtime.supervise import supervise

if TYPE_CHECKING:
    from etils import epath

    from drm_jax.config import Experiment
    from drm_jax.run.loop import Report

_STARTED = time.perf_counter()
_TRAIN_EPILOG = f"""\
Options of this command:
  --workdir DIR   where everything of the run is kept: a folder or gs://BUCKET/FOLDER (runs/NAME)
  --dry-run       check all that can be checked, say what would be done, write nothing
  --strict        refuse to go on from a damaged checkpoint, instead of using the one before
  --profile N     trace N steps for TensorBoard's profiler or ui.perfetto.dev
  --init-from DIR begin with the weights of another run's newest checkpoint

All fields of the experiment are options too. drm train experiments/demo.py --help lists them with
their defaults in that experiment, such as
  --seed 1  --train.steps 2000  --data.evaluate arc2/evaluation  --model.hidden 128

The same command again goes on from the newest checkpoint. Ctrl-C saves first, exit code 130.
SIGTERM, which clusters send before they take a machine away, does too, exit code 75: start again.

A work directory instead of a file goes on with its run by its own config.json, wherever that came
from; more steps make it longer: drm train runs/demo --train.steps 8000

{GROUP_HELP}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 1 for a failure, 2 for wrong usage, 75 or 130
    for a run that was stopped."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _make_writable()
    code = _answer(argv)
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # it is not flushed again
        if not isinstance(error, BrokenPipeError):
            code = _fail(f"what is printed can't be written: {error.strerror}", 1)
    processes = _processes()
    if processes:
        processes.end_at_once(code)
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
        return _fail(f"{error}. To go on: {again}", error.exit_code)
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
        if "Gloo" in str(error) or "NCCL" in str(error):
            return _fail(f"{_LOST}: {str(error).splitlines()[0][:200]}", 1)
        return _fail(_unexpected(error), 1)


_TOO_LARGE = (
    "not enough memory: use a smaller --train.batch-size, --evaluate.batch-size (drm eval: "
    "--batch-size) or --model.hidden, fewer --data.num-augmentations, or more devices"
)


_LOST = (
    "another process has died or can't be reached; start all of them again with the same command"
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
    processes = _processes()
    who = processes.who() if processes else ""
    with contextlib.suppress(OSError):  # stderr is closed or full too: the code has to do
        print(f"drm: {who and f'{who}: '}{one_line(error)}", file=sys.stderr, flush=True)
    return code


def _processes() -> ModuleType | None:
    """What knows of other processes, if it was needed: it imports jax."""
    return sys.modules.get("drm_jax.parallel.processes")


def _run(argv: list[str]) -> int:
    commands: dict[str, tuple[Callable[[list[str]], int], str]] = {
        "data": (_data, "what a source of tasks holds, and what is wrong in it"),
        "train": (_train, "train an experiment, or go on with it"),
        "eval": (_evaluate, "score one checkpoint of a work directory, or an ensemble of several"),
        "report": (_report, "one HTML file about a run, or a comparison of several"),
        "show": (_show, "a task in the terminal, or how a run answered it"),
        "runs": (_runs, "work directories, what became of them, and their scores"),
        "checkpoints": (_checkpoints, "list the checkpoints of a work directory, and verify them"),
        "import": (_import, "turn a published PyTorch checkpoint into a work directory"),
        "plan": (_plan, "whether a run fits some accelerators, and how long it takes there"),
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
    from drm_jax.puzzles.arc.describe import describe_sources

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
        raise UsageError(f"{path or repr(path)}: no such experiment file or work directory")
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
        usage="drm train experiments/NAME.py|WORKDIR [--option value ...]",
        description="Train an experiment: a file with a function experiment(), or a run's work "
        "directory.",
        epilog=_TRAIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    if argv and argv[0] in ("-h", "--help"):
        parser.print_help()
        return 0
    if not argv or argv[0].startswith("-"):
        raise UsageError(
            "drm train: name the experiment file first, or a work directory, then its options "
            "(see drm train --help)"
        )
    group, argv = take_group(argv, "drm train")
    return _together(group, lambda: _train_here(argv))


def _together(group: Group | None, job: Callable[[], int]) -> int:
    """Does a job as one of several processes; a failure here ends the others too."""
    if group is None:
        return job()
    code = supervise()
    if code is not None:
        return code  # this is the parent, and all is done
    _import_jax()
    from drm_jax.parallel import processes

    processes.join(**dataclasses.asdict(group))
    try:
        code = job()
    except StoppedError:  # all have stopped after the same step
        processes.leave()
        raise
    except BaseException as error:
        processes.fail(error)
        raise
    processes.leave()
    return code


def _train_here(argv: list[str]) -> int:
    import tyro

    from drm_jax.config import Experiment

    base, default_workdir = _experiment_and_workdir(argv[0])

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

    chosen = parse_fields(Options, Options(base, default_workdir), argv)
    if chosen is None:
        return 0
    if chosen.profile < 0:
        raise UsageError(f"--profile: must be at least 0, not {chosen.profile}")
    _import_jax()
    from drm_jax.io.files import work_path
    from drm_jax.parallel import processes
    from drm_jax.run.dry_run import dry_run
    from drm_jax.run.loop import train
    from drm_jax.runtime.console import open_console

    experiment, workdir = chosen.experiment, work_path(chosen.workdir)
    _prepare_jax(experiment)
    console = open_console(silent=not processes.is_first())
    if chosen.dry_run:
        dry_run(experiment, workdir, console)
        return 0
    report = train(
        experiment, workdir, console, strict=chosen.strict, profile_steps=chosen.profile,
        started=_STARTED, origin=_origin(argv[0], base, experiment),
    )  # fmt: skip
    _print_report(console, report, workdir)
    return 0


def _experiment_and_workdir(name: str) -> tuple["Experiment", str]:
    """What the first word of `drm train` names, and where its run is kept unless told otherwise.

    Raises:
      UsageError: it is no experiment file, and nothing that could be a work directory.
      InputError: it is a folder without a config.json that can be used.
    """
    if "://" not in name and not os.path.isdir(name):
        experiment = load_experiment(name)
        return experiment, f"runs/{experiment.name}"
    _import_jax()
    from drm_jax.io.files import work_path
    from drm_jax.run.workdir import read_config

    return read_config(work_path(name)), name


def _origin(name: str, base: "Experiment", experiment: "Experiment") -> dict[str, object]:
    """The file that an experiment comes from, and what options have changed of it, for history."""
    from drm_jax.run.workdir import config_differences

    changed = {n: [was, now] for n, was, now in config_differences(base, experiment)}
    return {"from": Path(name).name, "changed": changed}


_PLAN_EPILOG = """\
Topologies: a slice of TPUs, such as v5e:4x4, v6e:2x4, v4:2x2x4, v5p:2x2x4; or GPUs, such as 8xH100.
Known are v4, v5e, v5p, v6e, A100, H100, H200, B200.

  --compile   compile the real programs for a slice of TPUs, without any TPU: what the compiler
              needs of memory, what travels; and if it doesn't fit, what would (needs libtpu:
              pip install -e '.[tpu]'; a minute or more a program)
  --json      one object, for programs

All fields of the experiment are options too, such as --train.batch-size 384 --model.remat none."""


def _plan(argv: list[str]) -> int:
    parser = Parser(
        prog="drm plan",
        usage="drm plan experiments/NAME.py|WORKDIR --topology T [--compile] [--json] [--option …]",
        description="What a run would need on accelerators, and how long it would take. Nothing is "
        "trained, and no accelerator is needed.",
        epilog=_PLAN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    if argv and argv[0] in ("-h", "--help"):
        parser.print_help()
        return 0
    if not argv or argv[0].startswith("-"):
        raise UsageError(
            "drm plan: name the experiment file first, or a work directory, then its options (see "
            "drm plan --help)"
        )
    # Nothing is computed, here or there. What is set was read when jax is imported, so first.
    os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")
    import tyro

    from drm_jax.config import Experiment

    base, _ = _experiment_and_workdir(argv[0])

    @dataclasses.dataclass(frozen=True)
    class Options:
        experiment: Annotated[Experiment, tyro.conf.arg(name="")]
        topology: str = ""
        """A slice of TPUs, such as v5e:4x4, or GPUs, such as 8xH100."""
        compile: bool = False
        """Compile the real programs for that slice of TPUs, without any TPU."""
        json: bool = False
        """Print one JSON object."""

    chosen = parse_fields(Options, Options(base), argv, "drm plan")
    if chosen is None:
        return 0
    if not chosen.topology:
        raise UsageError("--topology: name one, such as v5e:4x4 or 8xH100 (see drm plan --help)")
    _import_jax()
    from drm_jax.plan.chips import parse_topology
    from drm_jax.plan.plan import plan
    from drm_jax.runtime.console import open_console

    topology = parse_topology(chosen.topology)
    return plan(
        chosen.experiment, topology, open_console(), compiles=chosen.compile, as_json=chosen.json
    )


def _import_jax() -> None:
    """Raises UsageError where an environment variable keeps jax from being imported."""
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise UsageError(f"{error}: unset or correct this environment variable") from error


def _prepare_jax(experiment: "Experiment") -> None:
    """Before jax computes: where it keeps programs, and how many devices a CPU is."""
    from drm_jax.parallel import processes
    from drm_jax.parallel.mesh import use_cpu_cores
    from drm_jax.runtime.programs import keep_programs

    keep_programs()
    use_cpu_cores(
        experiment.train.batch_size // (processes.count() * experiment.train.least_parts),
        experiment.evaluate.batch_size // processes.count(),
    )


def _evaluate(argv: list[str]) -> int:
    parser = Parser(
        prog="drm eval",
        description="Score one checkpoint of a work directory; or, with --steps or --last, each of "
        "several and their ensemble, which pools the votes of all.",
        epilog=GROUP_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workdir", help="what drm train wrote, such as runs/demo or gs://…")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, help="the checkpoint's step; the newest by default")
    which.add_argument("--steps", type=distinct_steps, metavar="N,M,…", help="an ensemble: of the "
        "checkpoints of these steps; refused if one is damaged")  # fmt: skip
    which.add_argument("--last", type=int, metavar="K", help="an ensemble: of the K newest "
        "checkpoints; refused if one is damaged")  # fmt: skip
    parser.add_argument(
        "--strict", action="store_true", help="refuse a damaged newest checkpoint, instead of "
        "scoring the one before"
    )  # fmt: skip
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="candidates at a time over all devices, where "
        "memory is short; the run's own by default. No answer depends on it"
    )  # fmt: skip
    parser.add_argument(
        "--trajectories", choices=("selected", "failures", "all", "off"), help="whose denoising is "
        "written for drm report and drm show: of each test input the unaugmented candidate, and "
        "those who were the first to give the best two answers and the truth (selected, the "
        "default); all wrong ones too (failures: 2 to 5 KB of memory each); all; none"
    )  # fmt: skip
    at_test = parser.add_argument_group(
        "how test inputs are answered",
        "as the run's configuration says, unless given. A score with other settings is\n"
        "kept beside the run's own, in a folder whose name has them, such as\n"
        "eval/step_4000_outside=pad; drm report and drm show show the run's own.",
    )
    at_test.add_argument("--denoise-steps", type=int, metavar="N", help="passes")
    at_test.add_argument(
        "--num-augmentations", type=int, metavar="N", help="augmentations that vote beside the "
        "plain test input"
    )  # fmt: skip
    choices = {
        "--remask": ("uniform", "confidence", "which cells are masked again"),
        "--first-remask": ("full", "skip", "the first pass's grid is masked whole, or kept"),
        "--remask-schedule": ("linear", "training", "how many cells are masked again at a level: "
                              "level/1000, or as in training"),
        "--outside": ("predicted", "pad", "what the next pass finds outside of the answered grid"),
    }  # fmt: skip
    for name, (*values, meaning) in choices.items():
        at_test.add_argument(name, choices=values, help=meaning)
    at_test.add_argument(
        "--carry-z", action=argparse.BooleanOptionalAction, help="z goes on from pass to pass"
    )
    group, argv = take_group(argv, "drm eval")
    args = parser.parse_args(argv)
    if args.last is not None and args.last < 1:
        raise UsageError(f"--last: must be at least 1, not {args.last}")
    return _together(group, lambda: _evaluate_here(args))


def _evaluate_here(args: argparse.Namespace) -> int:
    _import_jax()
    from drm_jax.config import AT_TEST
    from drm_jax.io.checkpoint import newest_steps
    from drm_jax.io.files import work_path
    from drm_jax.parallel import processes
    from drm_jax.run.loop import evaluate_ensemble, evaluate_workdir, read_to_evaluate
    from drm_jax.runtime.console import open_console

    workdir = work_path(args.workdir)
    names = "batch_size", "trajectories", *AT_TEST
    changes = {name: getattr(args, name) for name in names}
    experiment = read_to_evaluate(workdir, **changes)
    _prepare_jax(experiment)
    console = open_console(silent=not processes.is_first())
    steps = newest_steps(workdir, args.last) if args.last else args.steps or [args.step]
    if len(steps) > 1:
        report = evaluate_ensemble(workdir, steps, console, **changes)
    else:
        report = evaluate_workdir(workdir, steps[0], console, strict=args.strict, **changes)
    _print_report(console, report, workdir)
    return 0


def _report(argv: list[str]) -> int:
    parser = Parser(
        prog="drm report",
        description="Write what a run did as one HTML file, which needs no network and can be "
        "mailed: scores, curves, every task with its answers, and the denoising of candidates step "
        "by step. Several work directories are compared. Made from the files that the runs wrote "
        "alone.",
    )
    parser.add_argument("workdir", nargs="+", help="what drm train wrote, such as runs/demo")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--step", type=int, help="of the evaluation to show; of the newest checkpoint by default"
    )
    which.add_argument(
        "--steps", type=distinct_steps, metavar="N,M,…", help="of an ensemble that drm eval scored"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="report.html in the work directory by default; of several "
        "comparison.html in the first one"
    )  # fmt: skip
    args = parser.parse_args(argv)
    if (args.step is not None or args.steps) and len(args.workdir) > 1:
        raise UsageError("--step, --steps: are for the report of one work directory")
    _on_the_cpu()
    from drm_jax.io.files import work_path
    from drm_jax.report.write import write_report
    from drm_jax.runtime.console import open_console

    workdirs = list(map(work_path, args.workdir))
    output = _file_to_write(args.output, "--output")
    steps = args.steps or ([args.step] if args.step is not None else [])
    path = write_report(workdirs, steps=sorted(steps), output=output)
    size = len(path.read_bytes()) / 1e6
    open_console().print(f"Written: {path} ({size:.1f} MB)", soft_wrap=True)
    return 0


def _show(argv: list[str]) -> int:
    parser = Parser(
        prog="drm show",
        usage="drm show [WORKDIR] TASK_ID [--step N] [--png FILE] [--source SOURCE …]",
        description="A task in the terminal: its demonstrations and tests. Of a work directory: "
        "how the candidates of the task that its evaluation has kept were denoised.",
    )
    parser.add_argument(
        "name", nargs="+", metavar="[WORKDIR] TASK_ID", help="as in: drm show 0d3d703e; drm show "
        "runs/demo 0d3d703e"
    )  # fmt: skip
    parser.add_argument(
        "--source", nargs="+", help="where a task without a work directory is looked for, see drm "
        "data --help; arc1 and arc2 by default"
    )  # fmt: skip
    parser.add_argument("--step", type=int, help="of the evaluation; the newest one by default")
    parser.add_argument("--png", metavar="FILE", help="write it as a picture too")
    args = parser.parse_args(argv)
    if len(args.name) > 2:
        raise UsageError("drm show: name a task, or a work directory and a task")
    _on_the_cpu()
    from drm_jax.io.files import work_path
    from drm_jax.report.show import show_denoising, show_task
    from drm_jax.runtime.console import open_console

    console = open_console()
    png_path = _file_to_write(args.png, "--png")
    *workdir, task_id = args.name
    if workdir and args.source:
        raise UsageError("--source: is for a task alone: a work directory has its own tasks")
    if workdir:
        show_denoising(work_path(workdir[0]), task_id, console, step=args.step, png_path=png_path)
    elif args.step is not None:
        raise UsageError("--step: is of a work directory's evaluation: name it before the task")
    elif Path(task_id, "config.json").exists():
        raise UsageError(f"{task_id}: is a work directory: name a task of it too (drm report shows "
                         "all of them)")  # fmt: skip
    else:
        halves = ["arc1/training", "arc1/evaluation", "arc2/training", "arc2/evaluation"]
        show_task(task_id, args.source or halves, console, png_path)
    return 0


def _runs(argv: list[str]) -> int:
    parser = Parser(
        prog="drm runs",
        description="The work directories in a folder: running, finished, stopped, preempted, "
        "killed or failed; step, loss, pass@2.",
    )
    parser.add_argument("folder", nargs="?", default="runs", help="runs by default, or gs://…")
    args = parser.parse_args(argv)
    _on_the_cpu()
    from drm_jax.io.files import work_path
    from drm_jax.run.runs import list_runs
    from drm_jax.runtime.console import open_console

    list_runs(work_path(args.folder, "folder"), open_console())
    return 0


def _file_to_write(name: str | None, option: str) -> "epath.Path | None":
    """Raises UsageError where it can't be a file, before anything is made for it."""
    if name is None:
        return None
    from drm_jax.io.files import is_remote, work_path

    path = work_path(name, option)
    if path.is_dir():
        raise UsageError(f"{option}: {name} is a folder: name a file")
    if not is_remote(path) and not path.parent.is_dir():
        raise UsageError(f"{option}: {name}: there is no folder {path.parent}")
    return path


def _on_the_cpu() -> None:
    """jax is imported, but a run on this machine may hold its accelerator."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    _import_jax()


def _checkpoints(argv: list[str]) -> int:
    parser = Parser(
        prog="drm checkpoints",
        description="List the checkpoints of a work directory: step, size, scores, and whether "
        "every value is what was saved. Exit code 1 if one is not. Reads alone, on the CPU.",
    )
    parser.add_argument("workdir", help="what drm train wrote, such as runs/demo or gs://…")
    args = parser.parse_args(argv)
    _on_the_cpu()
    from drm_jax.io.files import work_path
    from drm_jax.run.checkpoints import list_checkpoints
    from drm_jax.runtime.console import open_console

    fine = list_checkpoints(work_path(args.workdir), open_console())
    return 0 if fine else 1


def _import(argv: list[str]) -> int:
    parser = Parser(
        prog="drm import",
        description="Turn a published PyTorch checkpoint of TRM, DRM or SPRM into a work "
        "directory, for drm eval and drm train. Works on the CPU; no code in a file is run.",
    )
    parser.add_argument("checkpoint", type=Path, help="made by torch.save, or safetensors")
    parser.add_argument("--config", type=Path, required=True, help="its all_config.yaml")
    parser.add_argument("--workdir", required=True, help="a folder, or gs://BUCKET/FOLDER")
    parser.add_argument("--identifiers", type=Path, help="identifiers.json of its dataset")
    parser.add_argument(
        "--reset-puzzle-table", action="store_true", help="instead of --identifiers: new puzzle "
        "ids, every row the mean of the old ones"
    )  # fmt: skip
    parser.add_argument("--step", type=int, help="its training steps, if not called step_N")
    parser.add_argument("--name", help="of the experiment; the work directory's by default")
    parser.add_argument(
        "--train", nargs="*", metavar="SOURCE", help="tasks trained on whole; by default those of "
        "the dataset that the config names"
    )  # fmt: skip
    parser.add_argument(
        "--evaluate", nargs="*", metavar="SOURCE", help="tasks whose tests are answered"
    )
    args = parser.parse_args(argv)
    _on_the_cpu()  # nothing is computed, and host memory is larger
    from drm_jax.io.files import work_path
    from drm_jax.published.importing import import_published
    from drm_jax.runtime.console import open_console

    import_published(
        args.checkpoint,
        args.config,
        work_path(args.workdir),
        open_console(),
        identifiers=args.identifiers,
        reset_puzzle_table=args.reset_puzzle_table,
        step=args.step,
        name=args.name,
        train=args.train,
        evaluate=args.evaluate,
    )
    return 0


def _print_report(console, report: "Report", workdir: os.PathLike) -> None:
    """Scores, two grids denoising, and the paths written."""
    from drm_jax.config import CARRIED
    from drm_jax.evaluate.answers import unpack
    from drm_jax.evaluate.pictures import terminal_picture
    from drm_jax.evaluate.tables import score_table, task_table
    from drm_jax.parallel import processes
    from drm_jax.report.write import write_report

    if not report.evaluations:
        again = shlex.join(["drm", "eval", str(workdir)])
        console.print(f"All steps were done before. To score them again: {again}")
        return
    last = report.evaluations[-1]
    pictured = [unpack(packed) for packed in last.pictured]
    solved = [t for t in pictured if t.is_right]
    others = [t for t in pictured if not t.is_right]
    if last.is_ensemble and pictured:
        console.print(f"\nDenoising of step {last.step} alone:")
    if pictured:
        steps = "what some steps began from (░ masked)"
        if report.setup.experiment.objective in CARRIED:  # they begin from latents, not a grid
            steps = "the answers after some steps"
        console.print(
            f"\nLeft to right: the input, {steps}, the answer, the truth; │ ends a grid",
            style="dim",
        )
    for trajectory in (solved[:1] + others + solved[1:])[:2]:
        console.print()
        console.print(terminal_picture(trajectory, console.width))
    if last.metrics["tasks"] <= 40:
        console.print(task_table(last))
    console.print(score_table(report.evaluations, report.setup.tasks))
    if report.changed:
        settings = ", ".join(f"{name}={value}" for name, value in report.changed.items())
        console.print(f"With settings that are not the run's own: {settings}.", soft_wrap=True)
    if last.is_ensemble:
        console.print(
            "The last score is of an ensemble, which pools the votes of its checkpoints: say so "
            "where you quote it."
        )
    if report.setup.experiment.train.keep_best:
        alone = "" if last.is_ensemble else "Each score is of one checkpoint. "
        console.print(
            f"{alone}The best checkpoints are kept by pass@2 on these "
            "labelled test inputs: to quote the best of them selects on test labels.",
            style="dim",
        )
    paths = set(report.paths)
    # The page shows what the run's own settings gave.
    if processes.is_first() and not report.changed:
        paths.add(write_report([workdir], steps=last.steps))
    console.print(f"\nWritten to {workdir}:", soft_wrap=True)
    for path in sorted(paths):
        console.print(f"  {path}", soft_wrap=True)
