"""The library: train, open a run, score it, ask it. The commands do the same for the shell.

    import drm_jax
    run = drm_jax.train(experiment, "runs/mine")      # or drm_jax.open_run("runs/demo")
    run.evaluate(denoise_steps=4).metrics
    run.answer("0d3d703e")

`drm_jax` imports this module when one of its names is first used: it imports jax.
"""

import dataclasses
import functools
import html
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
from etils import epath
from rich.console import Console

from drm_jax.config import Experiment, part_name
from drm_jax.errors import InputError, UsageError
from drm_jax.evaluate.answerer import AnswerBatch
from drm_jax.evaluate.answers import Trajectory, unpack
from drm_jax.evaluate.curves import POINTS, Curve, Kind
from drm_jax.evaluate.files import Evaluation
from drm_jax.evaluate.loop import answer_rollouts
from drm_jax.evaluate.pictures import (
    Ranked,
    Row,
    asked_of,
    attempts_row,
    candidate_row,
    grids_row,
    image,
    png,
)
from drm_jax.io import checkpoint
from drm_jax.io.files import work_path
from drm_jax.io.metrics import read_metrics
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.puzzles import ArcPuzzles
from drm_jax.puzzles.arc.tasks import Task, load_source
from drm_jax.puzzles.boards import grid_of
from drm_jax.references import did_you_mean
from drm_jax.report.curves import curve
from drm_jax.report.write import write_report
from drm_jax.run import loop
from drm_jax.run.evaluation import (
    check_points,
    draw_curve,
    evaluate_ensemble,
    evaluate_workdir,
    name_settings,
    read_to_evaluate,
)
from drm_jax.run.setup import Setup, answerer, load_puzzles, set_up_to_evaluate
from drm_jax.run.start import restore_own
from drm_jax.run.workdir import read_config
from drm_jax.runtime.devices import prepare_devices
from drm_jax.runtime.quiet import quiet_libraries
from drm_jax.solve.adapt import Adapt
from drm_jax.solve.asked import write_tasks
from drm_jax.solve.request import Request
from drm_jax.solve.solve import solve
from drm_jax.training.state import TrainState, mean_row
from drm_jax.words import counted


def train(
    experiment: Experiment,
    workdir: os.PathLike | str | None = None,
    *,
    strict: bool = False,
    changing: Sequence[str] = (),
    begin_anew: bool = False,
) -> "Run":
    """Trains an experiment to its last step, going on from its newest checkpoint if there is one.

    Prints progress. An interrupt (the stop button of a notebook) saves first.

    Args:
      workdir: where everything of the run is kept; runs/NAME by default.
      strict: refuse to go on from a damaged checkpoint, instead of using the one before.
      changing: options in which the experiment may differ from that of the run so far, from its
        next step on: "train.batch_size", and those that begin "optimizer." or "method.noise.".
      begin_anew: begin at step 0; what the work directory has of a run is kept in before/.

    Raises:
      UsageError: the work directory belongs to another experiment, or something can't work.
      InputError: bad puzzles, a checkpoint that can't be used, a loss that is not finite.
      StoppedError: it was interrupted; the state is saved, and the same call goes on.
    """
    path = work_path(workdir if workdir is not None else f"runs/{experiment.name}")
    prepare_devices()
    with quiet_libraries():
        loop.train(experiment, path, _console(), strict=strict, changing=changing, anew=begin_anew)
    return Run(path)


def open_run(workdir: os.PathLike | str) -> "Run":
    """A run by its work directory.

    Raises:
      InputError: it is not one.
    """
    path = work_path(workdir)
    read_config(path)
    return Run(path)


def _console() -> Console:
    """On standard output. In a notebook lines of plain text: rich's own way needs ipywidgets, and
    a bar that moves would be kept there in all its states."""
    plain = False if Console().is_jupyter else None
    return Console(
        highlight=False, markup=False, emoji=False, force_jupyter=False, force_terminal=plain
    )


