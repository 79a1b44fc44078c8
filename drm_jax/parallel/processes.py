"""Several processes, one on each host: how they join, agree, end together.

join ─► agree (code, options, data) ─► steps … ─► leave
          a failure is told to the others, which end too: no one waits for a process that is gone

What is agreed on outside of compiled programs goes through jax's coordination service, a small
store of texts in process 0. Every call of `exchange` must be made by all, in the same order; alone,
each of these functions does nothing.
"""

import collections
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import distributed  # the store has no public name yet
from jax.sharding import Mesh

from drm_jax.errors import InputError, UsageError, one_line
from drm_jax.parallel.mesh import placed

_FAILED, _LOOK_SECONDS, _GRACE_SECONDS = "drm/failed/", 1.0, 3.0
_PATIENCE_SECONDS = 3600.0
"""How long one process may take for what all do, such as reading a checkpoint. One that dies
meanwhile is noticed much sooner."""


class _Group:
    """What this process knows of the others."""

    index, count = 0, 1
    exchanges = 0
    has_failed = False
    left = threading.Event()


def index() -> int:
    """Which process this is. Unlike jax's, it touches no device."""
    return _Group.index


def count() -> int:
    """How many processes there are."""
    return _Group.count


def is_first() -> bool:
    """Whether this process is the one that writes logs and files."""
    return _Group.index == 0


