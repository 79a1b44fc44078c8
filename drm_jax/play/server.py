"""The page's server: what it may be asked, and the streams of events that answer.

A request to compute is answered by a line of JSON for each event, until all is done or the page is
closed, which stops the work.
"""

import asyncio
import contextlib
import functools
import importlib.resources
import json
import logging
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import uvicorn
from etils import epath
from msgspec import Meta
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from drm_jax.errors import InputError, UsageError, one_line
from drm_jax.play import arc, boards
from drm_jax.play.arc import ArcPlayer
from drm_jax.play.boards import BoardPlayer, Remask
from drm_jax.play.guard import Guard
from drm_jax.play.worker import BusyError, Job, Worker
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.boards import grid_rows
from drm_jax.puzzles.fixed import FixedPuzzles, read_board
from drm_jax.runtime.stop import StopRequest

MOST_CONNECTIONS = 64
_REQUEST_SECONDS, _END_SECONDS = 10.0, 10.0
"""In which a connection has to say what it wants; and what is computed has to end."""
_MOST_TEXT = 900_000
_Rows = Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=200)]
"""What a board may have at most; a family knows its own size."""
_Seed = Annotated[int, Meta(ge=0, lt=2**31)]
_Name = Annotated[str, Meta(max_length=200)]
_SCRIPTS, _STYLES = ("play", "ask", "editor", "boards", "arc", "grids"), ("play", "report")
_PAGES = {f"{name}.js": "text/javascript" for name in _SCRIPTS} | {
    f"{name}.css": "text/css" for name in _STYLES
}
_OF_THE_REPORT = ("grids.js", "report.css")


class _Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


class _Draw(_Strict):
    family: _Name
    level: _Name
    seed: _Seed


class _Check(_Strict):
    family: _Name
    board: _Rows


class _Answer(_Strict):
    family: _Name
    board: _Rows
    passes: Annotated[int, Meta(ge=1, le=boards.MOST_PASSES)]
    rollouts: Annotated[int, Meta(ge=1, le=boards.MOST_ROLLOUTS)] = 1
    symmetric: bool = False
    remask: Remask | None = None
    seed: _Seed = 0


class _Find(_Strict):
    name: _Name


class _Read(_Strict):
    text: Annotated[str, Meta(max_length=_MOST_TEXT)]


class _Adapt(_Strict):
    task: dict[str, Any]
    minutes: Annotated[float, Meta(gt=0, le=arc.MOST_MINUTES)]


@dataclass(frozen=True, eq=False)
class Offered:
    """What can be played with."""

    players: Mapping[str, BoardPlayer]
    """By the name of their family."""
    arc: ArcPlayer
    weights: Mapping[str, str]
    """Whose weights are used, by family, in words."""
    family: str
    """That of the run that is played with, which is shown first."""
    tests: Callable[[], FixedPuzzles] | None = None
    """The puzzles of the run, if they are boards."""
    report: epath.Path | None = None
    """Of the run."""
    begin_with: Mapping[str, Any] | None = None
    """What the page shows first, as `find` gives it."""


def find(offered: Offered, name: str) -> dict[str, Any]:
    """A test of the run by its name, such as "puzzle 3", or an ARC task by its id, for the page.

    Raises:
      InputError: there is none.
    """
    if offered.tests is not None and name.startswith("puzzle "):
        symbols = offered.players[offered.family].family.vocabulary.symbols
        question = _test_of(offered.tests(), name)
        return {"family": offered.family, "board": grid_rows(question, symbols)}
    return {"family": "arc", "task": arc.described(offered.arc.find(name))}


