"""The loss that all methods share: stablemax cross-entropy of cells, and a halting loss."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from drm_jax.model.precision import widened

Sums = dict[str, jax.Array]


def stablemax_cross_entropy(logits_BxSxV: jax.Array, target_BxS: jax.Array) -> jax.Array:
    """-log p[target], (B, S) float32, for p = s/sum(s), s(x) = x+1 for x >= 0, else 1/(1-x).

    As log1p(sum of the other s / s[target]), which keeps float32's relative accuracy however
    small the loss. The branch not taken is fed 0, since its gradient there would be infinite.
    """
    x = widened(logits_BxSxV)
    positive = x >= 0
    s = jnp.where(positive, x + 1, 1 / (1 - jnp.where(positive, 0, x)))
    is_target = jax.nn.one_hot(target_BxS, x.shape[-1], dtype=jnp.bool_)
    others = jnp.where(is_target, 0, s).sum(axis=-1)
    return jnp.log1p(others / jnp.where(is_target, s, 0).sum(axis=-1))


def score_examples(
    logits_BxSxV: jax.Array, q_Bx2: jax.Array, target_BxS: jax.Array, scored_BxS: jax.Array
) -> dict[str, jax.Array]:
    """The loss that all methods share, its parts and the accuracies, (B,) float32 or bool each.

    Per example: the mean cross-entropy of its scored cells, and half the sigmoid cross-entropy of
    q_halt against "every scored cell is right".
    """
    cells_B = jnp.maximum(scored_BxS.sum(axis=-1), 1)
    cell_loss_BxS = stablemax_cross_entropy(logits_BxSxV, target_BxS)
    cell_loss_B = jnp.where(scored_BxS, cell_loss_BxS, 0).sum(axis=-1) / cells_B
    right_BxS = (jnp.argmax(logits_BxSxV, axis=-1) == target_BxS) & scored_BxS
    exact_B = right_BxS.sum(axis=-1) == scored_BxS.sum(axis=-1)
    q_halt_B = q_Bx2[:, 0]
    halt_loss_B = optax.sigmoid_binary_cross_entropy(q_halt_B, exact_B.astype(q_halt_B.dtype))
    loss_B = cell_loss_B + 0.5 * halt_loss_B
    return {
        "loss": loss_B,
        "cell_loss": cell_loss_B,
        "halt_loss": halt_loss_B,
        "accuracy": right_BxS.sum(axis=-1) / cells_B,
        "exact_accuracy": exact_B,
        "halt_accuracy": (q_halt_B >= 0) == exact_B,
        "count": jnp.ones_like(loss_B),
    }


def weighted_sums(examples: Mapping[str, jax.Array], weight_B: jax.Array) -> Sums:
    """Sums over the batch, each example times its weight."""
    return {name: (value_B * weight_B).sum() for name, value_B in examples.items()}


def score(
    logits_BxSxV: jax.Array,
    q_Bx2: jax.Array,
    target_BxS: jax.Array,
    scored_BxS: jax.Array,
    weight_B: jax.Array,
) -> tuple[jax.Array, Sums]:
    """The loss summed over the batch, () float32, and all sums: `score_examples`, weighted."""
    sums = weighted_sums(score_examples(logits_BxSxV, q_Bx2, target_BxS, scored_BxS), weight_B)
    return sums["loss"], sums
