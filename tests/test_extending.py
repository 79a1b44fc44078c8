"""docs/extending.md: its files and commands work; a mistake in a user's own code gets one clear
line, and what that code raises shows its traceback."""

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
from workdirs import log_lines, saved

import drm_jax
from drm_jax.commands.main import main
from drm_jax.config import Experiment, from_json
from drm_jax.corruption.schedules import level_ratios, ratio_table
from drm_jax.errors import UsageError
from drm_jax.evaluate.files import evaluations
from drm_jax.methods.denoising import Noise
from drm_jax.references import is_reference
from drm_jax.run.setup import set_up, training_stream
from drm_jax.training.batches import abstract_batch

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = {name: code for code, name in re.findall(r"```python\n(# (\S+)\n.*?)```", PAGE, re.S)}
COMMANDS = [
    shlex.split(text.replace("\\\n", " "))
    for text in re.findall(r"^    (drm (?:.*\\\n)*.*)", PAGE, re.M)
]
RUNS = {words[words.index("--workdir") + 1]: words for words in COMMANDS if "--workdir" in words}
TINY = shlex.split(
    "--train.batch-size 4 --train.log-every 1 --model.hidden 16 --evaluate.batch-size 4 "
    "--evaluate.denoise-steps 2 --method.recursion.cycles 1 --method.recursion.inner-steps 1"
)
FEW_STRINGS = shlex.split("--train.steps 2 --data.train-strings 20 --data.test-strings 3")
EVERY_STEP = shlex.split(
    "--train.steps 6 --train.checkpoint-every 1 --train.keep-last 9 --data.num-augmentations 1"
)

