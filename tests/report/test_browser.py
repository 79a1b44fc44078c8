"""The report in a real browser, opened from disk: what people click does what it says.

Skipped where there is no Chromium: `make browser` installs one on Debian and Ubuntu.
"""

import dataclasses
import io
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_run import made_run
from PIL import Image
from ruled import Corridors

from drm_jax.evaluate.answers import (
    answer_of,
    augmented,
    read_answers,
    read_trajectories,
    unpack,
)
from drm_jax.io.files import work_path
from drm_jax.puzzles.arc.augment import from_vector, undo_tokens
from drm_jax.puzzles.arc.tokens import FIRST_COLOUR, VOCABULARY, grid_sizes
from drm_jax.puzzles.boards import grid_of, grid_rows
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.report.write import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
TITLE_IS = "id => document.querySelector('#task h2 bdi').textContent === id"


@pytest.fixture
def open_page(browser):
    """Opens a file; at the end nothing may have been said on the console, or asked of a network."""
    opened, wrong = [], []

    def open_it(path: Path, width: int = 1280, height: int = 900):
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(180_000)  # guards against hanging; a busy machine is slow
        page.on(
            "console",
            lambda message: (
                wrong.append(message.text) if "willReadFrequently" not in message.text else None
            ),
        )  # it is the tests that read
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: wrong.append(request.url)
                if not request.url.startswith(("file:", "blob:", "data:")) else None)  # fmt: skip
        page.goto(Path(path).as_uri())
        opened.append(page)
        return page

    yield open_it
    for page in opened:
        page.close()
    assert wrong == []


def shown_ids(page) -> list[str]:
    return page.eval_on_selector_all(
        ".card:not([hidden])", "cards => cards.map(card => card.task.id)"
    )


def data_of(page) -> dict:
    return json.loads(page.inner_text("#data") or page.text_content("#data"))


def colours(page, selector: str) -> list[list[str]]:
    """The colour in the middle of each cell of a picture; transparent cells are ""."""
    return page.eval_on_selector(
        f"{selector} >> canvas",
        """canvas => {
          const cell = Number(canvas.dataset.cell), pen = canvas.getContext("2d");
          const middle = (n) => n * cell + Math.floor((cell - 1) / 2);
          return Array.from({ length: canvas.height / cell }, (_, r) =>
            Array.from({ length: canvas.width / cell }, (_, c) => {
              const [red, green, blue, alpha] = pen.getImageData(middle(c), middle(r), 1, 1).data;
              const hex = [red, green, blue].map((x) => x.toString(16).padStart(2, "0")).join("");
              return alpha ? "#" + hex.toUpperCase() : "";
            }));
        }""",
    )


def open_task(page, task_id: str) -> None:
    page.evaluate("id => { location.hash = '#task=' + encodeURIComponent(id); }", task_id)
    page.wait_for_selector("#task:not([hidden]) .facts:not(:empty)")


def test_filters_search_and_order(open_page, workdir):
    page = open_page(workdir / "report.html")
    tasks = data_of(page)["tasks"]
    every = sorted(task["id"] for task in tasks)
    assert shown_ids(page) == every
    wanted = {
        "solved by attempt 1": "solved", "solved by attempt 2": "second",
        "not solved: right, then lost": "lost", "not solved: wrong shape": "shape",
        "not solved: wrong cells": "cells",
    }  # fmt: skip
    together = []
    for name, key in wanted.items():
        found = sorted(task["id"] for task in tasks if task["outcome"] == key)
        assert found
        together += found
        page.click(f"#outcomes >> text=/^{name} \\({len(found)}\\)$/")
        assert shown_ids(page) == found, name
        assert page.inner_text("#count") == f"{len(found)} of {len(tasks)} tasks"
    assert sorted(together) == every  # each task under one of them
    page.click("#outcomes >> text=/^all/")
    page.fill("#search", every[3][2:].upper())
    assert shown_ids(page) == [every[3]]
    page.fill("#search", "")
    page.select_option("#size", label="6 to 10")
    assert shown_ids(page) == sorted(task["id"] for task in tasks if 6 <= task["side"] <= 10)
    page.select_option("#size", label="any")
    page.select_option("#source", label="arc1/training")
    assert shown_ids(page) == every
    figures = {
        "largest side": lambda task: task["side"],
        "demonstrations": lambda task: len(task["demos"]),
        "test inputs": lambda task: len(task["tests"]),
        "cells right": lambda task: np.mean([test["accuracy"] for test in task["tests"]]),
        "distinct answers": lambda task: np.mean([test["distinct"] for test in task["tests"]]),
    }
    for name, figure in figures.items():
        page.select_option("#sort", label=name)
        values = [figure(next(t for t in tasks if t["id"] == i)) for i in shown_ids(page)]
        assert values == sorted(values), name
        page.check("#reverse")
        values = [figure(next(t for t in tasks if t["id"] == i)) for i in shown_ids(page)]
        assert values == sorted(values, reverse=True), name
        page.uncheck("#reverse")


