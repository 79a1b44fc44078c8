"""Scores a checkpoint, or several as an ensemble: answers every test input, and judges.

Training and `drm eval` both use `evaluate`. Only `drm eval`, when asked, pools the answers of
several checkpoints: `evaluate_together`.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from drm_jax.config import Experiment, part_name
from drm_jax.evaluate.answerer import AnswerBatch
from drm_jax.evaluate.answers import Answers, Packed
from drm_jax.evaluate.files import Evaluation
from drm_jax.evaluate.kept import Kept
from drm_jax.evaluate.metrics import made_with, metrics_of
from drm_jax.methods.method import Answered
from drm_jax.parallel import processes
from drm_jax.parallel.mesh import global_batch
from drm_jax.puzzles.boards import cell_accuracy, place
from drm_jax.puzzles.family import Board, Judge, Puzzles, Questions
from drm_jax.training.state import TrainState

Rows = dict[str, np.ndarray]
Ask = Callable[[Mapping[str, np.ndarray]], Answered]
"""Answers a batch of `question_batches`."""
Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """What the candidates of one state answered."""

    judge: Judge  # has heard all
    accuracy_R: np.ndarray  # share of scored tokens that each candidate has right; NaN: unknown
    asked: Mapping[Board, int]  # how many candidates were answered on each board
    passes: int  # of all of them, up to their answers
    trajectories: tuple[Packed, ...]  # those that are kept; none where another process keeps them
    pictured: tuple[Packed, ...]


def _no_progress(batches: Iterable[Any], total: int) -> Iterable[Any]:
    return batches


def evaluate(
    experiment: Experiment,
    answer_batch: AnswerBatch,
    state: TrainState,
    mesh: Mesh,
    puzzles: Puzzles,
    progress: Progress = _no_progress,
) -> Evaluation:
    """Answers every test input and scores the answers.

    Args:
      answer_batch: from `evaluate.answerer.compile_answer`.
      progress: wraps the batches of each board, given how many there are from there on.
    """
    questions = puzzles.questions(experiment.evaluate.num_augmentations)
    judged = answer_rollouts(experiment, answer_batch, state, mesh, questions, progress)
    tests = puzzles.tests_digest()
    return evaluation_of(experiment, (int(state.step),), judged, mesh, tests)


def evaluate_together(
    experiment: Experiment,
    answer_batch: AnswerBatch,
    steps: Sequence[int],
    restore: Callable[[int], TrainState],
    mesh: Mesh,
    puzzles: Puzzles,
    progress: Progress = _no_progress,
) -> tuple[Evaluation, ...]:
    """`evaluate` of each checkpoint, and last of their ensemble: the answers of all, pooled.

    A candidate's random draws are the same in each checkpoint, as when it is scored alone.

    Args:
      steps: ascending, at least two.
      restore: the state of a step; one is held at a time.
      progress: wraps the batches of each checkpoint in turn.
    """
    questions = puzzles.questions(experiment.evaluate.num_augmentations)
    pooled, tests = questions.judge(), puzzles.tests_digest()
    alone, accuracies = [], []
    for step in steps:
        judged = answer_rollouts(experiment, answer_batch, restore(step), mesh, questions, progress)
        alone = [evaluation.without_details() for evaluation in alone]
        alone.append(evaluation_of(experiment, (step,), judged, mesh, tests))
        pooled.pool(judged.judge)
        accuracies.append(judged.accuracy_R)
    together = dataclasses.replace(
        judged,
        judge=pooled.choosing(experiment.evaluate.choose),
        accuracy_R=np.mean(accuracies, axis=0),
    )
    return *alone, evaluation_of(experiment, tuple(steps), together, mesh, tests, alone)


def answer_rollouts(
    experiment: Experiment,
    answer_batch: AnswerBatch,
    state: TrainState,
    mesh: Mesh,
    questions: Questions,
    progress: Progress = _no_progress,
) -> Judged:
    """Answers all candidates as often as the experiment says, and ranks the answers as it says.

    What is kept of denoising is the first rollout's. The other arguments are as of `evaluate`.
    """
    of = experiment, answer_batch, state, mesh, questions, experiment.evaluate.rollouts, progress
    judged = collections.deque(pooled_rollouts(*of), maxlen=1).pop()  # the last has them all
    return dataclasses.replace(judged, judge=judged.judge.choosing(experiment.evaluate.choose))


def pooled_rollouts(
    experiment: Experiment,
    answer_batch: AnswerBatch,
    state: TrainState,
    mesh: Mesh,
    questions: Questions,
    count: int,
    progress: Progress = _no_progress,
) -> Iterator[Judged]:
    """The answers of the first rollout, of the first two, and so on, ranked by votes.

    What is given must be looked at before the next is asked for: one judge hears all rollouts.

    Args:
      count: of rollouts, whatever the experiment says.
      The others are as of `answer_rollouts`.
    """
    judged = None
    for number in range(count):
        one = answer_questions(
            experiment, answer_batch, state, mesh, questions, progress, rollout=number
        )
        judged = one if judged is None else _with_rollout(judged, one, number)
        yield judged


def _with_rollout(judged: Judged, one: Judged, before: int) -> Judged:
    """The answers of so many rollouts, and those of one more."""
    judged.judge.pool(one.judge)
    return dataclasses.replace(
        judged,
        accuracy_R=(judged.accuracy_R * before + one.accuracy_R) / (before + 1),
        asked={board: count + one.asked[board] for board, count in judged.asked.items()},
        passes=judged.passes + one.passes,
    )


def answer_questions(
    experiment: Experiment,
    answer_batch: AnswerBatch,
    state: TrainState,
    mesh: Mesh,
    questions: Questions,
    progress: Progress = _no_progress,
    rounds: Iterable[np.ndarray] | None = None,
    rollout: int = 0,
) -> Judged:
    """Answers all candidates of some questions, or those of some rounds; see `answer_all`.

    Args:
      rollout: its number, from 0: others have other random draws.

    The other arguments are as of `evaluate`.
    """
    config, data = experiment.evaluate, experiment.data
    levels_N = experiment.method.test_levels(config.denoise_steps)
    kept = Kept(config.trajectories, questions, levels_N, data.vocabulary.mask, mesh)

    def ask(batch: Mapping[str, np.ndarray]) -> Answered:
        # A row's draws follow from its number; those of a rollout are numbered after those before.
        drawn = (batch["row"] + rollout * (questions.count + 1)).astype(np.int32)
        rows = _rows_of_process({**batch, "row": drawn})
        return answer_batch(state, global_batch(rows, mesh))

    return answer_all(
        questions,
        data.boards,
        ask,
        kept,
        batch_size=config.batch_size,
        progress=progress,
        rounds=rounds,
    )


def _rows_of_process(batch: Mapping[str, np.ndarray]) -> Rows:
    """The rows that this process's devices answer."""
    share = len(batch["row"]) // processes.count()
    first = processes.index() * share
    return {name: value[first : first + share] for name, value in batch.items()}


