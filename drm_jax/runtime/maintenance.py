"""Notices of a Google Cloud machine that it is about to be taken away.

Its metadata server tells of the preemption of a spot machine some 30 s before, and of maintenance
that ends the machine minutes to an hour before; SIGTERM comes later, or never.
"""

import contextlib
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

LOOK_SECONDS = 5.0
_PREEMPTED, _EVENT = "preempted", "maintenance-event"


@contextlib.contextmanager
def watch(told: Callable[[str], None]) -> Iterator[None]:
    """Calls `told` at the first notice, from a thread. Does nothing on other machines.

    A maintenance that was announced before is passed over: a run that was started all the same
    must not stop at once, again and again until it comes.
    """
    host = os.environ.get("GCE_METADATA_HOST") or _metadata_host()
    if host is None:
        yield
        return
    ended = threading.Event()
    watcher = threading.Thread(target=_look, args=(host, told, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()


def _metadata_host() -> str | None:
    try:
        product = Path("/sys/class/dmi/id/product_name").read_text(encoding="utf-8")
    except OSError:
        return None
    return "metadata.google.internal" if "Google" in product else None


def _look(host: str, told: Callable[[str], None], ended: threading.Event) -> None:
    known = _ask(host, _EVENT)
    while not ended.wait(LOOK_SECONDS):
        if _ask(host, _PREEMPTED) == "TRUE":
            told("a notice of preemption")
            return
        event = _ask(host, _EVENT)
        if event != known and event is not None:
            if event.startswith("TERMINATE"):
                told(f"a maintenance notice ({event})")
                return
            known = event


def _ask(host: str, name: str) -> str | None:
    """What the metadata server says; None where it doesn't answer."""
    url = f"http://{host}/computeMetadata/v1/instance/{name}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    # It is on the machine itself: no proxy in between.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), opener.open(request, timeout=3) as answer:
        return answer.read(200).decode(errors="replace").strip()
    return None
