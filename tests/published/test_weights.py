"""Published checkpoints: files of the known layouts give the network that their weights are."""

import json
import os
import pickle
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import published as files
import pytest
from golden_weights import GOLDENS, MODEL, NETWORK, RECURSION, read_params

from drm_jax.config import Experiment, part_name
from drm_jax.errors import InputError, UsageError
from drm_jax.methods.carried import Halting
from drm_jax.methods.denoising import Noise
from drm_jax.model.backbone import init_params
from drm_jax.model.recursion import Recursion, forward
from drm_jax.model.transformer import TokenMixer
from drm_jax.published import weights as weights_module
from drm_jax.published.config import read_experiment
from drm_jax.published.weights import open_published, puzzle_rows, read_network
from drm_jax.run.setup import trained_parts

WRITERS = {"torch": files.write_torch, "safetensors": files.write_safetensors}


def write(folder: Path, kind: str, how: str, name: str = "step_7", **options) -> Path:
    if how == "torch":
        pytest.importorskip("torch", reason="reading torch files needs torch")
    return WRITERS[how](folder / name, files.tensors(kind, **options))


def to_experiment(folder: Path, path: Path, options: dict, **given) -> Experiment:
    config = files.write_config(folder / "all_config.yaml", options)
    return read_experiment(config, open_published(path), name="x", step=7, **given)[0]


@pytest.mark.parametrize("how", WRITERS)
@pytest.mark.parametrize("layout", files.LAYOUTS)
def test_known_layouts(layout, how, tmp_path):
    kind, prefix, vocab, name = files.LAYOUTS[layout]
    path = write(tmp_path, kind, how, name, prefix=prefix, vocab=vocab)
    experiment = to_experiment(tmp_path, path, files.config(kind))
    network = trained_parts(experiment, "cpu").network
    params, constants = read_network(open_published(path), network)

    golden = np.load(GOLDENS / f"{kind}.npz", allow_pickle=True)
    expected = read_params(golden, "train/init/")
    expected["embed_inputs"] = expected["embed_inputs"][:vocab]
    expected["head"] = expected["head"][:, :vocab]
    if kind == files.TRM:
        del expected["embed_answers"]
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert {x.dtype for x in jax.tree.leaves((params, constants))} == {np.dtype("float32")}
    names = {files.TRM: ("inner.H_init", "inner.L_init"),
             files.DRM: ("core.decode_init", "core.scratchpad_init")}[kind]  # fmt: skip
    for ours, theirs in zip(("y_init", "z_init"), names):
        np.testing.assert_array_equal(constants[ours], golden[f"train/init/{theirs}"])
    table = golden[f"train/init/{names[0].split('.')[0]}.puzzle_emb.weights"]
    np.testing.assert_array_equal(puzzle_rows(open_published(path), 0, 7), table)

    # A smaller vocabulary is the larger one without a row: the logits say so.
    full = read_params(golden, "train/init/")
    tokens = jnp.asarray(golden["train/step1/batch/inputs"])
    if kind == files.TRM:
        params["embed_answers"] = full["embed_answers"][:vocab]
    logits, whole = (
        forward(net, RECURSION, weights, *[net.embed(weights, tokens, table[[2, 5, 2]])] * 3)[0]
        for net, weights in ((network, params), (NETWORK, full))
    )
    np.testing.assert_allclose(logits, whole[..., :vocab], rtol=0, atol=1e-5)


def test_answers_are_those_of_the_published_code(tmp_path):
    """From the file to the 16 steps that the published TRM made with it."""
    path = write(tmp_path, files.TRM, "safetensors", prefix="_orig_mod.model.")
    experiment = to_experiment(tmp_path, path, files.config())
    network = trained_parts(experiment, "cpu").network
    published = open_published(path)
    params, constants = read_network(published, network)
    params["embed_answers"] = jnp.zeros((13, 32))  # not in the file, and not used
    golden = np.load(GOLDENS / "trm.npz", allow_pickle=True)
    ids = golden["eval/batch/puzzle_identifiers"]
    rows = puzzle_rows(published, 0, 7)[ids]
    result = experiment.method.answer(
        network, params, constants, golden["eval/batch/inputs"], rows, jax.random.split(
            jax.random.key(0), 3
        ), steps=experiment.evaluate.denoise_steps, pad_outside=lambda tokens: tokens,
    )  # fmt: skip
    assert len(result.step_predicted) == 16
    for step, predicted in enumerate(result.step_predicted, 1):
        np.testing.assert_array_equal(predicted, golden[f"eval/step{step:02}/preds"])
    np.testing.assert_array_equal(result.predicted, golden["eval/step16/preds"])