def evaluation_of(
    experiment: Experiment,
    steps: tuple[int, ...],
    judged: Judged,
    mesh: Mesh,
    tests: str,
    alone: Sequence[Evaluation] = (),
) -> Evaluation:
    """One checkpoint's, or that of an ensemble of those that were scored alone."""
    judge = judged.judge
    scores = judge.scores(judged.accuracy_R)
    method = part_name("method", experiment.method)
    return Evaluation(
        steps,
        metrics_of(experiment, steps, scores, judged.asked, judged.passes, tests, alone),
        judge.submission(),
        Answers(steps, method, made_with(experiment, mesh), judge.answers()),
        judged.trajectories,
        judged.pictured,
    )


def answer_all(
    questions: Questions,
    boards: Sequence[Board],
    ask: Ask,
    kept: Kept,
    *,
    batch_size: int,
    progress: Progress,
    rounds: Iterable[np.ndarray] | None = None,
) -> Judged:
    """Answers all candidates.

    Where a family has boards of several sizes, each candidate is answered on the smallest one that
    may hold its answer, and again on the next one if it reaches the border: only its last answer
    counts.

    Args:
      boards: the family's, from small to large.
      kept: nothing kept yet.
      progress: wraps the batches of each board, given how many there are from there on.
      rounds: the numbers of the candidates that are answered, some at a time; the next ones are
        asked for when these have been judged. By default all at once.
    """
    heard = _Heard(
        questions.judge(),
        np.full(questions.count, np.nan),
        np.array(questions.board_R),
        dict.fromkeys(boards, 0),
        0,
    )
    for row_N in [np.arange(questions.count)] if rounds is None else rounds:
        _answer_round(questions, boards, row_N, ask, kept, heard, batch_size, progress)
    wanted = kept.wanted(heard.judge)
    missing_N = kept.missing(wanted)
    for number, board in enumerate(boards):
        here_N = missing_N[heard.board_R[missing_N] == number]
        _answer_again(questions, here_N, board, ask, kept, batch_size)
    packed = kept.chosen(wanted)
    pictured = tuple(packed[row] for row in kept.pictured if row in packed)
    return Judged(
        heard.judge, heard.accuracy_R, heard.asked, heard.passes, tuple(packed.values()), pictured
    )


