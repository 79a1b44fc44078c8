"""What an evaluation leaves for those who look: tasks, answers, and how candidates were denoised.

eval/step_N/answers.json.gz    the tests, and the best answers to each
eval/step_N/trajectories.npz   denoising, step by step, of the candidates that were kept

Both can be read without the puzzles, the network and jax: the family that config.json names tells
what their tokens are.
"""

import contextlib
import dataclasses
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from drm_jax.errors import InputError
from drm_jax.puzzles.boards import grid_of
from drm_jax.puzzles.family import Board, Family, Vocabulary

ANSWERS, TRAJECTORIES = "answers.json.gz", "trajectories.npz"
_FORMAT = 2
_UNREADABLE = (
    OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError,
    RecursionError, zipfile.BadZipFile,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectory:
    """How one candidate was denoised, as its network saw it: under its own augmentation.

    S cells of its board; N steps.
    """

    task: str
    test: int
    question: np.ndarray  # grids of symbols, without augmentation
    truth: np.ndarray | None
    puzzle_id: int
    augmentation_A: np.ndarray  # uint8, in the family's own form
    levels_N: np.ndarray  # int, the noise level of what each step began from; -1: of latents
    board: Board
    q_halt_N: np.ndarray  # float32, halting logits
    predicted_NxS: np.ndarray  # uint8 tokens, what each step predicted
    masked_NxS: np.ndarray  # bool, what was masked where each step began
    confidence_NxS: np.ndarray  # uint8, percent: the largest probability of each cell


def answer_of(trajectory: Trajectory, family: Family) -> np.ndarray:
    """The grid that was answered, its augmentation undone."""
    grid = family.to_grid(trajectory.predicted_NxS[-1], trajectory.board)
    first = first_symbol(family)
    return family.undo(grid + first, trajectory.augmentation_A) - first


def augmented(grid: np.ndarray, augmentation_A: np.ndarray, family: Family) -> np.ndarray:
    """A grid of symbols under a symmetry."""
    return family.augment(grid + first_symbol(family), augmentation_A) - first_symbol(family)


def first_symbol(family: Family) -> np.uint8:
    """The token of the first symbol: grids are tokens less this."""
    return np.uint8(family.vocabulary.first)


def began_from(trajectory: Trajectory, family: Family) -> np.ndarray:
    """(N, S) tokens, what each step began from: the answer before, remasked; where steps begin from
    latents, their answers."""
    if trajectory.levels_N[0] < 0:
        return trajectory.predicted_NxS
    before_NxS = np.roll(trajectory.predicted_NxS, 1, axis=0)
    return np.where(trajectory.masked_NxS, np.uint8(family.vocabulary.mask), before_NxS)


@dataclasses.dataclass(frozen=True)
class Answers:
    """The contents of answers.json.gz. Grids are lists of rows, a row a string of symbols.

    Each of `tasks`, as a family's judge describes them, has
      id, source           texts; the source may be ""
      demonstrations       pairs {"input": grid, "output": grid}; none where a family has none
      tests                of each:
        input, output      grids; the output None where it is hidden
        candidates         how many were asked
        distinct           how many different answers they gave
        rank_of_truth      from 1; None where it was not proposed, or is hidden
        difficulty         a whole number, if the family has one: see `Family.difficulty`
        answers            the best ones, and the right one if it was proposed; of each its rank,
                           from 1; grid; votes; score, the mean halting probability of its voters;
                           valid, if a family has rules that tell: whether it keeps all of them,
                           be it the truth or not; and if a family tells who the voters are,
                           voters, pairs of puzzle id and symmetry in words of the first ones, and
                           votes_by, how many there are of each kind of symmetry, by its name
    """

    steps: tuple[int, ...]
    method: str
    made_with: Mapping[str, Any]
    tasks: Sequence[Mapping[str, Any]]

    def task(self, name: str) -> Mapping[str, Any] | None:
        """A task by its id."""
        return next((task for task in self.tasks if task["id"] == name), None)


def answers_bytes(answers: Answers) -> bytes:
    """The contents of answers.json.gz; the same bytes for the same answers."""
    content = {"format": _FORMAT, **dataclasses.asdict(answers)}
    return gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0)


def read_answers(folder: epath.Path, vocabulary: Vocabulary) -> Answers:
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
        _check_format(content["format"])
        _check_answers(content, vocabulary)
        fields = {field.name: content[field.name] for field in dataclasses.fields(Answers)}
        return Answers(**fields | {"steps": tuple(fields["steps"])})


