"""all_config.yaml, the options of a published run, as an Experiment."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from drm_jax.config import Evaluate, Experiment, Optimizer, Train, part_name
from drm_jax.errors import InputError, UsageError
from drm_jax.fields import NUM_LEVELS
from drm_jax.methods.carried import Halting
from drm_jax.methods.denoising import Noise
from drm_jax.methods.drm import Drm, RecursiveDenoising
from drm_jax.methods.method import Method
from drm_jax.methods.sprm import Sprm
from drm_jax.methods.trm import Trm
from drm_jax.model.backbone import Backbone
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import TokenMixer, Transformer
from drm_jax.published.options import Options
from drm_jax.published.puzzles import (
    Data,
    FamilyName,
    find_kind,
    find_side,
    names_rows,
    with_sources,
)
from drm_jax.published.weights import JOINT, LEGACY_DRM, TRM, Published


def read_experiment(
    path: Path,
    published: Published,
    *,
    name: str,
    step: int,
    family: FamilyName | None = None,
    identifiers: str | None = None,
    train: Sequence[str] | None = None,
    evaluate: Sequence[str] | None = None,
    canvas: int | None = None,
) -> tuple[Experiment, list[str]]:
    """The Experiment of a published run's all_config.yaml, and notes on how ours would differ.

    Args:
      path: of all_config.yaml.
      step: training steps that the checkpoint has had.
      family: of puzzles; needed where neither the file nor the checkpoint tells it.
      identifiers: of ARC, the names of the puzzle rows.
      train, evaluate: sources of puzzles; those of `data_paths` where None.
      canvas: cells along a side; needed where nothing else tells it.

    Raises:
      InputError: a key is missing, has a value that we have no like of, or says otherwise than the
        checkpoint.
      UsageError: nothing tells the family, the sources or the canvas; the given canvas is another.
    """
    options = Options(path)
    if not isinstance(options.find("arch"), dict):
        raise InputError(f"{path}: must hold the options of a run: arch is missing")
    kind = find_kind(options, published, family)
    side, notes = find_side(options, published, kind, canvas, identifiers)
    try:
        experiment = _experiment(options, published, name, step, kind.make(side))
    except UsageError as error:  # a value out of range, which our field's name stands for
        raise InputError(f"{path}: {error}") from error
    data, more = with_sources(experiment.data, options, kind, train, evaluate)
    if names_rows(data):
        data = dataclasses.replace(data, identifiers=identifiers)
    notes += more + _notes(options, published, experiment)
    return dataclasses.replace(experiment, data=data), notes


def _experiment(
    options: Options, published: Published, name: str, step: int, data: Data
) -> Experiment:
    """All but the sources of puzzles."""
    get = options.get
    method, denoise_steps = _method(options, published, data.vocabulary.mask)
    batch_size = get("global_batch_size", int)
    return Experiment(
        name=name,
        seed=get("seed", int, 0),
        data=data,
        method=method,
        model=_model(options, published),
        optimizer=Optimizer(
            learning_rate=get("lr", float),
            weight_decay=get("weight_decay", float),
            beta1=get("beta1", float, Optimizer.beta1),
            beta2=get("beta2", float, Optimizer.beta2),
            puzzle_learning_rate=get("puzzle_emb_lr", float),
            puzzle_weight_decay=get("puzzle_emb_weight_decay", float),
            warmup_steps=get("lr_warmup_steps", int),
            ema=get("ema_rate", float, Optimizer.ema) if get("ema", bool, True) else 0.0,
        ),
        # What was selected there isn't known, and nothing is selected here.
        train=Train(steps=step, batch_size=batch_size, keep_best=0),
        evaluate=Evaluate(batch_size=batch_size, denoise_steps=denoise_steps),
    )


def _method(options: Options, published: Published, mask: int) -> tuple[Method, int]:
    """The method, and the steps of a test: by its flags in the joint code, else by arch.name.

    Args:
      mask: the token MASK of the puzzles, if the checkpoint has it.

    Raises:
      InputError: it can't be told, or the checkpoint is of another code.
    """
    path, module = published.path, _module(options.get("arch.name", str))
    if module not in _CODES:
        known = ", ".join(_CODES)
        raise options.refuse(
            "arch.name", f"the method of {path} can't be told from it: not a module of {known}"
        )
    naming, build = _CODES[module]
    chosen = [key for key in _FLAGS if options.get(key, bool, False)]
    if len(chosen) > 1:
        raise InputError(f"{options.path}: {' and '.join(chosen)} are both set: only one can be")
    if chosen and naming != JOINT:
        raise options.refuse(chosen[0], f"arch.name is {module}, a code that has no such option")
    if published.naming != naming:
        start = published.naming.table.split(".")[0]
        table = "no" if published.naming.answers is None else "a"
        raise options.refuse(
            "arch.name",
            f"{path} is of another code (its names start with {start}. and it has {table} table "
            "embed_tokens_labels): use the all_config.yaml of this very checkpoint",
        )
    return (_FLAGS[chosen[0]] if chosen else build)(options, published, mask)


def _module(name: str) -> str:
    """Of package.module@Class."""
    return name.partition("@")[0].rpartition(".")[2]


def _drm(options: Options, published: Published, mask: int) -> tuple[Drm, int]:
    if published.vocab <= mask:
        raise InputError(f"{published.path}: has {published.vocab} tokens, no MASK: DRM needs it")
    for key in ("arch.noise_latent_H_step", "arch.noise_latent_L_step"):  # of the legacy code
        options.only(key, bool, False, False)
    options.only("arch.mask_token_id", int, mask, mask)
    options.only("arch.diffusion_num_training_steps", int, NUM_LEVELS, NUM_LEVELS)
    by_confidence = options.get("arch.diffusion_inference_confidence_masking", bool, False)
    noise = Noise(
        schedule=options.get("arch.diffusion_schedule", str),
        kind=options.get("arch.diffusion_noise_type", str),
    )
    denoising = RecursiveDenoising(remask="confidence" if by_confidence else "uniform")
    steps = options.get("arch.diffusion_num_inference_steps", int)
    return Drm(_recursion(options), noise, denoising=denoising), steps


def _trm(options: Options, published: Published, mask: int) -> tuple[Trm, int]:
    halting = _halting(options)
    method = Trm(_recursion(options), halting, mask_token=published.vocab > mask)
    return method, halting.max_steps


def _sprm(options: Options, published: Published, mask: int) -> tuple[Sprm, int]:
    options.only("arch.noise_scaling", str, "latents", "latents")
    options.only("arch.noise_inference", bool, False, False)
    levels = LEVELS_OF_CODE["joint" if published.naming == JOINT else "trm"]
    halting, has_mask = _halting(options), published.vocab > mask
    method = Sprm(_recursion(options), halting, mask_token=has_mask, latent_levels=levels)
    return method, halting.max_steps


LEVELS_OF_CODE = {"joint": Sprm.latent_levels, "trm": NUM_LEVELS}
"""Levels of noise on latents that SPRM draws from, by the code whose names its tensors have; the
legacy code has those of TRM."""


def _recursion(options: Options) -> Recursion:
    return Recursion(options.get("arch.H_cycles", int), options.get("arch.L_cycles", int))


def _halting(options: Options) -> Halting:
    return Halting(
        options.get("arch.halt_max_steps", int), options.get("arch.halt_exploration_prob", float)
    )


_CODES = {
    "rm": (JOINT, _trm),
    "trm": (TRM, _trm),
    "trm_drm": (LEGACY_DRM, _drm),
    "trm_sprm": (TRM, _sprm),
}
"""Names of tensors and the method, by the module in arch.name; the last two are legacy code."""
_FLAGS = {"arch.discrete_diffusion_init": _drm, "arch.state_perturbation": _sprm}
"""What makes the joint code, rm, one of DRM or SPRM."""


def _model(options: Options, published: Published) -> Backbone:
    """What decides the network, as far as we have the like of it, and as the checkpoint has it.

    The published code doesn't read arch.H_layers: a second stack would show in the checkpoint.
    """
    get = options.get
    hidden = get("arch.hidden_size", int)
    if get("arch.puzzle_emb_ndim", int) != hidden:
        raise options.refuse(
            "arch.puzzle_emb_ndim", f"only the width, arch.hidden_size {hidden}, can be imported"
        )
    options.only("arch.loss.loss_type", str, LOSS, LOSS)
    options.only("arch.rms_norm_eps", float, 1e-5, 1e-5)
    options.only("arch.rope_theta", float, 1e4, 1e4)
    sizes = {
        "hidden": hidden,
        "layers": get("arch.L_layers", int),
        "prefix": get("arch.puzzle_emb_len", int) or 1,  # 0: as many as the row fills
        "expansion": get("arch.expansion", float),
    }
    if get("arch.mlp_t", bool, False):
        if get("arch.pos_encodings", str, "none") == "learned":
            raise options.refuse("arch.pos_encodings", "learned positions can't be imported")
        model = TokenMixer(**sizes)
    else:
        options.only("arch.pos_encodings", str, "rope")
        model = Transformer(heads=get("arch.num_heads", int), **sizes)
    for key, has, kind in (
        ("arch.L_layers", published.layers, int),
        ("arch.mlp_t", published.mixer == "mlp", bool),
        ("arch.vocab_size", published.vocab, int),
        ("arch.num_puzzle_identifiers", published.num_ids, int),
    ):
        if get(key, kind, has if kind is int else False) != has:
            raise options.refuse(key, f"{published.path} has {str(has).lower()}")
    return model


LOSS = "stablemax_cross_entropy"


def _notes(options: Options, published: Published, experiment: Experiment) -> list[str]:
    """Where ours would differ, one line each."""
    notes, begins_from_latents = [], experiment.method.test_levels(1)[0] < 0
    if not begins_from_latents:
        notes.append(
            "Masked again, an answer is embedded as in training, times sqrt(D), as in the newest "
            "published code; the paper's code and the first joint code leave sqrt(D) out there"
        )
    elif published.naming == JOINT:
        notes.append(
            f"{part_name('method', experiment.method)} begins an answer from y_init here; the "
            "joint code begins it from all MASK"
        )
    if options.get("lr_min_ratio", float, 1.0) != 1:
        notes.append("Trained on, the learning rate stays as it is; there it falls (lr_min_ratio)")
    if not options.get("arch.no_ACT_continue", bool, True):
        notes.append("Trained on, halting learns from q_halt alone; there from q_continue too")
    return notes
