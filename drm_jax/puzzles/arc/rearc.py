"""The source rearc: fresh pairs of the ARC-AGI-1 training tasks, made by RE-ARC's generators.

RE-ARC (Michael Hodel, arXiv 2404.07353) has for each of the 400 tasks a program that makes pairs of
its rule, and one that solves them. They are taken from the folder arc/rearc_utils of the package
reasoning-gym, which is found, not imported; none of its code is here.

The pairs follow from the source's name and from that code alone: neither the number of processes
nor the clock nor which other tasks are made decides them. They are kept in the user's cache folder.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Annotated

import numpy as np
from msgspec import Meta

from drm_jax.errors import InputError
from drm_jax.fields import CountOrZero, check, check_fields
from drm_jax.puzzles.arc import rearc_worker
from drm_jax.puzzles.made import keep, kept, progress
from drm_jax.words import counted, first_few

NAME = "rearc"
PACKAGE = "reasoning-gym==0.1.25"
LEAST_PAIRS = 3
"""A task of which no more can be made is left out."""
_FORMAT = 1
"""Raised when other pairs are made of the same code, or when they are kept in another form."""
_OPTION = re.compile("(pairs|side|seed)=([0-9]{1,10})")
_DEFINED = r"(?m)^def {}_(\w+)\("
GridPair = tuple[np.ndarray, np.ndarray]
"""An input and its output, each (h, w) uint8."""


@dataclasses.dataclass(frozen=True)
class Rearc:
    """What the name of the source asks for: rearc:pairs=200,side=10,seed=1, in any order."""

    pairs: Annotated[int, Meta(ge=LEAST_PAIRS, le=10_000)] = 100
    """Of each task, at most."""
    side: Annotated[int, Meta(ge=2, le=30)] = 30
    """Cells along the longest side of a grid, at most."""
    seed: CountOrZero = 0

    def __post_init__(self):
        check_fields(self, NAME)


def is_rearc(name: str) -> bool:
    """Whether a source is this one, with or without options."""
    return name.partition(":")[0] == NAME


def parse_name(name: str, field: str) -> Rearc:
    """The options in the name of the source.

    Args:
      field: the field of the config that names it, for errors.

    Raises:
      UsageError: one is unknown, stands twice or can't have this value.
    """
    _, colon, text = name.partition(":")
    options: dict[str, int] = {}
    for part in text.split(",") if colon else ():
        match = _OPTION.fullmatch(part)
        check(
            match is not None and match[1] not in options,
            f"{field} {name}",
            f"{part!r}: behind the colon stand pairs=N, side=N and seed=N, each at most once, with "
            "commas between them",
        )
        options[match[1]] = int(match[2])
    return Rearc(**options)


def made_pairs(
    name: str,
    field: str,
    only: Collection[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, list[GridPair]]:
    """The pairs of each task by its id, sorted; from the user's cache folder if they are there.

    Args:
      name, field: see `parse_name`.
      only: make those of these ids alone; all where it is empty.
      say: is told in a line of which tasks too few could be made, which are left out.

    Raises:
      InputError: reasoning-gym isn't installed.
      UsageError: see `parse_name`.
    """
    options, folder = parse_name(name, field), _find_folder()
    code = [path.read_bytes() for path in sorted(folder.rglob("*.py"))]
    digest, task_ids = hashlib.sha256(b"".join(code)).hexdigest(), _task_ids(code)
    wanted = [task_id for task_id in task_ids if not only or task_id in only]

    def file(ids: Sequence[str]) -> str:
        decides = repr((_FORMAT, digest, options, ids)).encode()
        return f"{NAME}_{hashlib.sha256(decides).hexdigest()[:24]}"

    arrays = kept(file(task_ids)) or keep(
        file(wanted), functools.partial(_make, folder, options, wanted)
    )
    found = {task_id: pairs for task_id, pairs in _unpack(arrays) if task_id in set(wanted)}
    few = [task_id for task_id, pairs in found.items() if len(pairs) < LEAST_PAIRS]
    if few:
        say(
            f"{name}: left out {counted(len(few), 'task')} of which fewer than {LEAST_PAIRS} pairs "
            f"could be made: {first_few(few)}"
        )
    return {task_id: pairs for task_id, pairs in found.items() if len(pairs) >= LEAST_PAIRS}


def _find_folder() -> Path:
    spec = importlib.util.find_spec("reasoning_gym")  # executes nothing
    for root in spec.submodule_search_locations or () if spec is not None else ():
        folder = Path(root, "arc", "rearc_utils")
        if (folder / "verifiers.py").is_file():
            return folder
    raise InputError(
        f"{NAME}: needs RE-ARC's generators, which the package reasoning-gym has: "
        f"pip install --no-deps {PACKAGE}"
    )


def _task_ids(code: Sequence[bytes]) -> list[str]:
    """Sorted ids of the tasks that have a generator and a verifier."""
    text = b"\n".join(code).decode()
    defined = [set(re.findall(_DEFINED.format(verb), text)) for verb in ("generate", "verify")]
    return sorted(set.intersection(*defined))


# --- in processes --------------------------------------------------------------------------------
def _make(folder: Path, options: Rearc, task_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """The pairs of these tasks as arrays, which `_unpack` reads."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    command = [
        sys.executable, "-P", rearc_worker.__file__, str(folder),
        *map(str, (options.pairs, options.side, options.seed)),
    ]  # fmt: skip
    with (
        progress("pairs of RE-ARC", len(task_ids) * options.pairs) as advance,
        _started(command, min(cores, len(task_ids))) as workers,
    ):
        found = {}
        for task_id, pairs in _answers(workers, task_ids):
            found[task_id] = pairs
            advance(options.pairs)
    return _pack([(task_id, found[task_id]) for task_id in task_ids])


