"""What a batch is trained on: the start of the recursion, and the loss.

`drm` (Denoising Recursion Models, arXiv 2604.18839): y starts from the target with a random part
masked, z from z_init; one gradient step an example, on the grid after the last cycle.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from drm_jax.arc.tokens import PAD
from drm_jax.model.network import Network, Params
from drm_jax.model.recursion import forward


def stablemax_cross_entropy(logits_BxSxV: jax.Array, target_BxS: jax.Array) -> jax.Array:
    """-log p[target], (B, S) float32, for p = s/sum(s), s(x) = x+1 for x >= 0, else 1/(1-x).

    As log1p(sum of the other s / s[target]), which keeps float32's relative accuracy however
    small the loss. The branch not taken is fed 0, since its gradient there would be infinite.
    """
    x = logits_BxSxV.astype(jnp.float32)
    positive = x >= 0
    s = jnp.where(positive, x + 1, 1 / (1 - jnp.where(positive, 0, x)))
    is_target = jax.nn.one_hot(target_BxS, x.shape[-1], dtype=jnp.bool_)
    others = jnp.where(is_target, 0, s).sum(axis=-1)
    return jnp.log1p(others / jnp.where(is_target, s, 0).sum(axis=-1))


def score(
    logits_BxSxV: jax.Array,
    q_Bx2: jax.Array,
    target_BxS: jax.Array,
    scored_BxS: jax.Array,
    weight_B: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss that all objectives share, summed over the batch, and sums for metrics.

    Per example: the mean cross-entropy of its scored cells, and half the sigmoid cross-entropy of
    q_halt against "every scored cell is right".

    Returns:
      () float32; sums over the batch, weighted: loss, cell and halting losses, accuracies, count.
    """
    cells_B = jnp.maximum(scored_BxS.sum(axis=-1), 1)
    cell_loss_BxS = stablemax_cross_entropy(logits_BxSxV, target_BxS)
    cell_loss_B = jnp.where(scored_BxS, cell_loss_BxS, 0).sum(axis=-1) / cells_B
    right_BxS = (jnp.argmax(logits_BxSxV, axis=-1) == target_BxS) & scored_BxS
    exact_B = right_BxS.sum(axis=-1) == scored_BxS.sum(axis=-1)
    q_halt_B = q_Bx2[:, 0]
    halt_loss_B = optax.sigmoid_binary_cross_entropy(q_halt_B, exact_B.astype(jnp.float32))
    loss_B = cell_loss_B + 0.5 * halt_loss_B
    sums = {
        "loss": loss_B,
        "cell_loss": cell_loss_B,
        "halt_loss": halt_loss_B,
        "accuracy": right_BxS.sum(axis=-1) / cells_B,
        "exact_accuracy": exact_B,
        "halt_accuracy": (q_halt_B >= 0) == exact_B,
        "count": jnp.ones_like(loss_B),
    }
    return (loss_B * weight_B).sum(), {k: (v * weight_B).sum() for k, v in sums.items()}


def drm_loss(
    network: Network,
    params: Params,
    rows_BxD: jax.Array,
    constants: Params,
    batch: Mapping[str, jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The `drm` loss of a batch, summed over its examples, and metric sums.

    Args:
      rows_BxD: the batch's puzzle rows.
      batch: as `data.stream.make_example` gives, with a leading axis B.
    """
    variables = {"params": params}
    x = network.apply(variables, batch["inputs"], rows_BxD, method="embed")
    y = network.apply(variables, batch["noised"], rows_BxD, answers=True, method="embed")
    z = jnp.broadcast_to(constants["z_init"].astype(x.dtype), x.shape)
    logits_BxSxV, q_Bx2, _ = forward(network, params, x, y, z)
    target_BxS = batch["target"]
    return score(logits_BxSxV, q_Bx2, target_BxS, target_BxS != PAD, batch["weight"])
