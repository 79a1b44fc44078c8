"""drm play in a real browser: what people click, type and paint does what it says.

Skipped where there is no Chromium: `make browser` installs one on Debian and Ubuntu.
"""

import json
import re

import pytest
from served import Served

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = sync_api.expect
expect.set_options(timeout=180_000)  # guards against hanging; a busy machine is slow
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SOLUTION = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
GIVEN, BROKEN = "#E3E3DF", "#FBD3CE"
WALL, START, GOAL, PATH = "#2B2B33", "#2CA02C", "#D62728", "#4C9BE8"
BLUE, RED = "#0074D9", "#FF4136"


@pytest.fixture
def open_page(browser):
    """Opens a page; at the end nothing may have been said on the console, or asked of others."""
    opened, wrong = [], []

    def open_it(served: Served, width: int = 1280, height: int = 900, refused: bool = False, **how):
        context = browser.new_context(viewport={"width": width, "height": height}, **how)
        page = context.new_page()
        page.set_default_timeout(180_000)

        def heard(message):
            expected = "willReadFrequently" in message.text or (
                refused and "Failed to load resource" in message.text
            )
            if not expected:
                wrong.append(message.text)

        page.on("console", heard)
        page.on("pageerror", lambda error: wrong.append(str(error)))

        def asked(request):
            if not request.url.startswith((served.address, "data:", "blob:")):
                wrong.append(request.url)

        page.on("request", asked)
        page.goto(served.address)
        page.wait_for_selector("#tabs button")
        opened.append(context)
        return page

    yield open_it
    for context in opened:
        context.close()
    assert wrong == []


def enter(page, family: str):
    """Opens a kind of puzzles; the part of the page that it is in."""
    page.click(f"#tab-{family}")
    return page.locator(f"#room-{family}")


def colours(canvas) -> list[list[str]]:
    """The colour near the corner of each cell of a canvas, where nothing is written."""
    return canvas.evaluate(
        """canvas => {
          const cell = Number(canvas.dataset.cell), pen = canvas.getContext("2d");
          const at = (n) => n * cell + Math.max(1, Math.floor(cell / 5));
          return Array.from({ length: canvas.height / cell }, (_, r) =>
            Array.from({ length: canvas.width / cell }, (_, c) => {
              const [red, green, blue] = pen.getImageData(at(c), at(r), 1, 1).data;
              return "#" + [red, green, blue].map((x) => x.toString(16).padStart(2, "0")).join("").toUpperCase();
            }));
        }"""  # noqa: E501
    )


def click_cell(page, canvas, row: int, column: int) -> None:
    x, y = middle(canvas, row, column)
    page.mouse.click(x, y)


def middle(canvas, row: int, column: int) -> tuple[float, float]:
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    cell = float(canvas.get_attribute("data-cell"))
    return box["x"] + (column + 0.5) * cell, box["y"] + (row + 0.5) * cell


def paste(room, text: str) -> None:
    room.locator("summary", has_text="paste a puzzle").click()
    room.locator("textarea").fill(text)
    room.get_by_role("button", name="take it").click()


def answer(room, passes: int, rollouts: int = 1) -> None:
    room.get_by_label("passes").fill(str(passes))
    room.get_by_label("rollouts").fill(str(rollouts))
    room.get_by_label("speed").fill("1500")
    room.get_by_role("button", name="Answer it").click()


def written(room) -> str:
    """The puzzle, as its canvas is described."""
    label = room.locator("canvas.editor").first.get_attribute("aria-label")
    return label.partition("cells: ")[2].replace("; ", "").replace(" ", "")