class Run:
    """A run in a work directory. A notebook shows its curves."""

    def __init__(self, workdir: epath.Path):
        """Args:
        workdir: from `io.files.work_path`; use `open_run`.
        """
        self.workdir = workdir
        self._prepared = functools.lru_cache(maxsize=4)(self._prepare)
        self._restored = functools.lru_cache(maxsize=1)(self._restore)

    @property
    def experiment(self) -> Experiment:
        """What was run."""
        return read_config(self.workdir)

    @property
    def steps(self) -> list[int]:
        """The steps of its checkpoints, ascending."""
        return checkpoint.steps_in(checkpoint.checkpoint_folder(self.workdir))

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return read_metrics(self.workdir)

    def evaluate(
        self,
        steps: int | Sequence[int] | None = None,
        *,
        output: os.PathLike | str | None = None,
        **settings: Any,
    ) -> Evaluation:
        """Scores a checkpoint, or an ensemble of several, and writes the files of the evaluation.

        Args:
          steps: of the checkpoint; several: each is scored, and the votes of all are pooled; None:
            the newest one.
          output: a folder to write to instead of the work directory.
          settings: other settings of the test than the run's own, by their names in
            `config.Evaluate` and `method.denoising`: denoise_steps=4, num_augmentations=0,
            remask="confidence", …

        Raises:
          UsageError: there is no such setting, or a value can't be.
          InputError: there is no such checkpoint, or it is damaged.
        """
        changes = name_settings(self.experiment, settings)
        read_to_evaluate(self.workdir, changes)
        chosen = sorted(set(steps)) if isinstance(steps, Iterable) else [steps]
        if not chosen:
            raise UsageError("steps: name at least one checkpoint, or None for the newest")
        prepare_devices()
        options = {"changes": changes, "output": None if output is None else work_path(output)}
        with quiet_libraries():
            if len(chosen) > 1:
                report = evaluate_ensemble(self.workdir, chosen, _console(), **options)
            else:
                report = evaluate_workdir(self.workdir, chosen[0], _console(), **options)
        return report.evaluations[-1]

    def curve(
        self,
        kind: Kind,
        points: Sequence[int] = POINTS,
        step: int | None = None,
        *,
        output: os.PathLike | str | None = None,
        **settings: Any,
    ) -> Curve:
        """Scores a checkpoint with more and more thinking, and writes the file of the curve.

        Args:
          kind: "depth", other numbers of passes, each a test of its own; "breadth", so many
            rollouts of each candidate, by how an answer is chosen.
          points: the numbers.
          step, output, settings: as of `evaluate`, for one checkpoint.

        Raises:
          UsageError, InputError: as `evaluate`.
        """
        if kind not in (kinds := get_args(Kind)):
            raise UsageError(f"kind: must be {' or '.join(kinds)}, not {kind!r}")
        changes = name_settings(self.experiment, settings)
        points = check_points(self.workdir, kind, points, changes)
        prepare_devices()
        place = None if output is None else work_path(output)
        with quiet_libraries():
            curve, _ = draw_curve(
                self.workdir, kind, step, _console(), points=points, changes=changes, output=place
            )
        return curve

    def answer(
        self,
        task: Any,
        step: int | None = None,
        *,
        minutes: float | None = None,
        **settings: Any,
    ) -> "Answers":
        """Answers the test inputs of a task.

        A task that the run was trained with keeps its puzzle rows; any other one is answered with
        the mean of all rows, which is a guess: nothing is learned from its demonstrations, unless
        there are minutes for it. The first call compiles; the program and the checkpoint are kept
        for those that follow.

        Args:
          task: of ARC the id of a task of the run, a dict as an ARC JSON file has it, the path of
            such a file, or one of `load_tasks`; of other families their own form.
          step: of the checkpoint; the newest by default.
          minutes: adapts a copy of the newest weights to the demonstrations of an ARC task before,
            as `drm solve` does, and takes about so long.
          settings: as of `evaluate`; with minutes those of `solve.adapt.Adapt`.

        Raises:
          UsageError: there is no such setting, or a value can't be.
          InputError: the task can't be read, or there is no such checkpoint.
        """
        if minutes is not None:
            return self._answer_adapted(task, step, minutes, settings)
        changes = name_settings(self.experiment, settings)
        experiment = read_to_evaluate(self.workdir, changes)
        newest = checkpoint.existing_step(self.workdir, step)
        with quiet_libraries():
            setup, answer_batch = self._prepared(experiment)
            state = self._restored(experiment, step, newest)
            asked = task.task if isinstance(task, ArcTask) else task
            questions = setup.puzzles.ask(asked, experiment.evaluate.num_augmentations)
            judged = answer_rollouts(experiment, answer_batch, state, setup.mesh, questions)
        trajectories = [unpack(packed) for packed in judged.trajectories]
        (described,) = judged.judge.answers()
        return _answers(experiment, described, trajectories)

    def _answer_adapted(
        self, task: Any, step: int | None, minutes: float, settings: Mapping[str, Any]
    ) -> "Answers":
        known = [field.name for field in dataclasses.fields(Adapt)]
        for name in settings:
            if name not in known:
                meant = did_you_mean(name, known)
                raise UsageError(
                    f"{name}: there is no such setting of an adaptation{meant}; known are "
                    f"{', '.join(known)}"
                )
        if step is not None:
            raise UsageError("step: with minutes the newest checkpoint is adapted")
        puzzles = load_puzzles(self.experiment, self.workdir)
        if not isinstance(puzzles, ArcPuzzles):
            raise UsageError("minutes: only runs of ARC tasks can be adapted")
        asked = puzzles.task_of(task.task if isinstance(task, ArcTask) else task)
        prepare_devices()
        with tempfile.TemporaryDirectory() as folder, quiet_libraries():
            file = write_tasks(work_path(folder), [asked])
            request = Request(
                (str(file),), weights=str(self.workdir), minutes=minutes, adapt=Adapt(**settings)
            )
            outcome = solve(request, work_path(folder) / "solve", _console())
            experiment = read_config(outcome.folder)
        if outcome.judged is None:
            raise InputError(f"task {asked.id}: doesn't fit the canvas of this run")
        (described,) = outcome.judged.judge.answers()
        return _answers(experiment, described, [])

    def report(self) -> epath.Path:
        """Writes report.html of the newest evaluation; its path."""
        return write_report([self.workdir])

    def _prepare(self, experiment: Experiment) -> tuple[Setup, AnswerBatch]:
        """What answers are made with, but for the checkpoint."""
        prepare_devices()
        setup = set_up_to_evaluate(experiment, _console().print, self.workdir)
        return setup, answerer(setup)

    def _restore(self, experiment: Experiment, step: int | None, newest: int) -> TrainState:
        """The state of a checkpoint; its blank row, which no puzzle has, is the mean of all in use.

        Args:
          newest: the newest checkpoint where `step` is None: with a newer one, it is read anew. If
            that one is damaged, the one before is used.
        """
        setup, _ = self._prepared(experiment)
        state = restore_own(setup, self.workdir, False, _console().print, step).state
        row_D = mean_row(state.table, setup.puzzles.num_ids)
        table = state.table.at[0].set(row_D.astype(state.table.dtype))
        return state.replace(table=table)

    def __repr__(self) -> str:
        experiment, steps = self.experiment, self.steps
        where = f"step {steps[-1]:,} of {experiment.train.steps:,}" if steps else "no checkpoint"
        method = part_name("method", experiment.method)
        return f"Run {experiment.name} ({method}) in {self.workdir}: {where}"

    def _repr_html_(self) -> str:
        log, headline = self.log, self.experiment.data.headline
        charts = []
        for title, kind, field in (("loss", "train", "loss"), (headline, "eval", headline)):
            points = [
                (line["step"], line[field])
                for line in log
                if line["kind"] == kind and line.get(field) is not None
            ]
            chart = curve({"": points}, percent=title != "loss")
            charts += [_svg(title, chart)] if chart else []
        return f"<p>{html.escape(repr(self))}</p>{''.join(charts)}"


