"""Dropout by key, with cheap random bits.

In: an array, a rate, a key of any implementation (threefry, rbg) or None (no dropout). Out: the array with
entries zeroed and the rest scaled so that the expectation is exact. Guaranteed: pure, the same key gives
the same mask.
"""

import jax
import jax.numpy as jnp

_LEVELS = 1 << 16


def keep_mask(key: jax.Array, rate: float, shape: tuple[int, ...]) -> tuple[jax.Array, float]:
    """Which entries stay (bool), and the exact factor for them. The rate is rounded to a multiple of 1/65536.

    Draws one uint32 for two entries: threefry spends a whole 2x32-bit block on every element that is asked
    for, so 16-bit draws would cost as much as 32-bit ones.
    """
    threshold = round(rate * _LEVELS)
    *outer, width = shape
    bits = jax.random.bits(key, (*outer, -(-width // 2)), jnp.uint32)
    halves = jnp.concatenate([bits & (_LEVELS - 1), bits >> 16], axis=-1)[..., :width]
    return halves >= threshold, _LEVELS / (_LEVELS - threshold)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Srivastava et al. (2014), inverted. rate in [0, 1)."""
    if key is None or rate == 0:
        return x
    keep, factor = keep_mask(key, rate, x.shape)
    return jnp.where(keep, x * jnp.asarray(factor, x.dtype), jnp.zeros((), x.dtype))
