"""The `drm` command: help, a whole small run, and one clear line for each wrong use."""

import json
import shutil
import subprocess
import sys

import pytest

from drm_jax.commands.main import main

EXPERIMENT = """
from drm_jax.config import Evaluate, Experiment, Train
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.arc.family import Arc

def experiment():
    return Experiment(
        name="mini",
        data=Arc(train=(), evaluate=("arc1/training",), only=("25d8a9c8",), canvas=4,
                 num_augmentations=1),
        method=Drm(recursion=Recursion(cycles=1, inner_steps=1)),
        model=Transformer(hidden=8, heads=1, layers=1, prefix=1, swiglu_multiple=8),
        train=Train(steps=2, batch_size=4, log_every=1, checkpoint_every=1),
        evaluate=Evaluate(batch_size=4, denoise_steps=2, untrained=True),
    )
"""


@pytest.fixture
def experiment_file(tmp_path):
    path = tmp_path / "mini.py"
    path.write_text(EXPERIMENT)
    return str(path)


def test_help(capsys):
    assert main(["--help"]) == 0
    assert "experiment" in capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    assert "--train.steps" in capsys.readouterr().out
    assert main(["train", "--help-all"]) == 0
    assert "--optimizer.beta1 FLOAT" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["data", "report", "show", "runs"])
def test_help_says_nothing_of_defaults_that_are_nothing(command, capsys):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "default: )" not in out
    assert "None" not in out
    assert "overridden" not in out


def test_help_of_an_experiment_shows_its_own_defaults(experiment_file, capsys):
    for option in ("--help", "--help-all"):
        assert main(["train", experiment_file, option]) == 0
        out = capsys.readouterr().out
        assert "--method.recursion.inner-steps" in out
        assert "25d8a9c8" in out


@pytest.mark.parametrize("command", ["train", "plan"])
@pytest.mark.parametrize("columns", [40, 80, 120])
def test_help_is_short_and_says_how_to_see_all(
    command, columns, experiment_file, monkeypatch, capsys
):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([command, experiment_file, "--method", "trm", "--help"]) == 0
    short = capsys.readouterr().out
    assert f"drm {command} {experiment_file} --help-all" in " ".join(short.split())
    assert "  --train.steps 2\n" in short
    assert "  --model.hidden 8" in short
    assert "noise.schedule" not in short  # trm has none
    assert all(len(line) <= columns or "/" in line for line in short.split("\n"))
    assert main([command, experiment_file, "--method", "trm", "--help-all"]) == 0
    every = capsys.readouterr().out
    assert every.count("\n") > 2 * short.count("\n")
    assert "--method.halting.max-steps INT" in every


def test_explanations_are_broken_into_lines_once(experiment_file, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "1000")
    for argv in (["train", experiment_file], ["plan", experiment_file], ["report"], ["show"]):
        assert main([*argv, "--help-all"]) == 0
        out = capsys.readouterr().out
        for text in {
            "train": "all wrong ones' too. (default: selected)",
            "plan": "adding up gradients: less memory, for a little more time",
            "report": "report.html in the work directory by default; of several work directories",
            "show": "see drm data --help; arc1 and arc2 where none is named.",
        }[argv[0]].splitlines():
            assert text in out


