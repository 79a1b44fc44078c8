"""The tasks of a run, loaded: examples to train on, and tests to be answered."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drm_jax.errors import InputError, UsageError
from drm_jax.puzzles.arc.augment import MAX_AUGMENTATIONS, PuzzleIds, puzzle_ids
from drm_jax.puzzles.arc.files import read_json, task_name
from drm_jax.puzzles.arc.layout import FlatGrids, flatten, lay_out, turned_sizes
from drm_jax.puzzles.arc.leaks import leaks_from_digests, trained_digests
from drm_jax.puzzles.arc.mix import describe_visits, visits
from drm_jax.puzzles.arc.questions import ArcQuestions, UnseenQuestions
from drm_jax.puzzles.arc.tasks import (
    Pair,
    Task,
    demonstrations_key,
    largest_side,
    own_pairs,
    parse_task,
    places_by_demonstrations,
    training_pairs,
    with_hidden_outputs,
)
from drm_jax.puzzles.arc.windows import pair_windows
from drm_jax.puzzles.family import Board
from drm_jax.random_bits import below
from drm_jax.words import counted, first_few

PAIRS_OF_A_GROUP = 4
"""Of made pairs, about as many as a task has of its own: they share a visit's augmentation."""


def training_groups(task: Task) -> Iterator[tuple[str, tuple[Pair, ...]]]:
    """The groups of a task, each with the name of its source: its own pairs, then made ones."""
    own = own_pairs(task)
    if own or not task.made:
        yield task.named, own
    for made in task.made:
        parts = max(1, round(len(made.pairs) / PAIRS_OF_A_GROUP))
        ends = [len(made.pairs) * part // parts for part in range(parts + 1)]
        for first, end in itertools.pairwise(ends):
            yield made.source, made.pairs[first:end]


def draw_offsets(
    bits_Nx3: np.ndarray, size_Nx2: np.ndarray, canvas: int, siblings_N: np.ndarray
) -> np.ndarray:
    """(N, 2) where both grids of a pair are laid.

    (0, 0) for one pair in `siblings`, else any place where `size`, the larger of both heights and
    of both widths, fits the canvas.
    """
    offset_Nx2 = below(bits_Nx3[:, 1:], canvas + 1 - size_Nx2)
    offset_Nx2[below(bits_Nx3[:, 0], siblings_N) == 0] = 0
    return offset_Nx2


class ArcPuzzles:
    """Tasks and their puzzle ids; see `family.Puzzles`.

    A group is a task, an example one of its training pairs, a variant one of its augmentations,
    which has a puzzle id of its own. Made pairs of a task are more groups, of the same variants.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        ids: PuzzleIds,
        boards: Sequence[Board],
        notes: Sequence[str] = (),
        shares: Mapping[str, float] | None = None,
    ):
        """Args:
        boards: of the family, which hold all grids.
        notes: see `family.Puzzles`.
        shares: of the visits of sources, from `mix.parse_mix`; none: each group is visited once.
        """
        self.tasks, self.ids, self.num_ids = tasks, ids, len(ids)
        self._boards = boards
        groups = [(k, *group) for k, task in enumerate(tasks) for group in training_groups(task)]
        task_G, source_G, pairs_G = zip(*groups, strict=True) if groups else ((), (), ())
        pairs = [pair for pairs in pairs_G for pair in pairs]
        self.examples_G = np.array([len(pairs) for pairs in pairs_G])
        self.visits_G = visits(source_G, self.examples_G, shares or {})
        self.notes = (*notes, *([describe_visits(self.visits_G, source_G)] if shares else []))
        variants_K = np.array([len(of_one) for of_one in ids.of_task])
        self._task_G = np.array(task_G, np.int64)
        self.variants_G = variants_K[self._task_G]
        self.board_E = pair_windows(pairs, [side for side, _ in boards])
        self._group_E = np.repeat(np.arange(len(self.examples_G)), self.examples_G)
        # the id of variant v of group g is _id_V[_first_G[g] + v]
        self._id_V = np.concatenate(ids.of_task)
        self._first_G = (np.cumsum(variants_K) - variants_K)[self._task_G]
        # grid e is the input of example e, grid E + e its output
        self._grids: FlatGrids = flatten([p.input for p in pairs] + [p.output for p in pairs])

    def training_rows(
        self, example_N: np.ndarray, variant_N: np.ndarray, bits_Nx3: np.ndarray, board: Board
    ) -> dict[str, np.ndarray]:
        grids, ids, side, whole = self._grids, self.ids, board[0], self._boards[-1][0]
        group_N = self._group_E[example_N]
        id_N = self._id_V[self._first_G[group_N] + variant_N]
        transform_N, colours_Nx10 = ids.transform[id_N], ids.colours[id_N]
        both = [example_N, example_N + len(self._group_E)]
        sizes = [turned_sizes(grids, grid_N, transform_N) for grid_N in both]
        siblings_N = self.examples_G[group_N]
        offset_Nx2 = draw_offsets(bits_Nx3, np.maximum(*sizes), whole, siblings_N)
        # a window begins where the grids do, but doesn't leave the canvas
        corner_Nx2 = np.minimum(offset_Nx2, whole - side)
        inputs_NxS, target_NxS = (
            lay_out(grids, grid_N, transform_N, colours_Nx10, side, offset_Nx2 - corner_Nx2)
            for grid_N in both
        )
        rows = {"inputs": inputs_NxS, "target": target_NxS, "puzzle_id": id_N.astype(np.int32)}
        return rows | ({"corner": corner_Nx2.astype(np.int32)} if len(self._boards) > 1 else {})

    def questions(self, num_augmentations: int | None) -> ArcQuestions:
        return ArcQuestions(self.tasks, self.ids, self._boards, num_augmentations)

    def notes_on_questions(self, num_augmentations: int | None) -> tuple[str, ...]:
        asked = num_augmentations or 0
        there = [
            len(of_one) - 1
            for task, of_one in zip(self.tasks, self.ids.of_task, strict=True)
            if task.role == "evaluate"
        ]
        fewer = [count for count in there if count < asked]
        if not fewer:
            return ()
        return (
            f"evaluate.num_augmentations: {asked:,} asked for; {len(fewer):,} of "
            f"{counted(len(there), 'evaluation task')} have fewer, down to {min(fewer):,}: as many "
            "as were trained on (data.num_augmentations, data.identifiers)",
        )

    def baselines(self) -> dict[str, dict[str, Any]]:
        return {"copying the input": self.questions(0).judge().copying()}

    def ask(self, puzzle: Any, num_augmentations: int | None) -> ArcQuestions:
        """See `family.Puzzles`. A task is known by its demonstrations.

        Args:
          puzzle: a `Task`, the id of a loaded one, a dict as an ARC JSON file has it, or the path
            of such a file.

        Raises:
          UsageError: more augmentations than there are.
        """
        task = dataclasses.replace(self.task_of(puzzle), role="evaluate")
        if not task.tests:
            raise InputError(f"task {task.id}: has no test to answer")
        side = self._boards[-1][0]
        if largest_side(task) > side:
            raise InputError(
                f"task {task.id}: a grid has {counted(largest_side(task), 'cell')} along a side, "
                f"more than the canvas of {side} that this run was trained on"
            )
        if (num_augmentations or 0) > MAX_AUGMENTATIONS:
            raise UsageError(
                f"evaluate.num_augmentations: {num_augmentations:,}: there are "
                f"{MAX_AUGMENTATIONS:,} at most"
            )
        place = places_by_demonstrations(self.tasks).get(demonstrations_key(task))
        if place is not None:
            others = [dataclasses.replace(other, role="train") for other in self.tasks]
            others[place] = dataclasses.replace(task, id=self.tasks[place].id)
            return ArcQuestions(others, self.ids, self._boards, num_augmentations)
        ids = puzzle_ids([task], num_augmentations or 0, seed=0)
        return UnseenQuestions([task], ids, self._boards, num_augmentations)

    def with_tests_of(self, others: "ArcPuzzles", trained_on: Iterable[str]) -> "ArcPuzzles":
        """These tasks and puzzle ids, but with the tests of others, each known by its
        demonstrations; see `family.Puzzles`."""
        known = places_by_demonstrations(self.tasks)
        tasks = [dataclasses.replace(task, role="train") for task in self.tasks]
        asked = [task for task in others.tasks if task.role == "evaluate"]
        leaked, unknown = set(leaks_from_digests(trained_on, asked)), []
        for task in asked:
            place = known.get(demonstrations_key(task))
            if place is None:
                unknown.append(task.id)
                continue
            tasks[place] = with_hidden_outputs(task) if task.id in leaked else task
        if unknown:
            raise InputError(
                f"data.evaluate: {first_few(unknown)}: the run wasn't trained with the "
                f"demonstrations of {len(unknown):,} of these tasks: drm solve adapts it "
                "to tasks that it doesn't know"
            )
        notes = list(others.notes)
        if leaked:
            notes.append(
                f"data.evaluate: the run was trained on answers of {first_few(sorted(leaked))}: "
                "they are answered but not scored"
            )
        return _OtherTests(self, tasks, notes)

    def task_of(self, puzzle: Any) -> Task:
        """A task in any form that `ask` takes; errors as there."""
        if isinstance(puzzle, Task):
            return puzzle
        if isinstance(puzzle, Mapping):
            return parse_task(dict(puzzle), "asked", "the task")
        for task in self.tasks:
            if task.id == puzzle:
                return task
        path = Path(puzzle)
        if not path.is_file():
            raise InputError(
                f"{puzzle}: neither the id of a task of this run, nor a file of one task"
            )
        return parse_task(read_json(path), task_name(path), str(path))

    def puzzle_name(self, puzzle_id: int) -> str:
        """The id of the task; "" for the blank id, and for tasks that are not loaded."""
        return "" if self.ids.task[puzzle_id] < 0 else self.ids.task_id(puzzle_id)

    def training_digest(self) -> str:
        digest, ids = hashlib.sha256(), self.ids
        digest.update(repr(self._boards).encode())
        for task in self.tasks:
            digest.update(task.id.encode())
            for pair in training_pairs(task):
                digest.update(pair.key)
        digest.update(ids.task.tobytes() + ids.transform.tobytes() + ids.colours.tobytes())
        if len(self.examples_G) != len(self.tasks) or (self.visits_G != 1).any():
            digest.update(self.examples_G.tobytes() + self._task_G.tobytes())
            digest.update(self.visits_G.tobytes())
        return digest.hexdigest()[:16]

    def tests_digest(self) -> str:
        digest = hashlib.sha256()
        for task in self.tasks:
            digest.update(f"{task.id} {task.role}".encode())
            for pair in task.tests:
                digest.update(pair.key)
        return digest.hexdigest()[:16]

    def trained_digests(self) -> list[str]:
        return trained_digests(self.tasks)

    def answered_in(self, digests: Iterable[str]) -> list[str]:
        return leaks_from_digests(digests, self.tasks)

    def describe(self) -> str:
        held_out = sum(task.role == "evaluate" for task in self.tasks)
        made = sum(len(of_one.pairs) for task in self.tasks for of_one in task.made)
        return (
            f"{counted(len(self.tasks), 'task')} ({held_out} with held-out tests), "
            + (f"{counted(made, 'made pair')}, " if made else "")
            + f"{counted(len(self.ids) - 1, 'puzzle id')}"
        )


class _OtherTests(ArcPuzzles):
    """The puzzles of a run, asked for other tests than its own."""

    def __init__(self, own: ArcPuzzles, tasks: Sequence[Task], notes: Sequence[str]):
        super().__init__(tasks, own.ids, own._boards, notes)
        self._own = own

    def training_digest(self) -> str:
        return self._own.training_digest()
