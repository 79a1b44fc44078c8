"""A network for each of some tasks, together and one by one, against one network for all.

    python -m benchmarks.solve [--tasks 8] [--steps 60] [--batch 16]

The smallest ARC-AGI-1 training tasks of up to 6x6, a network of width 64 from nothing. All train
on equally many examples of each task. Compilation isn't counted.
"""

import argparse
import dataclasses
import io
import sys
import tempfile
import time

import jax
from rich.console import Console

from drm_jax.config import Experiment
from drm_jax.io.files import work_path
from drm_jax.parallel.mesh import use_cpu_cores
from drm_jax.puzzles.arc.tasks import Task, load_source, smallest_tasks
from drm_jax.run.setup import load_puzzles
from drm_jax.runtime.stop import StopRequest
from drm_jax.solve import joint
from drm_jax.solve.adapt import Adapt
from drm_jax.solve.asked import write_tasks
from drm_jax.solve.each import Each
from drm_jax.solve.request import Request, experiment_of, groups_of, with_plan

SIDE = 6


def experiment(tasks: list[Task], folder: str, steps: int, batch: int) -> Experiment:
    """From nothing, on a canvas that holds all tasks."""
    request = Request((folder,), steps=steps, adapt=Adapt(num_augmentations=16, batch_size=batch))
    write_tasks(work_path(folder), tasks)
    made = with_plan(experiment_of(request, None, tasks, folder, None), steps, 0)
    return dataclasses.replace(made, data=dataclasses.replace(made.data, canvas=SIDE))


def seconds_a_step(worker, steps: int) -> float:
    worker.advance(3)
    before = time.perf_counter()
    worker.advance(3 + steps)
    return (time.perf_counter() - before) / steps


def of_each(tasks: list[Task], steps: int, batch: int) -> float:
    """Seconds a step of all these tasks, each with its network."""
    console = Console(file=io.StringIO())
    with tempfile.TemporaryDirectory() as folder, StopRequest(print) as stop:
        made = experiment(tasks, folder, steps + 3, batch)
        puzzles = load_puzzles(made)
        questions = puzzles.questions(None)
        (group,) = groups_of(puzzles.tasks, made)
        worker = Each(
            made, puzzles, questions, group, None, work_path(folder) / "each", console, stop,
            questions.judge(), 0,
        )  # fmt: skip
        with worker.opened():
            return seconds_a_step(worker, steps)


def of_all(tasks: list[Task], steps: int, batch: int) -> float:
    """Seconds a step of one network for all tasks, on as many examples as theirs together."""
    console = Console(file=io.StringIO())
    with tempfile.TemporaryDirectory() as folder, StopRequest(print) as stop:
        made = experiment(tasks, folder, steps + 3, batch * len(tasks))
        path = work_path(folder) / "joint"
        path.mkdir()
        with joint.opened(
            made, None, None, path, console, stop, None, time.perf_counter()
        ) as worker:
            return seconds_a_step(worker, steps)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    use_cpu_cores()
    tasks = smallest_tasks(load_source("arc1/training"), SIDE, 1, options.tasks)
    sizes = options.steps, options.batch
    together = of_each(tasks, *sizes)
    alone = sum(of_each([task], *sizes) for task in tasks)
    all_in_one = of_all(tasks, *sizes)
    examples = options.tasks * options.batch
    print(f"{options.tasks} tasks, {options.batch} examples of each a step; {jax.devices()}")
    for name, seconds in (
        ("each, together", together),
        ("each, one by one", alone),
        ("one network for all", all_in_one),
    ):
        ratio = seconds / all_in_one
        print(
            f"{name:20} {1000 * seconds:7.1f} ms {examples / seconds:7.0f} examples/s {ratio:5.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
