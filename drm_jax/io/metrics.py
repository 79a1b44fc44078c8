"""Scalars and pictures of a run: metrics.jsonl and TensorBoard. Process 0 alone writes."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from tensorboardX import SummaryWriter


class MetricsLog:
    """Appends to WORKDIR/metrics.jsonl and WORKDIR/tensorboard. Use it as a context manager."""

    def __init__(self, workdir: Path, first_step: int):
        """Drops what an earlier start logged past `first_step`, the step this one goes on from."""
        self._file = self._writer = None
        if jax.process_index() != 0:
            return
        path = workdir / "metrics.jsonl"
        kept = [line for line in _lines(path) if 0 < first_step >= json.loads(line)["step"]]
        replacement = path.with_suffix(".tmp")
        replacement.write_text("".join(kept))
        replacement.replace(path)
        self._file = path.open("a")
        purge_step = first_step + 1 if first_step else 0
        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=purge_step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_) -> None:
        if self._file:
            self._file.close()
            self._writer.close()

    def scalars(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """A line of metrics.jsonl, and TensorBoard scalars `kind/name`. NaN is written as null."""
        if not self._file:
            return
        plain = {name: float(value) for name, value in values.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in plain.items()}
        self._file.write(json.dumps({"step": step, "kind": kind, **finite}) + "\n")
        self._file.flush()
        for name, value in plain.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)
        self._writer.flush()

    def picture(self, step: int, name: str, image_HxWx3: np.ndarray) -> None:
        """A TensorBoard image, uint8."""
        if self._writer:
            self._writer.add_image(name, image_HxWx3, step, dataformats="HWC")


def _lines(path: Path) -> list[str]:
    """The whole lines of a file; a torn last one is left out."""
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
