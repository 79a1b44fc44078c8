"""`--profile N`: a trace of N training steps, for TensorBoard's profiler or ui.perfetto.dev."""

import tempfile
from pathlib import Path

import jax
from etils import epath

from drm_jax.io.files import is_remote, write_whole

SETTLED = 2
"""Steps before the trace: the first one compiles."""


class Profiler:
    """Traces the steps (first + SETTLED, first + SETTLED + count] of a run, while entered."""

    def __init__(self, workdir: epath.Path, first_step: int, count: int):
        self.paths: list[epath.Path] = []
        self._folder = workdir / "profile"
        self._start = first_step + SETTLED + 1
        self._last = self._start + count - 1
        self._local: Path | None = None

    def before(self, step: int) -> None:
        """Called before a step is dispatched."""
        if step == self._start <= self._last:
            remote = is_remote(self._folder)
            local = Path(tempfile.mkdtemp(prefix="drm-") if remote else self._folder)
            jax.profiler.start_trace(local, create_perfetto_trace=True)
            self._local = local

    def after(self, step: int, result: object) -> None:
        """Called with what a step gave. Waits for it at the last one that is traced."""
        if self._local is None or step != self._last:
            return
        jax.block_until_ready(result)
        self._write()

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_) -> None:
        if self._local is not None:  # the run ended within the trace
            self._write()

    def _write(self) -> None:
        jax.profiler.stop_trace()
        self.paths.append(self._folder)
        if is_remote(self._folder):
            for path in self._local.rglob("*"):
                if path.is_file():
                    write_whole(self._folder / path.relative_to(self._local), path.read_bytes())
        self._local = None
