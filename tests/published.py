"""Files as published runs leave them, small: weights of goldens/*.npz under published names."""

import json
from pathlib import Path

import numpy as np
from golden_weights import GOLDENS

from drm_jax.commands.main import main

DRM, TRM = "drm", "trm"  # the joint code, and TRM's own
LEGACY_DRM, LEGACY_SPRM = "legacy drm", "legacy sprm"
_LEGACY_NAMES = {  # of tensors, by those of the joint code
    "core.": "inner.", "recurrent_block": "L_level", "decode_init": "H_init",
    "scratchpad_init": "L_init",
}  # fmt: skip
NUM_IDS = 7  # rows of the goldens' puzzle tables
PAIR = {"input": [[1, 2], [3, 4]], "output": [[4, 3], [2, 1]]}
TASKS = {
    "aa": {"train": [PAIR], "test": [{"input": [[5, 5, 5]], "output": [[6]]}]},
    "bb": {"train": [{"input": [[7]], "output": [[8]]}], "test": [{"input": [[9, 1]]}]},
}
_TAILS = ("", "|||t1|||0213456789", "|||t5|||0123456798")
IDENTIFIERS = ["<blank>", *(task + tail for task in TASKS for tail in _TAILS)]

ARCH = {
    "name": "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1",
    "loss": {"name": "losses@ACTLossHead", "loss_type": "stablemax_cross_entropy"},
    "H_cycles": 3, "L_cycles": 2, "H_layers": 0, "L_layers": 2, "hidden_size": 32, "num_heads": 4,
    "expansion": 4, "puzzle_emb_ndim": 32, "puzzle_emb_len": 4, "pos_encodings": "rope",
    "halt_max_steps": 16, "halt_exploration_prob": 0.1, "mlp_t": False, "seq_len": 64,
    "forward_dtype": "bfloat16", "no_ACT_continue": True,
}  # fmt: skip
OF_DRM = {
    "name": "recursive_reasoning.rm@RecursiveReasoningModel",
    "discrete_diffusion_init": True, "state_perturbation": False, "mask_token_id": 12,
    "diffusion_num_training_steps": 1000, "diffusion_num_inference_steps": 3,
    "diffusion_schedule": "cosine", "diffusion_noise_type": "uniform",
    "diffusion_inference_confidence_masking": False,
}  # fmt: skip
_OF_LEGACY = {"noise_latent_H_step": False, "noise_latent_L_step": False}
_FLAGS = {"discrete_diffusion_init": None, "state_perturbation": None, "mask_token_id": None}
_OF_KIND = {
    TRM: {},
    DRM: OF_DRM,
    LEGACY_DRM: OF_DRM
    | _FLAGS
    | _OF_LEGACY
    | {"name": "recursive_reasoning.legacy.trm_drm@TinyRecursiveReasoningModel_ACTV1"},
    LEGACY_SPRM: _OF_LEGACY
    | {"name": "recursive_reasoning.legacy.trm_sprm@TinyRecursiveReasoningModel_ACTV1"},
}
TOP = {
    "data_paths": ["data/arc1concept-aug-2"], "evaluators": [{"name": "arc@ARC"}], "seed": 0,
    "lr": 1e-4, "lr_min_ratio": 1.0, "lr_warmup_steps": 2000, "weight_decay": 0.1, "beta1": 0.9,
    "beta2": 0.95, "puzzle_emb_lr": 1e-2, "puzzle_emb_weight_decay": 0.1, "global_batch_size": 8,
    "epochs": 100000, "ema": True, "ema_rate": 0.999,
}  # fmt: skip

# (code base, what wrappers put before the names, vocabulary, the file's name)
LAYOUTS = {
    "arcprize/trm_arc_prize_verification arc_v1_public": (
        TRM, "_orig_mod.model.", 12, "step_518071"),
    "arcprize/trm_arc_prize_verification arc_v2_public": (TRM, "model.", 12, "step_723914"),
    "Sanjin2024/TinyRecursiveModels-ARC-AGI-1": (TRM, "model.", 13, "step_155718"),
    "Sanjin2024/TinyRecursiveModels-ARC-AGI-2": (TRM, "", 12, "step_217602"),
    "alphaXiv/trm-model-arc-agi-1": (TRM, "_orig_mod.", 13, "step_259320.pt"),
    "Trelis/TRM-ARC-AGI-II": (TRM, "", 13, "model.safetensors"),
    "the joint code": (DRM, "_orig_mod.model.", 13, "step_5"),
}  # fmt: skip


def config(kind: str = TRM, top: dict | None = None, **arch: object) -> dict:
    """The options of a run; what is None is left out."""
    inner = ARCH | _OF_KIND[kind] | arch
    whole = TOP | {"arch": {k: v for k, v in inner.items() if v is not None}} | (top or {})
    return {k: v for k, v in whole.items() if v is not None}


def write_config(path: Path, options: dict) -> Path:
    """JSON is YAML too."""
    path.write_text(json.dumps(options, indent=1))
    return path


def tensors(kind: str = TRM, prefix: str = "", vocab: int = 13) -> dict[str, np.ndarray]:
    """A state dict; without the row of MASK where the vocabulary is 12."""
    of_drm = kind in (DRM, LEGACY_DRM)
    golden = np.load(GOLDENS / f"{DRM if of_drm else TRM}.npz", allow_pickle=True)
    start, found = "train/init/", {}
    for key in golden.files:
        if key.startswith(start):
            name, array = key.removeprefix(start), golden[key]
            for joint, legacy in _LEGACY_NAMES.items() if kind == LEGACY_DRM else ():
                name = name.replace(joint, legacy)
            if name.endswith(("embedding_weight", "lm_head.weight")):
                array = array[:vocab]
            found[prefix + name] = np.ascontiguousarray(array)
    return found


def write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    from safetensors.numpy import save_file

    save_file(arrays, path)
    return path


def write_torch(path: Path, arrays: dict[str, np.ndarray], **options: object) -> Path:
    import torch

    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path, **options)
    return path


def write_all(
    folder: Path, kind: str = TRM, *, name: str = "step_7", identifiers: list | None = None
) -> list[str]:
    """A folder with a checkpoint, its config, identifiers and tasks; the command to import it."""
    write_safetensors(folder / name, tensors(kind))
    write_config(folder / "all_config.yaml", config(kind))
    (folder / "identifiers.json").write_text(json.dumps(identifiers or IDENTIFIERS))
    (folder / "tasks.json").write_text(json.dumps(TASKS))
    return [
        "import", f"{folder}/{name}", "--config", f"{folder}/all_config.yaml",
        "--workdir", f"{folder}/run", "--train", "--evaluate", f"{folder}/tasks.json",
    ]  # fmt: skip


def refused(argv: list[str], code: int, words: str, capsys) -> None:
    """A command ends with this code and one line that has these words, parts joined by " … "."""
    capsys.readouterr()
    assert main(argv) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    for word in words.split(" … "):
        assert word in err
