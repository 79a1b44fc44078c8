"""What is printed in terminals of any width: no word is broken, and what matters most stays."""

import io
import re

import pytest
from rich.console import Console
from rich.table import Table

from drm_jax.runtime.console import open_console
from drm_jax.runtime.progress import progress_bar

NEWS = ["loss 2.623", "exact 12.3%", "1,000 ex/s", "pass@2 62.5% at step 150,000"]


def line_of(columns: int) -> list[str]:
    """The lines of a progress bar in a terminal of so many columns."""
    console = Console(width=columns, file=io.StringIO())
    bar = progress_bar(console)
    task = bar.add_task("train", total=155_718, completed=10, news=NEWS)
    bar.update(task, completed=100)
    bar.update(task, completed=155_000)
    console.print(bar.get_renderable())
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("columns", "shown"),
    [(32, "train T D left"), (40, "train T D D left"), (60, "train T D left N0 N1"),
     (80, "train T D D left N0 N1 N2"), (120, "train T D D left N0 N1 N2 N3"),
     (160, "train ━ T D D left N0 N1 N2 N3")],
)  # fmt: skip
def test_the_step_and_the_time_left_stay_on_the_progress_line(columns, shown):
    (line,) = line_of(columns)
    assert len(line) <= columns
    line = re.sub(r"\d+:\d\d:\d\d", "D", re.sub("━.*[━╸]", "━", line.replace("155000/155718", "T")))
    for i, news in enumerate(NEWS):
        line = line.replace(news, f"N{i}")
    assert line.split() == shown.split()


@pytest.fixture
def printed(capsys, monkeypatch):
    """Prints something in a terminal of so many columns; returns its lines."""

    def print_in(columns: int, what: object) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        open_console().print(what)
        return capsys.readouterr().out.splitlines()

    return print_in


def table(title: str) -> Table:
    made = Table(title=title)
    made.add_column("answers of")
    made.add_column("rank of the truth", justify="right")
    made.add_column("last line", no_wrap=True)
    made.add_row("copying the input", "12", "11-28 22:39")
    made.add_row("step 155,718", "", "11-28 22:40")
    return made


def test_a_table_that_is_too_wide_becomes_a_list(printed):
    whole = printed(80, table("Scores"))
    assert "│ copying the input │                12 │ 11-28 22:39 │" in whole
    narrower = printed(40, table("Scores"))  # broken between words
    assert "11-28 22:39" in " ".join(narrower)
    assert all(len(line) <= 40 for line in narrower)
    assert printed(30, table("Scores")) == [
        "Scores",
        "copying the input",
        "  rank of the truth: 12",
        "  last line: 11-28 22:39",
        "step 155,718",
        "  last line: 11-28 22:40",
    ]


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
def test_no_path_is_broken(columns, printed):
    path = "/somewhere/" + 20 * "long_" + "name"
    assert path in " ".join(printed(columns, table(f"Runs in {path}")))
    assert path in " ".join(printed(columns, f"All is in {path}, and more."))


def test_sentences_are_broken_between_words_in_a_terminal_alone(printed, monkeypatch):
    path = "/somewhere/long/" + "name"
    said = f"mini, drm, seed 0: 1 task; its files are in {path}, as always"
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert [line.rstrip() for line in printed(20, f"  {path}{path}\n{said}")] == [
        f"  {path}{path}", "mini, drm, seed 0: 1", "task; its files are", "in", f"{path},",
        "as always",
    ]  # fmt: skip
    monkeypatch.delenv("FORCE_COLOR")
    assert printed(20, f"{path}{path} {said}") == [f"{path}{path} {said}"]


def test_the_name_of_an_emoji_is_text(printed):
    assert [line.strip() for line in printed(80, "mine:a: wrong")] == ["mine:a: wrong"]