def test_keys(open_page, workdir):
    page = open_page(workdir / "report.html")
    every = shown_ids(page)
    marked = lambda: page.eval_on_selector(".card.marked", "card => card.task.id")  # noqa: E731
    assert marked() == every[0]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("j")
    assert marked() == every[2]
    page.keyboard.press("ArrowLeft")
    assert marked() == every[1]
    page.keyboard.press("Enter")
    page.wait_for_selector("#task:not([hidden])")
    assert page.inner_text("#task h2").startswith(every[1])
    page.keyboard.press("ArrowRight")
    page.wait_for_function(TITLE_IS, arg=every[2])
    page.keyboard.press("k")
    page.wait_for_function(TITLE_IS, arg=every[1])
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview:not([hidden])")
    page.keyboard.press("/")
    page.wait_for_function("() => document.activeElement.id === 'search'")
    page.keyboard.type("zzz")
    assert shown_ids(page) == []
    page.fill("#search", "")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    assert not page.is_visible("#keys")


def test_keys_follow_what_is_used(open_page, workdir):
    """After a filter was clicked Enter opens what is marked; keys move the player in use."""
    page = open_page(workdir / "report.html")
    every = shown_ids(page)
    page.click("#outcomes >> text=/^all/")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_function(TITLE_IS, arg=every[1])
    page.keyboard.press("ArrowRight")
    page.wait_for_function(TITLE_IS, arg=every[2])
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview:not([hidden])")
    focused = "() => document.activeElement.closest('.card').task.id"
    assert page.evaluate(focused) == every[2]
    several = next(task for task in data_of(page)["tasks"] if len(task["tests"]) > 1)
    open_task(page, several["id"])
    page.wait_for_function("() => document.querySelectorAll('.facts:not(:empty)').length > 1")
    facts = lambda i: page.inner_text(f".facts >> nth={i}")[:6]  # noqa: E731
    page.keyboard.press(",")
    assert (facts(0), facts(1)) == ("step 3", "step 4")
    page.locator(".player >> nth=1 >> input[type=range]").fill("4")
    page.keyboard.press(",")
    assert (facts(0), facts(1)) == ("step 3", "step 3")


def test_runs_and_outputs_with_awkward_names(open_page, tiny, tmp_path):
    """A run called constructor; a hidden output is no failure; seven runs have seven lines."""
    dirs = []
    for i, name in enumerate(["constructor", "toString", *"abcde"]):
        task = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]]}]}
        source = tmp_path / f"{i}.json"
        source.write_text(json.dumps({f"t{i % 3}": task}))
        data = dataclasses.replace(tiny.data, evaluate=(str(source),), only=())
        dirs.append(work_path(tmp_path / name))
        made_run(dirs[-1], dataclasses.replace(tiny, data=data))
    page = open_page(write_report(dirs))
    assert shown_ids(page) == ["t0", "t1", "t2"]
    page.wait_for_selector(".card canvas")
    assert page.locator(".shown.bad").count() == 0
    page.click("#outcomes >> text=/^by none \\(0\\)$/")
    assert shown_ids(page) == []
    page.click("#outcomes >> text=/^truth unknown \\(3\\)$/")
    assert len(shown_ids(page)) == 3
    styles = page.eval_on_selector_all(
        "figure:first-child polyline",
        "lines => lines.map(x => getComputedStyle(x).stroke + getComputedStyle(x).strokeDasharray)",
    )
    assert len(set(styles)) == 7


