"""How a cache holds keys and values: an array, the same as int8, or blocks. In: what to write or read. Out: it.

What is `held` is [L, B, S, K, H] arrays, or stands for one. `layer` of blocks is a number that is known when traced.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.models.blocks import Blocks, LayerBlocks
from jaxlm.models.quantised import Quantised, encode


def in_int8(held: Any) -> Quantised:
    """The nearest numbers, with a scale for every head at every position."""
    a_LBSKH = held.stacked() if isinstance(held, Blocks) else held
    return encode(a_LBSKH, (*a_LBSKH.shape[:-1], 1), "int8")


def written(held: Any, layer: Any, row: Any, used: Any, new_BTKH: jax.Array) -> Any:
    """With slots from `used` on of a layer's rows from `row` on."""
    if isinstance(held, Blocks):
        new_BTKH = new_BTKH.astype(held.dtype)
        return held.with_layer(layer, held.layers[layer].written(row, used, new_BTKH))
    put = lambda slots_LBSKX, new_BTKX: jax.lax.dynamic_update_slice(
        slots_LBSKX, new_BTKX[None], (layer, row, used, 0, 0)
    )
    return jax.tree.map(put, held, _as_held(held, new_BTKH))


def written_each(held: Any, layer: Any, places_BT: jax.Array, new_BTKH: jax.Array) -> Any:
    """With slots of its own of every row, one behind the other; what is not there is dropped."""
    if isinstance(held, Blocks):
        new_BTKH = new_BTKH.astype(held.dtype)
        return held.with_layer(layer, held.layers[layer].written_each(places_BT[:, 0], new_BTKH))
    rows_B1 = jnp.arange(len(new_BTKH))[:, None]
    put = lambda slots_LBSKX, new_BTKX: slots_LBSKX.at[layer, rows_B1, places_BT].set(new_BTKX, mode="drop")
    return jax.tree.map(put, held, _as_held(held, new_BTKH))


def _as_held(held: Any, new_BTKH: jax.Array) -> Any:
    return in_int8(new_BTKH) if isinstance(held, Quantised) else new_BTKH.astype(held.dtype)


def read(held: Any, layer: Any, slots: int, row: Any = None) -> jax.Array | LayerBlocks:
    """[B, S, K, H] of a layer's first slots, of one row or all; float32 if they are held in less."""
    if isinstance(held, Blocks):
        found = held.layers[layer].first(slots)
        return found if row is None else found.of_row(row)

    def cut(slots_LBSKX: jax.Array) -> jax.Array:
        _, rows, _, *rest = slots_LBSKX.shape
        at, rows = (0, rows) if row is None else (row, 1)
        return jax.lax.dynamic_slice(slots_LBSKX, (layer, at, 0, 0, 0), (1, rows, slots, *rest))[0]

    part = jax.tree.map(cut, held)
    return part.full() if isinstance(part, Quantised) else part


def by_row(held: Any, change: Callable[[jax.Array, int], jax.Array]) -> Any:
    """With `change(array, axis)` in place of each array inside, whose rows lie along that axis."""
    if isinstance(held, Blocks):
        return held.each(lambda block: change(block, 0))
    return jax.tree.map(lambda a_LBSKX: change(a_LBSKX, 1), held)


def empty(held: Any, rows: int, room: int) -> Any:
    """As many rows of so many slots, in which nothing is."""

    def zeros(a_LBSKX: jax.Array) -> jax.Array:
        layers, _, _, *rest = a_LBSKX.shape
        return jnp.zeros((layers, rows, room, *rest), a_LBSKX.dtype)

    if isinstance(held, Blocks):
        layers, _, _, *rest = held.shape
        return Blocks.empty((layers, rows, room, *rest), held.dtype, held.layers[0].axis)
    return jax.tree.map(zeros, held)


def with_row(held: Any, row: Any, other: Any, source: Any, slots: int) -> Any:
    """With the first slots of a row of `other`, which may be `held`, in place of its own."""

    def put(a_LBSKX: jax.Array, other_LBSKX: jax.Array) -> jax.Array:
        layers, _, _, *rest = a_LBSKX.shape
        part = jax.lax.dynamic_slice(other_LBSKX, (0, source, 0, 0, 0), (layers, 1, slots, *rest))
        return jax.lax.dynamic_update_slice(a_LBSKX, part, (0, row, 0, 0, 0))

    if isinstance(held, Blocks):
        return held.with_row(row, other, source, slots)
    return jax.tree.map(put, held, other)
