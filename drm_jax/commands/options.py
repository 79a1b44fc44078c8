"""Options of the command line: argparse's and tyro's, with wrong usage answered in one line."""

import argparse
import contextlib
import dataclasses
import difflib
import glob
import importlib.util
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from drm_jax.errors import UsageError

_NOT_WHOLE = r"\1: \2 is not a whole number"


class Parser(argparse.ArgumentParser):
    """Answers wrong usage in one line, with the nearest name there is."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            raise _unknown_option(unknown[1], known, f"{self.prog} --help")
        message = re.sub(r"^argument (.*?): invalid int value: (.*)", _NOT_WHOLE, message)
        message = message.removeprefix("argument ")
        raise UsageError(f"{message} (see {self.prog} --help)")


def distinct_steps(text: str) -> list[int]:
    """1000,2000 as numbers, for `Parser`."""
    steps = []
    for word in text.split(","):
        try:
            step = int(word)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{word[:40]!r} is not a whole number; give steps as in 1000,2000"
            ) from None
        if step in steps:
            raise argparse.ArgumentTypeError(f"step {step} is named twice; leave one out")
        steps.append(step)
    return steps


@dataclasses.dataclass(frozen=True)
class Group:
    """The processes that a command is one of. What is None jax asks the cluster for."""

    coordinator: str | None
    num_processes: int | None
    process_id: int | None
    join_timeout: int
    heartbeat_timeout: int


GROUP_HELP = """\
Several processes, one on each host (TPU VMs, Slurm and Kubernetes need none of these):
  --coordinator HOST:PORT  a free port of process 0's host, the same for all
  --num-processes N        how many there are
  --process-id I           which of them this one is, 0 to N-1
  --join-timeout S         seconds that all have to come (40)
  --heartbeat-timeout S    seconds without a sign of life after which one counts as dead (60)"""


def take_group(argv: list[str], prog: str) -> tuple[Group | None, list[str]]:
    """The options about other processes, and what is left of argv; None where it runs alone.

    Raises:
      UsageError: only some of those that are needed, or values that can't be.
    """
    if {"-h", "--help"} & set(argv):
        return None, argv
    parser = Parser(prog=prog, add_help=False)
    parser.add_argument("--coordinator")
    parser.add_argument("--num-processes", type=int)
    parser.add_argument("--process-id", type=int)
    parser.add_argument("--join-timeout", type=int, default=40)
    parser.add_argument("--heartbeat-timeout", type=int, default=60)
    found, rest = parser.parse_known_args(argv)
    group = Group(**vars(found))
    for name, low in (("join_timeout", 1), ("heartbeat_timeout", 2), ("num_processes", 1)):
        value = getattr(group, name)
        if value is not None and not low <= value <= 10**6:
            option = name.replace("_", "-")
            raise UsageError(f"--{option}: must be {low} to {10**6}, not {value}")
    count, process, address = group.num_processes, group.process_id, group.coordinator
    if process is not None and not 0 <= process < (count or 10**6):
        most = "" if count is None else f" to {count - 1}"
        raise UsageError(f"--process-id: must be 0{most}, not {process}")
    host, _, port = ("host:1" if address is None else address).rpartition(":")
    if not _is_host(host) or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"--coordinator: {address!r}: must be HOST:PORT, such as 10.0.0.1:8476")
    given = [x is not None for x in (address, count, process)]
    if count == 1 or (not any(given) and not _in_cluster(os.environ)):
        return None, rest
    if any(given) and not all(given):
        raise UsageError(
            "--coordinator, --num-processes and --process-id belong together: give all three, or "
            "none on a TPU VM, under Slurm or on Kubernetes"
        )
    return group, rest


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
        vendor, device = (Path(path).with_name(name) for name in ("vendor", "device"))
        if vendor.read_text().strip() == "0x1ae0" and device.read_text().strip() != "0x0042":
            return True
    return False


def _unknown_option(option: str, known: Iterable[str], help_command: str) -> UsageError:
    near = difflib.get_close_matches(option.lower(), known, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return UsageError(f"{option}: there is no such option{meant} (see {help_command})")


def parse_fields(
    options: type, default: object, argv: list[str], command: str = "drm train"
) -> object | None:
    """The options of `drm train FILE`, or of a command like it, as the command line changes them.

    Args:
      options: a dataclass, in it dataclasses; `default` is one of it.
      argv: the experiment file and the options after it.

    Returns:
      A changed `default`; None where help was asked for, and printed.

    Raises:
      UsageError: an unknown option, with the nearest there is, or a value that doesn't fit.
    """
    import tyro

    path, given = argv[0], argv[1:]
    help_command = f"{command} {path} --help"
    known = [*_option_names(default, ""), *re.findall(r"--[a-z-]+", GROUP_HELP)]
    for word in given:
        name = word.split("=")[0].replace("_", "-")
        if re.match("--|-[A-Za-z]", name) and name not in (*known, "--help", "-h"):
            raise _unknown_option(name, known, help_command)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _wide(not {"-h", "--help"} & set(given)):
            return tyro.cli(
                options,
                args=given,
                default=default,
                prog=f"{command} {path}",
                description=f"Options of {path}, with their defaults.",
            )
    except SystemExit as stop:
        if not stop.code:
            return None  # tyro has printed its help
        raise UsageError(f"{_first_sentence(said.getvalue())} (see {help_command})") from None


@contextlib.contextmanager
def _wide(wanted: bool) -> Iterator[None]:
    """As in a wide terminal: what tyro says in a narrow one is cut within words."""
    before = os.environ.copy()
    if wanted:
        os.environ["COLUMNS"] = "80"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        os.environ.update(before)


def _option_names(value: object, prefix: str) -> list[str]:
    """--data.train and the like, as tyro names the fields of nested dataclasses."""
    names = []
    for field in dataclasses.fields(value):
        inner, name = getattr(value, field.name), f"{prefix}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(inner):
            names += _option_names(inner, "" if name == "experiment" else f"{name}.")
            continue
        names.append(f"--{name}")
        if isinstance(inner, bool):
            *rooms, last = name.split(".")
            names.append("--" + ".".join([*rooms, f"no-{last}"]))
    return names


def _first_sentence(box: str) -> str:
    """What tyro's box of several lines says up to its first rule or gap, as one line."""
    lines = [line.strip("│ ") for line in box.strip().splitlines()[1:]]
    if lines and not lines[0].strip("-"):  # without box characters, a rule follows the title
        lines = lines[1:]
    end = next((i for i, line in enumerate(lines) if not line.strip("─-╰╯")), len(lines))
    text = re.sub(r"^Error parsing (experiment(\.\w+)?: )?", "", " ".join(lines[:end]))
    text = re.sub(r"^(--\S+): invalid literal for int\(\) with base 10: (.*)", _NOT_WHOLE, text)
    text = re.sub(r"could not convert string to float: (.*)", r"\1 is not a number", text)
    return text.removesuffix(".") or "the options can't be read"