MINE = """
import dataclasses
import jax.numpy as jnp
import numpy as np
from drm_jax.methods.drm import Drm

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
def deep(level_N):
    return np.moveaxis(level_N, 3, 0)

ZERO = jnp.zeros(())
def sums(**others):
    return {"loss": ZERO, "exact_accuracy": ZERO, **others}

class NoCount(Drm):
    def loss(self, network, params, rows, constants, batch, carry): return ZERO, sums(), carry
class NoSums(Drm):
    def loss(self, network, params, rows, constants, batch, carry): return ZERO
class NoCarry(Drm):
    def loss(self, network, params, rows, constants, batch, carry): return ZERO, sums(count=ZERO)
class OtherCarry(Drm):
    def loss(self, network, params, rows, constants, batch, carry):
        return ZERO, sums(count=ZERO), rows
class Vector(Drm):
    def loss(self, network, params, rows, constants, batch, carry):
        return batch["weight"], sums(count=ZERO), carry
class VectorSum(Drm):
    def loss(self, network, params, rows, constants, batch, carry):
        return ZERO, sums(count=batch["weight"]), carry
class TakesStep(Drm):
    def loss(self, network, params, rows, constants, batch, carry):
        return ZERO, sums(count=ZERO, step=ZERO), carry
class NoArrays(Drm):
    def loss(self, network, params, rows, constants, batch, carry):
        return ZERO, {"count": "four"}, carry
class Untrained(Drm):
    trains_answers = False
    def loss(self, network, params, rows, constants, batch, carry):
        return (params["embed_answers"] ** 2).sum(), sums(count=ZERO), carry
class WrongKey(Drm):
    def loss(self, network, params, rows, constants, batch, carry): return batch["tokens"]
class Looks(Drm):
    def loss(self, network, params, rows, constants, batch, carry):
        if rows.sum() > 0: pass
class Few(Drm):
    def loss(self, network, params): return ZERO, sums(), None
class Draws(Drm):
    def draw(self, bits, target_BxS, board, mask):
        return {"drawn": bits(1, 2)[:, 5]}
class Plain:
    pass
@dataclasses.dataclass(frozen=True)
class Empty:
    dtype: str = "auto"

PAIR = {"input": [[1, 2], [3, 4]], "output": [[1]]}
def listed(): return 3
def ragged(): return {"t": {"train": [{"input": [[1, 2], [3]], "output": [[1]]}], "test": [PAIR]}}
def arrays(): return {"t": {"train": [{**PAIR, "input": np.ones((2, 2))}], "test": [PAIR]}}
def raises():
    raise RuntimeError("no such disk\\nand more")
"""
SMALL = """
from drm_jax import Arc, Experiment, Transformer

def experiment():
    model = Transformer(hidden=8, heads=1, layers=1, swiglu_multiple=8)
    return Experiment("small", data=Arc(train=("mine:listed",), evaluate=()), model=model)
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
    level_ratios.cache_clear()


def train(options, *runs: str) -> Path:
    """The work directory of a tiny run with the options of some of the page's commands: fewer to
    compile. Their own --workdir comes before this one."""
    words = [word for name in runs for word in RUNS[name][3:]]
    workdir = runs[0].replace("my_", "tiny_")
    assert (
        main(["train", "experiments/demo.py", *words, *TINY, *options, "--workdir", workdir]) == 0
    )
    return Path(workdir).absolute()


@pytest.fixture(scope="module")
def sorting(folder):
    """A run of the family, with the schedule."""
    return train(FEW_STRINGS, "runs/my_family", "runs/my_schedule")


@pytest.fixture(scope="module")
def repeated(folder):
    """A run of the method, with the backbone and the source."""
    return train(EVERY_STEP, "runs/my_method", "runs/my_backbone", "runs/my_source")


def test_the_page_has_its_files_and_commands():
    kinds = ("family", "method", "backbone", "schedule", "source")
    assert set(BLOCKS) == {f"experiments/my_{kind}.py" for kind in kinds}
    assert set(RUNS) == {f"runs/my_{kind}" for kind in kinds}
    assert PAGE.count("```python") == len(BLOCKS)
    assert len(COMMANDS) == 7  # the first shows --method alone; one is `drm data`


def test_a_family_of_ones_own(sorting, capsys):
    data = from_json((sorting / "config.json").read_text()).data
    assert drm_jax.config.part_name("data", data) == "experiments.my_family:Sorting"
    puzzles = data.load(0, {})
    assert (len(puzzles.trained), len(puzzles.tests)) == (20, 3)
    trained = puzzles.trained
    np.testing.assert_array_equal(np.sort(trained.inputs_NxS, axis=1), trained.outputs_NxS)
    assert main(["eval", str(sorting), "--denoise-steps", "3"]) == 0
    assert main(["report", str(sorting)]) == 0
    assert "exact" in capsys.readouterr().out
    assert (sorting / "report.html").exists()
    assert list(evaluations(sorting)) == [0, 2]  # the demo scores the untrained model too


def test_asking_a_run_of_that_family(sorting):
    (question,) = re.findall(r'run\.answer\("(\w+)"\)', PAGE)
    (answered,) = drm_jax.open_run(sorting).answer(question).tests
    assert answered.question.tolist() == [["abcdef".index(letter) for letter in question]]
    assert answered.answers[0].grid.shape == (1, 8)
    assert answered.truth is None


def test_a_schedule_of_ones_own(sorting):
    experiment = from_json((sorting / "config.json").read_text())
    assert experiment.method.noise.schedule == "experiments.my_schedule:square"
    more = drm_jax.with_changes(experiment, {"train.batch_size": 256})
    batch = training_stream(set_up(more))[0]
    share_B = (batch["noised"] == experiment.data.vocabulary.mask).mean(axis=1)
    assert (share_B - (batch["level"] / 1000) ** 2).mean() == pytest.approx(0, abs=0.02)


def test_a_method_that_carries(repeated):
    """An example stays in its slot for four steps: slots hold those of the batches 1 and 5."""
    experiment = from_json((repeated / "config.json").read_text())
    assert experiment.method.repeats == 4
    stream = training_stream(set_up(experiment))
    for step in range(1, 7):
        carry, came_with = saved(repeated, experiment, step).carry, stream[(step - 1) // 4 * 4]
        np.testing.assert_array_equal(carry["steps"], step % 4)
        for name in ("inputs", "target", "puzzle_id", "weight"):
            np.testing.assert_array_equal(carry[name], came_with[name])
    assert (stream[0]["inputs"] != stream[4]["inputs"]).any()


def test_a_method_that_carries_goes_on_bit_for_bit(repeated):
    """Stopped in the middle of the four steps."""
    stopped = repeated.with_name("stopped")
    shutil.copytree(repeated, stopped)
    for step in (3, 4, 5, 6):
        shutil.rmtree(stopped / "checkpoints" / str(step))
    shutil.rmtree(stopped / "eval" / "step_6")
    assert main(["train", str(stopped)]) == 0
    experiment = from_json((repeated / "config.json").read_text())
    states = [saved(workdir, experiment, 6) for workdir in (stopped, repeated)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert log_lines(stopped) == log_lines(repeated)


def test_a_backbone_of_ones_own(repeated, tiny):
    experiment = from_json((repeated / "config.json").read_text())
    assert drm_jax.config.part_name("model", experiment.model) == "experiments.my_backbone:Shifting"
    network = experiment.model.network(13, ((4, 4),), "cpu")
    params = jax.jit(network.init)(jax.random.key(0))
    h = jax.random.normal(jax.random.key(1), (1, 18, 16))
    far = h.at[0, 9].add(1)
    changed = np.flatnonzero((network.block(params, h, h) != network.block(params, far, h)).any(-1))
    assert changed.tolist() == [8, 9, 10]  # each token sees its neighbours


def test_a_source_of_ones_own(repeated, capsys):
    submission = drm_jax.open_run(repeated).evaluate().submission
    assert set(submission) == {f"mirror_{axis}_{i}" for axis in (0, 1) for i in range(4)}
    (data,) = (words[1:] for words in COMMANDS if words[1] == "data")
    capsys.readouterr()
    assert main(data) == 0
    assert "8 tasks, 24 demonstrations" in capsys.readouterr().out


def test_evaluating_a_work_directory_finds_them_again(folder, sorting, capsys):
    forget(folder)
    assert main(["eval", str(sorting)]) == 0
    file = folder / "experiments" / "my_schedule.py"
    code = file.read_text()
    file.write_text(code.replace("** 2", "** 3"))
    forget(folder)
    assert main(["eval", str(sorting)]) == 1
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
    batch = training_stream(setup)[0]
    boards, mask = tiny.data.boards, tiny.data.vocabulary.mask
    abstract = abstract_batch(tiny.method, boards, mask, tiny.train.batch_size)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), abstract) == {
        name: (value.shape, value.dtype) for name, value in batch.items()
    }
    np.testing.assert_array_equal(batch["reverse_targets"][:, -1], batch["target"])
    for name in batch:
        assert f"`{name}`" in PAGE


SCHEDULE = "method.noise.schedule"


@pytest.mark.parametrize(
    ("option", "reference", "message"),
    [
        (SCHEDULE, "nowhere.at.all:f", "no module nowhere: run drm from the folder that"),
        (SCHEDULE, "mine.deeper:f", "there is no module mine.deeper"),
        (SCHEDULE, "experiments.mien:f", "there is no module experiments.mien"),
        (SCHEDULE, "mine:absent", "mine.py defines no function or class absent"),
        (SCHEDULE, "experiments:square", "experiments defines no function or class square"),
        (SCHEDULE, "mine:slopes", "no function or class slopes; did you mean slope?"),
        (SCHEDULE, "mine:NUMBER", "no function or class NUMBER"),
        (SCHEDULE, "unfinished:f", "unfinished.py, line 1: "),
        (SCHEDULE, "mine:too_much", "gives 2.0 at level 1; a ratio is 0 to 1"),
        (SCHEDULE, "mine:nan", "gives nan at level 0"),
        (SCHEDULE, "mine:three", "of 1000 levels it must return as many ratios; it ret"),
        (SCHEDULE, "mine:falling", "falls from 1.0 at level 0 to 0.999 at level 1"),
        (SCHEDULE, "mine:as_list", "must return a numpy array of numbers, not list"),
        (SCHEDULE, "mine:text", "must return a numpy array of numbers, not <U1"),
        ("method", "mine:Absent", "mine.py defines no function or class Absent"),
        ("method", "nowhere:Absent", "there is no module nowhere"),
        ("method", "unfinished:Absent", "unfinished.py, line 1: "),
        ("method", "mine:Plain", "must be a frozen dataclass"),
        ("method", "mine:slope", "must be a frozen dataclass"),
        ("method", "mine:Empty", "which has no "),
        ("method", "mine:NoCount", "the sums lack 'count'; needed are loss, exact_accuracy"),
        (
            "method",
            "mine:NoSums",
            "must return the loss, a dict of sums for the log, and the c",
        ),
        ("method", "mine:NoCarry", "must return the loss, a dict of sums for the log, and the c"),
        ("method", "mine:OtherCarry", "the carry that its loss returns is not like the one"),
        ("method", "mine:Vector", "the loss must be one float, summed over the batch"),
        ("method", "mine:VectorSum", "'count' must be one number, summed over the batch"),
        ("method", "mine:TakesStep", "the log has a 'step' of its own"),
        ("method", "mine:NoArrays", "must return jax arrays"),
        ("method", "mine:Untrained", "would never be updated: return True there"),
        ("model", "mine:Plain", "must be a frozen dataclass"),
        ("model", "mine:Empty", "which has no "),
        ("data", "mine:Plain", "must be a frozen dataclass"),
        ("data", "mine:Empty", "which has no "),
        ("data.train", "mine:raised", "no function or class raised; did you mean raises?"),
        ("data.train", "mine:listed", "expected an object of tasks by id, found a number"),
        ("data.train", "mine:ragged", "task t: train[0].input: row 1 has 1 cell, but row 0"),
        ("data.train", "mine:arrays", "must return dicts, lists and whole numbers alone"),
    ],
)
def test_a_wrong_one_gets_one_clear_line(folder, capsys, option, reference, message):
    code = main(["train", "small.py", f"--{option}", reference])
    error = capsys.readouterr().err
    name = reference.partition(":")[2]
    assert code == (1 if option == "data.train" and "no function" not in message else 2)
    assert error.startswith((f"drm: {option}", f"drm: {reference}", f"drm: method {name}: "))
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "runs" / "small").exists()


@pytest.mark.parametrize(
    ("option", "reference", "places", "message"),
    [
        (SCHEDULE, "raises:f", 'raises.py", line 2', "AttributeError: 'int' object has"),
        (SCHEDULE, "needs:f", 'needs.py", line 1', "ModuleNotFoundError: No module named"),
        (SCHEDULE, "leaves:f", 'leaves.py", line 2', "SystemExit: 0"),
        (SCHEDULE, "mine:divides", "in divides", "ZeroDivisionError: "),
        (SCHEDULE, "mine:deep", "in deep", "AxisError: "),
        (SCHEDULE, "pack:f", '__init__.py", line 2, in f', "AttributeError: "),
        ("method", "raises:F", 'raises.py", line 2', "AttributeError: 'int' object has"),
        ("method", "leaves:F", 'leaves.py", line 2', "SystemExit: 0"),
        ("method", "mine:WrongKey", "in loss", "KeyError: 'tokens'"),
        ("method", "mine:Looks", "in loss", "TracerBoolConversionError: "),
        ("method", "mine:Few", "checks.py", "TypeError: Few.loss() takes 3 positional argum"),
        ("method", "mine:Draws", "in draw", "IndexError: "),
        ("data.train", "mine:raises", "in raises", "RuntimeError: no such disk"),
    ],
)
def test_one_that_raises_shows_its_traceback(folder, capsys, option, reference, places, message):
    assert main(["train", "small.py", f"--{option}", reference]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert places in error
    assert error.splitlines()[-1].startswith(f"drm: unexpected {message}")
    assert not (folder / "runs" / "small").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise(schedule="cosin"), "noise.schedule: 'cosin' is not .* did you mean cosine"),
        (lambda: Noise(schedule="a:b:c"), "noise.schedule: 'a:b:c' is not one of linear, cosine"),
        (lambda: Noise(schedule=np.sin), "noise.schedule: .*ufunc 'sin'"),
        (lambda: Experiment("x", method="dmr"), "method: 'dmr' is not .* did you mean drm"),
        (lambda: Experiment("x", data="sudku"), "data: 'sudku' is not .* did you mean sudoku"),
        (lambda: Experiment("x", model=3), "model: must be an instance of a frozen dataclass"),
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
