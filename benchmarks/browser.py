"""A headless Chromium, for tests and benchmarks of the report."""

import os
import shutil
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def launch(play: Any) -> Any:
    """A browser, or None where there is no Chromium: `make browser` installs one.

    Args:
      play: what playwright's `sync_playwright` gives.
    """
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    found = found or play.chromium.executable_path  # its own, which it may have downloaded
    if not os.path.exists(found):
        return None
    return play.chromium.launch(executable_path=found, args=_FLAGS)
