import os

import pytest

from drm_jax.errors import UsageError
from drm_jax.io.files import is_remote, remove_halves, work_path, write_whole


def test_a_write_that_fails_leaves_the_old_file_and_no_half(tmp_path, monkeypatch):
    path = work_path(tmp_path) / "config.json"
    write_whole(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


def test_what_a_kill_has_left_is_removed(tmp_path):
    folder = tmp_path / "eval" / "step_3"
    folder.mkdir(parents=True)
    for path in (tmp_path / ".config.json.77.half", folder / ".metrics.json.77.half"):
        path.write_text("{")
    (folder / "metrics.json").write_text("{}")
    remove_halves(work_path(tmp_path))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["metrics.json"]


def test_work_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(work_path("runs/x")) == str(tmp_path / "runs" / "x")
    for wrong in ("s3://bucket/x", "gs://", " ", "a\nb"):
        with pytest.raises(UsageError, match="workdir: "):
            work_path(wrong)
    pytest.importorskip("gcsfs")
    assert is_remote(work_path("gs://bucket/runs/x"))
    assert str(work_path("gs://bucket/runs/x")) == "gs://bucket/runs/x"