def test_mixer_over_tokens(tmp_path):
    """No published ARC checkpoint has it: names and orientation alone."""
    arrays = {n: x for n, x in files.tensors().items() if "self_attn" not in n}
    rng = np.random.default_rng(0)
    for i in range(2):
        start = f"inner.L_level.layers.{i}.mlp_t"
        arrays[f"{start}.gate_up_proj.weight"] = rng.standard_normal((512, 68), np.float32)
        arrays[f"{start}.down_proj.weight"] = rng.standard_normal((68, 256), np.float32)
    path = files.write_safetensors(tmp_path / "step_7", arrays)
    options = files.config(mlp_t=True, pos_encodings="none", seq_len=None)
    experiment = to_experiment(tmp_path, path, options)
    assert experiment.data.canvas == 8  # by the mixer's shape
    assert isinstance(experiment.model, TokenMixer)
    network = trained_parts(experiment, "cpu").network
    params, _ = read_network(open_published(path), network)
    np.testing.assert_array_equal(
        params["layer_1"]["mixer"]["down"]["kernel"],
        arrays["inner.L_level.layers.1.mlp_t.down_proj.weight"].T,
    )
    with_answers = {"embed_answers": params["embed_inputs"], **params}
    made = jax.eval_shape(lambda: init_params(network, jax.random.key(0))[0])
    assert jax.tree.map(np.shape, with_answers) == jax.tree.map(lambda x: x.shape, made)


# --- files -------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("how", WRITERS)
def test_half_precision_becomes_float32(how, dtype, tmp_path):
    halves = {n: jnp.asarray(x).astype(dtype) for n, x in files.tensors().items()}
    if how == "torch":
        torch = pytest.importorskip("torch")
        kind = getattr(torch, dtype)
        path = tmp_path / "step_7"
        torch.save({n: torch.from_numpy(x).to(kind) for n, x in files.tensors().items()}, path)
    else:
        path = files.write_safetensors(
            tmp_path / "step_7", {n: np.asarray(x) for n, x in halves.items()}
        )
    table = puzzle_rows(open_published(path), 0, 7)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table, halves["inner.puzzle_emb.weights"].astype("float32"))
    params, _ = read_network(open_published(path), NETWORK)
    np.testing.assert_array_equal(
        params["head"], halves["inner.lm_head.weight"].astype("float32").T
    )


def test_rows_come_chunk_by_chunk(tmp_path, monkeypatch):
    published = open_published(write(tmp_path, files.TRM, "safetensors"))
    whole = puzzle_rows(published, 0, 7)
    monkeypatch.setattr(weights_module, "CHUNK_ROWS", 2)
    np.testing.assert_array_equal(puzzle_rows(published, 0, 7), whole)
    np.testing.assert_array_equal(puzzle_rows(published, 3, 6), whole[3:6])
    padded = puzzle_rows(published, 5, 12)
    np.testing.assert_array_equal(padded[:2], whole[5:])
    assert not padded[2:].any()
    assert puzzle_rows(published, 8, 12).shape == (4, 32)


def test_torch_files_before_2020(tmp_path):
    pytest.importorskip("torch")
    path = files.write_torch(
        tmp_path / "step_7", files.tensors(), _use_new_zipfile_serialization=False
    )
    assert path.read_bytes().startswith(b"\x80")
    assert puzzle_rows(open_published(path), 0, 7).any()


@pytest.mark.parametrize("low", [b"\x80", b"PK"])
def test_a_safetensors_header_may_begin_like_another_kind(low, tmp_path):
    """The low bytes of its length say nothing about the kind of the file."""
    whole = write(tmp_path, files.TRM, "safetensors").read_bytes()
    size = int.from_bytes(whole[:8], "little")
    wanted = int.from_bytes(low, "little")
    longer = next(n for n in range(size, 2**18) if n % 256 ** len(low) == wanted)
    header = whole[8 : 8 + size].ljust(longer)
    path = tmp_path / "x"
    path.write_bytes(longer.to_bytes(8, "little") + header + whole[8 + size :])
    assert puzzle_rows(open_published(path), 0, 7).any()


class Code:
    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("how", ["torch", 2, 4])
