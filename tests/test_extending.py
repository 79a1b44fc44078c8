"""docs/extending.md: its code and its commands work; a wrong function gets one clear line."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from drm_jax.commands.main import main
from drm_jax.config import Experiment, Noise, from_json
from drm_jax.corruption.schedules import ratio_table
from drm_jax.data.stream import training_stream
from drm_jax.errors import UsageError
from drm_jax.methods.objectives import abstract_batch
from drm_jax.puzzles.arc.tokens import MASK
from drm_jax.references import is_reference
from drm_jax.run.setup import set_up

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = {name: code for code, name in re.findall(r"```python\n(# (\S+)\n.*?)```", PAGE, re.S)}
COMMANDS = [
    shlex.split(text.replace("\\\n", " "))
    for text in re.findall(r"^    (drm (?:.*\\\n)*.*)", PAGE, re.M)
]
TINY = shlex.split(
    "--train.steps 2 --train.batch-size 4 --train.log-every 1 --data.num-augmentations 1 "
    "--model.hidden 16 --model.layers 1 --model.cycles 1 --evaluate.batch-size 4 "
    "--evaluate.denoise-steps 2"
)

MINE = """
import jax.numpy as jnp
import numpy as np

NUMBER = 3
def slope(level_N): return level_N / 1000
def too_much(level_N): return level_N * 2.0
def three(level_N): return np.ones(3)
def falling(level_N): return 1 - level_N / 1000
def nan(level_N): return level_N * np.nan
def as_list(level_N): return [0.5] * 1000
def text(level_N): return np.array(["a"] * 1000)
def divides(level_N):
    return 1 // 0

def sums(**others):
    return {"loss": jnp.zeros(()), "exact_accuracy": jnp.zeros(()), **others}
def no_count(network, params, rows, constants, batch): return jnp.zeros(()), sums()
def no_sums(network, params, rows, constants, batch): return jnp.zeros(())
def vector(network, params, rows, constants, batch): return batch["weight"], sums()
def vector_sum(network, params, rows, constants, batch):
    return jnp.zeros(()), sums(count=batch["weight"])
def takes_step(network, params, rows, constants, batch):
    return jnp.zeros(()), sums(count=4, step=jnp.zeros(()))
def no_arrays(network, params, rows, constants, batch): return jnp.zeros(()), {"count": "four"}
def wrong_key(network, params, rows, constants, batch): return batch["tokens"].sum(), sums()
def looks(network, params, rows, constants, batch):
    if rows.sum() > 0: pass
def few(network, params): return jnp.zeros(()), sums()

PAIR = {"input": [[1, 2], [3, 4]], "output": [[1]]}
def listed(): return [PAIR]
def ragged(): return {"t": {"train": [{"input": [[1, 2], [3]], "output": [[1]]}], "test": [PAIR]}}
def arrays(): return {"t": {"train": [{**PAIR, "input": np.ones((2, 2))}], "test": [PAIR]}}
def raises():
    raise RuntimeError("no such disk\\nand more")
def deep(level_N):
    return np.moveaxis(level_N, 3, 0)
"""
SMALL = """
from drm_jax.config import Data, Experiment, Model

