"""`drm play`: how long until its page can be used, and until the first pass of a Sudoku is seen.

    python -m benchmarks.play

With the network of the package, in a Chromium (make browser; without one there is no figure). A
press is timed on the page, from the click to the frame that shows the first pass; the programs are
compiled, which a first press of each kind sees to.
"""

import math
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks import harness
from benchmarks.browser import launch
from benchmarks.harness import Column

_PRESSES = 20
_PRESS = """rollouts => new Promise(done => {
  const room = document.querySelector("#room-sudoku"), [passes, breadth] = room.querySelectorAll("input[type=number]");
  passes.value = "16";
  breadth.value = String(rollouts);
  const boards = room.querySelector(".rollouts"), before = performance.now();
  const shown = () => {
    if (!boards.children.length) { requestAnimationFrame(shown); return; }
    requestAnimationFrame(() => done(performance.now() - before));
  };
  room.querySelector(".go").click();
  shown();
})"""  # noqa: E501
_IDLE = "() => document.querySelector('#room-sudoku .go').disabled"


def main() -> None:
    options = harness.parser(__doc__).parse_args()
    harness.report(
        "drm play",
        harness.measure_all("benchmarks.play", [{}], options.rounds),
        [
            Column("the address is there, s", lambda r: f"{r['start']:.1f}"),
            Column("a puzzle is shown, s", lambda r: f"{r['opened']:.1f}"),
            Column("first pass after a press, ms", lambda r: f"{r['one']:.0f}"),
            Column("the slowest press, ms", lambda r: f"{r['slowest']:.0f}"),
            Column("with 8 rollouts, ms", lambda r: f"{r['eight']:.0f}"),
        ],
        options,
    )


def child(case: dict[str, Any]) -> dict[str, Any]:
    """The figures of one round, from the start of the command on."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "drm_jax", "play", "--no-browser"],
        stdout=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    try:
        address = process.stdout.readline().split()[-1]
        start = time.perf_counter() - began
        return {"start": start, **_on_the_page(address, began)}
    finally:
        process.kill()
        process.wait()


def _on_the_page(address: str, began: float) -> dict[str, float]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = launch(play)
        if browser is None:
            return dict.fromkeys(("opened", "one", "slowest", "eight"), math.nan)
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#room-sudoku canvas[aria-label*='cells: ']")
        opened = time.perf_counter() - began
        times = {}
        for rollouts in (1, 8):
            _press(page, rollouts)  # compiles
            times[rollouts] = [_press(page, rollouts) for _ in range(_PRESSES)]
        browser.close()
    return {
        "opened": opened,
        "one": statistics.median(times[1]),
        "slowest": max(times[1] + times[8]),
        "eight": statistics.median(times[8]),
    }


def _press(page: Any, rollouts: int) -> float:
    """Milliseconds from a press to the first pass on the screen; returns when all are made."""
    milliseconds = page.evaluate(_PRESS, rollouts)
    while page.evaluate(_IDLE):
        time.sleep(0.05)
    return milliseconds


if __name__ == "__main__":
    harness.run(main, child)
