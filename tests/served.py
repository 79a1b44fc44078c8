"""drm play as people start it, for the tests: a process of its own and its address."""

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

SECONDS = 180


class Served:
    """A running page."""

    def __init__(self, process: subprocess.Popen, address: str):
        self.process, self.address = process, address
        parts = urlsplit(address)
        self.port, self.path = parts.port, parts.path

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        port: int | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer; a path that begins with / is taken as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=SECONDS)
        with contextlib.closing(connection):
            full = path if path.startswith("/") else f"{self.path}{path}"
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            sent = {"content-type": "application/json"} if data is not None else {}
            connection.request(method, full, data, sent | (headers or {}))
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def ask(self, path: str, body: Any = None) -> Any:
        """What an answer holds."""
        status, _, text = self.request("GET" if body is None else "POST", path, body)
        assert status == 200, text
        return json.loads(text)

    def events(self, path: str, body: Any) -> list[dict[str, Any]]:
        """Those of a job, without what it has to wait for."""
        status, _, text = self.request("POST", path, body)
        assert status == 200, text
        events = [json.loads(line) for line in text.splitlines()]
        return [event for event in events if event["event"] not in ("waiting", "compiling")]


@contextlib.contextmanager
def served(*words: str) -> Iterator[Served]:
    """Started by the command, and closed by Ctrl-C, which must be answered by exit code 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "drm_jax", "play", "--no-browser", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"Play at (http://127\.0\.0\.1:\d+/[\w-]{32}/)\n", line)
        assert found, line + process.stdout.read()
        yield Served(process, found[1])
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, said
        assert not {"Traceback", "Exception", "ERROR", "drm:"} & set(said.split()), said
    finally:
        process.kill()
        process.wait()
