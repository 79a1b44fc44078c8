"""The page's server as programs of this machine meet it: what it answers, and what it refuses."""

import contextlib
import itertools
import json
import queue
import socket
import threading
import time

import pytest
from served import SECONDS, Served, served

from drm_jax.commands.main import main
from drm_jax.commands.play import _open
from drm_jax.play.guard import MOST_BYTES
from drm_jax.puzzles.arc.tasks import load_source

PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SOLUTION = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
BOARD = [PUZZLE[start : start + 9] for start in range(0, 81, 9)]
ASKED = {"family": "sudoku", "board": BOARD, "passes": 4}
PAIR = {"input": [[1, 2], [3, 4]], "output": [[2, 1], [4, 3]]}
TASK = {"train": [PAIR, PAIR], "test": [{"input": [[1, 3], [5, 7]]}]}


def solves(page: Served) -> bool:
    """Whether it answers the puzzle right: after whatever was done to it."""
    *_, last, end = page.events("api/answer", ASKED | {"passes": 8})
    text = "".join(map(str, last["rollouts"][end["best"]]["board"]))
    return end["valid"] and text == SOLUTION


# --- what it answers ------------------------------------------------------------------------------
def test_a_puzzle_is_answered_pass_by_pass(shipped):
    begin, *passes, end = shipped.events("api/answer", ASKED | {"passes": 8, "rollouts": 3,
                                                                "symmetric": True})  # fmt: skip
    passes = [event for event in passes if event["event"] == "pass"]
    assert begin["passes"] == len(passes) == 8
    assert len(begin["rollouts"]) == len(passes[0]["rollouts"]) == 3
    assert end["event"] == "end"
    assert end["valid"]


def test_puzzles_are_drawn_and_looked_at(shipped):
    about = shipped.ask("api/about")
    assert about["weights"]["sudoku"].startswith("the package's")
    for name, family in about["families"].items():
        for level in family["levels"]:
            drawn = shipped.ask("api/draw", {"family": name, "level": level, "seed": 1})
            looked = shipped.ask("api/check", {"family": name, "board": drawn["board"]})
            assert looked == {"conflicts": [], "remark": ""}
    wrong = ["55" + BOARD[0][2:], *BOARD[1:]]
    looked = shipped.ask("api/check", {"family": "sudoku", "board": wrong})
    assert looked["conflicts"] == [0, 1]
    assert "no solution" in looked["remark"]


def test_tasks_are_found_and_read(shipped):
    names = shipped.ask("api/tasks")
    assert {len(of) for of in names.values()} == {400, 1000, 120}
    task = shipped.ask("api/find", {"name": "0d3d703e"})["task"]
    assert task["train"][0] == {"input": ["312"] * 3, "output": ["456"] * 3}
    text = json.dumps(TASK)
    assert shipped.ask("api/read", {"text": text})["task"]["test"] == [
        {"input": ["13", "57"], "output": None}
    ]


@pytest.mark.long
def test_a_task_is_adapted_to(of_arc):
    begin, *told, end = of_arc.events("api/adapt", {"task": TASK, "minutes": 0.5})
    assert begin == {"event": "begin"}
    answers = [event for event in told if event["event"] == "answered"]
    assert answers[0]["words"] == "copies of the inputs"
    assert answers[0]["tests"][0]["attempts"][0] == {
        "rows": ["13", "57"], "votes": None, "right": None
    }  # fmt: skip
    assert answers[1]["words"] == "the weights as they are"
    assert "steps of training" in answers[-1]["words"]
    assert answers[-1]["tests"][0]["votes"] > 0
    assert end == {"event": "end", "stopped": False}
    assert not any("━" in event["text"] for event in told if event["event"] == "said")


@pytest.mark.long
def test_a_known_answer_is_judged_and_not_trained_on(of_arc):
    task = TASK | {"test": [{"input": [[1, 3], [5, 7]], "output": [[1, 3], [5, 7]]}]}
    told = of_arc.events("api/adapt", {"task": task, "minutes": 0.05})
    first = next(event for event in told if event["event"] == "answered")
    assert first["tests"][0]["attempts"][0]["right"]  # a copy of the input, which it is


@pytest.mark.long
def test_a_closed_page_stops_its_work_and_the_next_one_goes_on(of_arc):
    body = json.dumps({"task": TASK, "minutes": 30}).encode()
    with socket.create_connection(("127.0.0.1", of_arc.port), timeout=SECONDS) as sock:
        sock.sendall(raw(of_arc, body))
        text = b""
        while b"the weights as they are" not in text:  # it is at work
            text += sock.recv(4096)
    before = time.monotonic()
    assert of_arc.events("api/adapt", {"task": TASK, "minutes": 0.05})[-1]["event"] == "end"
    assert time.monotonic() - before < SECONDS  # not 30 minutes


