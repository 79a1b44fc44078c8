"""Any valid Experiment survives JSON; anything else is a UsageError of one line."""

import dataclasses
import json
import math
import typing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import JSON, TEXT, damaged, damaged_text

from drm_jax.config import Evaluate, Experiment, Optimizer, Train, from_json, to_json
from drm_jax.corruption.schedules import SCHEDULES
from drm_jax.errors import UsageError
from drm_jax.fields import MAX_BATCH, MAX_NUMBER, NUM_LEVELS, field_hints
from drm_jax.methods.carried import Halting
from drm_jax.methods.denoising import Denoising, Noise
from drm_jax.methods.diffusion import Diffusion
from drm_jax.methods.drm import Drm, RecursiveDenoising
from drm_jax.methods.drm_rollout import DrmRollout
from drm_jax.methods.sprm import Sprm
from drm_jax.methods.trm import Trm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import TokenMixer, Transformer
from drm_jax.puzzles.arc.augment import MAX_AUGMENTATIONS
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.tasks import MAX_SIDE
from drm_jax.references import is_reference

COUNTS = st.integers(1, MAX_NUMBER)
RATES = st.floats(0, MAX_NUMBER)
DECAYS = st.floats(0, 1, exclude_max=True)
REFERENCES = st.from_regex(r"[a-z_][a-z0-9_.]{0,8}[a-z]:[A-Za-z_]{1,9}", fullmatch=True).filter(
    is_reference
)
SOURCES = st.lists(TEXT, min_size=1, max_size=3).map(tuple)


SIZES = {
    "layers": st.integers(1, 1000),
    "prefix": COUNTS,
    "expansion": st.floats(0.1, 100),
    "swiglu_multiple": COUNTS,
}


@st.composite
def transformers(draw: st.DrawFn) -> Transformer:
    heads, sizes = draw(st.integers(1, 64)), {name: draw(size) for name, size in SIZES.items()}
    hidden = 2 * heads * draw(st.integers(1, 64))
    halved = [] if hidden // heads % 4 else ["board"]
    kinds = draw(st.fixed_dictionaries({
        "remat": st.sampled_from(["none", "attention", "layer"]),
        "attention": st.sampled_from(["auto", "plain", "blocks", "flash", "cudnn"]),
        "dtype": st.sampled_from(["auto", "float32", "bfloat16"]),
        "convolution": st.booleans(),
        "positions": st.sampled_from(["sequence", *halved]),
    }))  # fmt: skip
    return Transformer(hidden=hidden, heads=heads, **sizes, **kinds)


@st.composite
def recursions(draw: st.DrawFn) -> Recursion:
    cycles = draw(st.integers(1, 20))
    inner_steps = draw(COUNTS)
    grad_inner_steps = draw(st.none() | st.integers(1, inner_steps))
    return Recursion(cycles, inner_steps, draw(st.integers(1, cycles)), grad_inner_steps)


