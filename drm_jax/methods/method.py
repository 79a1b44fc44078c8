"""What a method is: what is drawn for an example, how it starts, its loss, what it carries from one
training step to the next, how it answers at test time, what it costs.

A method is a frozen dataclass of its own options, derived from `Method`. A field named `denoising`
holds what matters at test time (for drm_rollout in training too): a checkpoint may be scored with
other values of it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from drm_jax.errors import UsageError
from drm_jax.methods.passes import NO_EXIT, Exit, scan_to_exit, with_latent_noise
from drm_jax.model.backbone import Network, Params
from drm_jax.model.precision import widened
from drm_jax.parallel.mesh import Axes
from drm_jax.references import reference_to

Batch = Mapping[str, jax.Array]
Sums = dict[str, jax.Array]
Carry = Any
"""A tree of arrays (B, …), a row for each slot of the batch; None where nothing is carried."""
Bits = Callable[[int, int], np.ndarray]
"""(purpose, each) -> (B, each) uint32 random numbers of the examples of a batch. Each purpose (1,
2, …) has a row of its own: what is drawn for one doesn't depend on the others."""


@struct.dataclass(eq=False)
class Answered:
    """What a test gives: answers, and N steps of each; steps are the first axis."""

    predicted: jax.Array  # (B, S) uint8, the answers
    q_halt: jax.Array  # (B,) float32, the halting logits of the last step
    step_predicted: jax.Array  # (N, B, S) uint8, argmax of every step
    step_tokens: jax.Array  # (N, B, S) uint8, what every step began from, if from tokens; MASK also
    # where the network saw a random symbol instead
    step_q_halt: jax.Array  # (N, B) float32, the halting logits of every step
    step_confidence: jax.Array  # (N, B, S) uint8, percent: the largest softmax probability
    passes: jax.Array  # (B,) int32, passes up to the answer: N, or fewer with an early exit


@struct.dataclass(eq=False)
class Passed:
    """What one pass of a test gives."""

    predicted: jax.Array  # (B, S) uint8, argmax
    tokens: jax.Array  # (B, S) uint8, what it began from, if from tokens
    q_halt: jax.Array  # (B,) float32, the halting logits
    confidence: jax.Array  # (B, S) uint8, percent: the largest softmax probability
    entropy: jax.Array  # (B,) float32, nats: the mean over cells of the softmax's entropy


AnswerPass = Callable[[Any, jax.Array, jax.Array], tuple[Any, Passed]]
"""(what it begins from, its number from 0, the noise level at which its answer is masked again) ->
(what the next one begins from, what it gives)"""


@dataclasses.dataclass(frozen=True)
class Work:
    """What one training example, and one step of a test, costs: counts of calls of the network."""

    blocks: int
    """Calls of f in a training step."""
    grad_blocks: int
    """Those of them that are differentiated."""
    scored: int = 1
    """How often a latent is decoded and scored, and the input embedded, with gradient."""
    answer_embeds: int = 0
    """How often answer tokens are embedded."""
    plain_passes: int = 0
    """Whole passes without gradient beside these: embedding, blocks, decoding."""
    test_blocks: int = 0
    """Calls of f in a step of a test."""
    test_answer_embeds: int = 0
    """Embeddings of answer tokens in a step of a test."""
    reduced_rows: int = 0
    """Rows of D float32 numbers that are summed over devices beside the gradient."""


