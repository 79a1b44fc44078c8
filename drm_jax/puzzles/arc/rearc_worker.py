"""Makes pairs of ARC tasks by RE-ARC's generators: a script, which `arc.rearc` runs in processes.

    python rearc_worker.py FOLDER PAIRS SIDE SEED    task ids come in, a line each; for each one its
                                                     pairs go out as a line of JSON

A process of its own, and started by its path: RE-ARC's code runs beside nothing else, with a fixed
seed of hashes, and the program that waits for it is not imported a second time. So this file needs
the standard library alone.
"""

import importlib
import importlib.util
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

Grid = list[list[int]]
Generator = Callable[[random.Random, float, float], dict]
"""generate_ID(rng, least difficulty, largest difficulty) -> {"input": grid, "output": grid}"""
Verifier = Callable[[object], object]
"""verify_ID(input) -> output"""

MOST_TRIES = 10
"""Draws of one pair, before it is given up."""
HOPELESS = 20
"""A task is given up if so many of its pairs in a row, from the first one, are."""
MOST_NUMBERS = 50_000
"""Random numbers that one draw may use: nearly all use a few hundred."""
TOO_LARGE = "larger than the side"
_PACKAGE = "rearc_utils_of_drm_jax"


class TooManyNumbersError(Exception):
    """A generator that draws again and again until something fits doesn't come to an end."""


class BoundedRandom(random.Random):
    """The numbers of `random.Random`, but only `MOST_NUMBERS` of them.

    A limit in seconds would make the pairs depend on the machine.
    """

    used = 0

    def random(self) -> float:
        self._count()
        return super().random()

    def getrandbits(self, bits: int) -> int:
        self._count()
        return super().getrandbits(bits)

    def _count(self) -> None:
        self.used += 1
        if self.used > MOST_NUMBERS:
            raise TooManyNumbersError


def load_rearc(folder: Path) -> tuple[ModuleType, ModuleType]:
    """RE-ARC's generators and verifiers, from the folder rearc_utils of reasoning-gym.

    Loaded as a package of its own: reasoning_gym imports a dozen packages that these don't need.
    """
    spec = importlib.util.spec_from_file_location(
        _PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules[_PACKAGE] = package  # its modules import each other relative to it
    spec.loader.exec_module(package)
    return tuple(importlib.import_module(f"{_PACKAGE}.{m}") for m in ("generators", "verifiers"))


def make_pairs(
    task_id: str, generate: Generator, verify: Verifier, pairs: int, side: int, seed: int
) -> tuple[list[tuple[Grid, Grid]], Counter[str]]:
    """Up to `pairs` distinct pairs of a task, and how often draws were rejected, by reason.

    A function of these arguments alone; the first ones are the same for any number of pairs.

    Args:
      side: cells along the longest side that a grid may have.
    """
    found: dict[str, tuple[Grid, Grid]] = {}
    rejected: Counter[str] = Counter()
    for number in range(pairs):
        if number == HOPELESS and not found:
            break
        difficulty = 1.0  # the largest that is asked for
        for attempt in range(MOST_TRIES):
            rng = BoundedRandom(f"{seed} {task_id} {number} {attempt}")
            pair, reason = _draw(generate, verify, rng, difficulty, side)
            reason = reason or ("a repeated input" if str(pair[0]) in found else "")
            if not reason:
                found[str(pair[0])] = pair
                break
            rejected[reason] += 1
            # in RE-ARC the size of grids grows with the difficulty
            difficulty /= 2 if reason == TOO_LARGE else 1
    return list(found.values()), rejected


def _draw(
    generate: Generator, verify: Verifier, rng: random.Random, difficulty: float, side: int
) -> tuple[tuple[Grid, Grid], str]:
    """A pair, and why it can't be used; "" if it can. Whatever it may be that is raised, is why.

    From narrow and wide ranges of difficulty, easy ones and hard ones.
    """
    least, largest = sorted((difficulty * rng.random(), difficulty * rng.random()))
    try:
        example = generate(rng, least, largest)
        grids = [[list(row) for row in example[part]] for part in ("input", "output")]
        if not all(map(_is_grid, grids)):
            return ([], []), "not a grid"
        if max(max(len(grid), len(grid[0])) for grid in grids) > side:
            return ([], []), TOO_LARGE
        if grids[0] == grids[1]:
            return ([], []), "an output equal to its input"
        if [list(row) for row in verify(tuple(map(tuple, grids[0])))] != grids[1]:
            return ([], []), "not confirmed by the verifier"
    except TooManyNumbersError:
        return ([], []), "too many random numbers"
    except Exception:
        return ([], []), "an exception"
    return (grids[0], grids[1]), ""


def _is_grid(grid: Grid) -> bool:
    return (
        bool(grid)
        and len(grid[0]) > 0
        and all(len(row) == len(grid[0]) for row in grid)
        and all(type(cell) is int and 0 <= cell <= 9 for row in grid for cell in row)
    )


def main(folder: str, *numbers: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # and ends without a word when that is gone
    answers, sys.stdout = sys.stdout, None  # what a generator may print is no answer
    generators, verifiers = load_rearc(Path(folder))
    for line in sys.stdin:
        task_id = line.strip()
        generate, verify = (
            getattr(module, f"{verb}_{task_id}")
            for verb, module in (("generate", generators), ("verify", verifiers))
        )
        found, _ = make_pairs(task_id, generate, verify, *map(int, numbers))
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
