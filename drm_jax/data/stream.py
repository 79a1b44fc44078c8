"""The training stream: an endless, random-access row of batches.

    seed -> order of (task, augmentation, pair)
         -> the batch of each step -> the rows of this process
         -> augment, lay out, corrupt: all rows of a batch at once

Batch b, and example i of it, is a function of (seed, b, i) alone, whatever the number of hosts: the
global order comes first, and a process then takes rows [p*B/N, (p+1)*B/N) of every batch. To resume
is to start at another batch.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence

import grain
import numpy as np

from drm_jax.config import CARRIED, Experiment
from drm_jax.corruption.masking import corrupt, noise_from, reverse_targets
from drm_jax.corruption.schedules import NUM_LEVELS, ratio_table
from drm_jax.data.windows import pair_windows
from drm_jax.puzzles.arc.augment import PuzzleIds
from drm_jax.puzzles.arc.layout import FlatGrids, flatten, lay_out, turned_sizes
from drm_jax.puzzles.arc.tasks import Task, training_pairs
from drm_jax.references import is_reference

# Longer than any run, short enough that an index stays an exact int64.
_ENDLESS = 2**40
_PLACE, _OBJECTIVE, _NOISE = 0, 1, 2
"""What random numbers are for: each has a row of its own, so that examples lie alike whatever is
drawn for them later."""
_STREAM = 2
"""Raised when other code draws other examples: a run doesn't go on with another stream."""


