"""Where a command is one of several processes, one on each host."""

import dataclasses
import glob
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from drm_jax.commands.devices import import_jax
from drm_jax.commands.help_text import HELP
from drm_jax.commands.options import parse
from drm_jax.errors import StoppedError, UsageError
from drm_jax.runtime.supervise import supervise

SEVERAL_HOSTS = """
On several hosts: the same command on each, with --coordinator, --num-processes and --process-id. On
TPU VMs, under Slurm and on Kubernetes the processes find each other, and need none of these.
"""
"""For the help of a command."""


@dataclasses.dataclass(frozen=True)
class ProcessOptions:
    """The processes that a command is one of. What is None jax asks the cluster for."""

    coordinator: str | None = None
    """HOST:PORT, a free port of process 0's host; the same for all."""
    num_processes: int | None = None
    """How many there are."""
    process_id: int | None = None
    """Which of them this one is, 0 to N-1."""
    join_timeout: int = 40
    """Seconds that all have to come."""
    heartbeat_timeout: int = 60
    """Seconds without a sign of life after which one counts as dead."""


OPTION_NAMES = [f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(ProcessOptions)]


def take_process_options(argv: Sequence[str], prog: str) -> tuple[ProcessOptions | None, list[str]]:
    """The options about other processes, and what is left of argv; None where it runs alone.

    They are needed before the others can be read: the process has to fork first.

    Raises:
      UsageError: only some of those that are needed, or values that can't be.
    """
    if set(HELP) & set(argv):
        return None, list(argv)
    own, rest = _split(argv)
    found = parse(ProcessOptions, own, prog, "")
    _check(found)
    given = [x is not None for x in (found.coordinator, found.num_processes, found.process_id)]
    if found.num_processes == 1 or (not any(given) and not _in_cluster(os.environ)):
        return None, rest
    if any(given) and not all(given):
        raise UsageError(
            "--coordinator, --num-processes and --process-id belong together: give all three, or "
            "none on a TPU VM, under Slurm or on Kubernetes"
        )
    return found, rest


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of `ProcessOptions`, and the others. Each of these options has one value."""
    own, rest, takes_value = [], [], False
    for word in argv:
        name, equals, _ = word.partition("=")
        is_option = name.replace("_", "-") in OPTION_NAMES
        (own if is_option or takes_value else rest).append(word)
        takes_value = is_option and not equals
    return own, rest


def _check(found: ProcessOptions) -> None:
    for name, low in (("join_timeout", 1), ("heartbeat_timeout", 2), ("num_processes", 1)):
        value = getattr(found, name)
        if value is not None and not low <= value <= 10**6:
            option = name.replace("_", "-")
            raise UsageError(f"--{option}: must be {low} to {10**6}, not {value}")
    count, process, address = found.num_processes, found.process_id, found.coordinator
    if process is not None and not 0 <= process < (count or 10**6):
        most = "" if count is None else f" to {count - 1}"
        raise UsageError(f"--process-id: must be 0{most}, not {process}")
    host, _, port = ("host:1" if address is None else address).rpartition(":")
    if not _is_host(host) or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"--coordinator: {address!r}: must be HOST:PORT, such as 10.0.0.1:8476")


def _is_host(name: str) -> bool:
    """Whether a name can be looked up at all."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:  # a part of it is empty or too long
        return False


def _in_cluster(environ: Mapping[str, str]) -> bool:
    """Whether jax will find the other processes by itself.

    Slurm: within `srun`, of several tasks. Kubernetes: an indexed job. TPU: chips of one, whose
    host knows of the others (and of being alone).
    """
    step = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    if environ.get("SLURM_NTASKS", "1") != "1" and all(name in environ for name in step):
        return True
    if {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environ.keys():
        return True
    on_cpu = environ.get("JAX_PLATFORMS", "tpu").split(",")[0] == "cpu"
    return not on_cpu and importlib.util.find_spec("libtpu") is not None and _has_tpu()


def _has_tpu() -> bool:
    """Whether a PCI device is Google's, and not the network card of its virtual machines."""
    for path in glob.glob("/sys/bus/pci/devices/*/vendor"):
        vendor, device = (
            Path(path).with_name(name).read_bytes().strip() for name in ("vendor", "device")
        )
        if vendor == b"0x1ae0" and device != b"0x0042":
            return True
    return False


def run_together(own: ProcessOptions | None, job: Callable[[], int]) -> int:
    """Does a job as one of several processes; a failure here ends the others too."""
    if own is None:
        return job()
    code = supervise()
    if code is not None:
        return code  # this is the parent, and all is done
    import_jax()
    from drm_jax.parallel import processes

    processes.join(**dataclasses.asdict(own))
    try:
        code = job()
    except StoppedError:  # all have stopped after the same step
        processes.leave()
        raise
    except BaseException as error:
        processes.fail(error)
        raise
    processes.leave()
    return code
