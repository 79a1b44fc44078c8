"""The recursive block: one small network applied again and again by lax.scan.

cycle:    z <- f(z, y + x)  L times;  y <- f(y, z)
forward:  H cycles; only the last `grad_cycles` carry gradient, of the first of these all of it, or
          the last `grad_inner_steps` updates of z and that of y

    x ──┬──────┬──────┬─────────────┐
y, z ─► cycle ─► cycle ─ ✂ ─► cycle ─► y ─► logits, halting
         (no gradient)     │ gradient window │

All methods use this f. `one_pass` is what diffusion does with it instead: y <- f(y, x), once.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import chex
import jax
import jax.numpy as jnp
from jax import lax
from msgspec import Meta

from drm_jax.fields import NUM_LEVELS, Count, added, check, check_fields
from drm_jax.model.backbone import Network, Params

Latents = tuple[jax.Array, jax.Array]
Block = Callable[[Params, jax.Array, jax.Array], jax.Array]
Pass = tuple[jax.Array, jax.Array, Latents]
"""What a forward pass gives: logits (B, S, V) and halting logits (B, 2), both of `wide_type`, and
the new latents (y, z), (B, T, D)."""


@dataclasses.dataclass(frozen=True)
class Recursion:
    """How often the block is applied in a forward pass."""

    cycles: Annotated[int, Meta(ge=1, le=NUM_LEVELS)] = 3
    """H: a cycle is `inner_steps` updates of z, then one of y. supervision=path scores each."""
    inner_steps: Count = 4
    """L: updates of z in a cycle."""
    grad_cycles: Count = 1
    """The last cycles, which carry gradient (1 in the papers)."""
    grad_inner_steps: Count | None = added(None)
    """Of the first cycle that carries gradient only the last so many updates of z do, and that of
    y. With supervision=path, of every cycle. None: all of them."""

    def __post_init__(self):
        check_fields(self, "method.recursion")
        check(
            self.cut_steps >= 0,
            "method.recursion.grad_inner_steps",
            f"{self.grad_inner_steps} is more than the inner_steps, {self.inner_steps}",
        )
        check(
            self.grad_cycles <= self.cycles,
            "method.recursion.grad_cycles",
            f"{self.grad_cycles} is more than the {self.cycles} cycles there are",
        )

    @property
    def cut_steps(self) -> int:
        """Updates of z without gradient at the beginning of the gradient window."""
        return 0 if self.grad_inner_steps is None else self.inner_steps - self.grad_inner_steps

    @property
    def blocks(self) -> int:
        """Calls of f in a forward pass."""
        return self.cycles * (self.inner_steps + 1)

    @property
    def grad_blocks(self) -> int:
        """Those of them that are differentiated."""
        return self.grad_cycles * (self.inner_steps + 1) - self.cut_steps


def cycle(
    block: Block,
    params: Params,
    x: jax.Array,
    latents: Latents,
    inner_steps: int,
    cut_steps: int = 0,
) -> Latents:
    """One cycle: z <- f(z, y + x) `inner_steps` times, then y <- f(y, z); all (B, T, D).

    Args:
      cut_steps: so many of the updates of z, the first ones, get no gradient, and pass none on.
    """

    def updated(params: Params, injection: jax.Array, z: jax.Array, length: int) -> jax.Array:
        return lax.scan(lambda z, _: (block(params, z, injection), None), z, length=length)[0]

    y, z = latents
    injection = y + x  # the same for all inner steps
    if cut_steps:
        # All that goes in, as in `recur`.
        z = updated(*lax.stop_gradient((params, injection, z)), cut_steps)
    z = updated(params, injection, z, inner_steps - cut_steps)
    return block(params, y, z), z


def recur(
    block: Block,
    params: Params,
    x: jax.Array,
    y: jax.Array,
    z: jax.Array,
    *,
    cycles: int,
    inner_steps: int,
    grad_cycles: int,
    cut_steps: int = 0,
) -> Latents:
    """(y, z) after `cycles` cycles.

    Args:
      block: f(params, h, injection) -> h, all of one shape, here (B, T, D).
      params: passed to `block`; get gradient from the last `grad_cycles` alone.
      x, y, z: embedded input, answer and scratch latents, (B, T, D).
      cut_steps: see `cycle`; of the first of the last `grad_cycles`.
    """
    chex.assert_equal_shape([x, y, z])

    def run(params: Params, x: jax.Array, latents: Latents, length: int) -> Latents:
        def body(latents: Latents, _: None) -> tuple[Latents, None]:
            return cycle(block, params, x, latents, inner_steps), None

        return lax.scan(body, latents, length=length)[0]

    latents = (y, z)
    if cycles > grad_cycles:
        # All that goes in is cut off, not only what comes out: nothing is kept for a backward pass.
        frozen_params, frozen_x, latents = lax.stop_gradient((params, x, latents))
        latents = run(frozen_params, frozen_x, latents, cycles - grad_cycles)
    if cut_steps:
        latents = cycle(block, params, x, latents, inner_steps, cut_steps)
        grad_cycles -= 1
    return run(params, x, latents, grad_cycles) if grad_cycles else latents


def read_out(network: Network, params: Params, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits (B, S, V) and halting logits (B, 2) of an answer latent."""
    return network.decode(params, y), network.halting(params, y)