def test_the_slider_and_play(open_page, workdir):
    page = open_page(workdir / "report.html")
    task = next(task for task in data_of(page)["tasks"] if task["outcome"] == "lost")
    open_task(page, task["id"])
    facts = lambda: page.inner_text(".facts >> nth=0")  # noqa: E731
    slider = page.locator("input[type=range] >> nth=0")
    assert facts().startswith("step 4 of 4")
    slider.fill("2")
    assert facts().startswith("step 2 of 4")
    assert "0 cells unlike the truth" in facts()  # right, then lost
    page.keyboard.press(".")
    assert facts().startswith("step 3 of 4")
    assert "1 cell unlike the truth" in facts()
    assert "1 changed" in facts()
    page.keyboard.press(",")
    page.keyboard.press(",")
    assert facts().startswith("step 1 of 4")
    page.click(".player button >> nth=0")
    page.wait_for_function(
        "() => document.querySelector('.facts').textContent.startsWith('step 3')"
    )
    page.keyboard.press(" ")  # on the button that has the focus: pauses
    before = facts()
    page.wait_for_timeout(700)
    assert facts() == before
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview:not([hidden])")


@pytest.mark.parametrize("safe", [False, True])
def test_cells_have_the_colours_of_the_stored_tokens(open_page, workdir, safe):
    """Every step of every candidate that was kept, as asked and undone."""
    page = open_page(workdir / "report.html")
    if safe:
        page.check("#safe")
    palette = [name.upper() for name in (VOCABULARY.safe_colours if safe else VOCABULARY.colours)]
    folder = workdir / "eval" / "step_4"
    stored = list(
        map(unpack, read_trajectories(folder, read_answers(folder, VOCABULARY), VOCABULARY))
    )
    turned = 0
    for task in data_of(page)["tasks"][:: 3 if safe else 2]:
        open_task(page, task["id"])
        of_task = {(t.test, t.puzzle_id): t for t in stored if t.task == task["id"]}
        seen = {}
        for path in task["paths"]:
            place = seen[path["test"]] = seen.get(path["test"], -1) + 1
            trajectory = of_task[path["test"], path["puzzle"]]
            way = from_vector(trajectory.augmentation_A)
            turned += way.transform != 0
            part = f".player >> nth={path['test']} >> "
            page.locator(f"{part}select").select_option(index=place)
            sizes = grid_sizes(trajectory.predicted_NxS)
            for undone in (False, True):
                page.locator(f"{part}input[type=checkbox]").set_checked(undone)
                for step in (0, 1, 3):
                    page.locator(f"{part}input[type=range]").fill(str(step + 1))
                    (side, _), (height, width) = trajectory.board, sizes.max(axis=0)
                    tokens = trajectory.predicted_NxS[step].reshape(side, side)[:height, :width]
                    tokens = tokens.copy()
                    tokens[sizes[step][0] :], tokens[:, sizes[step][1] :] = 0, 0
                    if undone:
                        tokens = undo_tokens(tokens, way)
                    expected = [["" if t < FIRST_COLOUR else palette[t - FIRST_COLOUR] for t in row]
                                for row in tokens.tolist()]  # fmt: skip
                    picture = f'{part}[data-what="predicted"]'
                    assert colours(page, picture) == expected, (task["id"], path, step, undone)
    assert turned


def test_thumbnails_have_the_colours_of_the_grids(open_page, workdir):
    page = open_page(workdir / "report.html")
    task = data_of(page)["tasks"][0]
    page.wait_for_selector(".card canvas")
    card = ".card >> nth=0 >> "
    expected = [
        [VOCABULARY.colours[int(c)].upper() for c in row] for row in task["tests"][0]["output"]
    ]
    assert colours(page, f'{card}[data-what="truth"] >> nth=0') == expected
    label = page.get_attribute(f'{card}[data-what="truth"] >> nth=0 >> canvas', "aria-label")
    rows = "; ".join(" ".join(row) for row in task["tests"][0]["output"])
    assert rows in label


