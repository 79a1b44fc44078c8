"""All of a run in frozen dataclasses, checked when they are made; JSON both ways.

`Experiment` is the whole. Three of its parts are of many kinds, each a frozen dataclass with its
own options: `data`, a family of puzzles; `method`, what is trained and how it answers; `model`, the
network. Each is a built-in one, or a class of your own, "package.module:name".
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from drm_jax.errors import UsageError
from drm_jax.fields import (
    NUM_LEVELS,
    Batch,
    Count,
    CountOrZero,
    Decay,
    Rate,
    Share,
    check,
    check_fields,
    convert,
    field_hints,
    shown,
)
from drm_jax.references import (
    did_you_mean,
    find_module,
    is_reference,
    load,
    reference_to,
)

PARTS: Mapping[str, Mapping[str, str]] = {
    "data": {
        "arc": "drm_jax.puzzles.arc.family:Arc",
        "sudoku": "drm_jax.puzzles.sudoku.family:Sudoku",
        "maze": "drm_jax.puzzles.maze.family:Maze",
    },
    "method": {
        "drm": "drm_jax.methods.drm:Drm",
        "trm": "drm_jax.methods.trm:Trm",
        "sprm": "drm_jax.methods.sprm:Sprm",
        "diffusion": "drm_jax.methods.diffusion:Diffusion",
        "drm_rollout": "drm_jax.methods.drm_rollout:DrmRollout",
    },
    "model": {
        "transformer": "drm_jax.model.transformer:Transformer",
        "token_mixer": "drm_jax.model.transformer:TokenMixer",
    },
}
"""The built-in kinds of each part of an experiment, by the names that a config may use for them."""
_NEEDED = {"data": ("boards", "load"), "method": ("loss", "answer"), "model": ("hidden", "network")}
"""What each part is used by, to tell one from another."""


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """AdamATan2 (or Muon, of hidden matrices) on the network, sign-SGD on the puzzle rows that a
    batch touches."""

    learning_rate: Rate = 1e-4
    weight_decay: Rate = 0.1
    beta1: Decay = 0.9
    beta2: Decay = 0.95
    puzzle_learning_rate: Rate = 1e-2
    puzzle_weight_decay: Rate = 0.1
    warmup_steps: CountOrZero = 2000
    """Linear warm-up of both rates: step 1 has 1/warmup_steps of them; constant afterwards."""
    ema: Decay = 0.999
    """Decay of the averaged weights that evaluation uses."""
    rows_first: CountOrZero = 0
    """Steps at the beginning that train the puzzle rows alone; the network's warm-up comes after
    them. For a network that is trained already, on tasks that it has not seen."""
    matrices: Literal["adam_atan2", "muon"] = "adam_atan2"
    """What trains the matrices of the hidden layers. muon: momentum 0.95, made nearly orthogonal;
    its steps are scaled to the size of Adam's, so learning_rate and weight_decay hold for it too,
    the betas don't. Embeddings, heads and the rest have AdamATan2 in any case."""

    def __post_init__(self):
        check_fields(self, "optimizer")