def _svg(title: str, chart: Mapping[str, Any]) -> str:
    """A chart of `report.curves.curve` as a picture of its own."""
    ticks = [(x, chart["bottom"] + 16, "middle", text) for (x, _), text in chart["x_ticks"]]
    ticks += [(40, y + 4, "end", text) for (_, y), text in chart["y_ticks"]]
    texts = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'
        for x, y, anchor, text in ticks
    )
    lines = "".join(
        f'<polyline points="{line["points"]}" fill="none" stroke="#0074D9" stroke-width="2"/>'
        f'<circle cx="{line["end"][0]}" cy="{line["end"][1]}" r="3" fill="#0074D9"/>'
        for line in chart["lines"]
    )
    return (
        f'<figure style="display:inline-block"><figcaption>{html.escape(title)}</figcaption>'
        f'<svg width="{chart["width"]}" height="{chart["height"]}" font-size="11" '
        f'fill="currentColor">{texts}{lines}</svg></figure>'
    )


# --- answers ------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True, eq=False)
class Proposed:
    """One answer to a test input."""

    grid: np.ndarray
    """(h, w) uint8: indices into the family's `vocabulary.symbols`; of ARC, colours."""
    votes: int
    """Candidates (the test input under one augmentation each) that gave it."""
    score: float
    """Mean sigmoid of their halting logits."""
    valid: bool | None = None
    """Whether it keeps every rule of its puzzle; None where a family has no rules that tell."""


