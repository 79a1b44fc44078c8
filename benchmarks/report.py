"""`drm report` of 400 tasks with 16 denoising steps each: time, size, and how fast the page is.

    python -m benchmarks.report

The tasks are those of ARC-AGI-1's evaluation half, each test input with 4 candidates. Their answers
are made up: the truth, of which a share of cells is wrong that falls from a half to a fiftieth over
the steps, with noise in masks and confidence. The page's figures need playwright and a Chromium
(make browser); without them they are NaN.
"""

import dataclasses
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.browser import launch
from benchmarks.harness import Column

_STEPS, _CANVAS = 16, 30
_DRAWN = "() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
_FILTER = """i => new Promise(done => {
  const before = performance.now();
  document.querySelectorAll("#outcomes button")[i].click();
  document.body.offsetHeight;
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - before), 0));
})"""


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--augmentations", type=int, default=3, help="beside the identity")
    options = parser.parse_args()
    harness.report(
        "A report of 400 tasks",
        harness.measure_all(
            "benchmarks.report", [{"augmentations": options.augmentations}], options.rounds
        ),
        [
            Column("candidates kept", lambda r: f"{r['kept']}"),
            Column("answers and trajectories, MB", lambda r: f"{r['files']:.1f}"),
            Column("drm report, s", lambda r: f"{r['seconds']:.1f}"),
            Column("report.html, MB", lambda r: f"{r['size']:.1f}"),
            Column("first view, s", lambda r: f"{r['view']:.2f}"),
            Column("slowest filter, ms", lambda r: f"{r['filter']:.0f}"),
            Column("a task opened, s", lambda r: f"{r['task']:.2f}"),
        ],
        options,
    )


def child(case: dict[str, Any]) -> dict[str, Any]:
    """The figures of one round."""
    from etils import epath

    from drm_jax.evaluate.files import evaluation_folder, write_evaluation
    from drm_jax.report.write import write_report
    from drm_jax.run.workdir import claim

    with tempfile.TemporaryDirectory() as folder:
        workdir = epath.Path(folder)
        experiment, evaluation = made_up(case["augmentations"])
        claim(workdir, experiment)
        written = write_evaluation(evaluation_folder(workdir, evaluation.steps), evaluation)
        before = time.perf_counter()
        path = write_report([workdir])
        seconds = time.perf_counter() - before
        return {
            "kept": len(evaluation.trajectories),
            "files": sum(p.stat().length for p in written if p.suffix in (".gz", ".npz")) / 1e6,
            "seconds": seconds,
            "size": path.stat().length / 1e6,
            **page_figures(Path(path)),
        }


def made_up(augmentations: int) -> tuple[Any, Any]:
    """An experiment, and an evaluation of it without a network."""
    from drm_jax.config import Evaluate, Experiment
    from drm_jax.evaluate.loop import evaluate
    from drm_jax.methods.method import Answered
    from drm_jax.puzzles.arc.augment import augment
    from drm_jax.puzzles.arc.family import Arc
    from drm_jax.puzzles.arc.tokens import to_tokens
    from drm_jax.run.setup import set_up

    experiment = Experiment(
        "report",
        data=Arc(train=(), evaluate=("arc1/evaluation",), num_augmentations=augmentations),
        evaluate=Evaluate(batch_size=64, denoise_steps=_STEPS),
    )
    setup, mask = set_up(experiment), experiment.data.vocabulary.mask
    tasks, ids = setup.puzzles.tasks, setup.puzzles.ids
    wrong_N = np.geomspace(0.5, 0.02, _STEPS)[:, None, None]
    masked_N = np.linspace(1, 0, _STEPS)[:, None, None]

    def answer(_: Any, batch: Any) -> Any:
        id_B, row_B = (np.asarray(batch[name]).tolist() for name in ("puzzle_id", "row"))
        rng = np.random.default_rng(row_B[0])
        truths = []
        for i in id_B:
            truth = augment(tasks[ids.task[i]].tests[0].output, ids.augmentation(i))
            truths.append(to_tokens(truth, _CANVAS))
        truth_BxS = np.array(truths)
        draw = rng.random((_STEPS, *truth_BxS.shape), np.float32)
        other = rng.integers(2, mask, draw.shape, np.uint8)
        wrong = (draw < wrong_N) & (truth_BxS > 1)
        predicted = np.where(wrong, other, truth_BxS)
        hidden = rng.random(draw.shape, np.float32) < masked_N
        tokens = np.where(hidden, mask, np.roll(predicted, 1, axis=0)).astype(np.uint8)
        sure = np.where(wrong, 40 + 60 * draw, 100 - 10 * draw * wrong_N).astype(np.uint8)
        q_halt = rng.normal(size=draw.shape[:2]).astype(np.float32)
        used = np.full(len(row_B), _STEPS)
        return Answered(predicted[-1], q_halt[-1], predicted, tokens, q_halt, sure, used)

    state = dataclasses.make_dataclass("State", ["step"])(1000)
    return experiment, evaluate(experiment, answer, state, setup.mesh, setup.puzzles)


def page_figures(path: Path) -> dict[str, float]:
    """How fast the page is in a browser; NaN where there is none."""
    nothing = {"view": math.nan, "filter": math.nan, "task": math.nan}
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return nothing
    with sync_playwright() as play:
        browser = launch(play)
        if browser is None:
            return nothing
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        before = time.perf_counter()
        page.goto(path.as_uri())
        page.evaluate(_DRAWN)
        view = time.perf_counter() - before
        buttons = page.locator("#outcomes button").count()
        slowest = max(page.evaluate(_FILTER, i % buttons) for i in range(2 * buttons))
        page.evaluate(_FILTER, 0)  # all of them again
        before = time.perf_counter()
        page.evaluate("() => document.querySelector('.card').click()")
        page.wait_for_selector(".facts:not(:empty)")
        opened = time.perf_counter() - before
        browser.close()
    return {"view": view, "filter": slowest, "task": opened}


if __name__ == "__main__":
    harness.run(main, child)
