"""The training stream: an endless, random-access row of batches.

    seed -> order of (group, variant, example)
         -> the batch of each step -> the rows of this process
         -> lay out (the family of puzzles), corrupt (the method): all rows of a batch at once

Batch b, and example i of it, is a function of (seed, b, i) alone, whatever the number of hosts: the
global order comes first, and a process then takes rows [p*B/N, (p+1)*B/N) of every batch. To resume
is to start at another batch.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np

from drm_jax.fields import stable_repr
from drm_jax.puzzles.family import Board, Puzzles
from drm_jax.random_bits import below, draw_bits

# Longer than any run, short enough that an index stays an exact int64.
_ENDLESS = 2**40
_VISITS, _WITHIN_VISIT = 1, 2
"""The last of the four numbers that seed an epoch's order; the draws of a batch have three."""
_PLACE = 0
"""What random numbers are for: 0 where an example is laid; 1, 2, … what the method draws. Each has
a row of its own, so that examples lie alike whatever is drawn for them later."""
_STREAM = 4
"""Raised when other code draws other examples: a run doesn't go on with another stream."""


class VisitOrder:
    """Which (example, variant) stands at each place of the endless row: the papers' sampling order.

    An epoch makes the V visits of all groups in random order. A visit draws one variant and puts
    all of the group's examples, in random order, next to each other. Every epoch has the same
    length, so a place is found without walking there.
    """

    def __init__(
        self,
        examples_G: np.ndarray,
        variants_G: np.ndarray,
        seed: int,
        visits_G: np.ndarray | None = None,
    ):
        """Args:
        examples_G, variants_G, visits_G: how many each group has, see `puzzles.family.Puzzles`;
          visits_G=None: one visit each.
        """
        group_V = np.repeat(np.arange(len(examples_G)), 1 if visits_G is None else visits_G)
        examples_V = examples_G[group_V]
        self._variants_V = variants_G[group_V]
        self._visit_P = np.repeat(np.arange(len(group_V)), examples_V)
        self._seed = seed
        self.epoch_length = len(self._visit_P)
        # group g has the examples from first_G[g] on; those of visit v stand from start_V[v] on
        first_G, start_V = (np.cumsum(n) - n for n in (examples_G, examples_V))
        self.example_P = np.arange(self.epoch_length) + (first_G[group_V] - start_V)[self._visit_P]
        """(P,) the example at each of an epoch's places, before they are put in order."""
        self.epoch = functools.lru_cache(maxsize=8)(self._draw_epoch)

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Example and variant at each of the epoch's places, each (epoch_length,).

        Sorted by random bits: what numpy's `Generator` makes of them may change between versions.
        """
        key_V, bits_V = draw_bits((self._seed, epoch, 0, _VISITS), 0, len(self._variants_V), 2).T
        key_P = draw_bits((self._seed, epoch, 0, _WITHIN_VISIT), 0, self.epoch_length, 1)[:, 0]
        visit_P = self._visit_P  # keeps visits apart whose keys are equal
        order = np.lexsort((key_P, visit_P, key_V[visit_P]))
        variant_V = below(bits_V, self._variants_V)
        return self.example_P[order], variant_V[visit_P[order]]

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For these places: the example, and the variant of its group; (N,) each."""
        epoch_N, within_N = np.divmod(places, self.epoch_length)
        example_N, variant_N = np.empty((2, len(places)), np.int64)
        for epoch in np.unique(epoch_N):
            here = epoch_N == epoch
            columns = self.epoch(int(epoch))
            example_N[here], variant_N[here] = (column[within_N[here]] for column in columns)
        return example_N, variant_N


