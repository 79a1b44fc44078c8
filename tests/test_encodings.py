"""Text files are UTF-8 whatever the locale: each place that opens one says so."""

import ast
import dataclasses
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_run import made_run

from drm_jax.io.files import work_path
from drm_jax.runtime.console import open_console

ROOT = Path(__file__).parents[1]
FOLDERS = ("drm_jax", "experiments", "benchmarks", "launch")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0"}


def _programs_in(tree: ast.AST) -> Iterator[ast.AST]:
    """A program, and those in its strings, such as that of a child process."""
    yield tree
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
            try:
                yield from _programs_in(ast.parse(node.value))
            except SyntaxError:
                continue


def _lacks_encoding(call: ast.Call) -> bool:
    """Whether a call reads or writes text by the encoding of the locale."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in named:
        return False
    if name == "read_text":
        return not call.args
    if name == "write_text":
        return len(call.args) < 2
    if "text" in named or "universal_newlines" in named:  # of a subprocess
        return True
    if name not in ("open", "fdopen", "TemporaryFile", "NamedTemporaryFile"):
        return False
    # The mode comes first in the methods, such as path.open("a"), second in open(path, "a").
    place = 1 if isinstance(call.func, ast.Name) or name == "fdopen" else 0
    mode = call.args[place] if len(call.args) > place else named.get("mode")
    if mode is None:
        return isinstance(call.func, ast.Name) or name == "fdopen"
    text = getattr(mode, "value", None)
    return isinstance(text, str) and set(text) <= set("rwax+t")


def _places(source: str) -> list[int]:
    """The lines of calls that name no encoding."""
    calls = [node for tree in _programs_in(ast.parse(source)) for node in ast.walk(tree)
             if isinstance(node, ast.Call)]  # fmt: skip
    return [call.lineno for call in calls if _lacks_encoding(call)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_text_file_names_its_encoding(folder):
    found = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (lines := _places(path.read_text(encoding="utf-8")))
    }
    assert not found, 'add encoding="utf-8"'


def test_the_search_finds_what_it_should():
    for text in ("p.read_text()", "p.write_text(x)", "open(p)", "open(p, 'a')", "p.open('w')",
                 "run(c, text=True)", "TemporaryFile('w+')", "x = '''\nopen(p)\n'''"):  # fmt: skip
        assert _places(text), text
    for text in ("open(p, 'rb')", "p.open('wb')", "os.open(p, os.O_RDONLY)", "Image.open(p)",
                 "p.read_text('utf-8')", "open(p, encoding='utf-8')"):  # fmt: skip
        assert not _places(text), text


def drm(argv: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "drm_jax", *argv.split()], cwd=cwd, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env, encoding="utf-8", errors="replace",
        check=False,
    )  # fmt: skip


def test_a_report_is_the_same_in_any_locale(tiny, tmp_path):
    made_run(work_path(tmp_path / "made"), dataclasses.replace(tiny, name="naïve"))
    for name, env in (("ascii.html", ASCII), ("utf8.html", {"PYTHONUTF8": "1"})):
        run = drm(f"report made --output {name}", tmp_path, **env)
        assert (run.returncode, run.stderr) == (0, "")
    page = (tmp_path / "ascii.html").read_bytes()
    assert page == (tmp_path / "utf8.html").read_bytes()
    assert "naïve" in page.decode("utf-8")


def test_a_name_that_the_locale_can_t_spell_is_refused_in_one_line(tmp_path):
    (tmp_path / "dé").mkdir()
    run = drm("runs dé", tmp_path, **ASCII)
    assert run.returncode == 2
    assert run.stderr.startswith("drm: folder: ")
    assert run.stderr.endswith("needs a UTF-8 locale, such as LC_ALL=C.UTF-8\n")


def test_what_standard_output_can_t_spell_is_replaced(monkeypatch):
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", output)
    open_console().print("░ masked; │ ends a grid; é")
    assert output.buffer.getvalue() == b": masked; | ends a grid; ?\n"


def test_drm_data_in_a_narrow_terminal_and_in_ascii(tmp_path):
    pair = '{"input": [[1]], "output": [[1]]}'
    (tmp_path / "a.json").write_text(f'{{"train": [{pair}]}}')
    run = drm("data a.json", tmp_path, COLUMNS="40", **ASCII)
    assert "     1-3      2  100% ##################\n" in run.stdout
    assert run.stdout.isascii()
    assert "?" not in run.stdout
