"""The recursive block: one small network applied again and again by lax.scan.

cycle:    z <- f(z, y + x)  L times;  y <- f(y, z)
forward:  H cycles; only the last `grad_cycles` carry gradient

    x ──┬──────┬──────┬─────────────┐
y, z ─► cycle ─► cycle ─ ✂ ─► cycle ─► y ─► logits, halting
         (no gradient)     │ gradient window │

All objectives use this f. `one_pass` is what diffusion does with it instead: y <- f(y, x), once.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax

from drm_jax.model.network import Network, Params

Latents = tuple[jax.Array, jax.Array]
Block = Callable[[Params, jax.Array, jax.Array], jax.Array]
Forward = Callable[
    [Network, Params, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array, Latents]
]
"""As `forward` and `one_pass`."""


def cycle(
    block: Block, params: Params, x: jax.Array, latents: Latents, inner_steps: int
) -> Latents:
    """One cycle: z <- f(z, y + x) `inner_steps` times, then y <- f(y, z); all (B, T, D)."""
    y, z = latents
    injection = y + x  # the same for all inner steps
    z, _ = lax.scan(lambda z, _: (block(params, z, injection), None), z, length=inner_steps)
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
) -> Latents:
    """(y, z) after `cycles` cycles.

    Args:
      block: f(params, h, injection) -> h, all of one shape, here (B, T, D).
      params: passed to `block`; get gradient from the last `grad_cycles` alone.
      x, y, z: embedded input, answer and scratch latents, (B, T, D).
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
    return run(params, x, latents, grad_cycles)


def network_block(network: Network) -> Block:
    """The network's f as a function of its parameters."""
    return lambda params, h, injection: network.apply(
        {"params": params}, h, injection, method="block"
    )


def read_out(network: Network, params: Params, y_BxTxD: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits (B, S, V) and halting logits (B, 2) of an answer latent, float32."""
    variables = {"params": params}
    logits_BxSxV = network.apply(variables, y_BxTxD, method="decode")
    return logits_BxSxV, network.apply(variables, y_BxTxD, method="halting")


def forward(
    network: Network, params: Params, x_BxTxD: jax.Array, y_BxTxD: jax.Array, z_BxTxD: jax.Array
) -> tuple[jax.Array, jax.Array, Latents]:
    """One forward pass of H cycles.

    Returns:
      logits (B, S, V) float32; halting logits (B, 2) float32; the new latents (y, z), (B, T, D).
    """
    config = network.config
    y, z = recur(
        network_block(network),
        params,
        x_BxTxD,
        y_BxTxD,
        z_BxTxD,
        cycles=config.cycles,
        inner_steps=config.inner_steps,
        grad_cycles=config.grad_cycles,
    )
    return *read_out(network, params, y), (y, z)


def one_pass(
    network: Network, params: Params, x_BxTxD: jax.Array, y_BxTxD: jax.Array, z_BxTxD: jax.Array
) -> tuple[jax.Array, jax.Array, Latents]:
    """No recursion: y <- f(y, x) once, through all the layers. As `forward`; z stays as it is."""
    y_BxTxD = network_block(network)(params, y_BxTxD, x_BxTxD)
    return *read_out(network, params, y_BxTxD), (y_BxTxD, z_BxTxD)


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
