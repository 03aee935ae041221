"""Caches whose rows are texts of their own: each writes its own slots. In: a `KVCache`. Out: one with the same calls.

`RowCache` is all rows, each at its own length: what a step of decoding moves. `OneRow` is one of them, without a copy:
what a prompt is read into. Guaranteed: a row sees its own slots below its length and nothing else, whatever
stands behind them; what is written to one row leaves the others as they are.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.models import cache_values
from jaxlm.models.blocks import LEAST
from jaxlm.models.cache import KVCache, LayerCache


class DoubledLayer(LayerCache):
    """Attends to 256 slots, or twice that, and so on: how many is up to the longest row, and between these numbers the
    sums of a row keep their order, and so their bits (XLA:CPU; 416 slots are summed otherwise)."""

    def _sizes(self) -> list[int]:
        return doubled(self.k_LBSKH.shape[2])


def doubled(slots: int) -> list[int]:
    """256, 512, ... of so many slots; all of them, if they are fewer."""
    sizes = [LEAST]
    while 2 * sizes[-1] <= slots:
        sizes.append(2 * sizes[-1])
    return sizes if slots >= LEAST else [slots]


def slots_for(text: int, behind: int) -> int:
    """Slots of a row that holds so many tokens of a text, all of them seen, and more behind them that are not."""
    return max(LEAST << max(0, (text - 1) // LEAST).bit_length(), text + behind)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RowLayer(DoubledLayer):
    """`used` is [B]; a row of less than 0 stands still."""

    def _write(self, held: Any, new_BTKH: jax.Array) -> Any:
        places_BT = places(self.used, new_BTKH.shape[1], held.shape[2])
        return cache_values.written_each(held, self.layer, places_BT, new_BTKH)

    def _most(self) -> jax.Array:
        return self.used.max()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RowCache(KVCache):
    """`used` is [B]; a row of less than 0 stands still: it writes nothing, and what is found of it means nothing."""

    def layers(self) -> LayerCache:
        """What `stack.run_cached` hands from layer to layer."""
        return RowLayer(
            k_LBSKH=self.k_LBSKH, v_LBSKH=self.v_LBSKH, used=self.used, layer=jnp.zeros((), jnp.int32)
        )

    def places(self, tokens: int) -> jax.Array:
        """[B, T]."""
        return self.used[:, None] + jnp.arange(tokens, dtype=jnp.int32)

    def _segments(self, segments_BT: jax.Array) -> jax.Array:
        rows, room = self.segments_BS.shape
        places_BT = places(self.used, segments_BT.shape[1], room)
        return self.segments_BS.at[jnp.arange(rows)[:, None], places_BT].set(segments_BT, mode="drop")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class OneRowLayer(DoubledLayer):
    """Row number `row` of all, alone."""

    row: jax.Array  # int32

    def _write(self, held: Any, new_BTKH: jax.Array) -> Any:
        return cache_values.written(held, self.layer, self.row, self.used, new_BTKH)

    def _read(self, held: Any, slots: int) -> Any:
        return cache_values.read(held, self.layer, slots, self.row)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class OneRow(KVCache):
    """Row number `row` of all, alone: `segments_BS`, `memory` and `used` are its own, keys and values are all rows'."""

    row: jax.Array  # int32

    def layers(self) -> LayerCache:
        """What `stack.run_cached` hands from layer to layer."""
        zero = jnp.zeros((), jnp.int32)
        return OneRowLayer(
            k_LBSKH=self.k_LBSKH, v_LBSKH=self.v_LBSKH, used=self.used, layer=zero, row=self.row
        )


def places(used_B: jax.Array, tokens: int, room: int) -> jax.Array:
    """The slots [B, T] of the next tokens; of a row that stands still, one that is not there."""
    places_BT = used_B[:, None] + jnp.arange(tokens, dtype=jnp.int32)
    return jnp.where(used_B[:, None] < 0, room, places_BT)