def test_a_sudoku_is_pasted_answered_and_judged(open_page, shipped):
    page = open_page(shipped)
    room = enter(page, "sudoku")
    paste(room, PUZZLE)
    editor = room.locator("canvas.editor")
    found = colours(editor)
    given = [["#FFFFFF" if s == "." else GIVEN for s in PUZZLE[i : i + 9]] for i in range(0, 81, 9)]
    assert found == given
    answer(room, 8)
    expect(page.locator("#room-sudoku .verdict")).to_contain_text("✓")
    assert "every rule is kept" in room.locator(".verdict").inner_text()
    canvas = room.locator(".rollout canvas").first
    label = canvas.get_attribute("aria-label")
    assert "".join(re.findall(r"\d", label.partition("cells: ")[2])) == SOLUTION
    assert colours(canvas) == given
    # back through the passes, by slider and keys
    bar = room.get_by_label("pass", exact=True)
    assert bar.get_attribute("aria-valuetext") == "pass 8 of 8"
    room.get_by_role("button", name="a pass back").click()
    assert room.locator(".verdict").inner_text() == "pass 7 of 8"
    page.locator("h1").click()
    page.keyboard.press(",")
    assert room.locator(".verdict").inner_text() == "pass 6 of 8"
    page.keyboard.press(".")
    page.keyboard.press(".")
    assert "solved" in room.locator(".verdict").inner_text()
    room.get_by_label("how sure it is").check()
    assert room.locator(".rollout canvas").count() == 2


@pytest.mark.long
def test_digits_are_typed_undone_and_conflicts_marked(open_page, shipped):
    page = open_page(shipped)
    room = enter(page, "sudoku")
    room.get_by_role("button", name="clear").click()
    editor = room.locator("canvas.editor")
    click_cell(page, editor, 0, 0)
    for key in ("5", "ArrowRight", "5", "ArrowDown", "7", "Backspace"):
        page.keyboard.press(key)
    expect(room.locator(".remark").first).to_contain_text("in conflict")
    marked = [
        (r, c)
        for r, row in enumerate(colours(room.locator("canvas.editor")))
        for c, colour in enumerate(row)
        if colour == BROKEN
    ]
    assert set(marked) <= {(0, 0), (0, 1)}
    assert marked
    assert room.locator(".heard").inner_text() == "row 2, column 2: empty"
    page.keyboard.press("Control+z")  # the 7 stands again
    assert written(room)[10] == "7" or "7" in written(room)
    for _ in range(3):
        page.keyboard.press("Control+z")
    assert "5" not in written(room).replace("55", "5", 1)[1:]
    page.keyboard.press("Control+y")
    room.get_by_role("button", name="4", exact=True).click()  # as on a touch screen
    assert "4" in written(room)


@pytest.mark.long
def test_a_bad_text_and_bad_numbers_are_answered_in_one_line(open_page, shipped):
    page = open_page(shipped, refused=True)
    room = enter(page, "sudoku")
    drawn = re.compile("cells: .*[1-9]")  # the puzzle that the page begins with has come
    expect(room.locator("canvas.editor")).to_have_attribute("aria-label", drawn)
    before = written(room)
    paste(room, "12345")
    assert "in 9 rows of 9" in page.inner_text("#problem")
    assert written(room) == before
    answer(room, 99)
    expect(page.locator("#problem")).to_contain_text("passes")
    answer(room, 2)
    page.wait_for_selector("#room-sudoku .rollout")
    assert not page.is_visible("#problem")


@pytest.mark.long
def test_rollouts_stand_side_by_side(open_page, shipped):
    page = open_page(shipped)
    room = enter(page, "sudoku")
    paste(room, PUZZLE)
    answer(room, 8, rollouts=4)
    page.wait_for_selector("#room-sudoku .rollout.best")
    assert room.locator(".rollout").count() == 4
    assert "★" in room.locator(".rollout.best h3").inner_text()
    assert "solved" in room.locator(".verdict").inner_text()


@pytest.mark.long
def test_stop_stops(open_page, shipped):
    page = open_page(shipped)
    room = enter(page, "sudoku")
    room.get_by_label("passes").fill("64")
    room.get_by_label("rollouts").fill("8")
    room.get_by_label("speed").fill("0")
    room.get_by_role("button", name="Answer it").click()
    page.wait_for_selector("#room-sudoku .rollout")
    room.get_by_role("button", name="Stop").click()
    expect(room.locator(".go")).to_be_enabled()
    answer(room, 2)  # and the next one is answered
    expect(room.locator(".verdict")).to_contain_text("solved")