def test_symbols_without_colours_are_written(open_page, sudoku_workdir):
    """Digits on white, nothing in blank cells; and a symmetry is undone."""
    page = open_page(sudoku_workdir / "report.html")
    tasks = data_of(page)["tasks"]
    assert page.locator("#digits").count() == page.locator("#safe").count() == 0
    task = next(t for t in tasks if any(p["symmetry"] != "as it is" for p in t["paths"]))
    open_task(page, task["id"])
    assert "Demonstrations" not in page.inner_text("#task")
    drawn = """canvas => {
      const cell = Number(canvas.dataset.cell), pen = canvas.getContext("2d");
      return Array.from({ length: canvas.height / cell }, (_, r) =>
        Array.from({ length: canvas.width / cell }, (_, c) => {
          const data = pen.getImageData(c * cell, r * cell, cell - 1, cell - 1).data;
          return [...data].some((value) => value < 100);
        }));
    }"""
    picture = page.locator('#task [data-what="test input"] canvas')
    expected = [[symbol != "." for symbol in row] for row in task["tests"][0]["input"]]
    assert picture.first.evaluate(drawn) == expected
    assert {colour for row in colours(page, '#task [data-what="confidence"]') for colour in row}
    turned = next(i for i, p in enumerate(task["paths"]) if p["symmetry"] != "as it is")
    page.locator(".player select").select_option(index=turned)

    def label(what: str) -> str:
        picture = f'#task .player [data-what="{what}"] >> canvas'
        return page.get_attribute(picture, "aria-label")

    def in_words(rows: list[str]) -> str:
        return "; ".join(" ".join(row) for row in rows)

    test, family, folder = task["tests"][0], Sudoku(side=4), sudoku_workdir / "eval" / "step_4"
    answers = read_answers(folder, family.vocabulary)
    stored = read_trajectories(folder, answers, family.vocabulary)
    trajectory = unpack([t for t in stored if t.task == task["id"]][turned])
    answer = grid_rows(answer_of(trajectory, family), family.vocabulary.symbols)
    expected = {"asked": test["input"], "truth": test["output"], "predicted": answer}
    for undone in (False, True):
        page.locator(".player input[type=checkbox]").set_checked(undone)
        for what, rows in expected.items():
            assert (in_words(rows) in label(what)) == undone, what


# --- marks ----------------------------------------------------------------------------------------
GIVEN, BROKEN, BROKEN_LINE, RULE = "#E3E3DF", "#FBD3CE", "#C0271D", "#1D1F23"


def pixels_of(page, selector: str) -> tuple[np.ndarray, int]:
    """(H, W, 3) of a board's canvas, and its pixels a cell."""
    found = page.eval_on_selector(
        f"{selector} >> canvas",
        """canvas => [Number(canvas.dataset.cell), canvas.width, [...canvas.getContext("2d")
          .getImageData(0, 0, canvas.width, canvas.height).data]]""",
    )
    cell, width, data = found
    return np.array(data).reshape(-1, width, 4)[..., :3], cell


def is_colour(pixels: np.ndarray, colour: str) -> np.ndarray:
    return (pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1)


