"""AdamATan2 for the network, sign-SGD for puzzle rows, warm-up, and the weight average."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from drm_jax.config import Optimizer

Schedule = Callable[[jax.Array], jax.Array]
_ATAN = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)


def warmup(rate: float, warmup_steps: int) -> Schedule:
    """Constant `rate` after a linear warm-up: step 1 (count 0) has 1/warmup_steps of it."""

    def schedule(count: jax.Array) -> jax.Array:
        return rate * jnp.minimum(1.0, (count + 1.0) / max(1, warmup_steps))

    return schedule


class AdamATan2State(NamedTuple):
    count: jax.Array  # int32, steps done
    m: optax.Updates
    v: optax.Updates


def arctan2(y: jax.Array, x: jax.Array) -> jax.Array:
    """The angle of (x, y) for x >= 0, in [-pi/2, pi/2]; of (0, 0) it is 0.

    XLA calls a scalar function for each element on a CPU, 25 times slower than this. The polynomial
    is that of Cephes' atanf (Moshier, 1989); off by at most 1.5e-7 in float32.
    """
    size = jnp.abs(y)
    larger = jnp.maximum(size, x)
    ratio = jnp.minimum(size, x) / jnp.where(larger == 0, 1, larger)
    far = ratio > math.tan(math.pi / 8)  # atan(r) = pi/4 + atan((r - 1) / (r + 1))
    near = jnp.where(far, (ratio - 1) / (ratio + 1), ratio)
    square = near * near
    angle = near + near * square * jnp.polyval(jnp.array(_ATAN, y.dtype), square, unroll=4)
    angle = jnp.where(far, angle + math.pi / 4, angle)
    return jnp.copysign(jnp.where(size > x, math.pi / 2 - angle, angle), y)


def adam_atan2(
    learning_rate: Schedule,
    beta1: float,
    beta2: float,
    weight_decay: float,
    untrained: Callable[[Any], Any],
) -> optax.GradientTransformation:
    """AdamATan2 with decoupled weight decay. There is no epsilon.

    m <- m + (1-b1)(g-m);  v <- v + (1-b2)(g^2-v)
    p <- p (1 - lr wd) - lr / (1-b1^t) atan2(m, sqrt(v) / sqrt(1-b2^t))

    Args:
      learning_rate: of the number of steps done before this one.
      untrained: from the parameters to a like tree of bools; True leaves a parameter alone. (One
        that gets no gradient must not decay either.)
    """

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamATan2State(jnp.zeros([], jnp.int32), zeros, zeros)

    def update(grads, state, params):
        rate = learning_rate(state.count)
        step = state.count + 1
        correction1 = 1 - beta1 ** step.astype(jnp.float32)
        correction2 = jnp.sqrt(1 - beta2 ** step.astype(jnp.float32))
        m = jax.tree.map(lambda m, g: m + (1 - beta1) * (g - m), state.m, grads)
        v = jax.tree.map(lambda v, g: v + (1 - beta2) * (g * g - v), state.v, grads)

        def change(p, m, v, leave):
            if leave:
                return jnp.zeros_like(p)
            direction = arctan2(m, jnp.sqrt(v) / correction2) / correction1
            return -rate * (weight_decay * p + direction)

        changes = jax.tree.map(change, params, m, v, untrained(params))
        return changes, AdamATan2State(step, m, v)

    return optax.GradientTransformation(init, update)


def network_optimizer(config: Optimizer, trains_answers: bool) -> optax.GradientTransformation:
    """The network's AdamATan2.

    Args:
      trains_answers: whether the table of answers gets gradient. It does only where all cycles
        carry it; else it keeps its initial value, as in the published code.
    """

    def untrained(params):
        return {
            name: jax.tree.map(lambda _, n=name: n == "embed_answers" and not trains_answers, value)
            for name, value in params.items()
        }

    return adam_atan2(
        warmup(config.learning_rate, config.warmup_steps),
        config.beta1,
        config.beta2,
        config.weight_decay,
        untrained,
    )


def sign_sgd(
    rows: jax.Array, grads: jax.Array, rate: jax.Array | float, weight_decay: float
) -> jax.Array:
    """rows <- rows (1 - lr wd) - lr sign(gradients)."""
    return rows * (1 - rate * weight_decay) - rate * jnp.sign(grads)


def average(shadow: Any, params: Any, decay: float) -> Any:
    """s <- (1 - mu) p + mu s, leaf by leaf."""
    return jax.tree.map(lambda s, p: (1 - decay) * p + decay * s, shadow, params)