def test_train_then_eval(experiment_file, tmp_path, capsys):
    workdir = tmp_path / "run"
    argv = ["--workdir", str(workdir), "--seed", "3", "--evaluate.num-augmentations", "0"]
    assert main(["train", experiment_file, *argv]) == 0
    out = capsys.readouterr().out
    for text in (
        "copying the input",
        "untrained model",
        "step 2",
        "task 25d8a9c8",
        "░ masked",
        "denoising.png",
    ):
        assert text in out
    written = out[out.index("Written to") :].splitlines()
    assert written[1] == f"  {workdir}/report.html"  # what people open
    assert written[2].endswith("denoising.png")
    assert json.loads((workdir / "config.json").read_text())["seed"] == 3
    assert main(["eval", str(workdir), "--step", "1"]) == 0
    assert "step 1" in capsys.readouterr().out
    own = (workdir / "eval" / "step_1" / "metrics.json").read_text()
    report = (workdir / "report.html").read_text()
    settings = ["--denoise-steps", "3", "--outside", "pad", "--no-carry-z"]
    assert main(["eval", str(workdir), "--step", "1", *settings]) == 0
    folder = workdir / "eval" / "step_1_outside=pad_carry_z=False_denoise_steps=3"
    out = capsys.readouterr().out
    assert str(folder) in out
    assert "not the run's own: outside=pad, carry_z=False, denoise_steps=3." in out
    made = json.loads((folder / "metrics.json").read_text())
    assert made["evaluate"]["denoise_steps"] == 3
    assert (made["denoising"]["outside"], made["denoising"]["carry_z"]) == ("pad", False)
    assert (workdir / "eval" / "step_1" / "metrics.json").read_text() == own
    assert (workdir / "report.html").read_text() == report  # of the run's own settings
    assert (
        main(["eval", str(workdir), "--step", "1", "--curve", "depth", "--points", "2", "1"]) == 0
    )
    curve = json.loads((workdir / "eval/step_1/curve_depth.json").read_text())
    assert [point["at"] for point in curve["points"]] == [1, 2]
    assert curve["points"][1]["scores"]["pass@2"] == json.loads(own)["pass@2"]
    assert "scores by passes" in (workdir / "report.html").read_text()
    argv = ["eval", str(workdir), "--curve", "breadth", "--points", "1", "2", "--outside", "pad"]
    assert main(argv) == 0
    assert (workdir / "eval/step_2_outside=pad/curve_breadth.json").exists()
    out = capsys.readouterr().out
    assert "oracle" in out
    assert "not the run's own: outside=pad." in out
    assert main(["eval", str(workdir), "--step", "1", "--num-augmentations", "all"]) == 0
    assert "not the run's own: num_augmentations=all." in capsys.readouterr().out
    made = json.loads((workdir / "eval/step_1_num_augmentations=all/metrics.json").read_text())
    assert made["evaluate"]["num_augmentations"] is None


def test_an_ensemble_is_made_and_named_only_when_asked_for(experiment_file, tmp_path, capsys):
    workdir = tmp_path / "run"

    def answered(*argv: str) -> tuple[str, set[str]]:
        assert main([*argv]) == 0
        return capsys.readouterr().out, {path.name for path in (workdir / "eval").iterdir()}

    out, before = answered("train", experiment_file, "--workdir", str(workdir))
    assert before == {"step_0", "step_2"}
    for one in ((), ("--step", "2"), ("--steps", "2"), ("--last", "1")):
        out, names = answered("eval", str(workdir), *one)
        assert "Each score is of one checkpoint" in out
        assert "nsemble of" not in out
        assert names == before
    for several in (("--last", "2"), ("--steps", "2,1")):
        out, names = answered("eval", str(workdir), *several)
        for text in ("step 1", "step 2", "ensemble of steps", "1, 2 ", "an ensemble, which pools",
                     "candidate are of step 2 alone", "eval/steps_1_2/metrics.json"):  # fmt: skip
            assert text in out, text
        assert "is of one checkpoint" not in out
        assert names == {*before, "steps_1_2"}
        shutil.rmtree(workdir / "eval" / "steps_1_2")


