"""Which ARC-AGI-1 training tasks the study is about, chosen without looking at any result of it.

Of the 46 whose grids all fit 6x6: 16 for development, drawn (seed 0) from the 24 smallest, whose
results the demo has shown already; 16 held out, for the final table alone, drawn from the other 22.
(32 tasks of up to 10x10 were tried first: after 64,000 examples, 2.5 minutes, no test input was
solved, so the tasks were made smaller.)
"""

import functools
import random

from drm_jax.puzzles.arc.tasks import load_source, smallest_tasks

CANVAS, COUNT, SEEN = 6, 16, 24


@functools.cache
def chosen() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ids of the tasks for development, and of those held out, each in order."""
    every = load_source("arc1/training")
    seen = smallest_tasks(every, CANVAS, 1, SEEN)
    other = smallest_tasks(every, CANVAS, SEEN + 1, 46)
    rng = random.Random(0)
    drawn = [rng.sample(sorted(task.id for task in tasks), COUNT) for tasks in (seen, other)]
    return tuple(sorted(drawn[0])), tuple(sorted(drawn[1]))