def raw(page: Served, body: bytes) -> bytes:
    return (
        f"POST {page.path}api/adapt HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@pytest.mark.long
def test_ctrl_c_ends_what_is_at_work(arc_run):
    with contextlib.ExitStack() as socks:  # they stay open while the command ends
        with served(str(arc_run)) as page:
            body = json.dumps({"task": TASK, "minutes": 30}).encode()
            at_work, waits = (
                socks.enter_context(socket.create_connection(("127.0.0.1", page.port), SECONDS))
                for _ in range(2)
            )
            at_work.sendall(raw(page, body))
            text = b""
            while b"answered" not in text:
                text += at_work.recv(4096)
            waits.sendall(raw(page, body))
            assert waits.recv(4096).startswith(b"HTTP/1.1 200")
            before = time.monotonic()
        assert time.monotonic() - before < SECONDS


def test_a_connection_that_asks_for_nothing_is_closed(shipped):
    socks = [socket.create_connection(("127.0.0.1", shipped.port), SECONDS) for _ in range(20)]
    socks[0].sendall(b"GET / HT")
    assert solves(shipped)
    for sock in socks:
        sock.settimeout(SECONDS)
        assert sock.recv(100) == b""
        sock.close()


def test_a_link_of_another_page_may_lead_here_but_nothing_more(shipped):
    follows = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate",
               "sec-fetch-dest": "document"}  # fmt: skip
    assert shipped.request("GET", "", None, follows)[0] == 200
    for more in ({"sec-fetch-dest": "iframe"}, {"sec-fetch-mode": "cors"}, {"origin": "null"}):
        assert shipped.request("GET", "", None, follows | more)[0] == 403
    assert shipped.request("POST", "api/answer", ASKED, follows)[0] == 403


def test_a_run_s_own_puzzles_and_report(of_boards, boards_run):
    about = of_boards.ask("api/about")
    assert about["weights"]["sudoku"] == str(boards_run)
    assert about["families"]["sudoku"]["board"] == [4, 4]
    assert about["report"]
    found = of_boards.ask("api/find", {"name": "puzzle 2"})
    assert found["family"] == "sudoku"
    asked = {"family": "sudoku", "board": found["board"], "passes": 2}
    assert of_boards.events("api/answer", asked)[-1]["event"] == "end"
    status, headers, text = of_boards.request("GET", "report")
    assert status == 200
    assert text == (boards_run / "report.html").read_bytes()
    assert headers["content-security-policy"].startswith("sandbox")  # it can ask us for nothing
    status, _, text = of_boards.request("POST", "api/find", {"name": "puzzle 4"})
    assert (status, b"no such puzzle" in text) == (400, True)


@pytest.mark.long
def test_it_begins_with_what_the_command_names(of_arc):
    about = of_arc.ask("api/about")
    (task,) = [task for task in load_source("arc1/training") if task.id == "25d8a9c8"]
    assert about["begin_with"]["task"]["id"] == task.id
    assert len(about["begin_with"]["task"]["train"]) == len(task.demonstrations)
    assert next(iter(of_arc.ask("api/tasks"))) == "this run"


def test_pages_may_load_nothing_from_elsewhere(shipped):
    for path in ("", "play.js", "ask.js", "editor.js", "boards.js", "arc.js", "grids.js",
                 "play.css", "report.css"):  # fmt: skip
        status, headers, text = shipped.request("GET", path)
        assert status == 200
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; script-src 'self'"
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert b"http://" not in text.replace(b"http://www.w3.org", b"")
        assert b"https://" not in text


# --- what it refuses ------------------------------------------------------------------------------
# Requests are (method, path, body, headers), each of which must be refused.
POSTED = ("api/answer", "api/adapt", "api/draw", "api/check", "api/find", "api/read")


