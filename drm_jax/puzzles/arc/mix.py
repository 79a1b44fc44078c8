"""How the visits of an epoch are shared between the sources of ARC tasks (data.mix)."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from drm_jax.errors import InputError
from drm_jax.fields import check

TOLERANCE = 0.03
"""A source's share may be off by so much of itself: visits are whole numbers."""
_MOST_ROUNDS = 20
"""So often the groups of the rarest source are visited in an epoch, at most, to come that close."""
_MOST_VISITS = 1_000_000
"""In an epoch, whose order is held in memory."""


def parse_mix(mix: Sequence[str], sources: Sequence[str]) -> dict[str, float]:
    """The share of each name in a mix.

    A name stands for the source of that name, or for all whose names go on behind it with ":" or
    "/": rearc for rearc:side=10, arc1 for arc1/training and arc1/evaluation.

    Args:
      mix: NAME=SHARE each.
      sources: those of data.train and data.evaluate.

    Raises:
      UsageError: one has another form, stands for no source, or a source has no share.
    """
    shares: dict[str, float] = {}
    for text in mix:
        name, _, number = text.rpartition("=")
        share = float(number) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", number) else 0.0
        check(bool(name) and share > 0, "data.mix", f"{text!r} is not SOURCE=SHARE, such as arc1=1")
        check(name not in shares, "data.mix", f"{name} has two shares")
        shares[name] = share
    named = {name_of(source, shares) for source in sources} if mix else set()
    check(
        None not in named,
        "data.mix",
        "has no share of " + ", ".join(s for s in sources if name_of(s, shares) is None),
    )
    unused = [name for name in shares if name not in named]
    check(
        not unused,
        "data.mix",
        f"{', '.join(unused)}: no such source in data.train or data.evaluate: "
        + ", ".join(dict.fromkeys(sources)),
    )
    return shares


def name_of(source: str, shares: Mapping[str, float]) -> str | None:
    """The longest name in a mix that stands for a source."""
    fitting = [n for n in shares if source == n or source.startswith((f"{n}:", f"{n}/"))]
    return max(fitting, key=len, default=None)


def visits(
    source_G: Sequence[str], examples_G: np.ndarray, shares: Mapping[str, float]
) -> np.ndarray:
    """(G,) int64: how often an epoch visits each group, so that the shares are those of a mix.

    Groups of one name are visited equally often, as few times as bring each share within
    `TOLERANCE`, or as near as can be.

    Args:
      source_G, examples_G: the source of each group, and how many examples it has.
      shares: from `parse_mix`; empty: every group is visited once.

    Raises:
      InputError: a name has no examples, or an epoch would be too long.
    """
    if not shares:
        return np.ones(len(examples_G), np.int64)
    name_G = [name_of(source, shares) for source in source_G]
    groups = Counter(n for n, examples in zip(name_G, examples_G, strict=True) if examples)
    missing = [name for name in shares if not groups[name]]
    if missing:
        raise InputError(f"data.mix: {missing[0]}: there is no pair to train on")
    often = _whole_visits(groups, shares)
    return np.array([often[name] for name in name_G], np.int64)


def _whole_visits(groups: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, int]:
    """How often the groups of each name are visited; see `visits`.

    Args:
      groups: how many groups with examples each name has.
    """
    wanted = {name: share / sum(shares.values()) for name, share in shares.items()}
    rate = {name: wanted[name] / groups[name] for name in shares}
    rarest = min(rate, key=rate.get)
    best, least = {}, math.inf
    for rounds in range(1, _MOST_ROUNDS + 1):
        often = {name: round(rounds * rate[name] / rate[rarest]) for name in shares}
        total = sum(often[name] * groups[name] for name in shares)
        if total > _MOST_VISITS:
            break
        error = max(abs(often[name] * groups[name] / total / wanted[name] - 1) for name in shares)
        if error < least:
            best, least = often, error
        if error <= TOLERANCE:
            break
    if not best:
        raise InputError(
            f"data.mix: an epoch of these shares has more than {_MOST_VISITS:,} visits: give "
            f"{rarest} a larger share"
        )
    return best


def describe_visits(visits_G: np.ndarray, source_G: Sequence[str]) -> str:
    """A line that says how often the groups of each source are visited, and its share of visits."""
    total = Counter()
    for source, count in zip(source_G, visits_G.tolist(), strict=True):
        total[source] += count
    often = dict(zip(source_G, visits_G.tolist(), strict=True))
    shown = (f"{s} {often[s]:,} ({total[s] / total.total():.1%})" for s in sorted(total))
    return f"data.mix: visits of a group in an epoch, and share of all visits: {', '.join(shown)}"
