"""A network of its own for each task; those of one size are trained together, by vmap.

A small network leaves a device idle. So the states of G tasks are stacked, and a step is of all of
them: each with its own weights, puzzle rows and batch. The answers are those of one task at a time,
to rounding.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console

from drm_jax.config import Experiment
from drm_jax.data.stream import BatchMaker, batches_from
from drm_jax.errors import InputError
from drm_jax.evaluate.answerer import make_answer
from drm_jax.evaluate.files import Evaluation
from drm_jax.evaluate.loop import Judged, evaluation_of
from drm_jax.io import checkpoint
from drm_jax.io.files import make_folder, write_whole
from drm_jax.parallel.mesh import DATA, make_mesh, platform_of
from drm_jax.puzzles.arc.augment import PuzzleIds
from drm_jax.puzzles.arc.judge import ArcJudge
from drm_jax.puzzles.arc.puzzles import ArcPuzzles
from drm_jax.puzzles.arc.questions import ArcQuestions
from drm_jax.puzzles.boards import cell_accuracy, place
from drm_jax.puzzles.family import Board
from drm_jax.run.evaluation import teller
from drm_jax.run.setup import trained_here
from drm_jax.runtime.progress import progress_bar
from drm_jax.runtime.stop import StopRequest
from drm_jax.solve.request import Group, with_plan
from drm_jax.training.state import TrainState, init_state
from drm_jax.training.step import FINITE, Trained, make_single_step

_TASKS = "tasks"
"""The axis of the mesh over which tasks are split."""
_PLAN = "plan.json"
Rows = dict[str, np.ndarray]


def own_puzzles(puzzles: ArcPuzzles, place: int, boards: Sequence[Board]) -> ArcPuzzles:
    """One task alone, with the puzzle ids 1, 2, … for its augmentations, the identity first."""
    ids, task = puzzles.ids, puzzles.tasks[place]
    kept = np.concatenate([[0], ids.of_task[place]])
    of_task = np.where(np.arange(len(kept)) > 0, 0, -1).astype(np.int32)
    own = PuzzleIds((task.id,), of_task, ids.transform[kept], ids.colours[kept])
    return ArcPuzzles([task], own, boards)


def _mesh(tasks: int) -> Mesh:
    """As many devices as there are tasks, or all."""
    devices = list(make_mesh().devices.flat)
    return Mesh(np.array(devices[: max(1, min(tasks, len(devices)))]), (_TASKS,))


def _of_state(per_task: Any, shared: Any, state: TrainState) -> TrainState:
    """A prefix of a stacked state's tree: what holds for the leaves that each task has of its own,
    and for the others."""
    own = dict.fromkeys(("params", "opt_state", "ema", "table", "carry"), per_task)
    return state.replace(**own, step=shared, constants=shared)


class _Stacked:
    """The batches of all tasks as one, (G, B, …); those that only fill up repeat the first task."""

    def __init__(self, makers: Sequence[BatchMaker], count: int):
        """Args: count: G."""
        self._makers, self._count = makers, count

    def __len__(self) -> int:
        return len(self._makers[0])

    def __getitem__(self, step: int) -> Rows:
        rows = [maker[step] for maker in self._makers]
        rows += rows[:1] * (self._count - len(rows))
        return {name: np.stack([of_task[name] for of_task in rows]) for name in rows[0]}


class Each:
    """See `adaptation.Worker`."""

    def __init__(
        self,
        experiment: Experiment,
        puzzles: ArcPuzzles,
        questions: ArcQuestions,
        group: Group,
        begin_with: Callable[[TrainState, Mesh], tuple[TrainState, Mapping[int, jax.Array]]] | None,
        folder: epath.Path,
        console: Console,
        stop: StopRequest,
        before: ArcJudge,
        steps_before: int,
    ):
        """Args:
        experiment: of all tasks.
        puzzles, questions: all tasks, of which the group is a part.
        begin_with: from a fresh state of one task to that of the weights, and the rows of known
          tasks by their place; None: from nothing.
        folder: of the group.
        before: the answers of the groups before.
        steps_before: steps of the groups before.
        """
        self.experiment, self.questions, self._group = experiment, questions, group
        self._folder, self._stop, self._console = folder, stop, console
        self._before, self._steps_before = before, steps_before
        self._mesh = _mesh(len(group.places))
        self._own = [own_puzzles(puzzles, place, group.boards) for place in group.places]
        self._tests = hashlib.sha256(
            f"{puzzles.training_digest()} {puzzles.tests_digest()} {group}".encode()
        ).hexdigest()[:16]
        data = dataclasses.replace(experiment.data, canvas=group.boards[-1][0])
        if len(group.boards) > 1:
            sides = tuple(side for side, _ in group.boards)
            data = dataclasses.replace(experiment.data, canvas="fit", windows=sides)
        self._trained, notes = trained_here(dataclasses.replace(experiment, data=data), self._mesh)
        for note in () if steps_before else notes:  # the same for every group
            teller(console)(note)
        self._data = data
        self._count = -(-len(group.places) // self._mesh.size) * self._mesh.size
        self._make_rounds()
        self._compile()
        self._begin(begin_with)
        stacked = _Stacked([self._maker(own) for own in self._own], self._count)
        self._batches = batches_from(grain.MapDataset.source(stacked), self.done)
        self._bad: set[int] = set()

    def _maker(self, own: ArcPuzzles) -> BatchMaker:
        return BatchMaker(
            own,
            self._group.boards,
            self._data.vocabulary.mask,
            self.experiment.method,
            seed=self.experiment.seed,
            batch_size=self.experiment.train.batch_size,
        )

    # --- the candidates ---------------------------------------------------------------------------
    def _make_rounds(self) -> None:
        """Some candidates of every task a round: the first one of each of its tests come first."""
        questions, size = self.questions, self.experiment.evaluate.batch_size
        self._each = max(1, size // len(self._group.places))
        task_R = questions.task_R
        self._first_row, of_task, tests = {}, [], 1
        for k in self._group.places:
            rows = np.flatnonzero(task_R == k)
            self._first_row[k] = int(rows[0])
            tests = max(tests, len(np.unique(questions.test_R[rows])))
            of_task.append(rows[np.argsort(questions.rank_R[rows], kind="stable")])
        most = max(map(len, of_task))
        self.rounds = [
            np.concatenate([rows[i : i + self._each] for rows in of_task])
            for i in range(0, most, self._each)
        ]
        self.least = -(-tests // self._each)

    def answer(self, rounds: Iterator[np.ndarray]) -> tuple[Judged, Evaluation]:
        questions, board = self.questions, self._group.boards[0]
        judge, accuracy_R = questions.judge(), np.full(questions.count, np.nan)
        judge.pool(self._before)
        for row_N in rounds:
            batch, place_N = self._candidates(row_N, board)
            predicted_GxBxS, q_halt_GxB = jax.device_get(self._answer(self.state, batch))
            good_N = ~np.isin(place_N[0], list(self._bad))
            row_N, place_N = row_N[good_N], place_N[:, good_N]
            predicted_NxS = predicted_GxBxS[tuple(place_N)]
            judge.add(row_N, predicted_NxS, q_halt_GxB[tuple(place_N)], board)
            on_whole_NxS = place(predicted_NxS, board, questions.whole)
            accuracy_R[row_N] = cell_accuracy(on_whole_NxS, *questions.truths(row_N))
            if self._stop.requested:
                raise self._stop.error(" while the tasks were evaluated")
        count = int((~np.isnan(accuracy_R)).sum())
        passes = count * self.experiment.evaluate.denoise_steps
        judged = Judged(judge, accuracy_R, {board: count}, passes, (), ())
        steps = (self._steps_before + self.done,)
        return judged, evaluation_of(self.experiment, steps, judged, self._mesh, self._tests)

    def _candidates(self, row_N: np.ndarray, board: Board) -> tuple[Rows, np.ndarray]:
        """A batch (G, B, …) of candidates, and where in it each stands: (2, N)."""
        task_N = self.questions.task_R[row_N]
        slot_N = np.zeros(len(row_N), int)
        group_N = np.zeros(len(row_N), int)
        for g, k in enumerate(self._group.places):
            here = task_N == k
            group_N[here], slot_N[here] = g, np.arange(here.sum())
        inputs_NxS, _ = self.questions.rows(row_N, board)
        rank_N = self.questions.rank_R[row_N]
        shape = self._count, self._each
        batch = {
            "inputs": np.zeros((*shape, inputs_NxS.shape[1]), np.uint8),
            "puzzle_id": np.zeros(shape, np.int32),
            "row": np.full(shape, self.questions.count, np.int32),
        }
        first_N = np.array([self._first_row[k] for k in task_N.tolist()])
        batch["inputs"][group_N, slot_N] = inputs_NxS
        batch["puzzle_id"][group_N, slot_N] = rank_N + 1
        batch["row"][group_N, slot_N] = row_N - first_N  # as if the task were alone
        return batch, np.stack([group_N, slot_N])

    # --- training ---------------------------------------------------------------------------------
    def _compile(self) -> None:
        trained, mesh, experiment = self._trained, self._mesh, self.experiment
        abstract = jax.eval_shape(functools.partial(self._fresh, trained))
        axes = _of_state(0, None, abstract)
        specs = _of_state(P(_TASKS), P(), abstract)
        split = P(_TASKS)
        platform = platform_of(mesh)
        self._programs = {}
        for rows_only in (True, False):
            step = jax.vmap(make_single_step(trained, platform, rows_only), (axes, 0), (axes, 0))
            sharded = jax.shard_map(
                step, mesh=mesh, in_specs=(specs, split), out_specs=(specs, split), check_vma=False
            )
            self._programs[rows_only] = jax.jit(sharded, donate_argnums=0)
        answer = make_answer(
            experiment.method, self._data, trained.network, DATA,
            test=experiment.evaluate, seed=experiment.seed,
        )  # fmt: skip

        def of_task(state, batch):
            parts = (state.ema, state.constants, state.table, batch)
            answered = jax.vmap(answer, axis_name=DATA)(*jax.tree.map(lambda x: x[None], parts))
            return answered.predicted[0], answered.q_halt[0]

        self._answer = jax.jit(
            jax.shard_map(
                jax.vmap(of_task, (axes, 0)),
                mesh=mesh, in_specs=(specs, split), out_specs=(split, split), check_vma=False,
            )
        )  # fmt: skip
        self._shardings = jax.tree.map(
            lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, P)
        )
        self._abstract = abstract
        self.compile_seconds, self._compiled = 0.0, set()

    def _fresh(self, trained: Trained) -> TrainState:
        """The state of one task, its table no larger than is needed."""
        rows = max(own.num_ids for own in self._own)
        state = init_state(
            trained.method,
            trained.network,
            trained.transformation(),
            seed=self.experiment.seed,
            batch_size=self.experiment.train.batch_size,
            num_ids=rows,
        )
        return state.replace(table=state.table[:rows])

    def _begin(
        self,
        begin_with: Callable[[TrainState, Mesh], tuple[TrainState, Mapping[int, jax.Array]]] | None,
    ) -> None:
        """From the newest checkpoint of the group, or anew."""
        make_folder(self._folder)
        target = jax.tree.map(
            lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
            jax.eval_shape(self._stacked, self._abstract),
            self._whole_shardings(),
        )
        restored = checkpoint.restore_newest(self._folder, target, False, self._console.print)
        if restored is not None and restored.record["tests"] != self._tests:
            raise InputError(f"{self._folder}: holds an adaptation to other tasks")
        self.resumed = restored is not None
        self.done = restored.step if restored else 0
        plan = self._folder / _PLAN
        if plan.exists():
            self.experiment = with_plan(self.experiment, *json.loads(plan.read_bytes()))
        if restored:
            self.state = restored.state
            return
        one = jax.jit(functools.partial(self._fresh, self._trained))()
        known: Mapping[int, jax.Array] = {}
        if begin_with is not None:
            one, known = begin_with(one, make_mesh([self._mesh.devices.flat[0]]))
        one = jax.device_get(one)  # it may lie on one device of these
        state = jax.jit(self._stacked, out_shardings=self._whole_shardings())(one)
        table_GxRxD = np.array(state.table)
        for g, k in enumerate(self._group.places):
            if k in known:
                table_GxRxD[g, 1 : 1 + len(known[k])] = known[k]
        self.state = jax.device_put(state.replace(table=table_GxRxD), self._whole_shardings())

    def _stacked(self, one: TrainState) -> TrainState:
        """The same state for every task."""
        count = self._count
        axes = _of_state(True, False, one)
        return jax.tree.map(
            lambda own, part: jax.tree.map(
                lambda x: jnp.broadcast_to(x, (count, *x.shape)) if own else x, part
            ),
            axes,
            one,
        )

    def _whole_shardings(self) -> TrainState:
        """A sharding for each leaf of the stacked state."""
        return jax.tree.map(
            lambda where, part: jax.tree.map(lambda _: where, part),
            self._shardings,
            jax.eval_shape(self._stacked, self._abstract),
        )

    def plan(self, experiment: Experiment) -> None:
        self.experiment = experiment
        plan = [experiment.train.steps, experiment.optimizer.rows_first]
        write_whole(self._folder / _PLAN, json.dumps(plan) + "\n")

    def advance(self, last: int) -> None:
        while self.done < last:
            metrics = self._step(next(self._batches))
            if self._stop.requested:
                self.save()
                self.finish()
                raise self._stop.error(f"; step {self.done} is saved in {self._folder}")
        self._look_at(jax.device_get(metrics))

    def _step(self, batch: Rows) -> dict[str, jax.Array]:
        before = time.perf_counter()
        rows_only = self.done < self.experiment.optimizer.rows_first
        self.state, metrics = self._programs[rows_only](self.state, batch)
        if rows_only not in self._compiled:
            self._compiled.add(rows_only)
            self.compile_seconds += time.perf_counter() - before
        jax.block_until_ready(metrics)
        self.done += 1
        self._bar.update(self._bar_task, completed=self.done, total=self.experiment.train.steps)
        return metrics

    def _look_at(self, metrics: Mapping[str, np.ndarray]) -> None:
        """Tells of the newest step, and leaves out tasks whose weights aren't finite any more."""
        tasks = len(self._group.places)
        fine_G = metrics[FINITE].all(axis=1)[:tasks]
        for g in np.flatnonzero(~fine_G).tolist():
            if g not in self._bad:
                self._bad.add(g)
                name = self._own[g].tasks[0].id
                self._console.print(
                    f"task {name}: not finite by step {self.done}: its answers so far stand; try "
                    "a lower learning rate",
                    soft_wrap=True,
                )
        count_G = np.maximum(metrics["count"][:tasks], 1)
        loss = float(np.mean((metrics["loss"][:tasks] / count_G)[fine_G])) if fine_G.any() else 0
        exact = float(np.mean(metrics["exact_accuracy"][:tasks] / count_G))
        self._bar.update(self._bar_task, news=[f"loss {loss:.3f}", f"exact {exact:.1%}"])

    def save(self) -> None:
        record = {"tests": self._tests, "interval": {}}
        checkpoint.save(self._saver, self.done, self.state, record)

    def finish(self) -> None:
        checkpoint.finish(self._saver)

    @contextlib.contextmanager
    def opened(self) -> Iterator["Each"]:
        """With its checkpoints and a progress bar."""
        with (
            checkpoint.open_checkpoints(self._folder, 1, 0, {}) as self._saver,
            progress_bar(self._console) as self._bar,
        ):
            side = self._group.boards[0][0]
            tasks = len(self._group.places)
            self._bar_task = self._bar.add_task(f"{tasks} x {side}x{side}", total=None, news=())
            yield self