@contextlib.contextmanager
def _started(command: Sequence[str], count: int) -> Iterator[list[subprocess.Popen]]:
    """Processes, which are ended however the block is left."""
    workers: list[subprocess.Popen] = []
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    try:
        for _ in range(count):
            workers.append(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
                )
            )
        yield workers
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.communicate()


def _answers(
    workers: Sequence[subprocess.Popen], task_ids: Sequence[str]
) -> Iterator[tuple[str, list]]:
    """Each task and its pairs, as soon as they are made; a worker has one task at a time."""
    waiting = iter(task_ids)
    at_work: dict[IO[bytes], tuple[subprocess.Popen, str]] = {}

    def give(worker: subprocess.Popen) -> None:
        task_id = next(waiting, None)
        if task_id is not None:
            at_work[worker.stdout] = worker, task_id
            with contextlib.suppress(BrokenPipeError):  # it has ended: there is no answer
                worker.stdin.write(f"{task_id}\n".encode())
                worker.stdin.flush()

    for worker in workers:
        give(worker)
    while at_work:
        for ready in wait(list(at_work)):
            worker, task_id = at_work.pop(ready)
            line = ready.readline()
            if not line:
                raise InputError(
                    f"{NAME}: task {task_id}: a process that makes pairs ended, with exit code "
                    f"{worker.wait()}"
                )
            give(worker)
            yield task_id, json.loads(line)


# --- as arrays -----------------------------------------------------------------------------------
def _pack(found: Sequence[tuple[str, list]]) -> dict[str, np.ndarray]:
    """Tasks and their pairs as K ids and counts, the sizes of G grids, and all of their cells."""
    grids = [np.array(g, np.uint8) for _, pairs in found for pair in pairs for g in pair]
    return {
        "id_K": np.array([task_id for task_id, _ in found], np.str_),
        "count_K": np.array([len(pairs) for _, pairs in found], np.int64),
        "size_Gx2": np.array([grid.shape for grid in grids], np.uint8).reshape(-1, 2),
        "cells": np.concatenate([np.zeros(0, np.uint8), *(grid.reshape(-1) for grid in grids)]),
    }


def _unpack(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, list[GridPair]]]:
    """What `_pack` made arrays of."""
    size_Gx2 = arrays["size_Gx2"].astype(np.int64)
    ends = np.cumsum(size_Gx2.prod(axis=1)).tolist()
    cells, first = arrays["cells"], 0
    grids = []
    for end, (height, width) in zip(ends, size_Gx2.tolist(), strict=True):
        grids.append(cells[first:end].reshape(height, width))
        first = end
    pairs = iter(zip(grids[::2], grids[1::2], strict=True))
    for task_id, count in zip(arrays["id_K"].tolist(), arrays["count_K"].tolist(), strict=True):
        yield task_id, [next(pairs) for _ in range(count)]
