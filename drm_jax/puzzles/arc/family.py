"""The family of ARC puzzles: its options, and what the rest of the code asks of it."""

import dataclasses
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from drm_jax.errors import InputError
from drm_jax.fields import check, check_fields
from drm_jax.puzzles.arc import tokens
from drm_jax.puzzles.arc.augment import (
    MAX_AUGMENTATIONS,
    augment_tokens,
    augmentation_name,
    augmentation_words,
    from_vector,
    puzzle_ids,
    undo_tokens,
)
from drm_jax.puzzles.arc.identifiers import adopt_identifiers, read_identifiers
from drm_jax.puzzles.arc.mix import parse_mix
from drm_jax.puzzles.arc.puzzles import ArcPuzzles
from drm_jax.puzzles.arc.rearc import is_rearc, parse_name
from drm_jax.puzzles.arc.roles import Repeated, Unfit, load_tasks
from drm_jax.puzzles.arc.tasks import MAX_SIDE, training_pairs
from drm_jax.puzzles.arc.voting import ATTEMPTS
from drm_jax.puzzles.family import Board

_IDENTIFIERS = "identifiers.json"
# one cell has no spread that correlated noise could be scaled by
_Side = Annotated[int, Meta(ge=2, le=MAX_SIDE)]


@dataclasses.dataclass(frozen=True)
class Arc:
    """Which tasks, and how they are varied."""

    train: tuple[str, ...] = ("arc1/training",)
    """Sources trained on whole: arc1, arc1/training, a folder, a JSON file, a Kaggle prefix, a
    function package.module:name that makes tasks, or rearc, fresh pairs of arc1/training's tasks
    (rearc:pairs=200,side=10,seed=1: pairs a task, cells along a side at most)."""
    evaluate: tuple[str, ...] = ("arc1/evaluation",)
    """Sources of which the demonstrations are trained on and the test inputs are answered."""
    mix: tuple[str, ...] = ()
    """How the visits of tasks are shared between sources: arc1=1 rearc=3. Each share is of a
    source, or of all whose names go on behind this one with : or /. Empty: each task once an epoch,
    and each four of its made pairs."""
    only: tuple[str, ...] = ()
    """Keep just the tasks of these ids; all where it is empty."""
    leaks: Literal["refuse", "drop"] = "refuse"
    """A training pair that gives away an evaluation test: refuse the run, or drop the pair.
    Likewise with all pairs that are made by the rule of an evaluation task."""
    unfit: Unfit = "refuse"
    """A pair that is malformed or too large: refuse the run, drop the pair (an evaluation task with
    such a test goes whole), or drop its task."""
    repeated: Repeated = "refuse"
    """Different tasks of one id: refuse the run, or keep that of the source named first or last
    (in one source: of its first or last file); a task of both roles is then for evaluation. Equal
    tasks are one."""
    canvas: _Side | Literal["fit"] = 30
    """Cells along a side of the square canvas (30 in the papers). fit (drm and diffusion): each
    example on the smallest window of the canvas that holds its grids; several times faster."""
    windows: tuple[_Side, ...] = (8, 11, 14, 16, 18, 21, 25, 28, 30)
    """Sides of the windows of canvas=fit, from small to large; the last one is the canvas."""
    num_augmentations: Annotated[int, Meta(ge=0, le=MAX_AUGMENTATIONS)] = 1000
    """Distinct augmentations of each task beside the identity."""
    rows_per_task: Annotated[int, Meta(ge=1, le=MAX_AUGMENTATIONS + 1)] | None = None
    """Puzzle rows, the identity's among them, that a task which is only trained on has at most;
    tasks that are evaluated keep all of theirs. None: all have num_augmentations + 1."""
    identifiers: str | None = None
    """An identifiers.json of a published dataset: its augmentations and puzzle ids, instead of
    drawn ones; num_augmentations is not used then. The work directory keeps a copy."""

    vocabulary = tokens.VOCABULARY
    headline = "pass@2"
    attempts = ATTEMPTS
    blocks = None
    difficulty = ""
    source_options = (
        "train", "evaluate", "mix", "only", "leaks", "unfit", "repeated", "identifiers",
    )  # fmt: skip

    def __post_init__(self):
        check_fields(self, "data")
        rising = all(a < b for a, b in itertools.pairwise(self.windows))
        check(bool(self.windows) and rising, "data.windows", "must be sides from small to large")
        check(bool(self.train or self.evaluate), "data.train", "name at least one source of tasks")
        for source in filter(is_rearc, self.train):
            parse_name(source, "data.train")
        untested = next(filter(is_rearc, self.evaluate), None)
        check(
            untested is None, "data.evaluate", f"{untested} has no tests: name it under data.train"
        )
        parse_mix(self.mix, (*self.train, *self.evaluate))
        check(
            self.rows_per_task is None or self.identifiers is None,
            "data.rows_per_task",
            "goes with drawn augmentations, not with those of data.identifiers",
        )

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the canvases that examples stand on, from small to large."""
        return self.windows if self.canvas == "fit" else (self.canvas,)

    @property
    def boards(self) -> tuple[Board, ...]:
        return tuple((side, side) for side in self.sides)

    @property
    def kept_files(self) -> Mapping[str, str]:
        if self.identifiers is None:
            return {}
        return {_IDENTIFIERS: os.path.expanduser(self.identifiers)}

    def load(self, seed: int, kept: Mapping[str, Path]) -> ArcPuzzles:
        """The tasks and their puzzle ids, drawn from the seed or adopted; see `Family.load`.

        Raises:
          InputError: a source or the list of ids is wrong, an answer would leak, a grid doesn't fit
            the canvas, or there is nothing to train on.
          UsageError: a source is a function that can't be imported, or that raises.
        """
        notes: list[str] = []
        tasks = load_tasks(
            self.train, self.evaluate, self.only, self.leaks, self.unfit, self.repeated,
            ("data.windows'" if self.canvas == "fit" else "data.canvas", self.sides[-1]),
            notes.append,
        )  # fmt: skip
        if not any(training_pairs(task) for task in tasks):
            why = f" ({'; '.join(notes)})" if notes else ""
            raise InputError(f"data.train, data.evaluate: there is no pair to train on{why}")
        if self.identifiers is None:
            ids = puzzle_ids(tasks, self.num_augmentations, seed, self.rows_per_task)
        else:
            path = kept[_IDENTIFIERS]
            ids = adopt_identifiers(read_identifiers(path), tasks, path, notes.append)
        shares = parse_mix(self.mix, (*self.train, *self.evaluate))
        return ArcPuzzles(tasks, ids, self.boards, notes, shares)

    def blank_puzzles(self) -> None:
        return None  # how many puzzle ids there are follows from the tasks alone

    def to_tokens(self, grid_HxW: np.ndarray, board: Board) -> np.ndarray:
        return tokens.to_tokens(grid_HxW, board[0])

    def to_grid(self, tokens_S: np.ndarray, board: Board) -> np.ndarray:
        return tokens.crop(tokens_S)

    def grid_sizes(self, tokens_BxS: np.ndarray, board: Board) -> np.ndarray:
        return tokens.grid_sizes(tokens_BxS)

    def pad_outside(self, tokens_BxS: Any, board: Board) -> Any:
        return tokens.pad_outside(tokens_BxS)

    def augment(self, tokens_HxW: np.ndarray, augmentation_A: np.ndarray) -> np.ndarray:
        return augment_tokens(tokens_HxW, from_vector(augmentation_A))

    def undo(self, tokens_HxW: np.ndarray, augmentation_A: np.ndarray) -> np.ndarray:
        return undo_tokens(tokens_HxW, from_vector(augmentation_A))

    def augmentation_name(self, augmentation_A: np.ndarray) -> str:
        return augmentation_name(from_vector(augmentation_A))

    def augmentation_words(self, augmentation_A: np.ndarray) -> str:
        return augmentation_words(from_vector(augmentation_A))

    def given(self, question_HxW: np.ndarray) -> np.ndarray:
        return np.zeros(question_HxW.shape, bool)

    def conflicts(self, question_HxW: np.ndarray, grid_HxW: np.ndarray) -> np.ndarray:
        return np.zeros(grid_HxW.shape, bool)