def check_marks(page, selector: str, given: np.ndarray, conflicts: np.ndarray, what) -> None:
    """Each cell's paper, in a corner inside of outlines; the outlines; the lines between blocks."""
    pixels, cell = pixels_of(page, selector)
    inside, middle = max(2, cell // 5), cell // 2
    paper = pixels[cell - inside - 2 :: cell, inside + 1 :: cell]
    np.testing.assert_array_equal(is_colour(paper, BROKEN), conflicts, str(what))
    np.testing.assert_array_equal(is_colour(paper, GIVEN), given & ~conflicts, str(what))
    outlined = is_colour(pixels[cell - 2 :: cell, middle::cell], BROKEN_LINE)
    np.testing.assert_array_equal(outlined, conflicts, str(what))
    half = len(given) // 2 * cell
    for line, other in (
        (pixels[half], pixels[half - cell]),
        (pixels[:, half], pixels[:, half // 2]),
    ):
        assert is_colour(line, RULE).all()
        assert not is_colour(other, RULE).all()


@pytest.mark.parametrize("dark", [False, True])
def test_boards_of_a_family_with_rules_are_marked(open_page, ruled_workdir, dark):
    """The input, the answer, the truth; and each step, as it was asked and undone."""
    page = open_page(ruled_workdir / "report.html")
    if dark:
        page.click("#theme")
    family, folder = Sudoku(side=4), ruled_workdir / "eval" / "step_4"
    symbols = family.vocabulary.symbols
    answers = read_answers(folder, family.vocabulary)
    stored = list(map(unpack, read_trajectories(folder, answers, family.vocabulary)))
    task = next(t for t in data_of(page)["tasks"] if t["outcome"] == "lost" and len(t["paths"]) > 1)
    test, of_task = task["tests"][0], [t for t in stored if t.task == task["id"]]
    question, none = grid_of(test["input"], symbols), np.zeros((4, 4), bool)
    first = grid_of(test["answers"][0]["grid"], symbols)
    assert family.conflicts(question, first).any()
    card = f'.card[aria-label="task {task["id"]}"] .shown >> nth='
    open_task(page, task["id"])
    for at in ("#task .answers .shown >> nth=", card):
        boards = [(0, none), (1, family.conflicts(question, first)), (2, none)]
        for number, conflicts in boards:
            check_marks(page, f"{at}{number}", question > 0, conflicts, (at, number))
    for place, trajectory in enumerate(of_task):
        page.locator(".player select").select_option(index=place)
        for undone, step in itertools.product((False, True), (0, 1, 3)):
            page.locator(".player input[type=checkbox]").set_checked(undone)
            page.locator(".player input[type=range]").fill(str(step + 1))
            way = np.asarray(trajectory.augmentation_A)
            grid = family.to_grid(trajectory.predicted_NxS[step], (4, 4))
            grid = family.undo(grid + 1, way) - 1 if undone else grid
            asked = question if undone else augmented(question, way, family)
            conflicts = family.conflicts(asked, grid)
            check_steps(page, asked > 0, conflicts, (place, undone, step))
    label = page.get_attribute("#task .answers .shown >> nth=1 >> canvas", "aria-label")
    count = family.conflicts(question, first).sum()
    assert f"; {count} cells in conflict: row 1 column 1" in label


def check_steps(page, given: np.ndarray, conflicts: np.ndarray, what) -> None:
    """Of the player: what was predicted, beside the rings of what has changed; its facts."""
    pixels, cell = pixels_of(page, '.player [data-what="predicted"]')
    inner_edge = round(cell / 9) - 1  # of the outline: the outer one may lie under a block's line
    outlined = is_colour(pixels[inner_edge::cell, cell // 2 :: cell], BROKEN_LINE)
    np.testing.assert_array_equal(outlined, conflicts, str(what))
    facts = page.inner_text(".facts >> nth=0")
    assert ("in conflict" in facts) == conflicts.any(), what
    check_marks(page, '.player [data-what="asked"]', given, np.zeros((4, 4), bool), what)


def test_what_breaks_a_rule_is_said(open_page, ruled_workdir):
    page = open_page(ruled_workdir / "report.html")
    for task in data_of(page)["tasks"]:
        card = page.locator(f'.card[aria-label="task {task["id"]}"]')
        card.scroll_into_view_if_needed()
        answer = task["tests"][0]["answers"][0]
        said = "valid" if answer["valid"] else "breaks a rule"
        assert card.locator("figcaption >> nth=1").inner_text().endswith(f", {said}")
        assert f"backtracks: {task['difficulty']}" in card.inner_text()
    open_task(page, task["id"])
    assert f"backtracks: {task['difficulty']}" in page.inner_text("#task > p")
    assert "in conflict" in page.inner_text(".player")


def test_tasks_are_filtered_and_sorted_by_difficulty(open_page, ruled_workdir, workdir):
    both = write_report([ruled_workdir] * 2, output=ruled_workdir / "both.html")
    for path in (ruled_workdir / "report.html", both):
        page = open_page(path)
        level = {task["id"]: task["difficulty"] for task in data_of(page)["tasks"]}
        every = sorted(level, key=lambda name: int(name.split()[1]))
        assert shown_ids(page) == every  # puzzle 2 before puzzle 10
        texts = page.locator("#difficulty option").all_inner_texts()
        assert texts[0] == "any"
        counts = []
        for text in texts[1:]:
            page.select_option("#difficulty", label=text)
            low, high, count = re.fullmatch(r"(\d+)(?: to (\d+))? \((\d+)\)", text).groups()
            wanted = [name for name in every if int(low) <= level[name] <= int(high or low)]
            assert shown_ids(page) == wanted
            assert len(wanted) == int(count)
            assert page.inner_text("#count") == f"{count} of 12 tasks"
            counts.append(int(count))
        assert sum(counts) == 12
        assert len(counts) == 5
        page.select_option("#difficulty", label="any")
        page.select_option("#sort", label="backtracks")
        assert shown_ids(page) == sorted(level, key=level.get)
        page.check("#reverse")
        assert shown_ids(page) == sorted(level, key=level.get, reverse=True)
    assert open_page(workdir / "report.html").locator("#difficulty").count() == 0


@pytest.mark.parametrize("safe", [False, True])
def test_a_path_stands_out_from_its_maze_and_conflicts_are_outlined(open_page, maze_workdir, safe):
    page, family = open_page(maze_workdir / "report.html"), Corridors(side=8)
    if safe:
        page.check("#safe")
    vocabulary, seen = family.vocabulary, 0
    palette = vocabulary.safe_colours if safe else vocabulary.colours
    for task in data_of(page)["tasks"]:
        open_task(page, task["id"])
        question, answer = (
            grid_of(rows, vocabulary.symbols)
            for rows in (task["tests"][0]["input"], task["tests"][0]["answers"][0]["grid"])
        )
        picture = "#task .answers .shown >> nth=1"
        assert colours(page, picture) == [[palette[i].upper() for i in row] for row in answer]
        pixels, cell = pixels_of(page, picture)
        outlined = is_colour(pixels[1::cell, cell // 2 :: cell], BROKEN_LINE)
        conflicts = family.conflicts(question, answer)
        np.testing.assert_array_equal(outlined, conflicts)
        seen += conflicts.any()
    assert seen


def test_all_cells_are_right_only_where_they_are(open_page, sudoku, tmp_path):
    """One of 256 is wrong: 99.6% is not 100%."""
    workdir = work_path(tmp_path / "made")
    made_run(workdir, dataclasses.replace(sudoku, data=Corridors(side=16)))
    page = open_page(write_report([workdir]))
    for task in data_of(page)["tasks"]:
        share = 100 if task["tests"][0]["accuracy"] == 1 else 99
        card = page.locator(f'.card[aria-label="task {task["id"]}"]')
        assert f"cells right {share}%" in card.inner_text()


@pytest.mark.parametrize("width", [390, 1280])
def test_captions_stand_on_one_line(open_page, workdir, width):
    """Beside flat grids and tall ones: of the cards, of a task's answers, and of the player."""
    page = open_page(workdir / "report.html", width=width)
    lines = """where => [...document.querySelectorAll(where)].map(figures => {
        const box = (x) => x.getBoundingClientRect();
        return [...figures.querySelectorAll('.shown')].map(f => [box(f.firstChild).bottom,
          box(f.querySelector('figcaption')).top, box(f.firstChild).height]); })"""

    def check(where: str) -> int:
        uneven = 0
        for figures in page.evaluate(lines, where):
            beside = {}  # captions of one line, and those below
            for bottom, top, height in figures:
                beside.setdefault(round(top / 30), []).append((bottom, top, height))
            for row in beside.values():
                bottoms, tops, heights = zip(*row, strict=True)
                assert max(tops) - min(tops) < 1, where
                assert max(bottoms) - min(bottoms) < 1, where
                uneven += max(heights) - min(heights) > 5
        return uneven

    for card in page.locator(".card").all():
        card.scroll_into_view_if_needed()
    assert check(".card .figures")
    for task in data_of(page)["tasks"]:
        open_task(page, task["id"])
        check("#task .figures")


HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>",
    "</script><script>alert(3)</script>",
    "{{ 7 * 7 }}${alert(4)}`",
    "\u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627",
    "x" * 300,
    "a&amp;b <!-- -->\\u003c",
]


def test_hostile_names_are_inert(open_page, tiny, tmp_path):
    tasks = {
        name: {"train": [{"input": [[1, i]], "output": [[2], [i]]}],
               "test": [{"input": [[3, i]], "output": [[4, i]]}]}
        for i, name in enumerate(HOSTILE)
    }  # fmt: skip
    source = tmp_path / "<b onmouseover=alert(5)>.json"
    source.write_text(json.dumps(tasks))
    data = dataclasses.replace(tiny.data, evaluate=(str(source),), only=())
    name = "<svg onload=alert(6)> & \"'" + "y" * 60
    workdir = work_path(tmp_path / "run '\"<i>")
    made_run(workdir, dataclasses.replace(tiny, name=name, data=data))
    history = workdir / "history.jsonl"
    history.write_text(history.read_text().replace("made.py", "<script>alert(7)<\\/script>"))
    for page in (open_page(write_report([workdir])), open_page(write_report([workdir, workdir]))):
        assert set(shown_ids(page)) == set(HOSTILE)
        for task_id in HOSTILE:
            page.evaluate("id => { location.hash = '#task=' + encodeURIComponent(id); }", task_id)
            page.wait_for_function(TITLE_IS, arg=task_id)
        for strange in ("img", "b", "i", "svg svg", "main script", "script[src]", "[onload]"):
            assert page.locator(strange).count() == 0, strange
        page.evaluate("location.hash = '#task=%E0%A4%A'")  # what can't be decoded
        page.wait_for_selector("#overview:not([hidden])")
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 800})
            overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert overflow <= 0, width


def test_a_comparison(open_page, experiment, workdir, tmp_path):
    other = work_path(tmp_path / "other")
    made_run(other, dataclasses.replace(experiment, evaluate=dataclasses.replace(
        experiment.evaluate, num_augmentations=0)))  # fmt: skip
    path = write_report([workdir, other], output=work_path(tmp_path / "both.html"))
    page = open_page(path)
    tasks = data_of(page)["tasks"]
    solved = {
        name: {t["id"] for t in tasks if t["runs"][name]["outcome"] in ("solved", "second")}
        for name in ("made", "other")
    }
    both = sorted(solved["made"] & solved["other"])
    page.click(f"#outcomes >> text=/^solved by every run \\({len(both)}\\)$/")
    assert shown_ids(page) == both
    only = sorted(solved["made"] - solved["other"])
    page.click(f"#outcomes >> text=/^only by made \\({len(only)}\\)$/")
    assert shown_ids(page) == only
    page.click("#outcomes >> text=/^all/")
    page.evaluate("id => { location.hash = '#task=' + id; }", tasks[0]["id"])
    page.wait_for_selector("#task:not([hidden]) h3 >> text=other")


def test_filters_of_a_comparison_add_up(open_page, experiment, workdir, tmp_path):
    """Of two runs and of three, whatever each of them solves."""
    dirs = [workdir]
    for count, name in ((0, "b"), (1, "c")):
        evaluation = dataclasses.replace(experiment.evaluate, num_augmentations=count)
        dirs.append(work_path(tmp_path / name))
        made_run(dirs[-1], dataclasses.replace(experiment, evaluate=evaluation))
    for runs in (dirs[:2], dirs):
        page = open_page(write_report(runs, output=work_path(tmp_path / "x.html")))
        texts = page.locator("#outcomes button").all_inner_texts()
        counts = [int(re.search(r"\((\d+)\)$", text)[1]) for text in texts]
        assert texts[0].startswith("all")
        assert counts[0] == sum(counts[1:]) == len(data_of(page)["tasks"])


def test_cards_are_drawn_before_the_first_paint(open_page, workdir):
    """When the document is there, without a frame in between; and after each change of a filter."""
    page = open_page(workdir / "report.html", height=1300)
    near = """() => [...document.querySelectorAll('.card:not([hidden])')]
        .filter(card => card.getBoundingClientRect().top < innerHeight)
        .map(card => card.querySelectorAll('canvas').length)"""
    page.add_init_script(
        f"document.addEventListener('DOMContentLoaded', () => {{ window.first = ({near})(); }});"
    )
    page.reload()
    first = page.evaluate("window.first")
    assert len(first) > 3
    assert min(first) > 3
    page.set_viewport_size({"width": 1280, "height": 400})
    page.reload()
    counts = page.evaluate(
        f"""() => {{ document.querySelector('#controls').scrollIntoView();
        document.querySelector('#outcomes button:nth-child(6)').click(); return ({near})(); }}"""
    )
    assert min(counts, default=0) > 3


def test_pairs_stand_closer_than_their_neighbours(open_page, workdir):
    for width in (1280, 390):
        page = open_page(workdir / "report.html", width=width)
        task = max(data_of(page)["tasks"], key=lambda task: len(task["demos"]))
        open_task(page, task["id"])
        boxes = page.eval_on_selector_all(
            "#task .pair", "pairs => pairs.map(p => [...p.querySelectorAll('canvas')].map(c => {"
            "const b = c.getBoundingClientRect(); return [b.left, b.right, b.top, b.bottom]; }))",
        )  # fmt: skip
        assert len(boxes) == len(task["demos"]) > 2
        inside = [output[0] - input_[1] for input_, output in boxes]
        between = [
            b[0][0] - a[1][1] if b[0][0] > a[1][1] else b[0][2] - a[1][3]
            for a, b in itertools.pairwise(boxes)
        ]
        assert 0 < max(inside) < 0.8 * min(between), width


def test_full_confidence_is_no_empty_box(open_page, workdir, tmp_path):
    """Neither in light nor in dark, the map has the colour of the paper, whatever is sure."""
    page = open_page(workdir / "report.html")
    open_task(page, data_of(page)["tasks"][0]["id"])
    page.wait_for_selector('[data-what="confidence"] canvas')
    shown = {c for row in colours(page, '[data-what="confidence"] >> nth=0') for c in row} - {""}
    light = [sum(int(c[i : i + 2], 16) for i in (1, 3, 5)) / 3 for c in shown]
    assert min(light) > 60  # beside black paper
    assert max(light) < 200  # beside white


def test_coinciding_curves_are_all_seen(open_page, workdir, tmp_path):
    """Seven times the same run: each colour, and each style, is found on the chart."""
    page = open_page(write_report([workdir] * 6, output=work_path(tmp_path / "six.html")))
    wanted = page.eval_on_selector_all(
        "figure:first-child polyline", "lines => lines.map(line => getComputedStyle(line).stroke)"
    )
    assert len(set(wanted)) == 6
    chart = page.locator("figure.chart svg[role=img]").first
    chart.scroll_into_view_if_needed()
    pixels = np.asarray(Image.open(io.BytesIO(chart.screenshot())).convert("RGB")).astype(int)
    dots = page.eval_on_selector_all(
        "figure:first-child circle", "dots => dots.map(d => d.r.baseVal.value)"
    )
    assert dots == sorted(dots, reverse=True)
    assert len(set(dots)) == 6
    for colour in wanted:
        rgb = np.array([int(x) for x in re.findall(r"\d+", colour)])
        assert (np.abs(pixels - rgb).max(axis=2) < 40).sum() > 25, colour


def test_the_header_is_two_lines_on_a_phone(open_page, workdir):
    page = open_page(workdir / "report.html", width=390)
    switches = page.locator(".switches").bounding_box()
    assert page.locator("header").bounding_box()["height"] < 110
    tops = page.eval_on_selector_all(
        ".switches > *", "all => all.map(x => { const b = x.getBoundingClientRect(); "
        "return (b.top + b.bottom) / 2; })",
    )  # fmt: skip
    assert max(tops) - min(tops) < 4
    assert switches["x"] + switches["width"] <= 390


def test_a_page_without_scores_works(open_page, workdir, tmp_path):
    copy = work_path(tmp_path / "copy")
    shutil.copytree(workdir, copy, ignore=shutil.ignore_patterns("eval", "*.html"))
    page = open_page(write_report([copy]))
    assert page.is_visible("#unscored")
    assert page.locator(".chart").count() == 4
    page.click("#theme")
    page.click("#help")
    assert page.is_visible("#keys")


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_screen(open_page, workdir, width):
    page = open_page(workdir / "report.html", width=width)
    page.locator(".card").first.scroll_into_view_if_needed()
    page.wait_for_selector(".card canvas")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    open_task(page, data_of(page)["tasks"][1]["id"])
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_light_and_digits(open_page, workdir):
    page = open_page(workdir / "report.html")
    page.wait_for_selector(".card canvas")
    paper = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    light = paper()
    page.click("#theme")
    dark = paper()
    page.click("#theme")
    assert paper() == light != dark
    task = data_of(page)["tasks"][0]
    open_task(page, task["id"])
    pixels = """c => new Set(Array.from(new Uint32Array(c.getContext("2d")
        .getImageData(0, 0, c.width, c.height).data.buffer))).size"""
    picture = '.player >> nth=0 >> [data-what="truth"] >> canvas'
    plain = page.eval_on_selector(picture, pixels)
    page.check("#digits")
    assert page.eval_on_selector(picture, pixels) > plain
    assert re.search("[0-9]", page.inner_text(".facts >> nth=0"))
