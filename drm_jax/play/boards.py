"""Puzzles on boards of one size, answered pass by pass for somebody who watches."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from drm_jax.config import part_name
from drm_jax.errors import UsageError
from drm_jax.methods.method import Method, Passed, has_passes
from drm_jax.model.backbone import Network, exact_products
from drm_jax.parallel.mesh import make_mesh
from drm_jax.puzzles.family import Family
from drm_jax.puzzles.fixed import FixedBoard
from drm_jax.report.collect import UndoMap, undo_map
from drm_jax.solve.boards import read_network
from drm_jax.solve.weights import Say, Source, Weights

Remask = Literal["uniform", "confidence"]
Event = dict[str, Any]
"""What the page is told: JSON, with the kind of it under "event"."""
MOST_PASSES, MOST_ROLLOUTS = 64, 8
MASKED = -1
"""Stands among the symbols of a board for MASK."""


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """A puzzle, and how it is to be answered."""

    question: np.ndarray
    """(h, w) uint8 of symbols."""
    passes: int
    rollouts: int = 1
    """How often it is answered, side by side."""
    symmetric: bool = False
    """Each rollout but the first sees the puzzle under a symmetry of its own. Otherwise they differ
    by what they mask again alone."""
    remask: Remask | None = None
    """What is masked again after a pass; None: as the weights were scored."""
    seed: int = 0
    """Of the symmetries and of what is masked again."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Rollout:
    """How the network sees a puzzle, and how what it says is turned back."""

    words: str
    """Its symmetry."""
    inputs_S: np.ndarray
    """uint8 tokens."""
    undo: UndoMap

    def symbols(self, tokens_S: np.ndarray, first: int, mask: int) -> np.ndarray:
        """(S,) int symbols with the symmetry undone; `MASKED` for MASK, the first symbol for any
        other token that is no symbol."""
        undone_S = self.undo.token_V[tokens_S[self.undo.cell_I]]
        symbol_S = np.where((undone_S >= first) & (undone_S < mask), undone_S - first, 0)
        return np.where(undone_S == mask, MASKED, symbol_S)


