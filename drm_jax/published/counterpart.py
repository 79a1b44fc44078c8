"""An Experiment in the terms of the published code: its all_config.yaml, and what it can't say.

What the published code can't compute with the same weights is refused. What only training, or the
way of a test, would notice there is told in notes.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from drm_jax.config import Experiment, part_name
from drm_jax.corruption.schedules import SCHEDULES
from drm_jax.errors import UsageError
from drm_jax.fields import NUM_LEVELS
from drm_jax.methods.drm import Drm, RecursiveDenoising
from drm_jax.methods.method import Method
from drm_jax.methods.sprm import Sprm
from drm_jax.methods.trm import Trm
from drm_jax.model.layers import swiglu_width
from drm_jax.model.transformer import TokenMixer, Transformer
from drm_jax.published.config import LEVELS_OF_CODE, LOSS
from drm_jax.published.puzzles import KINDS, Data
from drm_jax.words import counted

_SWIGLU_MULTIPLE = 256
"""That of the published code."""
_ACT = "TinyRecursiveReasoningModel_ACTV1"


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """What the published code needs to load the weights of an experiment."""

    code: str
    """Of `weights.CODES`: whose names the tensors have."""
    network: Mapping[str, Any]
    """What the network's class is constructed with, and its name."""
    options: Mapping[str, Any]
    """The content of all_config.yaml."""
    notes: tuple[str, ...]
    """Where the published code would train or answer otherwise, one sentence each."""


def counterpart_of(
    experiment: Experiment, code: str | None, num_ids: int, dtype: str | None
) -> Counterpart:
    """The published counterpart of an experiment.

    Args:
      code: whose layout is wanted, of `weights.CODES`; None: the one that answers as we do.
      num_ids: rows of the published puzzle table.
      dtype: the type that the run was computed in, where it is known.

    Raises:
      UsageError: the published code has no counterpart of a part or an option.
    """
    check_counterpart(experiment)
    method, data, train = experiment.method, experiment.data, experiment.train
    code = code or _default_code(method)
    if (type(method), code) not in _NAMES:
        raise UsageError(
            f"method: {part_name('method', method)}: the tensors have the names of the code "
            f"{code}, which has no such method"
        )
    arch = _OF_METHOD[type(method)](experiment, code)
    arch |= _arch(experiment) | ({} if dtype is None else {"forward_dtype": dtype})
    height, width = data.boards[-1]
    sizes = {
        "batch_size": train.batch_size,
        "seq_len": height * width,
        "vocab_size": data.vocabulary.size + method.has_mask,
        "num_puzzle_identifiers": num_ids,
        "mask_token_id": data.vocabulary.mask if method.has_mask else 0,
    }
    network = {"architectures": [arch["name"].partition("@")[2]], **arch, **sizes}
    return Counterpart(
        code, network, _options(experiment, arch), tuple(_notes(experiment, code, sizes))
    )


# --- what there is no counterpart of --------------------------------------------------------------
def check_counterpart(experiment: Experiment) -> None:
    """Raises UsageError where the published code has no counterpart of a part or an option."""
    method, model, data = experiment.method, experiment.model, experiment.data
    for part, known in (("method", _OF_METHOD), ("model", _OF_MODEL)):
        value = getattr(experiment, part)
        if type(value) not in known:
            raise _refusal(part, part_name(part, value))
    if part_name("data", data) not in KINDS:
        raise _refusal("data", part_name("data", data))
    height, width = data.boards[-1]
    if height != width:
        raise _refusal("data", f"a board of {height} x {width}, not a square")
    if model.dtype == "float64":
        raise _refusal("model.dtype", "float64")
    for name, usual in (("convolution", False), ("positions", "sequence")):
        value = getattr(model, name, usual)
        if value != usual:
            raise _refusal(f"model.{name}", str(value).lower())
    tokens = model.prefix + height * width
    for size in (model.hidden, *([tokens] if mixer_of(model) == "mlp" else [])):
        ours, theirs = (
            swiglu_width(size, model.expansion, multiple)
            for multiple in (model.swiglu_multiple, _SWIGLU_MULTIPLE)
        )
        if ours != theirs:
            raise _refusal(
                "model.swiglu_multiple",
                f"{model.swiglu_multiple}, which makes a SwiGLU {ours} wide; there it is {theirs} "
                f"(a multiple of {_SWIGLU_MULTIPLE})",
            )
    noise = getattr(method, "noise", None)
    if noise is not None and noise.schedule not in SCHEDULES:
        raise _refusal("method.noise.schedule", noise.schedule)
    if noise is not None and noise.replace != "mask":
        raise _refusal("method.noise.replace", noise.replace)


