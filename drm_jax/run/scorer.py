"""Scores states of a run and writes what comes of it, in training and outside of it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from rich.progress import Progress

from drm_jax.config import Experiment
from drm_jax.evaluate.answerer import AnswerBatch
from drm_jax.evaluate.answers import unpack
from drm_jax.evaluate.curves import Curve, Kind, curve_file, curve_text
from drm_jax.evaluate.files import Evaluation, evaluation_folder, write_evaluation
from drm_jax.evaluate.loop import evaluate, evaluate_together
from drm_jax.evaluate.pictures import answer_rows, image, legend, png
from drm_jax.evaluate.sweep import breadth_curve, depth_curve
from drm_jax.io.files import write_whole
from drm_jax.io.metrics import MetricsLog
from drm_jax.parallel import processes
from drm_jax.run.setup import Setup, answerer
from drm_jax.runtime.stop import StopTogether
from drm_jax.training.state import TrainState
from drm_jax.words import counted

_LOGGED = ("pass@", "solved@", "exact", "candidates", "cell_accuracy")
"""How the names of scores begin that metrics.jsonl holds."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a job leaves: every evaluation it made, newest last, and the files it wrote."""

    setup: Setup
    evaluations: tuple[Evaluation, ...]
    paths: tuple[epath.Path, ...]
    changed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of the test that are not the run's own, by name of the field."""


class Scorer:
    """Evaluates states, and writes what comes of it."""

    def __init__(
        self,
        setup: Setup,
        workdir: epath.Path,
        log: MetricsLog | None,
        bar: Progress,
        stop: StopTogether,
        changed: Mapping[str, Any],
    ):
        """Args:
        changed: settings of the test that are not the run's own, by name of the field.
        """
        self.setup, self.workdir, self.log, self.bar, self.stop = setup, workdir, log, bar, stop
        self.changed = changed
        self.evaluations: list[Evaluation] = []
        self.paths: list[epath.Path] = []
        self.answer_batch = answerer(setup)

    def score(self, state: TrainState) -> None:
        """Scores a state, writes its files, and logs it last: a line says that all is there."""
        setup, step = self.setup, int(state.step)
        with self.progress(f"step {step}", setup.experiment.evaluate.rollouts) as wrap:
            result = evaluate(
                setup.experiment, self.answer_batch, state, setup.mesh, setup.puzzles, wrap
            )
        self.evaluations = [*(of.without_details() for of in self.evaluations), result]
        self._write(result, "denoising.png")
        numbers = {k: v for k, v in result.metrics.items() if k.startswith(_LOGGED)}
        if self.log:
            self.log.scalars(result.step, "eval", numbers)
            self.log.publish()

    def score_together(self, steps: Sequence[int], restore: Callable[[int], TrainState]) -> None:
        """Scores checkpoints and their ensemble; only the files of the ensemble are written."""
        setup = self.setup
        rollouts = len(steps) * setup.experiment.evaluate.rollouts
        what = f"the ensemble of {counted(len(steps), 'checkpoint')}"
        with self.progress(what, rollouts) as wrap:
            results = evaluate_together(
                setup.experiment, self.answer_batch, steps, restore, setup.mesh, setup.puzzles, wrap
            )
        self.evaluations += results
        self._write(results[-1], f"denoising_step_{steps[-1]}.png")

    def draw_curve(self, state: TrainState, kind: Kind, points: Sequence[int]) -> Curve:
        """How the score of a state changes with passes, or rollouts; writes it."""
        setup = self.setup
        experiment = setup.experiment
        of = state, setup.mesh, setup.puzzles, points
        depth = kind == "depth"
        rounds = len(points) * experiment.evaluate.rollouts if depth else points[-1]
        with self.progress(f"the curve of {kind}", rounds) as wrap:
            if depth:
                curve = depth_curve(experiment, self._answerer_of, *of, wrap)
            else:
                curve = breadth_curve(experiment, self.answer_batch, *of, wrap)
        if processes.is_first():
            folder = evaluation_folder(self.workdir, (curve.step,), self.changed)
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / curve_file(kind), curve_text(curve))
            self.paths.append(folder / curve_file(kind))
        return curve

    def _answerer_of(self, experiment: Experiment) -> AnswerBatch:
        return answerer(dataclasses.replace(self.setup, experiment=experiment))

    @contextlib.contextmanager
    def progress(
        self, what: str, rounds: int
    ) -> Iterator[Callable[[Iterable[Any], int], Iterable[Any]]]:
        """One bar over the batches of so many rounds of all candidates, between which a stop is
        looked for."""
        task = self.bar.add_task("evaluate", total=None, news=())
        done = most = 0

        def wrap(batches: Iterable[Any], left: int) -> Iterable[Any]:
            nonlocal done, most
            most = max(most, done + left if done else left * rounds)
            self.bar.update(task, total=most)
            for batch in batches:
                if self.stop.now():
                    kept = "; all training up to it is saved" if self.log else ""
                    raise self.stop.error(f" while {what} was evaluated{kept}")
                yield batch
                done += 1
                self.bar.update(task, completed=done)

        yield wrap
        self.bar.remove_task(task)

    def _write(self, result: Evaluation, picture_name: str) -> None:
        if not processes.is_first():  # the first one has the trajectories, and writes
            return
        folder = evaluation_folder(self.workdir, result.steps, self.changed)
        self.paths += write_evaluation(folder, result)
        if not result.pictured:
            return
        family = self.setup.experiment.data
        pictured = [unpack(packed) for packed in result.pictured]
        rows = [
            row
            for of in pictured
            for row in answer_rows(result.answers.task(of.task), of.test, [of], family, 10)
        ]
        picture_HxWx3 = image(rows, family, legend=legend(result.answers, pictured, family))
        path = folder / picture_name
        write_whole(path, png(picture_HxWx3))
        self.paths.append(path)
        if self.log:
            self.log.picture(result.step, "eval/denoising", picture_HxWx3)