class BatchOrder:
    """Which examples make the batch of each step.

    Each board has a row of its own, of the examples that stand on it, in visiting order. A batch is
    B neighbours of one row, and its step comes when the last of them is visited: so the mix of
    boards is that of the data, whatever the number of processes. With one board, batch b is visits
    b*B to (b+1)*B.
    """

    def __init__(self, order: VisitOrder, board_E: np.ndarray, batch_size: int):
        """Args:
        board_E: which board each example needs, 0, 1, …
        """
        self._order, self._board_E, self._batch_size = order, board_E, batch_size
        # every epoch has as many examples of each board
        self._in_epoch = np.bincount(board_E[order.example_P])
        self._epoch = functools.lru_cache(maxsize=8)(self._sort_epoch)

    def _before(self, epoch: int) -> int:
        """Batches that are complete before an epoch."""
        return sum(epoch * int(count) // self._batch_size for count in self._in_epoch)

    def _sort_epoch(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """For each board its places within the epoch; (batches, 2) board and number in its row."""
        board_L = self._board_E[self._order.epoch(epoch)[0]]
        places = [np.flatnonzero(board_L == board) for board in range(len(self._in_epoch))]
        completed = []
        for board, here in enumerate(places):
            examples = epoch * len(here) + 1 + np.arange(len(here))  # in this row up to each place
            last = examples % self._batch_size == 0
            numbers = examples[last] // self._batch_size - 1
            completed += zip(here[last].tolist(), [board] * len(numbers), numbers.tolist())
        in_order = [row[1:] for row in sorted(completed)]
        return places, np.array(in_order, np.int64).reshape(-1, 2)

    def __getitem__(self, batch: int) -> tuple[int, int]:
        """(board, first example in that board's row) of a batch."""
        epoch = batch * self._batch_size // self._order.epoch_length
        while self._before(epoch + 1) <= batch:
            epoch += 1
        board, number = self._epoch(epoch)[1][batch - self._before(epoch)].tolist()
        return board, number * self._batch_size

    def places(self, board: int, example_N: np.ndarray) -> np.ndarray:
        """Where in the visiting order these examples of a board's row stand."""
        epoch_N, within_N = np.divmod(example_N, self._in_epoch[board])
        place_N = epoch_N * self._order.epoch_length
        for epoch in np.unique(epoch_N):
            here = epoch_N == epoch
            place_N[here] += self._epoch(int(epoch))[0][board][within_N[here]]
        return place_N


class BatchMaker:
    """This process's rows of the batch of each step, with what the method draws for them."""

    def __init__(
        self,
        puzzles: Puzzles,
        boards: Sequence[Board],
        mask: int,
        method: Any,
        *,
        seed: int,
        batch_size: int,
        process: int = 0,
        processes: int = 1,
    ):
        """Args:
        boards, mask: the family's boards, and the token MASK.
        method: a `methods.method.Method`.
        batch_size: over all processes.
        """
        self._puzzles, self._boards, self._mask, self._method = puzzles, boards, mask, method
        self._visits = VisitOrder(puzzles.examples_G, puzzles.variants_G, seed, puzzles.visits_G)
        self._order = BatchOrder(self._visits, puzzles.board_E, batch_size)
        self._seed, self._local = seed, batch_size // processes
        self._first = process * self._local

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, batch: int) -> dict[str, np.ndarray]:
        """One batch of the stream, B rows, S tokens a board.

        Returns:
          What the family gives (`puzzles.family.Puzzles.training_rows`): inputs, target (B, S)
          uint8, puzzle_id (B,) int32, maybe corner (B, 2) int32; weight (B,) float32; and what the
          method draws.
        """
        which, start = self._order[batch]
        board, first = self._boards[which], start + self._first
        places = self._order.places(which, np.arange(first, first + self._local))
        # The stream of a board is named by its height, as when all were square.
        draw = functools.partial(self._draw, board[0], first)
        rows = self._puzzles.training_rows(*self._visits.at(places), draw(_PLACE, 3), board)
        rows["weight"] = np.ones(self._local, np.float32)
        return rows | self._method.draw(draw, rows["target"], board, self._mask)

    def _draw(self, height: int, first: int, purpose: int, each: int) -> np.ndarray:
        return draw_bits((self._seed, height, purpose), first, self._local, each)


def batches_from(stream: grain.MapDataset, step: int) -> Iterator[dict[str, np.ndarray]]:
    """The batches of training steps `step`, `step` + 1, …, read ahead by Grain's threads."""
    read = grain.ReadOptions(num_threads=4, prefetch_buffer_size=16)
    return iter(stream[step:].to_iter_dataset(read))


def fingerprint(
    puzzles: Puzzles, boards: Sequence[Board], method: Any, seed: int, batch_size: int
) -> str:
    """A digest of all that decides the stream: stored beside a run, compared on resume."""
    options = [
        f"{field.name!r}: {stable_repr(getattr(method, field.name))}"
        for field in dataclasses.fields(method)
        if field.name != "denoising"  # of tests alone
    ]
    decides = (_STREAM, seed, tuple(boards), batch_size, type(method).__qualname__)
    digest = hashlib.sha256(f"{repr(decides)[:-1]}, {{{', '.join(options)}}})".encode())
    ratios = method.level_ratios()
    if ratios is not None:
        digest.update(ratios.tobytes())
    digest.update(puzzles.training_digest().encode())
    return digest.hexdigest()[:16]