@dataclasses.dataclass(frozen=True)
class Train:
    """How long, how often, what is kept."""

    steps: Count = 518_000
    batch_size: Batch = 768
    """Examples a step over all devices."""
    accumulate: Literal["auto"] | Count = "auto"
    """Parts of a batch that each device computes one after the other, adding up gradients: less
    memory, for a little more time on an accelerator. auto: on a CPU as many as keep a part in its
    caches, which is faster too; elsewhere 1."""
    log_every: Count = 100
    """Steps between lines of metrics.jsonl; each is a mean over them."""
    checkpoint_every: Count = 5_000
    keep_last: Count = 2
    """Newest checkpoints kept."""
    keep_best: CountOrZero = 1
    """Best checkpoints kept by score, beside the newest. This selects on test labels."""
    tracker: Literal["none", "wandb", "trackio"] = "none"
    """A tracker that gets the numbers of metrics.jsonl too. Offline, unless WANDB_MODE,
    TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says otherwise."""

    def __post_init__(self):
        check_fields(self, "train")

    @property
    def least_parts(self) -> int:
        """What the examples of a device must be a multiple of."""
        return 1 if self.accumulate == "auto" else self.accumulate


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """How test inputs are answered."""

    every: CountOrZero = 0
    """Training steps between evaluations; one always follows the last step. 0: only that one."""
    untrained: bool = False
    """Score the model before step 1 too: untrained, or with the weights of init_from."""
    num_augmentations: CountOrZero | None = None
    """Augmentations beside the identity that vote on each test input. None (all, for the command):
    as the family of puzzles does by default: ARC takes all of the task's, Sudoku none."""
    batch_size: Batch = 768
    """Candidates answered at a time over all devices."""
    denoise_steps: Annotated[int, Meta(ge=1, le=NUM_LEVELS)] = 16
    """N, forward passes from the start (all masked; trm, sprm: y_init) to the answer."""
    rollouts: Count = 1
    """How often each candidate is answered, each time with random draws of its own. All vote."""
    latent_noise: Rate = 0.0
    """Standard deviation of noise on the latents that each pass begins from; their mean square is
    about 1. Rollouts of a method that draws nothing at a test (trm, sprm) differ by it alone."""
    choose: Literal["votes", "halting", "rules"] = "votes"
    """Which answers come first: those with the most votes, those with the highest halting score, or
    those that keep the rules of their puzzle (of a family that has some), then the votes."""
    exit_change: Share | None = None
    """An answer is final before the last pass once at most this share of its cells changes from one
    pass to the next. None: never."""
    exit_entropy: Rate | None = None
    """Likewise once the entropy of its cells, in nats, is at most this on average."""
    trajectories: Literal["selected", "failures", "all", "off"] = "selected"
    """Whose denoising is written: of each test input the unaugmented candidate's, and of those who
    were the first to give the best two answers and the truth; failures: all wrong ones' too."""

    def __post_init__(self):
        check_fields(self, "evaluate")

    @property
    def exits_early(self) -> bool:
        """Whether an answer may be final before the last pass."""
        return self.exit_change is not None or self.exit_entropy is not None


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that decides a run, but for the rounding of the devices that it runs on."""

    name: str
    """Of the run, which is kept in runs/NAME if no other place is named."""
    seed: CountOrZero = 0
    init_from: str | None = None
    """Work directory whose newest checkpoint gives the weights to begin with; new puzzle rows."""
    data: Any = "arc"
    """The puzzles: a family (`puzzles.family.Family`), or its name; then with default options."""
    method: Any = "drm"
    """What is trained and how it answers: a `methods.method.Method`, or its name."""
    model: Any = "transformer"
    """The network: a `model.backbone.Backbone`, or its name."""
    optimizer: Optimizer = Optimizer()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()

    def __post_init__(self):
        for part in PARTS:
            value = getattr(self, part)
            made = make_part(part, value) if isinstance(value, str) else value
            if not dataclasses.is_dataclass(made) or isinstance(made, type):
                raise UsageError(f"{part}: must be an instance of a frozen dataclass, not {made!r}")
            for name in _NEEDED[part]:
                check(hasattr(made, name), part, f"can't be {shown(made)}, which has no {name}")
            object.__setattr__(self, part, made)
        check_fields(self)
        name = self.name
        if not (name.isprintable() and name.strip(". ") and not {"/", "\\"} & set(name)):
            raise UsageError(f"name: must be the name of a folder in runs/, not {name!r}")
        self.method.check(self.data, self.model)
        self.method.check_test(self.evaluate)
        check(
            self.evaluate.choose != "rules" or getattr(self.data, "has_rules", False),
            "evaluate.choose",
            f"rules: {part_name('data', self.data)} has no rules that tell a right answer",
        )


# --- parts of many kinds ------------------------------------------------------------------------
def make_part(part: str, name: str, like: Any = None) -> Any:
    """A part of an experiment by its name, with default options.

    Args:
      part: data, method or model.
      name: of a built-in one, or "package.module:name" of a frozen dataclass.
      like: another one, whose options are kept where they aren't at their default there, and the
        new one has them too and takes the value; not of a family of puzzles, whose options mean
        other things in another one.

    Raises:
      UsageError: there is no such one.
    """
    cls = _class_of(part, name)
    if like is None or part == "data":
        return cls()
    needed = _needed_fields(type(like))
    return _like(cls(), like, None if needed else type(like)())


def part_name(part: str, value: Any) -> str:
    """The name by which `make_part` finds the class of a part."""
    reference = reference_to(type(value))
    for name, built_in in PARTS[part].items():
        if built_in == reference:
            return name
    module, _, name = reference.partition(":")
    if not is_reference(reference) or module == "__main__" or find_module(module) is None:
        raise UsageError(
            f"{part}: the class {name} can't be found again by its name, {reference}: define it at "
            "the top level of a module that can be imported from here"
        )
    return reference


def _class_of(part: str, name: str) -> type:
    reference = PARTS[part].get(name, name)
    if not is_reference(reference):
        raise UsageError(
            f"{part}: {name!r} is not one of {', '.join(PARTS[part])}, and not a reference "
            f"package.module:name{did_you_mean(name, PARTS[part])}"
        )
    cls = load(reference, part)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise UsageError(f"{part}: {name}: must be a frozen dataclass, not {cls!r}")
    return cls


def _like(made: Any, other: Any, default: Any) -> Any:
    """A dataclass with the options of another that aren't at their default there.

    Args:
      default: what `other` is by default; None if it has fields that must be given: all that it
        has is taken over then.
    """
    kept, missing = {}, dataclasses.MISSING
    for field in dataclasses.fields(made):
        name, mine = field.name, getattr(made, field.name)
        theirs, was = (getattr(of, name, missing) for of in (other, default))
        if dataclasses.is_dataclass(mine) and dataclasses.is_dataclass(theirs):
            kept[name] = _like(mine, theirs, was)
        elif theirs is not missing and theirs != was and _takes(type(made), name, theirs):
            kept[name] = theirs
    return dataclasses.replace(made, **kept)


def _needed_fields(cls: type) -> set[str]:
    """The names of a dataclass's fields that have no default."""
    none = dataclasses.MISSING
    fields = dataclasses.fields(cls)
    return {f.name for f in fields if f.default is none and f.default_factory is none}


