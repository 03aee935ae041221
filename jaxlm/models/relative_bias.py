"""Relative position buckets (Raffel et al., 1910.10683, section 2.1): a learned score per head and distance.

In: places of queries, [T] or [B, T], and of keys in their rows. Out: bias_NTS or bias_BNTS, float32, for attention.
Guaranteed: buckets are looked up in a table made on the host, so that no platform's logarithm moves a distance into
another bucket.

Places in a packed row differ like positions within one segment, and only within one does attention look.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxlm.models import parameters
from jaxlm.models.activations import constrain


class RelativeBias(nnx.Module):
    """One score per bucket and head; T5 shares them between the layers of a stack."""

    def __init__(
        self,
        rngs: nnx.Rngs,
        *,
        heads: int,
        buckets: int,
        max_distance: int,
        bidirectional: bool,
        scale: float,
    ):
        self.bidirectional = bidirectional
        self.half = buckets // 2 if bidirectional else buckets  # buckets of one direction
        self.max_distance = max_distance
        self.table = parameters.weight(rngs, (buckets, heads), ("buckets", "heads"), scale)

    def __call__(self, queries_T: jax.Array, keys_S: jax.Array) -> jax.Array:
        ahead_TS = keys_S - queries_T[..., None]
        distance_TS = jnp.abs(ahead_TS) if self.bidirectional else jnp.maximum(-ahead_TS, 0)
        of_distance = jnp.asarray(bucket_of_distance(self.half, self.max_distance))
        bucket_TS = of_distance[jnp.minimum(distance_TS, self.max_distance)]
        if self.bidirectional:
            bucket_TS = bucket_TS + self.half * (ahead_TS > 0)
        rows = ("batch",) * (queries_T.ndim - 1)
        bias_NTS = jnp.moveaxis(self.table[...][bucket_TS], -1, -3)
        return constrain(bias_NTS, *rows, "heads", "length", None)


def bucket_of_distance(buckets: int, max_distance: int) -> np.ndarray:
    """The bucket of every distance from 0 to max_distance: one each for the first half, then logarithmically wider."""
    exact = buckets // 2
    distance = np.arange(max_distance + 1)
    # float32, as published: 16, 32 and 64 of 128 are borders of buckets, where rounding decides.
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    wide = exact + (ratio / np.float32(math.log(max_distance / exact)) * (buckets - exact)).astype(np.int32)
    return np.where(distance < exact, distance, np.minimum(wide, buckets - 1)).astype(np.int32)
