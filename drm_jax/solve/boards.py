"""Answers puzzles on boards of one size, such as Sudoku, with trained weights.

All such puzzles have one puzzle id, so nothing is adapted to them. A puzzle is answered as it is;
where that answer breaks a rule, so are symmetric copies of it, and the first answer of most votes
that keeps all rules is taken.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from drm_jax.config import Experiment
from drm_jax.errors import UsageError
from drm_jax.evaluate.answerer import AnswerBatch, compile_answer
from drm_jax.evaluate.loop import answer_questions
from drm_jax.model.backbone import Network
from drm_jax.parallel.mesh import make_mesh
from drm_jax.parallel.puzzle_table import padded_rows
from drm_jax.puzzles.boards import grid_of
from drm_jax.puzzles.exact import Tests
from drm_jax.puzzles.fixed import PUZZLE_ID, FixedBoard, FixedPuzzles, FixedQuestions
from drm_jax.puzzles.sets import set_of
from drm_jax.run.setup import state_maker, trained_here
from drm_jax.solve.weights import Say, Source, Weights, read_weights
from drm_jax.training.state import TrainState, state_shardings

COPIES = (1, 8, 64)
"""Under how many symmetries a puzzle is answered: more as long as no answer keeps all rules."""
_BATCH = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """The answer to a puzzle."""

    grid: np.ndarray
    """(h, w) uint8 of symbols."""
    valid: bool | None
    """Whether it keeps every rule; None where the family has no rules that tell."""
    votes: int
    """Symmetric copies that gave it, of so many:"""
    copies: int


def read_network(
    source: Source, experiment: Experiment, mesh: Mesh, say: Say
) -> tuple[Network, Weights]:
    """The network of a board, and its averaged weights; errors as of `Solver`."""
    trained, notes = trained_here(experiment, mesh)
    for note in notes:
        say(note)
    shapes = jax.eval_shape(state_maker(trained, experiment.seed, FixedPuzzles.num_ids))
    return trained.network, read_weights(source, shapes, mesh, None, False, say)


class Solver:
    """A network with its weights, ready to answer."""

    def __init__(self, source: Source, denoise_steps: int | None, say: Say):
        """Reads the weights; the first answer compiles.

        Args:
          denoise_steps: passes of an answer; None: as the weights were scored with.

        Raises:
          UsageError: the weights are for puzzles of another kind.
          InputError: they are damaged.
        """
        experiment = source.experiment
        if not isinstance(experiment.data, FixedBoard):
            raise UsageError(f"--from: {source.path}: its puzzles aren't boards of one size")
        steps = denoise_steps or experiment.evaluate.denoise_steps
        self._experiment = dataclasses.replace(
            experiment,
            evaluate=dataclasses.replace(
                experiment.evaluate, denoise_steps=steps, batch_size=_BATCH, trajectories="off"
            ),
        )
        self._mesh = make_mesh(jax.devices()[:1])
        self._state, self._answer_batch = self._prepare(source, say)

    @property
    def family(self) -> FixedBoard:
        return self._experiment.data

    def _prepare(self, source: Source, say: Say) -> tuple[TrainState, AnswerBatch]:
        """The state, without what only training needs, and the program that answers."""
        experiment: Experiment = self._experiment
        network, weights = read_network(source, experiment, self._mesh, say)
        rows = padded_rows(FixedPuzzles.num_ids)
        table = jnp.zeros((rows, weights.row_D.shape[0]), weights.row_D.dtype)
        state = TrainState(
            step=jnp.zeros([], jnp.int32),
            params=None,
            constants=weights.constants,
            opt_state=(),
            ema=weights.network,
            table=table.at[PUZZLE_ID].set(weights.row_D),
        )
        shardings = state_shardings(state, self._mesh)
        answer_batch = compile_answer(
            experiment.method, experiment.data, network, self._mesh, shardings,
            test=experiment.evaluate, seed=experiment.seed,
        )  # fmt: skip
        return jax.device_put(state, shardings), answer_batch

    def solve(self, puzzles: Sequence[np.ndarray]) -> list[Answer]:
        """Answers puzzles, grids (h, w) uint8 of symbols."""
        answers: dict[int, Answer] = {}
        for copies in COPIES:
            left = [n for n in range(len(puzzles)) if n not in answers or answers[n].valid is False]
            for start in range(0, len(left), Tests.most_shown):  # a judge describes no more
                some = left[start : start + Tests.most_shown]
                found = self._answer([puzzles[n] for n in some], copies)
                answers |= zip(some, found, strict=True)
        return [answers[n] for n in range(len(puzzles))]

    def _answer(self, puzzles: Sequence[np.ndarray], copies: int) -> list[Answer]:
        """Each under so many symmetries."""
        family = self.family
        height, width = family.board
        tests = Tests(
            tuple(map(str, range(len(puzzles)))),
            set_of([(grid, None) for grid in puzzles], height * width),
            np.zeros(len(puzzles), bool),
        )
        numbers = np.arange(len(puzzles))
        questions = FixedQuestions(family, tests, numbers, self._experiment.seed, copies - 1)
        judged = answer_questions(
            self._experiment, self._answer_batch, self._state, self._mesh, questions
        )
        return [_best(task["tests"][0], family, copies) for task in judged.judge.answers()]


def _best(test: dict, family: FixedBoard, copies: int) -> Answer:
    """The first answer that keeps all rules; else the first one.

    Args:
      test: as a judge describes it, answers of most votes first.
    """
    ranked = test["answers"]
    best = next((answer for answer in ranked if answer.get("valid")), ranked[0])
    grid = grid_of(best["grid"], family.vocabulary.symbols)
    return Answer(grid, best.get("valid"), best["votes"], copies)
