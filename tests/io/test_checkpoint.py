"""Checkpoints of a real state: saved, damaged in every way, restored onto other devices."""

import json
import shutil
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from workdirs import quiet

from drm_jax.errors import InputError
from drm_jax.io import checkpoint
from drm_jax.io.checksums import checksums
from drm_jax.io.files import work_path
from drm_jax.parallel.mesh import MeshShape, global_batch, make_mesh
from drm_jax.run.checkpoints import list_checkpoints
from drm_jax.run.setup import set_up, training_stream
from drm_jax.run.workdir import claim
from drm_jax.training.state import abstract_state, leaf_names, make_sharded, state_shardings
from drm_jax.training.step import compile_train_step


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    """Four saves while training goes on: (work directory, the states, what to restore them as)."""
    workdir = work_path(tmp_path_factory.mktemp("saved"))
    setup = set_up(tiny, make_mesh(jax.devices()[:1]))
    state = make_sharded(setup.make_state, setup.shardings)
    step = compile_train_step(setup.trained, setup.mesh, setup.shardings)
    stream = training_stream(setup)
    kept, scores = {}, {1: 1.0, 2: 0.0}
    with checkpoint.open_checkpoints(workdir, 2, 1, {"tests": scores}) as saver:
        for i in range(1, 5):
            state, _ = step(state, global_batch(stream[i], setup.mesh))
            kept[i] = jax.tree.map(np.array, jax.device_get(state))
            checkpoint.save(saver, i, state, {"interval": {"loss": i / 3}})
        checkpoint.finish(saver)
    return workdir, kept, abstract_state(setup.make_state, setup.shardings)


def assert_same(restored: checkpoint.Restored, state) -> None:
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored.state), state)


def copy(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "copy")
    return work_path(tmp_path / "copy")


def test_the_newest_and_the_best_are_kept(saved):
    """The best is the first: a later save with a lower score or none doesn't push it out."""
    assert checkpoint.steps_in(checkpoint.checkpoint_folder(saved[0])) == [1, 3, 4]


def test_what_a_failed_save_goes_on_writing_is_removed_too(tmp_path, monkeypatch):
    workdir = work_path(tmp_path)
    leftover = checkpoint.checkpoint_folder(workdir) / "7.orbax-checkpoint-tmp" / "state"
    late_writes = iter(range(9))

    def sleep(_: float) -> None:
        if next(late_writes, -1) % 2 == 0:  # the writes of other arrays end now and then
            leftover.mkdir(parents=True)
            (leftover / "_sharding").write_text("late")

    monkeypatch.setattr(
        checkpoint, "time", types.SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
    )
    with checkpoint.open_checkpoints(workdir, 1, 0, {}):
        leftover.mkdir(parents=True)
    assert next(late_writes, None) is None
    assert not checkpoint.unfinished_saves(workdir)


@pytest.mark.parametrize("best", range(5))
def test_fewer_scores_than_best_are_to_be_kept(best):
    scores = {1: 0.3, 2: 0.1, 3: 0.2}
    given_up = checkpoint.given_up([1, 2, 3, 4], 1, best, scores)
    kept = [step for step in (1, 2, 3, 4) if step not in given_up]
    assert kept == [*sorted([1, 3, 2][:best]), 4]