class VisitOrder:
    """Which (pair, puzzle id) stands at each place of the endless row: the papers' sampling order.

    An epoch visits every task once in random order. A visit draws one augmentation and puts all
    of that (task, augmentation)'s pairs, in random order, next to each other. Every epoch has the
    same length, so a place is found without walking there.
    """

    def __init__(self, tasks: Sequence[Task], ids: PuzzleIds, seed: int):
        of_task = [training_pairs(task) for task in tasks]
        self.pairs = [pair for pairs in of_task for pair in pairs]
        self._counts = np.array([len(pairs) for pairs in of_task])
        self._task_P = np.repeat(np.arange(len(tasks)), self._counts)
        self._ids = np.concatenate(ids.of_task)
        self._id_counts = np.array([len(of_one) for of_one in ids.of_task])
        self._seed = seed
        self.epoch_length = len(self.pairs)
        self.epoch = functools.lru_cache(maxsize=8)(self._draw_epoch)

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Pair and puzzle id at each of the epoch's places, each (epoch_length,)."""
        rng = np.random.default_rng([self._seed, epoch])
        rank = rng.permutation(len(self._counts))  # of each task's visit
        order = np.lexsort((rng.random(self.epoch_length), rank[self._task_P]))
        drawn = rng.integers(self._id_counts)
        first = np.cumsum(self._id_counts) - self._id_counts
        return order, self._ids[first + drawn][self._task_P[order]]

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For these places: the pair, its puzzle id, how many pairs share that id; (N,) each."""
        epoch_N, within_N = np.divmod(places, self.epoch_length)
        pair_N, id_N = np.empty((2, len(places)), np.int64)
        for epoch in np.unique(epoch_N):
            here = epoch_N == epoch
            pair_N[here], id_N[here] = (column[within_N[here]] for column in self.epoch(int(epoch)))
        return pair_N, id_N, self._counts[self._task_P[pair_N]]


class BatchOrder:
    """Which examples make the batch of each step.

    Each side of canvas has a row of its own, of the examples that stand on it, in visiting order. A
    batch is B neighbours of one row, and its step comes when the last of them is visited: so the
    mix of sides is that of the data, whatever the number of processes. With one side, batch b is
    visits b*B to (b+1)*B.
    """

    def __init__(self, order: VisitOrder, side_P: np.ndarray, batch_size: int):
        """Args: side_P: which side each pair needs, 0, 1, …"""
        self._order, self._side_P, self._batch_size = order, side_P, batch_size
        self._in_epoch = np.bincount(side_P)  # every epoch has as many examples of each side
        self._epoch = functools.lru_cache(maxsize=8)(self._sort_epoch)

    def _before(self, epoch: int) -> int:
        """Batches that are complete before an epoch."""
        return sum(epoch * int(count) // self._batch_size for count in self._in_epoch)

    def _sort_epoch(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """For each side its places within the epoch; (batches, 2) side and number in its row."""
        side_L = self._side_P[self._order.epoch(epoch)[0]]
        places = [np.flatnonzero(side_L == side) for side in range(len(self._in_epoch))]
        completed = []
        for side, here in enumerate(places):
            examples = epoch * len(here) + 1 + np.arange(len(here))  # in this row up to each place
            last = examples % self._batch_size == 0
            numbers = examples[last] // self._batch_size - 1
            completed += zip(here[last].tolist(), [side] * len(numbers), numbers.tolist())
        in_order = [row[1:] for row in sorted(completed)]
        return places, np.array(in_order, np.int64).reshape(-1, 2)

    def __getitem__(self, batch: int) -> tuple[int, int]:
        """(side, first example in that side's row) of a batch."""
        epoch = batch * self._batch_size // self._order.epoch_length
        while self._before(epoch + 1) <= batch:
            epoch += 1
        side, number = self._epoch(epoch)[1][batch - self._before(epoch)].tolist()
        return side, number * self._batch_size

    def places(self, side: int, example_N: np.ndarray) -> np.ndarray:
        """Where in the visiting order these examples of a side's row stand."""
        epoch_N, within_N = np.divmod(example_N, self._in_epoch[side])
        place_N = epoch_N * self._order.epoch_length
        for epoch in np.unique(epoch_N):
            here = epoch_N == epoch
            place_N[here] += self._epoch(int(epoch))[0][side][within_N[here]]
        return place_N


def draw_bits(seed: Sequence[int], first: int, count: int, each: int) -> np.ndarray:
    """(count, each) uint32: random numbers of the examples `first`, `first` + 1, … of a seed.

    Those of an example are a function of (seed, its index): Philox is a counter, not a walk.

    Args:
      seed: numbers that together make one seed.
    """
    turns = -(-each // 8)  # a turn of the counter gives 8 numbers
    key = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    bits = np.random.Philox(key=key, counter=int(first) * turns)
    return bits.random_raw(count * turns * 4).view(np.uint32).reshape(count, -1)[:, :each]


def _below(bits: np.ndarray, limit: np.ndarray | int) -> np.ndarray:
    """Integers in [0, limit) from 32 random bits each; the bias is below limit / 2**32."""
    return (bits * np.asarray(limit, np.uint64) >> np.uint64(32)).astype(np.int64)


def _unit(bits: np.ndarray) -> np.ndarray:
    """float32 in [0, 1) from 32 random bits each."""
    return (bits >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def draw_offsets(
    bits_Nx3: np.ndarray, size_Nx2: np.ndarray, canvas: int, siblings_N: np.ndarray
) -> np.ndarray:
    """(N, 2) where both grids of a pair are laid.

    (0, 0) for one pair in `siblings`, else any place where `size`, the larger of both heights and
    of both widths, fits the canvas.
    """
    offset_Nx2 = _below(bits_Nx3[:, 1:], canvas + 1 - size_Nx2)
    offset_Nx2[_below(bits_Nx3[:, 0], siblings_N) == 0] = 0
    return offset_Nx2


class BatchMaker:
    """This process's rows of the batch of each step, with the draws that the objective needs."""

    def __init__(
        self,
        experiment: Experiment,
        tasks: Sequence[Task],
        ids: PuzzleIds,
        process: int = 0,
        processes: int = 1,
    ):
        self._experiment, self._ids = experiment, ids
        self._visits = VisitOrder(tasks, ids, experiment.seed)
        pairs = self._visits.pairs
        # grid p is the input of pair p, grid P + p its output
        self._grids: FlatGrids = flatten([p.input for p in pairs] + [p.output for p in pairs])
        side_P = pair_windows(pairs, experiment.data.sides)
        self._order = BatchOrder(self._visits, side_P, experiment.train.batch_size)
        self._local = experiment.train.batch_size // processes
        self._first = process * self._local

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, batch: int) -> dict[str, np.ndarray]:
        """One batch of the stream, B rows, S tokens a grid.

        Returns:
          inputs, target: (B, S) uint8; puzzle_id (B,) int32; weight (B,) float32; with
          canvas=fit, corner (B, 2) int32, where on the canvas the windows begin; and of trm and
          sprm, `draw_for_slots`, of all others `draw_noised`.
        """
        experiment, grids, data = self._experiment, self._grids, self._experiment.data
        which, start = self._order[batch]
        side, first = data.sides[which], start + self._first
        places = self._order.places(which, np.arange(first, first + self._local))
        pair_B, id_B, siblings_B = self._visits.at(places)
        draw = functools.partial(self._draw, side, first)
        transform_B, colours_Bx10 = self._ids.transform[id_B], self._ids.colours[id_B]
        both = [pair_B, pair_B + len(self._visits.pairs)]
        sizes = [turned_sizes(grids, grid_B, transform_B) for grid_B in both]
        offset_Bx2 = draw_offsets(draw(_PLACE, 3), np.maximum(*sizes), data.side, siblings_B)
        # a window begins where the grids do, but doesn't leave the canvas
        corner_Bx2 = np.minimum(offset_Bx2, data.side - side)
        inputs_BxS, target_BxS = (
            lay_out(grids, grid_B, transform_B, colours_Bx10, side, offset_Bx2 - corner_Bx2)
            for grid_B in both
        )
        rows = {
            "inputs": inputs_BxS,
            "target": target_BxS,
            "puzzle_id": id_B.astype(np.int32),
            "weight": np.ones(self._local, np.float32),
        }
        if data.canvas == "fit":
            rows["corner"] = corner_Bx2.astype(np.int32)
        if experiment.objective in CARRIED:
            return rows | draw_for_slots(draw(_OBJECTIVE, 5), experiment)
        bits = draw(_OBJECTIVE, 3), draw(_NOISE, side**2)
        return rows | draw_noised(*bits, target_BxS, experiment)

    def _draw(self, side: int, first: int, purpose: int, each: int) -> np.ndarray:
        return draw_bits((self._experiment.seed, side, purpose), first, self._local, each)


def draw_noised(
    bits_Bx3: np.ndarray,
    noise_bits_BxS: np.ndarray,
    target_BxS: np.ndarray,
    experiment: Experiment,
) -> dict[str, np.ndarray]:
    """noised (B, S) uint8, its level (B,) int32, and reverse_targets (B, K, S) uint8.

    With noise.own_answers also own_answer (B,) bool.
    """
    noise, canvas = experiment.noise, int(target_BxS.shape[1] ** 0.5)
    level_B = _below(bits_Bx3[:, 0], NUM_LEVELS).astype(np.int32)
    level_B[_unit(bits_Bx3[:, 1]) < noise.all_masked] = NUM_LEVELS
    noise_BxS = noise_from(_unit(noise_bits_BxS), noise.kind, canvas)
    path = reverse_targets(target_BxS, noise_BxS, level_B, experiment.model.cycles, noise.schedule)
    noised_BxS = corrupt(target_BxS, noise_BxS, level_B, noise.schedule)
    rows = {"noised": noised_BxS, "level": level_B, "reverse_targets": path}
    if noise.own_answers:
        rows["own_answer"] = _unit(bits_Bx3[:, 2]) < noise.own_answers
    return rows


def draw_for_slots(bits_Bx5: np.ndarray, experiment: Experiment) -> dict[str, np.ndarray]:
    """What the slots of the batch that these examples meet need at this step, busy or not.

    Returns:
      least_steps (B,) int32, 0 for none; for sprm also latent_level (B, 2) int32 and latent_seed
      (B,) uint32.
    """
    halting = experiment.halting
    explores_B = (_unit(bits_Bx5[:, 0]) < halting.exploration) & (halting.max_steps > 1)
    least_steps_B = 2 + _below(bits_Bx5[:, 1], max(halting.max_steps - 1, 1))
    draws = {"least_steps": np.where(explores_B, least_steps_B, 0).astype(np.int32)}
    if experiment.objective == "sprm":
        levels_Bx2 = _below(bits_Bx5[:, 2:4], experiment.noise.latent_levels)
        draws |= {"latent_level": levels_Bx2.astype(np.int32), "latent_seed": bits_Bx5[:, 4].copy()}
    return draws


def training_stream(
    experiment: Experiment,
    tasks: Sequence[Task],
    ids: PuzzleIds,
    process: int = 0,
    processes: int = 1,
) -> grain.MapDataset:
    """Batches of this process's rows, endless; batch b is that of training step b.

    Returns:
      A MapDataset of dicts as `BatchMaker` gives.
    """
    return grain.MapDataset.source(BatchMaker(experiment, tasks, ids, process, processes))


def batches_from(stream: grain.MapDataset, step: int) -> Iterator[dict[str, np.ndarray]]:
    """The batches of training steps `step`, `step` + 1, …, read ahead by Grain's threads."""
    read = grain.ReadOptions(num_threads=4, prefetch_buffer_size=16)
    return iter(stream[step:].to_iter_dataset(read))


def fingerprint(experiment: Experiment, tasks: Sequence[Task], ids: PuzzleIds) -> str:
    """A digest of all that decides the stream: stored beside a run, compared on resume."""
    digest = hashlib.sha256()
    noise, carries = experiment.noise, experiment.objective in CARRIED
    if carries:
        draws = (experiment.objective, experiment.halting, noise.latent_levels)
    else:
        draws = (noise.schedule, noise.kind, experiment.model.cycles)
        if noise.all_masked or noise.own_answers:
            draws += (noise.all_masked, noise.own_answers)
    shape = (experiment.seed, experiment.data.sides, experiment.train.batch_size)
    digest.update(repr((_STREAM, shape, draws)).encode())
    if is_reference(noise.schedule) and not carries:
        # A user's function may change under its name. (The built-in ones don't, and their last
        # bit differs between kinds of processors, which a run may well change.)
        digest.update(ratio_table(noise.schedule).tobytes())
    for task in tasks:
        digest.update(task.id.encode())
        for pair in training_pairs(task):
            digest.update(pair.key)
    digest.update(ids.task.tobytes() + ids.transform.tobytes() + ids.colours.tobytes())
    return digest.hexdigest()[:16]