def join(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    *,
    join_timeout: int,
    heartbeat_timeout: int,
) -> None:
    """Waits for the other processes. To be called before jax looks for devices.

    Args:
      coordinator, num_processes, process_id: None where jax finds them (TPU VM, Slurm, Kubernetes).
      join_timeout: seconds that all of them have to come.
      heartbeat_timeout: seconds without a sign of life after which one counts as dead.

    Raises:
      InputError: no one answers, or the port is taken.
      UsageError: the cluster can't be read.
    """
    known, options = coordinator is not None, {}
    if known:
        _check_port(coordinator, process_id, join_timeout)
        options["cluster_detection_method"] = "deactivate"
    elif os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").split("(")[0] == "1":
        # jax takes each task to be of one GPU; a node with one task gives it all of them.
        devices = os.environ.get("SLURM_GPUS_ON_NODE", "")
        if devices.isdigit():
            options["local_device_ids"] = list(range(int(devices)))
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is ours: run.stop
    try:
        with _interruptible(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Kubernetes environment detected")
            jax.distributed.initialize(
                coordinator,
                num_processes,
                process_id,
                initialization_timeout=join_timeout,
                heartbeat_timeout_seconds=heartbeat_timeout,
                shutdown_timeout_seconds=600,  # the last save may end sooner in one than in another
                **options,
            )
    except ValueError as error:
        if known or "should be defined" not in str(error):
            raise UsageError(f"the other processes can't be found: {error}") from error
        if "JOB_COMPLETION_INDEX" in os.environ:
            raise UsageError(
                "this is an indexed job of Kubernetes, whose other processes jax finds with the "
                "package of pip install 'jax[k8s]': install it, or give --coordinator, "
                "--num-processes and --process-id (alone: --num-processes 1)"
            ) from error
        return  # a single TPU host
    except RuntimeError as error:
        raise InputError(f"the other processes can't be reached: {one_line(error)}") from error
    state = distributed.global_state
    _Group.index, _Group.count = state.process_id, state.num_processes
    threading.Thread(target=_watch, daemon=True).start()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the process at once: Python wouldn't hear of it while C++ waits."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _check_port(coordinator: str, process_id: int, seconds: int) -> None:
    """Whether process 0 can listen there, and whether another process finds it."""
    host, port = coordinator.rsplit(":", 1)
    host = host.strip("[]")
    if process_id == 0:
        try:
            with socket.create_server(("", int(port))):
                return
        except OSError as error:
            raise InputError(
                f"--coordinator: port {port} of this machine can't be used: {error.strerror}; "
                "name a free one for all processes, or wait until the run before has ended"
            ) from error
    end, reason = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        try:
            with socket.create_connection((host, int(port)), timeout=min(seconds, 5)):
                return
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(0.2)
    raise InputError(
        f"--coordinator: no process 0 answers at {coordinator} within {seconds} s ({reason}): "
        "start it there, or correct the address"
    )


def leave() -> None:
    """Waits for the others to leave too."""
    _Group.left.set()
    if _Group.count > 1:
        jax.distributed.shutdown()


def fail(error: object) -> None:
    """Tells the other processes that this one is about to end; they end too."""
    _Group.left.set()
    if _Group.count > 1:
        _Group.has_failed = True
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # process 0 may be gone
            text = one_line(error) or type(error).__name__
            _store().key_value_set(f"{_FAILED}{_Group.index}", text, True)


def end_at_once(code: int) -> None:
    """Ends this process if it has failed, without waiting for the others as jax would.

    Process 0 stays until they have heard of it, since the store goes with it.
    """
    if _Group.has_failed:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        if is_first():
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(2 * _LOOK_SECONDS + _GRACE_SECONDS)
        os._exit(code)


def _store():
    return distributed.global_state.client


def _watch() -> None:
    """Ends this process when another has failed, wherever it waits for it: within a program on a
    device nothing else could."""
    while not _Group.left.wait(_LOOK_SECONDS):
        reason = _failure()
        if reason:
            if _Group.left.wait(_GRACE_SECONDS):  # it has noticed by itself
                return
            print(f"drm: {who()}: {one_line(reason)}", file=sys.stderr, flush=True)
            os._exit(1)


def _failure() -> str | None:
    """What another process has told of its end."""
    try:
        told = _store().key_value_dir_get(_FAILED)
    except jax.errors.JaxRuntimeError:  # the heartbeat will tell
        return None
    for key, text in sorted(told):
        process = key.removeprefix(_FAILED)
        if process != str(_Group.index):
            return f"ends, since process {process} has: {text}"
    return None


def who() -> str:
    """This process, for messages; empty where it is alone."""
    return f"process {_Group.index} of {_Group.count}" if _Group.count > 1 else ""


def exchange(text: str = "") -> list[str]:
    """Each process's text, in order; waits for all.

    Raises:
      InputError: another process has failed, or takes too long.
    """
    if _Group.count == 1:
        return [text]
    _Group.exchanges += 1
    folder = f"drm/exchange/{_Group.exchanges}/"
    _store().key_value_set(f"{folder}{_Group.index}", text)
    end, pause = time.monotonic() + _PATIENCE_SECONDS, 0.005
    while True:
        told = dict(_store().key_value_dir_get(folder))
        if len(told) == _Group.count:
            return [told[f"{folder}{i}"] for i in range(_Group.count)]
        reason = _failure()
        if reason:
            raise InputError(reason)
        if time.monotonic() > end:
            late = [i for i in range(_Group.count) if f"{folder}{i}" not in told]
            raise InputError(f"process {late[0]} has said nothing for {_PATIENCE_SECONDS:.0f} s")
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def agree(values: Mapping[str, str]) -> None:
    """Compares what must be the same in all processes.

    Args:
      values: by name; the same names everywhere, unless the code differs.

    Raises:
      UsageError: they differ; it names the first differences, alike in all processes.
    """
    all_values = [json.loads(text) for text in exchange(json.dumps(dict(values)))]
    first = all_values[0]
    for process, other in enumerate(all_values):
        differing = [name for name in first | other if first.get(name) != other.get(name)]
        if differing:
            shown = [
                f"{name} is {first.get(name, 'unknown')} in process 0 and "
                f"{other.get(name, 'unknown')} in process {process}"
                for name in differing[:3]
            ]
            more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise UsageError(
                f"the processes disagree: {'; '.join(shown)}{more}: give all of them the same "
                "code, options and files"
            )


def of_first(text: str) -> str:
    """Process 0's text, in all."""
    return exchange(text)[0]


class AgreedMaximum:
    """The largest of a number that each process gives, known to all at the same step.

    Without waiting: a tiny program on the devices is dispatched beside each step, and what it gave
    is read `lag` steps later, when that step is done anyway.
    """

    def __init__(self, mesh: Mesh, lag: int):
        self._mesh, self._lag = mesh, lag
        self._largest = jax.jit(jnp.max, out_shardings=placed(mesh, "step"))
        self._asked: collections.deque[jax.Array] = collections.deque()

    def _ask(self, number: int) -> jax.Array:
        local = np.full(len(self._mesh.local_devices), number, np.int32)
        sharding = placed(self._mesh, "batch")
        return self._largest(jax.make_array_from_process_local_data(sharding, local))

    def beside_step(self, number: int) -> int:
        """What was the largest `lag` calls before; 0 in the first ones."""
        if _Group.count == 1:
            return number
        self._asked.append(self._ask(number))
        return int(self._asked.popleft()) if len(self._asked) > self._lag else 0

    def now(self, number: int) -> int:
        """What is the largest now; waits for the devices."""
        return number if _Group.count == 1 else int(self._ask(number))