NOISES = st.builds(
    Noise,
    schedule=st.sampled_from([*SCHEDULES]) | REFERENCES,
    kind=...,
    all_masked=st.floats(0, 1),
    own_answers=st.floats(0, 1),
    replace=...,
)
AT_TEST = {"remask": ..., "first_remask": ..., "remask_schedule": ..., "outside": ...}
HALTINGS = st.builds(Halting, max_steps=COUNTS, exploration=st.floats(0, 1))
METHODS = st.one_of(
    st.builds(
        Drm,
        recursion=recursions(),
        noise=NOISES,
        denoising=st.builds(RecursiveDenoising, carry_z=..., **AT_TEST),
    ),
    st.builds(Trm, recursion=recursions(), halting=HALTINGS, mask_token=...),
    st.builds(Sprm, recursion=recursions(), halting=HALTINGS, latent_levels=st.integers(1, 1000)),
    st.builds(Diffusion, noise=NOISES, denoising=st.builds(Denoising, **AT_TEST)),
    st.builds(
        DrmRollout,
        recursion=recursions(),
        rollout=st.integers(1, 1000),
        from_target=st.floats(0.01, 1),
        halts=...,
        noise=NOISES.map(lambda noise: dataclasses.replace(noise, own_answers=0.0)),
        denoising=st.builds(RecursiveDenoising, carry_z=..., **AT_TEST),
    ),
)
EXPERIMENTS = st.builds(
    Experiment,
    name=TEXT.filter(lambda t: t.isprintable() and t.strip(". ") and not {"/", "\\"} & set(t)),
    seed=st.integers(0, MAX_NUMBER),
    init_from=st.none() | TEXT,
    data=st.builds(
        Arc,
        train=SOURCES,
        evaluate=SOURCES | st.just(()),
        only=SOURCES | st.just(()),
        leaks=...,
        canvas=st.integers(2, MAX_SIDE),
        num_augmentations=st.integers(0, MAX_AUGMENTATIONS),
    ),
    method=METHODS,
    model=transformers()
    | st.builds(TokenMixer, hidden=COUNTS, remat=..., convolution=..., **SIZES),
    optimizer=st.builds(
        Optimizer,
        learning_rate=RATES,
        weight_decay=RATES,
        beta1=DECAYS,
        beta2=DECAYS,
        puzzle_learning_rate=RATES,
        puzzle_weight_decay=RATES,
        warmup_steps=COUNTS | st.just(0),
        ema=DECAYS,
    ),
    train=st.builds(
        Train,
        steps=COUNTS,
        batch_size=st.integers(1, MAX_BATCH),
        log_every=COUNTS,
        checkpoint_every=COUNTS,
        keep_last=COUNTS,
        keep_best=COUNTS | st.just(0),
    ),
    evaluate=st.builds(
        Evaluate,
        every=COUNTS | st.just(0),
        untrained=...,
        num_augmentations=st.none() | COUNTS | st.just(0),
        batch_size=st.integers(1, MAX_BATCH),
        denoise_steps=st.integers(1, NUM_LEVELS),
        trajectories=...,
    ),
)
PLAIN = json.loads(to_json(Experiment("x", data=Arc(only=("a",)))))


@given(EXPERIMENTS)
def test_json_round_trip(experiment):
    assert from_json(to_json(experiment)) == experiment


def assert_typed(config) -> None:
    """Every field has the type that it is declared with, and floats are numbers."""
    for name, hint in field_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            assert hint is typing.Any or type(value) is hint
            assert_typed(value)
        else:
            assert has_type(value, hint), (name, value)


def has_type(value, hint) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return has_type(value, args[0])
    if origin is typing.Literal:
        return type(value) is str and value in args
    if origin is tuple:
        return type(value) is tuple and all(has_type(item, args[0]) for item in value)
    if args:  # a union
        return any(has_type(value, arg) for arg in args)
    return type(value) is hint and (hint is not float or math.isfinite(value))


def outcome(text: str) -> Experiment | UsageError:
    try:
        return from_json(text)
    except UsageError as error:
        return error


def accepted(text: str) -> bool:
    """Whether a text is an experiment; then it is well typed, and otherwise refused in a line."""
    result = outcome(text)
    if isinstance(result, UsageError):
        assert len(str(result).splitlines()) == 1
        return False
    assert_typed(result)
    assert from_json(to_json(result)) == result
    return True


@settings(max_examples=300)
@given(damaged(PLAIN).map(json.dumps))
def test_a_damaged_value_is_refused_or_well_typed(text):
    accepted(text)


@given(damaged_text(PLAIN) | st.text(st.characters()))
def test_damaged_text_is_refused_or_well_typed(text):
    accepted(text)


@example('"two\\nlines"')
@example("[" * 100_000)
@example('{"model":' * 100_000)
@given(JSON.map(json.dumps))
def test_other_json_is_refused(text):
    assert not accepted(text)


@pytest.mark.parametrize(
    "value",
    [[[1]], {"a": 1}, math.nan, math.inf, -math.inf, 10**400],
    ids=["list", "object", "nan", "inf", "-inf", "huge"],
)
def test_no_field_takes(value):
    for part, content in PLAIN.items():
        for name in content if isinstance(content, dict) else [None]:
            tree = {**PLAIN, part: {**content, name: value} if name else value}
            assert not accepted(json.dumps(tree)), (part, name)
