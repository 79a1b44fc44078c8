"""drm solve: answers ARC tasks that a network has not seen."""

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from drm_jax.commands import STARTED
from drm_jax.commands.devices import import_jax
from drm_jax.commands.options import parse_changes
from drm_jax.commands.processes import (
    SEVERAL_HOSTS,
    ProcessOptions,
    run_together,
    take_process_options,
)
from drm_jax.commands.solve_boards import FAMILIES, solve_boards
from drm_jax.errors import UsageError
from drm_jax.solve.adapt import Adapt
from drm_jax.words import counted

if TYPE_CHECKING:
    from drm_jax.solve.solve import Outcome

_DESCRIPTION = f"""\
Answer ARC tasks that a network has not seen: it is adapted to their demonstrations, and answers
their test inputs.

Examples:
  drm solve task.json                           one task of your own, in 5 minutes
  drm solve sudoku 53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79
  drm solve tasks/ --minutes 20                 a folder of them, all together
  drm solve arc2/evaluation --from runs/mine --minutes 120
  drm solve arc-agi_test                        Kaggle: arc-agi_test_challenges.json
  drm solve task.json --steps 2000              so many training steps, however long they take
  drm solve task.json --seed 1 --output runs/second --pool runs/solve_task     two seeds, one vote

TASKS are any source of ARC tasks (drm data --help); outputs of tests may be hidden. A submission is
there from the first seconds on, and better ones replace it. The same command again goes on where it
was stopped. Given minutes it ends within them, from the start of the command on.

drm solve sudoku PUZZLE …, or a file with a puzzle a line, answers at once: the weights know the
rules. So does drm solve maze FILE …. They take --from and --denoise-steps alone, and return 1 where
an answer breaks a rule.
{SEVERAL_HOSTS}"""
_MINUTES = 5.0
_SMALL, _NOTHING = "small", "nothing"


@dataclasses.dataclass(frozen=True)
class SolveOptions:
    tasks: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="TASKS")] = ()
    """Sources of tasks: files, folders, arc1/evaluation, …"""
    weights: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """The weights to begin with: a run's work directory; a file of weights; small, those that come
    with the package, for grids of up to 10x10; or nothing: a small network is trained on the
    demonstrations alone. By default small, and nothing where a task is larger."""
    minutes: float | None = None
    """All that it may take; 5 where neither minutes nor steps are given."""
    steps: int | None = None
    """Training steps, instead of minutes."""
    pool: tuple[str, ...] = ()
    """Folders of other solves of these tasks, with other seeds or weights, whose votes are added at
    the end."""
    each: bool = False
    """A network of its own for each task, those of one size trained together; by default one
    network for all."""
    output: str | None = None
    """A folder for all that it writes; runs/solve_NAME by default."""
    only: tuple[str, ...] = ()
    """The ids of the tasks to answer; all by default."""
    repeated: Literal["refuse", "first", "last"] = "refuse"
    """Different tasks of one id: refuse, or keep that of the source named first or last."""
    adapt: Annotated[Adapt, tyro.conf.arg(name="")] = Adapt()
    processes: Annotated[ProcessOptions, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=ProcessOptions
    )


def run(argv: list[str]) -> int:
    own, argv = take_process_options(argv, "drm solve")
    return run_together(own, lambda: _solve(argv))


def _solve(argv: list[str]) -> int:
    options = parse_changes(SolveOptions(), argv, "drm solve", _DESCRIPTION)
    if options is None:
        return 0
    if not options.tasks:
        raise UsageError("drm solve: name the tasks: a JSON file, a folder, … (drm solve --help)")
    if options.tasks[0] in FAMILIES:
        return _solve_boards(options)
    import_jax()
    from drm_jax.io.files import work_path
    from drm_jax.parallel import processes
    from drm_jax.runtime.allocator import keep_freed_memory
    from drm_jax.runtime.console import open_console
    from drm_jax.runtime.devices import prepare_devices
    from drm_jax.solve.request import Request
    from drm_jax.solve.solve import solve

    minutes = options.minutes
    if minutes is None and options.steps is None:
        minutes = _MINUTES
    weights = options.weights or _SMALL
    request = Request(
        options.tasks, options.only, options.repeated, None if weights == _NOTHING else weights,
        minutes, options.steps, options.pool, options.each, options.adapt,
    )  # fmt: skip
    if request.each and processes.count() > 1:
        raise UsageError("--each: is for one process: give each host tasks of its own with --only")
    folder = work_path(options.output or f"runs/solve_{_name(options.tasks[0])}", "--output")
    keep_freed_memory()  # the networks of the package are narrow
    prepare_devices()
    console = open_console(silent=not processes.is_first())
    _print(console, solve(request, folder, console, started=STARTED, until_exit=True))
    return 0


def _solve_boards(options: SolveOptions) -> int:
    """See `solve_boards`."""
    steps = options.adapt.denoise_steps
    taken = SolveOptions(
        options.tasks, options.weights, adapt=Adapt(denoise_steps=steps),
        processes=options.processes,
    )  # fmt: skip
    family, *puzzles = options.tasks
    if options != taken:
        raise UsageError(
            f"drm solve {family}: takes --from and --denoise-steps alone: nothing is adapted"
        )
    return solve_boards(family, puzzles, options.weights, steps)


def _name(source: str) -> str:
    """A name for a folder, of a source: arc1_evaluation, task, …"""
    path = Path(source)
    stem = path.name.split(".")[0] if path.exists() else source
    return re.sub(r"[^\w-]+", "_", stem).strip("_")[:60] or "tasks"


def _print(console: Console, outcome: "Outcome") -> None:
    """What there is to look at, and how many were solved."""
    right, known = outcome.solved
    if known:
        console.print(
            f"Solved with 2 attempts: {right} of {counted(known, 'test input')} "
            f"(copies of the inputs: {outcome.copied})"
        )
    console.print(f"\nWritten to {outcome.folder}:", soft_wrap=True)
    paths = sorted(outcome.paths, key=lambda path: not path.name.endswith(".html"))
    pictures = [path for path in paths if path.name.endswith(".png")]
    others = [path for path in paths if path not in pictures and path.parent == outcome.folder]
    for path in [*others[:1], *pictures[:3]]:
        console.print(f"  {path}", soft_wrap=True)
    if len(pictures) > 3:
        console.print(f"  … {len(pictures)} pictures of attempts in all")
    for path in others[1:]:
        console.print(f"  {path}", soft_wrap=True)
