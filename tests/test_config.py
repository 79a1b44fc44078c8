import dataclasses
import json
import math

import pytest

from drm_jax.config import (
    Evaluate,
    Experiment,
    Optimizer,
    Train,
    from_json,
    part_name,
    to_json,
    with_changes,
)
from drm_jax.errors import UsageError
from drm_jax.fields import added, check, check_fields, stable_repr
from drm_jax.methods.carried import Halting
from drm_jax.methods.denoising import Denoising, Noise
from drm_jax.methods.diffusion import Diffusion
from drm_jax.methods.drm import Drm, RecursiveDenoising
from drm_jax.methods.drm_rollout import DrmRollout
from drm_jax.methods.method import Method
from drm_jax.methods.sprm import Sprm
from drm_jax.methods.trm import Trm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import TokenMixer, Transformer
from drm_jax.puzzles.arc.family import Arc
from drm_jax.references import reference_to


@dataclasses.dataclass(frozen=True)
class Schedule:
    levels: tuple[int, ...] = (1, 2)
    warm: bool = False


@dataclasses.dataclass(frozen=True)
class Own(Method):
    """A method of a user's own, which shares an option with the built-in ones."""

    recursion: Recursion = Recursion()
    schedule: Schedule = Schedule()
    rate: float | None = None

    def __post_init__(self):
        check_fields(self, "method")
        check(self.rate != 7, "method.rate", "is not to be 7")


@dataclasses.dataclass(frozen=True)
class Given(Method):
    """A method of a user's own whose options must be given."""

    recursion: Recursion
    rollout: int


# --- JSON ---------------------------------------------------------------------------------------
PARTS = {
    "data": [Arc(train=("a", "b"), only=("c",)), Arc(canvas="fit", windows=(4, 9))],
    "method": [
        Drm(Recursion(2, 3, 2), Noise("linear", all_masked=0.5), "path"),
        Drm(denoising=RecursiveDenoising("confidence", "skip", "training", "pad", False)),
        Trm(halting=Halting(3, 0.5), mask_token=False),
        Sprm(latent_levels=7),
        Diffusion(Noise(own_answers=0.25, replace="symbols"), Denoising("confidence")),
        Own(schedule=Schedule((3,), True), rate=0.5),
    ],
    "model": [Transformer(hidden=8, heads=2, attention="plain"), TokenMixer(remat="layer")],
}


@pytest.mark.parametrize(
    ("part", "value"), [(part, value) for part, values in PARTS.items() for value in values]
)
def test_json_round_trip(part, value):
    if part == "data" and value.canvas == "fit":
        assert len(value.boards) == 2
    experiment = Experiment("x", seed=3, **{part: value})
    text = to_json(experiment)
    assert from_json(text) == experiment
    assert json.loads(text)[part]["type"] == part_name(part, value)


def test_names_of_parts():
    names = {type(value): part_name("method", value) for value in PARTS["method"]}
    assert names == {
        Drm: "drm", Trm: "trm", Sprm: "sprm", Diffusion: "diffusion", Own: reference_to(Own),
    }  # fmt: skip
    for value in PARTS["method"]:
        made = Experiment("x", method=names[type(value)]).method
        assert made == type(value)()
    assert Experiment("x", model="token_mixer").model == TokenMixer()


def changed(path: str, value) -> str:
    tree = json.loads(to_json(Experiment("x")))
    *groups, last = path.split(".")
    target = tree
    for group in groups:
        target = target[group]
    target[last] = value
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a configuration"),
        ("[]", "config: expected an object"),
        ("{}", "name: is missing"),
        ("[" * 100_000, "nested too deeply"),
        ('{"name": ' + "[" * 900 + "]" * 900 + "}", r"name: must be str, not \[+\.\.\.\]+"),
        (changed("optimizer.ema", 10**400), r"optimizer.ema: is out of range: .*not 10+\.\.\.0+"),
        (
            changed("method.noise.schedule", ["linear"]),
            r"method.noise.schedule: must be str, not \['linear'\]",
        ),
        (changed("model.two\nlines", 3), r"model.'two\\nlines': unknown field"),
        (changed("model.hiden", 3), "model.hiden: unknown field"),
        (changed("model.hidden", "3"), "model.hidden: must be int, not '3'"),
        (changed("model.hidden", True), "model.hidden: must be int, not True"),
        (changed("method.noise.schedule", "square"), "noise.schedule: 'square' is not one of"),
        (changed("method.halting", {}), "method.halting: unknown field; known are recursion"),
        (changed("data.only", [1]), r"data.only: must be str, not \[1\]"),
        (changed("data.canvas", "fot"), "data.canvas: must be one of fit or int, not 'fot'"),
        (changed("evaluate.num_augmentations", 1.5), "must be int or null, not 1.5"),
        (changed("model", 3), 'model: expected an object with a "type", found 3'),
        (changed("model", {"hidden": 3}), 'model: expected an object with a "type"'),
        (changed("model.type", "tranformer"), "'tranformer' is not one of .*mean transformer"),
        (changed("method.type", "no_such:Method"), "method no_such:Method: there is no module"),
        (changed("method.type", "json:dumps"), "method: json:dumps: must be a frozen dataclass"),
        (changed("optimizer", None), "optimizer: expected an object, found None"),
        (changed("objective", "drm"), "written by an earlier version of drm_jax"),
    ],
)
def test_bad_json_names_the_field(text, message):
    with pytest.raises(UsageError, match=message) as error:
        from_json(text)
    assert len(str(error.value).splitlines()) == 1