def test_a_run_is_made_longer_by_its_work_directory_alone(experiment_file, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert main(["train", experiment_file, "--workdir", str(workdir), "--seed", "3"]) == 0
    (tmp_path / "mini.py").unlink()
    assert main(["train", str(workdir), "--help"]) == 0
    assert "--seed 3" in capsys.readouterr().out
    assert main(["train", str(workdir), "--train.steps", "3"]) == 0
    out = capsys.readouterr().out
    assert "Going on from the checkpoint of step 2" in out
    assert "step 3" in out
    config = json.loads((workdir / "config.json").read_text())
    assert (config["seed"], config["train"]["steps"]) == (3, 3)
    assert main(["train", str(workdir)]) == 0  # all steps were done
    other = tmp_path / "other"
    assert main(["train", str(workdir), "--workdir", str(other), "--seed", "4", "--dry-run"]) == 0
    assert "other: would be a new run" in capsys.readouterr().out


def test_another_method_and_canvas_in_one_command(experiment_file, tmp_path, capsys):
    """The experiment fits windows, which trm can't: its parts must not be checked one by one."""
    path = tmp_path / "fit.py"
    path.write_text(EXPERIMENT.replace("canvas=4", 'canvas="fit", windows=(3, 4)'))
    argv = ["train", str(path), "--method", "trm", "--workdir", str(tmp_path / "trm")]
    assert main(argv) == 2
    assert "data.canvas: fit" in capsys.readouterr().err
    assert main([*argv, "--data.canvas", "30", "--dry-run"]) == 0
    assert "mini, trm, seed 0" in capsys.readouterr().out


def test_a_run_of_trm_has_no_settings_of_denoising(experiment_file, tmp_path, capsys):
    workdir = str(tmp_path / "run")
    argv = ["--method", "trm", "--evaluate.no-untrained", "--workdir", workdir]
    assert main(["train", experiment_file, *argv]) == 0
    assert "steps: the answer after each" in capsys.readouterr().out
    config = json.loads((tmp_path / "run" / "config.json").read_text())["method"]
    assert (config["type"], config["recursion"]["cycles"]) == ("trm", 1)
    for option in ("--remask", "--outside", "--carry-z"):
        assert main(["eval", workdir, option, "pad"]) == 2
        assert f"{option}: there is no such option" in capsys.readouterr().err
    assert main(["eval", workdir, "--help"]) == 0
    out = capsys.readouterr().out
    assert "--denoise-steps" in out
    assert "remask" not in out
    assert main(["eval", workdir, "--denoise-steps", "1"]) == 0
    assert (tmp_path / "run" / "eval" / "step_2_denoise_steps=1").is_dir()
    capsys.readouterr()
    assert main(["train", workdir, "--method", "drm"]) == 2
    assert "--method was 'trm', is 'drm'" in capsys.readouterr().err


OWN_PART = """
import dataclasses

from drm_jax.fields import Count, check_fields


@dataclasses.dataclass(frozen=True)
class Wordy(Drm):
    \"\"\"Says more.\"\"\"

    words: Count = 3
    \"\"\"How many.\"\"\"

    def __post_init__(self):
        super().__post_init__()
        check_fields(self, "method")
"""


def test_an_experiment_file_with_a_method_of_its_own(tmp_path, monkeypatch, capsys):
    """It is found again by its name, from the folder where the file can be imported."""
    folder = tmp_path / "here"
    folder.mkdir()
    text = EXPERIMENT.replace("method=Drm(", "method=Wordy(").replace("untrained=True", "")
    (folder / "own_part.py").write_text(OWN_PART.join(text.split("\n\n", 1)))
    monkeypatch.setattr(sys, "path", list(sys.path))

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for dry in ([], ["--dry-run"]):
        assert main(["train", "../here/own_part.py", "--workdir", "run", *dry]) == 2
        err = capsys.readouterr().err
        assert err.startswith("drm: method: the class Wordy can't be found again by its name")
        assert err.count("\n") == 1
        assert list(elsewhere.iterdir()) == []

    monkeypatch.chdir(folder)
    assert main(["train", "own_part.py", "--help-all"]) == 0
    out = capsys.readouterr().out
    assert "Wordy: Says more." in out
    assert "--method.words INT" in out
    assert main(["train", "own_part.py", "--workdir", "run", "--method.words", "4"]) == 0
    config = json.loads((folder / "run" / "config.json").read_text())["method"]
    assert (config["type"], config["words"]) == ("own_part:Wordy", 4)
    assert main(["eval", "run", "--outside", "pad"]) == 0
    assert (folder / "run" / "eval" / "step_2_outside=pad").is_dir()
    assert main(["runs", "."]) == 0
    assert main(["train", "run", "--train.steps", "3"]) == 0
    capsys.readouterr()

    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(folder)])
    del sys.modules["own_part"]
    assert main(["eval", str(folder / "run")]) == 1
    err = capsys.readouterr().err
    assert "method own_part:Wordy: there is no module own_part: run drm from the folder" in err
    assert err.count("\n") == 1