class Play:
    """The routes."""

    def __init__(self, offered: Offered, worker: Worker):
        self._offered, self._worker = offered, worker

    def app(self) -> Starlette:
        """What the `Guard` lets requests through to."""
        app = Starlette(
            routes=[
                Route("/", self._page),
                *(Route(f"/{name}", self._file) for name in _PAGES),
                Route("/report", self._report),
                Route("/api/about", self._about),
                Route("/api/tasks", self._tasks),
                Route("/api/draw", self._draw, methods=["POST"]),
                Route("/api/check", self._check, methods=["POST"]),
                Route("/api/find", self._find, methods=["POST"]),
                Route("/api/read", self._read, methods=["POST"]),
                Route("/api/answer", self._answer, methods=["POST"]),
                Route("/api/adapt", self._adapt, methods=["POST"]),
            ],
            exception_handlers={HTTPException: _refused, InputError: _wrong, UsageError: _wrong},
        )
        app.router.redirect_slashes = False
        return app

    # --- files
    async def _page(self, request: Request) -> Response:
        return HTMLResponse(_text("play", "play.html"))

    async def _file(self, request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        package = "report" if name in _OF_THE_REPORT else "play"
        return Response(_text(package, name), media_type=_PAGES[name])

    async def _report(self, request: Request) -> Response:
        report = self._offered.report
        if report is None or not report.exists():
            raise HTTPException(404, "there is no report: drm report writes one")
        text = await run_in_threadpool(report.read_text)
        # It may come from somebody else: as a page of no origin it can ask us for nothing.
        policy = "sandbox allow-scripts allow-popups; frame-ancestors 'none'"
        return HTMLResponse(text, headers={"content-security-policy": policy})

    # --- what there is
    async def _about(self, request: Request) -> Response:
        offered = self._offered
        report = offered.report
        return JSONResponse({
            "families": {name: boards.described(p) for name, p in offered.players.items()},
            "arc": {"vocabulary": boards.vocabulary_of(Arc())},
            "weights": dict(offered.weights),
            "report": report is not None and report.exists(),
            "family": offered.family,
            "begin_with": offered.begin_with,
            "most": {"passes": boards.MOST_PASSES, "rollouts": boards.MOST_ROLLOUTS},
        })  # fmt: skip

    async def _tasks(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._offered.arc.names))

    async def _draw(self, request: Request) -> Response:
        asked = await _read_json(request, _Draw)
        family = self._player(asked.family).family
        if asked.level not in family.levels:
            raise HTTPException(400, f"level: one of {', '.join(family.levels)}")
        grid = await run_in_threadpool(family.draw, asked.level, asked.seed)
        return JSONResponse({"board": grid_rows(grid, family.vocabulary.symbols)})

    async def _check(self, request: Request) -> Response:
        asked = await _read_json(request, _Check)
        family = self._player(asked.family).family
        grid = read_board(asked.board, family.vocabulary.symbols, family.board)

        def look() -> dict[str, Any]:
            conflicts = family.conflicts(grid, grid).reshape(-1)
            return {"conflicts": conflicts.nonzero()[0].tolist(), "remark": family.remark(grid)}

        return JSONResponse(await run_in_threadpool(look))

    async def _find(self, request: Request) -> Response:
        """A puzzle of the run, or an ARC task, by its name."""
        asked = await _read_json(request, _Find)
        return JSONResponse(await run_in_threadpool(find, self._offered, asked.name))

    async def _read(self, request: Request) -> Response:
        asked = await _read_json(request, _Read)
        try:
            value = await run_in_threadpool(json.loads, asked.text)
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, f"not a JSON file: {one_line(error)}") from None
        return JSONResponse({"family": "arc", "task": arc.described(arc.read_task(value))})

    # --- work
    async def _answer(self, request: Request) -> Response:
        asked = await _read_json(request, _Answer)
        player = self._player(asked.family)
        family = player.family
        if asked.remask is not None and player.remask is None:
            raise HTTPException(400, f"remask: {player.method} masks nothing again")
        grid = read_board(asked.board, family.vocabulary.symbols, family.board)
        wanted = boards.Asked(
            grid, asked.passes, asked.rollouts, asked.symmetric, asked.remask, asked.seed
        )

        def work(job: Job) -> None:
            for event in player.answer(wanted, lambda: job.is_stopped):
                job.tell(event)

        return self._stream(request, work)

    async def _adapt(self, request: Request) -> Response:
        asked = await _read_json(request, _Adapt)
        task = arc.read_task(asked.task)

        def work(job: Job) -> None:
            stop = StopRequest(lambda text: None)
            job.when_stopped(lambda: stop.preempt("the page"))
            self._offered.arc.adapt(task, asked.minutes, stop, job.tell)

        return self._stream(request, work)

    def _player(self, family: str) -> BoardPlayer:
        if family not in self._offered.players:
            raise HTTPException(400, f"family: one of {', '.join(self._offered.players)}")
        return self._offered.players[family]

    def _stream(self, request: Request, work: Callable[[Job], None]) -> Response:
        """The events of a job, a line each; when the page goes away the job is stopped."""
        loop, events = asyncio.get_running_loop(), asyncio.Queue()

        def tell(event: dict[str, Any] | None) -> None:
            with contextlib.suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(events.put_nowait, event)

        try:
            job = self._worker.submit(work, tell)
        except BusyError as error:
            raise HTTPException(503, str(error)) from None

        async def lines() -> AsyncIterator[str]:
            gone, event = asyncio.create_task(_gone(request)), None
            try:
                while True:
                    event = asyncio.create_task(events.get())
                    await asyncio.wait({event, gone}, return_when=asyncio.FIRST_COMPLETED)
                    if not event.done() or event.result() is None:
                        return
                    yield json.dumps(event.result()) + "\n"
            finally:
                gone.cancel()
                if event is not None:
                    event.cancel()
                job.stop()

        return StreamingResponse(lines(), media_type="application/x-ndjson")