def test_a_config_of_the_version_before_is_refused_in_one_line():
    before = {
        "name": "x", "seed": 0, "init_from": None, "data": {"train": ["arc1/training"]},
        "noise": {"schedule": "cosine"}, "objective": "trm", "supervision": "final",
        "halting": {}, "model": {"hidden": 512, "mixer": "attention"},
    }  # fmt: skip
    with pytest.raises(UsageError, match="begin a new run") as error:
        from_json(json.dumps(before))
    assert len(str(error.value).splitlines()) == 1


def test_whole_numbers_are_floats_too():
    value = from_json(changed("optimizer.ema", 0)).optimizer.ema
    assert (value, type(value)) == (0, float)


# --- values that can't be -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Transformer(heads=3), "model.heads: 3 heads don't divide"),
        (lambda: Transformer(hidden=8, heads=8), "model.heads"),
        (lambda: Recursion(grad_cycles=4), "method.recursion.grad_cycles: 4 is more than the 3"),
        (
            lambda: Noise(all_masked=1.1),
            "method.noise.all_masked: must be float <= 1.0, not 1.1",
        ),
        (lambda: Drm(supervision="path"), "method.recursion.grad_cycles: supervision=path scores"),
        (
            lambda: Drm(Recursion(grad_cycles=3), Noise(own_answers=0.5), "path"),
            "method.noise.own_answers: is for supervision=final",
        ),
        (lambda: Drm(recursion=None), "method.recursion: must be Recursion, not None"),
        (lambda: Diffusion(denoising=Noise()), "method.denoising: must be Denoising, not Noise"),
        (lambda: Sprm(latent_levels=1001), "method.latent_levels: must be int <= 1000"),
        (lambda: Transformer(prefix=0), "model.prefix: must be int >= 1, not 0"),
        (lambda: TokenMixer(remat="attention"), "model.remat: must be one of none, layer"),
        (lambda: Arc(canvas=1), "data.canvas: must be int >= 2, not 1"),
        (lambda: Arc(canvas=31), "data.canvas: must be int <= 30, not 31"),
        (lambda: Arc(windows=(9, 4)), "data.windows: must be sides from small to large"),
        (lambda: Arc(train=(), evaluate=()), "data.train: name at least one source"),
        (lambda: Arc(train="arc1"), "data.train: must be a tuple, not 'arc1'"),
        (lambda: Arc(train=["arc1"]), "data.train: must be a tuple"),
        (lambda: Arc(num_augmentations=8 * 362_880), "num_augmentations: must be int <= 2903039"),
        (lambda: Optimizer(ema=1.0), "optimizer.ema: must be float < 1.0"),
        (lambda: Optimizer(beta1=math.nan), "optimizer.beta1"),
        (lambda: Optimizer(learning_rate=math.inf), "optimizer.learning_rate: .*<= 2.*, not inf"),
        (lambda: Optimizer(weight_decay=math.nan), "optimizer.weight_decay: .*>= 0.0, not nan"),
        (lambda: Optimizer(puzzle_weight_decay=-math.inf), "optimizer.puzzle_weight_decay: must"),
        (lambda: Transformer(expansion=math.inf), "model.expansion: must be float <= 100.0"),
        (lambda: Train(batch_size=10**400), "train.batch_size"),
        (lambda: Train(steps=2**31), "train.steps: must be int <= 2147483647, not 2147483648"),
        (lambda: Train(batch_size=0), "train.batch_size: must be int >= 1, not 0"),
        (lambda: Train(accumulate="much"), "train.accumulate: must be one of auto or int"),
        (lambda: Train(steps=True), "train.steps: must be int, not True"),
        (lambda: Evaluate(denoise_steps=1001), "evaluate.denoise_steps: must be int <= 1000"),
        (lambda: Experiment("x", seed=-1), "seed: must be int >= 0"),
        (lambda: Experiment("a/b"), "name: must be the name of a folder in runs/"),
        (lambda: Experiment("x", train=Evaluate()), "train: must be Train, not Evaluate"),
        (lambda: Experiment("x", method="dmr"), "method: 'dmr' is not one of .*did you mean drm"),
        (lambda: Experiment("x", method=Drm), "method: must be an instance of a frozen dataclass"),
        (lambda: Experiment("x", method=TokenMixer()), "method: can't be TokenMixer.*has no loss"),
        (lambda: Experiment("x", model=Drm()), "model: can't be Drm.*has no hidden"),
        (
            lambda: Experiment("x", data=Arc(canvas="fit"), method="sprm"),
            "data.canvas: fit is not for a method that carries",
        ),
    ],
)
def test_impossible_values_name_the_field(make, message):
    with pytest.raises(UsageError, match=message) as error:
        make()
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("trm", "noise"),
        ("trm", "denoising"),
        ("sprm", "supervision"),
        ("drm", "halting"),
        ("drm", "latent_levels"),
        ("diffusion", "recursion"),
        ("diffusion", "denoising.carry_z"),
    ],
)
def test_options_that_would_do_nothing_are_not_there(method, option):
    with pytest.raises(UsageError, match=f"method.{option}: unknown field"):
        with_changes(Experiment("x", method=method), {f"method.{option}": 1})


