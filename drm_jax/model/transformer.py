"""The looped transformer and its token mixer: one block of layers for every loop step.

Parameters: embed_inputs, embed_answers (V, D); layer_i/…; head (D, V); halt_kernel (D, 2),
halt_bias (2,).
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import DotGeneralT
from msgspec import Meta

from drm_jax.errors import UsageError
from drm_jax.fields import Count, check, check_fields
from drm_jax.model import backbone
from drm_jax.model.attention import (
    KEPT,
    KERNELS,
    SCORES,
    Attend,
    choose_attention,
    find_attention,
    flash_blocks,
    is_cudnn_forward,
    plain_attention,
    why_kernel_fails,
)
from drm_jax.model.backbone import Backbone, Board, Params, Traffic, compute_dtype
from drm_jax.model.convolution import SIDE
from drm_jax.model.layers import Angles, Layer, board_angles, rotary_angles, swiglu_width
from drm_jax.model.precision import wide_type
from drm_jax.model.products import find_dense_product

Layers = Annotated[int, Meta(ge=1, le=1000)]
Expansion = Annotated[float, Meta(ge=0.1, le=100)]
Remat = Literal["none", "attention", "layer"]


@dataclasses.dataclass(frozen=True)
class Transformer(Backbone):
    """The looped transformer: attention mixes the tokens."""

    hidden: Count = 512
    """D, the width."""
    heads: Count = 8
    """Attention heads; must divide the width into even parts."""
    layers: Layers = 2
    """Layers in the block; for diffusion, which has no recursion, the depth of the network."""
    prefix: Count = 16
    """P: puzzle tokens before the board."""
    expansion: Expansion = 4.0
    """SwiGLU width is about 2/3 of this times D …"""
    swiglu_multiple: Count = 256
    """… rounded up to a multiple of this."""
    convolution: bool = False
    """Each channel within the SwiGLU is convolved over the board, 3 x 3 cells, before the last
    product; the prefix isn't."""
    positions: Literal["sequence", "board"] = "sequence"
    """What rotary positions count: the place of a token in the sequence; or the row and the column
    of a cell, half of each head for either."""
    remat: Remat = "none"
    """What the backward pass computes again instead of keeping it in memory: nothing; the scores
    of attention, most of the memory for a twentieth of the time (flash and cudnn keep none anyway);
    or all of a layer, for a fifth."""
    attention: Literal["auto", "plain", "blocks", "flash", "cudnn"] = "auto"
    """How attention is computed, with the same answer up to rounding: all heads at once (plain); a
    few at a time, whose scores stay in a CPU's cache (blocks); or by a kernel that keeps them on
    the chip, in bfloat16: JAX's for TPUs (flash), or NVIDIA's for GPUs (cudnn). auto: what suits
    the device: blocks on a CPU; flash or cudnn where the compute type is bfloat16 and the kernel,
    tried at the start, works; else plain."""
    dtype: Literal["auto", "float64", "float32", "bfloat16"] = "auto"
    """Compute type; auto: bfloat16 where the hardware has units for it: on an accelerator, but for
    GPUs before Ampere, and on a CPU with AMX from width 512 on, with jax 0.12 or newer; else
    float32. Weights are float32. float32 is exact on accelerators too: no TF32, no bfloat16 passes.
    float64, weights too, is for comparisons on a CPU, with JAX_ENABLE_X64=1."""

    def __post_init__(self):
        check_fields(self, "model")
        check(
            self.hidden % (2 * self.heads) == 0,
            "model.heads",
            f"{self.heads} heads don't divide width {self.hidden} into even parts",
        )
        head_size = self.hidden // self.heads
        check(
            self.positions == "sequence" or head_size % 4 == 0,
            "model.positions",
            f"board needs heads of 4, 8, … numbers, not {head_size}: change model.heads",
        )

    def network(self, vocab: int, boards: Sequence[Board], platform: str) -> "TransformerNetwork":
        """See `backbone.Backbone`."""
        dtype = compute_dtype(self.dtype, platform, self.hidden)
        attend = find_attention(self.attention, platform, dtype, self.hidden // self.heads)
        product = find_dense_product(platform, dtype)
        board = boards[-1]
        angles = None if self.positions == "sequence" else self.angles(board)
        module = _Module(self, vocab, board, dtype, product, self.heads, attend, angles)
        return TransformerNetwork(self, module, tuple(boards))

    def angles(self, board: Board) -> Angles:
        """Rotations (T, d) of the prefix and of the cells of a whole board."""
        size = self.hidden // self.heads
        if self.positions == "board":
            return board_angles(self.prefix, board, size)
        return rotary_angles(self.prefix + board[0] * board[1], size)

    def attention_form(self, platform: str) -> str:
        """plain, blocks, flash or cudnn: how attention is computed on a platform."""
        dtype = compute_dtype(self.dtype, platform, self.hidden)
        return choose_attention(self.attention, platform, dtype, self.hidden // self.heads)

    def why_kernels_fail(
        self, boards: Sequence[Board], platform: str, device: jax.Device
    ) -> str | None:
        """See `backbone.Backbone`."""
        form = self.attention_form(platform)
        if self.attention != "auto" or form not in KERNELS:
            return None
        head = self.hidden // self.heads
        for odd in sorted({(self.prefix + height * width) % 2 == 1 for height, width in boards}):
            reason = why_kernel_fails(form, head, odd, device)
            if reason:
                return f"{form}: {reason}"
        return None

    def without_kernels(self) -> "Transformer":
        """See `backbone.Backbone`."""
        return dataclasses.replace(self, attention="plain")

    def block_flops(self, cells: int) -> float:
        """See `backbone.Backbone`."""
        tokens = self.prefix + cells
        swiglu = 6 * tokens * self.hidden * self.swiglu_width + _convolution_flops(self, cells)
        layer = swiglu + 8 * tokens * self.hidden**2 + self.attention_flops(cells)
        return self.layers * layer

    def attention_flops(self, cells: int) -> float:
        """Those of a layer's scores and of their sums, two products, for one example."""
        return 4 * (self.prefix + cells) ** 2 * self.hidden

    def again_share(self, cells: int, platform: str) -> float:
        """All forms of attention but plain compute the scores again instead of keeping them, and
        what the convolution gives isn't kept either."""
        block, plain = self.block_flops(cells), self.attention_form(platform) == "plain"
        scores = self.attention_flops(cells) / 2 * self.layers / block
        if self.remat == "layer":
            return 1.0 if plain else 1.0 + scores
        again = 0.0 if plain and self.remat == "none" else scores
        return again + self.layers * _convolution_flops(self, cells) / block

    def traffic(self, cells: int, platform: str, lanes: int) -> Traffic:
        """The scores of flash and cudnn stay on the chip."""
        form = self.attention_form(platform)
        size = compute_dtype(self.dtype, platform, self.hidden).itemsize
        tokens, head_size = self.prefix + cells, self.hidden // self.heads
        padded = _round_up(tokens, lanes)
        layer = _layer_bytes(tokens, self.hidden, self.swiglu_width, size)
        convolution = _convolution_bytes(self, cells, size)
        scores = sums = 0.0
        if form in ("flash", "cudnn"):
            if form == "flash":
                padded = flash_blocks(tokens)[1]
            # q, k, v and the result as the kernel takes and gives them, tokens and heads padded
            numbers = self.heads * padded * _round_up(head_size, lanes)
            layer += 4 * size * (numbers - tokens * self.hidden)
            # the logs of the sums in float32, written for all lanes and read, where a gradient
            # follows
            sums = 2 * 4.0 * self.heads * padded * lanes
        else:
            # float32 scores out and in, then their weights out and in
            scores = self.heads * tokens * padded * 2.0 * (4 + size)
        layer_again, scores_again = {"none": (0, 0), "attention": (0, 1), "layer": (1, 1)}[
            self.remat
        ]
        of_scores = self.layers * scores * (3 + scores_again)
        of_rest = self.layers * (
            layer * (3 + layer_again) + sums * (1 + layer_again) + 4 * convolution
        )
        return Traffic(
            forward=self.layers * (layer + scores + convolution),
            with_gradient=of_rest + of_scores,
            scores=self.layers * scores,
            scores_with_gradient=of_scores,
            padded_tokens=padded,
            head_size=head_size,
        )

    def less_memory(self, platform: str) -> list[tuple[str, "Transformer"]]:
        """See `backbone.Backbone`."""
        levels = ["none", "attention", "layer"]
        more = levels[levels.index(self.remat) + 1 :]
        if self.attention_form(platform) != "plain":  # it keeps no scores anyway
            more = [level for level in more if level != "attention"]
        return [_with_remat(self, level) for level in more]

    @property
    def swiglu_width(self) -> int:
        return swiglu_width(self.hidden, self.expansion, self.swiglu_multiple)


def _with_remat(model: Any, remat: str) -> tuple[str, Any]:
    return f"--model.remat {remat}", dataclasses.replace(model, remat=remat)


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _layer_bytes(tokens: int, hidden: int, inner: int, size: int) -> float:
    """Bytes that a layer moves without attention's scores, of numbers of `size` bytes."""
    # norms 6, gate_up and down 2, qkv 4, rotary 4, attention 4, out 2; gate_up 2, silu 3, down 1
    return tokens * size * (22 * hidden + 6 * inner)


def _convolution_flops(model: "Transformer | TokenMixer", cells: int) -> float:
    """Of a layer, for one example, forward."""
    width = swiglu_width(model.hidden, model.expansion, model.swiglu_multiple)
    return 2 * SIDE**2 * cells * width if model.convolution else 0


def _convolution_bytes(model: "Transformer | TokenMixer", cells: int, size: int) -> float:
    """Likewise, read and written, of numbers of `size` bytes. A gradient moves four times as much:
    what the convolution gives is computed again."""
    width = swiglu_width(model.hidden, model.expansion, model.swiglu_multiple)
    return 2 * cells * width * size if model.convolution else 0


@dataclasses.dataclass(frozen=True)
class TokenMixer(Backbone):
    """A SwiGLU over the token axis in place of attention, without positions: for small boards.

    Its weights are for one size of board.
    """

    hidden: Count = 512
    """D, the width."""
    layers: Layers = 2
    """Layers in the block; for diffusion, which has no recursion, the depth of the network."""
    prefix: Count = 16
    """P: puzzle tokens before the board."""
    expansion: Expansion = 4.0
    """The width of a SwiGLU is about 2/3 of this times D, or times the number of tokens …"""
    swiglu_multiple: Count = 256
    """… rounded up to a multiple of this."""
    convolution: bool = False
    """Each channel within the SwiGLU over channels is convolved over the board, 3 x 3 cells, before
    the last product; the prefix isn't."""
    remat: Literal["none", "layer"] = "none"
    """What the backward pass computes again instead of keeping it in memory: nothing, or all of a
    layer, for a fifth more time."""
    dtype: Literal["auto", "float64", "float32", "bfloat16"] = "auto"
    """Compute type, as of `Transformer`."""

    def __post_init__(self):
        check_fields(self, "model")

    def network(self, vocab: int, boards: Sequence[Board], platform: str) -> "TransformerNetwork":
        """See `backbone.Backbone`."""
        if len(boards) > 1:
            raise UsageError(
                "data.canvas: fit needs a backbone with attention (model=transformer): the weights "
                "of a token mixer are for one size of board"
            )
        board = boards[-1]
        dtype = compute_dtype(self.dtype, platform, self.hidden)
        product = find_dense_product(platform, dtype)
        token_width = self.token_width(board[0] * board[1])
        module = _Module(self, vocab, board, dtype, product, token_width=token_width)
        return TransformerNetwork(self, module, tuple(boards))

    def block_flops(self, cells: int) -> float:
        """See `backbone.Backbone`."""
        tokens = self.prefix + cells
        width = swiglu_width(self.hidden, self.expansion, self.swiglu_multiple)
        swiglu = 6 * tokens * self.hidden * width + _convolution_flops(self, cells)
        return self.layers * (swiglu + 6 * self.hidden * tokens * self.token_width(cells))

    def again_share(self, cells: int, platform: str) -> float:
        """See `backbone.Backbone`; what the convolution gives isn't kept."""
        of_convolution = self.layers * _convolution_flops(self, cells) / self.block_flops(cells)
        return 1.0 if self.remat == "layer" else of_convolution

    def traffic(self, cells: int, platform: str, lanes: int) -> Traffic:
        """See `backbone.Backbone`."""
        tokens = self.prefix + cells
        size = compute_dtype(self.dtype, platform, self.hidden).itemsize
        width = swiglu_width(self.hidden, self.expansion, self.swiglu_multiple)
        forward = self.layers * 2 * _layer_bytes(tokens, self.hidden, width, size)
        convolution = self.layers * _convolution_bytes(self, cells, size)
        return Traffic(
            forward=forward + convolution,
            with_gradient=forward * (4 if self.remat == "layer" else 3) + 4 * convolution,
            scores=0.0,
            scores_with_gradient=0.0,
            padded_tokens=_round_up(tokens, lanes),
        )

    def less_memory(self, platform: str) -> list[tuple[str, "TokenMixer"]]:
        """See `backbone.Backbone`."""
        return [] if self.remat == "layer" else [_with_remat(self, "layer")]

    def token_width(self, cells: int) -> int:
        """The width of the SwiGLU over tokens."""
        return swiglu_width(self.prefix + cells, self.expansion, self.swiglu_multiple)


def _keep(*names: str) -> Any:
    by_name = jax.checkpoint_policies.save_only_these_names(*names)
    return jax.checkpoint_policies.save_from_both_policies(by_name, is_cudnn_forward)


_POLICIES = {
    "none": _keep(KEPT, SCORES),
    "attention": _keep(KEPT),
    "layer": jax.checkpoint_policies.nothing_saveable,
}


class _Module(nn.Module):
    """The parameters and what is computed with them."""

    config: Transformer | TokenMixer
    vocab: int
    board: Board
    """The whole board, or the window of it that comes in."""
    dtype: jnp.dtype
    product: DotGeneralT | None = None
    """Of dense layers; None: flax's own."""
    heads: int = 1
    attend: Attend = plain_attention
    angles: Angles | None = None
    """Rotations of the tokens; None: of the whole board, in the order of the sequence."""
    token_width: int | None = None
    """Of the SwiGLU over tokens; None: attention mixes them."""

    def setup(self):
        config = self.config
        width = swiglu_width(config.hidden, config.expansion, config.swiglu_multiple)
        table_shape, wide = (self.vocab, config.hidden), wide_type(self.dtype)
        self.embed_inputs = self.param("embed_inputs", backbone.embedding_init, table_shape, wide)
        self.embed_answers = self.param("embed_answers", backbone.embedding_init, table_shape, wide)
        # Outside of loops XLA would undo what is computed again, and memory with it.
        prevent_cse = config.remat != "none"
        layer = nn.remat(Layer, prevent_cse=prevent_cse, policy=_POLICIES[config.remat])
        board = self.board if config.convolution else None
        options = (self.heads, width, self.dtype, self.attend, self.token_width, self.product)
        self.layer = [layer(*options, board) for _ in range(config.layers)]
        self.head = self.param("head", backbone.linear_init, table_shape[::-1], wide)
        self.halt_kernel = self.param(
            "halt_kernel", nn.initializers.zeros, (config.hidden, 2), wide
        )
        self.halt_bias = self.param("halt_bias", nn.initializers.constant(-5.0), (2,), wide)

    def __call__(self, tokens_BxS: jax.Array, rows_BxD: jax.Array) -> jax.Array:
        """Touches every parameter once, for initialisation."""
        both = self.embed(tokens_BxS, rows_BxD) + self.embed(tokens_BxS, rows_BxD, answers=True)
        h_BxTxD = self.block(both, both)
        return self.decode(h_BxTxD).sum() + self.halting(h_BxTxD).sum()

    def embed(self, tokens_BxS: jax.Array, rows_BxD: jax.Array, answers: bool = False) -> jax.Array:
        table_VxD = self.embed_answers if answers else self.embed_inputs
        return backbone.embed(table_VxD, tokens_BxS, rows_BxD, self.config.prefix, self.dtype)

    def block(self, h_BxTxD: jax.Array, injection_BxTxD: jax.Array) -> jax.Array:
        h_BxTxD = h_BxTxD + injection_BxTxD
        for layer in self.layer:
            h_BxTxD = layer(h_BxTxD, self.angles)
        return h_BxTxD

    def decode(self, y_BxTxD: jax.Array) -> jax.Array:
        return backbone.decode(self.head, y_BxTxD, self.config.prefix)

    def halting(self, y_BxTxD: jax.Array) -> jax.Array:
        return backbone.halting(self.halt_kernel, self.halt_bias, y_BxTxD)


@dataclasses.dataclass(frozen=True, eq=False)
class TransformerNetwork:
    """A `backbone.Network` of either kind."""

    config: Transformer | TokenMixer
    module: _Module
    boards: tuple[Board, ...]

    @property
    def hidden(self) -> int:
        return self.config.hidden

    @property
    def prefix(self) -> int:
        return self.config.prefix

    @property
    def vocab(self) -> int:
        return self.module.vocab

    @property
    def dtype(self) -> jnp.dtype:
        return self.module.dtype

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters, the same for all forms of attention."""
        # Plans are made on machines where not all forms work.
        plain = self.module.clone(attend=plain_attention)
        height, width = self.module.board
        tokens = jnp.zeros((1, height * width), jnp.int32)
        return plain.init(key, tokens, jnp.zeros((1, self.hidden)))["params"]

    def embed(
        self, params: Params, tokens_BxS: jax.Array, rows_BxD: jax.Array, answers: bool = False
    ) -> jax.Array:
        return self._apply(params, "embed", tokens_BxS, rows_BxD, answers)

    def block(self, params: Params, h: jax.Array, injection: jax.Array) -> jax.Array:
        """The layers applied to h + injection."""
        return self._apply(params, "block", h, injection)

    def decode(self, params: Params, y: jax.Array) -> jax.Array:
        return self._apply(params, "decode", y)

    def halting(self, params: Params, y: jax.Array) -> jax.Array:
        return self._apply(params, "halting", y)

    def _apply(self, params: Params, method: str, *arguments: Any) -> jax.Array:
        return self.module.apply({"params": params}, *arguments, method=method)

    def at_window(self, cells: int, corner_Bx2: jax.Array | None = None) -> "TransformerNetwork":
        """The network for windows of its board: a cell keeps the position that it has on the board.
        A convolution ends at the border of the window.

        Returns:
          The network itself where the window is the whole board.
        """
        whole = self.boards[-1]
        if cells == whole[0] * whole[1]:
            return self
        window = next(board for board in self.boards if board[0] * board[1] == cells)
        all_angles = self.config.angles(whole)
        row, column = np.arange(window[0])[:, None], np.arange(window[1])
        cell_S = (row * whole[1] + column).reshape(-1) + self.prefix
        if corner_Bx2 is None:
            position = np.concatenate([np.arange(self.prefix), cell_S])
            angles = tuple(angle[position] for angle in all_angles)
        else:
            cell_BxS = cell_S + (corner_Bx2 @ np.array([whole[1], 1], np.int32))[:, None]
            prefix_BxP = jnp.broadcast_to(np.arange(self.prefix), (len(corner_Bx2), self.prefix))
            position_BxT = jnp.concatenate([prefix_BxP, cell_BxS], axis=1)
            # one more axis, for the heads
            angles = tuple(jnp.asarray(x)[position_BxT][:, None] for x in all_angles)
        return dataclasses.replace(self, module=self.module.clone(angles=angles, board=window))
