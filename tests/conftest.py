"""Four simulated devices for all tests; a test that needs one takes the first.

DRM_TEST_PLATFORM=cuda runs them on GPUs: test_gpu.py and the goldens are for that.
"""

import os
import signal
from pathlib import Path

os.environ["JAX_PLATFORMS"] = os.environ.get("DRM_TEST_PLATFORM", "cpu")
# Most of the time goes into compiling: half of that is saved where LLVM optimises nothing.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    if os.environ["JAX_PLATFORMS"] == "cpu"
    else ""
)

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
    """Kept for all workers and their children, not in the cache of whoever runs the tests."""
    own = tmp_path_factory.getbasetemp()
    # jax's key holds the folder's path: only workers that share a folder find each other's programs
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "programs"
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
    "commands/test_commands.py::test_a_run_is_made_longer_by_its_work_directory_alone",
    "commands/test_commands.py::test_a_run_of_trm_has_no_settings_of_denoising",
    "commands/test_commands.py::test_an_ensemble_is_made_and_named_only_when_asked_for",
    "commands/test_commands.py::test_an_experiment_file_with_a_method_of_its_own",
    "methods/test_carried.py",
    "model/test_attention.py",
    "parallel/test_mesh.py::test_one_more_rule_splits_a_weight_over_a_second_axis",
    "parallel/test_topologies.py",
    "plan/test_flops.py",
    "plan/test_plan.py",
    "published/test_import.py",
    "published/test_weights.py",
    "report/test_browser.py",
    "run/test_kill.py",
    "run/test_loop.py",
    "run/test_methods.py::test_a_stopped_run_goes_on_bit_for_bit[diffusion]",
    "run/test_methods.py::test_a_stopped_run_goes_on_bit_for_bit[path]",
    "run/test_methods.py::test_a_stopped_run_goes_on_bit_for_bit[sprm]",
    "run/test_methods.py::test_init_from_another_method",
    "run/test_moved.py",
    "run/test_together.py",
    "run/test_windows.py::test_a_run_that_is_made_longer",
    "run/test_windows.py::test_one_device_equals_two",
    "solve/test_solve.py",
    "test_benchmarks.py::test_a_step_is_measured",
    "test_benchmarks.py::test_every_stage_of_gpu_runs_on_a_cpu",
    "test_experiments.py",
    "test_extending.py",
    "test_launch.py",
    "test_library.py",
    "test_scaling_doc.py",
    "test_study.py::test_all_methods_have_the_same_flops_and_nearly_the_same_parameters[arc]",
    "test_study.py::test_scores_of_a_run_are_those_of_drm_eval",
    "test_study_thinking.py::test_a_row_is_what_drm_eval_says",
    "training/test_memory.py",
)
"""Files, and tests by the beginning of their names, of rare cases that take long: `make test`
leaves them to `make test-all`."""


def pytest_collection_modifyitems(items):
    for item in items:
        file = item.path.relative_to(Path(__file__).parent).as_posix()
        if f"{file}::{item.name}".startswith(LONG):
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; what needs it is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    from benchmarks.browser import launch

    with sync_api.sync_playwright() as play:
        browser = launch(play)
        if browser is None:
            pytest.skip("there is no Chromium here: make browser installs one")
        yield browser
        browser.close()
