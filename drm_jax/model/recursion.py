"""The recursive block: one small network applied again and again by lax.scan.

cycle:    z <- f(z, y + x)  L times;  y <- f(y, z)
forward:  H cycles; only the last `grad_cycles` carry gradient

    x ──┬──────┬──────┬─────────────┐
y, z ─► cycle ─► cycle ─ ✂ ─► cycle ─► y ─► logits, halting
         (no gradient)     │ gradient window │
"""

from collections.abc import Callable

import chex
import jax
from jax import lax

from drm_jax.model.network import Network, Params

Latents = tuple[jax.Array, jax.Array]


def recur(
    block: Callable[[Params, jax.Array, jax.Array], jax.Array],
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

    def cycle(params: Params, x: jax.Array, latents: Latents) -> Latents:
        y, z = latents
        injection = y + x  # the same for all inner steps
        z, _ = lax.scan(lambda z, _: (block(params, z, injection), None), z, length=inner_steps)
        return block(params, y, z), z

    def run(params: Params, x: jax.Array, latents: Latents, length: int) -> Latents:
        return lax.scan(lambda h, _: (cycle(params, x, h), None), latents, length=length)[0]

    latents = (y, z)
    if cycles > grad_cycles:
        # All that goes in is cut off, not only what comes out: nothing is kept for a backward pass.
        frozen_params, frozen_x, latents = lax.stop_gradient((params, x, latents))
        latents = run(frozen_params, frozen_x, latents, cycles - grad_cycles)
    return run(params, x, latents, grad_cycles)


def forward(
    network: Network, params: Params, x_BxTxD: jax.Array, y_BxTxD: jax.Array, z_BxTxD: jax.Array
) -> tuple[jax.Array, jax.Array, Latents]:
    """One forward pass of H cycles.

    Returns:
      logits (B, S, V) float32; halting logits (B, 2) float32; the new latents (y, z), (B, T, D).
    """
    config = network.config

    def block(params: Params, h: jax.Array, injection: jax.Array) -> jax.Array:
        return network.apply({"params": params}, h, injection, method="block")

    y, z = recur(
        block,
        params,
        x_BxTxD,
        y_BxTxD,
        z_BxTxD,
        cycles=config.cycles,
        inner_steps=config.inner_steps,
        grad_cycles=config.grad_cycles,
    )
    variables = {"params": params}
    logits_BxSxV = network.apply(variables, y, method="decode")
    return logits_BxSxV, network.apply(variables, y, method="halting"), (y, z)