def of_others(page: Served) -> list[tuple]:
    """Without the token, of another site, or under another name of this machine."""
    own, other = f"127.0.0.1:{page.port}", "http://evil.example"
    token = page.path.strip("/")
    asked: list[tuple] = []
    for path in ("/", "/api/about", "/play.js", f"/{token[:-1]}/", f"/{token}x/", f"/{token}",
                 f"/{token.swapcase()}/", f"//{token[:5]}/", "/%00/", "/../", f"/x/{token}/",
                 f"/{token[1:]}/api/about"):  # fmt: skip
        asked += [("GET", path, None, {}), ("POST", path, ASKED, {})]
    for headers in (
        {"host": "evil.example"}, {"host": f"evil.example:{page.port}"}, {"host": "127.0.0.1"},
        {"host": f"localhost.evil.example:{page.port}"}, {"host": f"[::1]:{page.port}"},
        {"origin": other}, {"origin": "null"}, {"origin": f"https://{own}"},
        {"origin": "http://127.0.0.1:1"}, {"origin": f"http://{own}.evil.example"},
        {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
        {"origin": f"http://{own}", "sec-fetch-site": "cross-site"},
    ):  # fmt: skip
        asked += [("GET", "", None, headers), ("GET", "api/about", None, headers)]
        asked += [("POST", "api/answer", ASKED, headers), ("POST", "api/adapt", TASK, headers)]
    return asked


def malformed() -> list[tuple]:
    """Other methods and paths, and bodies that are too large, not JSON, or not that JSON."""
    asked: list[tuple] = []
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "HEAD"):
        asked += [(method, path, None, {}) for path in ("", "api/answer")]
    for path in (
        "../pyproject.toml", "..%2fpyproject.toml", "%2e%2e/", "play.js/../../x", "api", "api/",
        "api/answer/", "static/play.js", "page.py", "play.js%00", "~root/",
    ):  # fmt: skip
        asked.append(("GET", path, None, {}))
    asked += [("GET", path, None, {}) for path in ("api/answer", "api/adapt", "api/draw")]
    asked += [("POST", path, ASKED, {}) for path in ("", "api/about", "api/tasks", "play.js")]
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "",
                 "application/jsonx"):  # fmt: skip
        asked.append(("POST", "api/answer", ASKED, {"content-type": kind}))
    bodies = (b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff\xfe", b"[" * 100_000, b"{}",
              b'{"family":NaN}', b'{"family":"sudoku"}', b'{"__proto__":{}}',
              json.dumps(ASKED | {"more": 1}).encode(), b"9" * 5000)  # fmt: skip
    asked += [("POST", path, body, {}) for path, body in itertools.product(POSTED, bodies)]
    large = b" " * (MOST_BYTES + 1)
    asked += [("POST", path, large, {}) for path in POSTED]
    asked += [("POST", "api/answer", b"{}", {"content-length": n}) for n in ("-1", "x", "9" * 30)]
    return asked


def wrong_boards() -> list[tuple]:
    """Puzzles, levels and names that can't be."""
    wrong = {
        "family": [1, None, "arc", "../x", "x" * 300, []],
        "board": [[], [""], BOARD[:8], [*BOARD, BOARD[0]], [*BOARD[:8], "5"], "x", 1, None, [[1]],
                  [*BOARD[:8], "x........"], ["é" * 9] * 9, [PUZZLE], ["." * 31] * 31],
        "passes": [0, -1, 65, 10**9, 1.5, "4", None, True, []],
        "rollouts": [0, 9, 10**30, "1", None],
        "symmetric": [1, "yes", None],
        "remask": ["uniform", "all", 1],  # this network masks nothing again
        "seed": [-1, 2**31, 0.5, "x", None],
    }  # fmt: skip
    asked = [
        ("POST", "api/answer", ASKED | {field: value}, {})
        for field, values in wrong.items()
        for value in values
    ]
    asked += [
        ("POST", "api/find", {"name": name}, {})
        for name in ("", "0d3d703f", "/etc/passwd", "os:getcwd", "puzzle 1", "x" * 201, "\0")
    ]
    asked += [
        ("POST", "api/draw", {"family": "sudoku", "level": level, "seed": 0}, {})
        for level in ("", "easy", None, 1)
    ]
    return asked


def wrong_tasks() -> list[tuple]:
    """ARC tasks, files and times that can't be."""
    tasks = [
        {}, {"train": []}, {"train": [PAIR]}, {"train": [PAIR], "test": []},
        {"train": [], "test": [PAIR]}, {"train": [PAIR], "test": [{"output": [[1]]}]},
        {"train": [{"input": [[1]]}], "test": [PAIR]}, {"train": [PAIR] * 33, "test": [PAIR]},
        {"train": [{"input": [[10]], "output": [[1]]}], "test": [PAIR]},
        {"train": [{"input": [[-1]], "output": [[1]]}], "test": [PAIR]},
        {"train": [{"input": [[1, 2], [3]], "output": [[1]]}], "test": [PAIR]},
        {"train": [{"input": [[1] * 31], "output": [[1]]}], "test": [PAIR]},
        {"train": [{"input": [[1]] * 31, "output": [[1]]}], "test": [PAIR]},
        {"train": [{"input": [["1"]], "output": [[1]]}], "test": [PAIR]},
        {"train": [{"input": [[1.5]], "output": [[1]]}], "test": [PAIR]},
        {"train": "x", "test": "y"}, {"train": {"a": 1}, "test": [PAIR]},
    ]  # fmt: skip
    asked = [("POST", "api/adapt", {"task": task, "minutes": 1}, {}) for task in tasks]
    asked += [("POST", "api/read", {"text": json.dumps(task)}, {}) for task in tasks]
    asked += [("POST", "api/read", {"text": text}, {}) for text in ("", "x", "[" * 99_999, "1e999")]
    asked += [
        ("POST", "api/adapt", {"task": TASK, "minutes": minutes}, {})
        for minutes in (0, -1, 61, 1e308, "1", None)
    ]
    return asked


def test_hostile_requests_get_one_clear_refusal_and_harm_nothing(shipped):
    asked = [*of_others(shipped), *malformed(), *wrong_boards(), *wrong_tasks()]
    assert len(asked) > 200
    for method, path, body, headers in asked:
        status, _, text = shipped.request(method, path, body, headers)
        words = (method, path, str(body)[:80], headers, status, text[:200])
        assert 400 <= status < 500, words
        if method not in ("HEAD", "CONNECT") and headers.get("content-length") is None:
            refusal = json.loads(text)["error"]
            assert 5 < len(refusal) < 1000, words
            assert "\n" not in refusal, words
            assert "Traceback" not in refusal, words
    assert solves(shipped)


def test_what_is_no_http_is_closed(shipped):
    for data in (b"\0" * 100, b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 200_000,
                 b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x: y\r\n" * 50_000,
                 b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):  # fmt: skip
        with socket.create_connection(("127.0.0.1", shipped.port), timeout=SECONDS) as sock:
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                answer = sock.recv(4096)
            except OSError:  # it closed before all was sent
                answer = b""
        assert answer == b"" or b" 40" in answer.split(b"\r\n")[0], data[:30]
    assert solves(shipped)


def test_a_body_that_never_comes_is_given_up(shipped, monkeypatch):
    request = raw(shipped, b"")[:-2].replace(b"Content-Length: 0", b"Content-Length: 100")
    with socket.create_connection(("127.0.0.1", shipped.port), timeout=SECONDS) as sock:
        sock.sendall(request + b"\r\n{")
        assert b" 408 " in sock.recv(4096).split(b"\r\n")[0]
    assert solves(shipped)


def test_a_flood_is_answered_and_passes(shipped):
    found, lock = [], threading.Lock()

    def ask():
        try:
            status, _, text = shipped.request("POST", "api/answer", ASKED | {"passes": 64})
        except OSError:  # refused before it was read
            status, text = 0, b""
        with lock:
            found.append((status, text))

    threads = [threading.Thread(target=ask) for _ in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = [status for status, _ in found]
    assert set(statuses) <= {0, 200, 503}
    assert 1 <= statuses.count(200) < 150
    for status, text in found:
        if status == 200:
            assert json.loads(text.splitlines()[-1])["event"] == "end"
    assert solves(shipped)


def test_two_ask_at_once(shipped):
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(shipped.events("api/answer", ASKED | {"passes": 40}))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [events[-1]["event"] for events in found] == ["end", "end"]


# --- the command ----------------------------------------------------------------------------------
def test_the_command_says_what_is_wrong(tmp_path, capsys, monkeypatch, shipped):
    bad = tmp_path / "task.json"
    bad.write_text('{"train": []}')
    cases = [
        (["nowhere"], 1, "not a work directory"),
        (["a", "b"], 2, "name one work directory"),
        (["--task", "0d3d703f"], 1, "there is no such task; did you mean 0d3d703e"),
        (["--task", str(bad)], 1, "the task"),
        (["--task", str(tmp_path / "none.json")], 1, "none.json"),
        (["--port", str(shipped.port)], 2, "name another one, or 0 for any"),
        (["--port", "99999"], 2, "--port 99999"),
        (["--port", "x"], 2, "--port"),
    ]
    for words, code, message in cases:
        assert main(["play", "--no-browser", *words]) == code, words
        assert message in capsys.readouterr().err, words
    monkeypatch.setattr("drm_jax.commands.play.find_module", lambda name: None)
    assert main(["play"]) == 2
    assert "pip install 'drm_jax[play]'" in capsys.readouterr().err
    assert pytest.importorskip("uvicorn")


def test_others_on_this_machine_do_not_see_the_token(tmp_path, monkeypatch):
    """They see with what a browser is called: a file that only its user can read leads on."""
    opened = queue.Queue()
    monkeypatch.setattr("webbrowser.open", opened.put)
    _open("http://127.0.0.1:1/secret/", tmp_path / "play.html")
    assert opened.get(timeout=SECONDS) == (tmp_path / "play.html").as_uri()
    assert "url=http://127.0.0.1:1/secret/" in (tmp_path / "play.html").read_text(encoding="utf-8")
    assert (tmp_path / "play.html").stat().st_mode & 0o077 == 0
