"""How a cache holds keys and values: as they are, or as int8. In: a_BTKH to write, slots to read. Out: the same arrays.

Every array inside has the dimensions [L, B, S, K, ...], so that what writes, reads or copies slots does so with each.
"""

from collections.abc import Callable
from typing import Any

import jax

from jaxlm.models.quantised import Quantised, encode


def in_int8(a_LBSKH: jax.Array) -> Quantised:
    """The nearest numbers, with a scale for every head at every position."""
    return encode(a_LBSKH, (*a_LBSKH.shape[:-1], 1), "int8")


def written(slots: Any, new_BTKH: jax.Array, write: Callable[[jax.Array, jax.Array], jax.Array]) -> Any:
    """`slots` with the new ones written by `write(array, new)`."""
    new = in_int8(new_BTKH) if isinstance(slots, Quantised) else new_BTKH.astype(slots.dtype)
    return jax.tree.map(write, slots, new)


def read(slots: Any, cut: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The values of the slots that `cut(array)` takes; float32 if they are held in less."""
    part = jax.tree.map(cut, slots)
    return part.full() if isinstance(part, Quantised) else part