def rows_of(cache: KVCache, rows: int, room: int, source: int) -> RowCache:
    """As many empty rows like the one of `cache`, with so many slots, and slots of a source if it has one."""
    empty = lambda held, slots: cache_values.empty(held, rows, slots)
    memory = cache.memory
    if memory is not None:
        wide = {name: empty(getattr(memory, name), source) for name in _HELD}
        memory = dataclasses.replace(memory, **wide, segments_BS=jnp.zeros((rows, source), jnp.int32))
    held = {name: empty(getattr(cache, name), room) for name in _HELD}
    return RowCache(
        **held,
        segments_BS=jnp.zeros((rows, room), jnp.int32),
        used=jnp.zeros((rows,), jnp.int32),
        memory=memory,
    )


def one_row(cache: RowCache, row: jax.Array, used: jax.Array) -> OneRow:
    """Row number `row`, of which `used` slots are written."""
    cut = lambda a, axis: jax.lax.dynamic_slice_in_dim(a, row, 1, axis)
    memory = cache.memory
    if memory is not None:
        own = {name: cut(getattr(memory, name), 1) for name in _HELD}
        memory = dataclasses.replace(memory, **own, segments_BS=cut(memory.segments_BS, 0))
    return OneRow(
        k_LBSKH=cache.k_LBSKH,
        v_LBSKH=cache.v_LBSKH,
        segments_BS=cut(cache.segments_BS, 0),
        used=used,
        memory=memory,
        row=row,
    )


def with_row(cache: RowCache, one: OneRow) -> RowCache:
    """All rows, once one of them has read more."""
    segments_BS = jax.lax.dynamic_update_slice_in_dim(cache.segments_BS, one.segments_BS, one.row, axis=0)
    return dataclasses.replace(cache, k_LBSKH=one.k_LBSKH, v_LBSKH=one.v_LBSKH, segments_BS=segments_BS)


def begun(cache: RowCache, row: jax.Array, start: KVCache) -> RowCache:
    """Row number `row` begins with what `start`, a cache of one row, holds: learnt tokens, and its source."""
    memory = cache.memory
    if memory is not None:
        assert start.memory is not None
        longer = memory.segments_BS.shape[1] - start.memory.segments_BS.shape[1]
        # Behind it stands nothing: of a longer source before, the segments are gone.
        segments_BS = jnp.pad(start.memory.segments_BS, ((0, 0), (0, longer)))
        memory = dataclasses.replace(
            memory,
            **_with_row(memory, row, start.memory, 0, start.memory.segments_BS.shape[1]),
            segments_BS=jax.lax.dynamic_update_slice(memory.segments_BS, segments_BS, (row, 0)),
        )
    slots = start.segments_BS.shape[1]
    segments_BS = jax.lax.dynamic_update_slice(cache.segments_BS, start.segments_BS, (row, 0))
    held = _with_row(cache, row, start, 0, slots)
    return dataclasses.replace(cache, **held, segments_BS=segments_BS, memory=memory)


def copied(cache: RowCache, source: jax.Array, target: jax.Array, slots: int) -> RowCache:
    """The first slots of one row in another, too."""
    part = jax.lax.dynamic_slice(cache.segments_BS, (source, 0), (1, slots))
    segments_BS = jax.lax.dynamic_update_slice(cache.segments_BS, part, (target, 0))
    return dataclasses.replace(
        cache, **_with_row(cache, target, cache, source, slots), segments_BS=segments_BS
    )


def _with_row(cache: Any, row: Any, other: Any, source: Any, slots: int) -> dict[str, Any]:
    """Keys and values with the first slots of a row of `other`."""
    if slots == 0:
        return {}
    put = lambda held, theirs: cache_values.with_row(held, row, theirs, source, slots)
    return {name: put(getattr(cache, name), getattr(other, name)) for name in _HELD}


_HELD = ("k_LBSKH", "v_LBSKH")