def _check_format(found: Any) -> None:
    if found != _FORMAT:
        raise ValueError(f"of format {found}, not {_FORMAT}")


def _check_answers(content: Any, vocabulary: Vocabulary) -> None:
    content["made_with"].items()
    str(content["method"])
    if not all(type(step) is int for step in content["steps"]) or not content["steps"]:
        raise ValueError("steps must be numbers")
    for task in content["tasks"]:
        for test in task["tests"]:
            counts = [test["candidates"], test["distinct"], test["rank_of_truth"] or 0]
            counts += [test.get("difficulty", 0)]
            for answer in test["answers"]:
                counts += [answer["rank"], answer["votes"], *answer.get("votes_by", {}).values()]
                counts += [voter for voter, _ in answer.get("voters", [])]
                float(answer["score"])
                if type(answer.get("valid", True)) is not bool:
                    raise ValueError(f"task {task['id']}: valid must be true or false")
            if not all(type(count) is int for count in counts):
                raise ValueError(f"task {task['id']}: counts must be whole numbers")
        pairs = [*task["demonstrations"], *task["tests"]]
        grids = [rows for pair in pairs for rows in (pair["input"], pair["output"])]
        grids += [answer["grid"] for test in task["tests"] for answer in test["answers"]]
        for rows in grids:
            grid_of(rows, vocabulary.symbols)
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


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """A trajectory in little memory: a tenth to a hundredth of its arrays."""

    task: str
    test: int
    question: np.ndarray
    truth: np.ndarray | None
    puzzle_id: int
    augmentation_A: np.ndarray
    levels_N: np.ndarray
    board: Board
    q_halt_N: np.ndarray
    cells: bytes  # deflated: predicted, masked as bits, confidence


_PLAIN = [field.name for field in dataclasses.fields(Packed)][:-1]


def pack(trajectory: Trajectory) -> Packed:
    """Packs a trajectory; `unpack` gives it back."""
    cells = (
        trajectory.predicted_NxS,
        np.packbits(trajectory.masked_NxS),
        trajectory.confidence_NxS,
    )
    cells = zlib.compress(b"".join(x.tobytes() for x in cells), 6)
    return Packed(**{name: getattr(trajectory, name) for name in _PLAIN}, cells=cells)


def unpack(packed: Packed) -> Trajectory:
    """The trajectory that was packed."""
    shape = len(packed.levels_N), packed.board[0] * packed.board[1]
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
        task=np.array([t.task for t in trajectories], np.str_),
        test=np.array([t.test for t in trajectories], np.int32),
        puzzle_id=np.array([t.puzzle_id for t in trajectories], np.int32),
        augmentation=np.array([t.augmentation_A for t in trajectories], np.uint8),
        board=np.array([t.board for t in trajectories], np.int32),
        levels=np.array([t.levels_N for t in trajectories], np.int32),
        q_halt=np.array([t.q_halt_N for t in trajectories], np.float32),
        end=np.cumsum([len(t.cells) for t in trajectories], dtype=np.int64),
        cells=np.frombuffer(b"".join(t.cells for t in trajectories), np.uint8),
    )
    return buffer.getvalue()


def read_trajectories(folder: epath.Path, answers: Answers, vocabulary: Vocabulary) -> list[Packed]:
    """The trajectories of an evaluation, in the order of its candidates; [] if none were kept.

    Args:
      answers: of the same evaluation, from `read_answers`.

    Raises:
      InputError: the file can't be used.
    """
    path = folder / TRAJECTORIES
    with _damage_named(path):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return []
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            x = {name: file[name] for name in file.files}
        _check_format(x["format"])
        ends = [0, *x["end"].tolist()]
        grids = {
            (task["id"], t): [
                grid_of(test[name], vocabulary.symbols) for name in ("input", "output")
            ]
            for task in answers.tasks
            for t, test in enumerate(task["tests"])
        }
        return [
            Packed(
                task := str(x["task"][i]),
                test := int(x["test"][i]),
                *grids[task, test],
                int(x["puzzle_id"][i]),
                x["augmentation"][i],
                x["levels"][i],
                (int(x["board"][i, 0]), int(x["board"][i, 1])),
                x["q_halt"][i],
                x["cells"][ends[i] : ends[i + 1]].tobytes(),
            )
            for i in range(len(x["task"]))
        ]
