"""Who may ask the page for what: a request that isn't the page's own is refused in one line.

The address holds a random token, so that no other program or page of this machine can guess it. A
page of another site can neither read an answer nor have anything done: its Origin differs, and a
name of its own that leads to this machine (DNS rebinding) is no Host of ours.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

MOST_BYTES = 1_000_000
"""Of a request's body."""
_TOO_LARGE = 413, f"a request has at most {MOST_BYTES:,} bytes"
BODY_SECONDS = 10.0
_MOST_DISCARDED = 16 * MOST_BYTES
"""A refused body is read to here: a client that is cut off while it sends hears no refusal."""
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_HEADERS = {
    "cache-control": "no-store",
    "connection": "close",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """Lets the page's own requests through to an app, whose paths begin after the token; of HTTP
    alone: the server is set to take no web sockets and to tell of no start and end."""

    def __init__(self, app: App, token: str, port: int):
        self._app, self._token = app, token
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            with contextlib.suppress(TooLargeError, TimeoutError):  # else it isn't heard
                await asyncio.wait_for(_body(receive, _MOST_DISCARDED, keep=False), BODY_SECONDS)
            await refuse(send, *refusal)
            return
        body = b""
        if scope["method"] == "POST":
            try:
                body = await asyncio.wait_for(_body(receive), BODY_SECONDS)
            except TooLargeError:
                await refuse(send, *_TOO_LARGE)
                return
            except TimeoutError:
                await refuse(send, 408, "the request didn't arrive in time")
                return
        _, _, rest = scope["path"].lstrip("/").partition("/")
        inner = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode(), "root_path": ""}
        await self._app(inner, _with_body(body, receive), _with_headers(send))

    def _refusal(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and words; None: the request is the page's own."""
        if headers.get("host") not in self._hosts:
            return 403, "this page is for 127.0.0.1 alone"
        if _is_of_another_page(headers, self._hosts) and not _opens_a_page(scope, headers):
            return 403, "requests of other pages are refused"
        token, _, rest = scope["path"].lstrip("/").partition("/")
        if not secrets.compare_digest(token.encode(), self._token.encode()):
            return 403, "open the address that drm play has printed: it ends with a token"
        if not rest and not scope["path"].endswith("/"):
            return 403, "the address ends with a slash"
        if scope["method"] not in ("GET", "POST"):
            return 405, "there are GET and POST alone"
        if scope["method"] == "POST":
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return 415, "a request is application/json"
            length = headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > MOST_BYTES:
                return _TOO_LARGE
        return None


def _is_of_another_page(headers: dict[str, str], hosts: set[str]) -> bool:
    origin = headers.get("origin")
    return (origin is not None and origin not in {f"http://{host}" for host in hosts}) or (
        headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    )


def _opens_a_page(scope: Message, headers: dict[str, str]) -> bool:
    """Whether somebody follows a link, as from the report: the page that has it learns nothing."""
    return (
        scope["method"] == "GET"
        and "origin" not in headers
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


class TooLargeError(Exception):
    """A body is too large."""


async def _body(receive: Receive, most: int = MOST_BYTES, keep: bool = True) -> bytes:
    """The body of a request; b"" where it isn't kept."""
    parts, total, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        part = message.get("body", b"")
        total += len(part)
        if keep:
            parts.append(part)
        if total > most:
            raise TooLargeError
        more = message.get("more_body", False)
    return b"".join(parts)


def _with_body(body: bytes, receive: Receive) -> Receive:
    """As if the body arrived now."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message.get("headers", [])}
            more = [
                (name.encode(), value.encode())
                for name, value in _HEADERS.items()
                if name.encode() not in there
            ]
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await send(message)

    return sent


async def refuse(send: Send, status: int, text: str) -> None:
    """Answers {"error": text}."""
    body = json.dumps({"error": text}).encode()
    headers = {**_HEADERS, "content-type": "application/json"}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    encoded.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
