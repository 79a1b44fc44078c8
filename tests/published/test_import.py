"""`drm import`: from files of a published run to a work directory that scores and trains on."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import published as files
import pytest
from golden_weights import GOLDENS, read_params

from drm_jax.commands.main import main
from drm_jax.config import from_json
from drm_jax.io import checkpoint
from drm_jax.io.files import work_path
from drm_jax.published import importing as job
from drm_jax.published import weights as weights_module
from drm_jax.published.folder import Files


def restored(workdir: Path, step: int = 7) -> checkpoint.Restored:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return checkpoint.restore(
        work_path(workdir), step, lambda record: checkpoint.abstract_from_record(record, device)
    )


def with_ids(argv: list[str], folder: Path) -> list[str]:
    return [*argv, "--identifiers", f"{folder}/identifiers.json"]


def weights_of(kind: str):
    """(parameters of the file, y_init, z_init, table) as the goldens hold them."""
    golden = np.load(GOLDENS / f"{kind}.npz", allow_pickle=True)
    names = {
        files.TRM: ("inner.H_init", "inner.L_init", "inner.puzzle_emb.weights"),
        files.DRM: ("core.decode_init", "core.scratchpad_init", "core.puzzle_emb.weights"),
    }[kind]
    return read_params(golden, "train/init/"), *(golden[f"train/init/{n}"] for n in names)


@pytest.mark.parametrize("kind", [files.TRM, files.DRM])
def test_weights_are_the_file_s_to_the_last_bit(kind, tmp_path, capsys):
    argv = files.write_all(tmp_path, kind)
    assert main(with_ids(argv, tmp_path)) == 0
    out = capsys.readouterr().out
    assert f"imported as step 7 of run: {kind}" in out
    assert f"drm eval {tmp_path}/run" in out
    assert ("It has no table of answer embeddings" in out) == (kind == files.TRM)

    params, y_init, z_init, table = weights_of(kind)
    found = restored(tmp_path / "run")
    state = found.state
    assert found.record["num_ids"] == files.NUM_IDS
    for name in ("params", "ema"):
        if kind == files.TRM:  # drawn from the seed
            assert np.asarray(state[name].pop("embed_answers")).std() > 0.1
            params.pop("embed_answers", None)
        jax.tree.map(np.testing.assert_array_equal, state[name], params)
    np.testing.assert_array_equal(state["constants"]["y_init"], y_init)
    np.testing.assert_array_equal(state["constants"]["z_init"], z_init)
    np.testing.assert_array_equal(state["table"][: files.NUM_IDS], table)
    assert not np.asarray(state["table"][files.NUM_IDS :]).any()
    for leaf in jax.tree.leaves(state["opt_state"]):
        assert not np.asarray(leaf).any()
    if kind == files.TRM:
        assert np.asarray(state["carry"]["left"]).all()
    kept = tmp_path / "run/identifiers.json"
    assert json.loads(kept.read_text()) == files.IDENTIFIERS
    assert from_json((tmp_path / "run/config.json").read_text()).train.steps == 7


def test_new_rows_are_the_mean_of_the_old_ones(tmp_path, capsys):
    argv, workdir = files.write_all(tmp_path), tmp_path / "a run"
    argv += ["--reset-puzzle-table", "--name", "other", "--workdir", str(workdir)]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert f"drm eval '{workdir}' --step 7" in out
    assert "the mean of 6 puzzle rows for" in out  # the first is of padding
    table = weights_of(files.TRM)[-1]
    found = restored(workdir)
    rows, num_ids = np.asarray(found.state["table"]), found.record["num_ids"]
    assert num_ids > 1
    expected = np.broadcast_to(table[1:].mean(axis=0), (num_ids - 1, 32))
    np.testing.assert_allclose(rows[1:num_ids], expected, rtol=1e-6, atol=1e-7)
    assert not rows[0].any()
    assert not rows[num_ids:].any()
    experiment = from_json((workdir / "config.json").read_text())
    assert (experiment.name, experiment.data.identifiers) == ("other", None)
    assert not (workdir / "identifiers.json").exists()


@pytest.mark.parametrize("kind", [files.TRM, files.DRM, files.LEGACY_DRM])
def test_it_can_be_scored_and_trained_on(kind, tmp_path):
    assert main(with_ids(files.write_all(tmp_path, kind), tmp_path)) == 0
    run = tmp_path / "run"
    shutil.rmtree(tmp_path / "step_7", ignore_errors=True)
    (tmp_path / "identifiers.json").unlink()  # the run has its own copy
    assert main(["eval", str(run)]) == 0
    metrics = json.loads((run / "eval/step_7/metrics.json").read_text())
    assert (metrics["checkpoint_step"], metrics["tasks"]) == (7, 2)
    assert not metrics["best_checkpoints_selected_on_test_labels"]
    assert main(["train", str(run), "--train.steps", "8"]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [8]
    before, after = restored(run, 7).state, restored(run, 8).state
    for leaf in ("table", "ema"):
        pairs = zip(jax.tree.leaves(before[leaf]), jax.tree.leaves(after[leaf]), strict=True)
        assert any((np.asarray(one) != np.asarray(two)).any() for one, two in pairs)


def test_legacy_names_import_as_the_joint_names_do(tmp_path):
    """The same weights under both names: the same checkpoint, bit for bit."""
    states = []
    for kind in (files.DRM, files.LEGACY_DRM):
        (tmp_path / kind).mkdir()
        assert main(with_ids(files.write_all(tmp_path / kind, kind), tmp_path / kind)) == 0
        states.append(restored(tmp_path / kind / "run").state)
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_a_legacy_checkpoint_of_sprm_is_not_taken_for_trm(tmp_path, capsys):
    argv = with_ids(files.write_all(tmp_path, files.LEGACY_SPRM), tmp_path)
    options = files.config(files.LEGACY_SPRM, name=None)
    whole = files.config(files.LEGACY_SPRM)
    files.write_config(tmp_path / "all_config.yaml", options)
    refused(argv, 1, "all_config.yaml: arch.name is missing", tmp_path, capsys)
    files.write_config(tmp_path / "all_config.yaml", whole)
    assert main(argv) == 0
    assert "step 7 of run: sprm" in capsys.readouterr().out
    method = from_json((tmp_path / "run/config.json").read_text()).method
    assert (type(method).__name__, method.latent_levels) == ("Sprm", 1000)


def test_a_canvas_that_no_file_tells(tmp_path, capsys):
    argv = with_ids(files.write_all(tmp_path, files.DRM), tmp_path)
    options = files.config(files.DRM, {"data_paths": ["data/mine"]}, seq_len=None)
    files.write_config(tmp_path / "all_config.yaml", options)
    refused(argv, 2, "doesn't tell the canvas … --canvas", tmp_path, capsys)
    assert main([*argv, "--canvas", "8"]) == 0
    assert from_json((tmp_path / "run/config.json").read_text()).data.canvas == 8


# --- a second import ---------------------------------------------------------------------------
def contents(folder: Path) -> dict[str, bytes]:
    paths = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


@pytest.fixture
def imported(tmp_path, capsys) -> list[str]:
    """A command that was given, in tmp_path."""
    argv = with_ids(files.write_all(tmp_path), tmp_path)
    assert main(argv) == 0
    capsys.readouterr()
    return argv


def test_the_same_again(imported, tmp_path, capsys):
    before = contents(tmp_path)
    assert main(imported) == 0
    assert "was imported before as step 7" in capsys.readouterr().out
    assert contents(tmp_path) == before


def test_the_same_again_over_damage(imported, tmp_path, capsys):
    path = max((tmp_path / "run/checkpoints/7/state/d").iterdir(), key=lambda p: p.stat().st_size)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    assert main(imported) == 0
    out = capsys.readouterr().out
    assert "checkpoints/7/state: damaged: " in out or "checkpoints/7: damaged: " in out
    assert f"moved to {tmp_path}/run/damaged/7" in out
    assert "imported as step 7" in out
    assert main(["checkpoints", str(tmp_path / "run")]) == 0


def test_other_steps_join(imported, tmp_path):
    """Later ones and earlier ones; the list of ids may lie elsewhere by now."""
    arrays = files.tensors()
    arrays["inner.q_head.bias"] += 1
    (tmp_path / "identifiers.json").rename(tmp_path / "ids.json")
    argv = [word.replace("identifiers.json", "ids.json") for word in imported]
    for step, longest in ((9, 9), (3, 9)):
        files.write_safetensors(tmp_path / f"step_{step}", arrays)
        argv[1] = f"{tmp_path}/step_{step}"
        assert main(argv) == 0
        assert from_json((tmp_path / "run/config.json").read_text()).train.steps == longest
    assert checkpoint.steps_in(work_path(tmp_path / "run/checkpoints")) == [3, 7, 9]
    biases = [restored(tmp_path / "run", s).state["ema"]["halt_bias"] for s in (3, 7, 9)]
    np.testing.assert_array_equal(biases[0], biases[2])
    np.testing.assert_allclose(biases[0] - biases[1], 1, rtol=1e-6)


def refused(argv: list[str], code: int, words: str, folder: Path, capsys) -> None:
    """One line with these words, and every file of the folder is as it was."""
    capsys.readouterr()
    before = contents(folder)
    assert main(argv) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "unexpected" not in err
    for word in words.split(" … "):
        assert word in err
    assert contents(folder) == before


def test_a_place_that_is_taken(imported, tmp_path, capsys):
    other = files.tensors()
    other["inner.q_head.bias"] += 1
    files.write_safetensors(tmp_path / "step_7.safetensors", other)
    argv = [imported[0], f"{tmp_path}/step_7.safetensors", *imported[2:]]
    refused(argv, 1, "checkpoints/7: is another checkpoint of this step", tmp_path, capsys)
    files.write_config(tmp_path / "c.yaml", files.config(top={"lr": 0.5}))
    argv = [word.replace("all_config.yaml", "c.yaml") for word in imported]
    words = "another configuration (--optimizer.learning-rate was 0.0001, is 0.5"
    refused(argv, 2, words, tmp_path, capsys)
    ids = [*files.IDENTIFIERS[:-1], "bb|||t7|||0123456789"]
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    argv = [word.replace("identifiers.json", "ids.json") for word in imported]
    refused(argv, 2, "holds a run with other identifiers", tmp_path, capsys)
    argv = [*imported[:-2], "--reset-puzzle-table"]
    refused(argv, 2, "holds a run with the published rows in its puzzle table", tmp_path, capsys)


def test_a_stopped_import_is_not_joined_by_another(imported, tmp_path, capsys):
    (tmp_path / "run/config.json").unlink()
    words = "checkpoints/7: is of an import that was stopped: give that command again first"
    refused([*imported, "--step", "8"], 1, words, tmp_path, capsys)
    assert main(imported) == 0
    assert main([*imported, "--step", "8"]) == 0


@pytest.mark.parametrize("place", ["finish", "claim"])
def test_a_kill_in_between(place, tmp_path, monkeypatch, capsys):
    """Whatever is there by then, the same command makes it whole."""
    argv = with_ids(files.write_all(tmp_path), tmp_path)

    def killed(*args):
        raise KeyboardInterrupt

    module = job if place == "claim" else checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(module, place, killed)
        assert main(argv) == 130
    assert not (tmp_path / "run/config.json").exists()
    assert main(argv) == 0
    assert restored(tmp_path / "run").record["num_ids"] == files.NUM_IDS
    assert main(["checkpoints", str(tmp_path / "run")]) == 0


# --- bad input: one line, and nothing is left ----------------------------------------------------
def cut_off(folder: Path) -> None:
    path = folder / "step_7"
    path.write_bytes(path.read_bytes()[:-1])


def other_shape(folder: Path) -> None:
    arrays = files.tensors()
    arrays["inner.lm_head.weight"] = arrays["inner.lm_head.weight"][:12]
    files.write_safetensors(folder / "step_7", arrays)


def not_finite(folder: Path) -> None:
    arrays = files.tensors()
    arrays["inner.puzzle_emb.weights"][3, 3] = np.inf
    files.write_safetensors(folder / "step_7", arrays)


def options(top: dict | None = None, **arch: object):
    return lambda folder: files.write_config(
        folder / "all_config.yaml", files.config(files.TRM, top, **arch)
    )


def ids(value: object):
    return lambda folder: (folder / "identifiers.json").write_text(json.dumps(value))


def unnamed(folder: Path) -> None:
    (folder / "identifiers.json").unlink()


WRONG = {
    "cut off": (cut_off, [], 1, "step_7: damaged or cut off"),
    "empty": (lambda f: (f / "step_7").write_bytes(b""), [], 1, "step_7: … the file is empty"),
    "no file": (lambda f: (f / "step_7").unlink(), [], 1, "step_7: there is no such file"),
    "a folder": (
        lambda f: ((f / "step_7").unlink(), (f / "step_7").mkdir()), [], 1, "step_7: holds no"),
    "another shape": (other_shape, [], 1, "lm_head.weight is (12, 32), but the config says"),
    "not finite": (not_finite, [], 1, "puzzle_emb.weights holds a NaN or an infinity"),
    "no config": (lambda f: (f / "all_config.yaml").unlink(), [], 1, "all_config.yaml: can't be"),
    "broken YAML": (
        lambda f: (f / "all_config.yaml").write_text("arch: {"), [], 1, "not valid YAML: line 1"),
    "missing key": (options(L_cycles=None), [], 1, "all_config.yaml: arch.L_cycles is missing"),
    "another width": (
        options(hidden_size=64, puzzle_emb_ndim=64), [], 1, "config says … (arch.hidden_size)"),
    "more layers": (options(L_layers=3), [], 1, "arch.L_layers is 3 … has 2"),
    "a field's range": (options({"beta1": 2}), [], 1, "all_config.yaml: optimizer.beta1: must be"),
    "fewer names": (ids(files.IDENTIFIERS[:-1]), [], 1, "names 6 puzzle ids, but … 7 rows"),
    "no list": (ids({"a": 1}), [], 1, "identifiers.json: "),
    "no identifiers": (unnamed, [], 1, "identifiers.json: no such file"),
    "name": (None, ["--name", "a/b"], 2, "name: must be the name of a folder"),
    "step 0": (None, ["--step", "0"], 2, "train.steps: must be int >= 1"),
    "step": (None, ["--step", "x"], 2, "--step: 'x' is not a whole number"),
    "both": (None, ["--reset-puzzle-table"], 2, "choose one"),
    "no such task": (None, ["--evaluate", "arc9"], 1, "arc9: no such source"),
    "option": (None, ["--identifier", "x"], 2, "there is no such option; did you mean"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_bad_input(case, tmp_path, capsys):
    make, more, code, words = WRONG[case]
    argv = with_ids(files.write_all(tmp_path), tmp_path)
    if make:
        make(tmp_path)
    refused([*argv, *more], code, words, tmp_path, capsys)
    assert not (tmp_path / "run").exists()


def test_what_must_be_said(tmp_path, capsys):
    argv = files.write_all(tmp_path, name="model.safetensors")
    remedies = "--identifiers identifiers.json … --reset-puzzle-table"
    refused([*argv, "--step", "7"], 2, remedies, tmp_path, capsys)
    argv = with_ids(argv, tmp_path)
    refused(argv, 2, "model.safetensors: … give --step N", tmp_path, capsys)
    options({"data_paths": ["data/mine"]})(tmp_path)
    argv = [*argv[: argv.index("--train")], *argv[-2:], "--step", "7"]
    refused(argv, 2, "data_paths is data/mine … --train and --evaluate", tmp_path, capsys)
    refused(["import"], 2, "Missing from drm import: CHECKPOINT", tmp_path, capsys)


def test_the_table_is_read_by_each_device_in_chunks(tmp_path, monkeypatch):
    """Four devices, and chunks that don't fit their parts: the rows are the same."""
    monkeypatch.setattr(weights_module, "CHUNK_ROWS", 3)
    assert main(with_ids(files.write_all(tmp_path), tmp_path)) == 0
    table = weights_of(files.TRM)[-1]
    np.testing.assert_array_equal(restored(tmp_path / "run").state["table"][:7], table)


def test_a_given_step_goes_before_that_of_the_name(tmp_path):
    files_of = functools.partial(Files, options=tmp_path)
    assert job._step(files_of(tmp_path / "step_12.pt"), None) == 12
    assert job._step(files_of(tmp_path / "step_12"), 5) == 5
    assert job._step(files_of(tmp_path / "step_12", step=7), None) == 7
