"""The `drm` command: help, a whole small run, and one clear line for each wrong use."""

import json
import shutil
import subprocess
import sys
import textwrap

import pytest

from drm_jax.commands.main import load_experiment, main
from drm_jax.errors import UsageError

EXPERIMENT = """
from drm_jax.config import Data, Evaluate, Experiment, Model, Train

def experiment():
    return Experiment(
        name="mini",
        data=Data(train=(), evaluate=("arc1/training",), only=("25d8a9c8",), canvas=4,
                  num_augmentations=1),
        model=Model(hidden=8, heads=1, layers=1, cycles=1, inner_steps=1, prefix=1,
                    swiglu_multiple=8),
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
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "experiment" in capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    assert "--train.steps" in capsys.readouterr().out


def test_help_of_an_experiment_shows_its_own_defaults(experiment_file, capsys):
    assert main(["train", experiment_file, "--help"]) == 0
    out = capsys.readouterr().out
    assert "--model.inner-steps" in out
    assert "25d8a9c8" in out


def test_train_then_eval(experiment_file, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert main(["train", experiment_file, "--workdir", str(workdir), "--seed", "3"]) == 0
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
    assert json.loads((workdir / "config.json").read_text())["seed"] == 3
    assert main(["eval", str(workdir), "--step", "1"]) == 0
    assert "step 1" in capsys.readouterr().out
    own = (workdir / "eval" / "step_1" / "metrics.json").read_text()
    report = (workdir / "report.html").read_text()
    settings = ["--denoise-steps", "3", "--outside", "pad", "--no-carry-z"]
    assert main(["eval", str(workdir), "--step", "1", *settings]) == 0
    folder = workdir / "eval" / "step_1_denoise_steps=3_outside=pad_carry_z=False"
    out = capsys.readouterr().out
    assert str(folder) in out
    assert "not the run's own: denoise_steps=3, outside=pad, carry_z=False." in out
    made = json.loads((folder / "metrics.json").read_text())["evaluate"]
    assert (made["denoise_steps"], made["outside"], made["carry_z"]) == (3, "pad", False)
    assert (workdir / "eval" / "step_1" / "metrics.json").read_text() == own
    assert (workdir / "report.html").read_text() == report  # of the run's own settings


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
                     "Denoising of step 2 alone", "eval/steps_1_2/metrics.json"):  # fmt: skip
            assert text in out, text
        assert "is of one checkpoint" not in out
        assert names == {*before, "steps_1_2"}
        shutil.rmtree(workdir / "eval" / "steps_1_2")


def test_a_run_is_made_longer_by_its_work_directory_alone(experiment_file, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert main(["train", experiment_file, "--workdir", str(workdir), "--seed", "3"]) == 0
    (tmp_path / "mini.py").unlink()
    assert main(["train", str(workdir), "--help"]) == 0
    assert "(default: 3)" in capsys.readouterr().out
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


def test_data(capsys):
    assert main(["data", "arc1/evaluation"]) == 0
    assert "400 tasks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["train", "nothing.py"], 2, "nothing.py: no such experiment file"),
        (["train", "--seed", "1"], 2, "name the experiment file first"),
        (["train", "FILE", "--model.heads", "3"], 2, "model.heads: 3 heads don't divide width 8"),
        (["train", "FILE", "--train.steps", "0"], 2, "train.steps: must be at least 1, not 0"),
        (["train", "FILE", "--model.grad-cycles", "2"], 2, "2 is more than the 1 cycles"),
        (["train", "FILE", "--data.canvas", "31"], 2, "data.canvas: must be 2..30, not 31"),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "must define experiment"),
        ("def experiment(): return 7", "must define experiment"),
        ("def experiment(:", "line 1"),
    ],
)
def test_bad_experiment_files(tmp_path, text, message):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_experiment(str(path))


def test_an_experiment_may_import_its_neighbours(tmp_path, experiment_file):
    path = tmp_path / "derived.py"
    path.write_text(
        textwrap.dedent("""
        import dataclasses
        import mini

        def experiment():
            return dataclasses.replace(mini.experiment(), name="derived")
        """)
    )
    assert load_experiment(str(path)).name == "derived"


def test_the_installed_command_runs():
    code = "import sys; from drm_jax.commands.main import main; sys.exit(main(['data', 'nothing']))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "nothing: no such source" in run.stdout
