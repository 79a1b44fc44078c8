"""FLOPs by our own count: matrix products, 2 for each multiply-add. All else is small beside them.

What XLA counts of a program is of little use: it takes the body of a loop once.
"""

import dataclasses

from drm_jax.config import CARRIED, Experiment
from drm_jax.errors import UsageError
from drm_jax.methods.objectives import trains_answers
from drm_jax.model.layers import swiglu_width


@dataclasses.dataclass(frozen=True)
class Flops:
    """Of one example, or of one candidate."""

    train: float  # forward, backward, and what is computed again
    again: float  # the part of it that is computed again: by `model.remat`, and for attention
    evaluate: float


def layer_flops(experiment: Experiment, side: int) -> tuple[float, float]:
    """(all, the part of attention's scores and sums) of one layer, forward, one example.

    Args:
      side: of the canvas or window.
    """
    model = experiment.model
    cells, width = side**2, model.hidden
    tokens = model.prefix + cells
    inner = swiglu_width(width, model.expansion, model.swiglu_multiple)
    swiglu = 6 * tokens * width * inner
    if model.mixer == "mlp":
        token_inner = swiglu_width(tokens, model.expansion, model.swiglu_multiple)
        return swiglu + 6 * width * tokens * token_inner, 0.0
    attention = 4 * tokens**2 * width
    return swiglu + 8 * tokens * width**2 + attention, attention


def count_flops(
    experiment: Experiment, side: int | None = None, attention_form: str = "plain"
) -> Flops:
    """FLOPs of an example.

    Args:
      side: of its window, with canvas=fit; None: on the whole canvas.
      attention_form: see `model.attention.choose_attention`; all but plain compute the scores once
        more in the backward pass, instead of keeping them.

    Raises:
      UsageError: an objective of the user's own, whose work isn't known.
    """
    model, objective = experiment.model, experiment.objective
    if ":" in objective:
        raise UsageError(
            f"objective: {objective}: the work of an objective of your own isn't known: plan one "
            "of drm, trm, sprm, diffusion that costs about as much"
        )
    side = side or experiment.data.side
    cells = side**2
    layer, attention = layer_flops(experiment, side)
    block = model.layers * layer
    embed = 2 * cells * model.vocab * model.hidden  # a product with one-hot rows
    decode = 2 * cells * model.hidden * model.vocab + 4 * model.hidden
    cycle = (model.inner_steps + 1) * block
    if objective == "diffusion":
        forward, with_gradient, cycles_scored = block, block, 1
    elif experiment.supervision == "path":
        forward = with_gradient = model.cycles * cycle
        cycles_scored = model.cycles
    else:
        forward, with_gradient, cycles_scored = (
            model.cycles * cycle, model.grad_cycles * cycle, 1,
        )  # fmt: skip
    # A backward pass is two products for each of the forward pass; but one for an embedding, whose
    # one-hot rows need no gradient.
    train = forward + 2 * with_gradient + 3 * cycles_scored * decode
    train += 2 * cycles_scored * embed  # of the inputs
    if objective not in CARRIED:
        train += cycles_scored * embed * (2 if trains_answers(experiment) else 1)
    if experiment.noise.own_answers:
        train += forward + embed + decode  # the pass that gives the answers
    scores = attention / 2 / layer  # a share, of one product of attention's two
    share = {"none": 0.0, "attention": scores, "layer": 1.0}[model.remat]
    if attention_form != "plain":
        share = (1.0 if model.remat == "layer" else 0.0) + scores
    again = with_gradient * share
    one_pass = (block if objective == "diffusion" else model.cycles * cycle) + decode
    if objective not in CARRIED:
        one_pass += embed
    evaluate = experiment.evaluate.denoise_steps * one_pass + embed
    return Flops(train + again, again, evaluate)