def test_a_saved_state_is_the_state_though_its_buffers_are_donated(saved, tiny):
    """Saved in the background while training goes on, and restored onto 1, 3 and 4 devices."""
    workdir, kept, target = saved
    make_state = set_up(tiny, make_mesh(jax.devices()[:4])).make_state
    for count in (1, 3, 4):
        shardings = state_shardings(target, make_mesh(jax.devices()[:count]))
        where = abstract_state(make_state, shardings)
        for i in (1, 3, 4):
            restored = checkpoint.restore(workdir, i, where)
            assert_same(restored, kept[i])
            assert restored.record["interval"] == {"loss": i / 3}  # exactly: JSON keeps doubles
            parts = restored.state.table.addressable_shards
            assert [part.data.shape for part in parts] == [(12288 // count, 16)] * count


def test_split_weights_are_restored_onto_any_mesh(saved, tiny, tmp_path):
    """Written by 2 x 2 devices; the same to the bit on 4, on 1 x 4, and on one."""
    _, kept, _ = saved

    def target(data: int, fsdp: int):
        mesh = make_mesh(jax.devices()[: data * fsdp], MeshShape(data, fsdp))
        setup = set_up(tiny, mesh)
        return abstract_state(setup.make_state, setup.shardings)

    split, workdir = target(2, 2), work_path(tmp_path)
    state = jax.tree.map(lambda x, aim: jax.device_put(x, aim.sharding), kept[4], split)
    assert len({str(shard.index) for shard in state.ema["head"].addressable_shards}) == 2
    with checkpoint.open_checkpoints(workdir, 1, 0, {}) as saver:
        checkpoint.save(saver, 4, state, {})
        checkpoint.finish(saver)
    for shape in ((2, 2), (4, 1), (1, 4), (1, 1)):
        restored = checkpoint.restore(workdir, 4, target(*shape))
        assert_same(restored, kept[4])
        parts = {str(shard.index) for shard in restored.state.ema["head"].addressable_shards}
        assert len(parts) == shape[1]


def test_an_array_of_many_pieces(saved, tiny, tmp_path, monkeypatch):
    """As a large table is: written by one device, read by four, and a piece lost."""
    _, kept, _ = saved
    monkeypatch.setattr(checkpoint, "CHUNK_BYTES", 10_000)
    workdir = work_path(tmp_path)
    table = jax.random.normal(jax.random.key(0), kept[4].table.shape)
    state = jax.tree.map(jnp.asarray, kept[4]).replace(table=table)
    with checkpoint.open_checkpoints(workdir, 1, 0, {}) as saver:
        checkpoint.save(saver, 4, state, {})
        checkpoint.finish(saver)
    wide = set_up(tiny, make_mesh(jax.devices()[:4]))
    target = abstract_state(wide.make_state, wide.shardings)
    restored = checkpoint.restore(workdir, 4, target)
    assert_same(restored, jax.device_get(state))
    files = sorted(tmp_path.rglob("d/*"), key=lambda path: path.stat().st_size)
    remove(files[-1])
    with pytest.raises(checkpoint.DamagedError):
        checkpoint.restore(workdir, 4, target)


def test_a_step_that_is_not_there(saved, tmp_path):
    assert checkpoint.existing_step(saved[0], None) == 4
    with pytest.raises(InputError, match="no checkpoint of step 2; there are 1, 3, 4"):
        checkpoint.existing_step(saved[0], 2)
    with pytest.raises(InputError, match="holds no checkpoint yet"):
        checkpoint.existing_step(work_path(tmp_path), None)
    assert checkpoint.restore_newest(work_path(tmp_path), None, True, print) is None


# --- damage ---
def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def remove(path):
    path.unlink()


@pytest.mark.parametrize("harm", [flip, truncate, remove])
def test_no_harm_to_any_file_gives_wrong_values(saved, tmp_path, harm):
    """Each file of a checkpoint in turn: it is found, or nothing that is used was in it."""
    workdir = copy(saved, tmp_path)
    folder, found = tmp_path / "copy" / "checkpoints" / "4", set()
    said = f"{folder}: damaged"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        original = path.read_bytes()
        harm(path)
        try:
            assert_same(checkpoint.restore(workdir, 4, saved[2]), saved[1][4])
        except checkpoint.DamagedError as error:
            found.add(path)
            said = str(error)
        assert said.startswith(str(folder))
        assert "damaged" in said
        assert "\n" not in said
        path.write_bytes(original)
    arrays = [path for path in files if path.parent.name == "d"]
    largest = max(arrays, key=lambda path: path.stat().st_size)
    assert {folder / "record" / "metadata", largest} <= found


def test_wrong_values_name_the_leaf(saved, tmp_path):
    """A whole, readable checkpoint whose values are others: only the checksums can tell."""
    _, kept, target = saved
    other = work_path(tmp_path)
    state = jax.tree.map(jnp.asarray, kept[4])
    changed = state.replace(table=state.table.at[3, 5].add(1e-3))
    with checkpoint.open_checkpoints(other, 2, 0, {}) as saver:
        checkpoint.save(saver, 4, changed, {"interval": {}})
        checkpoint.finish(saver)
    real = (other / "checkpoints" / "4" / "record" / "metadata").read_text()
    record = json.loads(real) | {"checksums": checksums(state)}
    path = other / "checkpoints" / "4" / "record" / "metadata"
    path.write_text(json.dumps(record))
    with pytest.raises(checkpoint.DamagedError, match="record: damaged: its digest"):
        checkpoint.restore(other, 4, target)
    del record["digest"]
    path.write_text(json.dumps(record | {"digest": checkpoint._digest(record)}))
    with pytest.raises(checkpoint.DamagedError, match=r"damaged: table: the values are not"):
        checkpoint.restore(other, 4, target)


def test_damage_is_named_and_the_step_before_is_used(saved, tmp_path):
    workdir, (_, kept, target) = copy(saved, tmp_path), saved
    folder = tmp_path / "copy" / "checkpoints"
    (folder / "9").mkdir()  # Orbax counts it as a step
    shutil.copytree(folder / "4", folder / "8.orbax-checkpoint-tmp")
    shutil.rmtree(folder / "8.orbax-checkpoint-tmp" / "record")
    (folder / "7" / "state").mkdir(parents=True)
    flip(max((folder / "4" / "state").rglob("d/*"), key=lambda path: path.stat().st_size))
    said = []
    restored = checkpoint.restore_newest(workdir, target, False, said.append)
    assert restored.step == 3
    assert_same(restored, kept[3])
    for text in (
        "8.orbax-checkpoint-tmp: damaged: a save that was cut off",
        "checkpoints/9: damaged: the folder is empty",
        "checkpoints/7: damaged: the folder has only state in it",
        "checkpoints/4",
        "The checkpoint of step 3 is used instead",
    ):
        assert any(text in line for line in said), (text, said)
    with pytest.raises(checkpoint.DamagedError, match=r"damaged: .*without --strict"):
        checkpoint.restore_newest(workdir, target, True, said.append)
    moved = checkpoint.set_aside_after(workdir, 3)
    assert [path.name for path in moved] == ["4", "7", "9"]
    assert checkpoint.steps_in(folder) == [1, 3]
    (folder / "4").mkdir()
    assert checkpoint.set_aside_after(workdir, 3)[0].name == "4-2"  # the first one stays


def test_where_all_are_damaged_nothing_is_changed(saved, tmp_path):
    workdir = copy(saved, tmp_path)
    for step in (1, 3, 4):
        shutil.rmtree(tmp_path / "copy" / "checkpoints" / str(step) / "record")
    with pytest.raises(checkpoint.DamagedError, match="none of 3 checkpoints can be used; nothing"):
        checkpoint.restore_newest(workdir, saved[2], False, lambda _: None)
    assert checkpoint.steps_in(checkpoint.checkpoint_folder(workdir)) == [1, 3, 4]


def test_another_shape_is_no_damage(saved):
    workdir, _, target = saved
    wide = jax.ShapeDtypeStruct((16, 26), np.float32, sharding=target.params["head"].sharding)
    other = target.replace(params={**target.params, "head": wide})
    with pytest.raises(
        InputError, match=r"params/head is float32 \(16, 13\) there, and would be .*\(16, 26\)"
    ) as raised:
        checkpoint.restore_newest(workdir, other, False, print)
    assert not isinstance(raised.value, checkpoint.DamagedError)


def test_a_record_describes_its_state(saved):
    workdir, kept, _ = saved
    record = checkpoint.read_record(workdir, 4)
    tree = checkpoint.abstract_from_record(
        record, jax.sharding.SingleDeviceSharding(jax.devices()[0])
    )
    assert sorted(leaf_names(tree)) == sorted(leaf_names(kept[4]))
    restored = checkpoint.restore(workdir, 4, tree)
    np.testing.assert_array_equal(restored.state["params"]["head"], kept[4].params["head"])


# --- read while a run is at work ---
@pytest.mark.parametrize("moment", ["before", "while it is read", "after"])
def test_a_list_of_checkpoints_is_made_while_one_is_deleted(
    saved, tiny, tmp_path, monkeypatch, moment
):
    workdir = copy(saved, tmp_path)
    claim(workdir, tiny)
    path, console = workdir / "checkpoints" / "3", quiet()
    name = {"before": "restore", "while it is read": "_undamaged", "after": "saved_at"}[moment]
    original = getattr(checkpoint, name)

    def late(*arguments):
        if any("3" in str(x).rpartition("checkpoints")[2] or x == 3 for x in arguments[:2]):
            shutil.rmtree(path, ignore_errors=True)
        return original(*arguments)

    monkeypatch.setattr(checkpoint, name, late)
    assert list_checkpoints(workdir, console)
    text = console.file.getvalue()
    assert "damaged" not in text
    assert [line.split()[1] for line in text.splitlines() if "yes" in line] == ["1", "4"]


def test_a_checkpoint_is_deleted_at_once_for_all_who_read(saved, tmp_path, monkeypatch):
    """It is renamed first: a reader never meets half of it. A kill leaves what is deleted later."""
    workdir = copy(saved, tmp_path)
    folder = checkpoint.checkpoint_folder(workdir)
    rmtree = epath.backend._OsPathBackend.rmtree
    seen = []

    def look(backend, path):
        seen.append((checkpoint.steps_in(folder), checkpoint.unfinished_saves(workdir)))
        raise KeyboardInterrupt

    monkeypatch.setattr(epath.backend._OsPathBackend, "rmtree", look)
    with (
        pytest.raises(KeyboardInterrupt),
        checkpoint.open_checkpoints(workdir, 1, 0, {}),
    ):
        pass
    assert seen == [([3, 4], [])]
    monkeypatch.setattr(epath.backend._OsPathBackend, "rmtree", rmtree)
    with checkpoint.open_checkpoints(workdir, 1, 0, {}):
        assert sorted(path.name for path in folder.iterdir()) == ["4"]


def test_a_checkpoint_that_is_deleted_while_it_is_read_is_not_called_damaged(saved, tmp_path):
    workdir, target = copy(saved, tmp_path), saved[2]

    def delete(record):
        shutil.rmtree(workdir / "checkpoints" / "3")
        return target

    with pytest.raises(checkpoint.DamagedError, match="is not there any more: the run has deleted"):
        checkpoint.restore(workdir, 3, delete)


def test_the_best_on_other_tests_are_kept_too(saved, tmp_path):
    workdir = copy(saved, tmp_path)
    scores = {"before": {1: 0.2, 3: 0.1}, "now": {4: 0.05}}
    with checkpoint.open_checkpoints(workdir, 1, 1, scores):
        assert checkpoint.steps_in(checkpoint.checkpoint_folder(workdir)) == [1, 4]


def test_a_folder_is_measured_while_its_files_are_deleted(tmp_path):
    (tmp_path / "a").write_text("abc")
    (tmp_path / "b").write_text("de")
    assert checkpoint.size_of(work_path(tmp_path)) == 5
    assert checkpoint.size_of(work_path(tmp_path / "gone")) == 0
