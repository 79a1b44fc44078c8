import os
import select
import signal
import threading
import time

import pytest

from drm_jax.errors import PreemptedError
from drm_jax.runtime.stop import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_the_first_signal_asks_and_what_was_before_comes_back(number, monkeypatch):
    before, said = signal.getsignal(number), []
    with StopRequest(said.append) as stop:
        assert signal.getsignal(number) is before
        stop.listen()
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        assert len(said) == 1
        if number == signal.SIGINT:
            os.kill(os.getpid(), number)  # to a parent too, which has passed it on
            monkeypatch.setattr("drm_jax.runtime.stop._ONE_SECONDS", 0)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        else:
            os.kill(os.getpid(), number)  # clusters and terminals say it more than once
        assert len(said) == 1
        assert ("SIGTERM" in said[0]) == (number == signal.SIGTERM)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_what_is_ignored_from_the_start_is_nothing(number):
    """nohup, and `trap '' TERM`."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopRequest(print) as stop:
            stop.listen()
            os.kill(os.getpid(), number)
            assert not stop.requested
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ([signal.SIGTERM], 75),
        ([signal.SIGTERM, signal.SIGTERM], 75),
        ([signal.SIGHUP, signal.SIGTERM], 75),
        ([signal.SIGTERM, signal.SIGHUP], 75),
        ([signal.SIGINT], 130),
        ([signal.SIGHUP], 130),
        ([signal.SIGINT, signal.SIGTERM], 130),
        ([signal.SIGTERM, signal.SIGINT], 130),
    ],
)
def test_only_sigterm_without_ctrl_c_asks_for_another_start(numbers, code):
    with StopRequest(lambda _: None) as stop:
        stop.listen()
        for number in numbers:
            os.kill(os.getpid(), number)
        assert stop.error("; here").exit_code == code


@pytest.mark.parametrize("until_exit", [True, False])
def test_a_preempted_run_ignores_what_comes_after(sigterm, until_exit):
    """It is about to give its exit code; where it isn't, as in a notebook, all is as before."""

    def preempted() -> None:
        with StopRequest(lambda _: None, until_exit=until_exit) as stop:
            stop.listen()
            os.kill(os.getpid(), signal.SIGTERM)
            raise stop.error("")

    with pytest.raises(PreemptedError):
        preempted()
    assert signal.getsignal(signal.SIGTERM) is (signal.SIG_IGN if until_exit else sigterm)
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_a_signal_amid_a_print_that_waits_is_heard():
    """Output that nobody reads for a while; printing within a print raises RuntimeError."""
    source, sink = os.pipe()
    size = 1 << 20  # a pipe holds less

    def preempt_then_read() -> None:
        while select.select([], [sink], [], 0)[1]:
            time.sleep(0.01)
        end = time.monotonic() + 600
        while not stop.requested and time.monotonic() < end:
            # again and again: one that comes just before the wait doesn't interrupt it
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        read = 0
        while read < size:
            read += len(os.read(source, 1 << 16))

    output = open(sink, "w")  # noqa: SIM115
    with output, StopRequest(lambda text: print(text, file=output, flush=True)) as stop:
        stop.listen()
        reader = threading.Thread(target=preempt_then_read)
        reader.start()
        output.write("x" * size)
        output.flush()
        reader.join()
        assert stop.requested
    os.close(source)
