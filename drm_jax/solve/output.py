"""What an adaptation leaves: a submission at all times, and at its end all that people look at.

submission.json       two attempts at each test input of each task; replaced whole, never half there
solve.json            what was asked, how far it is, the time used
candidates.jsonl.gz   every answer with its votes, and who gave it: for an ensemble of one's own
attempts/TASK.png     the attempts as pictures
tasks.json, …         a work directory, as `drm train` leaves one: drm report and drm show take it
"""

import dataclasses
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from drm_jax.errors import InputError
from drm_jax.evaluate.pictures import Ranked, asked_of, attempts_row, grids_row, image, png
from drm_jax.io.files import write_whole
from drm_jax.puzzles.arc import voting
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.judge import ArcJudge
from drm_jax.puzzles.arc.questions import ArcQuestions
from drm_jax.puzzles.arc.tasks import Pair, Task
from drm_jax.puzzles.arc.voting import ATTEMPTS, submission
from drm_jax.puzzles.voting import Ballot, cast_vote, pool, ranked

SUBMISSION, STATE, CANDIDATES, PICTURES = (
    "submission.json", "solve.json", "candidates.jsonl.gz", "attempts",
)  # fmt: skip
Submission = Mapping[str, Sequence[Mapping[str, list[list[int]]]]]


def copying(tasks: Sequence[Task]) -> Submission:
    """The submission that answers every test input with itself."""
    return submission(voting.copying(tasks), tasks)


def merged(before: Submission, tasks: Sequence[Task], ballot: Ballot) -> Submission:
    """A submission with the answers that have votes; what has none stays as it was."""
    after = {name: list(entries) for name, entries in before.items()}
    answered = submission(ballot, tasks)
    for task in tasks:
        for number, test in enumerate(task.tests):
            if any(answer.grid.size for answer in ranked(ballot, task.id, test.input)):
                after[task.id][number] = answered[task.id][number]
    return after


def solved(submission: Submission, tasks: Sequence[Task]) -> tuple[int, int]:
    """How many test inputs of known output an attempt solves, and how many there are."""
    right = known = 0
    for task in tasks:
        for test, entry in zip(task.tests, submission[task.id], strict=True):
            if test.output is not None:
                known += 1
                right += solves(entry, test)
    return right, known


def solves(entry: Mapping[str, list[list[int]]], test: Pair) -> bool:
    """Whether an attempt of an entry of a submission is the output of its test."""
    return any(np.array_equal(grid, test.output) for grid in entry.values())


def write_submission(folder: epath.Path, submission: Submission) -> None:
    """Replaces the submission as a whole."""
    write_whole(folder / SUBMISSION, json.dumps(submission) + "\n")


# --- how far it is --------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class State:
    """What solve.json holds."""

    request: Mapping[str, Any]
    seconds_used: float = 0.0
    answers: str = "copies of the inputs"
    """Where the answers in submission.json come from, in words."""
    done: bool = False


def write_state(folder: epath.Path, state: State) -> None:
    write_whole(folder / STATE, json.dumps(dataclasses.asdict(state), indent=1) + "\n")


def read_state(folder: epath.Path) -> State | None:
    """What an earlier start has left; None where there was none.

    Raises:
      InputError: it can't be read.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
        state = State(**found)
        if not isinstance(state.request, dict) or state.seconds_used < 0:
            raise ValueError("not the state of a solve")
        return state
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: can't be read: {error}; name another folder with --output"
        ) from error


# --- for others' ensembles ------------------------------------------------------------------------
def write_candidates(folder: epath.Path, judge: ArcJudge, questions: ArcQuestions) -> None:
    """A JSON line for each different answer to a test input, the best first.

    It has task and test, from 0; grid; votes; score, the mean halting probability of its voters;
    and voters: of each its puzzle_id, transform, colours and score.
    """
    lines = "".join(json.dumps(line) + "\n" for line in _candidates(judge, questions))
    write_whole(folder / CANDIDATES, gzip.compress(lines.encode(), 6, mtime=0))


def _candidates(judge: ArcJudge, questions: ArcQuestions) -> Iterator[dict[str, Any]]:
    place: dict[str, int] = {}
    for test in judge.tests:
        number = place[test.task] = place.get(test.task, -1) + 1
        for answer in judge.ranked(test):
            voters = []
            for row, score in zip(answer.voters, answer.voter_scores, strict=True):
                asked = questions.candidate(row)
                transform, *colours = asked.augmentation_A.tolist()
                voters.append(
                    {
                        "puzzle_id": asked.puzzle_id,
                        "transform": transform,
                        "colours": "".join(map(str, colours)),
                        "score": round(score, 4),
                    }
                )
            yield {
                "task": test.task,
                "test": number,
                "grid": answer.grid.tolist(),
                "votes": answer.votes,
                "score": round(answer.score, 4),
                "voters": voters,
            }


def pooled(tasks: Sequence[Task], judge: ArcJudge | None, folders: Sequence[epath.Path]) -> Ballot:
    """The votes of a judge, and after them those that others have left in candidates.jsonl.gz.

    Raises:
      InputError: a folder has no such file, or it can't be read.
    """
    ballot: Ballot = {}
    if judge is not None:
        pool(ballot, judge.ballot)
    inputs = {task.id: [test.input for test in task.tests] for task in tasks}
    for folder in folders:
        for line in _read_candidates(folder / CANDIDATES):
            tests = inputs.get(line["task"], [])
            if line["test"] < len(tests):
                grid = np.array(line["grid"] or np.zeros((0, 0)), np.uint8)
                for voter in line["voters"]:
                    cast_vote(ballot, line["task"], tests[line["test"]], grid, voter["score"])
    return ballot


def _read_candidates(path: epath.Path) -> list[dict[str, Any]]:
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        return [json.loads(line) for line in lines]
    except FileNotFoundError as error:
        raise InputError(
            f"--pool: {path}: is not there: name folders that drm solve has written to its end"
        ) from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"--pool: {path}: can't be read: {error}") from error


# --- pictures -------------------------------------------------------------------------------------
def write_pictures(
    folder: epath.Path, tasks: Iterable[Task], ballot: Ballot, handed_in: Submission
) -> Iterator[epath.Path]:
    """A picture of each task: its demonstrations, the test inputs and the attempts with votes."""
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    for task in tasks:
        path = folder / PICTURES / f"{_file_name(task.id)}.png"
        write_whole(path, _picture(task, ballot, handed_in[task.id]))
        yield path


def _file_name(task_id: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in task_id)[:100].lstrip(".")


def _picture(task: Task, ballot: Ballot, entries: Sequence[Mapping[str, Any]]) -> bytes:
    """As a PNG. Where nobody has voted the attempts are what the submission holds."""
    family = Arc()
    rows = [
        grids_row(
            f"demonstration {i + 1}", [("input", p.input), ("output", p.output)], p.input, family
        )
        for i, p in enumerate(task.demonstrations)
    ]
    for number, test in enumerate(task.tests):
        name = f"task {task.id}, test input {number + 1}"
        proposed = ranked(ballot, task.id, test.input)
        if any(answer.grid.size for answer in proposed):
            answers = [Ranked(answer.grid, answer.votes) for answer in proposed]
            votes = sum(answer.votes for answer in answers)
        else:
            grids = [np.array(grid, np.uint8) for grid in entries[number].values()]
            answers, votes = [Ranked(grid, 0) for grid in grids], 0
        asked = asked_of(test.input, test.output, votes, answers, ATTEMPTS)
        rows.append(attempts_row(name, asked, family))
    return png(image(rows, family))
