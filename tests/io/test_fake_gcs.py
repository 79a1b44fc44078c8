"""The fake storage is true enough: its three clients work on it as they do on the real one."""

import re

import fsspec
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore as ts
from fake_gcs import FakeGcs
from orbax.checkpoint import checkpoint_managers


def test_files_and_folders(gcs_folder):
    assert not gcs_folder.exists()
    gcs_folder.mkdir(parents=True, exist_ok=True)
    assert not gcs_folder.exists()  # there are no folders, but in the names of objects
    (gcs_folder / "config.tmp").write_text("one ✓")
    (gcs_folder / "a%2F b" / "c").write_text("two")
    assert gcs_folder.is_dir()
    assert sorted(path.name for path in gcs_folder.iterdir()) == ["a%2F b", "config.tmp"]
    (gcs_folder / "config.tmp").replace(gcs_folder / "config.json")
    assert (gcs_folder / "config.json").read_text() == "one ✓"
    assert not (gcs_folder / "config.tmp").exists()
    (gcs_folder / "config.json").copy(gcs_folder / "copy.json")
    assert [path.name for path in gcs_folder.glob("*.json")] == ["config.json", "copy.json"]
    (gcs_folder / "copy.json").unlink()
    gcs_folder.rmtree()
    assert not gcs_folder.exists()


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")  # gcsfs's way
def test_a_file_of_several_uploads_and_its_ranges(gcs_folder):
    path = gcs_folder / "big"
    data = np.random.default_rng(0).bytes(6 * 2**20)  # gcsfs sends 5 MiB at a time
    path.write_bytes(data)
    assert path.stat().length == len(data)
    assert path.read_bytes() == data
    with path.open("rb") as file:
        file.seek(3 * 2**20)
        assert file.read(5) == data[3 * 2**20 :][:5]
        file.seek(-5, 2)
        assert file.read() == data[-5:]


@pytest.mark.parametrize("status", [403, 404])
def test_a_bucket_that_is_not_there_or_not_ours(fake_gcs, gcs_folder, status):
    (gcs_folder / "a").write_text("a")
    bucket = gcs_folder.parts[2]
    fake_gcs.denied[bucket] = status
    error = OSError if status == 403 else FileNotFoundError
    with pytest.raises(error, match=bucket):
        (gcs_folder / "a").read_text()
    with pytest.raises(error, match=bucket):
        (gcs_folder / "b").write_text("b")
    assert list(fake_gcs.buckets[bucket]) == ["runs/x/a"]


def test_a_conditional_write_loses_to_the_write_before_it(gcs_folder):
    bucket = gcs_folder.parts[2]
    store = ts.KvStore.open({"driver": "gcs", "bucket": bucket, "path": "runs/x/"}).result()
    first = store.write("key", b"first").result()
    second = store.write("key", b"second", if_equal=first.generation).result()
    lost = store.write("key", b"third", if_equal=first.generation).result()
    assert store.read("key").result().value == b"second"
    assert second.generation != first.generation
    assert lost.generation not in (first.generation, second.generation)
    assert store.read("key", if_not_equal=second.generation).result().state == "unspecified"
    assert store.list().result() == [b"key"]
    assert (gcs_folder / "key").read_bytes() == b"second"


@pytest.mark.parametrize("data", [b"\r\n a\n\r\n", b"", b"\n--"])
def test_a_multipart_upload_keeps_its_line_breaks(gcs_folder, data):
    """As tensorboardX sends its events, and gcsfs a whole file."""
    from google.cloud import storage

    blob = storage.Client().bucket(gcs_folder.parts[2]).blob("runs/x/a")
    blob.upload_from_string(data)
    assert blob.download_as_bytes() == data
    fsspec.filesystem("gcs").pipe_file(f"{gcs_folder}/b", data)
    assert (gcs_folder / "b").read_bytes() == data


def test_listings_come_in_pages(fake_gcs, gcs_folder):
    from google.cloud import storage

    bucket = gcs_folder.parts[2]
    for name in ("a", "b/1", "b/2", "b!", "c/1", "d", "e/1"):
        fake_gcs.insert(bucket, f"x/{name}", b"", {})
    blobs = storage.Client().list_blobs(bucket, prefix="x/", delimiter="/", page_size=2)
    pages = [[blob.name for blob in page] for page in blobs.pages]
    assert len(pages) == 3
    assert [name for page in pages for name in page] == ["x/a", "x/b!", "x/d"]
    assert blobs.prefixes == {"x/b/", "x/c/", "x/e/"}


def _manager(folder):
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.LatestN(2), cleanup_tmp_directories=True
    )
    return ocp.CheckpointManager(folder, options=options)


def _save(manager, step: int, state) -> None:
    args = ocp.args.Composite(
        state=ocp.args.StandardSave(jax.tree.map(lambda x: x + step, state)),
        data=ocp.args.JsonSave({"step": step}),
    )
    manager.save(step, args=args)


def test_orbax_saves_restores_and_cleans(fake_gcs: FakeGcs, gcs_folder):
    objects = fake_gcs.buckets[gcs_folder.parts[2]]
    state = {"a": jnp.arange(6.0).reshape(2, 3), "b": {"c": jnp.int32(3)}}
    with _manager(gcs_folder) as manager:
        for step in range(1, 5):
            _save(manager, step, state)
        manager.wait_until_finished()
    assert {re.match("runs/x/([0-9]+)/", name)[1] for name in objects} == {"3", "4"}

    # A save that was cut off: the file that is written last isn't there.
    for name in [name for name in objects if name.startswith("runs/x/4/")]:
        objects[name.replace("/4/", "/5/", 1)] = objects[name]
    objects["runs/x/5/state/d/leftover"] = objects.pop("runs/x/5/commit_success.txt")

    options = ocp.CheckpointManagerOptions(read_only=True)
    with ocp.CheckpointManager(gcs_folder, options=options) as manager:
        assert manager.all_steps() == [3, 4]
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore()
        )
        restored = manager.restore(4, args=args)
    np.testing.assert_array_equal(restored["state"]["a"], state["a"] + 4)
    assert restored["state"]["b"]["c"] == 7
    assert restored["data"] == {"step": 4}

    assert "runs/x/5/state/d/leftover" in objects
    with _manager(gcs_folder) as manager:
        assert manager.all_steps() == [3, 4]
        _save(manager, 5, state)  # waits until what was cut off is deleted, which closing doesn't
        manager.wait_until_finished()
        assert manager.all_steps() == [4, 5]
    assert "runs/x/5/state/d/leftover" not in objects
