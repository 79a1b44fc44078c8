"""The library: docs/library.md runs as it stands, and the program around it is left as it was."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from workdirs import log_lines

import drm_jax
from drm_jax import api
from drm_jax.io import checkpoint

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "library.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
SMALLER = {
    '"train.steps": 200': '"train.steps": 4, "model.hidden": 16, "data.num_augmentations": 1',
}
"""What is put in place of the page's numbers, so that its run takes seconds."""
UNKNOWN = {
    "train": [{"input": [[1, 2], [2, 1]], "output": [[2, 1], [1, 2]]}],
    "test": [{"input": [[1, 1], [2, 2]]}, {"input": [[3, 1], [2, 2]]}],
}


def is_a_picture(png: bytes) -> bool:
    """Whether it is a PNG with more than one colour."""
    with Image.open(io.BytesIO(png)) as picture:
        return picture.format == "PNG" and len(picture.getcolors(2**24)) > 2


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    return drm_jax.train(tiny, tmp_path_factory.mktemp("library") / "first")


@pytest.fixture
def asked(monkeypatch):
    """The state and the questions of each `answer`."""
    seen, answer = [], api.answer_rollouts

    def spy(experiment, answer_batch, state, mesh, questions):
        seen.append((state, questions))
        return answer(experiment, answer_batch, state, mesh, questions)

    monkeypatch.setattr(api, "answer_rollouts", spy)
    return seen


