"""FLOPs by our own count: products of matrices, and convolutions, 2 for each multiply-add. All else
is small beside them.

What XLA counts of a program is of little use: it takes the body of a loop once.
"""

import dataclasses

from drm_jax.methods.method import Method
from drm_jax.model.backbone import Backbone


@dataclasses.dataclass(frozen=True)
class Flops:
    """Of one example, or of one candidate."""

    train: float  # forward, backward, and what is computed again
    again: float  # the part of it that is computed again in the backward pass
    evaluate: float


def count_flops(
    method: Method, model: Backbone, *, vocab: int, cells: int, denoise_steps: int, platform: str
) -> Flops:
    """FLOPs of an example.

    Args:
      vocab: tokens, MASK counted where the method has it.
      cells: of its board.
      platform: "cpu", "tpu", …: what is computed again differs.

    Raises:
      UsageError: a method or a backbone of the user's own, whose work isn't known.
    """
    work, block = method.work(), model.block_flops(cells)
    embed = 2 * cells * vocab * model.hidden  # a product with one-hot rows
    decode = 2 * cells * model.hidden * vocab + 4 * model.hidden
    forward, with_gradient = work.blocks * block, work.grad_blocks * block
    # A backward pass is two products for each of the forward pass; but one for an embedding, whose
    # one-hot rows need no gradient.
    train = forward + 2 * with_gradient + 3 * work.scored * decode
    train += 2 * work.scored * embed  # of the inputs
    train += work.answer_embeds * embed * (2 if method.trains_answers else 1)
    train += work.plain_passes * (forward + embed + decode)
    again = with_gradient * model.again_share(cells, platform)
    one_step = work.test_blocks * block + decode + work.test_answer_embeds * embed
    return Flops(train + again, again, denoise_steps * one_step + embed)
