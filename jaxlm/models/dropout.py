"""Dropout by key, with cheap random bits.

In: an array, a rate, a key of any implementation (threefry, rbg) or None (no dropout). Out: the array with
entries zeroed and the rest scaled so that the expectation is exact. Guaranteed: pure, the same key gives
the same mask; with threefry on any mesh.
"""

import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxlm.models import activations

_LEVELS = 1 << 16


def keep_mask(key: jax.Array, rate: float, shape: tuple[int, ...]) -> tuple[jax.Array, float]:
    """Which entries stay (bool), and the exact factor for them. The rate is rounded to a multiple of 1/65536."""
    threshold = round(rate * _LEVELS)
    *outer, width = shape
    bits = _bits(key, (*outer, -(-width // 2)))  # one uint32 for two entries
    keep = jnp.concatenate([bits & (_LEVELS - 1) >= threshold, bits >> 16 >= threshold], axis=-1)
    return keep[..., :width], _LEVELS / (_LEVELS - threshold)


def _bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """jax.random.bits of uint32: the same numbers; of another generator than threefry each device's own."""
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return _by_device(key, shape)
    first, second = jax.random.key_data(key)
    count = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    x, y = threefry(first, second, jnp.zeros_like(count), count)
    return x ^ y


def _by_device(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Every device draws for its rows. Left to the partitioner each draws for all, and keeps its share: of BERT-base on
    256 chips two thirds of what a step moves in memory. The bits depend on how many devices share the rows."""
    mesh = jax.sharding.get_abstract_mesh()
    rows = activations.spec(mesh, shape[:1], ("batch",))
    if not (over := activations.axes(rows[0])):
        return jax.random.bits(key, shape, jnp.uint32)
    own = (*activations.local(mesh, rows, shape[:1]), *shape[1:])
    return jax.shard_map(
        lambda key, number: jax.random.bits(jax.random.fold_in(key, number[0]), own, jnp.uint32),
        in_specs=(PartitionSpec(), rows),
        out_specs=rows,
        axis_names=set(over),
        check_vma=False,
    )(key, jnp.arange(shape[0] // own[0]))


def threefry(first: jax.Array, second: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 of 20 rounds (Salmon et al., 2011): a key of two words, counters of two words -> two words.

    jax.random's is the same function; on a CPU it is a loop whose every round goes through memory. Written out, the
    rounds are one pass.
    """
    keys = (first, second, first ^ second ^ jnp.uint32(0x1BD11BDA))
    x, y = x + first, y + second
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = ((y << turn) | (y >> (32 - turn))) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Srivastava et al. (2014), inverted. rate in [0, 1)."""
    if key is None or rate == 0:
        return x
    keep, factor = keep_mask(key, rate, x.shape)
    return jnp.where(keep, x * jnp.asarray(factor, x.dtype), jnp.zeros((), x.dtype))
