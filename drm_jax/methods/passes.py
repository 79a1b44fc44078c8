"""What can be added to the passes of a test, whatever the method: noise on latents, so that
rollouts of a candidate differ, and an early exit."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from drm_jax.fields import NUM_LEVELS

Step = Callable[[Any, tuple[jax.Array, jax.Array]], tuple[Any, Any]]
"""(what a pass begins from, (its number, its noise level)) -> (what the next one begins from, a
`method.Passed`)"""


@dataclasses.dataclass(frozen=True)
class Exit:
    """When an answer is final before the last pass: as soon as one of these holds; None: never."""

    change: float | None = None
    """At most this share of its cells changed since the pass before."""
    entropy: float | None = None
    """The entropy of its cells, in nats, is at most this on average."""

    def __bool__(self) -> bool:
        return self.change is not None or self.entropy is not None


NO_EXIT = Exit()


def with_latent_noise(carry: Any, key_B: jax.Array, index: jax.Array, scale: float) -> Any:
    """What a pass begins from, with independent normal noise on every latent; tokens stay.

    Args:
      carry: a tree of arrays (B, …).
      key_B: one random key a row.
      index: of the pass.
      scale: standard deviation. Latents have a mean square of 1.
    """
    leaves, shape = jax.tree.flatten(carry)

    def noised(number: int, leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf

        def noise(key: jax.Array) -> jax.Array:
            # Remasking folds in numbers of passes, which are smaller.
            of_leaf = jax.random.fold_in(jax.random.fold_in(key, NUM_LEVELS + 1 + number), index)
            return jax.random.normal(of_leaf, leaf.shape[1:])

        return leaf + (scale * jax.vmap(noise)(key_B)).astype(leaf.dtype)

    return jax.tree.unflatten(shape, [noised(n, leaf) for n, leaf in enumerate(leaves)])


def where_rows(which_B: jax.Array, one: jax.Array, other: jax.Array) -> jax.Array:
    """The rows (B, …) of one array where `which_B` says so, else those of the other."""
    return jnp.where(which_B.reshape(-1, *[1] * (other.ndim - 1)), one, other)


def scan_to_exit(
    step: Step, start: Any, steps: tuple[jax.Array, jax.Array], exits: Exit, count: int
) -> tuple[Any, jax.Array]:
    """`lax.scan` of passes that leaves an answer as it is once it is final.

    A pass is computed as long as the answer of any row isn't final.

    Args:
      steps: numbers (N,) and noise levels (N,) of the passes.
      count: B.

    Returns:
      What each pass gave, N first; of a final answer its last pass again. (B,) int32: passes used.
    """

    def body(state: Any, at: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
        state = lax.cond(state[2].all(), lambda state: state, lambda state: go_on(state, at), state)
        return state, state[1]

    def go_on(state: Any, at: tuple[jax.Array, jax.Array]) -> Any:
        carry, before, final_B, used_B = state
        carry, now = step(carry, at)
        now = jax.tree.map(functools.partial(where_rows, final_B), before, now)
        return carry, now, final_B | _is_final(before, now, at[0], exits), used_B + ~final_B

    first = steps[0][0], steps[1][0]
    nothing = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(step, start, first)[1]
    )
    state = start, nothing, jnp.zeros(count, bool), jnp.zeros(count, jnp.int32)
    (_, _, _, used_B), given = lax.scan(body, state, steps)
    return given, used_B


def _is_final(before: Any, now: Any, index: jax.Array, exits: Exit) -> jax.Array:
    """(B,) bool, from two passes, the later one of this number."""
    final_B = jnp.zeros(now.predicted.shape[0], bool)
    if exits.change is not None:
        changed_B = (before.predicted != now.predicted).mean(axis=-1)
        final_B |= (changed_B <= exits.change) & (index > 0)
    if exits.entropy is not None:
        final_B |= now.entropy <= exits.entropy
    return final_B