def test_sudoku_from_the_command_to_its_report(experiment_file, tmp_path, capsys):
    workdir = tmp_path / "sudoku"
    sudoku = ["--data", "sudoku", "--data.side", "4", "--data.train-puzzles", "20",
              "--data.test-puzzles", "3", "--model", "token_mixer"]  # fmt: skip
    assert main(["train", experiment_file, *sudoku, "--workdir", str(workdir)]) == 0
    out = capsys.readouterr().out
    for text in ("20 puzzles to train on, 3 to be solved", "untrained model", "exact", "puzzle 3",
                 "cells right", "░ masked", "report.html"):  # fmt: skip
        assert text in out
    assert "ends a grid" not in out
    config = json.loads((workdir / "config.json").read_text())
    assert (config["data"]["type"], config["data"]["side"]) == ("sudoku", 4)
    assert config["model"]["type"] == "token_mixer"

    assert main(["eval", str(workdir), "--num-augmentations", "2"]) == 0
    folder = workdir / "eval" / "step_2_num_augmentations=2"
    assert json.loads((folder / "metrics.json").read_text())["candidates"] == 9
    assert set(json.loads((folder / "submission.json").read_text())) == {
        "puzzle 1", "puzzle 2", "puzzle 3"
    }  # fmt: skip
    capsys.readouterr()
    assert main(["report", str(workdir)]) == 0
    page = (workdir / "report.html").read_text()
    assert "puzzle 3" in page
    assert "<code>data</code> <bdi>arc</bdi> → <bdi>sudoku</bdi>" in page
    assert main(["show", str(workdir), "puzzle 2", "--png", str(tmp_path / "p.png")]) == 0
    assert "task puzzle 2" in capsys.readouterr().out
    assert main(["runs", str(tmp_path)]) == 0
    assert "sudoku" in capsys.readouterr().out
    assert main(["checkpoints", str(workdir)]) == 0
    assert "exact" in capsys.readouterr().out


def test_data(capsys):
    assert main(["data", "arc1/evaluation"]) == 0
    assert "400 tasks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["train", "nothing.py"], 1, "nothing.py: no such experiment file"),
        (["train", "--seed", "1"], 2, "name the experiment file first"),
        (["train", "FILE", "--model.heads", "3"], 2, "model.heads: 3 heads don't divide width 8"),
        (["train", "FILE", "--train.steps", "0"], 2, "train.steps: must be int >= 1, not 0"),
        (
            ["train", "FILE", "--method.recursion.grad-cycles", "2"],
            2,
            "2 is more than the 1 cycles",
        ),
        (["train", "FILE", "--data.canvas", "31"], 2, "data.canvas: must be int <= 30, not 31"),
        (["train", "FILE", "--model.hiden", "3"], 2, "hidden"),
        (["train", "FILE", "--model.hidden", "many"], 2, "hidden"),
        (["train", "FILE", "--data.evaluate", "arc9"], 1, "arc9: no such source"),
        (["eval", "nowhere"], 1, "nowhere: not a work directory"),
    ],
)
def test_wrong_use_gets_one_clear_answer(experiment_file, capsys, tmp_path, argv, code, message):
    argv = [experiment_file if word == "FILE" else word for word in argv]
    if argv[0] == "train" and argv[1] == experiment_file:
        argv += ["--workdir", str(tmp_path / "run")]
    assert main(argv) == code
    shown = capsys.readouterr()
    assert message in shown.out + shown.err
    assert "Traceback" not in shown.out + shown.err


def test_unknown_commands_exit_with_2(capsys):
    assert main(["trian"]) == 2
    assert "did you mean train?" in capsys.readouterr().err


def test_the_installed_command_runs():
    code = "import sys; from drm_jax.commands.main import main; sys.exit(main(['data', 'nothing']))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "nothing: no such source" in run.stdout
