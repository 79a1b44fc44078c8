"""Checksums that any damage changes, and no layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drm_jax.io.checksums import checksums, leaf_checksum
from drm_jax.parallel.mesh import make_mesh, placed


def test_the_checksum_does_not_depend_on_how_an_array_lies():
    x = jax.random.normal(jax.random.key(0), (64, 6))
    mesh = make_mesh(jax.devices()[:4])
    split, whole = (jax.device_put(x, placed(mesh, name)) for name in ("table", "params"))
    assert checksums({"x": split}) == checksums({"x": whole})
    assert checksums({"x": x}) == checksums({"x": whole})


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.uint8])
def test_one_bit_or_two_swapped_elements_change_the_checksum(dtype):
    x = np.asarray(jnp.arange(12).astype(dtype).reshape(3, 4))
    seen = {checksums({"x": jnp.asarray(x)})["x"]}
    raw = x.view(np.uint8)
    for i in range(raw.size):
        for bit in (0, 3, 7):
            changed = raw.copy().reshape(-1)
            changed[i] ^= 1 << bit
            seen.add(checksums({"x": changed.view(x.dtype).reshape(x.shape)})["x"])
    assert len(seen) == 1 + 3 * raw.size
    swapped = x[[1, 0, 2]]
    assert checksums({"x": jnp.asarray(swapped)})["x"] not in seen


def test_every_bit_of_float64_counts():
    with jax.enable_x64(True):
        x = np.array([1.5, -2.0, 3.25])
        seen = {checksums({"x": jnp.asarray(x)})["x"]}
        for bit in range(64 * 3):
            changed = x.copy().view(np.uint64)
            changed[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
            seen.add(checksums({"x": jnp.asarray(changed.view(np.float64))})["x"])
    assert len(seen) == 1 + 64 * 3


def test_two_flipped_signs_do_not_cancel():
    x = jnp.arange(1.0, 7.0)
    flipped = x.at[1].multiply(-1).at[4].multiply(-1)
    assert checksums({"x": x}) != checksums({"x": flipped})


def test_the_checksum_by_hand():
    """In plain Python: a checkpoint of today must still verify in a year."""
    x = np.array([[1.5, -2.0, 0.0]], np.float32)

    def mixed(value: int) -> int:
        value = ((value ^ (value >> 16)) * 0x85EBCA6B) % 2**32
        value = ((value ^ (value >> 13)) * 0xC2B2AE35) % 2**32
        return value ^ (value >> 16)

    bits = x.view(np.uint32)[0].tolist()
    once = [mixed(b ^ mixed(i + 1)) for i, b in enumerate(bits)]
    twice = [mixed((value + 0x9E3779B9) % 2**32) for value in once]
    expected = f"{sum(once) % 2**32:08x}{sum(twice) % 2**32:08x}"
    assert checksums({"x": jnp.asarray(x)})["x"] == expected


def test_the_checksum_makes_no_copy_of_the_array():
    big = jax.ShapeDtypeStruct((4096, 512), jnp.float32)
    memory = jax.jit(leaf_checksum).lower(big).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4096 * 512  # a quarter of its bytes would be 2 MB
