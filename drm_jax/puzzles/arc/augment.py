"""Augmentations: one of eight dihedral transforms and a permutation of the colours 1..9.

Colours are mapped first, then the grid is transformed; undoing goes the other way. Each
(task, augmentation) has a puzzle id of its own; 0 is the blank id. Nothing is built ahead: the ids
of a task are a short list of (transform, permutation), drawn from (seed, task id) alone.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Sequence

import numpy as np

from drm_jax.puzzles.arc.tasks import MAX_SIDE, Pair, Task, visible_pairs
from drm_jax.puzzles.arc.tokens import FIRST_COLOUR, MASK, NUM_COLOURS
from drm_jax.puzzles.dihedral import INVERSE, NUM_TRANSFORMS, TRANSFORM_WORDS, dihedral

MAX_AUGMENTATIONS = NUM_TRANSFORMS * math.factorial(NUM_COLOURS - 1) - 1
"""All transforms times all colour permutations, less the identity: 2,903,039."""
IDENTITY_COLOURS = np.arange(NUM_COLOURS, dtype=np.uint8)


@dataclasses.dataclass(frozen=True, eq=False)
class Augmentation:
    """A dihedral transform 0..7 and new colour = `colours[old]` (10 uint8, colours[0] = 0)."""

    transform: int = 0
    colours: np.ndarray = dataclasses.field(default_factory=IDENTITY_COLOURS.copy)

    @property
    def is_identity(self) -> bool:
        return self.transform == 0 and np.array_equal(self.colours, IDENTITY_COLOURS)


def from_vector(augmentation_A: np.ndarray) -> Augmentation:
    """The augmentation of a vector (11,) uint8: its transform, then its ten colours."""
    return Augmentation(int(augmentation_A[0]), augmentation_A[1:])


def augment(grid_HxW: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Colours first, then the transform."""
    return dihedral(augmentation.colours[grid_HxW], augmentation.transform)