def test_code_in_a_file_is_not_run(how, tmp_path):
    torch = pytest.importorskip("torch")
    code = Code()
    code.path = tmp_path / "run"
    saved = {"inner.H_init": code}
    path = tmp_path / "step_7"
    torch.save(saved, path) if how == "torch" else path.write_bytes(pickle.dumps(saved, how))
    with pytest.raises(InputError, match=r"step_7: .*not run") as raised:
        open_published(path)
    assert "\n" not in str(raised.value)
    assert not code.path.exists()
    pickle.loads(pickle.dumps(saved))  # this does run it
    assert code.path.exists()


@pytest.mark.parametrize("how", WRITERS)
@pytest.mark.parametrize("kept", [0, 5, 0.5, -1])
def test_a_file_that_is_cut_off(how, kept, tmp_path):
    path = write(tmp_path, files.TRM, how)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    words = "the file is empty" if kept == 0 else "damaged or cut off|not a checkpoint"
    with pytest.raises(InputError, match=f"step_7: .*({words})") as raised:
        open_published(path)
    assert "\n" not in str(raised.value)


def test_a_bit_that_flipped(tmp_path):
    """torch reads it as if nothing were wrong."""
    torch = pytest.importorskip("torch")
    path = write(tmp_path, files.TRM, "torch")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    torch.load(path, weights_only=True)
    with pytest.raises(InputError, match=r"step_7: damaged: .*/data/.* is not what was written"):
        open_published(path)


def test_tensors_without_plain_values(tmp_path):
    torch = pytest.importorskip("torch")
    for tensor in (torch.ones(2, 2).to_sparse(), torch.empty(2, device="meta")):
        torch.save({"inner.H_init": tensor}, tmp_path / "step_7")
        with pytest.raises(InputError, match=r"step_7: inner\.H_init has no plain values"):
            open_published(tmp_path / "step_7")


def edited(**changes):
    arrays = files.tensors(prefix="model.")
    for name, value in changes.items():
        name = name.replace("__", ".")
        if value is None:
            del arrays[name]
        else:
            arrays[name] = value(arrays[name]) if callable(value) else value
    return arrays


