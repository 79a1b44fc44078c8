"""DRM's network and its training step in PyTorch: what `benchmarks.torch_step` times.

Written for the comparison alone, from the paper's formulas (docs/algorithm.md), as plain functions
of a dict of weights: the layers, the loop, the loss and the products of our own `drm` step with
gradient through the last cycle. Eager PyTorch; attention by scaled_dot_product_attention; weights
are cast once a step. The optimiser is torch's fused AdamW, which computes less than AdamATan2.

B batch, S cells of a board, P puzzle-prefix tokens, T = P + S tokens, D width, V vocabulary.
"""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Weights = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of a network and its recursion."""

    hidden: int
    heads: int
    swiglu: int
    """Width of the SwiGLU."""
    cycles: int
    inner_steps: int
    prefix: int
    cells: int
    vocab: int = 13
    layers: int = 2


def init_weights(sizes: Sizes) -> Weights:
    """Fresh float32 weights; linear ones are (out, in). Beside them z_init (D,), never trained."""
    hidden, swiglu, vocab = sizes.hidden, sizes.swiglu, sizes.vocab
    shapes = {"embed_inputs": (vocab, hidden), "embed_answers": (vocab, hidden)}
    for i in range(sizes.layers):
        shapes[f"layer_{i}/qkv"] = (3 * hidden, hidden)
        shapes[f"layer_{i}/out"] = (hidden, hidden)
        shapes[f"layer_{i}/gate_up"] = (2 * swiglu, hidden)
        shapes[f"layer_{i}/down"] = (hidden, swiglu)
    shapes["head"] = (vocab, hidden)
    weights = {name: torch.randn(shape) / shape[-1] ** 0.5 for name, shape in shapes.items()}
    return weights | {"halt_kernel": torch.zeros(2, hidden), "halt_bias": torch.full((2,), -5.0)}


def cast(weights: Weights, dtype: torch.dtype) -> Weights:
    """The weights in the compute type; those of halting stay float32."""
    return {
        name: weight if name.startswith("halt") else weight.to(dtype)
        for name, weight in weights.items()
    }


def rotary_angles(tokens: int, head_size: int) -> tuple[Tensor, Tensor]:
    """cos and sin (T, head size) float32 of each position's rotation, theta 10000."""
    frequency = 10000.0 ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
    angle = torch.outer(torch.arange(tokens, dtype=torch.float64), frequency).repeat(1, 2)
    return angle.cos().float(), angle.sin().float()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-b, a], dim=-1) * sin).to(x.dtype)


def _norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)


def _attention(weights: Weights, layer: str, h: Tensor, angles: tuple, heads: int) -> Tensor:
    batch, tokens, hidden = h.shape
    qkv = F.linear(h, weights[f"{layer}/qkv"]).view(batch, tokens, 3, heads, hidden // heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(_rotate(q, *angles), _rotate(k, *angles), v)
    return F.linear(mixed.transpose(1, 2).reshape(h.shape), weights[f"{layer}/out"])


def _swiglu(weights: Weights, layer: str, h: Tensor) -> Tensor:
    gate, up = F.linear(h, weights[f"{layer}/gate_up"]).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, weights[f"{layer}/down"])


def block(weights: Weights, sizes: Sizes, angles: tuple, h: Tensor, injection: Tensor) -> Tensor:
    """The layers applied to h + injection, (B, T, D)."""
    h = h + injection
    for layer in (f"layer_{i}" for i in range(sizes.layers)):
        h = _norm(h + _attention(weights, layer, h, angles, sizes.heads))
        h = _norm(h + _swiglu(weights, layer, h))
    return h


def embed(table_VxD: Tensor, tokens_BxS: Tensor, rows_BxD: Tensor, prefix: int) -> Tensor:
    """sqrt(D) * concat(puzzle prefix, table[token]): (B, T, D) in the table's type."""
    prefix_BxPxD = F.pad(rows_BxD.to(table_VxD.dtype)[:, None], (0, 0, 0, prefix - 1))
    cells_BxSxD = F.embedding(tokens_BxS, table_VxD)
    return torch.cat([prefix_BxPxD, cells_BxSxD], dim=1) * table_VxD.shape[1] ** 0.5


def forward(
    weights: Weights, sizes: Sizes, angles: tuple, inputs: Tensor, noised: Tensor, rows: Tensor,
    z_init: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Logits (B, S, V) and halting logits (B, 2), float32; only the last cycle carries gradient.

    Args:
      weights: in the compute type, but for those of halting.
      inputs, noised: tokens (B, S); rows: (B, D), the puzzle rows.
    """

    def cycle(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        injection = y + x
        for _ in range(sizes.inner_steps):
            z = block(weights, sizes, angles, z, injection)
        return block(weights, sizes, angles, y, z), z

    x = embed(weights["embed_inputs"], inputs, rows, sizes.prefix)
    with torch.no_grad():
        y = embed(weights["embed_answers"], noised, rows, sizes.prefix)
        z = z_init.to(y.dtype).expand_as(y)
        for _ in range(sizes.cycles - 1):
            y, z = cycle(x, y, z)
    y, z = cycle(x, y, z)
    logits = F.linear(y[:, sizes.prefix :], weights["head"]).float()
    return logits, F.linear(y[:, 0].float(), weights["halt_kernel"], weights["halt_bias"])


def loss_of(logits: Tensor, halting: Tensor, target: Tensor) -> Tensor:
    """Stablemax cross-entropy of the scored cells and half the halting loss, mean over examples."""
    positive = logits >= 0
    s = torch.where(positive, logits + 1, 1 / (1 - logits.masked_fill(positive, 0)))
    of_target = s.gather(-1, target[..., None])[..., 0]
    cell_loss = torch.log(s.sum(dim=-1) / of_target)
    scored = target != 0
    cells = scored.sum(dim=-1).clamp(min=1)
    right = ((logits.argmax(dim=-1) == target) | ~scored).all(dim=-1)
    halt_loss = F.binary_cross_entropy_with_logits(
        halting[:, 0], right.to(halting.dtype), reduction="none"
    )
    return ((cell_loss * scored).sum(dim=-1) / cells + 0.5 * halt_loss).mean()


def make_step(sizes: Sizes, batch: int, dtype: torch.dtype) -> Callable[[], float]:
    """A training step on made-up examples; each call takes one and gives its loss."""
    weights, z_init = init_weights(sizes), torch.randn(sizes.hidden)
    averages = [weight.clone() for weight in weights.values()]
    parameters = [weight.requires_grad_() for weight in weights.values()]
    optimizer = torch.optim.AdamW(parameters, 1e-4, (0.9, 0.95), weight_decay=0.1, fused=True)
    table, ids = torch.zeros(4096, sizes.hidden), torch.arange(batch)
    angles = rotary_angles(sizes.prefix + sizes.cells, sizes.hidden // sizes.heads)
    inputs, noised, target = torch.randint(1, sizes.vocab - 1, (3, batch, sizes.cells))

    def step() -> float:
        rows = table[ids].requires_grad_()
        cast_weights = cast(weights, dtype)
        answer = forward(cast_weights, sizes, angles, inputs, noised, rows, z_init)
        loss = loss_of(*answer, target)
        loss.backward()
        table[ids] = rows.detach() * (1 - 1e-2 * 0.1) - 1e-2 * rows.grad.sign()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, 1e-3)
        return loss.item()

    return step
