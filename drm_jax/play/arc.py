"""ARC tasks that somebody paints: a network is adapted to them, and the page hears how it goes."""

import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from drm_jax.errors import InputError, StoppedError
from drm_jax.io.files import work_path
from drm_jax.play.boards import Event
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tasks import Pair, Task, largest_side, load_source, parse_task
from drm_jax.puzzles.boards import grid_rows
from drm_jax.puzzles.voting import ranked
from drm_jax.references import did_you_mean
from drm_jax.runtime.stop import StopRequest
from drm_jax.solve.adapt import Adapt
from drm_jax.solve.asked import write_tasks
from drm_jax.solve.request import Request
from drm_jax.solve.solve import Outcome, solve

Tell = Callable[[Event], None]
SOURCES = ("arc1/training", "arc1/evaluation", "arc2/training", "arc2/evaluation")
"""Whose tasks can be taken by their ids."""
MOST_MINUTES, MOST_PAIRS = 60.0, 32
_SYMBOLS = Arc().vocabulary.symbols


class ArcPlayer:
    """The weights that tasks are adapted from, and tasks to take."""

    def __init__(self, weights: str, tasks: Sequence[Task] = ()):
        """Args:
        weights: see `solve.request.Request`.
        tasks: of the run that the weights are of, beside those of `SOURCES`.
        """
        self.weights = weights
        self._own = {task.id: task for task in tasks}
        self._built_in: dict[str, dict[str, Task]] = {}

    def names(self) -> dict[str, list[list[Any]]]:
        """By source [id, largest side] of each task."""
        named = {source: self._of(source) for source in SOURCES}
        if self._own:
            named = {"this run": self._own, **named}
        return {
            source: [[task.id, largest_side(task)] for task in tasks.values()]
            for source, tasks in named.items()
        }

    def find(self, task_id: str) -> Task:
        """Raises InputError where there is no such task."""
        for tasks in (self._own, *map(self._of, SOURCES)):
            if task_id in tasks:
                return tasks[task_id]
        known = {name for tasks in (self._own, *map(self._of, SOURCES)) for name in tasks}
        raise InputError(f"{task_id}: there is no such task{did_you_mean(task_id, known)}")

    def _of(self, source: str) -> Mapping[str, Task]:
        if source not in self._built_in:
            self._built_in[source] = {task.id: task for task in load_source(source)}
        return self._built_in[source]

    def adapt(self, task: Task, minutes: float, stop: StopRequest, tell: Tell) -> None:
        """Adapts to the demonstrations of a task and answers its tests.

        begin: it is at work.
        said: a line of progress.
        answered: seconds so far; words, where the answers come from; tests, of each its attempts,
          with rows, votes (null before anybody has voted), right (null where it isn't known), and
          the number of all votes.
        end: stopped.

        Raises:
          InputError, UsageError: it can't be adapted to.
        """
        tell({"event": "begin"})
        began = time.perf_counter()

        def told(outcome: Outcome, words: str) -> None:
            tests = [_attempts(outcome, test, n) for n, test in enumerate(outcome.tasks[0].tests)]
            seconds = round(time.perf_counter() - began, 1)
            tell({"event": "answered", "seconds": seconds, "words": words, "tests": tests})

        stopped = False
        with tempfile.TemporaryDirectory(prefix="drm_play_") as folder:
            file = write_tasks(work_path(folder), [task])
            request = Request((str(file),), weights=self.weights, minutes=minutes, adapt=Adapt())
            console = Console(
                file=_Lines(lambda text: tell({"event": "said", "text": text})), width=200,
                force_terminal=False, highlight=False, markup=False, emoji=False,
            )  # fmt: skip
            try:
                solve(request, work_path(folder) / "solve", console, stop=stop, told=told)
            except StoppedError:
                stopped = True
        tell({"event": "end", "stopped": stopped})


def read_task(value: Any) -> Task:
    """A task as the page sends it.

    Raises:
      InputError: it is none, or has nothing to learn from or to answer.
    """
    task = parse_task(value, "yours", "the task")
    if max(len(task.demonstrations), len(task.tests)) > MOST_PAIRS:
        raise InputError(f"the task: at most {MOST_PAIRS} demonstrations and as many tests")
    if not task.demonstrations or not task.tests:
        raise InputError("the task: needs a demonstration and a test input")
    return task


def described(task: Task) -> dict[str, Any]:
    """A task for the page, grids as rows of symbols; an output that isn't known is null."""

    def pairs(of: Sequence[Pair]) -> list[dict[str, Any]]:
        return [
            {"input": grid_rows(pair.input, _SYMBOLS), "output": grid_rows(pair.output, _SYMBOLS)}
            for pair in of
        ]

    return {
        "id": task.id,
        "source": task.source,
        "train": pairs(task.demonstrations),
        "test": pairs(task.tests),
    }


def _attempts(outcome: Outcome, test: Pair, number: int) -> dict[str, Any]:
    """The attempts at a test as they stand in the submission."""
    task, judged = outcome.tasks[0], outcome.judged
    voted = ranked(judged.judge.ballot, task.id, test.input) if judged else []
    attempts = []
    for rows in outcome.submission[task.id][number].values():
        grid = np.array(rows, np.uint8)
        right = None if test.output is None else bool(np.array_equal(grid, test.output))
        votes = next((of.votes for of in voted if np.array_equal(of.grid, grid)), 0)
        attempts.append(
            {"rows": grid_rows(grid, _SYMBOLS), "votes": votes if judged else None, "right": right}
        )
    return {"attempts": attempts, "votes": sum(answer.votes for answer in voted)}


class _Lines(io.TextIOBase):
    """Text, given on line by line."""

    def __init__(self, told: Callable[[str], None]):
        self._told, self._rest = told, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            if "━" not in line:  # a bar that moves in a terminal
                self._told(line.strip())
        return len(text)
