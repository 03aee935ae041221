"""Sums over a batch, device by device. In: a function of weights and rows. Out: its sums over all rows.

Guarantees: weights are gathered once and their gradient is reduced once, however often the function uses them. Left to
the partitioner, a loop inside it does both in every round. While it runs, a device holds those weights and their
gradient in float32, whole but for tensor parallelism.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

from jaxlm.batch import Array
from jaxlm.partition.mesh import BATCH_AXES


def summed(function: Callable[..., Any], weights: Any, *rows: Array) -> Any:
    """`function(weights, *rows)`, whose results are sums over the rows (first dimension), under `jax.set_mesh`.

    Every device calls it with its own rows; tensor parallelism inside stays the partitioner's. One plain call where the
    mesh splits no rows, or cannot split so many.
    """
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    axes = tuple(a for a in BATCH_AXES if kinds.get(a) == AxisType.Auto and mesh.shape[a] > 1)
    if not axes or rows[0].shape[0] % math.prod(mesh.shape[a] for a in axes):
        return function(weights, *rows)
    own = PartitionSpec(axes)
    parts = jax.shard_map(
        lambda weights, *rows: jax.tree.map(lambda total: total[None], function(weights, *rows)),
        in_specs=(PartitionSpec(), *(own for _ in rows)),
        out_specs=own,
        axis_names=set(axes),
        check_vma=False,
    )(weights, *rows)
    return jax.tree.map(lambda part_N: part_N.sum(axis=0), parts)
