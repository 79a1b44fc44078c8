"""AdamATan2 or Muon for the network, sign-SGD for puzzle rows, warm-up, and the weight average."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from drm_jax.config import Optimizer
from drm_jax.errors import UsageError

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


MOMENTUM = 0.95
"""Of Muon."""
ADAM_RMS = 0.2
"""The root mean square of a step of Adam, over its learning rate, as training shows it (Liu et al.,
arXiv 2502.16982, section 2.2); AdamATan2's is about as large."""


class MuonState(NamedTuple):
    count: jax.Array  # int32, steps done
    m: optax.Updates


def muon(
    learning_rate: Schedule, weight_decay: float, whole: Callable[[Any], Any] = lambda tree: tree
) -> optax.GradientTransformation:
    """Muon of matrices alone, with decoupled weight decay.

    m <- 0.95 m + 0.05 g
    o = 0.95 m + 0.05 g, made nearly orthogonal: optax's five steps of Newton and Schulz
    p <- p (1 - lr wd) - lr 0.2 sqrt(max(rows, columns)) o

    An orthogonal matrix has a root mean square of 1 / sqrt(max(rows, columns)). So scaled, that of
    a step is lr / 5 whatever the shape, as Adam's: one learning rate and weight decay serve for
    both.

    Args:
      learning_rate: of the number of steps done before this one.
      whole: puts matrices that are split over devices together.
    """
    # Without momentum of its own it is the orthogonalisation and nothing else.
    orthogonal = optax.contrib.scale_by_muon(
        beta=0.0,
        nesterov=False,
        weight_dimension_numbers=lambda tree: jax.tree.map(
            lambda _: optax.contrib.MuonDimensionNumbers(), tree
        ),
    )

    def blended(m, grads):
        return jax.tree.map(lambda m, g: MOMENTUM * m + (1 - MOMENTUM) * g, m, grads)

    def init(params):
        return MuonState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(grads, state, params):
        rate = learning_rate(state.count)
        m = blended(state.m, grads)
        mixed = whole(blended(m, grads))
        directions, _ = orthogonal.update(mixed, orthogonal.init(mixed))
        directions = whole(directions)  # or else XLA splits the products between, and sends each

        def change(p, direction):
            return -rate * (weight_decay * p + ADAM_RMS * max(p.shape) ** 0.5 * direction)

        changes = jax.tree.map(change, params, directions)
        return changes, MuonState(state.count + 1, m)

    return optax.GradientTransformation(init, update)


def hidden_matrices(params: Any) -> Any:
    """A like tree of bools: what is a matrix of a hidden layer: of two axes, and named kernel, as
    dense layers of flax name it. Tables of embeddings and heads have names of their own."""

    def is_hidden(path: tuple[Any, ...], weight: Any) -> bool:
        in_dicts = all(isinstance(key, jax.tree_util.DictKey) for key in path)
        return in_dicts and path[-1].key == "kernel" and weight.ndim == 2

    return jax.tree_util.tree_map_with_path(is_hidden, params)


def marked(tree: Any, marks: Any, mark: bool) -> Any:
    """What of a tree of dicts has this mark; None where nothing has. Unlike the empty nodes that
    optax puts in the place of the rest, such a tree can be saved and restored."""
    if not isinstance(marks, dict):  # other containers hold no hidden matrix
        return tree if (marks is True) == mark else None
    parts = {name: marked(tree[name], marks[name], mark) for name in marks}
    return {name: part for name, part in parts.items() if part is not None} or None


def joined(one: Any, other: Any) -> Any:
    """The tree that two `marked` parts are of."""
    if one is None or other is None:
        return other if one is None else one
    return {name: joined(one.get(name), other.get(name)) for name in {**one, **other}}


class MixedState(NamedTuple):
    matrices: MuonState
    others: AdamATan2State


def by_kind(
    matrices: optax.GradientTransformation, others: optax.GradientTransformation
) -> optax.GradientTransformation:
    """One transformation for hidden matrices, another one for all else."""

    def parts(tree: Any, marks: Any) -> tuple[Any, Any]:
        return marked(tree, marks, True), marked(tree, marks, False) or {}

    def init(params):
        of_matrices, of_others = parts(params, hidden_matrices(params))
        if of_matrices is None:
            raise UsageError(
                "optimizer.matrices: muon: the model has no hidden matrix, a kernel of two axes"
            )
        return MixedState(matrices.init(of_matrices), others.init(of_others))

    def update(grads, state, params):
        marks = hidden_matrices(params)
        pairs = zip((matrices, others), parts(grads, marks), state, parts(params, marks))
        (one, of_matrices), (other, of_others) = (
            kind.update(part, old, weights) for kind, part, old, weights in pairs
        )
        return joined(one, other or None), MixedState(of_matrices, of_others)

    return optax.GradientTransformation(init, update)


def network_optimizer(
    config: Optimizer, trains_answers: bool, whole: Callable[[Any], Any] = lambda tree: tree
) -> optax.GradientTransformation:
    """The network's AdamATan2; with Muon for its hidden matrices, if `config.matrices` says so.

    Args:
      trains_answers: whether the table of answers gets gradient. It does only where all cycles
        carry it; else it keeps its initial value, as in the published code.
      whole: see `muon`.
    """

    def untrained(params):
        return {
            name: jax.tree.map(lambda _, n=name: n == "embed_answers" and not trains_answers, value)
            for name, value in params.items()
        }

    rate = warmup(config.learning_rate, config.warmup_steps)
    adam = adam_atan2(rate, config.beta1, config.beta2, config.weight_decay, untrained)
    if config.matrices == "adam_atan2":
        return adam
    return by_kind(muon(rate, config.weight_decay, whole), adam)


def sign_sgd(
    rows: jax.Array, grads: jax.Array, rate: jax.Array | float, weight_decay: float
) -> jax.Array:
    """rows <- rows (1 - lr wd) - lr sign(gradients)."""
    return rows * (1 - rate * weight_decay) - rate * jnp.sign(grads)


def average(shadow: Any, params: Any, decay: float) -> Any:
    """s <- (1 - mu) p + mu s, leaf by leaf."""
    return jax.tree.map(lambda s, p: (1 - decay) * p + decay * s, shadow, params)
