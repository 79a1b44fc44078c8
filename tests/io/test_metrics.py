import json

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from drm_jax.io.files import work_path
from drm_jax.io.metrics import MetricsLog, keep_unreadable, read_metrics

LINE = b'{"step": 2, "kind": "train", "loss": 1.0}\n'


def events(folder) -> list[Event]:
    """All events of a folder's files, oldest file first, read as TensorBoard's records."""
    found = []
    for path in sorted(folder.glob("events*"), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def shown_by_tensorboard(found: list[Event]) -> list[tuple[int, float]]:
    """(step, loss) that are left: a session that starts at a step drops what came from it on."""
    points: list[tuple[int, float]] = []
    for event in found:
        if event.HasField("session_log"):
            points = [point for point in points if point[0] < event.step]
        for value in event.summary.value:
            if value.tag == "train/loss":
                points.append((event.step, round(value.simple_value, 3)))
    return points


def test_what_was_logged_past_the_restored_step_is_dropped(tmp_path):
    workdir = work_path(tmp_path)
    with MetricsLog(workdir, None, "pass@2", "tests") as log:
        for step in (1, 2, 3):
            log.scalars(step, "train", {"loss": 1.0 / step})
        log.scalars(2, "eval", {"pass@2": 0.5})
        log.scalars(3, "eval", {"pass@2": 0.25})
        log.scalars(3, "train", {"loss": float("nan")})
        log.picture(3, "a", np.zeros((4, 4, 3), np.uint8))
        assert log.scores == {2: 0.5, 3: 0.25}
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "ki')  # torn by a kill
    with MetricsLog(workdir, 2, "pass@2", "tests") as log:
        assert log.scores == {2: 0.5}
        assert [log.was_evaluated(step) for step in (1, 2, 3)] == [False, True, False]
        log.scalars(3, "train", {"loss": 7.0})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line.get("loss")) for line in lines] == [
        (1, 1.0), (2, 0.5), (2, None), (3, 7.0),
    ]  # fmt: skip
    assert shown_by_tensorboard(events(tmp_path / "tensorboard")) == [(1, 1.0), (2, 0.5), (3, 7.0)]


def test_a_fresh_start_drops_all(tmp_path):
    workdir = work_path(tmp_path)
    for loss in (1.0, 2.0):
        with MetricsLog(workdir, None, "pass@2", "tests") as log:
            log.scalars(0, "eval", {"pass@2": 0.0})
            log.scalars(1, "train", {"loss": loss})
    assert [line.get("loss") for line in read_metrics(workdir)] == [None, 2.0]
    assert shown_by_tensorboard(events(tmp_path / "tensorboard")) == [(1, 2.0)]


def test_lines_that_are_none_are_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(
        b'{"step": 1, "kind": "train", "loss": 1}\n\xff\xfe\n[]\n{"step": "x", "kind": "a"}\n'
        b'{"kind": "train"}\n{"step": 2, "kind": "train", "loss": 2}\n{"step": 3'
    )
    assert [line["loss"] for line in read_metrics(work_path(tmp_path), 9)] == [1, 2]


def test_scores_on_other_tests_are_kept_apart(tmp_path):
    workdir = work_path(tmp_path)
    for tests, step, score in (("a", 1, 0.9), ("b", 2, 0.1)):
        with MetricsLog(workdir, step - 1, "pass@2", tests) as log:
            log.scalars(step, "eval", {"pass@2": score})
    assert log.scores_on == {"a": {1: 0.9}, "b": {2: 0.1}}
    assert log.scores == {2: 0.1}
    assert [line["tests"] for line in read_metrics(workdir)] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (LINE + LINE, None),
        (LINE + b'{"step": 3, "ki', None),  # torn by a kill
        (LINE + b"\n" + b'{"st', None),
        (b"", None),
        (LINE + b"garbage\n" + LINE, "1 of 3 lines"),
        (b"\x00" * 99, "1 of 1 line"),
        (LINE + b"garbage", "1 of 2 lines"),
        (LINE + b'{"step": "x"}\n[]\n', "2 of 3 lines"),
    ],
    ids=repr,
)
def test_lines_that_can_not_be_read_are_not_dropped_without_a_word(tmp_path, content, wrong):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    said = keep_unreadable(work_path(tmp_path))
    assert path.read_bytes() == content
    if wrong is None:
        assert said is None
        return
    copy = tmp_path / "damaged" / "metrics.jsonl"
    assert said == f"{path}: {wrong} can't be read; a copy is kept as {copy}"
    assert copy.read_bytes() == content
    assert keep_unreadable(work_path(tmp_path)).endswith("metrics.jsonl-2")
