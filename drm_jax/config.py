"""All of a run in frozen dataclasses, checked when they are made; JSON both ways.

`Experiment` is the whole. An experiment file returns one; the command line changes fields of it;
the work directory keeps it as config.json.
"""

import dataclasses
import itertools
import json
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from drm_jax.errors import UsageError
from drm_jax.references import did_you_mean, is_reference

MAX_SIDE = 30
"""Cells along the longest side of an ARC grid."""
SCHEDULES = ("linear", "cosine", "sigmoid")
OBJECTIVES = ("drm", "trm", "sprm", "diffusion")
CARRIED = ("trm", "sprm")
"""Objectives that take latents and examples over from one training step to the next."""
NoiseKind = Literal["uniform", "spatially_correlated"]
MAX_AUGMENTATIONS = 8 * math.factorial(9) - 1
"""All transforms times all colour permutations, less the identity: 2,903,039."""
MAX_NUMBER = 2**31 - 1
"""No count or rate may be larger: devices count steps in int32."""
MAX_BATCH = 2**20
MAX_LAYERS = 1000
NUM_LEVELS = 1000
"""Noise levels. A path back, in training or in denoising, can't have more steps."""


_UNIONS = (types.UnionType, typing.Union)


def _check(holds: bool, field: str, message: str) -> None:
    if not holds:
        raise UsageError(f"{field}: {message}")


def _check_types(config: Any, room: str) -> None:
    """A file in Python may hold anything: a text where a tuple of texts belongs, no number, …"""
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        _check(_is_a(value, hint), f"{room}{name}", f"must be {_type_name(hint)}, not {value!r}")


def _is_a(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in args
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_a(item, args[0]) for item in value)
    if origin in _UNIONS:
        return any(_is_a(value, arg) for arg in args)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(typing.get_args(hint))}"
    if typing.get_origin(hint) in _UNIONS:
        return " or ".join(_type_name(arg).removeprefix("one of ") for arg in typing.get_args(hint))
    return hint.__name__ if typing.get_origin(hint) is None else str(hint)


def _at_least(config: Any, room: str, low: float, *fields: str) -> None:
    for name in fields:
        value = getattr(config, name)
        _check(value >= low, f"{room}.{name}", f"must be at least {low}, not {value}")
    _at_most(config, room, MAX_NUMBER, *fields)


def _at_most(config: Any, room: str, high: float, *fields: str) -> None:
    for name in fields:
        value = getattr(config, name)
        _check(value <= high, f"{room}.{name}", f"must be at most {high}, not {value}")


def _name_or_reference(value: Any, field: str, built_in: tuple[str, ...]) -> None:
    _check(
        value in built_in or (isinstance(value, str) and is_reference(value)),
        field,
        f"{value!r} is not one of {', '.join(built_in)}, and not a reference "
        f"package.module:function{did_you_mean(str(value), built_in)}",
    )


