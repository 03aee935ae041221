"""Sums over a batch, device by device. In: a function of weights and slots. Out: its sums over all slots.

Guarantees: weights are gathered once and their gradient is reduced once, into parts where they lie in parts, however
often the function uses them. Left to the partitioner, a loop inside it does both in every round. While it runs, a
device holds those weights and their gradient in float32, whole but for tensor parallelism.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import AxisType, PartitionSpec

from jaxlm.batch import Array
from jaxlm.partition import rules
from jaxlm.partition.mesh import BATCH_AXES


def summed(function: Callable[..., Any], weights: Any, *slots: Array) -> Any:
    """`function(weights, *slots)`, whose results are sums over slots [B, M, ...], under `jax.set_mesh`.

    Every device calls it with its own rows, and with its own places of them where rows lie on several devices: zeros
    fill up what does not divide, and must count nothing. Tensor parallelism inside stays the partitioner's. One plain
    call where the mesh splits neither, or cannot split so many rows.
    """
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    of = lambda names: tuple(a for a in names if kinds.get(a) == AxisType.Auto and mesh.shape[a] > 1)
    rows, places = of(BATCH_AXES), of(("context",))
    devices = lambda axes: math.prod(mesh.shape[a] for a in axes)
    if not rows + places or slots[0].shape[0] % devices(rows):
        return function(weights, *slots)
    fill = -slots[0].shape[1] % devices(places)
    padded = [jnp.pad(a, [(0, 0), (0, fill), *[(0, 0)] * (a.ndim - 2)]) for a in slots]
    held = _held(weights, mesh, rows)

    def own(weights: Any, *slots: Array) -> Any:
        whole = jax.tree.map(_gathered, weights, held, is_leaf=_knows)
        return jax.tree.map(lambda total: total[None], function(whole, *slots))

    parts = jax.shard_map(
        own,
        in_specs=(held, *(PartitionSpec(rows, places) for _ in slots)),
        out_specs=PartitionSpec(rows + places),
        axis_names={*rows, *places},
        check_vma=False,
    )(weights, *padded)
    return jax.tree.map(lambda part_N: part_N.sum(axis=0), parts)


def _held(weights: Any, mesh: jax.sharding.AbstractMesh, axes: tuple[str, ...]) -> Any:
    """How parameters lie on these axes; whatever else there is counts as whole. The tree of `weights`."""

    def spec(one: Any) -> Any:
        names = one.get_metadata("axes", None) if isinstance(one, nnx.Variable) else None
        whole = jax.tree.map(lambda _: PartitionSpec(), one)
        value = jax.tree.leaves(one)
        if names is None or len(value) != 1 or len(names) != value[0].ndim:
            return whole
        # The partitioner does not keep what tensor parallelism splits of an array that is gathered by hand.
        split = mesh.shape.get("tensor", 1) > 1
        entries = [e if e in axes and not split else None for e in rules.spec(names, value[0].shape, mesh)]
        return jax.tree.map(lambda _: PartitionSpec(*entries), one)

    return jax.tree.map(spec, weights, is_leaf=lambda one: isinstance(one, nnx.Variable))


def _knows(weight: Any) -> bool:
    """Whether it is more than an array, and says itself how it becomes whole."""
    return hasattr(type(weight), "gathered")


def _gathered(part: Any, spec: Any) -> Array:
    """Whole; the gradient goes back in parts."""
    if _knows(part):
        return part.gathered()
    for dimension, axis in enumerate(spec):
        if axis is not None:
            part = jax.lax.all_gather(part, axis, axis=dimension, tiled=True)
    return part
