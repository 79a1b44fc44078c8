"""An evaluation, and the folder that it is written to. Without jax."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from drm_jax.evaluate.answers import (
    ANSWERS,
    TRAJECTORIES,
    Answers,
    Packed,
    answers_bytes,
    trajectories_bytes,
)
from drm_jax.evaluate.tables import as_html, is_shown, score_table, task_table
from drm_jax.io.files import write_whole


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What one checkpoint answered, or several as an ensemble. A notebook shows its scores."""

    steps: tuple[int, ...]  # of the checkpoints, ascending
    metrics: dict[str, Any]
    submission: Mapping[str, Any]
    answers: Answers
    trajectories: tuple[Packed, ...]  # of the newest of them: what evaluate.trajectories keeps
    pictured: tuple[Packed, ...]  # of the newest: unaugmented, of the first test inputs

    @property
    def step(self) -> int:
        return self.steps[-1]

    @property
    def is_ensemble(self) -> bool:
        return len(self.steps) > 1

    def __repr__(self) -> str:
        shown = {k: x for k, x in self.metrics.items() if is_shown(k, self.metrics)}
        shares = {name: x for name, x in shown.items() if isinstance(x, float)}
        scores = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        return f"Evaluation of {', '.join(map(str, self.steps))}: {scores or 'no score'}"

    def _repr_html_(self) -> str:
        return as_html(score_table([self], {}), task_table(self))

    def without_details(self) -> "Evaluation":
        """Its scores alone: what is written and shown needs no room any more."""
        answers = dataclasses.replace(self.answers, tasks=())
        return dataclasses.replace(self, answers=answers, trajectories=(), pictured=())


def evaluation_folder(
    workdir: epath.Path, steps: Sequence[int], changed: Mapping[str, Any] | None = None
) -> epath.Path:
    """WORKDIR/eval/step_N, or steps_N_M of an ensemble; a short name also for many steps.

    Args:
      changed: what of the run's own settings was changed, by name: in the folder's name.
    """
    name = "_".join(map(str, steps))
    if len(name) > 100:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{steps[0]}_to_{steps[-1]}_{len(steps)}_of_them_{digest}"
    settings = "".join(f"_{field}={value}" for field, value in (changed or {}).items())
    return workdir / "eval" / f"step{'s' * (len(steps) > 1)}_{name}{settings}"


def evaluations(workdir: epath.Path) -> dict[int, epath.Path]:
    """The folders of evaluations of single checkpoints, by step, ascending."""
    folder = workdir / "eval"
    found = {}
    for path in folder.iterdir() if folder.exists() else ():
        match = re.fullmatch("step_([0-9]+)", path.name)
        if match and (path / "metrics.json").exists():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def other_evaluations(workdir: epath.Path, steps: Sequence[int] = ()) -> list[epath.Path]:
    """The folders of evaluations with other settings than the run's own, and of ensembles.

    Args:
      steps: of these checkpoints alone; none for any.
    """
    folder, own = workdir / "eval", evaluations(workdir).values()
    name = re.escape(evaluation_folder(workdir, steps).name) if steps else "steps?_[0-9].*?"
    return sorted(
        path
        for path in (folder.iterdir() if folder.exists() else ())
        if re.fullmatch(rf"{name}(_[a-z_]+=.*)?", path.name)
        and path not in own
        and (path / "metrics.json").exists()
    )


def settings_in(folder: epath.Path) -> str:
    """What of the run's own settings was changed for the evaluation in a folder, from its name;
    "" where nothing was."""
    found = re.search("_([a-z_]+=.*)", folder.name)
    return found[1] if found else ""


def write_evaluation(folder: epath.Path, evaluation: Evaluation) -> list[epath.Path]:
    """Writes scores, submission, answers and trajectories to a folder, from `evaluation_folder`.

    Returns their paths. Without trajectories, those of an evaluation before are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "submission.json": json.dumps(evaluation.submission) + "\n",
        ANSWERS: answers_bytes(evaluation.answers),
    }
    if evaluation.trajectories:
        contents[TRAJECTORIES] = trajectories_bytes(evaluation.trajectories)
    elif (folder / TRAJECTORIES).exists():
        (folder / TRAJECTORIES).unlink()
    # Last: where it is there, the others are.
    contents["metrics.json"] = json.dumps(evaluation.metrics, indent=2) + "\n"
    for name, content in contents.items():
        write_whole(folder / name, content)
    return [folder / name for name in contents]