@dataclasses.dataclass(eq=False)
class _Heard:
    """What candidates have answered so far."""

    judge: Judge
    accuracy_R: np.ndarray
    board_R: np.ndarray  # on which board each candidate is answered next, or was answered last
    asked: dict[Board, int]
    passes: int


def _answer_round(
    questions: Questions,
    boards: Sequence[Board],
    row_N: np.ndarray,
    ask: Ask,
    kept: Kept,
    heard: _Heard,
    batch_size: int,
    progress: Progress,
) -> None:
    """Answers these candidates; arguments as of `answer_all`."""
    waiting_R = np.zeros(questions.count, bool)
    waiting_R[row_N] = True
    board_R = heard.board_R
    for number, board in enumerate(boards):
        here_N = np.flatnonzero(waiting_R & (board_R == number))
        heard.asked[board] += len(here_N)
        batches = question_batches(questions, here_N, board, batch_size)
        left = _batches_left(board_R[waiting_R], number, len(boards), batch_size)
        for batch, answered in _one_ahead(progress(batches, left), ask):
            predicted_BxS, q_halt_B, passes_B = jax.device_get(
                (answered.predicted, answered.q_halt, answered.passes)
            )
            final_B = batch["row"] < questions.count
            heard.passes += int(passes_B[final_B].sum())
            if number < len(boards) - 1:
                again_B = final_B & questions.reaches_border(predicted_BxS, board)
                board_R[batch["row"][again_B]] += 1
                final_B &= ~again_B
            final_N, predicted_NxS = batch["row"][final_B], predicted_BxS[final_B]
            heard.judge.add(final_N, predicted_NxS, q_halt_B[final_B], board)
            on_whole_NxS = place(predicted_NxS, board, boards[-1])
            heard.accuracy_R[final_N] = cell_accuracy(on_whole_NxS, *questions.truths(final_N))
            now = kept.choose(heard.judge, final_N)
            kept.take(answered, board, np.flatnonzero(np.isin(batch["row"], now)), now)


def _answer_again(
    questions: Questions, row_N: np.ndarray, board: Board, ask: Ask, kept: Kept, batch_size: int
) -> None:
    """For their trajectories: their answers are the same, and are with the judge already."""
    for batch in question_batches(questions, row_N, board, batch_size):
        here_N = batch["row"][batch["row"] < questions.count].tolist()
        kept.take(ask(batch), board, range(len(here_N)), here_N)


def question_batches(
    questions: Questions, which_N: np.ndarray, board: Board, batch_size: int
) -> Iterator[Rows]:
    """Batches of `batch_size` candidates; the last one is filled up with rows of the blank id.

    Args:
      which_N: the numbers of the candidates.

    Yields:
      inputs (B, S) uint8; puzzle_id (B,) int32; row (B,) int32, the number of the candidate, so
      that its random draws don't depend on the batch it stands in; of a row that fills up, the
      number after the last.
    """
    for start in range(0, len(which_N), batch_size):
        row_N = which_N[start : start + batch_size]
        inputs_NxS, id_N = questions.rows(row_N, board)
        blanks = batch_size - len(row_N)
        yield {
            "inputs": np.pad(inputs_NxS, [(0, blanks), (0, 0)]),
            "puzzle_id": np.pad(id_N, (0, blanks)).astype(np.int32),
            "row": np.pad(row_N, (0, blanks), constant_values=questions.count).astype(np.int32),
        }


def _batches_left(board_R: np.ndarray, number: int, boards: int, batch_size: int) -> int:
    """How many batches there are from this board on, if no answer reaches a border."""
    waiting = np.bincount(board_R, minlength=boards)[number:]
    return int((-(-waiting // batch_size)).sum())


def _one_ahead(batches: Iterable[Rows], ask: Ask) -> Iterator[tuple[Rows, Answered]]:
    """Each batch and its answers; the next one is under way while the host judges them."""
    before = None
    for batch in batches:
        now = batch, ask(batch)
        if before is not None:
            yield before
        before = now
    if before is not None:
        yield before