def test_a_maze_is_painted_and_answered(open_page, shipped):
    page = open_page(shipped)
    room = enter(page, "maze")
    room.get_by_role("button", name="clear").click()
    editor = room.locator("canvas.editor")
    room.locator(".palette button", has_text="wall").click()
    page.mouse.move(*middle(editor, 1, 0))
    page.mouse.down()
    page.mouse.move(*middle(editor, 1, 7))  # in one stroke: no cell is skipped
    page.mouse.up()
    for symbol, cell in (("start", (0, 0)), ("goal", (2, 0)), ("start", (0, 3))):
        room.locator(".palette button", has_text=symbol).click()
        click_cell(page, editor, *cell)
    page.locator("h1").click()
    found = colours(editor)
    assert found[1][:8] == [WALL] * 8
    assert (found[0][3], found[2][0]) == (START, GOAL)
    assert found[0][0] != START  # there is one alone
    painted_by_hand = editor.get_attribute("aria-label")
    room.get_by_label("difficulty").select_option(index=0)
    room.get_by_role("button", name="take one").click()
    expect(editor).not_to_have_attribute("aria-label", painted_by_hand)
    answer(room, 8, rollouts=3)
    page.wait_for_selector("#room-maze .rollout.best")
    painted = [c for row in colours(room.locator(".rollout.best canvas").first) for c in row]
    if "solved" in room.locator(".verdict").inner_text().replace("not solved", ""):
        assert painted.count(PATH) >= 1
    assert painted.count(START) == painted.count(GOAL) == 1
    began = room.locator(".rollout.best figure[data-what='began from'] canvas")
    assert began.count() == 1
    room.get_by_label("what a pass began from").uncheck()
    assert began.count() == 0