def _takes(cls: type, name: str, value: Any) -> bool:
    """Whether an option may have a value: only some models have each kind of `remat`."""
    try:
        convert(field_hints(cls)[name], value, name)
    except UsageError:
        return False
    return True


def with_changes(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """An experiment with other values of some fields, named as in "model.hidden".

    All changes are made at once, so that values may be given in any order. A name in place of a
    part of many kinds ("method": "trm") stands for one that takes over what was set of the part
    before (see `make_part`); changes of its fields come on top.

    Raises:
      UsageError: a value can't be, or they don't go together.
    """
    tree: dict[str, Any] = {}
    for name, value in changes.items():
        *groups, field = name.split(".")
        here = tree
        for group in groups:
            here = here.setdefault(group, {})
            check(isinstance(here, dict), name, f"{group} is changed as a whole too")
        if not groups and field in PARTS:
            here.setdefault(field, {})[""] = value
        else:
            check(field not in here, name, "a field of it is changed too")
            here[field] = value
    return _changed(experiment, tree, "")


def _changed(config: Any, tree: Mapping[str, Any], where: str) -> Any:
    fields = {field.name for field in dataclasses.fields(config)}
    values = {}
    for name, value in tree.items():
        if name not in fields:
            raise UsageError(f"{where}{name}: unknown field{did_you_mean(name, fields)}")
        old = getattr(config, name)
        if isinstance(value, dict) and not where and name in PARTS and "" in value:
            value = dict(value)
            new = value.pop("")
            old = make_part(name, new, old) if isinstance(new, str) else new
        nested = isinstance(value, dict) and dataclasses.is_dataclass(old)
        values[name] = _changed(old, value, f"{where}{name}.") if nested else value
    return dataclasses.replace(config, **values)


# --- JSON ---------------------------------------------------------------------------------------
def to_json(experiment: Experiment) -> str:
    """The experiment as a JSON object; parts of many kinds have their names as "type"."""
    tree = dataclasses.asdict(experiment)
    for part in PARTS:
        tree[part] = {"type": part_name(part, getattr(experiment, part)), **tree[part]}
    return json.dumps(tree, indent=2) + "\n"


def from_json(text: str) -> Experiment:
    """The experiment that `to_json` wrote.

    Raises:
      UsageError: not JSON, an unknown or missing field, or a value that can't be.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"not a configuration: {error}") from error
    except RecursionError as error:
        raise UsageError("not a configuration: brackets nested too deeply") from error
    if isinstance(value, dict) and "objective" in value:
        raise UsageError(
            "written by an earlier version of drm_jax, before methods and families of puzzles had "
            "options of their own: use that version, or begin a new run"
        )
    return _build(Experiment, value, "")


def _build(cls: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise UsageError(
            f"{where.rstrip('.') or 'config'}: expected an object, found {shown(value)}"
        )
    hints = field_hints(cls)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        name = unknown[0] if unknown[0].isprintable() else repr(unknown[0])
        raise UsageError(f"{where}{name}: unknown field; known are {', '.join(hints)}")
    missing = sorted(_needed_fields(cls) - set(value))
    if missing:
        raise UsageError(f"{where}{missing[0]}: is missing")
    return cls(**{k: _built_value(hints[k], k, v, where) for k, v in value.items()})


def _built_value(hint: Any, name: str, value: Any, where: str) -> Any:
    if not where and name in PARTS:
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            raise UsageError(f'{name}: expected an object with a "type", found {shown(value)}')
        options = {k: v for k, v in value.items() if k != "type"}
        return _build(_class_of(name, value["type"]), options, f"{name}.")
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{where}{name}.")
    return convert(hint, value, f"{where}{name}")