def test_limits_are_allowed():
    assert Arc(num_augmentations=8 * 362_880 - 1).num_augmentations == 2_903_039
    assert Train(steps=2**31 - 1).steps == 2**31 - 1


def test_what_was_added_is_told_where_it_is_used():
    """So that the fingerprint of a run from before is the same."""
    assert stable_repr(Recursion()) == "Recursion(cycles=3, inner_steps=4, grad_cycles=1)"
    used = Recursion(grad_inner_steps=2)
    assert stable_repr(used) == repr(used)

    @dataclasses.dataclass(frozen=True)
    class Outer:
        inner: Recursion = used
        name: str = "x"
        more: int = added(3)

    prefix = Outer.__qualname__
    assert stable_repr(Outer()) == f"{prefix}(inner={used!r}, name='x')"
    assert stable_repr(Outer(more=4)) == repr(Outer(more=4))
    assert stable_repr("x") == "'x'"


# --- changes ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "changes",
    [
        {"model.hidden": 100, "model.heads": 10},
        {"method.recursion.cycles": 1, "method.recursion.grad_cycles": 1},
        {"method.supervision": "path", "method.recursion.grad_cycles": 3},
        {"method": "trm", "method.recursion.cycles": 5},
        {"model": "token_mixer", "model.hidden": 7},
        {"train.steps": 3, "optimizer": Optimizer(ema=0.5), "seed": 4},
    ],
)
def test_changes_are_made_at_once(changes):
    """In whatever order they come."""
    names = list(changes)
    one = with_changes(Experiment("x"), changes)
    assert one == with_changes(Experiment("x"), {name: changes[name] for name in names[::-1]})
    for name, value in changes.items():
        found = one
        for field in name.split("."):
            found = getattr(found, field)
        if isinstance(value, str) and name in PARTS:
            found = part_name(name, found)
        assert found == value


def test_another_method_has_its_own_defaults():
    made = with_changes(Experiment("x"), {"method": "drm_rollout"}).method
    assert made == DrmRollout()
    made = with_changes(Experiment("x", method=Drm(Recursion(2, 1))), {"method": "drm_rollout"})
    assert made.method == DrmRollout(Recursion(2, 1))
    given = Experiment("x", method=Given(Recursion(), rollout=4))
    assert with_changes(given, {"method": "drm_rollout"}).method == DrmRollout(Recursion())


def test_another_method_keeps_options_of_the_same_name():
    base = Experiment(
        "x",
        method=Drm(
            Recursion(5, 6, 2), Noise("linear"), denoising=RecursiveDenoising(first_remask="skip")
        ),
    )
    assert with_changes(base, {"method": "trm"}).method == Trm(Recursion(5, 6, 2))
    diffusion = Diffusion(Noise("linear"), Denoising(first_remask="skip"))
    assert with_changes(base, {"method": "diffusion"}).method == diffusion
    assert with_changes(base, {"method": reference_to(Own)}).method == Own(Recursion(5, 6, 2))
    as_given = with_changes(base, {"method": Trm(), "method.halting.max_steps": 3})
    assert as_given.method == Trm(halting=Halting(3))
    model = Transformer(hidden=64, heads=4, prefix=3)
    mixed = with_changes(Experiment("x", model=model), {"model": "token_mixer"}).model
    assert mixed == TokenMixer(hidden=64, prefix=3)
    by_attention = Experiment("x", model=Transformer(remat="attention"))  # a mixer has no such kind
    assert with_changes(by_attention, {"model": "token_mixer"}).model == TokenMixer()
    both = with_changes(by_attention, {"model": "token_mixer", "model.remat": "layer"}).model
    assert both == TokenMixer(remat="layer")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeed": 3}, "seeed: unknown field; did you mean seed"),
        ({"model.hiden": 3}, "model.hiden: unknown field; did you mean hidden"),
        ({"name.x": 3}, "name: must be str"),
        ({"model.hidden": 100}, "model.heads: 8 heads don't divide"),
        (
            {"method.recursion": Recursion(2), "method.recursion.cycles": 5},
            "method.recursion.cycles: recursion is changed as a whole too",
        ),
        (
            {"method.recursion.cycles": 5, "method.recursion": Recursion(2)},
            "method.recursion: a field of it is changed too",
        ),
    ],
)
def test_changes_that_cannot_be(changes, message):
    with pytest.raises(UsageError, match=message) as error:
        with_changes(Experiment("x"), changes)
    assert len(str(error.value).splitlines()) == 1