class BoardPlayer:
    """A network with its weights, and the program of a pass."""

    def __init__(self, source: Source, say: Say):
        """Weights are read when they are first needed.

        Raises:
          UsageError: the puzzles aren't boards of one size, or the method has no passes.
        """
        experiment = source.experiment
        if not isinstance(experiment.data, FixedBoard):
            raise UsageError(f"{source.path}: its puzzles aren't boards of one size")
        if not has_passes(experiment.method):
            raise UsageError(
                f"{source.path}: its method has no `passes` that could be watched one by one "
                "(docs/extending.md)"
            )
        self.family: FixedBoard = experiment.data
        self._source, self._experiment, self._say = source, experiment, say
        self._programs: dict[Remask | None, tuple[Callable[..., Any], Callable[..., Any]]] = {}
        self._compiled: set[tuple[Remask | None, int]] = set()

    @property
    def passes(self) -> int:
        """That the weights were scored with."""
        return self._experiment.evaluate.denoise_steps

    @property
    def method(self) -> str:
        return part_name("method", self._experiment.method)

    @property
    def remask(self) -> Remask | None:
        """What is masked again after a pass, as the weights were scored; None: nothing is."""
        return getattr(getattr(self._experiment.method, "denoising", None), "remask", None)

    @property
    def has_symmetries(self) -> bool:
        """Whether a puzzle has other forms that the network can be asked."""
        return type(self.family).symmetries is not FixedBoard.symmetries or (
            type(self.family).symmetry is not FixedBoard.symmetry
        )

    @functools.cached_property
    def _network_and_weights(self) -> tuple[Network, Weights]:
        """Raises InputError where they are damaged."""
        mesh = make_mesh(jax.devices()[:1])
        return read_network(self._source, self._experiment, mesh, self._say)

    def warm_up(self, rollouts: int) -> None:
        """Reads the weights and compiles the program of one rollout, or of several."""
        board = np.zeros(self.family.board, np.uint8)
        asked = Asked(board, passes=1, rollouts=rollouts)
        for _ in self.answer(asked, lambda: False):
            pass

    def answer(self, asked: Asked, is_stopped: Callable[[], bool]) -> Iterator[Event]:
        """Answers a puzzle; an event for each pass, and one at the end.

        begin: passes; given, which cells the question fixes, by number; rollouts, the symmetry of
          each in words.
        compiling: a program is compiled first.
        pass: number, from 1; rollouts, of each `began` (null where a pass begins from latents),
          `board` and `confidence` (percent), a number a cell with symmetries undone; `conflicts`,
          cells by number; `halting`, 0 to 1, null where it isn't finite; `valid`, whether every
          rule is kept, null where there are no rules.
        end: best, the rollout whose answer is taken; votes, how many gave it; valid.
        """
        remask = asked.remask or self.remask
        method = self._method(remask)
        rollouts = self._rollouts(asked)
        levels_N = method.test_levels(asked.passes)
        yield {
            "event": "begin", "passes": asked.passes,
            "given": np.flatnonzero(self.family.given(asked.question)).tolist(),
            "rollouts": [rollout.words for rollout in rollouts],
        }  # fmt: skip
        size = 1 if asked.rollouts == 1 else MOST_ROLLOUTS
        if (remask, size) not in self._compiled:
            yield {"event": "compiling"}
        shown: list[Event] = []
        remasked_N = method.remasked_levels(asked.passes)
        batch = self._batch(rollouts, size, asked.seed)
        begin, advance = self._program(remask, method)
        carry = begin(*batch)
        for index, level in enumerate(remasked_N.tolist()):
            if is_stopped():
                return
            carry, passed = advance(carry, *batch, jnp.int32(index), jnp.int32(level))
            self._compiled.add((remask, size))
            from_tokens = levels_N[index] >= 0
            shown = self._shown(asked.question, rollouts, jax.device_get(passed), from_tokens)
            yield {"event": "pass", "number": index + 1, "rollouts": shown}
        yield {"event": "end", **verdict(shown)}

    def _method(self, remask: Remask | None) -> Method:
        method = self._experiment.method
        if remask == self.remask:
            return method
        denoising = dataclasses.replace(method.denoising, remask=remask)
        return dataclasses.replace(method, denoising=denoising)

    def _rollouts(self, asked: Asked) -> list[_Rollout]:
        """The first one sees the puzzle as it is."""
        number_N = np.arange(asked.rollouts) if asked.symmetric else np.zeros(asked.rollouts, int)
        symmetry_NxA = self.family.symmetries(asked.seed, np.zeros_like(number_N), number_N)
        tokens_S = self.family.to_tokens(asked.question, self.family.board)
        inputs_NxS = np.repeat(tokens_S[None], asked.rollouts, axis=0)
        if asked.symmetric and self.has_symmetries:
            inputs_NxS = self.family.augment_all(inputs_NxS[:, None], symmetry_NxA)[:, 0]
        return [
            _Rollout(
                self.family.augmentation_words(symmetry_A),
                inputs_S,
                undo_map(self.family, symmetry_A, self.family.board),
            )
            for symmetry_A, inputs_S in zip(symmetry_NxA, inputs_NxS, strict=True)
        ]

    def _batch(self, rollouts: Sequence[_Rollout], size: int, seed: int) -> tuple[Any, ...]:
        """Weights, inputs, puzzle rows and keys of so many rollouts, padded with the first one."""
        inputs_NxS = np.stack([rollout.inputs_S for rollout in rollouts])
        inputs_BxS = inputs_NxS[np.arange(size) % len(rollouts)]
        key_B = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(seed), n))(jnp.arange(size))
        _, weights = self._network_and_weights
        rows_BxD = jnp.broadcast_to(jnp.asarray(weights.row_D), (size, len(weights.row_D)))
        return weights.network, weights.constants, inputs_BxS, rows_BxD, key_B

    def _program(
        self, remask: Remask | None, method: Method
    ) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """What a test begins from, and a pass of it, jitted."""
        if remask not in self._programs:
            height, width = self.family.board
            network = self._network_and_weights[0].at_window(height * width)

            def passes(*of: Any) -> tuple[Any, Any]:
                return method.passes(
                    network, *of, pad_outside=lambda x: self.family.pad_outside(x, (height, width))
                )

            def begin(*of: Any) -> Any:
                with exact_products(network):
                    return passes(*of)[0]

            def advance(carry: Any, *of: Any) -> tuple[Any, Passed]:
                *of, index, level = of
                with exact_products(network):
                    return passes(*of)[1](carry, index, level)

            self._programs[remask] = jax.jit(begin), jax.jit(advance, donate_argnums=0)
        return self._programs[remask]

    def _shown(
        self, question: np.ndarray, rollouts: Sequence[_Rollout], passed: Passed, from_tokens: bool
    ) -> list[Event]:
        """What each rollout's pass gave, for the page."""
        vocabulary, shown = self.family.vocabulary, []
        for n, rollout in enumerate(rollouts):
            board_S, began_S = (
                rollout.symbols(tokens[n], vocabulary.first, vocabulary.mask)
                for tokens in (passed.predicted, passed.tokens)
            )
            grid = np.maximum(board_S, 0).astype(np.uint8)
            conflicts = self.family.conflicts(question, grid.reshape(self.family.board))
            valid_1 = self.family.verify(question.reshape(1, -1), grid.reshape(1, -1))
            shown.append({
                "began": began_S.tolist() if from_tokens else None,
                "board": board_S.tolist(),
                "confidence": passed.confidence[n][rollout.undo.cell_I].tolist(),
                "conflicts": np.flatnonzero(conflicts).tolist(),
                "halting": _probability(passed.q_halt[n]),
                "valid": None if valid_1 is None else bool(valid_1[0]),
            })  # fmt: skip
        return shown


