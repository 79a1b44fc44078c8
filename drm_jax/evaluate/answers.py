"""What an evaluation leaves for those who look: tasks, answers, and how candidates were denoised.

eval/step_N/answers.json.gz    the evaluation tasks, and the best answers to each test input
eval/step_N/trajectories.npz   denoising, step by step, of the candidates that were kept

Both can be read without the tasks, the network and jax.
"""

import contextlib
import dataclasses
import gzip
import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from drm_jax.errors import InputError
from drm_jax.puzzles.arc import voting
from drm_jax.puzzles.arc.augment import NUM_TRANSFORMS, Augmentation, PuzzleIds, undo
from drm_jax.puzzles.arc.tasks import Pair, Task
from drm_jax.puzzles.arc.tokens import MASK, crop

ANSWERS, TRAJECTORIES = "answers.json.gz", "trajectories.npz"
_BEST, _VOTERS = 10, 8  # how many answers to a test input are kept, and how many voters of each
_FORMAT = 1
_UNREADABLE = (
    OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError,
    RecursionError, zipfile.BadZipFile,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """How one candidate was denoised, as its network saw it: under its own augmentation.

    S cells of its canvas, or of its window of it; N steps.
    """

    task_id: str
    test: int
    question: np.ndarray  # the test input and its output as the task has them, grids of colours
    truth: np.ndarray | None
    puzzle_id: int
    augmentation: Augmentation
    levels_N: np.ndarray  # int, the noise level of what each step began from; -1: of latents
    q_halt_N: np.ndarray  # float32, halting logits
    predicted_NxS: np.ndarray  # uint8 tokens, what each step predicted
    masked_NxS: np.ndarray  # bool, what was masked where each step began
    confidence_NxS: np.ndarray  # uint8, percent: the largest probability of each cell

    @property
    def side(self) -> int:
        return math.isqrt(self.predicted_NxS.shape[1])

    @property
    def answer(self) -> np.ndarray:
        """The grid that was answered, its augmentation undone."""
        return undo(crop(self.predicted_NxS[-1]), self.augmentation)

    @property
    def is_right(self) -> bool:
        """Whether this one candidate is the truth."""
        return self.truth is not None and np.array_equal(self.answer, self.truth)

    @property
    def tokens_NxS(self) -> np.ndarray:
        """What each step began from: the answer before, remasked; of trm and sprm, its answer."""
        if self.levels_N[0] < 0:
            return self.predicted_NxS
        before_NxS = np.roll(self.predicted_NxS, 1, axis=0)
        return np.where(self.masked_NxS, np.uint8(MASK), before_NxS)


@dataclasses.dataclass(frozen=True)
class Answers:
    """The contents of answers.json.gz. Grids are lists of rows, a row a string of colours."""

    steps: tuple[int, ...]
    objective: str
    made_with: Mapping[str, Any]
    tasks: Sequence[Mapping[str, Any]]

    def task(self, task_id: str) -> Mapping[str, Any] | None:
        """A task by its id."""
        return next((task for task in self.tasks if task["id"] == task_id), None)


def grid_rows(grid: np.ndarray | None) -> list[str] | None:
    """A grid of colours as strings of digits, one a row; None stays None."""
    return None if grid is None else ["".join(map(str, row)) for row in grid.tolist()]


def grid_of(rows: Sequence[str] | None) -> np.ndarray | None:
    """What `grid_rows` was made from, (h, w) uint8; a grid without cells is 0x0."""
    if rows is None:
        return None
    if not rows:
        return np.zeros((0, 0), np.uint8)
    return np.array([list(map(int, row)) for row in rows], np.uint8)


def describe_answers(
    ballot: voting.Ballot, tasks: Sequence[Task], ids: PuzzleIds, rows: np.ndarray
) -> list[dict[str, Any]]:
    """The evaluation tasks with what was answered, for `Answers.tasks`.

    Of each test input the ten best answers are kept, and the right one if it was proposed at all.

    Args:
      rows: the candidates that `Answer.voters` numbers, from `data.evaluation.evaluation_rows`.
    """
    return [
        {
            "id": task.id,
            "source": task.source,
            "demonstrations": [_pair(pair) for pair in task.demonstrations],
            "tests": [_test(ballot, task, pair, ids, rows[:, 2]) for pair in task.tests],
        }
        for task in tasks
        if task.role == "evaluate"
    ]


def _pair(pair: Pair) -> dict[str, Any]:
    return {"input": grid_rows(pair.input), "output": grid_rows(pair.output)}


def _test(
    ballot: voting.Ballot, task: Task, pair: Pair, ids: PuzzleIds, id_R: np.ndarray
) -> dict[str, Any]:
    ranked = voting.ranked(ballot, task.id, pair.input)
    right = None if pair.output is None else voting.rank_of_truth(ranked, pair.output)
    kept = [rank for rank in range(len(ranked)) if rank < _BEST or rank == right]
    return _pair(pair) | {
        "candidates": sum(answer.votes for answer in ranked),
        "distinct": len(ranked),
        "rank_of_truth": None if right is None else right + 1,
        "answers": [{"rank": rank + 1, **_answer(ranked[rank], ids, id_R)} for rank in kept],
    }


def _answer(answer: voting.Answer, ids: PuzzleIds, id_R: np.ndarray) -> dict[str, Any]:
    voters = id_R[answer.voters]
    transforms = np.bincount(ids.transform[voters], minlength=NUM_TRANSFORMS)
    return {
        "grid": grid_rows(answer.grid),
        "votes": answer.votes,
        "score": round(answer.rank_key[1], 6),
        "votes_by_transform": transforms.tolist(),
        "voters": [
            [i, int(ids.transform[i]), "".join(map(str, ids.colours[i].tolist()))]
            for i in voters[:_VOTERS].tolist()
        ],
    }


def answers_bytes(answers: Answers) -> bytes:
    """The contents of answers.json.gz; the same bytes for the same answers."""
    content = {"format": _FORMAT, **dataclasses.asdict(answers)}
    return gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0)