ZEROS = np.zeros(4, np.float32)
WRONG_TENSORS = {
    "missing": ({"model__inner__H_init": None}, "the tensor model.inner.H_init is missing"),
    "layer missing": (
        {f"model__inner__L_level__layers__0__{part}__weight": None
         for part in ("self_attn__qkv_proj", "self_attn__o_proj", "mlp__gate_up_proj",
                      "mlp__down_proj")},
        "layers.0.mlp.down_proj.weight is missing"),
    "unknown": ({"model__inner__H_level__layers__0__mlp__down_proj__weight": ZEROS},
                "model.inner.H_level.layers.0.mlp.down_proj.weight is not known"),
    "learned positions": ({"model__inner__embed_pos__embedding_weight": ZEROS}, "is not known"),
    "beside": ({"optimizer": ZEROS}, "must start with inner. or core."),
    "both codes": ({"model__core__decode_init": ZEROS}, "must start with inner. or core."),
    "vocabulary": ({"model__inner__embed_tokens__embedding_weight": lambda x: x[:11]},
                   "is (11, 32) … (13, 32)"),
    "no number": ({"model__inner__lm_head__weight": lambda x: x * np.nan},
                  "model.inner.lm_head.weight holds a NaN"),
    "whole numbers": ({"model__inner__q_head__bias": lambda x: x.astype(np.int64)},
                      "model.inner.q_head.bias is I64: only float32"),
    "width": ({"model__inner__H_init": lambda x: x[:16]},
              "model.inner.H_init is (16,), but the config says (32,) (arch.hidden_size)"),
    "head": ({"model__inner__lm_head__weight": lambda x: x[:12]}, "is (12, 32) … (13, 32)"),
    "swiglu": ({"model__inner__L_level__layers__1__mlp__down_proj__weight": lambda x: x[:, :128]},
               "is (32, 128), but … (32, 256) (arch.hidden_size, arch.expansion)"),
    "table": ({"model__inner__puzzle_emb__weights": lambda x: x[:, :16]},
              "is (7, 16) … (7, 32) (arch.puzzle_emb_ndim)"),
    "a number": ({"model__inner__H_init": np.float32(1)}, "H_init is (), but"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_wrong_tensors(case, tmp_path):
    changes, words = WRONG_TENSORS[case]
    arrays = {name: np.require(x, requirements="C") for name, x in edited(**changes).items()}
    path = files.write_safetensors(tmp_path / "step_7", arrays)
    with pytest.raises(InputError) as raised:
        read_network(open_published(path), NETWORK)
    for word in words.split(" … "):
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_other_versions_keep_is_ignored(tmp_path):
    arrays = edited(
        model__inner__rotary_emb__cos_cached=ZEROS, model__inner__puzzle_emb__local_ids=ZEROS
    )
    path = files.write_safetensors(tmp_path / "step_7", arrays)
    assert open_published(path).num_ids == 7


def test_not_a_state_dict(tmp_path):
    torch = pytest.importorskip("torch")
    for value, words in (
        ({"model": {}, "step": 1}, "model is dict, not a tensor"),
        ([torch.zeros(3)], "holds list, not tensors by name"),
        ({}, "it holds nothing"),
    ):
        torch.save(value, tmp_path / "step_7")
        with pytest.raises(InputError, match=words):
            open_published(tmp_path / "step_7")


@pytest.mark.parametrize("name", ["torch", "safetensors"])
def test_a_package_that_is_not_installed(name, tmp_path, monkeypatch):
    path = tmp_path / "step_7"
    path.write_bytes(b"PK" if name == "torch" else b"\x01\0\0\0\0\0\0\0{")
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=f"{name} is needed to read it: pip install {name}"):
        open_published(path)


def test_safetensors_need_no_torch(tmp_path, monkeypatch):
    path = write(tmp_path, files.TRM, "safetensors")
    monkeypatch.setitem(sys.modules, "torch", None)
    params, _ = read_network(open_published(path), NETWORK)
    assert params["head"].any()


# --- options -----------------------------------------------------------------------------------
@pytest.fixture
def of_drm(tmp_path) -> Path:
    return write(tmp_path, files.DRM, "safetensors")


def test_every_option_counts(of_drm, tmp_path):
    """Values that differ from our defaults arrive where they belong."""
    top = {
        "data_paths": ["data/arc2concept-aug-77"], "seed": 3, "lr": 2e-4, "lr_warmup_steps": 9,
        "weight_decay": 0.2, "beta1": 0.8, "beta2": 0.96, "puzzle_emb_lr": 3e-2,
        "puzzle_emb_weight_decay": 0.3, "global_batch_size": 24, "ema_rate": 0.99,
    }  # fmt: skip
    options = files.config(
        files.DRM, top, H_cycles=5, L_cycles=6, halt_max_steps=9, halt_exploration_prob=0.2,
        diffusion_num_inference_steps=4, diffusion_schedule="sigmoid",
        diffusion_noise_type="spatially_correlated", diffusion_inference_confidence_masking=True,
    )  # fmt: skip
    x = to_experiment(tmp_path, of_drm, options)
    assert part_name("method", x.method) == "drm"
    assert (x.name, x.seed, x.train.steps, x.train.batch_size) == ("x", 3, 7, 24)
    assert (x.data.train, x.data.evaluate) == (("arc2/training",), ("arc2/evaluation",))
    assert (x.data.leaks, x.data.canvas, x.data.num_augmentations) == ("drop", 8, 77)
    assert x.method.noise == Noise("sigmoid", "spatially_correlated")
    assert (x.method.recursion, x.method.has_mask) == (Recursion(5, 6), True)
    assert (x.model.hidden, x.model.heads, x.model.layers, x.model.prefix) == (32, 4, 2, 4)
    assert (x.model.dtype, x.model.expansion) == ("auto", 4.0)
    optimizer = x.optimizer
    assert (optimizer.learning_rate, optimizer.warmup_steps, optimizer.ema) == (2e-4, 9, 0.99)
    assert (optimizer.weight_decay, optimizer.beta1, optimizer.beta2) == (0.2, 0.8, 0.96)
    assert (optimizer.puzzle_learning_rate, optimizer.puzzle_weight_decay) == (3e-2, 0.3)
    assert (x.evaluate.denoise_steps, x.method.denoising.remask) == (4, "confidence")
    assert x.evaluate.batch_size == 24
    carried = to_experiment(
        tmp_path, of_drm, options | {"arch": options["arch"] | {"discrete_diffusion_init": False}}
    )
    assert carried.method.recursion == Recursion(5, 6)
    assert (carried.method.halting, carried.evaluate.denoise_steps) == (Halting(9, 0.2), 9)


def test_objectives(of_drm, tmp_path):
    flags = ("discrete_diffusion_init", "state_perturbation")
    for chosen, objective in ((flags[0], "drm"), (flags[1], "sprm"), (None, "trm")):
        options = files.config(files.DRM, **{flag: flag == chosen for flag in flags})
        config = files.write_config(tmp_path / "all_config.yaml", options)
        experiment, notes = read_experiment(config, open_published(of_drm), name="x", step=7)
        assert part_name("method", experiment.method) == objective
        assert len(notes) == 1
        assert ("sqrt(D)" if objective == "drm" else "begins an answer from y_init") in notes[0]
        assert experiment.evaluate.denoise_steps == (3 if objective == "drm" else 16)


def test_a_text_may_be_a_number(of_drm, tmp_path):
    """YAML takes 1e-4, without a point, for a text."""
    text = json.dumps(files.config(files.DRM)).replace('"lr": 0.0001', '"lr": 1e-4')
    (tmp_path / "c.yaml").write_text(text)
    published = open_published(of_drm)
    experiment, _ = read_experiment(tmp_path / "c.yaml", published, name="x", step=7)
    assert experiment.optimizer.learning_rate == 1e-4


def test_what_only_training_would_notice_is_told(of_drm, tmp_path):
    options = files.config(files.DRM, {"lr_min_ratio": 0.1, "ema": False}, no_ACT_continue=False)
    config = files.write_config(tmp_path / "all_config.yaml", options)
    experiment, notes = read_experiment(config, open_published(of_drm), name="x", step=7)
    assert experiment.optimizer.ema == 0
    assert len(notes) == 3
    assert "lr_min_ratio" in notes[1]


def test_what_the_published_code_ignores_is_ignored(of_drm, tmp_path):
    """TRM's configs may keep H_layers of HRM; a second stack shows in the tensors (`unknown`)."""
    experiments = [
        to_experiment(tmp_path, of_drm, files.config(files.DRM, H_layers=n)) for n in (None, 0, 4)
    ]
    assert experiments[0] == experiments[1] == experiments[2]


def test_sources(of_drm, tmp_path):
    for path, arc in (
        ("data/arc1concept-aug-1000", "arc1"), ("data/arc-agi-2-aug-1000", "arc2"),
        ("/x/ARC_AGI_1", "arc1"), ("arc-2-aug-1000", "arc2"),
    ):  # fmt: skip
        experiment = to_experiment(
            tmp_path, of_drm, files.config(files.DRM, {"data_paths": [path]})
        )
        assert experiment.data.train == (f"{arc}/training",), path
    experiment = to_experiment(tmp_path, of_drm, files.config(files.DRM), train=(), evaluate=["y"])
    assert (experiment.data.train, experiment.data.evaluate) == ((), ("y",))
    for paths in (None, ["data/mine"], ["arc1", "arc2"], ["arc-10"]):
        options = files.config(files.DRM, {"data_paths": paths})
        with pytest.raises(UsageError, match="name them with --train and --evaluate"):
            to_experiment(tmp_path, of_drm, options, train=["y"])
        to_experiment(tmp_path, of_drm, options, train=["y"], evaluate=["z"])


WRONG_OPTIONS = {
    "positions": ({"pos_encodings": "learned"}, "arch.pos_encodings is learned: only rope"),
    "loss": ({"loss": {"loss_type": "softmax_cross_entropy"}}, "arch.loss.loss_type is softmax"),
    "puzzle width": ({"puzzle_emb_ndim": 16}, "arch.puzzle_emb_ndim is 16 … only the width"),
    "no puzzle rows": ({"puzzle_emb_ndim": 0}, "arch.puzzle_emb_ndim is 0"),
    "layers": ({"L_layers": 4}, "arch.L_layers is 4 … step_7 has 2"),
    "mixer": ({"mlp_t": True}, "arch.mlp_t is true … step_7 has false"),
    "vocabulary": ({"vocab_size": 12}, "arch.vocab_size is 12 … step_7 has 13"),
    "puzzles": ({"num_puzzle_identifiers": 9}, "arch.num_puzzle_identifiers is 9 … has 7"),
    "canvas": ({"seq_len": 65}, "arch.seq_len is 65: only a square canvas"),
    "norm": ({"rms_norm_eps": 1e-6}, "arch.rms_norm_eps is 1e-06: only 1e-05"),
    "angles": ({"rope_theta": 500000}, "arch.rope_theta is 500000"),
    "both flags": ({"state_perturbation": True}, "are both set"),
    "mask": ({"mask_token_id": 11}, "arch.mask_token_id is 11: only 12"),
    "levels": ({"diffusion_num_training_steps": 100}, "only 1000 can be imported"),
    "schedule": ({"diffusion_schedule": "square"}, "noise.schedule: 'square' is not one of"),
    "noise": ({"diffusion_noise_type": "pink"}, "noise.kind: must be one of uniform"),
    "missing": ({"H_cycles": None}, "all_config.yaml: arch.H_cycles is missing"),
    "missing schedule": ({"diffusion_schedule": None}, "arch.diffusion_schedule is missing"),
    "not a number": ({"hidden_size": "wide"}, "arch.hidden_size: 'wide' is not a whole number"),
    "half": ({"num_heads": 1.5}, "arch.num_heads: 1.5 is not a whole number"),
    "a list": ({"L_cycles": [4]}, "arch.L_cycles: [4] is not a whole number"),
    "true": ({"L_cycles": True}, "arch.L_cycles: True is not a whole number"),
    "flag": ({"mlp_t": "no"}, "arch.mlp_t: 'no' is not true or false"),
    "reference": ({"puzzle_emb_ndim": "${.hidden_size}"}, "'${.hidden_size}' is not a whole"),
    "heads": ({"num_heads": 3}, "model.heads: 3 heads don't divide width 32"),
    "no number": ({"expansion": float("nan")}, "model.expansion: must be float >= 0.1, not nan"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_OPTIONS)
def test_wrong_options(case, of_drm, tmp_path):
    changes, words = WRONG_OPTIONS[case]
    with pytest.raises(InputError) as raised:
        to_experiment(tmp_path, of_drm, files.config(files.DRM, **changes))
    for word in words.split(" … "):
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_options_of_another_network(of_drm, tmp_path):
    options = files.config(files.DRM, hidden_size=64, puzzle_emb_ndim=64)
    experiment = to_experiment(tmp_path, of_drm, options)
    with pytest.raises(InputError, match=r"config says \(13, 64\) \(arch.hidden_size\)"):
        read_network(open_published(of_drm), trained_parts(experiment, "cpu").network)


def test_options_of_the_other_code(tmp_path):
    of_trm = write(tmp_path, files.TRM, "safetensors")
    with pytest.raises(InputError, match=r"arch.name is .*rm@.* of another code .*use the all"):
        to_experiment(tmp_path, of_trm, files.config(files.DRM))


# --- the legacy code of the DRM repository ------------------------------------------------------
def test_legacy_names_give_what_the_joint_names_give(of_drm, tmp_path):
    """Bit for bit, and the same experiment; H_init is what is decoded there, our y_init."""
    legacy = write(tmp_path, files.LEGACY_DRM, "safetensors", "step_8", prefix="_orig_mod.model.")
    assert "_orig_mod.model.inner.embed_tokens_labels.embedding_weight" in files.tensors(
        files.LEGACY_DRM, "_orig_mod.model."
    )
    experiments = [
        to_experiment(tmp_path, path, files.config(kind))
        for path, kind in ((of_drm, files.DRM), (legacy, files.LEGACY_DRM))
    ]
    assert experiments[0] == experiments[1]
    both = [read_network(open_published(path), NETWORK) for path in (of_drm, legacy)]
    jax.tree.map(np.testing.assert_array_equal, *both)
    assert "embed_answers" in both[1][0]
    rows = [puzzle_rows(open_published(path), 0, 7) for path in (of_drm, legacy)]
    np.testing.assert_array_equal(*rows)


LEGACY_METHODS = {
    "recursive_reasoning.legacy.trm_drm@TinyRecursiveReasoningModel_ACTV1": "drm",
    "recursive_reasoning.trm_drm@TinyRecursiveReasoningModel_ACTV1": "drm",  # before it was moved
    "recursive_reasoning.legacy.trm_sprm@TinyRecursiveReasoningModel_ACTV1": "sprm",
    "trm_sprm@TinyRecursiveReasoningModel_ACTV1": "sprm",
    "recursive_reasoning.legacy.trm@TinyRecursiveReasoningModel_ACTV1": "trm",
    "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1": "trm",
}


@pytest.mark.parametrize("name", LEGACY_METHODS)
def test_the_method_of_the_legacy_code_is_that_of_its_module(name, tmp_path):
    method = LEGACY_METHODS[name]
    kind = files.LEGACY_DRM if method == "drm" else files.LEGACY_SPRM
    path = write(tmp_path, kind, "safetensors")
    config = files.write_config(tmp_path / "c.yaml", files.config(kind, name=name))
    experiment, notes = read_experiment(config, open_published(path), name="x", step=7)
    assert part_name("method", experiment.method) == method
    assert len(notes) == (1 if method == "drm" else 0)  # SPRM begins from y_init there too
    assert experiment.evaluate.denoise_steps == (3 if method == "drm" else 16)
    if method == "sprm":
        assert experiment.method.latent_levels == 1000  # the joint code draws from the lowest 100


_ACT = "TinyRecursiveReasoningModel_ACTV1"
WRONG_NAMES = {
    "missing": (files.LEGACY_SPRM, {"name": None}, "arch.name is missing"),
    "not known": (
        files.LEGACY_SPRM, {"name": f"recursive_reasoning.legacy.trm_no_ds@{_ACT}"},
        "arch.name is recursive_reasoning.legacy.trm_no_ds@ … can't be told from it"),
    "no module": (files.TRM, {"name": "hello"}, "arch.name is hello: … can't be told"),
    "no table": (
        files.LEGACY_SPRM, {"name": f"legacy.trm_drm@{_ACT}"}, "arch.name is … of another code"),
    "a table": (
        files.LEGACY_DRM, {"name": f"legacy.trm_sprm@{_ACT}"}, "arch.name is … of another code"),
    "TRM's with a table": (
        files.LEGACY_DRM, {"name": f"recursive_reasoning.trm@{_ACT}"}, "of another code"),
    # The joint code's 14M network has 12 heads, the legacy one 8: no tensor would tell.
    "joint options": (files.LEGACY_DRM, files.OF_DRM, "names start with inner. … use the all_con"),
    "legacy options": (
        files.DRM, {"name": f"legacy.trm_drm@{_ACT}", "discrete_diffusion_init": None},
        "names start with core. "),
    "a flag": (
        files.LEGACY_SPRM, {"state_perturbation": True},
        "arch.state_perturbation is true: arch.name is trm_sprm"),
    "noise in a test": (
        files.LEGACY_SPRM, {"noise_inference": True}, "arch.noise_inference is true: only false"),
    "scale": (files.LEGACY_SPRM, {"noise_scaling": "token_embeds"}, "arch.noise_scaling is token"),
    "joint scale": (
        files.DRM,
        {"discrete_diffusion_init": False, "state_perturbation": True,
         "noise_scaling": "token_embeds"}, "arch.noise_scaling is token_embeds: only latents"),
    "noise in a cycle": (
        files.LEGACY_DRM, {"noise_latent_L_step": True}, "arch.noise_latent_L_step is true: only"),
    "noise after a cycle": (
        files.LEGACY_DRM, {"noise_latent_H_step": True}, "arch.noise_latent_H_step is true: only"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_NAMES)
def test_a_method_that_can_t_be_told(case, tmp_path):
    kind, changes, words = WRONG_NAMES[case]
    path = write(tmp_path, kind, "safetensors")
    with pytest.raises(InputError) as raised:
        to_experiment(tmp_path, path, files.config(kind, **changes))
    for word in words.split(" … "):
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_drm_needs_a_mask(tmp_path):
    path = write(tmp_path, files.LEGACY_DRM, "safetensors", vocab=12)
    with pytest.raises(InputError, match="step_7: has 12 tokens, no MASK"):
        to_experiment(tmp_path, path, files.config(files.LEGACY_DRM))


# --- the canvas -----------------------------------------------------------------------------------
OF_PUBLISHED_DATA = {"data_paths": ["data/arc1concept-aug-1000"]}
OF_OTHER_DATA = {"data_paths": ["data/mine"]}
TASKS = {"train": ["a"], "evaluate": ["b"]}


def write_metadata(folder: Path, text: str) -> str:
    """A published dataset's metadata; where its identifiers.json is."""
    (folder / "train").mkdir()
    (folder / "train/dataset.json").write_text(text)
    return str(folder / "identifiers.json")


def kept_angles(folder: Path, tokens: int) -> Path:
    angles = np.zeros((tokens, 8), np.float32)
    arrays = files.tensors(files.DRM) | {"core.rotary_emb.cos_cached": angles}
    return files.write_safetensors(folder / "step_8", arrays)


def test_the_canvas_is_that_of_the_options_the_metadata_or_the_tensors(of_drm, tmp_path):
    without = files.config(files.DRM, OF_OTHER_DATA, seq_len=None)
    ids = write_metadata(tmp_path, '{"seq_len": 36, "vocab_size": 13}')
    for path, options, given, side in (
        (of_drm, files.config(files.DRM, OF_OTHER_DATA), {}, 8),
        (of_drm, without, {"identifiers": ids}, 6),
        (kept_angles(tmp_path, 4 + 81), without, {}, 9),
        (of_drm, without, {"canvas": 7}, 7),
        (of_drm, files.config(files.DRM, OF_PUBLISHED_DATA, seq_len=None), {"canvas": 7}, 7),
        (of_drm, without, {"identifiers": ids, "canvas": 6}, 6),
    ):
        assert to_experiment(tmp_path, path, options, **TASKS, **given).data.canvas == side


def test_only_the_published_data_of_arc_tell_a_canvas_by_their_names(of_drm, tmp_path):
    for paths in (["data/arc1concept-aug-1000"], ["/x/arc2concept-aug-1000/"]):
        options = files.config(files.DRM, {"data_paths": paths}, seq_len=None)
        config = files.write_config(tmp_path / "c.yaml", options)
        experiment, notes = read_experiment(config, open_published(of_drm), name="x", step=7)
        assert experiment.data.canvas == 30
        assert notes[0].startswith("Canvas: 30x30, ")
    for paths in (["arc1"], ["arc1concept-aug-1000", "data/mine"], ["arc1concept-aug-2"], []):
        options = files.config(files.DRM, {"data_paths": paths}, seq_len=None)
        with pytest.raises(UsageError, match=r"all_config.yaml: doesn't tell the canvas.*--canvas"):
            to_experiment(tmp_path, of_drm, options, **TASKS)


def test_a_canvas_that_is_told_twice(of_drm, tmp_path):
    ids = write_metadata(tmp_path, '{"seq_len": 36}')
    options = files.config(files.DRM)
    with pytest.raises(InputError, match=r"dataset.json: seq_len is 36, but .*arch.seq_len is 64"):
        to_experiment(tmp_path, of_drm, options, identifiers=ids)
    with pytest.raises(UsageError, match=r"--canvas squared is 36, but .*arch.seq_len is 64"):
        to_experiment(tmp_path, of_drm, options, canvas=6)
    with pytest.raises(InputError, match=r"arch.seq_len is 64, but .*step_8: 85 tokens less .* 81"):
        to_experiment(tmp_path, kept_angles(tmp_path, 85), options)
    with pytest.raises(InputError, match=r"step_8: 84 tokens less .* is 80: only a square"):
        to_experiment(tmp_path, kept_angles(tmp_path, 84), files.config(files.DRM, seq_len=None))
    for side in (31, 1, 0, -8):
        with pytest.raises(UsageError, match=f"--canvas: must be .* 2 to 30, not {side}"):
            to_experiment(tmp_path, of_drm, options, canvas=side)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{}", "seq_len is missing"), ("{", "not valid YAML"), ('{"seq_len": "x"}', "whole number"),
     ('{"seq_len": 35}', "seq_len is 35: only a square"), ("", "seq_len is missing")],
)  # fmt: skip
def test_metadata_that_tell_nothing(text, words, of_drm, tmp_path):
    ids = write_metadata(tmp_path, text)
    options = files.config(files.DRM, seq_len=None)
    with pytest.raises(InputError, match=f"train/dataset.json: .*{words}"):
        to_experiment(tmp_path, of_drm, options, identifiers=ids)


WRONG_YAML = {
    "broken": ("arch: {a: 1\nlr: ]", "not valid YAML: line 2: "),
    "tab": ("arch:\n\tx: 1", "not valid YAML: line 2: "),
    "a text": ("hello", "arch is missing"),
    "empty": ("", "arch is missing"),
    "bytes": (b"\xff\xfe\xff", "not valid YAML"),
    "code": ("arch: !!python/object/apply:os.getcwd []", "not valid YAML: line 1: "),
    "deep": ("[" * 5000, "not valid YAML"),
    "no such day": ("x: 2026-02-30", "not valid YAML"),
}


@pytest.mark.parametrize("case", WRONG_YAML)
def test_wrong_yaml(case, of_drm, tmp_path):
    text, words = WRONG_YAML[case]
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=f"c.yaml: .*{words}") as raised:
        read_experiment(path, open_published(of_drm), name="x", step=7)
    assert "\n" not in str(raised.value)


def test_the_goldens_are_what_the_config_says(of_drm, tmp_path):
    experiment = to_experiment(tmp_path, of_drm, files.config(files.DRM))
    assert (experiment.model, experiment.method.recursion) == (MODEL, RECURSION)
