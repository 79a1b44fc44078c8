"""Weights that are split over the devices of the mesh's axis fsdp.

A device keeps a part of each weight, of its moments and of its average. A step puts the weights
together once, since a looped block uses them 15 to 30 times, and gives each device its part of the
summed gradients; the optimiser then works on parts alone.

`gathered` and `summed` run inside shard_map over `mesh.BATCH_AXES`. Where no weight is split, they
are a plain sum over all devices.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from drm_jax.parallel.mesh import DATA, FSDP, Axes, spec_of


def weight_specs(mesh: Mesh | AbstractMesh, weights: Any) -> Any:
    """A spec of the axes data and fsdp for each weight: shard_map names no other axis.

    Args:
      weights: the network's parameters, or their average, or their shapes.
    """

    def spec(path, weight) -> P:
        name = f"params/{jax.tree_util.keystr(path, simple=True, separator='/')}"
        whole = spec_of(name, weight.shape, mesh.shape[FSDP])
        return P(*(axis if axis == FSDP else None for axis in whole))

    return jax.tree_util.tree_map_with_path(spec, weights)


def gathered(weights: Any, specs: Any) -> Any:
    """Whole weights, from the part of each that a device has."""

    def whole(weight: jax.Array, spec: P) -> jax.Array:
        if FSDP not in spec:
            return weight
        return lax.all_gather(weight, FSDP, axis=spec.index(FSDP), tiled=True)

    return jax.tree.map(whole, weights, specs)


def summed(grads: Any, specs: Any, others: Any, axes: Axes) -> tuple[Any, Any]:
    """Sums over all devices: of gradients, each device its part; and of other arrays, whole.

    Args:
      grads: of whole weights, from each device's examples.
      specs: of the weights.
      axes: over which the batch is split.
    """
    leaves, structure = jax.tree.flatten(grads)
    spec_of_leaf = structure.flatten_up_to(specs)
    whole = [g for g, spec in zip(leaves, spec_of_leaf, strict=True) if FSDP not in spec]
    whole, others = lax.psum((whole, others), axes)
    parts = [
        lax.psum_scatter(g, FSDP, scatter_dimension=spec.index(FSDP), tiled=True)
        for g, spec in zip(leaves, spec_of_leaf, strict=True)
        if FSDP in spec
    ]
    if lax.axis_size(DATA) > 1:
        parts = lax.psum(parts, DATA)
    whole, parts = iter(whole), iter(parts)
    found = [next(parts if FSDP in spec else whole) for spec in spec_of_leaf]
    return jax.tree.unflatten(structure, found), others


def whole_on(mesh: Mesh) -> Callable[[Any], Any]:
    """A function of a tree of arrays, split as weights are, that makes each whole on all devices.
    It is for use outside of shard_map."""
    if mesh.shape[FSDP] == 1:
        return lambda tree: tree
    everywhere = NamedSharding(mesh, P())
    return lambda tree: lax.with_sharding_constraint(tree, everywhere)
