"""Any valid Experiment survives JSON; anything else is a UsageError of one line."""

import dataclasses
import json
import math
import typing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import JSON, TEXT, damaged, damaged_text

from drm_jax.config import (
    MAX_AUGMENTATIONS,
    MAX_BATCH,
    MAX_LAYERS,
    MAX_NUMBER,
    MAX_SIDE,
    NUM_LEVELS,
    SCHEDULES,
    Data,
    Evaluate,
    Experiment,
    Model,
    Noise,
    Optimizer,
    Train,
    from_json,
    to_json,
)
from drm_jax.errors import UsageError
from drm_jax.references import is_reference

COUNTS = st.integers(1, MAX_NUMBER)
RATES = st.floats(0, MAX_NUMBER)
DECAYS = st.floats(0, 1, exclude_max=True)
REFERENCES = st.from_regex(r"[a-z_][a-z0-9_.]{0,8}[a-z]:[A-Za-z_]{1,9}", fullmatch=True).filter(
    is_reference
)
SOURCES = st.lists(TEXT, min_size=1, max_size=3).map(tuple)


@st.composite
def models(draw: st.DrawFn) -> Model:
    heads, cycles = draw(st.integers(1, 64)), draw(st.integers(1, 20))
    return Model(
        hidden=2 * heads * draw(st.integers(1, 64)),
        heads=heads,
        layers=draw(st.integers(1, MAX_LAYERS)),
        cycles=cycles,
        inner_steps=draw(COUNTS),
        grad_cycles=draw(st.integers(1, cycles)),
        prefix=draw(COUNTS),
        expansion=draw(st.floats(0.1, 100)),
        swiglu_multiple=draw(COUNTS),
        dtype=draw(st.sampled_from(["auto", "float32", "bfloat16"])),
    )


EXPERIMENTS = st.builds(
    Experiment,
    name=TEXT.filter(lambda t: t.isprintable() and t.strip(". ") and not {"/", "\\"} & set(t)),
    seed=st.integers(0, MAX_NUMBER),
    init_from=st.none() | TEXT,
    data=st.builds(
        Data,
        train=SOURCES,
        evaluate=SOURCES | st.just(()),
        only=SOURCES | st.just(()),
        leaks=...,
        canvas=st.integers(2, MAX_SIDE),
        num_augmentations=st.integers(0, MAX_AUGMENTATIONS),
    ),
    objective=st.just("drm") | REFERENCES,
    noise=st.builds(
        Noise,
        schedule=st.sampled_from(SCHEDULES) | REFERENCES,
        kind=...,
        all_masked=st.floats(0, 1),
    ),
    model=models(),
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
        remask=...,
        first_remask=...,
        remask_schedule=...,
        outside=...,
        carry_z=...,
    ),
)
PLAIN = json.loads(to_json(Experiment("x", data=Data(only=("a",)))))


@given(EXPERIMENTS)
def test_json_round_trip(experiment):
    assert from_json(to_json(experiment)) == experiment


def assert_typed(config) -> None:
    """Every field has the type that it is declared with, and floats are numbers."""
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(hint):
            assert type(value) is hint
            assert_typed(value)
        elif typing.get_origin(hint) is typing.Literal:
            assert value in typing.get_args(hint)
        elif typing.get_origin(hint) is tuple:
            assert type(value) is tuple
            assert all(type(item) is typing.get_args(hint)[0] for item in value)
        else:
            kinds = typing.get_args(hint) or (hint,)
            words = [word for kind in kinds for word in typing.get_args(kind)]  # of a Literal
            assert type(value) in kinds or value in words
            assert not isinstance(value, float) or math.isfinite(value)


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
    for room, content in PLAIN.items():
        for name in content if isinstance(content, dict) else [None]:
            tree = {**PLAIN, room: {**content, name: value} if name else value}
            assert not accepted(json.dumps(tree)), (room, name)
