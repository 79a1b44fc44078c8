"""The training stream: an endless, random-access row of examples.

    seed -> order of (task, augmentation, pair) -> random_map(augment, lay out, corrupt)
         -> the rows of this process -> batches

Example i is a function of (seed, i) alone, whatever the number of hosts: the global stream comes
first, and a process then takes its rows [p*B/N, (p+1)*B/N) of every global batch. To resume is to
start at another batch.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence

import grain
import numpy as np

from drm_jax.arc.augment import PuzzleIds, augment
from drm_jax.arc.tasks import Pair, Task, training_pairs
from drm_jax.arc.tokens import to_tokens
from drm_jax.config import CARRIED, Experiment
from drm_jax.extension import is_reference
from drm_jax.noise.corruption import corrupt, draw_noise, reverse_targets
from drm_jax.noise.schedules import NUM_LEVELS, ratio_table

# Longer than any run, short enough that an index stays an exact int64.
_ENDLESS = 2**48


class VisitOrder:
    """Which (pair, puzzle id) stands at each place of the stream: the papers' sampling order.

    An epoch visits every task once in random order. A visit draws one augmentation and puts all
    of that (task, augmentation)'s pairs, in random order, next to each other. Every epoch has the
    same length, so a place is found without walking there.
    """

    def __init__(self, tasks: Sequence[Task], ids: PuzzleIds, seed: int):
        self.pairs = [training_pairs(task) for task in tasks]
        self._counts = np.array([len(pairs) for pairs in self.pairs])
        self._ids, self._seed = ids.of_task, seed
        self.epoch_length = int(self._counts.sum())
        self._epoch = functools.lru_cache(maxsize=2)(self._draw_epoch)

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Task, pair and puzzle id at each of the epoch's places, each (epoch_length,)."""
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(len(self.pairs))
        visit = [(rng.permutation(self._counts[k]), rng.choice(self._ids[k])) for k in order]
        repeats = self._counts[order]
        return (
            np.repeat(order, repeats),
            np.concatenate([pairs for pairs, _ in visit]),
            np.repeat(np.array([puzzle_id for _, puzzle_id in visit]), repeats),
        )

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, place: int) -> tuple[Pair, int, int]:
        """(pair, puzzle id, number of pairs that share this puzzle id)."""
        epoch, within = divmod(int(place), self.epoch_length)
        task, pair, puzzle_id = (column[within] for column in self._epoch(epoch))
        return self.pairs[task][pair], int(puzzle_id), int(self._counts[task])


def draw_offset(
    rng: np.random.Generator, pair: Pair, canvas: int, siblings: int
) -> tuple[int, int]:
    """Where both grids are laid: (0, 0) for one pair in `siblings`, else any place they fit."""
    if rng.integers(siblings) == 0:
        return 0, 0
    height, width = np.maximum(pair.input.shape, pair.output.shape).tolist()
    return int(rng.integers(canvas - height + 1)), int(rng.integers(canvas - width + 1))


def make_example(
    element: tuple[Pair, int, int], rng: np.random.Generator, ids: PuzzleIds, experiment: Experiment
) -> dict[str, np.ndarray]:
    """One example of the stream, S tokens a grid, with the draws that its objective needs.

    Returns:
      inputs, target: (S,) uint8; puzzle_id () int32; weight () float32; and
      of trm and sprm, `draw_for_slot`; of all others, `draw_noised`.
    """
    pair, puzzle_id, siblings = element
    canvas = experiment.data.canvas
    augmentation = ids.augmentation(puzzle_id)
    pair = Pair(augment(pair.input, augmentation), augment(pair.output, augmentation))
    offset = draw_offset(rng, pair, canvas, siblings)
    target_S = to_tokens(pair.output, canvas, offset)
    example = {
        "inputs": to_tokens(pair.input, canvas, offset),
        "target": target_S,
        "puzzle_id": np.int32(puzzle_id),
        "weight": np.float32(1),
    }
    if experiment.objective in CARRIED:
        return example | draw_for_slot(rng, experiment)
    return example | draw_noised(rng, target_S, experiment)


def draw_noised(
    rng: np.random.Generator, target_S: np.ndarray, experiment: Experiment
) -> dict[str, np.ndarray]:
    """noised (S,) uint8, its level () int32, and reverse_targets (K, S) uint8."""
    noise = experiment.noise
    level = int(rng.integers(NUM_LEVELS))
    noise_S = draw_noise(rng, noise.kind, experiment.data.canvas)
    return {
        "noised": corrupt(target_S, noise_S, level, noise.schedule),
        "level": np.int32(level),
        "reverse_targets": reverse_targets(
            target_S, noise_S, level, experiment.model.cycles, noise.schedule
        ),
    }


def draw_for_slot(rng: np.random.Generator, experiment: Experiment) -> dict[str, np.ndarray]:
    """What the slot of the batch that this example meets needs at this step, busy or not.

    Returns:
      least_steps () int32, 0 for none; for sprm also latent_level (2,) int32 and latent_seed ()
      uint32.
    """
    halting = experiment.halting
    explores = rng.random() < halting.exploration
    least_steps = rng.integers(2, max(halting.max_steps, 2), endpoint=True)
    draws = {"least_steps": np.int32(least_steps if explores and halting.max_steps > 1 else 0)}
    if experiment.objective == "sprm":
        levels = rng.integers(experiment.noise.latent_levels, size=2, dtype=np.int32)
        draws |= {"latent_level": levels, "latent_seed": rng.integers(2**32, dtype=np.uint32)}
    return draws


class _ProcessRows(grain.MapDataset):
    """Rows [p*B/N, (p+1)*B/N) of every global batch of B, one after the other."""

    def __init__(self, parent: grain.MapDataset, batch_size: int, process: int, processes: int):
        super().__init__(parent)
        self._batch, self._local = batch_size, batch_size // processes
        self._first = process * self._local

    def __len__(self) -> int:
        return len(self._parent) // self._batch * self._local

    def __getitem__(self, index):
        batch, row = divmod(index, self._local)
        return self._parent[batch * self._batch + self._first + row]


def training_stream(
    experiment: Experiment,
    tasks: Sequence[Task],
    ids: PuzzleIds,
    process: int = 0,
    processes: int = 1,
) -> grain.MapDataset:
    """Batches of this process's rows, endless; batch b is that of training step b.

    Returns:
      A MapDataset of dicts as `make_example` gives, with a leading axis B/processes.
    """
    batch_size = experiment.train.batch_size
    examples = grain.MapDataset.source(VisitOrder(tasks, ids, experiment.seed)).random_map(
        functools.partial(make_example, ids=ids, experiment=experiment), seed=experiment.seed
    )
    rows = _ProcessRows(examples, batch_size, process, processes)
    return rows.batch(batch_size // processes, drop_remainder=True)


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
    shape = (experiment.seed, experiment.data.canvas, experiment.train.batch_size)
    digest.update(repr((shape, draws)).encode())
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