@dataclasses.dataclass(frozen=True)
class Data:
    """Which tasks, and how they are varied."""

    train: tuple[str, ...] = ("arc1/training",)
    """Sources trained on whole: arc1, arc1/training, a folder, a JSON file, a Kaggle prefix, or a
    function package.module:name that makes tasks."""
    evaluate: tuple[str, ...] = ("arc1/evaluation",)
    """Sources of which the demonstrations are trained on and the test inputs are answered."""
    only: tuple[str, ...] = ()
    """Keep just the tasks of these ids; all where it is empty."""
    leaks: Literal["refuse", "drop"] = "refuse"
    """A training pair that gives away an evaluation test: refuse the run, or drop the pair."""
    canvas: int | Literal["fit"] = 30
    """Cells along a side of the square canvas (30 in the papers). fit (drm and diffusion): each
    example on the smallest window of the canvas that holds its grids; several times faster."""
    windows: tuple[int, ...] = (8, 11, 14, 16, 18, 21, 25, 28, 30)
    """Sides of the windows of canvas=fit, from small to large; the last one is the canvas."""
    num_augmentations: int = 1000
    """Distinct augmentations of each task beside the identity."""
    identifiers: str | None = None
    """An identifiers.json of a published dataset: its augmentations and puzzle ids, instead of
    drawn ones; num_augmentations is not used then. The work directory keeps a copy."""

    def __post_init__(self):
        _check_types(self, "data.")
        # one cell has no spread that correlated noise could be scaled by
        name = "canvas" if self.canvas != "fit" else "windows"
        for side in self.sides:
            _check(2 <= side <= MAX_SIDE, f"data.{name}", f"must be 2..{MAX_SIDE}, not {side}")
        rising = all(a < b for a, b in itertools.pairwise(self.windows))
        _check(bool(self.windows) and rising, "data.windows", "must be sides from small to large")
        _at_least(self, "data", 0, "num_augmentations")
        _check(
            self.num_augmentations <= MAX_AUGMENTATIONS,
            "data.num_augmentations",
            f"must be 0..{MAX_AUGMENTATIONS}, there are no more, not {self.num_augmentations}",
        )
        _check(bool(self.train or self.evaluate), "data.train", "name at least one source of tasks")

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the canvases that examples stand on, from small to large."""
        return self.windows if self.canvas == "fit" else (self.canvas,)

    @property
    def side(self) -> int:
        """Cells along a side of the whole canvas."""
        return self.sides[-1]


@dataclasses.dataclass(frozen=True)
class Noise:
    """How training corrupts a target."""

    schedule: str = "cosine"
    """Share of masked cells by noise level: linear, cosine, sigmoid, or package.module:function."""
    kind: NoiseKind = "uniform"
    """Independent noise a cell, or noise blurred over neighbours."""
    all_masked: float = 0.0
    """drm, diffusion: share of examples whose target is masked whole, as every test begins. Levels
    below 1000 hardly ever do that."""
    own_answers: float = 0.0
    """drm, diffusion: share of examples that start from the model's own answer to a grid masked
    whole, masked again at the level drawn, and from the z of that pass: like a later step of a
    test. Each step costs one forward pass more."""
    latent_levels: int = 100
    """sprm: levels that the noise on carried latents is drawn from, the lowest of 1000. (The
    paper's own run drew from all 1000.)"""

    def __post_init__(self):
        _name_or_reference(self.schedule, "noise.schedule", SCHEDULES)
        _check_types(self, "noise.")
        _at_least(self, "noise", 1, "latent_levels")
        _at_most(self, "noise", NUM_LEVELS, "latent_levels")
        for name in ("all_masked", "own_answers"):
            value = getattr(self, name)
            _check(0 <= value <= 1, f"noise.{name}", f"must be 0 to 1, not {value}")


@dataclasses.dataclass(frozen=True)
class Halting:
    """When an example leaves its slot of the batch (trm, sprm)."""

    max_steps: int = 16
    """Training steps after which an example leaves at the latest."""
    exploration: float = 0.1
    """Chance at each step that leaving needs a least number of steps, drawn from 2..max_steps."""

    def __post_init__(self):
        _check_types(self, "halting.")
        _at_least(self, "halting", 1, "max_steps")
        _check(
            0 <= self.exploration <= 1,
            "halting.exploration",
            f"must be 0 to 1, not {self.exploration}",
        )


@dataclasses.dataclass(frozen=True)
class Model:
    """The looped transformer. One block of `layers` layers serves every loop step."""

    hidden: int = 512
    """D, the width."""
    heads: int = 8
    """Attention heads; must divide the width into even parts."""
    layers: int = 2
    """Layers in the block. For `diffusion`, which has no recursion, the depth of the network."""
    mixer: Literal["attention", "mlp"] = "attention"
    """What mixes tokens: attention, or a SwiGLU over the token axis, for small boards."""
    cycles: int = 3
    """H: a cycle is `inner_steps` updates of z, then one of y. Also K, the reverse targets."""
    inner_steps: int = 4
    """L: updates of z in a cycle."""
    grad_cycles: int = 1
    """The last cycles, which carry gradient (1 in the papers)."""
    prefix: int = 16
    """P: puzzle tokens before the canvas."""
    expansion: float = 4.0
    """SwiGLU width is about 2/3 of this times D …"""
    swiglu_multiple: int = 256
    """… rounded up to a multiple of this."""
    remat: Literal["none", "attention", "layer"] = "none"
    """What the backward pass computes again instead of keeping it in memory: nothing; the scores
    of attention, most of the memory for a twentieth of the time (flash and cudnn keep none anyway);
    or all of a layer, for a fifth."""
    attention: Literal["auto", "plain", "blocks", "flash", "cudnn"] = "auto"
    """How attention is computed, with the same answer up to rounding: all heads at once (plain); a
    few at a time, whose scores stay in a CPU's cache (blocks); or by a kernel that keeps them on
    the chip, in bfloat16: JAX's for TPUs (flash), or NVIDIA's for GPUs (cudnn). auto: what suits
    the device: blocks on a CPU; flash or cudnn where the compute type is bfloat16; else plain."""
    vocab: int = 13
    """Tokens: 13, or 12 without MASK, as in TRM's own checkpoints (trm and sprm only)."""
    dtype: Literal["auto", "float64", "float32", "bfloat16"] = "auto"
    """Compute type; auto: bfloat16 on an accelerator, float32 on a CPU. Weights are float32.
    float32 is exact on accelerators too: no TF32, no bfloat16 passes. float64, weights too, is for
    comparisons on a CPU, with JAX_ENABLE_X64=1."""

    def __post_init__(self):
        _check_types(self, "model.")
        _at_least(
            self, "model", 1, "hidden", "heads", "layers", "cycles", "inner_steps", "grad_cycles",
            "prefix", "swiglu_multiple",
        )  # fmt: skip
        _check(
            self.hidden % (2 * self.heads) == 0,
            "model.heads",
            f"{self.heads} heads don't divide width {self.hidden} into even parts",
        )
        _check(
            0.1 <= self.expansion <= 100,
            "model.expansion",
            f"must be 0.1 to 100, not {self.expansion}",
        )
        _check(
            self.grad_cycles <= self.cycles,
            "model.grad_cycles",
            f"{self.grad_cycles} is more than the {self.cycles} cycles there are",
        )
        _check(self.vocab in (12, 13), "model.vocab", f"must be 12 or 13, not {self.vocab}")
        _at_most(self, "model", MAX_LAYERS, "layers")
        _at_most(self, "model", NUM_LEVELS, "cycles")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """AdamATan2 on the network, sign-SGD on the puzzle rows that a batch touches."""

    learning_rate: float = 1e-4
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    puzzle_learning_rate: float = 1e-2
    puzzle_weight_decay: float = 0.1
    warmup_steps: int = 2000
    """Linear warm-up of both rates: step 1 has 1/warmup_steps of them; constant afterwards."""
    ema: float = 0.999
    """Decay of the averaged weights that evaluation uses."""

    def __post_init__(self):
        _check_types(self, "optimizer.")
        _at_least(
            self, "optimizer", 0, "learning_rate", "weight_decay", "puzzle_learning_rate",
            "puzzle_weight_decay", "warmup_steps",
        )  # fmt: skip
        for name in ("beta1", "beta2", "ema"):
            value = getattr(self, name)
            _check(0 <= value < 1, f"optimizer.{name}", f"must be in [0, 1), not {value}")


@dataclasses.dataclass(frozen=True)
class Train:
    """How long, how often, what is kept."""

    steps: int = 518_000
    batch_size: int = 768
    """Examples a step over all devices."""
    accumulate: int | Literal["auto"] = "auto"
    """Parts of a batch that each device computes one after the other, adding up gradients: less
    memory, for a little more time on an accelerator. auto: on a CPU as many as keep a part in its
    caches, which is faster too; elsewhere 1."""
    log_every: int = 100
    """Steps between lines of metrics.jsonl; each is a mean over them."""
    checkpoint_every: int = 5_000
    keep_last: int = 2
    """Newest checkpoints kept."""
    keep_best: int = 1
    """Best checkpoints kept by pass@2, beside the newest. This selects on test labels."""

    def __post_init__(self):
        _check_types(self, "train.")
        _at_least(self, "train", 1, "steps", "batch_size", "log_every", "checkpoint_every")
        if self.accumulate != "auto":
            _at_least(self, "train", 1, "accumulate")
        _at_least(self, "train", 1, "keep_last")
        _at_least(self, "train", 0, "keep_best")
        _at_most(self, "train", MAX_BATCH, "batch_size")

    @property
    def least_parts(self) -> int:
        """What the examples of a device must be a multiple of."""
        return 1 if self.accumulate == "auto" else self.accumulate


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """How test inputs are answered."""

    every: int = 0
    """Training steps between evaluations; one always follows the last step. 0: only that one."""
    untrained: bool = False
    """Score the untrained model too, before step 1."""
    num_augmentations: int | None = None
    """Augmentations beside the identity that vote on each test input; None: all of the task's."""
    batch_size: int = 768
    """Candidates denoised at a time over all devices."""
    denoise_steps: int = 16
    """N, forward passes from all masked (trm, sprm: from y_init) to the answer."""
    remask: Literal["uniform", "confidence"] = "uniform"
    """What is masked again after a step: random cells, or those the model is least sure of."""
    first_remask: Literal["full", "skip"] = "full"
    """The first remask is at level 1000 and masks all, as published; `skip` keeps step 1's grid."""
    remask_schedule: Literal["linear", "training"] = "linear"
    """Share of cells that are masked again at a level: level/1000, as published, or the mask ratio
    of noise.schedule, as in training."""
    outside: Literal["predicted", "pad"] = "predicted"
    """What a step finds outside of the grid that the step before answered: whatever was predicted
    there, as published; or PAD, as in training."""
    carry_z: bool = True
    """z goes on from step to step, as published; if false, each begins with z_init, as in
    training."""
    trajectories: Literal["selected", "failures", "all", "off"] = "selected"
    """Whose denoising is written: of each test input the unaugmented candidate's, and of those who
    were the first to give the best two answers and the truth; failures: all wrong ones' too."""

    def __post_init__(self):
        _check_types(self, "evaluate.")
        _at_least(self, "evaluate", 0, "every")
        _at_least(self, "evaluate", 1, "batch_size", "denoise_steps")
        _at_most(self, "evaluate", MAX_BATCH, "batch_size")
        _at_most(self, "evaluate", NUM_LEVELS, "denoise_steps")
        if self.num_augmentations is not None:
            _at_least(self, "evaluate", 0, "num_augmentations")


AT_TEST = (
    "denoise_steps", "remask", "first_remask", "remask_schedule", "outside", "carry_z",
    "num_augmentations",
)  # fmt: skip
"""Fields of `Evaluate` that answers depend on, and that a checkpoint may be scored with anew."""


_OF_DENOISING = (
    "noise.all_masked", "noise.own_answers", "evaluate.remask_schedule", "evaluate.outside",
    "evaluate.carry_z",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that decides a run, but for the rounding of the devices that it runs on."""

    name: str
    seed: int = 0
    init_from: str | None = None
    """Work directory whose newest checkpoint gives the weights to begin with; new puzzle rows."""
    data: Data = Data()
    noise: Noise = Noise()
    objective: str = "drm"
    """What a batch is trained on: drm, trm, sprm, diffusion, or a loss of your own,
    package.module:function."""
    supervision: Literal["final", "path"] = "final"
    """drm: score the grid after the last cycle, or after every cycle k that of noise level t_k."""
    halting: Halting = Halting()
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()

    def __post_init__(self):
        _check_types(self, "")
        name = self.name
        named = name.isprintable() and name.strip(". ") and not {"/", "\\"} & set(name)
        _check(bool(named), "name", f"must be the name of a folder in runs/, not {name!r}")
        _check(0 <= self.seed <= MAX_NUMBER, "seed", f"must be 0..{MAX_NUMBER}, not {self.seed}")
        _name_or_reference(self.objective, "objective", OBJECTIVES)
        model, path = self.model, self.supervision == "path"
        _check(
            not path or self.objective == "drm",
            "supervision",
            f"path is for the objective drm, not {self.objective}",
        )
        _check(
            not path or model.grad_cycles == model.cycles,
            "model.grad_cycles",
            f"supervision=path scores every cycle: must be {model.cycles}, not {model.grad_cycles}",
        )
        rooms = {"noise": Noise(), "evaluate": Evaluate()}
        for field in _OF_DENOISING:
            room, name = field.split(".")
            unused = getattr(getattr(self, room), name) == getattr(rooms[room], name)
            _check(
                unused or self.objective not in CARRIED,
                field,
                f"is for the objectives drm and diffusion, not {self.objective}",
            )
        _check(
            self.evaluate.carry_z or self.objective != "diffusion",
            "evaluate.carry_z",
            "diffusion has no z: is for the objective drm",
        )
        _check(
            not self.noise.own_answers or (self.objective in OBJECTIVES and not path),
            "noise.own_answers",
            "is for the objectives drm, with supervision=final, and diffusion",
        )
        fits = self.data.canvas == "fit"
        _check(
            not fits or self.objective not in CARRIED,
            "data.canvas",
            f"fit is not for the objective {self.objective}, whose slots carry latents of one size "
            "from example to example: give the canvas one side, such as 30",
        )
        _check(
            not fits or model.mixer == "attention",
            "data.canvas",
            f"fit needs model.mixer=attention: the weights of {model.mixer} are for one size",
        )
        _check(
            model.vocab == 13 or self.objective in CARRIED,
            "model.vocab",
            f"the objective {self.objective} needs MASK: must be 13, not {model.vocab}",
        )


def with_changes(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """An experiment with other values of some fields, named as in "model.hidden", one by one.

    Raises:
      UsageError: a value can't be, or not together with those before it.
    """
    for name, value in changes.items():
        part, _, field = name.rpartition(".")
        if part:
            value, field = dataclasses.replace(getattr(experiment, part), **{field: value}), part
        experiment = dataclasses.replace(experiment, **{field: value})
    return experiment


# --- JSON --------------------------------------------------------------------------------------
def to_json(experiment: Experiment) -> str:
    return json.dumps(dataclasses.asdict(experiment), indent=2) + "\n"


def from_json(text: str) -> Experiment:
    """The experiment that `to_json` wrote.

    Raises:
      UsageError: not JSON, an unknown or missing field, or a value of the wrong type.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"not a configuration: {error}") from error
    except RecursionError as error:
        raise UsageError("not a configuration: brackets nested too deeply") from error
    return _build(Experiment, value, "")


# Cuts long values short, and does not recurse into deep ones.
_shown = reprlib.repr


def _build(cls: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise UsageError(f"{where or 'config'}: expected an object, found {_shown(value)}")
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        name = unknown[0] if unknown[0].isprintable() else repr(unknown[0])
        raise UsageError(f"{where}{name}: unknown field; known are {', '.join(hints)}")
    needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
    missing = sorted(needed - set(value))
    if missing:
        raise UsageError(f"{where}{missing[0]}: is missing")
    return cls(**{k: _value(hints[k], v, f"{where}{k}") for k, v in value.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{where}.")
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in args:
            return value
        raise UsageError(f"{where}: {_shown(value)} is not one of {', '.join(map(repr, args))}")
    if origin is tuple and isinstance(value, list):
        return tuple(_value(args[0], item, where) for item in value)
    allowed = args if origin in _UNIONS else (hint,)
    words = [word for arg in allowed if typing.get_origin(arg) is Literal
             for word in typing.get_args(arg)]  # fmt: skip
    if isinstance(value, str) and value in words:
        return value
    if float in allowed and type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            raise UsageError(f"{where}: {_shown(value)} is too large") from error
    if type(value) in allowed:
        return value
    names = [repr(word) for word in words]
    names = [t.__name__ for t in allowed if typing.get_origin(t) is not Literal] + names
    raise UsageError(f"{where}: {_shown(value)} is not {' or '.join(names)}")
