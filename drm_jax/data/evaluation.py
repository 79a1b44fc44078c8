"""The evaluation set: every test input of the evaluation tasks under its augmentations."""

from collections.abc import Iterator, Sequence

import numpy as np

from drm_jax.arc.augment import PuzzleIds, augment
from drm_jax.arc.tasks import Task
from drm_jax.arc.tokens import to_tokens


def evaluation_rows(
    tasks: Sequence[Task], ids: PuzzleIds, num_augmentations: int | None
) -> np.ndarray:
    """(R, 3) int64: task, test input and puzzle id of each candidate, task by task.

    Args:
      num_augmentations: how many beside the first, the identity if it has an id; None takes all.
    """
    stop = None if num_augmentations is None else num_augmentations + 1
    rows = [
        (k, t, puzzle_id)
        for k, task in enumerate(tasks)
        if task.role == "evaluate"
        for t in range(len(task.tests))
        for puzzle_id in ids.of_task[k][:stop].tolist()
    ]
    return np.array(rows, np.int64).reshape(-1, 3)


def evaluation_batches(
    tasks: Sequence[Task], ids: PuzzleIds, rows: np.ndarray, canvas: int, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of `batch_size` rows; the last one is filled up with rows of the blank id.

    Yields:
      inputs (B, S) uint8, laid at (0, 0); puzzle_id (B,) int32; row (B,) int32, the number of the
      candidate, so that its random draws don't depend on the batch it stands in.
    """
    for start in range(0, len(rows), batch_size):
        chunk = rows[start : start + batch_size]
        inputs_BxS = np.zeros((batch_size, canvas * canvas), np.uint8)
        puzzle_id_B = np.zeros(batch_size, np.int32)
        for i, (k, t, puzzle_id) in enumerate(chunk.tolist()):
            grid = augment(tasks[k].tests[t].input, ids.augmentation(puzzle_id))
            inputs_BxS[i] = to_tokens(grid, canvas)
            puzzle_id_B[i] = puzzle_id
        row_B = np.arange(start, start + batch_size, dtype=np.int32)
        yield {"inputs": inputs_BxS, "puzzle_id": puzzle_id_B, "row": row_B}