def test_the_page(tmp_path, monkeypatch):
    """Every snippet, one after the other in one namespace, as in a notebook."""
    (tmp_path / "experiments").mkdir()
    shutil.copy(ROOT / "experiments" / "demo.py", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    assert len(SNIPPETS) == PAGE.count("```python")
    namespace, code = {}, "\0".join(SNIPPETS)
    for text, instead in SMALLER.items():
        assert text in code
        code = code.replace(text, instead)
    for number, snippet in enumerate(code.split("\0"), 1):
        exec(compile(snippet, f"snippet {number} of docs/library.md", "exec"), namespace)
    assert namespace["run"].steps[-1] == 4
    assert namespace["experiment"].name == "mine"
    assert namespace["answers"].task == "25d8a9c8"
    assert (tmp_path / "runs" / "quick" / "report.html").exists()


def test_importing_it_imports_nothing_else():
    code = "import sys, drm_jax; print([m for m in ('jax', 'numpy', 'rich') if m in sys.modules])"
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert printed == "[]\n"
    assert set(drm_jax.__all__) <= set(dir(drm_jax))
    for name in drm_jax.__all__:
        assert getattr(drm_jax, name)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        drm_jax.trian  # noqa: B018


HOST = """
import json, logging, os, signal, sys, threading, time, warnings
from pathlib import Path

def host():
    names = ["", "absl", "asyncio", "concurrent.futures", "gcsfs", *logging.root.manager.loggerDict]
    levels = {name: logging.getLogger(name).level for name in names if "drm_jax" not in name}
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return {
        "handlers of signals": [signal.getsignal(number) for number in numbers],
        "filters": list(warnings.filters), "levels": levels, "root": list(logging.root.handlers),
        "hooks": [sys.excepthook, sys.unraisablehook, threading.excepthook],
    }

import jax, orbax.checkpoint, grain, tensorboardX
logging.getLogger("absl").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", "of the host")
signal.signal(signal.SIGTERM, lambda *_: None)
before = host()

import dataclasses
from tiny import TINY
import drm_jax
from drm_jax.io.files import work_path

def unchanged(what):
    now = host()
    for name, value in before.items():
        mine = {k: now[name][k] for k in value} if name == "levels" else now[name]
        assert mine == value, (what, name, value, mine)

folder = Path(sys.argv[1])
run = drm_jax.train(TINY, folder / "alone")
unchanged("train")
run.evaluate(denoise_steps=2)
unchanged("evaluate")
run.answer("25d8a9c8")
unchanged("answer")
run.report()
unchanged("report")
work_path("gs://bucket/runs/x")
unchanged("bucket")

def interrupt():
    while not (folder / "stopped" / "metrics.jsonl").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
longer = dataclasses.replace(TINY, train=dataclasses.replace(TINY.train, steps=10**6))
try:
    drm_jax.train(longer, folder / "stopped")
except drm_jax.StoppedError as error:
    assert "is saved" in str(error)
else:
    raise AssertionError("was not stopped")
unchanged("StoppedError")
"""


def results(workdir) -> list:
    """Scores, log and checksums of a finished run."""
    metrics = json.loads((workdir / "eval" / "step_4" / "metrics.json").read_text())
    checksums = [checkpoint.read_record(workdir, step)["checksums"] for step in (2, 4)]
    return [metrics, checksums, log_lines(workdir)]


def test_a_second_run_is_as_good_as_one_of_a_process_of_its_own(tiny, run, tmp_path):
    """Which also finds the program around it as it was."""
    pytest.importorskip("gcsfs")
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    host = subprocess.run(
        [sys.executable, "-c", HOST, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert host.returncode == 0, host.stderr
    second = drm_jax.train(tiny, tmp_path / "second")
    alone = drm_jax.open_run(tmp_path / "alone")
    assert results(second.workdir) == results(run.workdir) == results(alone.workdir)


def test_training_again_does_nothing(tiny, run):
    before = results(run.workdir)
    assert drm_jax.train(tiny, run.workdir).steps == [2, 4]
    assert results(run.workdir) == before


def test_scores(run, tiny):
    one, listed = run.evaluate(2), run.evaluate([2])
    assert (one.step, one.metrics) == (2, listed.metrics)
    both = run.evaluate(steps=[4, 2], num_augmentations=0)
    assert both.is_ensemble
    assert both.metrics["candidates"] == 2 * 3
    assert run.evaluate().metrics == results(run.workdir)[0]
    assert repr(one).startswith("Evaluation of 2: pass@1 ")
    assert "25d8a9c8" in both._repr_html_()
    assert "ensemble of steps 2, 4" in both._repr_html_()


def test_curves(run):
    curve = run.curve("depth", (3, 1), 2, num_augmentations=0)
    assert [point.at for point in curve.points] == [1, 3]
    alone = run.evaluate(2, num_augmentations=0, denoise_steps=1).metrics
    assert curve.points[0].scores["pass@2"] == alone["pass@2"]
    assert "3 test inputs, step 2" in curve._repr_html_()


def grids(answers) -> list:
    return [[a.grid.tolist() for a in test.answers] for test in answers.tests]


def test_a_task_of_the_run_in_all_its_forms(run, tmp_path):
    task = drm_jax.load_tasks("arc1/training")["44f52bb0"]
    pairs = {
        kind: [{"input": p.input.tolist(), "output": p.output.tolist()} for p in pairs]
        for kind, pairs in (("train", task.task.demonstrations), ("test", task.task.tests))
    }
    path = tmp_path / "renamed.json"
    path.write_text(json.dumps(pairs))
    first = run.answer("44f52bb0")
    assert len(first.tests) == 2
    np.testing.assert_array_equal(first.tests[1].truth, task.task.tests[1].output)
    assert sum(a.votes for a in first.tests[0].answers) <= 4  # identity and three augmentations
    for form in (task, pairs, path, str(path)):
        answers = run.answer(form)
        assert (answers.task, grids(answers)) == ("44f52bb0", grids(first))
    assert grids(run.answer("44f52bb0", step=2, num_augmentations=0)) != grids(first)


def test_an_unknown_task_is_asked_with_the_mean_row(run, asked):
    answers = run.answer(UNKNOWN)
    ((state, questions),) = asked
    _, id_N = questions.rows(np.arange(questions.count), (4, 4))
    np.testing.assert_array_equal(id_N, 0)
    table = jax.device_get(state.table)
    np.testing.assert_allclose(table[0], table[1:9].mean(0), rtol=1e-5)  # 2 tasks of 4 ids each
    assert [test.truth for test in answers.tests] == [None, None]
    np.testing.assert_array_equal(answers.tests[1].question, [[3, 1], [2, 2]])


def test_a_second_question_compiles_nothing(run, caplog):
    run = drm_jax.open_run(run.workdir)

    def compiled(task) -> list[str]:
        caplog.clear()
        with jax.log_compiles():
            run.answer(task)
        return [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling")]

    assert compiled("25d8a9c8")
    assert compiled("44f52bb0") == []
    assert compiled(UNKNOWN) == []


def test_a_newer_checkpoint_is_noticed(run, asked, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(run.workdir, workdir)
    (workdir / "checkpoints" / "4").rename(tmp_path / "later")
    copy = drm_jax.open_run(workdir)
    copy.answer("25d8a9c8")
    (tmp_path / "later").rename(workdir / "checkpoints" / "4")
    copy.answer("25d8a9c8")
    copy.answer("25d8a9c8", step=2)
    assert [int(state.step) for state, _ in asked] == [2, 4, 2]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(run, asked, tmp_path, capsys):
    workdir = tmp_path / "copy"
    shutil.copytree(run.workdir, workdir)
    for path in (workdir / "checkpoints" / "4").rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(path.read_bytes()[:-100])
    drm_jax.open_run(workdir).answer("25d8a9c8")
    assert [int(state.step) for state, _ in asked] == [2]
    assert "damaged" in capsys.readouterr().out


def test_sudoku(tiny, tmp_path):
    experiment = drm_jax.with_changes(
        tiny,
        {"name": "sudoku", "train.steps": 1,
         "data": drm_jax.Sudoku(side=4, train_puzzles=8, test_puzzles=2)},
    )  # fmt: skip
    run = drm_jax.train(experiment, tmp_path / "run")
    answers = run.answer("1...\n..3.\n.4..\n...2")
    assert answers.tests[0].answers[0].grid.shape == (4, 4)
    assert answers.tests[0].question[0].tolist() == [1, 0, 0, 0]
    assert is_a_picture(answers.picture())
    assert run.answer("puzzle 1").tests[0].truth.shape == (4, 4)
    with pytest.raises(drm_jax.InputError, match="must be 4 rows of 4 characters"):
        run.answer("1...\n..3.\n.4..")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda run: run.curve("width"), "UsageError", "depth or breadth, not 'width'"),
        (lambda run: run.curve("breadth", ()), "UsageError", "points: name one at least"),
        (lambda run: run.evaluate(denoise_step=3), "UsageError", "did you mean denoise_steps"),
        (lambda run: run.answer(UNKNOWN, outsid="x"), "UsageError", "did you mean outside"),
        (lambda run: run.answer(UNKNOWN, denoise_steps=0), "UsageError", "evaluate.denoise_steps"),
        (lambda run: run.evaluate(steps=[]), "UsageError", "name at least one checkpoint"),
        (lambda run: run.evaluate(3), "InputError", "no checkpoint of step 3; there are 2, 4"),
        (lambda run: run.evaluate([2, 3]), "InputError", "no checkpoint of step 3"),
        (lambda run: run.answer(UNKNOWN, step=3), "InputError", "no checkpoint of step 3"),
        (lambda run: run.answer("25d8a9c9"), "InputError", "neither the id of a task of this run"),
        (lambda run: run.answer({"train": []}), "InputError", "the task"),
        (lambda _: drm_jax.open_run("nowhere"), "InputError", "nowhere"),
        (lambda _: drm_jax.open_run("s3://x/y"), "UsageError", "only gs:// buckets"),
        (lambda _: drm_jax.load_tasks("nowhere"), "InputError", "nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run, call, error, message):
    with pytest.raises(getattr(drm_jax, error), match=message) as raised:
        call(run)
    assert "\n" not in str(raised.value)


def test_a_run_without_a_checkpoint(run, tmp_path):
    shutil.copy(run.workdir / "config.json", tmp_path)
    empty = drm_jax.open_run(tmp_path)
    assert repr(empty).endswith("no checkpoint")
    assert "svg" not in empty._repr_html_()
    with pytest.raises(drm_jax.InputError, match="holds no checkpoint yet"):
        empty.answer(UNKNOWN)


def test_what_a_notebook_shows(run):
    answers, task = run.answer("25d8a9c8"), drm_jax.load_tasks("arc1/training")["25d8a9c8"]
    assert is_a_picture(answers._repr_png_())
    assert is_a_picture(task._repr_png_())
    assert repr(task) == "ARC task 25d8a9c8: 4 demonstrations, 1 test input"
    assert re.fullmatch(
        r"Answers to task 25d8a9c8; votes of the first two: \d(/\d)?", repr(answers)
    )
    assert repr(run) == f"Run tiny (drm) in {run.workdir}: step 4 of 4"
    shown = run._repr_html_()
    assert shown.count("<svg") == 2  # the loss, and pass@2
    assert "<polyline" in shown


TOUR = ROOT / "docs" / "tour.ipynb"


def test_the_tour(tmp_path):
    """Every cell, with the few steps of another "parameters" cell."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(TOUR, as_version=4)
    (parameters,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    names = re.findall(r"^(\w+) = \d+", parameters.source, re.M)
    assert names == ["steps", "sudoku_steps"]
    parameters.source = "steps = sudoku_steps = 1"
    there = {"metadata": {"path": str(tmp_path)}}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    client = nbclient.NotebookClient(notebook, timeout=None, resources=there)
    client.execute(env=os.environ | {"PYTHONPATH": path})
    shown = [o for c in notebook.cells for o in c.get("outputs", []) if o.output_type != "stream"]
    assert sum("image/png" in output.data for output in shown) == 4
    assert any("<svg" in output.data.get("text/html", "") for output in shown)
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"tour", "tour_sudoku"}


def test_the_tour_can_be_read_as_it_is():
    """It is kept with its outputs: all cells were executed in order, and none raised."""
    notebook = json.loads(TOUR.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert TOUR.stat().st_size < 300_000
    assert "/tmp/" not in TOUR.read_text()
