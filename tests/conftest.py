"""Four simulated devices for all tests; a test that needs one takes the first."""

import os
import signal

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import fsspec.config
import hypothesis
import pytest
from etils import epath
from fake_gcs import FakeGcs
from programs import keep_programs, kept_programs
from tiny import TINY

from drm_jax.config import Experiment
from drm_jax.runtime.quiet import silence_libraries

# The same examples every time, and none is judged by the clock.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")


def pytest_sessionstart():
    silence_libraries()  # as the command does; not before pytest has set hooks of its own


@pytest.fixture(scope="session", autouse=True)
def programs(tmp_path_factory):
    """Kept for this process and for its children, not in the cache of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("programs")
    keep_programs(folder)
    os.environ.update(kept_programs(folder))


@pytest.fixture(scope="session")
def tiny() -> Experiment:
    """A run of seconds: two tasks of 3 x 3 grids, width 16."""
    return TINY


@pytest.fixture(scope="session")
def fake_gcs():
    """A fake Google Cloud Storage, where gs:// paths of this process and of its children lead.

    They do so until the process ends: a thread that outlives a failed test must not go elsewhere.
    """
    with FakeGcs() as fake:
        os.environ.update(fake.environment)
        # fsspec is imported already, too late to read FSSPEC_GCS. One gcsfs serves the whole
        # process, so it gets here what drm_jax asks for: listings that see what others write.
        pytest.importorskip("gcsfs", reason="gs:// paths need gcsfs: pip install gcsfs")
        import aiohttp

        patience = aiohttp.ClientTimeout(total=None, connect=10, sock_connect=5, sock_read=10)
        fsspec.config.conf["gcs"] = {
            "token": "anon", "use_listings_cache": False, "requests_timeout": patience,
        }  # fmt: skip
        yield fake


@pytest.fixture
def gcs_folder(fake_gcs: FakeGcs) -> epath.Path:
    """A folder in an empty bucket of the test's own."""
    bucket = f"bucket-{len(fake_gcs.buckets)}"
    fake_gcs.buckets[bucket] = {}
    return epath.Path(f"gs://{bucket}/runs/x")


@pytest.fixture
def sigterm():
    """The handler of SIGTERM, put back: a preempted run leaves it ignored."""
    before = signal.getsignal(signal.SIGTERM)
    yield before
    signal.signal(signal.SIGTERM, before)


LONG = (
    "commands/test_bad_input.py",
    "methods/test_carried.py",
    "model/test_attention.py",
    "parallel/test_topologies.py",
    "plan/test_flops.py",
    "plan/test_plan.py",
    "published/test_import.py",
    "published/test_weights.py",
    "report/test_browser.py",
    "run/test_kill.py",
    "run/test_loop.py",
    "run/test_moved.py",
    "run/test_together.py",
    "test_experiments.py",
    "test_extending.py",
    "test_launch.py",
    "test_library.py",
    "test_scaling_doc.py",
    "training/test_memory.py",
)
"""Files of rare cases that take long: `make test` leaves them to `make test-all`."""


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.as_posix().endswith(LONG):
            item.add_marker(pytest.mark.long)
