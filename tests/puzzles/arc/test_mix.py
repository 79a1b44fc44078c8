"""How the visits of an epoch are shared between sources."""

import numpy as np
import pytest

from drm_jax.errors import InputError, UsageError
from drm_jax.puzzles.arc.family import Arc
from drm_jax.puzzles.arc.mix import TOLERANCE, describe_visits, name_of, parse_mix, visits

SOURCES = ("arc1/training", "rearc:side=10", "arc1/evaluation", "my/tasks")


def test_a_name_stands_for_all_sources_that_go_on_behind_it():
    shares = parse_mix(("arc1=1", "rearc=2.5", "my/tasks=3", "arc1/evaluation=4"), SOURCES)
    assert shares == {"arc1": 1, "rearc": 2.5, "my/tasks": 3, "arc1/evaluation": 4}
    assert [name_of(source, shares) for source in SOURCES] == [
        "arc1", "rearc", "arc1/evaluation", "my/tasks",
    ]  # fmt: skip
    assert name_of("arc10", shares) is None
    assert parse_mix(("rearc:side=10=2",), SOURCES[1:2]) == {"rearc:side=10": 2}
    assert parse_mix((), SOURCES) == {}


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        (("arc1",), "data.mix: 'arc1' is not SOURCE=SHARE, such as arc1=1"),
        (("=1",), "data.mix: '=1' is not SOURCE=SHARE"),
        (("arc1=0",), "data.mix: 'arc1=0' is not SOURCE=SHARE"),
        (("arc1=-1",), "data.mix: 'arc1=-1' is not SOURCE=SHARE"),
        (("arc1=nan",), "data.mix: 'arc1=nan' is not SOURCE=SHARE"),
        (("arc1=1", "arc1=2"), "data.mix: arc1 has two shares"),
        (("arc1/training=1",), "data.mix: has no share of arc1/evaluation"),
        (
            ("arc1=1", "arc2=1"),
            "data.mix: arc2: no such source in data.train or data.evaluate: arc1/training, "
            "arc1/evaluation",
        ),
    ],
)
def test_mixes_that_can_not_be(mix, words):
    with pytest.raises(UsageError) as error:
        Arc(mix=mix)
    assert str(error.value).startswith(words)


@pytest.mark.parametrize(
    ("groups", "shares"),
    [
        ({"a": 400, "b": 10_000}, {"a": 1, "b": 3}),
        ({"a": 400, "b": 10_000}, {"a": 3, "b": 1}),
        ({"a": 7, "b": 11, "c": 13}, {"a": 1, "b": 1, "c": 1}),
        ({"a": 1, "b": 1000}, {"a": 0.5, "b": 0.7}),
        ({"a": 400, "b": 400}, {"a": 2, "b": 2}),
    ],
)
def test_shares_are_met_within_the_tolerance_by_whole_visits(groups, shares):
    source_G = [name for name, count in groups.items() for _ in range(count)]
    visits_G = visits(source_G, np.full(len(source_G), 4), shares)
    for name, share in shares.items():
        here = np.array(source_G) == name
        assert len(set(visits_G[here].tolist())) == 1  # each task of a source counts alike
        wanted = share / sum(shares.values())
        assert visits_G[here].sum() / visits_G.sum() == pytest.approx(wanted, rel=TOLERANCE)
    assert visits_G.min() >= 1


def test_as_few_visits_as_are_needed():
    source_G = ["a"] * 3 + ["b"] * 6
    assert visits(source_G, np.full(9, 4), {"a": 1, "b": 2}).tolist() == [1] * 9
    assert visits(source_G, np.full(9, 4), {"a": 1, "b": 1}).tolist() == [2] * 3 + [1] * 6
    assert visits(source_G, np.full(9, 4), {}).tolist() == [1] * 9
    # a group without examples counts for nothing
    assert visits(source_G, np.array([4, 4, 0] + [4] * 6), {"a": 1, "b": 3})[0] == 1
    line = describe_visits(np.array([2, 2, 1]), ["a", "a", "b"])
    assert line.endswith("share of all visits: a 2 (80.0%), b 1 (20.0%)")


def test_mixes_that_can_not_be_met():
    with pytest.raises(InputError, match=r"^data\.mix: b: there is no pair to train on$"):
        visits(["a", "b"], np.array([4, 0]), {"a": 1, "b": 1})
    with pytest.raises(InputError, match=r"has more than 1,000,000 visits: give b a larger share"):
        visits(["a"] + ["b"] * 2000, np.full(2001, 4), {"a": 1000, "b": 1})
