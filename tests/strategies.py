"""Hypothesis strategies: grids, augmentations, JSON values, and valid values with some damage."""

import copy
import json
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drm_jax.puzzles.arc.augment import Augmentation

# Every code point, lone surrogates and line ends too.
TEXT = st.text(st.characters() | st.sampled_from("\n\x85\u2028\ud800"), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**31, 2**63])
    | st.floats()
    | TEXT
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


def grids(max_side: int = 30, colours: int = 10) -> st.SearchStrategy[np.ndarray]:
    """Grids (h, w) uint8 of colours below `colours`."""
    return hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=max_side),
        elements=st.integers(0, colours - 1),
    )


def augmentations(moved: int = 9) -> st.SearchStrategy[Augmentation]:
    """Any transform, with a permutation of the colours 1..`moved`."""
    return st.builds(
        lambda transform, order: Augmentation(
            transform, np.array([0, *order, *range(moved + 1, 10)], np.uint8)
        ),
        st.integers(0, 7),
        st.permutations(range(1, moved + 1)),
    )


@st.composite
def damaged(draw: st.DrawFn, tree: Any) -> Any:
    """A JSON value with one place in it replaced, removed, or given a new neighbour."""
    root = {"": copy.deepcopy(tree)}
    parent, key = draw(st.sampled_from(_places(root)))
    match draw(st.sampled_from(["replace", "remove", "add"])):
        case "replace":
            parent[key] = draw(JSON)
        case "remove" if parent is not root:
            del parent[key]
        case "add" if isinstance(parent, list):
            parent.insert(key, draw(JSON))
        case "add":
            parent[draw(TEXT)] = draw(JSON)
    return root[""]


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key or index) of everything inside a tree."""
    if not isinstance(tree, dict | list):
        return []
    items = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
    return [(tree, key) for key, _ in items] + [p for _, value in items for p in _places(value)]


@st.composite
def damaged_text(draw: st.DrawFn, tree: Any) -> str:
    """Its JSON with a piece cut out and some text put there."""
    text = json.dumps(tree)
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 5)))
    return text[:start] + draw(TEXT) + text[end:]
