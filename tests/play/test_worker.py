"""One job after the other, whatever becomes of them."""

import queue
import threading

import pytest

from drm_jax.errors import InputError
from drm_jax.play.worker import MOST_WAITING, BusyError, Worker

SECONDS = 30


def test_jobs_wait_for_each_other_and_only_so_many_wait():
    worker, told, go = Worker(), queue.Queue(), threading.Event()
    first = worker.submit(lambda job: go.wait(SECONDS), told.put)
    while worker._at_work is not first:  # it has begun
        pass
    waiting = [
        worker.submit(lambda job, n=n: job.tell({"event": n}), told.put)
        for n in range(MOST_WAITING)
    ]
    with pytest.raises(BusyError, match="wait already"):
        worker.submit(lambda job: None, told.put)
    waiting[1].stop()
    go.set()
    found = []
    while found.count(None) < MOST_WAITING + 1:
        found.append(told.get(timeout=SECONDS))
    waits = [event["before"] for event in found if event and event["event"] == "waiting"]
    assert waits == list(range(1, MOST_WAITING + 1))
    done = [event["event"] for event in found if event and event["event"] != "waiting"]
    assert done == [n for n in range(MOST_WAITING) if n != 1]
    assert found.count(None) == MOST_WAITING + 1


def test_jobs_that_nobody_waits_for_keep_no_place():
    worker, go = Worker(), threading.Event()
    first = worker.submit(lambda job: go.wait(SECONDS), lambda event: None)
    while worker._at_work is not first:
        pass
    for _ in range(3 * MOST_WAITING):
        worker.submit(lambda job: None, lambda event: None).stop()
    told = queue.Queue()
    worker.submit(lambda job: job.tell({"event": "done"}), told.put)
    assert told.get(timeout=SECONDS) == {"event": "waiting", "before": 1}
    go.set()
    assert told.get(timeout=SECONDS) == {"event": "done"}


def test_a_closed_worker_ends_all_jobs_and_takes_none():
    worker, told = Worker(), queue.Queue()

    def work(job):
        while not job.is_stopped:
            pass

    for _ in range(3):
        worker.submit(work, told.put)
    worker.close()
    found = []
    while found.count(None) < 3:
        found.append(told.get(timeout=SECONDS))
    worker.join(SECONDS)
    assert not worker._thread.is_alive()
    with pytest.raises(BusyError):
        worker.submit(work, told.put)


def test_an_error_is_told_and_the_next_job_is_done(capsys):
    worker, told = Worker(), queue.Queue()

    def wrong(job):
        raise InputError("the task: has no test")

    def broken(job):
        raise ZeroDivisionError("oh")

    for work in (wrong, broken, lambda job: job.tell({"event": "fine"})):
        worker.submit(work, told.put)
    events = []
    while events.count(None) < 3:
        events.append(told.get(timeout=SECONDS))
    texts = [event["text"] for event in events if event and event["event"] == "error"]
    assert texts == [
        "the task: has no test",
        "unexpected ZeroDivisionError: the terminal of drm play tells more",
    ]
    assert {"event": "fine"} in events
    assert "ZeroDivisionError: oh" in capsys.readouterr().err


def test_a_stop_reaches_a_job_at_work_and_one_that_has_yet_to_listen():
    worker, heard, began = Worker(), queue.Queue(), threading.Event()

    def work(job):
        began.set()
        while not job.is_stopped:
            pass
        job.when_stopped(lambda: heard.put("late"))

    job = worker.submit(work, lambda event: None)
    began.wait(SECONDS)
    job.when_stopped(lambda: heard.put("at once"))
    worker.close()
    assert heard.get(timeout=SECONDS) == "at once"
    assert heard.get(timeout=SECONDS) == "late"


def test_what_is_done_beforehand_fails_alone(capsys):
    done = queue.Queue()

    def wrong():
        raise InputError("damaged weights")

    go, told = threading.Event(), queue.Queue()
    worker = Worker([wrong, lambda: done.put("second"), lambda: go.wait(SECONDS)])
    assert done.get(timeout=SECONDS) == "second"
    worker.submit(lambda job: done.put("third"), told.put)
    assert told.get(timeout=SECONDS) == {"event": "waiting", "before": 0}
    go.set()
    assert done.get(timeout=SECONDS) == "third"
    assert "damaged weights" in capsys.readouterr().out
