"""Checksums of arrays that don't depend on how they lie on devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from drm_jax.training.state import leaf_names


def _mixed(x: jax.Array) -> jax.Array:
    """The finaliser of murmur3: each bit of a uint32 reaches all 32."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _words(x: jax.Array) -> jax.Array:
    """The bits of an array as uint32: one word an element, two (along a last axis) of 8 bytes."""
    width = x.dtype.itemsize
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    if width == 8:
        return lax.bitcast_convert_type(x, jnp.uint32)
    if width not in (1, 2, 4):
        raise TypeError(f"no checksum is defined for {x.dtype}")
    return lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * width}")).astype(jnp.uint32)


def leaf_checksum(x: jax.Array) -> jax.Array:
    """(2,) uint32: sums over elements, modulo 2**32, of two hashes of the bits and the index.

    A sum has no order, so the value doesn't depend on how the array lies on devices. The hash is a
    bijection of the bits: one changed element always changes the sum. (Bits times an odd hash of
    the index would not do: the signs of any two elements could flip, 2**31 + 2**31 = 0.)
    """
    words = _words(x)
    index = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        index = index * jnp.uint32(size) + lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    once = _mixed(words ^ _mixed(index + jnp.uint32(1)))
    twice = _mixed(once + jnp.uint32(0x9E3779B9))
    # One reduction over both: two would each want the hashes in memory, twice the array's bytes.
    zero, axes = jnp.uint32(0), range(words.ndim)
    sums = lax.reduce((once, twice), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), axes)
    return jnp.stack(sums)


@jax.jit
def _all_checksums(tree: Any) -> jax.Array:
    return jnp.stack([leaf_checksum(x) for x in jax.tree.leaves(tree)])


def checksums(tree: Any) -> dict[str, str]:
    """The checksum of each leaf by name, 16 hexadecimal digits; waits for the arrays."""
    values = np.asarray(_all_checksums(tree)).tolist()
    return {n: f"{a:08x}{b:08x}" for n, (a, b) in zip(leaf_names(tree), values, strict=True)}