def _refusal(field: str, value: str) -> UsageError:
    return UsageError(
        f"{field}: {value}: the published code has no like of it, so it can't be exported"
    )


# --- arch -----------------------------------------------------------------------------------------
def _default_code(method: Method) -> str:
    """The code that answers as we do."""
    return next(code for of, code in _NAMES if of is type(method))


_NAMES = {
    (Trm, "trm"): f"recursive_reasoning.trm@{_ACT}",
    (Trm, "joint"): "recursive_reasoning.rm@RecursiveReasoningModel",
    (Drm, "joint"): "recursive_reasoning.rm@RecursiveReasoningModel",
    (Drm, "legacy"): f"recursive_reasoning.legacy.trm_drm@{_ACT}",
    (Sprm, "trm"): f"recursive_reasoning.legacy.trm_sprm@{_ACT}",
    (Sprm, "joint"): "recursive_reasoning.rm@RecursiveReasoningModel",
}
"""arch.name, by the method and the code whose names the tensors have; the first code of a method is
the one that answers as we do."""


def _of_trm(experiment: Experiment, code: str) -> dict[str, Any]:
    halting = experiment.method.halting
    return {
        "name": _NAMES[type(experiment.method), code],
        "halt_max_steps": halting.max_steps,
        "halt_exploration_prob": halting.exploration,
        "no_ACT_continue": True,
    }


def _of_sprm(experiment: Experiment, code: str) -> dict[str, Any]:
    joint = {"state_perturbation": True, "discrete_diffusion_init": False}
    legacy = {"noise_inference": False}
    arch = _of_trm(experiment, code) | (joint if code == "joint" else legacy)
    return arch | {"noise_scaling": "latents"}


def _of_drm(experiment: Experiment, code: str) -> dict[str, Any]:
    method, steps = experiment.method, experiment.evaluate.denoise_steps
    joint = {"state_perturbation": False, "discrete_diffusion_init": True}
    legacy = {"noise_latent_H_step": False, "noise_latent_L_step": False}
    return {
        "name": _NAMES[type(method), code],
        # Needed there, without effect: an example has one step in training, all steps in a test.
        "halt_max_steps": steps,
        "halt_exploration_prob": 0.0,
        "no_ACT_continue": True,
        "diffusion_num_training_steps": NUM_LEVELS,
        "diffusion_num_inference_steps": steps,
        "diffusion_schedule": method.noise.schedule,
        "diffusion_noise_type": method.noise.kind,
        "diffusion_inference_confidence_masking": method.denoising.remask == "confidence",
        **(joint if code == "joint" else legacy),
    }


_OF_METHOD: Mapping[type, Callable[[Experiment, str], dict[str, Any]]] = {
    Trm: _of_trm,
    Drm: _of_drm,
    Sprm: _of_sprm,
}
_OF_MODEL: Mapping[type, Callable[[Any], dict[str, Any]]] = {
    Transformer: lambda model: {"num_heads": model.heads, "pos_encodings": "rope", "mlp_t": False},
    # The heads are needed there, without effect.
    TokenMixer: lambda model: {"num_heads": 1, "pos_encodings": "none", "mlp_t": True},
}


def mixer_of(model: Any) -> Literal["attention", "mlp"]:
    """What mixes the tokens, as `weights.parameter_names` calls it."""
    return "mlp" if _OF_MODEL[type(model)](model)["mlp_t"] else "attention"


def _arch(experiment: Experiment) -> dict[str, Any]:
    """What all codes and methods have."""
    model, recursion = experiment.model, experiment.method.recursion
    return {
        "loss": {"name": "losses@ACTLossHead", "loss_type": LOSS},
        "H_cycles": recursion.cycles,
        "L_cycles": recursion.inner_steps,
        "H_layers": 0,
        "L_layers": model.layers,
        "hidden_size": model.hidden,
        "expansion": model.expansion,
        "puzzle_emb_ndim": model.hidden,
        "puzzle_emb_len": model.prefix,
        **_OF_MODEL[type(model)](model),
    }


