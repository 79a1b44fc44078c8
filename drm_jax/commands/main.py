"""The `drm` command: finds the command that is named, and turns errors into exit codes.

Each command is a module with a function `run(argv) -> exit code`, imported when it is named.
"""

import contextlib
import errno
import importlib
import io
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

from drm_jax.commands.help_text import HELP, fitted
from drm_jax.errors import InputError, StoppedError, UsageError, UserCodeError, one_line
from drm_jax.references import did_you_mean
from drm_jax.runtime.output import Output, OutputClosedError
from drm_jax.runtime.quiet import silence_libraries

COMMANDS = {
    "data": ("data", "what a source of tasks holds, and what is wrong in it"),
    "train": ("train", "train an experiment, or go on with it"),
    "eval": ("evaluate", "score one checkpoint of a work directory, or an ensemble of several"),
    "solve": ("solve", "answer tasks that no network was trained with, from one file or many"),
    "play": ("play", "a page on this machine: pose puzzles and watch them being answered"),
    "report": ("report", "one HTML file about a run, or a comparison of several"),
    "show": ("show", "a task in the terminal, or how a run answered it"),
    "runs": ("runs", "work directories, what became of them, and their scores"),
    "checkpoints": ("checkpoints", "list the checkpoints of a work directory, and verify them"),
    "import": ("importing", "turn a published PyTorch checkpoint into a work directory"),
    "export": ("exporting", "write a checkpoint as the published PyTorch code and hubs expect it"),
    "plan": ("plan", "whether a run fits some accelerators, and how long it takes there"),
    "completion": ("completion", "a script for bash or zsh that completes commands and options"),
}
"""By name: the module in drm_jax.commands, and what it does."""

_HELP = """\
usage: drm [-h] [--version] COMMAND ...

Denoising Recursion Models in JAX: train, evaluate and look at them on ARC, Sudoku, or puzzles of
your own.

commands (drm COMMAND --help tells more):
{commands}

options:
  -h, --help   show this help and exit
  --version    print the version and exit

A run from its beginning to its report:
  drm data arc1                              what the tasks are
  drm train experiments/demo.py              trains for minutes on a laptop, into runs/demo
  drm train experiments/demo.py              the same command again goes on where it stopped
  drm eval runs/demo --denoise-steps 4       the newest checkpoint again, with other settings
  drm report runs/demo                       one HTML file: scores, curves, tasks, denoising

A task of your own, answered in minutes:
  drm solve task.json

Puzzles of your own, and every pass on them, in your browser:
  drm play

Exit codes: 0 done, 1 something failed, or a file or folder isn't there, 2 wrong usage,
75 preempted (start it again), 130 Ctrl-C."""

_TOO_LARGE = (
    "not enough memory: use a smaller --train.batch-size, --evaluate.batch-size (drm eval: "
    "--batch-size) or --model.hidden, fewer --data.num-augmentations, or more devices"
)
_LOST = (
    "another process has died or can't be reached; start all of them again with the same command"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 1 for a failure, 2 for wrong usage, 75 or 130
    for a run that was stopped."""
    argv = list(sys.argv[1:] if argv is None else argv)
    lost = _open_missing_streams()
    silence_libraries()
    before = sys.stdout
    if isinstance(before, io.TextIOWrapper):  # it may be of an encoding that has no boxes
        before.reconfigure(errors="replace")
    sys.stdout = output = Output(before, lost)
    try:
        code = _exit_code(argv)
        code = _flushed(code)
    finally:
        if sys.stdout is output:  # a child of `supervise` has another one
            sys.stdout = before
    processes = _processes()
    if processes:
        processes.end_at_once(code)
    return code


def _open_missing_streams() -> OSError | None:
    """What standard output is lost by where there is none."""
    lost = None if sys.stdout else OSError(errno.EBADF, "it is closed")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    return lost


def _flushed(code: int) -> int:
    """The exit code, which tells of output that was lost where all else went well."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # it is not flushed again
    if sys.stdout.lost and code == 0:
        return _fail(f"what is printed can't be written: {sys.stdout.lost.strerror}", 1)
    return code


def _exit_code(argv: list[str]) -> int:
    """Runs a command; prints what went wrong."""
    again = shlex.join(["drm", *argv])
    try:
        return _run(argv)
    except UserCodeError as error:
        _print_traceback(error.__cause__ or error)
        return _fail(error, 2)
    except UsageError as error:
        return _fail(error, 2)
    except InputError as error:
        return _fail(error, 1)
    except StoppedError as error:
        return _fail(f"{error}. To go on: {again}", error.exit_code)
    except KeyboardInterrupt:
        return _fail(f"stopped at once. To go on from the last checkpoint: {again}", 130)
    except OutputClosedError:  # `drm data | head`
        return 0
    except MemoryError:
        return _fail(_TOO_LARGE, 1)
    except (Exception, SystemExit) as error:
        known = _known_failure(error)
        if known is None:
            _print_traceback(error)
            text = (str(error).strip() or "no message").splitlines()[0][:200]
            known = f"unexpected {type(error).__name__}: {text}"
        return _fail(known, 1)


def _known_failure(error: BaseException) -> str | None:
    """One line about what is no fault of any code: a file, a device's memory, another process."""
    if isinstance(error, OSError) and error.errno is not None:
        return _file_error(error)
    text = str(error)  # jax's own classes of errors: it must not be imported here
    if "RESOURCE_EXHAUSTED" in text or "Out of memory" in text:
        return _TOO_LARGE
    if "Gloo" in text or "NCCL" in text:
        return f"{_LOST}: {text.splitlines()[0][:200]}"
    return None


def _file_error(error: OSError) -> str:
    """What the operating system said about a file, and what to do."""
    what = error.strerror or str(error)
    text = f"{error.filename or 'the output or a file'}: {what}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        text += "; what was saved before is intact: free some space and give the same command again"
    elif error.filename:
        text += "; put it right, or use another place"
    return text


def _print_traceback(error: BaseException) -> None:
    with contextlib.suppress(OSError):
        traceback.print_exception(error)


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
    if not argv or argv[0] in HELP:
        lines = [f"  {name:13}{text}" for name, (_, text) in COMMANDS.items()]
        print(fitted(_HELP.format(commands="\n".join(lines))))
        return 0 if argv else 2
    name, *rest = argv
    if name in COMMANDS:
        return importlib.import_module(f"drm_jax.commands.{COMMANDS[name][0]}").run(rest)
    if name == "--version":
        from drm_jax import __version__

        print(f"drm_jax {__version__}")
        return 0
    if name.startswith("-"):
        meant = did_you_mean(name.lower(), ["--version", "--help"])
        raise UsageError(f"{name}: there is no such option{meant} (see drm --help)")
    meant = did_you_mean(name, COMMANDS) or f"; use {', '.join(COMMANDS)}"
    raise UsageError(f"{name}: there is no such command{meant}")
