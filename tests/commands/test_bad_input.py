"""Bad input of every kind: one clear line, the right exit code, and nothing is lost.

Each case makes something wrong in a folder of its own, gives a command, and says which words the
one line must hold. Afterwards every file of the folder is byte for byte what it was.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import drm_jax
from drm_jax.commands.main import main

MINI = """
from drm_jax.config import Evaluate, Experiment, Train
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.arc.family import Arc

def experiment():
    return Experiment(
        name="mini",
        data=Arc(train=(), evaluate=("ok.json",), canvas=4, num_augmentations=1),
        method=Drm(recursion=Recursion(cycles=1, inner_steps=1)),
        model=Transformer(hidden=8, heads=1, layers=1, prefix=1, swiglu_multiple=8),
        train=Train(steps=1, batch_size=4, log_every=1, checkpoint_every=1),
        evaluate=Evaluate(batch_size=4, denoise_steps=1),
    )
"""
PAIR = {"input": [[1, 2], [3, 4]], "output": [[4, 3], [2, 1]]}
OTHER = {"input": [[5, 5, 5]], "output": [[6]]}
OK = json.dumps({"train": [PAIR], "test": [OTHER]})
HIDDEN = {"train": [PAIR], "test": [{"input": [[5, 5, 5]]}]}
Make = Callable[[Path], object]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with an experiment, a task, and a whole run of them."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "mini.py").write_text(MINI)
    (folder / "ok.json").write_text(OK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "mini.py", "--workdir", "run"]) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch) -> Path:
    """A copy of it to spoil, and the current directory."""
    shutil.copytree(trained, tmp_path / "x", symlinks=True)
    monkeypatch.chdir(tmp_path / "x")
    return tmp_path / "x"


def contents(folder: Path) -> dict[str, object]:
    """Everything below a folder: bytes of files, targets of links.

    But for history.jsonl, which grows with every start.
    """
    found = {}
    for path in folder.rglob("*"):
        is_link = path.is_symlink()
        what = os.readlink(path) if is_link else path.read_bytes() if path.is_file() else None
        if "__pycache__" not in path.parts and path.name != "history.jsonl":
            found[str(path)] = what
    return found


def assert_answered(argv: list[str], code: int, words: str, folder: Path, capsys) -> None:
    before = contents(folder)
    assert main(argv) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert "unexpected" not in out + err
    if argv[0] == "data" and code == 1:
        wrong, line, *remedies, last, end = out.split("\n")
        assert wrong.endswith(": WRONG")
        assert (last, end) == ("", "")
        assert all(re.match("  data.(unfit|repeated)=", remedy) for remedy in remedies)
        assert err == ""
    else:
        line, *rest = err.split("\n")
        assert rest == [""]
    for word in words.split(" … "):
        assert word in line
    assert contents(folder) == before


# --- files of tasks ----------------------------------------------------------------------------
def task(**changed: object) -> str:
    return json.dumps({"train": [PAIR], "test": [OTHER]} | changed)


def grid(text: str) -> str:
    """A task whose first input is this JSON."""
    return f'{{"train": [{{"input": {text}, "output": [[1]]}}], "test": [{{"input": [[1]]}}]}}'


IN = "bad.json: task bad: train[0].input: "
FILES: dict[str, tuple[str | bytes, str]] = {
    "ragged": (grid("[[1, 2], [3]]"), IN + "row 1 has 1 cell, but row 0 has 2"),
    "no rows": (grid("[]"), IN + "a grid is a list of rows, found an empty list"),
    "empty row": (grid("[[]]"), IN + "row 0 must be a list of colours, found an empty list"),
    "31 wide": (grid(f"[{[0] * 31}]"), IN + "1x31; a side has at most 30"),
    "31 high": (grid(str([[0] * 30] * 31)), IN + "31x30; a side"),
    "colour 10": (grid("[[10]]"), IN + "row 0, column 0: 10 is not a colour 0..9"),
    "colour -1": (grid("[[0, -1]]"), IN + "row 0, column 1: -1 is not a colour 0..9"),
    "1.5": (grid("[[1.5]]"), IN + "row 0, column 0: 1.5 is not a colour"),
    "1.0": (grid("[[1.0]]"), "1.0 is not a colour"),
    "1e1": (grid("[[1e1]]"), "10.0 is not a colour"),
    "true": (grid("[[true]]"), "true is not a colour"),
    "a row of a truth value": (grid("[true]"), "row 0 must be a list of colours, found a truth"),
    "NaN": (grid("[[NaN]]"), "NaN is not a colour"),
    "infinity": (grid("[[-Infinity]]"), "-Infinity is not a colour"),
    "1e400": (grid("[[1e400]]"), "Infinity is not a colour"),
    "10^400": (grid(f"[[1{'0' * 400}]]"), "row 0, column 0: 1000 … is not a colour"),
    "10^5000": (grid(f"[[1{'0' * 5000}]]"), "bad.json: a number in it has thousands of digits"),
    "string cell": (grid('[["1"]]'), '"1" is not a colour'),
    "string row": (grid('["12"]'), "row 0 must be a list of colours, found a string"),
    "line end in a cell": (grid(r'[["a\nb"]]'), r'"a\nb" is not a colour'),
    "lone surrogate in a cell": (grid(r'[["\ud800"]]'), r"\ud800 … is not a colour"),
    "three levels": (grid("[[[1]]]"), "[1] is not a colour"),
    "900 levels": (grid("[[" + "[" * 900 + "]" * 900 + "]]"), "[[[ … is not a colour"),
    "null grid": (grid("null"), IN + "a grid is a list of rows, found null"),
    "a grid by name": (grid('{"0": [1]}'), IN + "a grid is a list of rows, found an object"),
    "no pairs": (task(train=[]), 'task bad: "train" must be a list of at least one pair'),
    "null pairs": (task(train=None), '"train" must be a list of at least one pair'),
    "pairs by name": (task(train=PAIR), '"train" must be a list of at least one pair'),
    "a pair as a list": (task(train=[[[[1]], [[1]]]]), "train[0]: expected an object … a list"),
    "null tests": (task(test=None), '"test" must be a list of pairs'),
    "missing output": (task(train=[{"input": [[1]]}]), 'train[0]: "output" is missing'),
    "missing input": (task(test=[{"output": [[1]]}]), 'test[0]: "input" is missing'),
    "null output": (task(train=[{"input": [[1]], "output": None}]), "train[0].output … found null"),
    "null": ("null", "bad.json: expected an object of tasks by id, found null"),
    "a number": ("5", "bad.json: expected an object of tasks by id, found a number"),
    "an empty list": ("[]", "found an empty list"),
    "an empty object": ("{}", "found an empty object"),
    "empty file": ("", "bad.json: not valid JSON"),
    "truncated": (OK[:40], "bad.json: not valid JSON: Unterminated string … line 1 column"),
    "more after it": (OK + "x", "bad.json: not valid JSON: Extra data"),
    "a comment": ("// x\n" + OK, "bad.json: not valid JSON"),
    "quoted as in Python": ("{'train': []}", "bad.json: not valid JSON"),
    # How deep is too deep for Python's parser depends on its version.
    "5,000 brackets": ("[" * 5000, "bad.json: "),
    "5,000 closed brackets": ("[" * 5000 + "]" * 5000, "bad.json: "),
    "100,000 brackets": ("[" * 100_000, "bad.json: brackets nested too deeply"),
    "100,000 objects": ('{"a":' * 100_000, "bad.json: brackets nested too deeply"),
    "two byte-order marks": (b"\xef\xbb\xbf" * 2 + OK.encode(), "bad.json: not valid JSON"),
    "UTF-16": (OK.encode("utf-16"), "bad.json: not a text file in UTF-8 (byte 0)"),
    "random bytes": (bytes(range(128, 256)), "bad.json: not a text file in UTF-8"),
    "NUL bytes": (b'{"train":\0}', "bad.json: not valid JSON"),
    "a key twice": ('{"train": [], "train": []}', "bad.json: the key 'train' stands twice"),
    "line end in a key": (r'{"a\nb": 1, "a\nb": 1}', r"bad.json: the key 'a\nb' stands twice"),
    "line end in an id": (r'{"a\nb": ' + OK + "}", r"task 'a\nb': an id must be printable text"),
    "an empty id": ('{"": ' + OK + "}", "bad.json: task '': an id must be printable text"),
}  # fmt: skip


def link(path: Path, target: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target)


def write(folder: Path, **files: object) -> None:
    """Files of these names below s/, of text or of JSON."""
    (folder / "s").mkdir(exist_ok=True)
    for name, value in files.items():
        path = folder / "s" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value))


def kaggle(challenges: object, solutions: object) -> Make:
    return lambda f: write(f, k_challenges=challenges, k_solutions=solutions)


def two_folders(folder: Path) -> None:
    for name, text in (("s/a", OK), ("s/b", task(test=[PAIR]))):
        (folder / name).mkdir(parents=True)
        (folder / name / "t.json").write_text(text)


A = {"a": HIDDEN}
SOURCES: dict[str, tuple[Make, str, str]] = {
    "no such source": (lambda f: None, "arc9", "arc9: no such source; use arc1"),
    "empty name": (lambda f: None, "", "'': no such source"),
    "a long name": (lambda f: None, "x" * 300, "xxx: no such source"),
    "folder without tasks": (lambda f: (f / "s").mkdir(), "s", "s: the folder holds no .json file"),
    "bad file in a folder": (lambda f: write(f, ok=OK, bad="x"), "s", "s/bad.json: not valid JSON"),
    "line end in a file's name": (lambda f: write(f, **{"a\nb": "x"}), "s", r"s/a\nb.json: not va"),
    "dangling link": (lambda f: link(f / "s/a.json", "no"), "s", "s/a.json: can't be read: No"),
    "link to itself": (lambda f: link(f / "s/a.json", "a.json"), "s", "s/a.json: can't be read"),
    "folder of a file's name": (lambda f: (f / "s/a.json").mkdir(parents=True), "s",
                                "s/a.json: a folder, not a file"),
    "pipe": (lambda f: ((f / "s").mkdir(), os.mkfifo(f / "s/a.json")), "s", "s/a.json: not a file"),
    "two of one id": (two_folders, "s", "s/a/t.json and s/b/t.json: two different tasks of one "
                      "id, t"),
    "Kaggle files in a folder": (kaggle(A, {}), "s", "s/k_challenges.json: a Kaggle … source s/k"),
    "solutions alone": (lambda f: write(f, k_solutions={}), "s/k", "s/k_challenges.json is"),
    "solutions named": (kaggle(A, {}), "s/k_solutions.json", "solutions alone; name the source"),
    "too many solutions": (kaggle(A, {"a": [[[1]], [[2]]]}), "s/k", "k_solutions.json: task a: 1 "
                           "test input, but the solutions hold 2 outputs"),
    "solutions without a task": (kaggle(A, {}), "s/k", "k_solutions.json: task a: … hold null"),
    "solutions of another task": (kaggle(A, {"a": [[[1]]], "b": [[[1]]]}), "s/k",
                                  "s/k_solutions.json: task 'b' is not in s/k_challenges.json"),
    "null solutions": (kaggle(A, None), "s/k", "k_solutions.json: expected an object of task ids"),
    "a null solution": (kaggle(A, {"a": [None]}), "s/k", "task a: solution 0: … found null"),
    "wrong solution": (kaggle(A, {"a": [[[10]]]}), "s/k", "k_solutions.json: task a: solution 0:"),
    "truncated solutions": (kaggle(A, '{"a": [['), "s/k", "s/k_solutions.json: not valid JSON"),
    "solutions that contradict": (kaggle({"a": json.loads(OK)}, {"a": [[[7]]]}), "s/k",
                                  "task a: solution 0 is not the output that the challenges hold"),
    "dangling answers": (lambda f: (write(f, k_challenges=A), link(f / "s/k_solutions.json", "x")),
                           "s/k", "s/k_solutions.json: can't be read: No such file"),
}  # fmt: skip
TASKS = [(name, text, "bad.json", words) for name, (text, words) in FILES.items()]
TASKS += [(name, *case) for name, case in SOURCES.items()]


@pytest.mark.parametrize("command", ["data", "train"])
@pytest.mark.parametrize(
    ("make", "source", "words"), [case[1:] for case in TASKS], ids=[case[0] for case in TASKS]
)
def test_tasks(make, source, words, command, folder, capsys):
    if callable(make):
        make(folder)
    else:
        (folder / "bad.json").write_bytes(make if isinstance(make, bytes) else make.encode())
    argv = ["train", "mini.py", "--workdir", "new", "--data.evaluate"] * (command == "train")
    assert_answered([*(argv or ["data"]), source], 1, words, folder, capsys)


def test_what_can_not_be_used_is_left_out_and_counted(folder, capsys):
    write(folder, ok=OK, bad=grid(f"[{[0] * 31}]"), cut="{")
    argv = ["train", "mini.py", "--workdir", "new", "--dry-run", "--data.evaluate", "s"]
    assert main([*argv, "--data.unfit", "drop_tasks"]) == 0
    assert (
        "\ndata.unfit: left out 2 tasks: a side of more than 30 cells: 1, "
        "a file or line without a task: 1\n"
    ) in capsys.readouterr().out
    assert main([*argv, "--data.only", "ok"]) == 0
    assert "left out" not in capsys.readouterr().out


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf" + OK.encode(), OK.replace(" ", "\r\n").encode()])
def test_a_byte_order_mark_and_foreign_line_ends_do_no_harm(folder, capsys, text):
    (folder / "bom.json").write_bytes(text)
    assert main(["data", "bom.json"]) == 0
    assert "1 task," in capsys.readouterr().out


# --- options, experiment files, work directories -----------------------------------------------
def experiment(text: str) -> Make:
    return lambda folder: (folder / "bad.py").write_text(text)


def with_field(text: str) -> Make:
    start = (
        "from drm_jax.config import *\n"
        "from drm_jax.methods.trm import Trm\n"
        "from drm_jax.model.transformer import Transformer\n"
        "from drm_jax.puzzles.arc.family import Arc\n"
        "def experiment():\n    return Experiment('x', "
    )
    return experiment(f"{start}{text})")


def nothing(folder: Path) -> None:
    pass


def fits(folder: Path) -> None:
    """bad.py: as mini.py, but each example on the smallest window that holds it."""
    text = (folder / "mini.py").read_text()
    (folder / "bad.py").write_text(text.replace("canvas=4", 'canvas="fit"'))


def config(text: str | bytes | Callable[[str], str]) -> Make:
    """run/config.json replaced, or changed."""

    def make(folder: Path) -> None:
        path = folder / "run" / "config.json"
        new = text(path.read_text()) if callable(text) else text
        path.write_bytes(new if isinstance(new, bytes) else new.encode())

    return make


def instead(name: str, kind: str) -> Make:
    """A folder or a file of text where run/NAME was."""

    def make(folder: Path) -> None:
        path = folder / "run" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.mkdir() if kind == "folder" else path.write_text("x")

    return make


def newer(name: str) -> Make:
    return lambda folder: (folder / "run" / "checkpoints" / name).mkdir()


def ids(text: str) -> Make:
    return lambda folder: (folder / "ids.json").write_text(text)


T = "train mini.py --workdir new "
IDS = T + "--data.identifiers ids.json"
B = "train bad.py --workdir new"
AGAIN = "train mini.py --workdir run"
CASES: list[tuple[str, Make, str | list[str], int, str]] = [
    # commands and their options
    ("unknown command", nothing, "trian", 2, "trian: there is no such command; did you mean"),
    ("strange command", nothing, "help", 2, "help: there is no such command; use data, train,"),
    ("unknown option", nothing, "--versoin", 2, "--versoin … did you mean --version? … drm --help"),
    ("of data", nothing, "data --hepl", 2, "--hepl … did you mean --help? (see drm data --help)"),
    ("of train", nothing, T + "--model.hiden 3", 2, "--model.hiden … did you mean --model.hidden? "
     "(see drm train mini.py --help)"),
    ("of eval", nothing, "eval run --stpe 3", 2, "--stpe … did you mean --step? … drm eval run -"),
    ("of checkpoints", nothing, "checkpoints run --hlep", 2, "--hlep … did you mean --help?"),
    ("one dash", nothing, T + "-seed 3", 2, "-seed: there is no such option; did you mean --seed?"),
    ("no- before the group", nothing, T + "--no-evaluate.untrained", 2, "mean --evaluate.no-untr"),
    ("capitals", nothing, T + "--SEED 3", 2, "--SEED … did you mean --seed?"),
    ("without its room", nothing, T + "--hidden 3", 2, "--hidden … did you mean --model.hidden?"),
    ("a word too many", nothing, T + "more", 2, "unrecognized arguments: more"),
    ("a word too many for eval", nothing, "eval run more", 2, "unrecognized arguments: more"),
    ("no experiment", nothing, "train", 2, "name the experiment file first … drm train --help"),
    ("options first", nothing, "train --seed 1", 2, "name the experiment file first"),
    ("eval by none at a time", nothing, "eval run --batch-size 0", 2, "evaluate.batch_size: must"),
    ("a curve of two", nothing, "eval run --curve depth --last 2", 2, "--curve: is of one check"),
    ("a curve of width", nothing, "eval run --curve width", 2, "--curve"),
    ("no such point", nothing, "eval run --curve depth --points 0", 2, "points: … not 0"),
    ("a point too far", nothing, "eval run --curve depth --points 1001", 2, "points: … not 1001"),
    ("rules of ARC", nothing, "eval run --choose rules", 2, "evaluate.choose: … arc has no rules"),
    ("eval of nothing", nothing, "eval", 2, "name the work directory first … drm eval --help"),
    ("checkpoints of nothing", nothing, "checkpoints", 2, "Missing from drm checkpoints: WORKDIR"),
    # values of options
    ("text for a number", nothing, T + "--model.hidden many", 2, "--model.hidden: 'many' is not a "
     "whole number (see drm train mini.py --help)"),
    ("no value", nothing, T + "--train.steps", 2, "Missing value for argument '--train.steps'"),
    ("empty value", nothing, T + "--train.steps=", 2, "--train.steps: '' is not a whole number"),
    ("half a seed", nothing, T + "--seed 1.5", 2, "--seed: '1.5' is not a whole number"),
    ("seed -1", nothing, T + "--seed -1", 2, "seed: must be int >= 0, not -1"),
    ("a large seed", nothing, T + "--seed 9999999999", 2, "seed: must be int <= 2147483647"),
    ("text for a rate", nothing, T + "--optimizer.ema x", 2, "--optimizer.ema: 'x' is not a"),
    ("NaN as a rate", nothing, T + "--optimizer.learning-rate nan", 2, "optimizer.learning_rate: "
     "must be float >= 0.0, not nan"),
    ("infinite rate", nothing, T + "--optimizer.learning-rate inf", 2,
     "learning_rate: must be float <= 2147483647.0, not inf"),
    ("decay of 1", nothing, T + "--optimizer.beta1 1", 2, "optimizer.beta1: must be float < 1.0"),
    ("float16", nothing, T + "--model.dtype float16", 2, "'float16' … '--model.dtype'"),
    ("unknown noise", nothing, T + "--method.noise.kind x", 2,
     "'x' for argument '--method.noise.kind'"),
    ("unknown schedule", nothing, T + "--method.noise.schedule x", 2,
     "method.noise.schedule: 'x' is not one of"),
    ("all augmentations in training", nothing, T + "--data.num-augmentations all", 2,
     "--data.num-augmentations: 'all' is not a whole number"),
    # parts of many kinds
    ("unknown method", nothing, T + "--method x", 2, "method: 'x' is not one of drm, trm, sprm,"),
    ("a near method", nothing, T + "--method trn", 2, "method: 'trn' … did you mean trm?"),
    ("unknown network", nothing, T + "--model conv", 2,
     "model: 'conv' is not one of transformer, token_mixer"),
    ("a near network", nothing, T + "--model=token-mixer", 2, "did you mean token_mixer?"),
    ("unknown family", nothing, T + "--data x", 2, "data: 'x' is not one of arc, sudoku"),
    ("a near family", nothing, T + "--data sudoko", 2, "'sudoko' … did you mean sudoku?"),
    ("a part without its name", nothing, T + "--method", 2, "--method: name one of drm, trm, sprm"),
    ("an option for its name", nothing, T + "--method --seed 1", 2, "--method: name one of drm,"),
    ("method of no module", nothing, T + "--method no_x:f", 2, "method no_x:f: there is no module"),
    ("method that is no class", nothing, T + "--method mini:experiment", 2,
     "method: mini:experiment: must be a frozen dataclass"),
    ("method of no such class", nothing, T + "--method mini:Drn", 2,
     "mini.py defines no function or class Drn; did you mean Drm?"),
    ("a network as method", nothing, T + "--method mini:Transformer", 2, "method: can't be Tra"),
    ("supervision of trm", nothing, T + "--method trm --method.supervision path", 2,
     "--method.supervision: there is no such option"),
    ("noise of trm", nothing, T + "--method trm --method.noise.kind uniform", 2,
     "--method.noise.kind: there is no such option"),
    ("denoising of trm", nothing, T + "--method trm --method.denoising.remask confidence", 2,
     "--method.denoising.remask: there is no such option"),
    ("halting of drm", nothing, T + "--method.halting.max-steps 2", 2,
     "--method.halting.max-steps: there is no such option"),
    ("recursion of diffusion", nothing, T + "--method diffusion --method.recursion.cycles 2", 2,
     "--method.recursion.cycles: there is no such option"),
    ("z of diffusion", nothing, T + "--method diffusion --method.denoising.no-carry-z", 2,
     "--method.denoising.no-carry-z: there is no such option"),
    ("no MASK", nothing, T + "--method.no-mask-token", 2, "--method.no-mask-token: there is no su"),
    ("heads of a token mixer", nothing, T + "--model token_mixer --model.heads 1", 2,
     "--model.heads: there is no such option"),
    ("tasks of sudoku", nothing, T + "--data sudoku --data.only x", 2,
     "--data.only: there is no such option"),
    ("a side of sudoku", nothing, T + "--data sudoku --data.side 5", 2,
     "data.side: must be 4, 6, 9 or 16, not 5"),
    ("windows for trm", nothing, T + "--data.canvas fit --method trm", 2, "data.canvas: fit"),
    ("trm on windows", lambda f: fits(f), B + " --method trm", 2, "data.canvas: fit"),
    ("windows for a token mixer", lambda f: fits(f), B + " --model token_mixer", 2,
     "data.canvas: fit needs a backbone with attention"),
    ("path of a short window", nothing,
     T + "--method.supervision path --method.recursion.cycles 2", 2,
     "method.recursion.grad_cycles: supervision=path scores every cycle: must be 2, not 1"),
    ("unknown supervision", nothing, T + "--method.supervision x", 2,
     "'x' … '--method.supervision'"),
    ("no steps of an example", nothing, T + "--method trm --method.halting.max-steps 0", 2,
     "method.halting.max_steps: must"),
    ("exploration", nothing, T + "--method trm --method.halting.exploration 1.1", 2,
     "method.halting.exploration: must be float <= 1.0, not 1.1"),
    ("latent levels", nothing, T + "--method sprm --method.latent-levels 1001", 2,
     "method.latent_levels: must"),
    ("no name", nothing, [*T.split(), "--name", ""], 2, "name: must be the name of a folder"),
    ("name of another place", nothing, T + "--name ../x", 2, "name: must be the name of a folder"),
    # sizes that can't be
    ("heads", nothing, T + "--model.heads 3", 2, "model.heads: 3 heads don't divide width 8"),
    ("odd heads", nothing, T + "--model.heads 8", 2,
     "model.heads: 8 heads don't divide width 8 into even parts"),
    ("no heads", nothing, T + "--model.heads 0", 2, "model.heads: must be int >= 1"),
    ("gradient cycles", nothing, T + "--method.recursion.grad-cycles 2", 2,
     "method.recursion.grad_cycles: 2 is more than the 1 cycles there are"),
    ("cycles > levels", nothing, T + "--method.recursion.cycles 1001", 2,
     "method.recursion.cycles: must be int <= 1000"),
    ("N > levels", nothing, T + "--evaluate.denoise-steps 1001", 2, "denoise_steps: must be int"),
    ("layers", nothing, T + "--model.layers 100000000", 2, "model.layers: must be int <= 1000"),
    ("no steps", nothing, T + "--train.steps 0", 2, "train.steps: must be int >= 1, not 0"),
    ("too many steps", nothing, T + "--train.steps 2147483648", 2, "train.steps: must be int <= 2"),
    ("batch", nothing, T + "--train.batch-size 6", 2, "train.batch_size: 6 examples can't be split "
     "over 4 devices"),
    ("evaluation batch", nothing, T + "--evaluate.batch-size 6", 2, "evaluate.batch_size: 6 exam"),
    ("a huge batch", nothing, T + "--train.batch-size 2000000000", 2,
     "train.batch_size: must be int <= "),
    ("canvas 31", nothing, T + "--data.canvas 31", 2, "data.canvas: must be int <= 30, not 31"),
    ("canvas too small", nothing, T + "--data.canvas 2", 1, "task ok … data.canvas 2; leave it"),
    ("augmentations", nothing, T + "--data.num-augmentations 2903040", 2, "num_augmentations:"),
    ("no sources", nothing, T + "--data.evaluate", 2, "data.train: name at least one source"),
    ("unknown id", nothing, T + "--data.only zzz", 1, "data.only: no source holds task 'zzz' … "
     "--data.only without an id clears it"),
    ("no test to answer", lambda f: (f / "t.json").write_text(json.dumps({"train": [PAIR]})),
     T + "--data.evaluate t.json", 1, "t.json: task t has no test to answer … under data.train"),
    ("a source twice", nothing, T + "--data.train ok.json", 1, "task ok stands in ok.json (train) "
     "and ok.json (evaluate) … leave one source out"),
    ("profile -1", nothing, T + "--profile -1", 2, "--profile: must be at least 0, not -1"),
    ("profile x", nothing, T + "--profile x", 2, "--profile: 'x' is not a whole number"),
    ("step x", nothing, "eval run --step x", 2, "--step: 'x' is not a whole number"),
    ("step -1", nothing, "eval run --step -1", 2, "--step: a step is at least 0, not -1"),
    ("a huge step", nothing, f"eval run --step {10**20}", 1, "no checkpoint of step 1000"),
    ("steps x", nothing, "eval run --steps 1,x", 2, "--steps: 'x' is not a whole number; give st"),
    ("steps with a gap", nothing, "eval run --steps 1,,2", 2, "--steps: '' is not a whole number"),
    ("no steps named", nothing, ["eval", "run", "--steps", ""], 2, "--steps: '' is not a whole nu"),
    ("half steps", nothing, "eval run --steps 1,2.5", 2, "--steps: '2.5' is not a whole number"),
    ("huge steps", nothing, "eval run --steps 1," + "9" * 5000, 2, "99' is not a whole number"),
    ("steps twice", nothing, "eval run --steps 1,2,01", 2, "--steps: step 1 is named twice; leave"),
    ("steps not there", nothing, "eval run --steps 1,7", 1, "no checkpoint of step 7; there are 1"),
    ("one not there", nothing, "eval run --steps 7", 1, "no checkpoint of step 7; there are 1"),
    ("steps apart", nothing, "eval run --steps 1 7", 2, "unrecognized arguments: 7"),
    ("last 0", nothing, "eval run --last 0", 2, "--last: must be at least 1, not 0"),
    ("last -1", nothing, "eval run --last -1", 2, "--last: must be at least 1, not -1"),
    ("last x", nothing, "eval run --last x", 2, "--last: 'x' is not a whole number"),
    ("last 2", nothing, "eval run --last 2", 1, "/checkpoints: there are not 2 checkpoints"),
    ("last of nothing", instead("checkpoints", "folder"), "eval run --last 1", 1, "holds no check"),
    ("step and steps", nothing, "eval run --step 1 --steps 1", 2, "Arguments --step and --steps "
     "are not allowed together! (see drm eval run --help)"),
    ("steps and last", nothing, "eval run --steps 1 --last 1", 2, "--steps and --last are not"),
    ("step and last", nothing, "eval run --last 1 --step 1", 2, "--last and --step are not al"),
    ("an ensemble with a damaged one", newer("9"), "eval run --steps 9,1", 1, "checkpoints/9: damag"
     "ed … an ensemble needs all of its checkpoints: name others with --steps"),
    ("the last ones, one damaged", newer("9"), "eval run --last 2", 1, "checkpoints/9: damaged … "
     "an ensemble needs all of its checkpoints"),
    ("the last one is damaged", newer("9"), "eval run --last 1", 1, "checkpoints/9: damaged"),
    # experiment files
    ("no file", nothing, "train no.py", 1, "no.py: no such experiment file"),
    ("empty file name", nothing, ["train", ""], 1, "'': no such experiment file"),
    ("NUL in a file name", nothing, ["train", "a\0b"], 1, r"a\x00b: no such experiment file"),
    ("a folder", lambda f: (f / "s").mkdir(), "train s", 1, "/s: not a work directory, there is no "
     "config.json in it"),
    ("a bucket of another kind", nothing, "train s3://a/b", 2, "s3://a/b: only gs:// buckets"),
    ("a run that is not there", nothing, "train runs/x", 1, "runs/x: no such experiment file or w"),
    ("not Python", nothing, "train ok.json", 2, "ok.json: not a Python file"),
    ("empty experiment", experiment(""), B, 2, "bad.py: must define experiment()"),
    ("returns a number", experiment("def experiment(): return 7"), B, 2, "must define"),
    ("wrong syntax", experiment("x = 1\ndef experiment(:"), B, 2, "bad.py: line 2: invalid syntax"),
    ("binary", experiment("x = 1\0"), B, 2, "bad.py: source code string cannot contain null bytes"),
    ("text as steps", with_field("train=Train(steps='2')"), B, 2, "train.steps: must be int, not"),
    ("half a step", with_field("train=Train(steps=2.5)"), B, 2, "train.steps: must be int, not"),
    ("true as a width", with_field("model=Transformer(hidden=True)"), B, 2,
     "model.hidden: must be int"),
    ("text as sources", with_field("data=Arc(train='arc1')"), B, 2, "data.train: must be"),
    ("no model", with_field("model=None"), B, 2, "model: must be an instance of"),
    ("a class as a method", with_field("method=Trm"), B, 2, "method: must be an instance of"),
    ("a network for a method", with_field("method=Transformer()"), B, 2, "method: can't be Tra"),
    ("NaN in a file", with_field("optimizer=Optimizer(ema=float('nan'))"), B, 2, "optimizer.ema:"),
    # the place of a work directory
    ("empty workdir", nothing, ["train", "mini.py", "--workdir", ""], 2, "workdir: '': name a"),
    ("lines in it", nothing, ["train", "mini.py", "--workdir", "a\nb"], 2, r"workdir: 'a\nb':"),
    ("a file", nothing, "train mini.py --workdir ok.json", 1, "ok.json: is a file: name a folder"),
    ("below a file", nothing, "train mini.py --workdir ok.json/a/b", 1, "ok.json: is a file"),
    ("a dangling link", lambda f: link(f / "l", "no/no"), "train mini.py --workdir l", 1,
     "/l: is not a folder: name a folder as --workdir"),
    ("nobody's home", nothing, "train mini.py --workdir ~no_one_x/a", 1, "~no_one_x/a: there is"),
    ("s3", nothing, "train mini.py --workdir s3://a/b", 2, "workdir: s3://a/b: only gs:// buckets"),
    ("no bucket", nothing, "train mini.py --workdir gs://", 2, "name a bucket and a folder"),
    ("eval of no run", nothing, "eval nowhere", 1, "nowhere: not a work directory, there is no"),
    ("eval of a file", nothing, "eval ok.json", 1, "ok.json: not a work directory"),
    ("checkpoints of no run", nothing, "checkpoints nowhere", 1, "nowhere: not a work directory"),
    ("another configuration", nothing, AGAIN + " --model.hidden 16", 2, "holds a run of another "
     "configuration (--model.hidden was 8, is 16): use the same options, or another --workdir"),
    ("shorter", lambda f: config(lambda t: t.replace('"steps": 1', '"steps": 2'))(f), AGAIN, 2,
     "--train.steps was 2, is 1 (a run can be made longer, not shorter)"),
    # config.json
    ("truncated config", config(lambda t: t[:99]), AGAIN, 1, "run/config.json: not a"),
    ("truncated, alone", config(lambda t: t[:99]), "train run", 1, "config.json: not a … bring"),
    ("a run made shorter", config(lambda t: t.replace('"steps": 1', '"steps": 2')),
     "train run --train.steps 1", 2, "--train.steps was 2, is 1 (a run can be made longer, not"),
    ("a run by another model", nothing, "train run --model.hidden 16", 2, "(--model.hidden was 8"),
    ("a run, wrong option", nothing, "train run --sede 1", 2, "--seed? (see drm train run --h"),
    ("binary config", config(bytes(range(256))), "eval run", 1, "run/config.json: 'utf-8' codec"),
    ("empty config", config(""), "checkpoints run", 1, "run/config.json: not a configuration"),
    ("null as a config", config("null"), AGAIN, 1, "run/config.json: config: expected an object"),
    ("brackets as a config", config("[" * 100_000), AGAIN, 1, "config.json … nested too deeply"),
    ("another version", config(lambda t: '{"new": 1,' + t[1:]), "eval run", 1,
     "run/config.json: new: unknown field; known are name"),
    ("a field is missing", config("{}"), "eval run", 1, "run/config.json: name: is missing"),
    ("wrong type in it", config(lambda t: t.replace('"steps": 1', '"steps": "1"')), "eval run", 1,
     "run/config.json: train.steps: must be int, not '1'; bring it back from a copy"),
    ("folder as a config", instead("config.json", "folder"), "eval run", 1, "config.json: Is a"),
    # other files of a run
    ("metrics.jsonl", instead("metrics.jsonl", "folder"), AGAIN, 1, "metrics.jsonl: Is a"),
    ("its list", instead("metrics.jsonl", "folder"), "checkpoints run", 1, "metrics.jsonl: Is a"),
    ("lock", instead("lock", "folder"), AGAIN, 1, "run/lock: Is a directory; put it right"),
    ("tensorboard", instead("tensorboard", "file"), AGAIN, 1, "run/tensorboard: File exists"),
    ("eval", instead("eval", "file"), "eval run", 1, "run/eval: can't be written to: Not a dir"),
    ("checkpoints", instead("checkpoints", "file"), AGAIN, 1, "run/checkpoints: Not a directory"),
    ("no checkpoint", instead("checkpoints", "folder"), "eval run", 1,
     "holds no checkpoint, but one was saved there"),
    ("another shape", config(lambda t: t.replace('"hidden": 8', '"hidden": 16')), "eval run", 1,
     "run/config.json: was edited (--model.hidden was 8, is 16): put back what was there"),
    ("damaged, strict", newer("9"), "eval run --strict", 1, "checkpoints/9: damaged: the folder"),
    ("the step asked for is damaged", newer("9"), "eval run --step 9", 1, "checkpoints/9: damaged"),
    ("another step's", lambda f: (f / "run/checkpoints/1").rename(f / "run/checkpoints/5"),
     "eval run --step 5", 1, "checkpoints/5: damaged: what is in it was saved at step 1"),
    # --data.identifiers
    ("no list", nothing, T + "--data.identifiers no", 1, "data.identifiers: no: no such file on"),
    ("a list of no name", nothing, [*T.split(), "--data.identifiers", ""], 1, "ers: '': no"),
    ("a folder as a list", nothing, T + "--data.identifiers run", 1, "identifiers: run: no such"),
    ("NUL in a list's name", nothing, [*T.split(), "--data.identifiers", "a\0"], 1, r"a\x00: no s"),
    ("a cut list", ids('["<blank>", "o'), IDS, 1, "ids.json: not valid JSON … use the identifier"),
    ("a list by name", ids("{}"), IDS, 1, "ids.json: expected a list … use the identifiers.json"),
    ("a number in it", ids('["<blank>", 7]'), IDS, 1, "ids.json: entry 1 is 7, not a name; use"),
    ("no blank id", ids('["ok"]'), IDS, 1, "ids.json: entry 0 is 'ok', not <blank>; use the ident"),
    ("a name twice", ids('["<blank>", "ok", "ok"]'), IDS, 1, "entries 1 and 2 are both 'ok'; use"),
    ("transform 8", ids('["<blank>", "ok|||t8|||0123456789"]'), IDS, 1, "ids.json: entry 1, "
     "'ok|||t8|||0123456789': there is no transform 't8', only t0 to t7; use the identifiers.json"),
    ("lines in a name", ids(r'["<blank>", "o\nk|||"]'), IDS, 1, r"1, 'o\nk|||': neither TASK nor"),
    ("0 moved", ids('["<blank>", "ok|||t0|||1023456789"]'), IDS, 1, "it moves colour 0, which sta"),
    ("ids of others", ids('["<blank>", "x"]'), IDS, 1, "ids.json: has no entry of task ok (ok.json;"
     " 1 such of 1 task): leave it out (data.train, data.evaluate, data.only), or name the"),
    ("another list", lambda f: (ids("[]")(f), (f / "run/identifiers.json").write_text("{}")),
     IDS + " --workdir run", 1, "data.identifiers: ids.json: is not the file that the run in … "
     "began with; bring that one back (its copy is … run/identifiers.json), or use another --work"),
    # --init-from
    ("init from nothing", nothing, T + "--init-from no", 1, "init_from: no: holds no checkpoint"),
    ("init from itself", nothing, T + "--init-from new", 1, "init_from: new: holds no checkpoint"),
    ("init from a file", nothing, T + "--init-from mini.py", 1, "init_from: mini.py: holds no"),
    ("init from s3", nothing, T + "--init-from s3://a", 2, "init_from: s3://a: only gs:// buckets"),
    ("init from no name", nothing, [*T.split(), "--init-from", ""], 2, "init_from: '': name a"),
    ("init from another shape", nothing, T + "--init-from run --model.hidden 16", 1, "run: a "
     "checkpoint of another model … use the model options that it was trained with"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "argv", "code", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_commands(make, argv, code, words, folder, capsys):
    make(folder)
    assert_answered(argv.split() if isinstance(argv, str) else argv, code, words, folder, capsys)


DRY = [c for c in CASES if "--workdir new" in c[2] and c[1] is nothing and "--profile" not in c[2]]


@pytest.mark.parametrize(("argv", "code", "words"), [c[2:] for c in DRY], ids=[c[0] for c in DRY])
def test_a_dry_run_finds_it_too(argv, code, words, folder, capsys):
    assert_answered(
        ["train", "mini.py", "--dry-run", *argv.split()[2:]], code, words, folder, capsys
    )


@pytest.mark.parametrize("name", ["007", "-1", "²", "notes"])
def test_folders_that_are_no_steps_are_not_looked_at(folder, capsys, name):
    newer(name)(folder)
    assert main(["eval", "run"]) == 0
    assert "damaged" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", ["[]", "[" * 5000, '{"step": "x", "kind": "train"}', '{"step": 1, "kind": ["a"]}',
             '{"step": 1, "kind": "eval", "pass@2": "x"}', "\x00\x85\ufffd"],
)  # fmt: skip
def test_lines_that_are_no_metrics_are_left_out(folder, capsys, line):
    with (folder / "run" / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    assert main(["checkpoints", "run"]) == 0
    assert main(AGAIN.split()) == 0
    assert "yes" in capsys.readouterr().out


# --- the environment ---------------------------------------------------------------------------
def drm(argv: str, folder: Path, **others) -> subprocess.CompletedProcess:
    code = "import sys; from drm_jax.commands.main import main; sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": str(Path(drm_jax.__file__).parent.parent)}
    environment |= others.pop("env", {})
    command = [sys.executable, "-c", code, *argv.split()]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | others
    return subprocess.run(command, cwd=folder, env=environment, check=False, **options)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("JAX_PLATFORMS", "nonsense", "JAX_PLATFORMS=nonsense … unset that"),
        ("JAX_NUM_CPU_DEVICES", "x", 'Invalid value "x" … jax_num_cpu_devices: unset or correct'),
        ("JAX_ENABLE_X64", "maybe", "JAX_ENABLE_X64"),
    ],
)
def test_environment_of_jax(folder, name, value, words):
    run = drm(f"{T} --dry-run", folder, env={name: value})
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert all(word in run.stderr for word in words.split(" … "))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--seed 1", "or another --workdir run_seed1\n"),
        ("--seed 12 --model.heads 2", "or another --workdir run_seed12\n"),
        ("--model.heads 2", "or another --workdir\n"),
    ],
)
def test_a_second_seed_is_told_of_a_work_directory_of_its_own(folder, capsys, options, words):
    assert main(["train", "mini.py", "--workdir", "run", *options.split()]) == 2
    assert capsys.readouterr().err.endswith(words)
    shutil.copytree("run", "a run_seed0")
    assert main(["train", "mini.py", "--workdir", "a run_seed0", "--seed", "3"]) == 2
    assert capsys.readouterr().err.endswith("or another --workdir 'a run_seed3'\n")


@pytest.mark.parametrize(
    "argv",
    ["train no.py", "train runs/no", "train no/no.py --dry-run", "plan no.py --topology v5e:4x4",
     "eval no", "report no", "report run --output no/x.html", "runs no", "checkpoints no",
     "show no aaaa", "show aaaa --source no", "data no", "data no.json", T + "--data.train no",
     T + "--data.identifiers no", T + "--init-from no", "train ~no_one/no.py",
     "runs ~no_one", "show run ok --png no/x.png",
     "import step_1 --config no --reset-puzzle-table --workdir new",
     "import no --config no --workdir new", T + "--dry-run --workdir ~no_one/x"],
)  # fmt: skip
def test_a_missing_path_has_one_exit_code(folder, capsys, argv):
    assert main(argv.split()) == 1
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err


def test_output_that_is_full_closed_or_of_few_letters(folder):
    with open("/dev/full", "w") as full:
        run = drm("data ok.json", folder, stdout=full)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "No space left on device" in run.stderr

    read, end = os.pipe()
    os.close(read)
    run = drm("data ok.json", folder, stdout=end)
    os.close(end)
    assert (run.returncode, run.stderr) == (0, "")

    run = drm("data ok.json", folder, env={"PYTHONIOENCODING": "ascii", "COLUMNS": "10"})
    assert (run.returncode, run.stderr) == (0, "")
    assert "1-3" in run.stdout


def test_a_run_outlives_its_reader(folder):
    """As in `drm train … | head -1`, or where a terminal is closed."""
    read, end = os.pipe()
    os.close(read)
    run = drm(f"{T} --workdir outlived", folder, stdout=end)
    os.close(end)
    assert (run.returncode, run.stderr) == (0, "")
    shutil.rmtree(folder / "outlived" / "checkpoints")  # raises where there are none
    with open("/dev/full", "w") as full:
        run = drm(f"{T} --workdir outlived --begin-anew", folder, stdout=full)
    assert run.returncode == 1  # after all of it
    assert run.stderr == "drm: what is printed can't be written: No space left on device\n"
    shutil.rmtree(folder / "outlived" / "checkpoints")
    shutil.rmtree(folder / "outlived")


@pytest.mark.parametrize(
    "options",
    ["--model.hidden 1048576", "--evaluate.batch-size 1048576 --model.hidden 4096",
     "--train.batch-size 1048576 --train.accumulate 1 --model.hidden 4096"],
)  # fmt: skip
def test_a_dry_run_says_what_does_not_fit(folder, capsys, options):
    assert main([*T.split(), "--dry-run", *options.split()]) == 1
    err = capsys.readouterr().err
    assert err.startswith("drm: it doesn't fit on this machine: a device would need ")
    assert err.count("\n") == 1


def test_a_dry_run_refuses_candidates_without_end(folder, capsys):
    sudoku = "--data sudoku --data.side 4 --data.train-puzzles 4 --data.test-puzzles 4"
    argv = f"{T} --dry-run {sudoku} --evaluate.num-augmentations 100000000"
    assert main(argv.split()) == 1
    err = capsys.readouterr().err
    assert "the answers of 400,000,004 candidates don't fit in memory: at most 33,554,431" in err


def test_a_dry_run_makes_no_extreme_batch(folder, capsys):
    """One of them would take minutes."""
    assert main([*T.split(), "--dry-run", "--train.batch-size", "1048576"]) == 0
    assert "1 step of 1,048,576 examples" in capsys.readouterr().out


COMMAND_LINES = [
    "--help", "--version", "data ok.json", "train mini.py --help", "train mini.py --dry-run",
    "eval run --help", "report run", "show run ok", "runs .", "checkpoints run",
    "plan mini.py --topology 1xH100", "plan mini.py --topology 1xH100 --json",
]  # fmt: skip
LOST = "drm: what is printed can't be written: "


@pytest.mark.parametrize("argv", COMMAND_LINES)
def test_output_that_is_lost_is_told_of_by_every_command(folder, monkeypatch, capsys, argv):
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(argv.split()) == 1
    assert capsys.readouterr().err == f"{LOST}No space left on device\n"
    monkeypatch.setattr(sys, "stdout", None)  # as Python has it for a closed one
    assert main(argv.split()) == 1
    sys.stdout.close()  # opened instead
    assert capsys.readouterr().err == f"{LOST}it is closed\n"


@pytest.mark.parametrize("argv", COMMAND_LINES)
def test_a_reader_who_has_read_enough_is_no_error(folder, monkeypatch, capsys, argv):
    read, end = os.pipe()
    os.close(read)
    with os.fdopen(end, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(argv.split()) == 0
    assert capsys.readouterr().err == ""


def test_narrow_terminals_and_plain_letters_don_t_cut_messages(folder):
    env = {"PYTHONIOENCODING": "ascii", "COLUMNS": "10"}
    run = drm(f"{T} --model.heads 3", folder, env=env)
    assert run.stderr.startswith("drm: model.heads: 3 heads don't divide width 8 into even parts (")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom drm_jax.commands.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(str({'jax', 'tyro', 'numpy', 'rich'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr.strip() == "set()"
    assert "drm" in run.stdout


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Failed to allocate"),
        RuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 8 bytes."),
    ],
)
def test_too_little_memory_names_what_to_make_smaller(capsys, monkeypatch, error):
    def fails(argv):
        raise error

    monkeypatch.setattr("drm_jax.commands.train.run", fails)
    assert main(["train"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--train.batch-size" in err


def test_an_unexpected_error_shows_its_traceback_and_one_line(capsys, monkeypatch):
    def fails(argv):
        raise KeyError("a\nb")

    monkeypatch.setattr("drm_jax.commands.data.run", fails)
    assert main(["data"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert 'raise KeyError("a' in err
    assert err.splitlines()[-1] == "drm: unexpected KeyError: 'a\\nb'"


@pytest.mark.parametrize(
    ("text", "code", "place", "line"),
    [
        ("x = 1\nraise OSError('a\\nb')", 2, 'bad.py", line 2', r"bad.py: line 2: OSError: a\nb"),
        ("def f():\n    return 1 // 0\ndef experiment(): return f()", 2, 'bad.py", line 2, in f',
         "bad.py: line 2: ZeroDivisionError: "),
        ("import sys\nsys.exit(3)", 2, 'bad.py", line 2', "bad.py: line 2: SystemExit: 3"),
        ("import no_x", 2, 'bad.py", line 1', "bad.py: line 1: ModuleNotFoundError: No module"),
        ("def experiment(): return experiment()", 2, 'bad.py", line 1', "RecursionError"),
    ],
)  # fmt: skip
def test_an_experiment_file_that_raises(folder, capsys, text, code, place, line):
    experiment(text)(folder)
    before = contents(folder)
    assert main(B.split()) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Traceback")
    assert place in err
    last = err.splitlines()[-1]
    assert last.startswith("drm: bad.py")
    assert line in last
    assert contents(folder) == before


def test_a_broken_pipe_that_is_not_our_output_s_is_a_failure(capsys, monkeypatch):
    """As of a bucket, whose connection was cut."""

    def fails(argv):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("drm_jax.commands.data.run", fails)
    assert main(["data"]) == 1
    assert capsys.readouterr().err == "drm: the output or a file: Broken pipe\n"


def test_a_command_whose_output_is_closed_ends_well_however_much_it_prints(folder):
    read, end = os.pipe()
    os.close(read)
    run = drm("data arc1 arc2 arc1 arc2 arc1 arc2 " + "arc1/training " * 30, folder, stdout=end)
    os.close(end)
    assert (run.returncode, run.stderr) == (0, "")