def _probability(logit: np.ndarray) -> float | None:
    """None where the logit isn't finite, as of weights that have diverged."""
    probability = 1 / (1 + np.exp(-np.clip(np.float64(logit), -700, 700)))
    return round(float(probability), 4) if np.isfinite(probability) else None


def verdict(rollouts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whose answer is taken: the first one that keeps all rules; else that of most votes, and of
    the highest halting score among these."""
    boards = [tuple(rollout["board"]) for rollout in rollouts]
    valid = [n for n, rollout in enumerate(rollouts) if rollout["valid"]]
    if valid:
        best = valid[0]
    else:
        best = max(
            range(len(boards)),
            key=lambda n: (boards.count(boards[n]), rollouts[n]["halting"] or 0.0),
        )
    return {
        "best": best,
        "votes": boards.count(boards[best]),
        "valid": rollouts[best]["valid"],
    }


def described(player: BoardPlayer) -> dict[str, Any]:
    """What the page needs to know of a family."""
    family = player.family
    return {
        "vocabulary": vocabulary_of(family),
        "board": list(family.board),
        "blocks": family.blocks,
        "question_symbols": family.question_symbols,
        "unique_symbols": family.unique_symbols,
        "blank": family.blank,
        "levels": list(family.levels),
        "method": player.method,
        "passes": player.passes,
        "remask": player.remask,
        "has_symmetries": player.has_symmetries,
    }


def vocabulary_of(family: Family) -> dict[str, Any]:
    """The symbols of a family, how they are written, coloured and called."""
    of = family.vocabulary
    return {
        "symbols": of.symbols, "written": of.written, "colours": of.colours,
        "safe_colours": of.safe_colours, "colour_names": of.colour_names,
    }  # fmt: skip