def test_a_task_is_painted_resized_filled_and_undone(open_page, shipped):
    page = open_page(shipped)
    room = enter(page, "arc")
    editor = room.get_by_role("application", name="demonstration 1, input")
    assert [len(row) for row in colours(editor)] == [3, 3, 3]
    room.get_by_label("blue, 1").click()
    click_cell(page, editor, 0, 0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")
    page.keyboard.press("ArrowDown")
    page.locator("h1").click()
    found = colours(editor)
    assert found[0][:2] == [BLUE, RED]
    room.get_by_label("demonstration 1, input: columns").fill("4")
    room.get_by_label("demonstration 1, input: rows").fill("2")
    page.locator("h1").click()
    assert [len(row) for row in colours(editor)] == [4, 4]
    room.get_by_label("fill areas").check()
    click_cell(page, editor, 1, 3)
    page.locator("h1").click()
    assert sum(row.count(BLUE) for row in colours(editor)) == 7  # all but the red one
    page.keyboard.press("Control+z")
    assert sum(row.count(BLUE) for row in colours(editor)) == 1
    room.get_by_role("button", name="demonstration 1: copy the input to the output").click()
    output = room.get_by_role("application", name="demonstration 1, output")
    assert colours(output) == colours(editor)
    room.get_by_role("button", name="add a demonstration").click()
    room.get_by_role("button", name="add a test").click()
    assert room.get_by_role("application").count() == 6
    room.get_by_role("button", name="remove demonstration 2").click()
    assert room.get_by_role("application").count() == 4
    page.get_by_label("colour-blind-safe").check()
    assert colours(editor)[0][0] != BLUE


@pytest.mark.long
def test_a_task_is_adapted_to_stopped_and_saved(open_page, of_arc, tmp_path):
    page = open_page(of_arc)
    room = page.locator("#room-arc")
    page.wait_for_selector("#room-arc:not([hidden])")  # the command has named a task
    assert room.locator("h3", has_text="demonstration").count() >= 2
    room.get_by_role("button", name="Adapt and answer").click()
    expect(room.locator(".timeline > div").nth(1)).to_be_visible()
    room.get_by_role("button", name="Stop").click()
    expect(room.locator(".said")).to_contain_text("stand")
    assert room.locator("[data-test] figure").count() >= 3
    assert "vote" in room.locator("[data-test]").first.inner_text()
    with page.expect_download() as caught:
        room.get_by_role("button", name="save the answer").click()
    saved = json.loads(caught.value.path().read_text())
    assert list(saved) == ["25d8a9c8"]
    assert all(entry.keys() == {"attempt_1", "attempt_2"} for entry in saved["25d8a9c8"])
    with page.expect_download() as caught:
        room.get_by_role("button", name="save the task").click()
    file = tmp_path / "mine.json"
    file.write_text(caught.value.path().read_text())
    task = json.loads(file.read_text())
    assert len(task["train"]) >= 2
    room.get_by_role("button", name="begin anew").click()
    assert room.locator("h3", has_text="demonstration").count() == 1
    page.set_input_files("#room-arc input[type=file]", str(file))
    expect(room.locator(".task").first.locator("> div")).to_have_count(len(task["train"]))


@pytest.mark.long
def test_what_is_wrong_with_a_file_is_said(open_page, shipped, tmp_path):
    page = open_page(shipped, refused=True)
    enter(page, "arc")
    file = tmp_path / "task.json"
    file.write_text('{"train": [{"input": [[11]], "output": [[1]]}], "test": []}')
    page.set_input_files("#room-arc input[type=file]", str(file))
    expect(page.locator("#problem")).to_contain_text("11")
    page.get_by_label("task id").fill("nonsense")
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("no such task")
    page.get_by_label("task id").fill("0d3d703e")
    page.keyboard.press("Enter")
    expect(page.locator("#room-arc .task").first.locator("> div")).to_have_count(4)
    assert not page.is_visible("#problem")


@pytest.mark.long
def test_two_pages_at_once(open_page, shipped):
    pages = [open_page(shipped) for _ in range(2)]
    rooms = [enter(page, "sudoku") for page in pages]
    for room in rooms:
        paste(room, PUZZLE)
        answer(room, 12)
    for page in pages:
        expect(page.locator("#room-sudoku .verdict")).to_contain_text("✓")


@pytest.mark.long
def test_the_report_leads_here(open_page, of_boards):
    page = open_page(of_boards)
    with page.context.expect_page() as opened:  # beside it: nothing painted is lost
        page.click("text=report of the run")
    page = opened.value
    page.wait_for_selector("#cards .card a")
    page.click("#cards .card a >> nth=1")
    name = page.inner_text("#task h2 bdi")
    data = json.loads(page.text_content("#data"))
    (asked,) = [task["tests"][0] for task in data["tasks"] if task["id"] == name]
    expected = "".join(asked["input"])
    page.click("text=try this task")
    page.wait_for_selector("#room-sudoku:not([hidden])")
    expect(page.locator("#room-sudoku canvas.editor")).to_have_attribute(
        "aria-label", re.compile("cells: .*[1-4]")
    )
    assert written(page.locator("#room-sudoku")) == expected


@pytest.mark.long
@pytest.mark.parametrize("family", ["sudoku", "maze", "arc"])
def test_a_phone_shows_all_without_scrolling_sideways(open_page, shipped, family):
    page = open_page(shipped, 390, 844, has_touch=True)
    room = enter(page, family)
    if family == "arc":
        page.get_by_label("task id").fill("0d3d703e")
        page.keyboard.press("Enter")
        expect(page.locator("#room-arc .task").first.locator("> div")).to_have_count(4)
        room.get_by_label("blue, 1").tap()
        editor = room.get_by_role("application", name="demonstration 1, input")
        page.touchscreen.tap(*middle(editor, 1, 1))
        assert colours(editor)[1][1] != colours(editor)[0][2]
    else:
        answer(room, 2, rollouts=2)
        page.wait_for_selector(f"#room-{family} .rollout")
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0


@pytest.mark.long
def test_keys_lead_from_tab_to_tab_and_help_opens(open_page, shipped):
    page = open_page(shipped)
    page.focus("#tab-sudoku")
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute("#tab-arc", "aria-selected") == "true"
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-sudoku", "aria-selected") == "true"
    page.locator("h1").click()
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    page.click("#theme")
    assert page.get_attribute("html", "data-theme") == "dark"


@pytest.mark.long
def test_a_page_whose_server_has_gone_says_so(open_page, arc_run):
    from served import served

    with served(str(arc_run)) as own:
        page = open_page(own, refused=True)
        enter(page, "arc")
    page.get_by_label("task id").fill("0d3d703e")
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("still running")