def forward(
    network: Network, recursion: Recursion, params: Params, x: jax.Array, y: jax.Array, z: jax.Array
) -> Pass:
    """One forward pass of H cycles; all latents (B, T, D)."""
    y, z = recur(
        network.block,
        params,
        x,
        y,
        z,
        cycles=recursion.cycles,
        inner_steps=recursion.inner_steps,
        grad_cycles=recursion.grad_cycles,
        cut_steps=recursion.cut_steps,
    )
    return *read_out(network, params, y), (y, z)


def one_pass(network: Network, params: Params, x: jax.Array, y: jax.Array, z: jax.Array) -> Pass:
    """No recursion: y <- f(y, x) once, through all the layers. z stays as it is."""
    y = network.block(params, y, x)
    return *read_out(network, params, y), (y, z)


StepLoss = Callable[[Any, Any, jax.Array], tuple[jax.Array, tuple[Any, Any]]]


def sum_of_losses(step: StepLoss, trained: Any, state: Any, length: int) -> tuple[jax.Array, Any]:
    """Adds up the losses of a loop that passes no gradient from step to step.

    Each step's gradient is taken within the loop, so that no step's activations outlive it: the
    memory is that of one step, and nothing is computed twice.

    Args:
      step: (trained, state, k) -> (loss, (aux, state)), for k = 0, 1, …; state gets no gradient.
      trained: what the sum is differentiated by, and nothing else.

    Returns:
      The sum of the losses; aux of all steps, stacked.
    """

    def plain(trained: Any) -> tuple[jax.Array, Any]:
        def body(state: Any, k: jax.Array) -> tuple[Any, Any]:
            loss, (aux, state) = step(trained, state, k)
            return state, (loss, aux)

        _, (loss_K, aux_K) = lax.scan(body, state, jnp.arange(length))
        return loss_K.sum(), aux_K

    def with_gradient(trained: Any) -> tuple[tuple[jax.Array, Any], Any]:
        def body(carry: tuple[Any, Any], k: jax.Array) -> tuple[tuple[Any, Any], Any]:
            state, total = carry
            gradient = jax.value_and_grad(step, has_aux=True)
            (loss, (aux, state)), grads = gradient(trained, state, k)
            return (state, jax.tree.map(jnp.add, total, grads)), (loss, aux)

        start = (state, jax.tree.map(jnp.zeros_like, trained))
        (_, grads), (loss_K, aux_K) = lax.scan(body, start, jnp.arange(length))
        return (loss_K.sum(), aux_K), grads

    def backward(grads: Any, cotangents: tuple[jax.Array, Any]) -> tuple[Any]:
        return (jax.tree.map(lambda g: g * cotangents[0], grads),)

    total = jax.custom_vjp(plain)
    total.defvjp(with_gradient, backward)
    return total(trained)