def undo(grid_HxW: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """The grid whose augmentation this is: undo(augment(g, a), a) = g."""
    inverse_colours = np.argsort(augmentation.colours).astype(np.uint8)
    return inverse_colours[dihedral(grid_HxW, INVERSE[augmentation.transform])]


def augment_tokens(tokens_HxW: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """`augment` of a piece of a canvas: PAD, EOS and MASK move along with their cells."""
    return dihedral(_new_tokens(augmentation.colours)[tokens_HxW], augmentation.transform)


def undo_tokens(tokens_HxW: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """`undo` of a piece of a canvas."""
    inverse = _new_tokens(np.argsort(augmentation.colours))
    return inverse[dihedral(tokens_HxW, INVERSE[augmentation.transform])]


def _new_tokens(colours: np.ndarray) -> np.ndarray:
    new = np.arange(256, dtype=np.uint8)
    new[FIRST_COLOUR:MASK] = FIRST_COLOUR + colours
    return new


def augmentation_name(augmentation: Augmentation) -> str:
    """`t3 0295…`: the transform, and the new colour of each; "" for the identity."""
    if augmentation.is_identity:
        return ""
    return f"t{augmentation.transform} {''.join(map(str, augmentation.colours))}"


def augmentation_words(augmentation: Augmentation) -> str:
    """`turned right, colours 0295…`; the colours are left out where they stay."""
    words = TRANSFORM_WORDS[augmentation.transform]
    if np.array_equal(augmentation.colours, IDENTITY_COLOURS):
        return words
    return f"{words}, colours {''.join(map(str, augmentation.colours))}"


def augmented_name(task_id: str, augmentation: Augmentation) -> str:
    """The published name of an augmented task, `TASK|||t3|||0295…`; the identity keeps the id."""
    name = augmentation_name(augmentation)
    return "|||".join([task_id, *name.split()])


# --- distinct augmentations, without making them ------------------------------------------------
# The hash of a pair is a sum over cells of position weight * colour value, modulo 2**64. Gathered
# by colour it is a sum of ten products, so the hash of an augmented pair needs only the ten sums
# of weights of each transform: 1,000 augmentations of a task cost some milliseconds.
_HASH_RNG = np.random.default_rng(0x0D12A)
_POSITION_WEIGHT = _HASH_RNG.integers(0, 2**64, (2, MAX_SIDE, MAX_SIDE), np.uint64)
_SHAPE_WEIGHT = _HASH_RNG.integers(0, 2**64, (2, MAX_SIDE + 1, MAX_SIDE + 1), np.uint64)
_COLOUR_VALUE = _HASH_RNG.integers(0, 2**64, NUM_COLOURS, np.uint64) | np.uint64(1)


def _mix(x: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser: spreads each bit over all 64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _colour_weights(pair: Pair, transform: int) -> tuple[np.ndarray, np.uint64]:
    """Sum of position weights of each colour (10,), and the shapes' own term."""
    weights, shape_term = np.zeros(NUM_COLOURS, np.uint64), np.uint64(0)
    for side, grid in enumerate((pair.input, pair.output)):
        if grid is None:
            continue
        grid = dihedral(grid, transform)
        height, width = grid.shape
        np.add.at(weights, grid, _POSITION_WEIGHT[side, :height, :width])
        shape_term = shape_term + _SHAPE_WEIGHT[side, height, width]
    return weights, shape_term


HashTables = tuple[np.ndarray, np.ndarray]


def hash_tables(pairs: Sequence[Pair]) -> HashTables:
    """What `hash_augmented` needs of P pairs: colour weights (8, P, 10), shape terms (8, P)."""
    with np.errstate(over="ignore"):
        rows = [[_colour_weights(p, t) for p in pairs] for t in range(NUM_TRANSFORMS)]
    weights_8xPx10 = np.array([[weights for weights, _ in row] for row in rows])
    shape_8xP = np.array([[shape for _, shape in row] for row in rows])
    return weights_8xPx10, shape_8xP


def hash_augmented(
    tables: HashTables, transform_N: np.ndarray, colours_Nx10: np.ndarray
) -> np.ndarray:
    """(N,) uint64: equal for two augmentations under which the set of pairs is the same."""
    weights_8xPx10, shape_8xP = tables
    with np.errstate(over="ignore"):
        value_Nx10 = _COLOUR_VALUE[colours_Nx10]
        pair_NxP = (weights_8xPx10[transform_N] * value_Nx10[:, None]).sum(axis=-1)
        return _mix(pair_NxP + shape_8xP[transform_N]).sum(axis=-1)  # a sum has no order


def distinct_augmentations(
    task: Task, num_augmentations: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Up to 1 + num_augmentations augmentations under which the whole task differs.

    The identity comes first. A task with few colours or much symmetry has fewer: drawing ends
    after ten rounds. A pure function of (task, num_augmentations, seed), so that a task's ids
    don't depend on which other tasks are loaded.

    Returns:
      transform_A (A,) uint8 and colours_Ax10 (A, 10) uint8, 1 <= A <= 1 + num_augmentations.
    """
    tables = hash_tables(visible_pairs(task))
    name_digest = hashlib.sha256(task.id.encode()).digest()[:8]
    rng = np.random.default_rng([seed, int.from_bytes(name_digest, "little")])
    transform_A = np.zeros(1, np.uint8)
    colours_Ax10 = IDENTITY_COLOURS[None]
    hash_A = hash_augmented(tables, transform_A, colours_Ax10)
    for _ in range(10):
        missing = num_augmentations + 1 - len(transform_A)
        if missing <= 0:
            break
        draws = num_augmentations + 16
        transform_N = rng.integers(0, NUM_TRANSFORMS, draws, np.uint8)
        colours_Nx10 = np.tile(IDENTITY_COLOURS, (draws, 1))
        colours_Nx10[:, 1:] = rng.permuted(colours_Nx10[:, 1:], axis=1)
        transform_A = np.concatenate([transform_A, transform_N])
        colours_Ax10 = np.concatenate([colours_Ax10, colours_Nx10])
        hash_A = np.concatenate([hash_A, hash_augmented(tables, transform_N, colours_Nx10)])
        _, first = np.unique(hash_A, return_index=True)
        kept = np.sort(first)[: num_augmentations + 1]
        transform_A, colours_Ax10, hash_A = transform_A[kept], colours_Ax10[kept], hash_A[kept]
    return transform_A, colours_Ax10


@dataclasses.dataclass(frozen=True, eq=False)
class PuzzleIds:
    """Every (task, augmentation) of a run: row i of each array is puzzle id i; 0 is blank."""

    task_ids: tuple[str, ...]
    # (ids,) int32 position in task_ids; -1 for the blank id, and where the ids are of a published
    # list (`arc.identifiers`) for tasks that this run doesn't load
    task: np.ndarray
    transform: np.ndarray  # (ids,) uint8
    colours: np.ndarray  # (ids, 10) uint8

    def __len__(self) -> int:
        return len(self.task)

    def augmentation(self, puzzle_id: int) -> Augmentation:
        return Augmentation(int(self.transform[puzzle_id]), self.colours[puzzle_id])

    def task_id(self, puzzle_id: int) -> str:
        """Raises ValueError for an id that is of no task of this run."""
        if self.task[puzzle_id] < 0:
            raise ValueError(f"puzzle id {puzzle_id} is of no task that is loaded")
        return self.task_ids[self.task[puzzle_id]]

    @functools.cached_property
    def is_identity(self) -> np.ndarray:
        """(ids,) bool: whether an id's augmentation changes nothing."""
        return (self.transform == 0) & (self.colours == IDENTITY_COLOURS).all(axis=1)

    @functools.cached_property
    def of_task(self) -> list[np.ndarray]:
        """For each task its ids in ascending order, but first the identity, if it has an id."""
        order = np.lexsort((~self.is_identity, self.task))
        bounds = np.searchsorted(self.task[order], np.arange(len(self.task_ids) + 1))
        return [order[a:b] for a, b in itertools.pairwise(bounds)]


_BLANK = (np.full(1, -1, np.int32), np.zeros(1, np.uint8), IDENTITY_COLOURS[None])


def puzzle_ids(
    tasks: Sequence[Task], num_augmentations: int, seed: int, rows_per_task: int | None = None
) -> PuzzleIds:
    """Ids of all tasks under all their distinct augmentations, task by task.

    Args:
      rows_per_task: how many ids a task that is only trained on may have; None: as many as others.
    """
    rows = [_BLANK]
    for index, task in enumerate(tasks):
        bounded = rows_per_task is not None and task.role == "train"
        most = min(num_augmentations, rows_per_task - 1) if bounded else num_augmentations
        transform_A, colours_Ax10 = distinct_augmentations(task, most, seed)
        rows.append((np.full(len(transform_A), index, np.int32), transform_A, colours_Ax10))
    task, transform, colours = (np.concatenate(column) for column in zip(*rows, strict=True))
    return PuzzleIds(tuple(t.id for t in tasks), task, transform, colours)
