"""drm play: a page on which people pose puzzles and watch them being answered."""

import dataclasses
import functools
import os
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from drm_jax.commands.devices import import_jax
from drm_jax.commands.options import parse
from drm_jax.errors import UsageError
from drm_jax.references import find_module

if TYPE_CHECKING:
    from drm_jax.play.arc import ArcPlayer
    from drm_jax.play.server import Offered
    from drm_jax.solve.weights import Source

_DESCRIPTION = """\
Open a page in your browser on which you pose puzzles and watch them being answered, pass by pass:
Sudoku and mazes, typed, painted or drawn at random; ARC tasks, painted, from a file or by their id,
to which a network is adapted while you watch. Ctrl-C closes it.

Examples:
  drm play                              with the small networks that come with the package
  drm play runs/sudoku_demo             with the network of a run; its report is a click away
  drm play --task 0d3d703e              begins with a built-in ARC task
  drm play runs/demo --task task.json   with a task of your own

The page is served to this machine alone, at an address with a random token, and asks no other
machine for anything. From another one: ssh -L 8000:127.0.0.1:8000 HOST, and there drm play --port
8000 --no-browser.
"""
_OF_THE_PACKAGE = {
    "sudoku": "the package's, trained on puzzles of 27 clues",
    "maze": "the package's, trained on mazes with one way between any two places and passages in "
    "every second row and column",
    "arc": "the package's, trained on ARC-AGI-1's training tasks of up to 10x10",
}
"""What is used where no run is named, in words."""
_NEEDED = ("starlette", "uvicorn")


@dataclasses.dataclass(frozen=True)
class PlayOptions:
    workdir: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[WORKDIR]")
    ] = ()
    """A run whose network answers puzzles of its family, or a file of weights; by default the small
    networks that come with the package."""
    task: str | None = None
    """What to begin with: the id of an ARC task, "puzzle 3" of the run, or a task's JSON file."""
    port: int = 0
    """Of the page's address; 0: any that is free."""
    browser: bool = True
    """Open the page."""


def run(argv: list[str]) -> int:
    options = parse(PlayOptions, argv, "drm play", _DESCRIPTION)
    if options is None:
        return 0
    if len(options.workdir) > 1:
        raise UsageError("drm play: name one work directory, or none (see drm play --help)")
    missing = [name for name in _NEEDED if find_module(name) is None]
    if missing:
        raise UsageError(
            f"drm play needs {' and '.join(missing)}: pip install 'drm_jax[play]', in a checkout "
            "pip install -e '.[play]'"
        )
    import_jax()
    from drm_jax.play.server import serve
    from drm_jax.runtime.console import open_console
    from drm_jax.runtime.devices import prepare_devices

    prepare_devices()
    console = open_console()
    offered = _offered(next(iter(options.workdir), None))
    if options.task is not None:
        offered = dataclasses.replace(offered, begin_with=_first(offered, options.task))

    with tempfile.TemporaryDirectory(prefix="drm_play_") as folder:

        def ready(address: str) -> None:
            console.print(f"Play at {address}", soft_wrap=True)
            console.print("Ctrl-C closes it", soft_wrap=True)
            if options.browser:
                console.print("If your browser finds no file, open this address", soft_wrap=True)
                _open(address, Path(folder, "play.html"))

        ended = serve(offered, options.port, ready)
    if not ended:  # a compilation: Python can't end while a thread is in it
        sys.stdout.flush()
        os._exit(0)
    return 0


def _open(address: str, file: Path) -> None:
    """Opens the page through a file that only its user can read: others see what a browser is
    called with, and the address holds the token. A text browser would wait until it is left."""
    file.touch(mode=0o600)
    refresh = f'<meta http-equiv="refresh" content="0; url={address}">'
    file.write_text(f"<!doctype html><title>drm play</title>{refresh}", encoding="utf-8")
    threading.Thread(target=webbrowser.open, args=(file.as_uri(),), daemon=True).start()


def _offered(name: str | None) -> "Offered":
    """What there is to play with; a run's network takes the place of the package's."""
    from drm_jax.play.arc import ArcPlayer
    from drm_jax.play.boards import BoardPlayer
    from drm_jax.play.server import Offered
    from drm_jax.puzzles.exact import name_of
    from drm_jax.puzzles.fixed import FixedBoard
    from drm_jax.run.setup import load_puzzles
    from drm_jax.solve.weights import find_source

    sources = {shipped: find_source(shipped) for shipped in ("sudoku", "maze")}
    weights = dict(_OF_THE_PACKAGE)
    arc, tests, family, report = ArcPlayer("small"), None, "sudoku", None
    if name is not None:
        source = find_source(name)
        is_run = source.path.is_dir()
        report = source.path / "report.html" if is_run else None
        if isinstance(source.experiment.data, FixedBoard):
            family = name_of(source.experiment.data)
            sources = {family: source, **{k: v for k, v in sources.items() if k != family}}
            weights[family] = str(source.path)
            if is_run:
                tests = functools.cache(lambda: load_puzzles(source.experiment, source.path))
        else:
            arc, family, weights["arc"] = _arc_player(name, source), "arc", str(source.path)
    say = functools.partial(print, flush=True)
    players = {of: BoardPlayer(source, say) for of, source in sources.items()}
    return Offered(players, arc, weights, family, tests, report)


def _arc_player(name: str, source: "Source") -> "ArcPlayer":
    """Of a network for ARC tasks, with the tasks that it was trained with."""
    from drm_jax.play.arc import ArcPlayer
    from drm_jax.solve.weights import is_for_arc, puzzles_of

    if not is_for_arc(source.experiment.data):
        raise UsageError(
            f"{name}: its puzzles are neither ARC tasks nor boards of one size (docs/play.md)"
        )
    puzzles = puzzles_of(source, functools.partial(print, flush=True))
    return ArcPlayer(name, puzzles.tasks if puzzles else ())


def _first(offered: "Offered", name: str) -> dict[str, Any]:
    """What the page begins with: a file of a task, or what it is called."""
    from drm_jax.play.arc import described, read_task
    from drm_jax.play.server import find
    from drm_jax.puzzles.arc.files import read_json

    path = Path(name).expanduser()
    if path.suffix == ".json" or path.is_file():
        return {"family": "arc", "task": described(read_task(read_json(path)))}
    return find(offered, name)