def read_answers(folder: epath.Path) -> Answers:
    """The answers of an evaluation.

    Raises:
      InputError: they aren't there, or can't be used.
    """
    path = folder / ANSWERS
    if not path.exists():
        raise InputError(
            f"{path}: is not there: the evaluation was made by an earlier version, or was cut off; "
            "score the checkpoint again with drm eval"
        )
    with _damage_named(path):
        content = json.loads(gzip.decompress(path.read_bytes()))
        _check_answers(content)
        fields = {field.name: content[field.name] for field in dataclasses.fields(Answers)}
        return Answers(**fields | {"steps": tuple(fields["steps"])})


def _check_answers(content: Any) -> None:
    if content["format"] != _FORMAT:
        raise ValueError(f"of format {content['format']!r}, not {_FORMAT}")
    content["made_with"].items()
    if not all(type(step) is int for step in content["steps"]) or not content["steps"]:
        raise ValueError("steps must be numbers")
    for task in content["tasks"]:
        for test in task["tests"]:
            counts = [test["candidates"], test["distinct"], test["rank_of_truth"] or 0]
            for answer in test["answers"]:
                counts += [answer["rank"], answer["votes"], *answer["votes_by_transform"]]
                counts += [voter for voter, _, _ in answer["voters"]]
                float(answer["score"])
            if not all(type(count) is int for count in counts):
                raise ValueError(f"task {task['id']}: counts must be whole numbers")
        pairs = [*task["demonstrations"], *task["tests"]]
        rows = [rows for pair in pairs for rows in (pair["input"], pair["output"])]
        rows += [answer["grid"] for test in task["tests"] for answer in test["answers"]]
        for grid in rows:
            grid_of(grid)
        str(task["id"]), str(task["source"])


@contextlib.contextmanager
def _damage_named(path: epath.Path) -> Iterator[None]:
    """Turns whatever a damaged file raises into one line; what the system says of it stays."""
    try:
        yield
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"{path}: can't be read: {text}; score the checkpoint again with drm eval"
        ) from error


