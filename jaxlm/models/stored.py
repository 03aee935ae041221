"""How a cache holds keys and values: as they are, or as int8. In: a_BTKH to write, slots to read. Out: the same arrays.

Every array inside has the dimensions [L, B, S, K, ...], so that what writes, reads or copies slots does so with each.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Int8:
    """value = number x scale, with a scale for every head at every position: the largest magnitude is 127."""

    number_LBSKH: jax.Array  # int8
    scale_LBSK1: jax.Array  # float32

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the values."""
        return self.number_LBSKH.shape


def in_int8(a_LBSKH: jax.Array) -> Int8:
    """The nearest numbers."""
    wide = a_LBSKH.astype(jnp.float32)
    scale = jnp.abs(wide).max(axis=-1, keepdims=True) / 127
    return Int8(jnp.round(wide / jnp.where(scale == 0, 1, scale)).astype(jnp.int8), scale)


def written(slots: Any, new_BTKH: jax.Array, write: Callable[[jax.Array, jax.Array], jax.Array]) -> Any:
    """`slots` with the new ones written by `write(array, new)`."""
    new = in_int8(new_BTKH) if isinstance(slots, Int8) else new_BTKH.astype(slots.dtype)
    return jax.tree.map(write, slots, new)


def read(slots: Any, cut: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The values of the slots that `cut(array)` takes; float32 if they are held in less."""
    part = jax.tree.map(cut, slots)
    return part.number_LBSKH * part.scale_LBSK1 if isinstance(part, Int8) else part
