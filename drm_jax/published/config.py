"""all_config.yaml, the options of a published run, as an Experiment."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from drm_jax.published.torch_files import load_package
from drm_jax.published.weights import JOINT, LEGACY_DRM, TRM, Published
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tasks import MAX_SIDE
from drm_jax.puzzles.arc.tokens import MASK


class _Options:
    """A YAML file (or JSON, which is YAML) by dotted keys. Errors name the file and the key."""

    def __init__(self, path: Path):
        yaml = load_package("yaml", path, "pyyaml")
        self.path = path
        try:
            self._values = yaml.safe_load(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: can't be read: {error.strerror}") from error
        except RecursionError as error:
            raise InputError(f"{path}: not valid YAML: nested too deeply") from error
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that there is not
            mark = getattr(error, "problem_mark", None)
            where = f"line {mark.line + 1}: " if mark else ""
            said = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise InputError(f"{path}: not valid YAML: {where}{said}") from error

    def find(self, key: str) -> Any:
        """A value as it is; None where there is none."""
        value = self._values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """A value of a kind: str, bool, int, float. Needed where there is no default."""
        value = self.find(key)
        if value is None:
            if default is None:
                raise InputError(f"{self.path}: {key} is missing")
            return default
        if kind in (int, float) and not isinstance(value, bool):
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                number = float(value)  # YAML takes 1e-4, without a point, for a text
                if kind is float or number.is_integer():
                    return kind(number)
        elif type(value) is kind:
            return value
        raise InputError(f"{self.path}: {key}: {value!r} is not {_KINDS[kind]}")

    def names(self, key: str) -> list[str]:
        """A list of texts; a single one counts, and so does none."""
        value = self.find(key)
        value = [] if value is None else value if isinstance(value, list) else [value]
        return [str(item) for item in value]

    def refuse(self, key: str, reason: str) -> InputError:
        return InputError(f"{self.path}: {key} is {_shown(self.find(key))}: {reason}")

    def only(self, key: str, kind: type, allowed: Any, default: Any = None) -> None:
        """Raises unless a value is the one that we have."""
        value = self.get(key, kind, default)
        if value != allowed:
            raise self.refuse(key, f"only {_shown(allowed)} can be imported")


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_KINDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


def read_experiment(
    path: Path,
    published: Published,
    *,
    name: str,
    step: int,
    identifiers: str | None = None,
    train: Sequence[str] | None = None,
    evaluate: Sequence[str] | None = None,
    canvas: int | None = None,
) -> tuple[Experiment, list[str]]:
    """The Experiment of a published run's all_config.yaml, and notes on how ours would differ.

    Args:
      path: of all_config.yaml.
      step: training steps that the checkpoint has had.
      identifiers, train, evaluate: for `Arc`; the sources are those of `data_paths` where
        None.
      canvas: cells along a side; needed where nothing else tells it.

    Raises:
      InputError: a key is missing, has a value that we have no like of, or says otherwise than the
        checkpoint.
      UsageError: nothing tells the sources, or the canvas; the given canvas is another one.
    """
    options = _Options(path)
    if not isinstance(options.find("arch"), dict):
        raise InputError(f"{path}: must hold the options of a run: arch is missing")
    side, canvas_notes = _canvas(options, published, canvas, identifiers)
    try:
        experiment = _experiment(options, published, name, step, side)
    except UsageError as error:  # a value out of range, which our field's name stands for
        raise InputError(f"{path}: {error}") from error
    paths = options.names("data_paths")
    default = _sources(paths)
    if default is None and (train is None or evaluate is None):
        raise UsageError(
            f"{path}: data_paths is {', '.join(paths) or 'missing'}, which doesn't tell the tasks: "
            "name them with --train and --evaluate"
        )
    augmentations = re.search(r"aug-(\d{1,6})", " ".join(paths))
    data = Arc(
        train=default[0] if train is None else tuple(train),
        evaluate=default[1] if evaluate is None else tuple(evaluate),
        leaks="drop",
        canvas=experiment.data.canvas,
        num_augmentations=int(augmentations[1]) if augmentations else Arc.num_augmentations,
        identifiers=identifiers,
    )
    notes = canvas_notes + _notes(options, published, experiment)
    return dataclasses.replace(experiment, data=data), notes


def _experiment(
    options: _Options, published: Published, name: str, step: int, canvas: int
) -> Experiment:
    """All but the tasks."""
    get = options.get
    method, denoise_steps = _method(options, published)
    batch_size = get("global_batch_size", int)
    return Experiment(
        name=name,
        seed=get("seed", int, 0),
        data=Arc(canvas=canvas),
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


def _method(options: _Options, published: Published) -> tuple[Method, int]:
    """The method, and the steps of a test: by its flags in the joint code, else by arch.name.

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
    return _FLAGS[chosen[0]](options, published) if chosen else build(options, published)


def _module(name: str) -> str:
    """Of package.module@Class."""
    return name.partition("@")[0].rpartition(".")[2]


