"""Which candidates' denoising is kept for those who look.

What a batch gives would fill the memory if all of it were kept, and which answers win is known only
at the end. So the first who gave the best answers so far are kept, and at the end those that have
fallen behind are dropped; of an answer whose first candidate wasn't among the best in time, that
candidate is denoised again, to the same end.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from drm_jax.evaluate.answers import Packed, Trajectory, pack
from drm_jax.methods.method import Answered
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import placed
from drm_jax.puzzles.family import Board, Judge, Questions

PICTURED = 8
"""Test inputs whose denoising is pictured."""
_SO_FAR, _AT_LAST = 8, 2  # of how many best answers


class Kept:
    """The trajectories of one evaluation, chosen as `config.Evaluate.trajectories` says."""

    def __init__(
        self,
        mode: Literal["selected", "failures", "all", "off"],
        questions: Questions,
        levels_N: np.ndarray,
        mask: int,
        mesh: Mesh,
    ):
        """Args:
        levels_N: from `Method.test_levels`.
        mask: the token MASK.
        """
        self._mode, self._questions = mode, questions
        self._levels_N, self._mask, self._mesh = levels_N, mask, mesh
        plain = list(questions.plain)
        self._plain, self.pictured = set(plain), plain[:PICTURED]
        self._taken: set[int] = set()
        self._packed: dict[int, Packed] = {}

    def choose(self, judge: Judge, row_N: np.ndarray) -> list[int]:
        """Which of these candidates, whom the judge has just heard, to keep for now; ascending."""
        here = {row for row in row_N.tolist() if row in self._questions.shown}
        if self._mode == "all":
            wanted = here
        elif self._mode == "off":
            wanted = here.intersection(self.pictured)
        else:
            wanted = here & self._wanted(judge, row_N, here, _SO_FAR)
        wanted -= self._taken
        self._taken |= wanted
        return sorted(wanted)

    def take(
        self, answered: Answered, board: Board, places: Sequence[int], row_N: Sequence[int]
    ) -> None:
        """Keeps the trajectories of some candidates of a batch. All processes must call.

        Args:
          places: their rows in the batch.
          row_N: their numbers.
        """
        paths = _paths(answered, self._mesh, places) if row_N else []
        for row, *path in zip(row_N, *paths, strict=True) if paths else ():
            self._packed[row] = pack(self._trajectory(row, board, path))

    def wanted(self, judge: Judge) -> set[int]:
        """The candidates to keep in the end, once the judge has heard all."""
        if self._mode in ("all", "off"):
            return self._taken
        every = np.array(self._questions.shown, np.int64)
        return self._wanted(judge, every, set(every.tolist()), _AT_LAST)

    def missing(self, wanted: set[int]) -> np.ndarray:
        """Candidates to denoise again: only the last answers have shown that they are wanted."""
        return np.array(sorted(wanted - self._taken), int)

    def chosen(self, wanted: set[int]) -> dict[int, Packed]:
        """The trajectories of the candidates that are wanted, by their numbers."""
        return {row: self._packed[row] for row in sorted(wanted & {*self._packed})}

    def _wanted(self, judge: Judge, row_N: np.ndarray, among: set[int], best: int) -> set[int]:
        """Of `selected` or `failures`, as far as the answers tell."""
        wanted = (among & self._plain) | judge.leading(row_N, best)
        return wanted | (among - judge.right(row_N)) if self._mode == "failures" else wanted

    def _trajectory(self, row: int, board: Board, path: Sequence[np.ndarray]) -> Trajectory:
        """The trajectory of one candidate, from its number and its `_paths`."""
        predicted_NxS, tokens_NxS, confidence_NxS, q_halt_N = path
        asked = self._questions.candidate(row)
        return Trajectory(
            asked.task, asked.test, asked.question, asked.truth, asked.puzzle_id,
            asked.augmentation_A, self._levels_N, board, q_halt_N, predicted_NxS,
            tokens_NxS == self._mask, confidence_NxS,
        )  # fmt: skip


def _paths(answered: Answered, mesh: Mesh, places: Sequence[int]) -> list[np.ndarray]:
    """What a trajectory holds of these rows of a batch: arrays (rows, N, …), on the first process.

    All processes must ask.
    """
    paths = (answered.step_predicted, answered.step_tokens,
             answered.step_confidence, answered.step_q_halt)  # fmt: skip
    if processes.count() > 1:
        paths = _whole(mesh)(paths)
    if not processes.is_first():
        return []
    return [np.asarray(path)[:, places].swapaxes(0, 1) for path in paths]


@functools.cache
def _whole(mesh: Mesh) -> Callable[[Any], Any]:
    """Gives every process all of arrays that lie split over the devices."""
    return jax.jit(lambda arrays: arrays, out_shardings=placed(mesh, "step"))