@dataclasses.dataclass(frozen=True, eq=False)
class AnsweredTest:
    """The answers to one test input, best first."""

    question: np.ndarray
    """(h, w) uint8, as `Proposed.grid`."""
    truth: np.ndarray | None
    """Likewise; None where it isn't known."""
    answers: tuple[Proposed, ...]
    """The best ones, and the right one wherever it stands."""
    candidates: int
    """How many voted."""
    trajectory: Trajectory | None
    """How the unaugmented candidate was answered, step by step."""


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """The answers to the test inputs of a task. A notebook shows them as a picture."""

    task: str
    tests: tuple[AnsweredTest, ...]
    experiment: Experiment

    def picture(self) -> bytes:
        """The test inputs, the attempts with their votes, the truths, and the denoising of the
        unaugmented candidates, as a PNG."""
        rows = [row for test in range(len(self.tests)) for row in self._rows(test)]
        return png(image(rows, self.experiment.data))

    def _rows(self, number: int) -> list[Row]:
        test, family = self.tests[number], self.experiment.data
        answers = [Ranked(of.grid, of.votes, of.valid) for of in test.answers]
        of_test = test.question, test.truth, test.candidates
        asked = asked_of(*of_test, answers, family.attempts)
        rows = [attempts_row(f"task {self.task}, test input {number + 1}", asked, family)]
        return rows + (
            [candidate_row(test.trajectory, asked, family, 10)] if test.trajectory else []
        )

    def _repr_png_(self) -> bytes:
        return self.picture()

    def __repr__(self) -> str:
        votes = ["/".join(str(a.votes) for a in test.answers[:2]) or "–" for test in self.tests]
        return f"Answers to task {self.task}; votes of the first two: {', '.join(votes)}"


def _answers(
    experiment: Experiment, task: Mapping[str, Any], trajectories: Sequence[Trajectory]
) -> Answers:
    """From what a judge tells of a task."""
    family = experiment.data
    symbols = family.vocabulary.symbols
    plain = [t for t in trajectories if not family.augmentation_name(t.augmentation_A)]
    first = {trajectory.test: trajectory for trajectory in reversed(plain)}
    tests = tuple(
        AnsweredTest(
            grid_of(test["input"], symbols),
            grid_of(test["output"], symbols),
            tuple(
                Proposed(
                    grid_of(answer["grid"], symbols),
                    answer["votes"],
                    answer["score"],
                    answer.get("valid"),
                )
                for answer in test["answers"]
            ),
            test["candidates"],
            first.get(number),
        )
        for number, test in enumerate(task["tests"])
    )
    return Answers(task["id"], tests, experiment)


# --- tasks --------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True, eq=False)
class ArcTask:
    """An ARC task. A notebook shows it as a picture."""

    task: Task

    @property
    def id(self) -> str:
        return self.task.id

    def picture(self) -> bytes:
        """The demonstrations and tests as a PNG."""
        family, rows = Arc(), []
        for kind, pairs in (("demonstration", self.task.demonstrations), ("test", self.task.tests)):
            for number, pair in enumerate(pairs):
                grids = [("input", pair.input)]
                grids += [("output", pair.output)] if pair.output is not None else []
                rows.append(grids_row(f"{kind} {number + 1}", grids, pair.input, family))
        return png(image(rows, family))

    def _repr_png_(self) -> bytes:
        return self.picture()

    def __repr__(self) -> str:
        shown = counted(len(self.task.demonstrations), "demonstration")
        asked = counted(len(self.task.tests), "test input")
        return f"ARC task {self.id}: {shown}, {asked}"


def load_tasks(source: str) -> dict[str, ArcTask]:
    """The ARC tasks of a source, by id.

    Args:
      source: arc1, arc1/training, …, rearc, a folder, a file: see `drm data --help`.

    Raises:
      InputError: it doesn't exist, or something in it is wrong.
    """
    return {task.id: ArcTask(task) for task in load_source(source)}
