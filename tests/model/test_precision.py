"""The compute type that auto means, by device, jax and width: never by the machine of the tests."""

import jax
import pytest

from drm_jax.model import precision
from drm_jax.model.backbone import compute_dtype
from drm_jax.parallel.mesh import make_mesh
from drm_jax.run.loop import describe
from drm_jax.run.setup import Setup, load_puzzles, trained_parts


@pytest.fixture
def processor(monkeypatch):
    """Says which jax this is, and whether the processor has units for bfloat16."""

    def becomes(version: tuple[int, ...], units: bool) -> None:
        monkeypatch.setattr(jax, "__version_info__", version)
        monkeypatch.setattr(precision, "cpu_has_bfloat16_units", lambda: units)

    return becomes


@pytest.mark.parametrize(
    ("platform", "units", "version", "hidden", "expected"),
    [
        ("cpu", True, (0, 12, 0, 1), 512, "bfloat16"),
        ("cpu", True, (0, 13, 0), 768, "bfloat16"),
        ("cpu", True, (0, 12, 0, 1), 511, "float32"),
        ("cpu", True, (0, 11, 2), 512, "float32"),
        ("cpu", False, (0, 12, 0, 1), 512, "float32"),
        ("tpu", False, (0, 10, 2), 16, "bfloat16"),
        ("gpu", False, (0, 10, 2), 16, "bfloat16"),
    ],
)
def test_auto(processor, platform, units, version, hidden, expected):
    processor(version, units)
    assert compute_dtype("auto", platform, hidden) == expected
    assert compute_dtype("float32", platform, hidden) == "float32"
    assert compute_dtype("bfloat16", platform, hidden) == "bfloat16"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\nbugs\t\t: amx_bf16\n", False),
        ("Features\t: fp asimd bf16\n", False),
        (None, False),
    ],
    ids=["amx", "epyc", "arm", "not linux"],
)
def test_units_are_read_from_the_processor_s_flags(tmp_path, monkeypatch, text, expected):
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(precision, "Path", lambda _: file)
    assert precision.cpu_has_bfloat16_units.__wrapped__() is expected


def test_the_first_line_of_a_run_says_why(tiny, processor):
    parts = load_puzzles(tiny), make_mesh(), trained_parts(tiny, "cpu")
    setup = Setup(tiny, *parts, make_state=None, shardings=None)
    processor((0, 12, 0), False)
    assert describe(setup).endswith("cpu, float32")
    processor((0, 12, 0), True)
    assert describe(setup).endswith("cpu, float32 (bfloat16 from width 512 on)")
    processor((0, 10, 2), True)
    assert "jax 0.12 would use" in precision.auto_dtype("cpu", 512)[1]