async def _gone(request: Request) -> None:
    """Until the page is closed."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _test_of(puzzles: FixedPuzzles, name: str) -> Any:
    """The question (h, w) of a test by its name."""
    number = name.removeprefix("puzzle ")
    if not number.isdecimal() or not 0 < int(number) <= len(puzzles.tests):
        raise InputError(f"{name}: there is no such puzzle among {len(puzzles.tests):,}")
    return puzzles.questions(None).candidate(int(number) - 1).question


async def _read_json(request: Request, kind: type[Any]) -> Any:
    """The body of a request; raises HTTPException where it is wrong."""
    body = await request.body()
    try:
        return await run_in_threadpool(msgspec.json.decode, body, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise HTTPException(400, one_line(error)) from None


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code)


async def _wrong(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": one_line(error)}, 400)


def _text(package: str, name: str) -> str:
    folder = importlib.resources.files(f"drm_jax.{package}") / "page"
    return (folder / name).read_text(encoding="utf-8")


class _Server(uvicorn.Server):
    """Ends what is computed before it waits for those who listen."""

    def __init__(self, config: uvicorn.Config, worker: Worker):
        super().__init__(config)
        self._worker = worker

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        # not here, in the midst of whatever the signal has interrupted
        threading.Thread(target=self._worker.close, daemon=True).start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what is cut off is no error
        await super().shutdown(sockets)
        await run_in_threadpool(self._worker.join, _END_SECONDS)


class _Impatient(H11Protocol):
    """A connection that is closed if no request comes."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.loop.call_later(_REQUEST_SECONDS, self._close_unless_asked)

    def _close_unless_asked(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def serve(offered: Offered, port: int, ready: Callable[[str], None]) -> bool:
    """Serves until Ctrl-C; whether all that was computed has ended then.

    Args:
      port: 0 for any that is free.
      ready: is told the address once it can be opened.

    Raises:
      UsageError: the port is taken.
    """
    sock = _listening(port)
    port, token = sock.getsockname()[1], secrets.token_urlsafe(24)
    players = offered.players.values()
    one, several = (
        [functools.partial(player.warm_up, rollouts) for player in players]
        for rollouts in (1, boards.MOST_ROLLOUTS)
    )
    # the lists of tasks take seconds too, but no device
    listing = threading.Thread(target=offered.arc.names, daemon=True)
    worker = Worker([*one, *several, listing.start])
    config = uvicorn.Config(
        Guard(Play(offered, worker).app(), token, port), http=_Impatient, ws="none",
        log_level="error", access_log=False, server_header=False, lifespan="off",
        limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=1,
    )  # fmt: skip
    # uvicorn closes all when it is interrupted, and says so again
    with contextlib.closing(sock), contextlib.suppress(KeyboardInterrupt):
        ready(f"http://127.0.0.1:{port}/{token}/")
        _Server(config, worker).run(sockets=[sock])
    worker.close()
    return worker.join(_END_SECONDS)


def _listening(port: int) -> socket.socket:
    """A socket of this machine alone."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
        sock.listen()
    except (OSError, OverflowError) as error:
        sock.close()
        raise UsageError(f"--port {port}: {error}: name another one, or 0 for any") from error
    return sock
