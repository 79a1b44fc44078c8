"""Random numbers of examples: a function of (seed, index), whatever is drawn beside them."""

from collections.abc import Sequence

import numpy as np


def draw_bits(seed: Sequence[int], first: int, count: int, each: int) -> np.ndarray:
    """(count, each) uint32: random numbers of the examples `first`, `first` + 1, … of a seed.

    Those of an example are a function of (seed, its index): Philox is a counter, not a walk.

    Args:
      seed: numbers that together make one seed.
    """
    turns = -(-each // 8)  # a turn of the counter gives 8 numbers
    key = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    bits = np.random.Philox(key=key, counter=int(first) * turns)
    return bits.random_raw(count * turns * 4).view(np.uint32).reshape(count, -1)[:, :each]


def bits_at(seed: Sequence[int], index_N: np.ndarray, each: int) -> np.ndarray:
    """(N, each) uint32: random numbers of any indices below 2**58, a function of (seed, index).

    Other numbers than those of `draw_bits`, and faster where indices aren't neighbours: number k of
    SplitMix64 is a mix of k alone.
    """
    turns = -(-each // 2)  # a turn gives 2 numbers
    (start,) = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    turn_NxT = index_N.astype(np.uint64)[:, None] * np.uint64(turns) + np.arange(
        turns, dtype=np.uint64
    )
    return mix_bits(start + turn_NxT * GOLDEN).view(np.uint32)[:, :each]


GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The step of SplitMix64."""


def mix_bits(x: np.ndarray) -> np.ndarray:
    """uint64 scrambled, one to one: what SplitMix64 makes of its counter."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def below(bits: np.ndarray, limit: np.ndarray | int) -> np.ndarray:
    """Integers in [0, limit) from 32 random bits each; the bias is below limit / 2**32."""
    return (bits * np.asarray(limit, np.uint64) >> np.uint64(32)).astype(np.int64)


def unit(bits: np.ndarray) -> np.ndarray:
    """float32 in [0, 1) from 32 random bits each."""
    return (bits >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)
