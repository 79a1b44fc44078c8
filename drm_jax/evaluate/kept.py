"""Which candidates' denoising is kept for those who look.

What a batch gives would fill the memory if all of it were kept, and which answers win is known only
at the end. So the first voters of the best answers so far are kept, and at the end those that have
fallen behind are dropped; of an answer whose first voter wasn't among the best in time, that
candidate is denoised again, to the same end.
"""

from collections.abc import Sequence

import numpy as np

from drm_jax.config import Experiment
from drm_jax.evaluate.answers import Packed, Trajectory, pack
from drm_jax.puzzles.arc import voting
from drm_jax.puzzles.arc.augment import PuzzleIds
from drm_jax.puzzles.arc.tasks import Task

PICTURED = 8
"""Test inputs whose denoising is pictured."""
_SO_FAR, _AT_LAST = 8, 2  # of how many best answers


class Kept:
    """The trajectories of one evaluation, chosen as `config.Evaluate.trajectories` says."""

    def __init__(
        self, experiment: Experiment, tasks: Sequence[Task], ids: PuzzleIds, rows: np.ndarray
    ):
        """Args: rows: all candidates, from `data.evaluation.evaluation_rows`."""
        self._mode, self._tasks, self._rows = experiment.evaluate.trajectories, tasks, rows
        plain = np.flatnonzero(ids.is_identity[rows[:, 2]]).tolist()
        self._plain, self.pictured = set(plain), plain[:PICTURED]
        self._tests = {(k, t) for k, t in np.unique(rows[:, :2], axis=0).tolist()}
        self._taken: set[int] = set()
        self._packed: dict[int, Packed] = {}

    def choose(self, ballot: voting.Ballot, row_N: np.ndarray) -> list[int]:
        """Which of these candidates, whose votes have just been cast, to keep for now."""
        here = set(row_N.tolist())
        if self._mode == "all":
            wanted = here
        elif self._mode == "off":
            wanted = here.intersection(self.pictured)
        else:
            tests = {(k, t) for k, t, _ in self._rows[row_N].tolist()}
            wanted = here & self._wanted(ballot, tests, here, _SO_FAR)
        wanted -= self._taken
        self._taken |= wanted
        return sorted(wanted)

    def add(self, row: int, trajectory: Trajectory) -> None:
        """Keeps the trajectory of a candidate."""
        self._packed[row] = pack(trajectory)

    def wanted(self, ballot: voting.Ballot) -> set[int]:
        """The candidates to keep in the end, once all votes are cast."""
        if self._mode in ("all", "off"):
            return self._taken
        every = set(range(len(self._rows)))
        return self._wanted(ballot, self._tests, every, _AT_LAST)

    def missing(self, wanted: set[int]) -> list[int]:
        """Candidates to denoise again: only the last votes have shown that they are wanted."""
        return sorted(wanted - self._taken)

    def chosen(self, wanted: set[int]) -> dict[int, Packed]:
        """The trajectories of the candidates that are wanted, by their numbers."""
        return {row: self._packed[row] for row in sorted(wanted & {*self._packed})}

    def _wanted(
        self, ballot: voting.Ballot, tests: set[tuple[int, int]], among: set[int], best: int
    ) -> set[int]:
        """Of `selected` or `failures`, as far as the votes tell."""
        wanted = among & self._plain
        right = set()
        for k, t in tests:
            task, pair = self._tasks[k], self._tasks[k].tests[t]
            ranked = voting.ranked(ballot, task.id, pair.input)
            rank = None if pair.output is None else voting.rank_of_truth(ranked, pair.output)
            leading = ranked[:best] + ([] if rank is None else [ranked[rank]])
            wanted |= {answer.voters[0] for answer in leading}
            right |= set(ranked[rank].voters) if rank is not None else set()
        return wanted | (among - right) if self._mode == "failures" else wanted