def _drm(options: _Options, published: Published) -> tuple[Drm, int]:
    if published.vocab <= MASK:
        raise InputError(f"{published.path}: has {published.vocab} tokens, no MASK: DRM needs it")
    for key in ("arch.noise_latent_H_step", "arch.noise_latent_L_step"):  # of the legacy code
        options.only(key, bool, False, False)
    options.only("arch.mask_token_id", int, MASK, MASK)
    options.only("arch.diffusion_num_training_steps", int, NUM_LEVELS, NUM_LEVELS)
    by_confidence = options.get("arch.diffusion_inference_confidence_masking", bool, False)
    noise = Noise(
        schedule=options.get("arch.diffusion_schedule", str),
        kind=options.get("arch.diffusion_noise_type", str),
    )
    denoising = RecursiveDenoising(remask="confidence" if by_confidence else "uniform")
    steps = options.get("arch.diffusion_num_inference_steps", int)
    return Drm(_recursion(options), noise, denoising=denoising), steps


def _trm(options: _Options, published: Published) -> tuple[Trm, int]:
    halting = _halting(options)
    method = Trm(_recursion(options), halting, mask_token=published.vocab > MASK)
    return method, halting.max_steps


def _sprm(options: _Options, published: Published) -> tuple[Sprm, int]:
    options.only("arch.noise_scaling", str, "latents", "latents")
    options.only("arch.noise_inference", bool, False, False)
    # The legacy code draws from all levels of noise.
    levels = Sprm.latent_levels if published.naming == JOINT else NUM_LEVELS
    halting, has_mask = _halting(options), published.vocab > MASK
    method = Sprm(_recursion(options), halting, mask_token=has_mask, latent_levels=levels)
    return method, halting.max_steps


def _recursion(options: _Options) -> Recursion:
    return Recursion(options.get("arch.H_cycles", int), options.get("arch.L_cycles", int))


def _halting(options: _Options) -> Halting:
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


def _model(options: _Options, published: Published) -> Backbone:
    """What decides the network, as far as we have the like of it, and as the checkpoint has it.

    The published code doesn't read arch.H_layers: a second stack would show in the checkpoint.
    """
    get = options.get
    hidden = get("arch.hidden_size", int)
    if get("arch.puzzle_emb_ndim", int) != hidden:
        raise options.refuse(
            "arch.puzzle_emb_ndim", f"only the width, arch.hidden_size {hidden}, can be imported"
        )
    options.only("arch.loss.loss_type", str, _LOSS, _LOSS)
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


_LOSS = "stablemax_cross_entropy"


_METADATA = Path("train/dataset.json")
"""Of a published dataset, beside its identifiers.json."""
_ARC_DATASETS = ("arc1concept-aug-1000", "arc2concept-aug-1000")
"""What the published READMEs build; the canvas is 30x30."""


def _canvas(
    options: _Options, published: Published, given: int | None, identifiers: str | None
) -> tuple[int, list[str]]:
    """Cells along a side, and a note where they are only supposed.

    The tensors of a Transformer don't tell it, and published runs keep it with their data alone.
    """
    if given is not None and not 2 <= given <= MAX_SIDE:
        raise UsageError(f"--canvas: must be a whole number from 2 to {MAX_SIDE}, not {given}")
    known = _known_cells(options, published, identifiers)
    known += [] if given is None else [("--canvas squared", given**2)]
    names = [Path(path).name for path in options.names("data_paths")]
    if not known and names and set(names) <= set(_ARC_DATASETS):
        note = f"Canvas: {MAX_SIDE}x{MAX_SIDE}, that of {names[0]}; say --canvas if it was another"
        return MAX_SIDE, [note]
    if not known:
        raise UsageError(
            f"{options.path}: doesn't tell the canvas (arch.seq_len), nor does {_METADATA} beside "
            "identifiers.json: name its side with --canvas (30 for the published data of ARC)"
        )
    source, cells = known[0]
    for other, number in known[1:]:
        if number != cells:
            kind = UsageError if other.startswith("--") else InputError
            raise kind(f"{other} is {number}, but {source} is {cells}: both are the canvas's cells")
    side = math.isqrt(max(cells, 0))
    if side * side != cells:
        raise InputError(f"{source} is {cells}: only a square canvas can be imported")
    return side, []


def _known_cells(
    options: _Options, published: Published, identifiers: str | None
) -> list[tuple[str, int]]:
    """(where it stands, cells of the canvas) of each place that tells it."""
    known = []
    if published.tokens is not None:
        prefix = options.get("arch.puzzle_emb_len", int) or 1
        source = f"{published.path}: {published.tokens} tokens less arch.puzzle_emb_len"
        known.append((source, published.tokens - prefix))
    if options.find("arch.seq_len") is not None:
        known.append((f"{options.path}: arch.seq_len", options.get("arch.seq_len", int)))
    metadata = None if identifiers is None else Path(identifiers).parent / _METADATA
    if metadata is not None and metadata.exists():
        known.append((f"{metadata}: seq_len", _Options(metadata).get("seq_len", int)))
    return known


def _sources(data_paths: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """(train, evaluate) sources of a published dataset's name; None where it tells none."""
    known = {"arc1": r"arc-?(agi-?)?1(?!\d)", "arc2": r"arc-?(agi-?)?2(?!\d)"}
    text = " ".join(data_paths).lower().replace("_", "-")
    found = [source for source, pattern in known.items() if re.search(pattern, text)]
    if len(found) != 1:
        return None
    return (f"{found[0]}/training",), (f"{found[0]}/evaluation",)


def _notes(options: _Options, published: Published, experiment: Experiment) -> list[str]:
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