# --- all_config.yaml ------------------------------------------------------------------------------
def _options(experiment: Experiment, arch: Mapping[str, Any]) -> dict[str, Any]:
    optimizer, train = experiment.optimizer, experiment.train
    return {
        "arch": dict(arch),
        "data_paths": sources_of(experiment.data),
        "evaluators": [],
        "global_batch_size": train.batch_size,
        "epochs": 1,
        "lr": optimizer.learning_rate,
        "lr_min_ratio": 1.0,
        "lr_warmup_steps": optimizer.warmup_steps,
        "weight_decay": optimizer.weight_decay,
        "beta1": optimizer.beta1,
        "beta2": optimizer.beta2,
        "puzzle_emb_lr": optimizer.puzzle_learning_rate,
        "puzzle_emb_weight_decay": optimizer.puzzle_weight_decay,
        "ema": optimizer.ema > 0,
        "ema_rate": optimizer.ema,
        "seed": experiment.seed,
        "run_name": experiment.name,
    }


def sources_of(data: Data) -> list[str]:
    """All sources of puzzles, each once; empty where the puzzles are made from a seed."""
    return list(dict.fromkeys((*data.train, *data.evaluate)))


# --- notes ----------------------------------------------------------------------------------------
def _notes(experiment: Experiment, code: str, sizes: Mapping[str, Any]) -> Iterator[str]:
    data, method = experiment.data, experiment.method
    if len(data.boards) > 1:
        windows = ", ".join(f"{height}x{width}" for height, width in data.boards)
        yield (
            f"It was trained and scored here on windows of the board ({windows}); the published "
            f"code uses the whole board of {counted(sizes['seq_len'], 'cell')}, and may answer "
            "otherwise"
        )
    if method.has_mask and not hasattr(method, "noise"):
        yield (
            f"Its vocabulary of {counted(sizes['vocab_size'], 'token')} has MASK, the last one, "
            "which TRM's dataset builder doesn't count: say so in the dataset's vocab_size"
        )
    yield from _NOTES_OF_METHOD[type(method)](experiment, code)
    trained_otherwise = [
        f"{name} {value}"
        for name, value, usual in _training_only(experiment, code)
        if value != usual
    ]
    if trained_otherwise:
        yield f"The published code can't train on as it was trained: {', '.join(trained_otherwise)}"


def _training_only(experiment: Experiment, code: str) -> Iterator[tuple[str, Any, Any]]:
    """(option, value, the published code's) of what no test notices."""
    method = experiment.method
    yield "method.recursion.grad_cycles", method.recursion.grad_cycles, 1
    yield "method.recursion.grad_inner_steps", method.recursion.grad_inner_steps, None
    yield "optimizer.rows_first", experiment.optimizer.rows_first, 0
    yield "optimizer.matrices", experiment.optimizer.matrices, "adam_atan2"
    levels = getattr(method, "latent_levels", None)
    yield "method.latent_levels", levels, None if levels is None else LEVELS_OF_CODE[code]
    if hasattr(method, "noise"):
        yield "method.supervision", method.supervision, "final"
        yield "method.noise.all_masked", method.noise.all_masked, 0
        yield "method.noise.own_answers", method.noise.own_answers, 0


def _notes_of_drm(experiment: Experiment, code: str) -> Iterator[str]:
    here, there = experiment.method.denoising, RecursiveDenoising()
    fields = [field.name for field in dataclasses.fields(here) if field.name != "remask"]
    otherwise = [
        f"method.denoising.{name} {getattr(here, name)}".lower()
        for name in fields
        if getattr(here, name) != getattr(there, name)
    ]
    if otherwise:
        yield f"The published code answers otherwise: it has no {', '.join(otherwise)}"
    yield (
        "Masked again, an answer is embedded as in training, times sqrt(D); only the newest "
        "published code does so"
    )


def _notes_of_trm(experiment: Experiment, code: str) -> Iterator[str]:
    steps, most = experiment.evaluate.denoise_steps, experiment.method.halting.max_steps
    if steps != most:
        yield f"It is scored here after step {steps} of a test, there after step {most}"
    if code == "joint":
        yield "An answer begins from y_init here; the joint code begins it from all MASK"


_NOTES_OF_METHOD = {Drm: _notes_of_drm, Trm: _notes_of_trm, Sprm: _notes_of_trm}
