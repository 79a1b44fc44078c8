"""What is asked of an adaptation, and the experiment that it makes."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta

from drm_jax.config import Evaluate, Experiment, Optimizer, Train
from drm_jax.errors import UsageError
from drm_jax.fields import Count, check, check_fields
from drm_jax.methods.diffusion import Diffusion
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.roles import Repeated
from drm_jax.puzzles.arc.tasks import Task, visible_pairs
from drm_jax.puzzles.family import Board
from drm_jax.solve.adapt import Adapt
from drm_jax.solve.asked import TASKS, needed_side

_Minutes = Annotated[float, Meta(gt=0)]
_FIXED_CANVAS = 12
"""From nothing, the side of the largest canvas that all examples stand on whole."""
_MINUTES_A_WINDOW = 4
"""Each size of windows is compiled for, which takes up to a minute."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be answered, with what, and how long it may take."""

    sources: tuple[str, ...]
    """ARC tasks: all forms of `arc.tasks`."""
    only: tuple[str, ...] = ()
    """The ids of the tasks that are answered; all where it is empty."""
    repeated: Repeated = "refuse"
    """See `arc.family.Arc.repeated`."""
    weights: str | None = None
    """A work directory, a file of weights, or small, those of the package; None: from nothing."""
    minutes: _Minutes | None = None
    """All that it may take, from the start of the command to its end."""
    steps: Count | None = None
    """Training steps, instead of a time."""
    pool: tuple[str, ...] = ()
    """Folders of other solves of these tasks, whose votes are added at the end."""
    each: bool = False
    """A network of its own for each task, instead of one for all."""
    adapt: Adapt = Adapt()

    def __post_init__(self):
        check_fields(self)
        check(bool(self.sources), "solve", "name at least one source of tasks")
        if (self.minutes is None) == (self.steps is None):
            raise UsageError("give either --minutes or --steps")


@dataclasses.dataclass(frozen=True)
class Group:
    """Tasks whose examples all stand on boards of one size."""

    places: tuple[int, ...]
    """Which of all tasks they are."""
    boards: tuple[Board, ...]
    """The first is theirs; the last is the whole canvas, if that is larger."""


FROM_NOTHING = Experiment(
    name="from_nothing",
    method=Diffusion(),
    model=Transformer(hidden=64, heads=2, prefix=2, swiglu_multiple=64),
    optimizer=Optimizer(learning_rate=1e-3, matrices="muon"),
    evaluate=Evaluate(denoise_steps=4),
)
"""The network that is trained where no weights are named. In so short a time one pass is better
than several: of 9 test inputs of development tasks diffusion solved 3, drm with 2 cycles 1. Of 29
it solved 11 after 3,000 steps with Muon, with AdamATan2 4 after 3,600."""


def experiment_of(
    request: Request, base: Experiment | None, tasks: Sequence[Task], folder: str, ids: str | None
) -> Experiment:
    """The run that adapts to tasks; `with_plan` gives it its number of steps.

    Args:
      base: what the weights were trained as; None: from nothing.
      tasks: that fit its canvas.
      folder: the work directory, which holds the tasks.
      ids: a file of puzzle ids, see `asked.known_rows`.
    """
    adapt, like = request.adapt, base or FROM_NOTHING
    rate, puzzle_rate = like.optimizer.learning_rate, like.optimizer.puzzle_learning_rate
    optimizer = dataclasses.replace(
        like.optimizer,
        learning_rate=rate if adapt.learning_rate is None else adapt.learning_rate,
        puzzle_learning_rate=(
            puzzle_rate if adapt.puzzle_learning_rate is None else adapt.puzzle_learning_rate
        ),
        warmup_steps=adapt.warmup_steps,
        ema=adapt.ema,
    )
    return Experiment(
        name="solve",
        seed=adapt.seed,
        data=_data_of(request, base, tasks, folder, ids),
        method=like.method,
        model=like.model,
        optimizer=optimizer,
        train=Train(
            batch_size=adapt.batch_size,
            log_every=200,
            checkpoint_every=1_000_000_000,  # by time, see solve.joint
            keep_last=1,
            keep_best=0,
        ),
        evaluate=dataclasses.replace(
            like.evaluate,
            every=0,
            untrained=False,
            num_augmentations=None,
            batch_size=adapt.batch_size,
            denoise_steps=adapt.denoise_steps or like.evaluate.denoise_steps,
            trajectories="off",
        ),
    )


