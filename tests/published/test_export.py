"""`drm export`: what an import read comes back to the last bit; what was trained here is read by
others; what the published code has no like of is refused."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import published as files
import published_boards
import pytest
import yaml
from golden_weights import GOLDENS
from published import refused
from published_reader import Reader
from tiny import TINY

from drm_jax.commands.main import main
from drm_jax.config import Experiment, from_json, with_changes
from drm_jax.io import checkpoint
from drm_jax.io.files import work_path
from drm_jax.methods.carried import Halting
from drm_jax.methods.trm import Trm
from drm_jax.model.backbone import exact_products
from drm_jax.model.recursion import Recursion, forward
from drm_jax.model.transformer import TokenMixer
from drm_jax.published.config import read_experiment
from drm_jax.published.torch_files import read_tensors
from drm_jax.published.weights import (
    Layout,
    layout_of,
    open_published,
    puzzle_rows,
    read_network,
    to_published,
)
from drm_jax.puzzles.sudoku.family import Sudoku
from drm_jax.run import history
from drm_jax.run.setup import set_up, trained_parts
from drm_jax.run.workdir import claim
from drm_jax.training.state import make_sharded

DRM_RUN = with_changes(TINY, {"model.swiglu_multiple": 256, "train.accumulate": 1})
TRM_RUN = dataclasses.replace(
    DRM_RUN,
    name="boards",
    data=Sudoku(side=4, train_puzzles=4, test_puzzles=4, logic="singles"),
    method=Trm(Recursion(2, 1), Halting(max_steps=3), mask_token=False),
    model=TokenMixer(hidden=16, layers=1, prefix=2),
)


def made_checkpoint(workdir: Path, experiment: Experiment, **record: object) -> None:
    """The checkpoint of a last step, its average and its rows drawn at random."""
    setup, path = set_up(experiment), work_path(workdir)
    state = jax.device_get(make_sharded(setup.make_state, setup.shardings))
    rng, used = np.random.default_rng(0), setup.puzzles.num_ids
    draw = lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32)  # noqa: E731
    rows = np.arange(len(state.table))[:, None]
    state = state.replace(
        step=np.int32(experiment.train.steps),
        ema=jax.tree.map(draw, state.ema),
        table=np.where((rows > 0) & (rows < used), draw(state.table), 0).astype(np.float32),
    )
    path.mkdir(parents=True)
    claim(path, experiment)
    history.note(path, {"event": "start", "step": 0, "dtype": "float32", "jax": "9.9",
                        "from": "mine.py", "changed": {"data.only": [[], ["a b"]]}})  # fmt: skip
    own = {"fingerprint": setup.fingerprint, "num_ids": used, "interval": {},
           "trained_on": setup.puzzles.trained_digests(),
           "tests": setup.puzzles.tests_digest(), **record}  # fmt: skip
    with checkpoint.open_checkpoints(path, 9, 0, {}) as saver:
        checkpoint.save(saver, int(state.step), jax.device_put(state), own)
        checkpoint.finish(saver)


def restored(workdir: Path, step: int) -> checkpoint.Restored:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return checkpoint.restore(
        work_path(workdir), step, lambda record: checkpoint.abstract_from_record(record, device)
    )


def exported(workdir: Path, *options: str, to: str = "safetensors") -> Path:
    if to == "torch":
        pytest.importorskip("torch")
    assert main(["export", str(workdir), "--to", to, *options]) == 0
    (folder,) = (workdir / "export").iterdir()
    return folder


def bits(path: Path) -> dict[str, tuple]:
    """(type, shape, bytes) of each tensor of a file."""
    found = {}
    for name, tensor in read_tensors(path).items():
        array = np.asarray(tensor.read(slice(None) if tensor.shape else ...))
        found[name] = array.dtype.name, tensor.shape, array.tobytes()
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- what was imported comes back --------------------------------------------------------------
def of_many_types(arrays: dict[str, np.ndarray], prefix: str, root: str) -> dict[str, np.ndarray]:
    """Some tensors as halves, as published code keeps them; and what other versions keep."""
    types = {"embed_tokens.embedding_weight": jnp.bfloat16, "puzzle_emb.weights": np.float16,
             "q_head.bias": jnp.bfloat16}  # fmt: skip
    halved = {f"{prefix}{root}.{name}": kind for name, kind in types.items()}
    arrays = {name: x.astype(halved.get(name, np.float32)) for name, x in arrays.items()}
    rng = np.random.default_rng(1)
    return arrays | {
        f"{prefix}{root}.puzzle_emb.local_ids": np.arange(3, dtype=np.int32),
        f"{prefix}{root}.puzzle_emb.local_weights": rng.normal(size=(3, 32)).astype(np.float32),
        f"{prefix}{root}.rotary_emb.cos_cached": rng.normal(size=(68, 8)).astype(jnp.bfloat16),
    }


@pytest.mark.parametrize("layout", files.LAYOUTS)
def test_a_checkpoint_comes_back_from_its_parameters(layout, tmp_path):
    """Every tensor by name, type, shape and bits."""
    kind, prefix, vocab, name = files.LAYOUTS[layout]
    root = "core" if kind == files.DRM else "inner"
    arrays = of_many_types(files.tensors(kind, prefix, vocab), prefix, root)
    path = files.write_safetensors(tmp_path / name, arrays)
    config = files.write_config(tmp_path / "c.yaml", files.config(kind))
    published = open_published(path)
    experiment, _ = read_experiment(config, published, name="x", step=7)
    params, constants = read_network(published, trained_parts(experiment, "cpu").network)
    kept = json.loads(json.dumps(dataclasses.asdict(layout_of(published, "options", True))))
    assert (kept["file"], kept["options"]) == (name, "options")
    again = to_published(
        Layout(**kept), 2, "attention", params, constants, puzzle_rows(published, 0, 7)
    )
    found = {name: (x.dtype, x.shape, x.tobytes()) for name, x in again.items()}
    assert found == {name: (x.dtype, x.shape, x.tobytes()) for name, x in arrays.items()}
    assert all(x.flags.c_contiguous for x in again.values())


@pytest.mark.parametrize(
    ("kind", "to"),
    [(files.TRM, "safetensors"), (files.LEGACY_DRM, "safetensors"), (files.DRM, "torch"),
     (files.LEGACY_SPRM, "torch")],
)  # fmt: skip
def test_an_import_is_exported_as_it_came(kind, to, tmp_path, capsys):
    argv = files.write_all(tmp_path, kind)
    root = "core" if kind == files.DRM else "inner"
    arrays = of_many_types(files.tensors(kind, "_orig_mod.model."), "_orig_mod.model.", root)
    files.write_safetensors(tmp_path / "step_7", arrays)
    assert main([*argv, "--identifiers", f"{tmp_path}/identifiers.json"]) == 0
    folder = exported(tmp_path / "run", to=to)
    name = "step_7" if to == "torch" else "model.safetensors"
    assert bits(folder / name) == bits(tmp_path / "step_7")
    for of in ("all_config.yaml", "identifiers.json"):
        assert (folder / of).read_bytes() == (tmp_path / of).read_bytes()
    assert "imported from the published file `step_7`" in (folder / "README.md").read_text()
    assert f"drm import {folder} --workdir" in capsys.readouterr().out


def test_new_rows_are_exported_with_their_names(tmp_path):
    """The table of the file was halves; its mean is not."""
    arrays = of_many_types(files.tensors(), "", "inner")
    argv = files.write_all(tmp_path)
    files.write_safetensors(tmp_path / "step_7", arrays)
    assert main([*argv, "--reset-puzzle-table"]) == 0
    folder, run = exported(tmp_path / "run"), restored(tmp_path / "run", 7)
    names = json.loads((folder / "identifiers.json").read_text())
    kind, shape, raw = bits(folder / "model.safetensors")["inner.puzzle_emb.weights"]
    assert (kind, shape) == ("float32", (len(names), 32))
    assert raw == np.asarray(run.state["table"])[: len(names)].tobytes()


# --- what was trained here ---------------------------------------------------------------------
@pytest.mark.parametrize("to", ["safetensors", "torch"])
@pytest.mark.parametrize("experiment", [DRM_RUN, TRM_RUN], ids=lambda of: of.name)
def test_what_is_exported_is_imported_to_the_last_bit(experiment, to, tmp_path, capsys):
    made_checkpoint(tmp_path / "run", experiment, trained_on=["from another run"])
    folder = exported(tmp_path / "run", to=to)
    assert main(["import", str(folder), "--workdir", str(tmp_path / "again")]) == 0
    before, after = restored(tmp_path / "run", 4), restored(tmp_path / "again", 4)
    ema, again = before.state["ema"], after.state["ema"]
    if experiment is TRM_RUN:  # TRM has no table of answers
        ema.pop("embed_answers"), again.pop("embed_answers"), after.state["params"].pop(
            "embed_answers"
        )  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, ema, again)
    jax.tree.map(np.testing.assert_array_equal, ema, after.state["params"])
    for part in ("constants", "table", "step"):
        jax.tree.map(np.testing.assert_array_equal, before.state[part], after.state[part])
    assert after.record["num_ids"] == before.record["num_ids"]
    assert "from another run" in after.record["trained_on"]

    ours, theirs = (
        from_json((tmp_path / name / "config.json").read_text()) for name in ("run", "again")
    )
    same = {"name": ours.name}
    if experiment is DRM_RUN:
        same["data.identifiers"] = None
    assert with_changes(theirs, same) == ours
    name = "step_4" if to == "torch" else "model.safetensors"
    assert bits(exported(tmp_path / "again", to=to) / name) == bits(folder / name)
    capsys.readouterr()


def test_the_ids_of_an_import_are_those_that_were_drawn(tmp_path):
    made_checkpoint(tmp_path / "run", DRM_RUN)
    folder = exported(tmp_path / "run")
    assert main(["import", str(folder), "--workdir", str(tmp_path / "again")]) == 0
    ours, theirs = (
        set_up(from_json((tmp_path / name / "config.json").read_text())).puzzles.ids
        for name in ("run", "again")
    )
    for field in ("task", "transform", "colours"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
    assert ours.task_ids == theirs.task_ids


@pytest.mark.parametrize("kind", [files.TRM, "trm_sudoku_mlp"])
def test_a_reader_of_the_layout_answers_as_the_published_code(kind, tmp_path):
    """From an imported file through our checkpoint to an exported folder, and the published code's
    numbers again."""
    golden = np.load(GOLDENS / f"{kind}.npz", allow_pickle=True)
    if kind == files.TRM:
        argv = files.write_all(tmp_path)
        argv += ["--identifiers", f"{tmp_path}/identifiers.json"]
    else:
        argv = published_boards.write_all(tmp_path, kind)
    assert main(argv) == 0
    reader, y, z = Reader(exported(tmp_path / "run")), None, None
    for step in (1, 2):
        logits, q, y, z = reader.step(
            golden["eval/batch/inputs"], golden["eval/batch/puzzle_identifiers"], y, z
        )
        name = f"eval/step{step:02}"
        np.testing.assert_allclose(logits, golden[f"{name}/logits"], rtol=0, atol=2e-5)
        np.testing.assert_allclose(q[:, 0], golden[f"{name}/q_halt_logits"], rtol=0, atol=2e-5)


def test_a_reader_of_the_layout_answers_as_we_do(tmp_path):
    """A run of ours, whose weights no published code has seen."""
    made_checkpoint(tmp_path / "run", TRM_RUN)
    reader = Reader(exported(tmp_path / "run"))
    tokens = np.random.default_rng(2).integers(2, 6, (3, 16))
    logits, q, _, _ = reader.step(tokens, np.zeros(3, int))
    network = trained_parts(TRM_RUN, "cpu").network
    state = restored(tmp_path / "run", 4).state
    rows = np.broadcast_to(np.asarray(state["table"])[1], (3, 16))
    x = network.embed(state["ema"], tokens, rows)
    y, z = (jnp.broadcast_to(state["constants"][name], x.shape) for name in ("y_init", "z_init"))
    with exact_products(network):
        ours, q_ours, _ = forward(network, TRM_RUN.method.recursion, state["ema"], x, y, z)
    np.testing.assert_allclose(logits, ours, rtol=0, atol=1e-4)
    np.testing.assert_allclose(q, q_ours, rtol=0, atol=1e-4)


def test_names_are_those_of_the_published_network(tmp_path):
    """A state dict loads into modules of these names, with nothing missing and nothing left."""
    torch = pytest.importorskip("torch")
    golden = np.load(GOLDENS / "trm.npz", allow_pickle=True)
    run = dataclasses.replace(
        TRM_RUN, model=with_changes(DRM_RUN, {"model.layers": 2}).model, name="names"
    )
    made_checkpoint(tmp_path / "run", run)
    folder = exported(tmp_path / "run", to="torch")
    state = torch.load(folder / "step_4", weights_only=True)
    root = torch.nn.Module()
    for name in golden["meta/state_dict_keys"]:
        *path, last = f"_orig_mod.model.{name}".split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        module.register_buffer(last, torch.zeros(state[f"_orig_mod.model.{name}"].shape))
    root.load_state_dict(state, strict=True, assign=True)
    assert root._orig_mod.model.inner.puzzle_emb.weights.shape == (1, 16)


# --- the folder --------------------------------------------------------------------------------
def test_the_card_says_what_the_run_s_files_say(tmp_path):
    made_checkpoint(tmp_path / "run", DRM_RUN)
    card = (exported(tmp_path / "run") / "README.md").read_text()
    assert "This step was not scored in its run." in card
    assert "## Licence\n\nNot stated.\n" in card
    assert "    drm train mine.py --data.only 'a b'\n" in card
    assert "| ? | float32 | ? | 9.9 | ? |" in card
    assert "Step 4 of 4 steps of 4 examples, seed 0." in card
    front = yaml.safe_load(card.split("---\n")[1])
    assert front == {"library_name": "drm_jax", "tags": ["drm_jax", "drm", "arc"]}
    scored = tmp_path / "run/eval/step_4"
    scored.mkdir(parents=True)
    metrics = {"tasks": 2, "pass@1": 0.5, "pass@100": 1.0, "votes": 2, "cell_accuracy": 0.25,
               "evaluate": {"denoise_steps": 3}, "per_task": {},
               "best_checkpoints_selected_on_test_labels": True}  # fmt: skip
    (scored / "metrics.json").write_text(json.dumps(metrics))
    card = (exported(tmp_path / "run", "--overwrite", "--license", "mit") / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "mit"
    assert "| pass@1 | 50.0% |\n| cell_accuracy | 25.0% |\n" in card
    assert "pass@100" not in card
    assert "denoise_steps 3." in card
    assert "selects on test labels" in card


def test_options_are_what_the_published_code_takes(tmp_path):
    made_checkpoint(tmp_path / "run", DRM_RUN)
    folder = exported(tmp_path / "run")
    options = yaml.safe_load((folder / "all_config.yaml").read_text())
    assert options["lr"] == 1e-2
    # These the training script adds itself, from the dataset.
    assert not {
        "seq_len",
        "vocab_size",
        "num_puzzle_identifiers",
        "mask_token_id",
        "batch_size",
    } & (options["arch"].keys())
    network = json.loads((folder / "config.json").read_text())
    assert (network["seq_len"], network["vocab_size"], network["mask_token_id"]) == (16, 13, 12)
    assert network["architectures"] == ["RecursiveReasoningModel"]
    names = json.loads((folder / "identifiers.json").read_text())
    assert network["num_puzzle_identifiers"] == len(names)
    # The published options alone, as of any published run, give the same experiment but for what
    # they don't tell.
    published = open_published(folder / "model.safetensors")
    experiment, _ = read_experiment(
        folder / "all_config.yaml", published, name="tiny", step=4, canvas=4,
        train=(), evaluate=("arc1/training",), identifiers="x",
    )  # fmt: skip
    assert (experiment.method, experiment.optimizer) == (DRM_RUN.method, DRM_RUN.optimizer)
    assert experiment.model == DRM_RUN.model


def test_the_same_again_and_another_s_files(tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    made_checkpoint(run, TRM_RUN)
    argv = ["export", str(run), "--to", "safetensors", "--output", str(out)]
    assert main(argv) == 0
    before = contents(out)
    assert main(argv) == 0
    assert "model.safetensors (was there, the same)" in capsys.readouterr().out
    assert contents(out) == before

    (out / "README.md").write_text("mine")
    (out / "notes.txt").write_text("mine too")
    refused(argv, 1, "out/README.md: is there with other content (1 such file) … --overwr", capsys)
    assert (out / "README.md").read_text() == "mine"
    (out / "model.safetensors").write_bytes(b"other weights")
    refused(argv, 1, "README.md: is there with … 2 such files", capsys)
    assert {path.name for path in out.iterdir()} == {*before, "notes.txt"}
    assert main([*argv, "--overwrite"]) == 0
    assert "README.md (overwritten)" in capsys.readouterr().out
    assert contents(out) == before | {"notes.txt": b"mine too"}

    refused([*argv[:-1], str(run)], 2, "is the work directory of a run", capsys)
    refused([*argv[:-1], str(out / "README.md")], 2, "is a file: name a folder", capsys)
    refused([*argv[:-1], "gs://bucket/x"], 2, "is a bucket: name a folder", capsys)
    refused([*argv, "--step", "3"], 1, "no checkpoint of step 3; there are 4", capsys)
    refused(["export", str(run)], 2, "--to", capsys)
    refused(["export", str(run), "--to", "onnx"], 2, "--to", capsys)
    refused(["export", str(tmp_path / "no"), "--to", "torch"], 1, "no such folder", capsys)


@pytest.mark.parametrize("name", ["torch", "safetensors", "yaml"])
def test_a_package_that_is_not_installed(name, tmp_path, monkeypatch, capsys):
    experiment = TRM_RUN
    run = work_path(tmp_path / "run")
    run.mkdir()
    claim(run, experiment)
    monkeypatch.setitem(sys.modules, name, None)
    to, pip = (name, name) if name != "yaml" else ("safetensors", "pyyaml")
    words = f"{name} is needed to write it: pip install {pip}"
    refused(["export", str(run), "--to", to], 2, words, capsys)


NO_LIKE = {
    "a method": ({"method": "diffusion"}, "method: diffusion: the published code has no like"),
    "symbols": ({"method.noise.replace": "symbols"}, "method.noise.replace: symbols: the"),
    "a width": ({"model.swiglu_multiple": 8}, "model.swiglu_multiple: 8, which makes a SwiGLU 48"),
    "a schedule": (
        {"method.noise.schedule": "published_reader:rms"}, "noise.schedule: published_reader:rms"),
    "float64": ({"model.dtype": "float64"}, "model.dtype: float64"),
    "a convolution": ({"model.convolution": True}, "model.convolution: true: the published code"),
    "positions": ({"model.positions": "board"}, "model.positions: board: the published code"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_LIKE)
def test_what_the_published_code_has_no_like_of(case, tmp_path, capsys):
    changes, words = NO_LIKE[case]
    run = work_path(tmp_path / "run")
    run.mkdir()
    claim(run, with_changes(DRM_RUN, changes))
    refused(["export", str(run), "--to", "safetensors"], 2, words, capsys)
    assert not (run / "export").exists()


def test_what_the_published_code_does_otherwise_is_told(tmp_path, capsys):
    changes = {"data.canvas": "fit", "data.windows": (3, 4), "method.noise.all_masked": 0.25,
               "method.denoising.outside": "pad", "method.recursion.grad_cycles": 2}  # fmt: skip
    made_checkpoint(tmp_path / "run", with_changes(DRM_RUN, changes))
    folder = exported(tmp_path / "run")
    out, card = capsys.readouterr().out, (folder / "README.md").read_text()
    for text in (
        "windows of the board (3x3, 4x4); the published code uses the whole board of 16 cells",
        "answers otherwise: it has no method.denoising.outside pad",
        "can't train on as it was trained: method.recursion.grad_cycles 2, "
        "method.noise.all_masked 0.25",
    ):
        assert text in out
        assert text in card


# --- folders that are imported -----------------------------------------------------------------
@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exported")
    made_checkpoint(path / "run", TRM_RUN)
    return exported(path / "run")


def edit(path: Path, change) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def with_code(about: dict) -> None:
    about["drm_jax"]["experiment"]["data"]["train"] = ["os:getcwd"]


def of_own_class(about: dict) -> None:
    about["drm_jax"]["experiment"]["method"]["type"] = "os:getcwd"


def wider(about: dict) -> None:
    about["drm_jax"]["experiment"]["model"]["layers"] = 2


def convolved(about: dict) -> None:
    about["drm_jax"]["experiment"]["model"]["convolution"] = True


def of_other_method(about: dict) -> None:
    about["drm_jax"]["experiment"]["method"] = {"type": "drm"}


WRONG_FOLDERS = {
    "a method": (of_other_method, [], 1, "is not of … drm: the tensors have the names of the code"),
    "code": (with_code, [], 1, "config.json: names code, os:getcwd … --train"),
    "a class": (of_own_class, [], 1, "config.json: method is os:getcwd, not one of drm"),
    "a convolution": (convolved, [], 1, "is not of … model.convolution: true: the published code"),
    "other layers": (wider, [], 1, "config.json: is not of … model.safetensors: layers"),
    "no step": (lambda of: of["drm_jax"].pop("step"), [], 1, "drm_jax: must hold a step"),
    "an option": (
        lambda of: of["drm_jax"]["experiment"].update(x=1), [], 1, "config.json: x: unknown field"),
    "--canvas": (lambda of: None, ["--canvas", "4"], 2, "config.json tells it: leave --canvas"),
    "--data": (lambda of: None, ["--data", "maze"], 2, "config.json tells it: leave --data"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_FOLDERS)
def test_a_folder_that_is_wrong(case, folder, tmp_path, capsys):
    change, more, code, words = WRONG_FOLDERS[case]
    for name, content in contents(folder).items():
        (tmp_path / name).write_bytes(content)
    edit(tmp_path / "config.json", change)
    argv = ["import", str(tmp_path), "--workdir", str(tmp_path / "run"), *more]
    refused(argv, code, words, capsys)
    assert not (tmp_path / "run").exists()


def test_which_checkpoint_of_a_folder(folder, tmp_path, capsys):
    argv = ["import", str(tmp_path), "--workdir", str(tmp_path / "run")]
    refused(argv, 1, f"{tmp_path}: holds no checkpoint: name the file", capsys)
    for name in ("model.safetensors", "step_4"):
        (tmp_path / name).write_bytes((folder / "model.safetensors").read_bytes())
    words = "holds several checkpoints (model.safetensors, step_4): name the file"
    refused(argv, 1, words, capsys)
    argv[1] += "/step_4"
    refused(argv, 2, "step_4: name its options, --config all_config.yaml", capsys)


def test_a_folder_of_others_is_imported_with_its_files(tmp_path, capsys):
    """As a hub has them: no word of ours in it."""
    argv = files.write_all(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    config = argv.index("--config")
    argv = [argv[0], str(tmp_path), *argv[2:config], *argv[config + 2 :]]
    assert main(argv) == 0
    assert "imported as step 7 of run: trm" in capsys.readouterr().out
