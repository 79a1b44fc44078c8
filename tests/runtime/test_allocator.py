"""Memory that a process keeps."""

import subprocess
import sys
import types

import pytest

from drm_jax.runtime import allocator

_ONE_BLOCK = """
import ctypes, resource, sys
from drm_jax.runtime.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
libc, size = ctypes.CDLL(None), 2**26
libc.malloc.restype = ctypes.c_void_p
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
    libc.memset(block, 1, ctypes.c_size_t(size))
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(how: str) -> int:
    """How many pages a process is given for 8 blocks of 64 MB, each freed before the next."""
    command = [sys.executable, "-c", _ONE_BLOCK, how]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_a_block_that_was_freed_is_used_again(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert new_pages("keep") < new_pages("default") / 2


@pytest.mark.parametrize("name", ["MALLOC_TOP_PAD_", "GLIBC_TUNABLES"])
def test_what_the_environment_says_stands(monkeypatch, name):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("changed"))
    monkeypatch.setattr(allocator, "_may_have_accelerator", lambda: False)
    monkeypatch.setenv(name, "")
    allocator.keep_freed_memory()


def test_a_machine_with_an_accelerator_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("changed"))
    config = types.SimpleNamespace(jax_platforms=None)
    monkeypatch.setattr(allocator, "jax", types.SimpleNamespace(config=config))
    monkeypatch.setattr(allocator.importlib.metadata, "entry_points", lambda group: ["cuda"])
    allocator.keep_freed_memory()
