"""The same three steps on 1, 3, 6 and 8 devices, weights split or not, and on two processes of
four; and what travels.

The comparison is in float64, where only a wrong program differs by more than 1e-9. Gradients are
compared, not only what Adam and sign-SGD make of them: those hide a wrong scale.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from drm_jax.plan.ahead import collectives

SCRIPT = Path(__file__).parent.parent / "three_steps.py"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(*argv: object) -> subprocess.Popen:
    # Otherwise a child would take over how many devices this process simulates.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_FLAGS", "JAX_"))}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, argv)],
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_one_device_equals_many_and_little_travels(tmp_path):
    """One test, as its programs take a minute and two workers would each run them."""
    run_together(tmp_path)
    runs = read_runs(tmp_path)
    for case in ("drm", "trm"):
        for many in ("8", "2x4", "8 together", "1x8 together", "3" if case == "drm" else "6"):
            assert_equal_runs(runs[f"{case} on 1"], runs[f"{case} on {many}"])
        assert_little_travels((tmp_path / f"alone.{case}.8.hlo").read_text(encoding="utf-8"))
        assert_weights_travel_once((tmp_path / f"alone.{case}.2x4.hlo").read_text(encoding="utf-8"))
        assert_gradients_in_float32(runs[f"{case}32 on 1"], runs[f"{case}32 on 8"])


def run_together(folder: Path) -> None:
    """A process of 8 devices; two of 3 and of 6; then two of 4 that work together."""
    port = free_port()
    for group in (
        [start(folder / "alone", "drm,trm,drm32,trm32", "1,8,2x4")],
        [start(folder / "three", "drm", 3), start(folder / "six", "trm", 6)],
        [start(folder / f"p{i}", "drm,trm", "8,1x8", 2, i, port) for i in (0, 1)],
    ):
        try:
            for process in group:
                said, _ = process.communicate(timeout=600)
                assert process.returncode == 0, said[-3000:]
        finally:
            for process in group:
                process.kill()
                process.communicate()


def read_runs(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in ("alone", "three", "six", "p0"):
        file = np.load(folder / f"{name}.npz")
        for key in file.files:
            case, mesh, rest = key.split("/", 2)
            together = " together" if name == "p0" else ""
            found.setdefault(f"{case} on {mesh}{together}", {})[rest] = file[key]
    return found


def assert_equal_runs(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    assert sum(name.startswith("gradient") for name in one) == 3 * 9
    for name, value in one.items():
        assert value.dtype == other[name].dtype
        if name.startswith(("slots", "carry/example", "carry/steps", "carry/left")):
            np.testing.assert_array_equal(value, other[name], err_msg=name)
        else:
            np.testing.assert_allclose(value, other[name], rtol=0, atol=1e-9, err_msg=name)
    assert one["params/head"].dtype == one["table/"].dtype == np.float64
    assert np.abs(one["gradient0/head"]).max() > 1e-3


def assert_gradients_in_float32(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    names = [name for name in one if name.startswith("gradient0")]
    assert len(names) == 10  # of puzzle rows too
    assert np.abs(one["gradient0/rows"]).max() > 1e-6
    for name in names:
        assert one[name].dtype == np.float32
        norm = np.linalg.norm(one[name])
        assert np.linalg.norm(one[name] - other[name]) <= 1e-5 * norm, name


# --- what travels --------------------------------------------------------------------------------
def assert_little_travels(text: str) -> None:
    """One reduction of gradients, and else rows of a batch of 24, of width 16; nothing in a loop.

    Args:
      text: the step compiled for 8 devices; its table has 12,288 rows.
    """
    # a device holds an eighth of the table, and nothing of the whole one's size exists
    assert re.search(r' f64\[1536,16\]\S* parameter\(\d+\), .*op_name="state.table"', text)
    assert "[12288,16]" not in text
    found = collectives(text)
    assert len(found) >= 4
    assert " while(" in text
    assert not any(in_loop for _, _, in_loop in found)
    weights = 13 * 16 + 16 * 13 + 16 * 2 + 2 + 16 * 48 + 16 * 16 + 16 * 96 + 48 * 16
    reductions = [sizes for kind, sizes, _ in found if kind == "all-reduce" and max(sizes) > 1]
    assert len(reductions) == 1
    assert sum(n for n in reductions[0] if n > 1) == weights
    rows = 24 * 16
    for kind, sizes, _ in found:
        if sizes not in reductions:
            assert max(sizes) <= rows, f"{kind} of {sizes}"


def assert_weights_travel_once(text: str) -> None:
    """Each of 4 devices has a quarter of each matrix, gathers it once, and sums its own part.

    Args:
      text: the step compiled for 2 x 4 devices.
    """
    matrices = [13 * 16, 16 * 13, 16 * 2, 16 * 48, 16 * 16, 16 * 96, 48 * 16]
    assert re.search(r" f64\[16,24\]\S* parameter\(\d+\), .*gate_up", text)  # of 16 x 96
    found = collectives(text)
    assert not any(in_loop for _, _, in_loop in found)
    of_rows = {("all-gather", (24,)), ("all-gather", (24 * 16,)), ("reduce-scatter", (48,))}
    of_kind = {kind: [] for kind, _, _ in found}
    for kind, sizes, _ in found:
        if (kind, sizes) not in of_rows:
            of_kind[kind] += [n for n in sizes if n > 2]
    gathered = sorted(of_kind["all-gather"])
    assert gathered in (sorted(matrices), sorted([*matrices, 13 * 16]))  # with those of answers
    parts = sorted(n // 4 for n in matrices)
    assert sorted(of_kind["reduce-scatter"]) == parts
    assert sorted(of_kind["all-reduce"]) == parts


def test_a_collective_in_a_loop_is_noticed():
    text = """\
%body (x: f32[4]) -> f32[4] {
  %r = f32[4]{0} all-reduce(%x), to_apply=%sum
}
ENTRY %main (x: f32[4]) -> f32[4] {
  %g = (f32[2,3]{1,0}, s32[]) all-gather-start(%x), dimensions={0}
  %w = f32[4]{0} while(%x), condition=%test, body=%body
}
"""
    assert collectives(text) == [("all-reduce", (4,), True), ("all-gather", (6, 1), False)]


def test_parts_of_one_collective_are_one():
    """As a TPU writes it; two of an entry are two."""
    text = """\
%fused.1 (x: f32[4]) -> f32[8] {
  ROOT %g = f32[8]{0} all-gather(%x), channel_id=2, dimensions={0}
}
%fused.2 (x: f32[4]) -> f32[8] {
  ROOT %g = f32[8]{0} all-gather(%x), channel_id=2, dimensions={0}
}
ENTRY %main (x: f32[4]) -> f32[4] {
  %a = f32[4]{0} all-reduce(%x), channel_id=1, to_apply=%sum
  %b = f32[4]{0} all-reduce(%a), channel_id=1, to_apply=%sum
}
"""
    kinds = [kind for kind, _, _ in collectives(text)]
    assert kinds == ["all-gather", "all-reduce", "all-reduce"]
