"""When a command is one of several processes."""

import pytest

from drm_jax.commands import processes
from drm_jax.commands.processes import ProcessOptions, take_process_options
from drm_jax.errors import UsageError

ALL = ["--coordinator", "10.0.0.1:8476", "--num-processes", "2", "--process-id", "1"]
SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n1", "SLURM_PROCID": "0",
         "SLURM_LOCALID": "0", "SLURM_NTASKS": "2"}  # fmt: skip
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in (*SLURM, *KUBERNETES):
        monkeypatch.delenv(name, raising=False)


def test_the_options_are_taken_out():
    group, rest = take_process_options(["a.py", *ALL, "--train.steps", "5"], "drm train")
    assert group == ProcessOptions("10.0.0.1:8476", 2, 1, 40, 60)
    assert rest == ["a.py", "--train.steps", "5"]
    group, rest = take_process_options(
        ["a.py", *ALL, "--heartbeat-timeout=9", "--join-timeout=8"], "drm"
    )
    assert (group.join_timeout, group.heartbeat_timeout, rest) == (8, 9, ["a.py"])


@pytest.mark.parametrize("argv", [[], ["--num-processes", "1"], [*ALL, "--help"]])
def test_alone(argv):
    assert take_process_options(argv, "drm train")[0] is None


@pytest.mark.parametrize(
    "argv",
    [
        ALL[:2],
        ALL[2:],
        [*ALL[:4], "--process-id", "2"],
        [*ALL[:4], "--process-id", "-1"],
        [*ALL[:2], "--num-processes", "0", "--process-id", "0"],
        ["--coordinator", "host", *ALL[2:]],
        ["--coordinator", ":80", *ALL[2:]],
        ["--coordinator", "", *ALL[2:]],
        ["--coordinator", "host..cluster:80", *ALL[2:]],
        ["--coordinator", "host:0", *ALL[2:]],
        ["--coordinator", "host:65536", *ALL[2:]],
        ["--coordinator", "host:http", *ALL[2:]],
        ["--coordinator", "host:8²", *ALL[2:]],
        [*ALL, "--join-timeout", "0"],
        [*ALL, "--heartbeat-timeout", "1"],
    ],
)
def test_what_cannot_be(argv):
    with pytest.raises(UsageError, match="--"):
        take_process_options(argv, "drm train")


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        (SLURM, True),
        (SLURM | {"SLURM_NTASKS": "1"}, False),
        ({k: v for k, v in SLURM.items() if k != "SLURM_STEP_NODELIST"}, False),  # no srun
        (KUBERNETES, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),  # a pod of no indexed job
    ],
)
def test_clusters_are_recognised(monkeypatch, environment, found):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    group, _ = take_process_options(["a.py"], "drm train")
    assert group == (ProcessOptions(None, None, None, 40, 60) if found else None)


@pytest.mark.parametrize(
    ("vendor", "device", "libtpu", "platforms", "found"),
    [
        ("0x1ae0", "0x0063", True, "", True),
        ("0x1ae0", "0x0063", True, "cpu", False),
        ("0x1ae0", "0x0063", False, "", False),
        ("0x1ae0", "0x0042", True, "", False),  # the network card of any Google machine
        ("0x10de", "0x2330", True, "", False),
    ],
)
def test_a_tpu_is_recognised(monkeypatch, tmp_path, vendor, device, libtpu, platforms, found):
    (tmp_path / "vendor").write_text(f"{vendor}\n")
    (tmp_path / "device").write_text(f"{device}\n")
    monkeypatch.setattr(processes.glob, "glob", lambda _: [str(tmp_path / "vendor")])
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda _: libtpu or None)
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    if not platforms:
        monkeypatch.delenv("JAX_PLATFORMS")
    assert (take_process_options(["a.py"], "drm train")[0] is not None) == found