def _data_of(
    request: Request, base: Experiment | None, tasks: Sequence[Task], folder: str, ids: str | None
) -> Arc:
    """The tasks of the folder on the canvas of the weights; arguments as of `experiment_of`."""
    canvas = _canvas(request, tasks) if base is None else base.data
    data = dataclasses.replace(
        canvas,
        train=(),
        evaluate=(f"{folder}/{TASKS}",),
        only=(),
        mix=(),
        rows_per_task=None,
        leaks="drop",
        num_augmentations=request.adapt.num_augmentations,
        identifiers=ids,
    )
    if data.canvas != "fit":
        return data
    known = () if base is None else data.windows
    windows = _windows(request, tasks, data.windows[-1], known)
    return dataclasses.replace(data, windows=windows)


def with_plan(experiment: Experiment, steps: int, rows_first: int) -> Experiment:
    """With its number of steps, and of those that train the rows alone."""
    return dataclasses.replace(
        experiment,
        train=dataclasses.replace(experiment.train, steps=steps),
        optimizer=dataclasses.replace(experiment.optimizer, rows_first=rows_first),
    )


def _canvas(request: Request, tasks: Sequence[Task]) -> Arc:
    """From nothing: the smallest canvas that holds all; windows of it where it is large."""
    side = max(2, *map(needed_side, tasks))
    return Arc(canvas=side) if side <= _FIXED_CANVAS else Arc(canvas="fit", windows=(side,))


def _windows(
    request: Request, tasks: Sequence[Task], whole: int, known: Sequence[int]
) -> tuple[int, ...]:
    """The windows of canvas=fit, the whole canvas last: as many as there is time to compile for.

    Args:
      known: those that the weights were trained on, of which some are taken, so that programs that
        were compiled for other tasks are found again; empty: any.
    """
    sides = [
        max(max(grid.shape) for grid in (pair.input, pair.output) if grid is not None) + 1
        for task in tasks
        for pair in visible_pairs(task)
    ]
    sides += [needed_side(task) + 1 for task in tasks]
    if known:
        sides = [next((one for one in known if one >= side), whole) for side in sides]
    minutes = np.inf if request.minutes is None else request.minutes
    most = int(np.clip(minutes / _MINUTES_A_WINDOW, 1, 9))
    chosen = best_sides(np.minimum(sides, whole), most)
    return (*chosen, whole) if chosen[-1] < whole else chosen


def groups_of(tasks: Sequence[Task], base: Experiment | None) -> list[Group]:
    """The tasks by the boards that they need, small ones first: each group is trained together."""
    places: dict[tuple[Board, ...], list[int]] = {}
    for place, task in enumerate(tasks):
        if base is None:
            sides = (max(2, needed_side(task)),)
        elif base.data.canvas == "fit":
            whole = base.data.windows[-1]
            fitting = (side for side in base.data.windows if side > needed_side(task))
            sides = tuple(sorted({next(fitting, whole), whole}))
        else:
            sides = (base.data.canvas,)
        places.setdefault(tuple((side, side) for side in sides), []).append(place)
    return [Group(tuple(of_group), boards) for boards, of_group in sorted(places.items())]


def best_sides(side_N: np.ndarray, most: int) -> tuple[int, ...]:
    """At most so many sides, so that squares that hold all of these cost the fewest cells in all.

    Returns them ascending; the last is the largest of `side_N`.
    """
    values, counts = np.unique(np.maximum(side_N, 2), return_counts=True)
    total = np.concatenate([[0], np.cumsum(counts)])
    # cost[j] of the first j values, of which the last chosen side holds those from i on
    cost, chosen = np.full(len(values) + 1, np.inf), [[] for _ in range(len(values) + 1)]
    cost[0] = 0
    for _ in range(min(most, len(values))):
        before, so_far = cost.copy(), list(chosen)
        for j in range(1, len(values) + 1):
            of_i = before[:j] + (total[j] - total[:j]) * float(values[j - 1]) ** 2
            i = int(of_i.argmin())
            if of_i[i] < cost[j]:
                cost[j], chosen[j] = of_i[i], [*so_far[i], int(values[j - 1])]
    return tuple(chosen[-1])