@dataclasses.dataclass(frozen=True)
class Method:
    """What all methods have. Those that carry nothing need `draw`, `loss`, `passes` and `work`."""

    @property
    def has_mask(self) -> bool:
        """Whether the vocabulary ends with MASK."""
        return True

    @property
    def draws_at_test(self) -> bool:
        """Whether a test draws random numbers: otherwise rollouts differ by noise on latents
        alone."""
        return True

    @property
    def trains_answers(self) -> bool:
        """Whether the table of answer embeddings gets gradient; where not, it keeps its initial
        value, and doesn't decay either."""
        return True

    def check(self, data: Any, model: Any) -> None:
        """Raises UsageError where it can't work with a family of puzzles, or with a backbone.

        Args:
          data: a `puzzles.family.Family`.
          model: a `model.backbone.Backbone`.
        """

    def check_test(self, evaluate: Any) -> None:
        """Raises UsageError where settings of a test do nothing.

        Args:
          evaluate: a `config.Evaluate`.
        """
        more = evaluate.latent_noise > 0 or evaluate.exits_early
        if more and type(self).answer is not Method.answer:
            raise UsageError(
                "evaluate: latent_noise, exit_change and exit_entropy are not for a method that "
                f"has an `answer` of its own: {reference_to(type(self))}"
            )
        if evaluate.rollouts > 1 and not evaluate.latent_noise and not self.draws_at_test:
            raise UsageError(
                f"evaluate.rollouts: {evaluate.rollouts} would all be alike, since this method "
                "draws nothing at a test: give evaluate.latent_noise too, such as 0.1"
            )

    def draw(
        self, bits: Bits, target_BxS: np.ndarray, board: tuple[int, int], mask: int
    ) -> dict[str, np.ndarray]:
        """What a training batch holds beside the examples, as numpy arrays (B, …).

        Args:
          bits: random numbers.
          target_BxS: uint8 tokens.
          board: height and width.
          mask: the token MASK.
        """
        return {}

    def level_ratios(self) -> np.ndarray | None:
        """Numbers that `draw` depends on beside the options, if they are a user's own: they are
        part of what tells a run's stream from any other."""
        return None

    def empty_carry(self, network: Network, batch_size: int) -> Carry:
        """What the first step takes over."""
        return None

    def refill(self, carry: Carry, batch: Batch, constants: Params) -> tuple[Carry, Batch]:
        """Before a step: the carry to train on, and the batch, each slot with its own example."""
        return carry, batch

    def loss(
        self,
        network: Network,
        params: Params,
        rows_BxD: jax.Array,
        constants: Params,
        batch: Batch,
        carry: Carry,
    ) -> tuple[jax.Array, Sums, Carry]:
        """The loss summed over the batch, metric sums, and the carry for the next step.

        Args:
          network: for the board of this batch.
          params: get the gradient.
          rows_BxD: the batch's puzzle rows, float32; get gradient too.
          constants: y_init and z_init (D,).
          batch: inputs, target (B, S) uint8; puzzle_id (B,); weight (B,) float32, 0 for a row that
            doesn't count; and what `draw` gives.

        Returns:
          Sums are scalars over the batch, each example times its weight: "loss", "exact_accuracy",
          "count", and any other for the log.
        """
        raise NotImplementedError

    def carry_over(self, carry: Carry, batch: Batch, axis: Axes | None) -> Carry:
        """After a step: what is taken over from it.

        Args:
          axis: the mesh axes over which the batch is split, where called inside shard_map.
        """
        return carry

    def passes(
        self,
        network: Network,
        params: Params,
        constants: Params,
        inputs_BxS: jax.Array,
        rows_BxD: jax.Array,
        key_B: jax.Array,
        *,
        pad_outside: Callable[[jax.Array], jax.Array],
    ) -> tuple[Any, AnswerPass]:
        """What a test of a batch of inputs begins from, and a pass of it.

        Args:
          key_B: one random key a row, so that a row's draws don't depend on its batch.
          pad_outside: the family's, (B, S) -> (B, S).
        """
        raise NotImplementedError

    def remasked_levels(self, steps: int) -> np.ndarray:
        """(N,) int, the noise level at which the answer of each pass is masked again for the next
        one; 0: nothing is masked."""
        return np.zeros(steps, np.int64)

    def answer(
        self,
        network: Network,
        params: Params,
        constants: Params,
        inputs_BxS: jax.Array,
        rows_BxD: jax.Array,
        key_B: jax.Array,
        *,
        steps: int,
        pad_outside: Callable[[jax.Array], jax.Array],
        latent_noise: float = 0.0,
        exits: Exit = NO_EXIT,
    ) -> Answered:
        """Answers a batch of inputs in `steps` passes; other arguments as of `passes`.

        Args:
          latent_noise: standard deviation of noise on the latents that each pass begins from.
          exits: when an answer is final before the last pass.
        """
        start, one_pass = self.passes(
            network, params, constants, inputs_BxS, rows_BxD, key_B, pad_outside=pad_outside
        )

        def step(carry: Any, at: tuple[jax.Array, jax.Array]) -> tuple[Any, Passed]:
            if latent_noise:
                carry = with_latent_noise(carry, key_B, at[0], latent_noise)
            return one_pass(carry, *at)

        at_N = jnp.arange(steps), jnp.asarray(self.remasked_levels(steps), jnp.int32)
        count = inputs_BxS.shape[0]
        if exits:
            given, passes_B = scan_to_exit(step, start, at_N, exits, count)
        else:
            _, given = lax.scan(step, start, at_N)
            passes_B = jnp.full(count, steps, jnp.int32)
        return Answered(
            given.predicted[-1], given.q_halt[-1], given.predicted, given.tokens, given.q_halt,
            given.confidence, passes_B,
        )  # fmt: skip

    def test_levels(self, steps: int) -> np.ndarray:
        """(N,) int, the noise level of what each step of a test begins from; -1: of latents."""
        return np.full(steps, -1)

    def work(self) -> Work:
        """What an example costs.

        Raises:
          UsageError: it isn't known.
        """
        raise UsageError(
            f"method: {reference_to(type(self))}: the work of a method of your own isn't known: "
            "plan one of drm, trm, sprm, diffusion, drm_rollout that costs about as much"
        )


def passed(logits_BxSxV: jax.Array, q_Bx2: jax.Array, tokens_BxS: jax.Array) -> Passed:
    """What a pass gives, from its logits, its halting logits, and the tokens that it began from."""
    share_BxSxV = jax.nn.softmax(logits_BxSxV, axis=-1)
    nats_BxS = jax.scipy.special.entr(widened(share_BxSxV)).sum(axis=-1)
    predicted_BxS = jnp.argmax(logits_BxSxV, axis=-1).astype(jnp.uint8)
    confidence_BxS = jnp.round(100 * share_BxSxV.max(axis=-1)).astype(jnp.uint8)
    return Passed(predicted_BxS, tokens_BxS, q_Bx2[:, 0], confidence_BxS, nats_BxS.mean(axis=-1))


def has_passes(method: Method) -> bool:
    """Whether a test of it can be watched pass by pass; one of a user's own may have `answer`
    alone."""
    return type(method).passes is not Method.passes


def mask_of(network: Network) -> int:
    """The token MASK, of a network whose method has it."""
    return network.vocab - 1


def embedded(
    network: Network, params: Params, tokens_BxS: jax.Array, rows_BxD: jax.Array
) -> jax.Array:
    """Answer tokens, embedded: (B, T, D)."""
    return network.embed(params, tokens_BxS, rows_BxD, answers=True)


def spread(vector_D: jax.Array, like_BxTxD: jax.Array) -> jax.Array:
    """A fixed vector at every token of every example."""
    return jnp.broadcast_to(vector_D.astype(like_BxTxD.dtype), like_BxTxD.shape)
