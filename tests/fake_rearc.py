"""A stand-in for the package reasoning-gym, with generators of a few lines in place of RE-ARC's.

Their ids are those of real training tasks:
  007bbfb7  a grid and its mirror image
  00d62c1b  likewise, but half of the outputs are wrong, as the verifier knows
  017c7c7b  always 20 cells wide
  025d127b  raises
  045e512c  shows the hash of a text, which another process may have otherwise
"""

import sys
from pathlib import Path

GENERATORS = """
from .helpers import drawn, mirrored


def generate_007bbfb7(rng, diff_lb, diff_ub):
    grid = drawn(rng, 2 + round(28 * rng.uniform(diff_lb, diff_ub)))
    return {"input": grid, "output": mirrored(grid)}


def generate_00d62c1b(rng, diff_lb, diff_ub):
    grid = drawn(rng, 2 + round(28 * rng.uniform(diff_lb, diff_ub)))
    return {"input": grid, "output": mirrored(grid) if rng.random() < 0.5 else grid[:1]}


def generate_017c7c7b(rng, diff_lb, diff_ub):
    grid = drawn(rng, 20)
    return {"input": grid, "output": mirrored(grid)}


def generate_025d127b(rng, diff_lb, diff_ub):
    raise ValueError("this generator raises")


def generate_045e512c(rng, diff_lb, diff_ub):
    print("what is printed is no answer")
    grid = drawn(rng, 2)
    return {"input": grid, "output": ((hash("a text") % 10,),)}
"""
VERIFIERS = """
from .helpers import mirrored

def verify_007bbfb7(I):
    return mirrored(I)


def verify_00d62c1b(I):
    return mirrored(I)


def verify_017c7c7b(I):
    return mirrored(I)


def verify_025d127b(I):
    return I


def verify_045e512c(I):
    return ((hash("a text") % 10,),)
"""
HELPERS = """
def drawn(rng, width):
    return tuple(tuple(rng.randint(0, 9) for _ in range(width)) for _ in range(2))


def mirrored(grid):
    return tuple(row[::-1] for row in grid)
"""


def install_fake_rearc(folder: Path, monkeypatch) -> Path:
    """Writes the package into a folder where it is found; returns its folder of modules."""
    package = folder / "reasoning_gym" / "arc" / "rearc_utils"
    package.mkdir(parents=True)
    (folder / "reasoning_gym" / "__init__.py").write_text("raise ImportError('was executed')")
    texts = {
        "__init__": "", "generators": GENERATORS, "verifiers": VERIFIERS, "helpers": HELPERS
    }  # fmt: skip
    for name, text in texts.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return package