# --- trajectories ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Packed:
    """A trajectory in little memory: a tenth to a hundredth of its arrays."""

    task_id: str
    test: int
    question: np.ndarray
    truth: np.ndarray | None
    puzzle_id: int
    augmentation: Augmentation
    levels_N: np.ndarray
    q_halt_N: np.ndarray
    side: int
    cells: bytes  # deflated: predicted, masked as bits, confidence


_PLAIN = [field.name for field in dataclasses.fields(Packed)][:-2]


def pack(trajectory: Trajectory) -> Packed:
    """Packs a trajectory; `unpack` gives it back."""
    cells = (
        trajectory.predicted_NxS,
        np.packbits(trajectory.masked_NxS),
        trajectory.confidence_NxS,
    )
    cells = zlib.compress(b"".join(x.tobytes() for x in cells), 6)
    plain = {name: getattr(trajectory, name) for name in _PLAIN}
    return Packed(**plain, side=trajectory.side, cells=cells)


def unpack(packed: Packed) -> Trajectory:
    """The trajectory that was packed."""
    shape = len(packed.levels_N), packed.side**2
    count = shape[0] * shape[1]
    cells = np.frombuffer(zlib.decompress(packed.cells), np.uint8)
    bits = count + -(-count // 8)
    return Trajectory(
        **{name: getattr(packed, name) for name in _PLAIN},
        predicted_NxS=cells[:count].reshape(shape),
        masked_NxS=np.unpackbits(cells[count:bits], count=count).astype(bool).reshape(shape),
        confidence_NxS=cells[bits : bits + count].reshape(shape),
    )


def trajectories_bytes(trajectories: Sequence[Packed]) -> bytes:
    """The contents of trajectories.npz; the same bytes for the same trajectories."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        format=np.int32(_FORMAT),
        task=np.array([t.task_id for t in trajectories], np.str_),
        test=np.array([t.test for t in trajectories], np.int32),
        puzzle_id=np.array([t.puzzle_id for t in trajectories], np.int32),
        transform=np.array([t.augmentation.transform for t in trajectories], np.uint8),
        colours=np.array([t.augmentation.colours for t in trajectories], np.uint8).reshape(-1, 10),
        side=np.array([t.side for t in trajectories], np.uint8),
        levels=np.array([t.levels_N for t in trajectories], np.int32),
        q_halt=np.array([t.q_halt_N for t in trajectories], np.float32),
        end=np.cumsum([len(t.cells) for t in trajectories], dtype=np.int64),
        cells=np.frombuffer(b"".join(t.cells for t in trajectories), np.uint8),
    )
    return buffer.getvalue()


def read_trajectories(folder: epath.Path, answers: Answers) -> list[Packed]:
    """The trajectories of an evaluation, in the order of its candidates; [] if none were kept.

    Args:
      answers: of the same evaluation, from `read_answers`.

    Raises:
      InputError: the file can't be used.
    """
    path = folder / TRAJECTORIES
    if not path.exists():
        return []
    with _damage_named(path):
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            x = {name: file[name] for name in file.files}
        if x["format"] != _FORMAT:
            raise ValueError(f"of format {x['format']}, not {_FORMAT}")
        ends = [0, *x["end"].tolist()]
        grids = {
            (task["id"], t): (grid_of(test["input"]), grid_of(test["output"]))
            for task in answers.tasks
            for t, test in enumerate(task["tests"])
        }
        return [
            Packed(
                str(x["task"][i]),
                int(x["test"][i]),
                *grids[str(x["task"][i]), int(x["test"][i])],
                int(x["puzzle_id"][i]),
                Augmentation(int(x["transform"][i]), x["colours"][i]),
                x["levels"][i],
                x["q_halt"][i],
                int(x["side"][i]),
                x["cells"][ends[i] : ends[i + 1]].tobytes(),
            )
            for i in range(len(x["task"]))
        ]