def experiment():
    model = Model(hidden=8, heads=1, layers=1, swiglu_multiple=8)
    return Experiment("small", data=Data(train=("mine:listed",), evaluate=()), model=model)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The current directory: experiments/ with the demo and the page's files, and some mistakes."""
    here = tmp_path_factory.mktemp("folder")
    (here / "experiments").mkdir()
    shutil.copy(ROOT / "experiments" / "demo.py", here / "experiments")
    for name, code in BLOCKS.items():
        (here / name).write_text(code)
    (here / "mine.py").write_text(MINE)
    (here / "small.py").write_text(SMALL)
    (here / "pack").mkdir()
    (here / "pack" / "__init__.py").write_text("def f(level_N):\n    return level_N.root\n")
    (here / "raises.py").write_text("x = 1\nprint(x.y)\n")
    (here / "unfinished.py").write_text("def f(:\n")
    (here / "needs.py").write_text("import not_installed\n")
    (here / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr(sys, "path", list(sys.path))
        yield here
    forget(here)


def forget(folder):
    """Imports from here are made anew, as by another process."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]
    ratio_table.cache_clear()


@pytest.fixture(scope="module")
def workdir(folder):
    """A tiny run with the options of all three of the page's commands: one to compile, not three.

    Each command's own --workdir comes before this one's, so that this one counts.
    """
    runs = [words[3:] for words in COMMANDS if "--workdir" in words]
    assert len(runs) == 3
    options = [word for words in runs for word in words]
    argv = ["train", "experiments/demo.py", *options, *TINY, "--workdir", "runs/mine"]
    assert main(argv) == 0
    return folder / "runs" / "mine"


def test_the_page_has_its_files_and_commands():
    assert set(BLOCKS) == {f"experiments/my_{n}.py" for n in ("schedule", "objective", "source")}
    assert all(len(code.splitlines()) <= 25 for code in BLOCKS.values())
    assert len(COMMANDS) == 5


def test_a_schedule_of_ones_own(workdir):
    experiment = from_json((workdir / "config.json").read_text())
    assert experiment.noise.schedule == "experiments.my_schedule:square"
    more = dataclasses.replace(
        experiment, train=dataclasses.replace(experiment.train, batch_size=256)
    )
    setup = set_up(more)
    batch = training_stream(more, setup.tasks, setup.ids)[0]
    share_B = (batch["noised"] == MASK).mean(axis=1)
    assert (share_B - (batch["level"] / 1000) ** 2).mean() == pytest.approx(0, abs=0.02)


def test_an_objective_of_ones_own(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    lines = [line for line in lines if line["kind"] == "train"]
    assert len(lines) == 2
    for line in lines:
        expected = line["softmax_loss"] + 0.5 * line["halt_loss"]
        assert line["loss"] == pytest.approx(expected, rel=1e-5)
        assert line["softmax_loss"] != line["cell_loss"]


def test_a_source_of_ones_own(workdir, capsys):
    submission = json.loads((workdir / "eval" / "step_2" / "submission.json").read_text())
    assert set(submission) == {f"mirror_{axis}_{i}" for axis in (0, 1) for i in range(4)}
    (data,) = (words[1:] for words in COMMANDS if words[1] == "data")
    assert main(data) == 0
    assert "8 tasks, 24 demonstrations" in capsys.readouterr().out


def test_evaluating_a_work_directory_finds_them_again(folder, workdir, capsys):
    forget(folder)
    assert main(["eval", "runs/mine"]) == 0
    file = folder / "experiments" / "my_schedule.py"
    code = file.read_text()
    file.write_text(code.replace("** 2", "** 3"))
    forget(folder)
    assert main(["eval", "runs/mine"]) == 1
    assert "the noise schedule have changed" in capsys.readouterr().err
    file.write_text(code)
    forget(folder)


def test_the_installed_command_looks_in_the_current_directory(folder):
    """-P: like an installed command, without the current directory on the path."""
    code = "import sys; from drm_jax.commands.main import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code, "data", "experiments.my_source:mirrors"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "8 tasks" in run.stdout


def test_what_the_page_says_of_a_batch_is_so(tiny):
    setup = set_up(tiny)
    batch = training_stream(tiny, setup.tasks, setup.ids)[0]
    assert jax.tree.map(lambda x: (x.shape, x.dtype), abstract_batch(tiny)) == {
        name: (value.shape, value.dtype) for name, value in batch.items()
    }
    np.testing.assert_array_equal(batch["reverse_targets"][:, -1], batch["target"])
    for name in batch:
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize(
    ("option", "reference", "message"),
    [
        ("noise.schedule", "nowhere.at.all:f", "no module nowhere: run drm from the folder that"),
        ("noise.schedule", "mine.deeper:f", "there is no module mine.deeper"),
        ("noise.schedule", "experiments.mien:f", "there is no module experiments.mien"),
        ("noise.schedule", "mine:absent", "mine.py defines no function absent"),
        ("noise.schedule", "experiments:square", "experiments defines no function square"),
        ("noise.schedule", "mine:slopes", "no function slopes; did you mean slope?"),
        ("noise.schedule", "mine:NUMBER", "no function NUMBER"),
        ("noise.schedule", "raises:f", "raises.py, line 2: AttributeError: 'int' object"),
        ("noise.schedule", "unfinished:f", "unfinished.py, line 1: "),
        ("noise.schedule", "needs:f", "needs.py, line 1: ModuleNotFoundError: No module named"),
        ("noise.schedule", "leaves:f", "leaves.py, line 2: SystemExit"),
        ("noise.schedule", "mine:too_much", "gives 2.0 at level 1; a ratio is 0 to 1"),
        ("noise.schedule", "mine:nan", "gives nan at level 0"),
        ("noise.schedule", "mine:three", "of 1000 levels it must return as many ratios; it ret"),
        ("noise.schedule", "mine:falling", "falls from 1.0 at level 0 to 0.999 at level 1"),
        ("noise.schedule", "mine:as_list", "must return a numpy array of numbers, not list"),
        ("noise.schedule", "mine:text", "must return a numpy array of numbers, not <U1"),
        ("noise.schedule", "mine:divides", "mine.py, line 14: ZeroDivisionError: "),
        ("noise.schedule", "mine:deep", "mine.py, line 38: AxisError: "),
        ("noise.schedule", "pack:f", "__init__.py, line 2: AttributeError: "),
        ("objective", "mine:absent", "defines no function absent"),
        ("objective", "mine:no_count", "the sums lack 'count'; needed are loss, exact_accuracy"),
        ("objective", "mine:no_sums", "must return the loss and a dict of sums for the log"),
        ("objective", "mine:vector", "the loss must be one float, summed over the batch"),
        ("objective", "mine:vector_sum", "'count' must be one number, summed over the batch"),
        ("objective", "mine:takes_step", "the log has a 'step' of its own"),
        ("objective", "mine:no_arrays", "must return jax arrays"),
        ("objective", "mine:wrong_key", "line 26: KeyError: 'tokens'"),
        ("objective", "mine:looks", "line 28: TracerBoolConversionError: "),
        ("objective", "mine:few", "few() takes 2 positional arguments but 5 were given"),
        ("data.train", "mine:raises", "line 36: RuntimeError: no such disk"),
        ("data.train", "mine:raised", "no function raised; did you mean raises?"),
        ("data.train", "mine:listed", "expected an object of tasks by id, found a list"),
        ("data.train", "mine:ragged", "task t: train[0].input: row 1 has 1 cells, but row 0"),
        ("data.train", "mine:arrays", "must return dicts, lists and whole numbers alone"),
    ],
)
def test_a_wrong_function_gets_one_clear_line(folder, capsys, option, reference, message):
    code = main(["train", "small.py", f"--{option}", reference])
    error = capsys.readouterr().err
    assert code in (1, 2)
    assert error.startswith(("drm: " + option + " " + reference, "drm: " + reference))
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "runs" / "small").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise(schedule="cosin"), "noise.schedule: 'cosin' is not .* did you mean cosine"),
        (lambda: Noise(schedule="a:b:c"), "noise.schedule: 'a:b:c' is not one of linear, cosine"),
        (lambda: Noise(schedule=np.sin), "noise.schedule: <ufunc 'sin'> is not one of"),
        (lambda: Experiment("x", objective="dmr"), "objective: 'dmr' is not .* did you mean drm"),
    ],
)
def test_a_name_is_built_in_or_a_reference(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a:b", True), ("a.b_1.c:d", True), ("a", False), ("a.b", False), ("a/b:c", False),
     ("a:", False), (":a", False), ("a..b:c", False), ("a:b.c", False), ("C:/tasks", False)],
)  # fmt: skip
def test_is_reference(name, expected):
    assert is_reference(name) == expected
