"""Looking into the work directories that tests leave."""

import functools
import io
import json

import jax
from rich.console import Console

from drm_jax.io import checkpoint
from drm_jax.run.setup import set_up
from drm_jax.training.state import abstract_state


def quiet() -> Console:
    """A console whose text is read from its `file`."""
    return Console(file=io.StringIO(), width=100)


def saved(workdir, experiment, step):
    """The state of a checkpoint, on the host."""
    return jax.device_get(checkpoint.restore(workdir, step, _target(experiment)).state)


@functools.cache
def _target(experiment):
    setup = set_up(experiment)
    return abstract_state(setup.make_state, setup.shardings)


def log_lines(workdir) -> list[dict]:
    """The lines of metrics.jsonl, without the one number that a clock decides."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "examples_per_second"} for line in lines]
