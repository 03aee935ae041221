"""Keys or values as XLA:CPU multiplies them best: every layer's own arrays, one block of slots behind the other.

A product there takes whole arrays: a part of one is copied first, at every token (of 8 rows of SmolLM2 with 1,024 slots
377 MB). Blocks end where reading may end, keys lie with slots last, values with features last; attention then takes a
quarter of the time. In: what rows write. Out: what a layer sees. Programs that loop over layers cannot have them.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp

LEAST = 256  # slots that are always attended to: what fewer would save is less than a choice costs
KEYS, VALUES = -1, -2  # where slots lie: [B, K, H, S], [B, K, S, H]


def ends(room: int) -> list[int]:
    """Where the blocks of so many slots end: 256, 512, 1024, ..., the last at `room`."""
    found = [min(LEAST, room)]
    while found[-1] < room:
        found.append(min(2 * found[-1], room))
    return found


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerBlocks:
    """Those of one layer: [B, K, S, H] or, of keys, [B, K, H, S]."""

    blocks: Sequence[jax.Array]
    axis: int = dataclasses.field(metadata={"static": True})  # KEYS or VALUES

    @classmethod
    def empty(cls, shape_BSKH: Sequence[int], dtype: Any, axis: int) -> Self:
        """Zeros in place of an array of that shape."""
        rows, room, heads, features = shape_BSKH
        inner = lambda slots: (features, slots) if axis == KEYS else (slots, features)
        sizes = [end - start for start, end in itertools.pairwise([0, *ends(room)])]
        return cls([jnp.zeros((rows, heads, *inner(size)), dtype) for size in sizes], axis)

    @property
    def sizes(self) -> list[int]:
        """Slots of each block."""
        return [block.shape[self.axis] for block in self.blocks]

    @property
    def shape(self) -> tuple[int, ...]:
        """B, S, K, H: of the array that they stand for."""
        rows, heads, *_ = self.blocks[0].shape
        return rows, sum(self.sizes), heads, self.blocks[0].shape[-3 - self.axis]

    @property
    def dtype(self) -> Any:
        """Of all blocks."""
        return self.blocks[0].dtype

    def astype(self, dtype: Any) -> Self:
        """The same in that dtype."""
        return self.each(lambda block: block.astype(dtype))

    def each(self, change: Callable[[jax.Array], jax.Array]) -> Self:
        """With `change(block)` in place of each."""
        return dataclasses.replace(self, blocks=[change(block) for block in self.blocks])

    def whole(self) -> jax.Array:
        """The array that they stand for, [B, S, K, H]."""
        return jnp.moveaxis(jnp.concatenate(self.blocks, axis=self.axis), self.axis, 1)

    def first(self, slots: int) -> Self:
        """The blocks that end by a slot."""
        number = sum(end <= slots for end in itertools.accumulate(self.sizes))
        return dataclasses.replace(self, blocks=self.blocks[:number])

    def of_row(self, row: Any) -> Self:
        """One row."""
        return self.each(lambda block: jax.lax.dynamic_slice_in_dim(block, row, 1))

    def written(self, row: Any, used: Any, new_BTKH: jax.Array) -> Self:
        """With the slots from `used` on of the rows from `row` on."""
        new = jnp.moveaxis(new_BTKH, 1, self.axis)
        made = [_put(block, new, row, used - start, self.axis) for start, block in self._starts()]
        return dataclasses.replace(self, blocks=made)

    def written_each(self, used_B: jax.Array, new_BTKH: jax.Array) -> Self:
        """With the slots from `used` on of every row; what is beyond all slots is dropped. Row by row: a scatter would
        turn every block so that slots lie in front, and back."""

        def one(row: jax.Array, made: Self) -> Self:
            return made.written(row, used_B[row], jax.lax.dynamic_slice_in_dim(new_BTKH, row, 1))

        return jax.lax.fori_loop(0, len(new_BTKH), one, self)

    def with_row(self, row: Any, other: Self, source: Any, slots: int) -> Self:
        """With the first slots of a row of another one, or of itself."""
        made = list(self.blocks)
        for number, ((start, block), theirs) in enumerate(zip(self._starts(), other.blocks, strict=False)):
            part = jax.lax.dynamic_slice_in_dim(theirs, source, 1)
            size = min(max(slots - start, 0), part.shape[self.axis])
            part = jax.lax.slice_in_dim(part, 0, size, axis=self.axis)
            made[number] = jax.lax.dynamic_update_slice(block, part, (row, 0, 0, 0)) if size else block
        return dataclasses.replace(self, blocks=made)

    def _starts(self) -> list[tuple[int, jax.Array]]:
        """Every block, and where it starts."""
        return list(zip(itertools.accumulate(self.sizes, initial=0), self.blocks, strict=False))


def whole(x_BSKH: jax.Array | LayerBlocks) -> jax.Array:
    """The array, whatever stands for it."""
    return x_BSKH.whole() if isinstance(x_BSKH, LayerBlocks) else x_BSKH


def _put(block: jax.Array, new: jax.Array, row: Any, used: Any, axis: int) -> jax.Array:
    """A block with those of the new slots, from `used` on, that lie in it."""
    size, tokens = block.shape[axis], new.shape[axis]
    width = min(size, tokens)
    first = jnp.clip(used, 0, size - width)
    place = [row, 0, 0, 0]
    place[axis] = first
    sizes = list(new.shape)
    sizes[axis] = width
    token = first + jnp.arange(width) - used  # what comes where
    here = (token >= 0) & (token < tokens)
    moved = jnp.take(new, jnp.clip(token, 0, tokens - 1), axis=axis) if tokens > 1 else new
    here = here if axis == KEYS else here[:, None]
    old = jax.lax.dynamic_slice(block, place, sizes)
    return jax.lax.dynamic_update_slice(block, jnp.where(here, moved, old), place)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blocks:
    """Those of all layers."""

    layers: Sequence[LayerBlocks]

    @classmethod
    def empty(cls, shape_LBSKH: Sequence[int], dtype: Any, axis: int) -> Self:
        """Zeros in place of an array of that shape."""
        layers, *shape = shape_LBSKH
        return cls([LayerBlocks.empty(shape, dtype, axis) for _ in range(layers)])

    @property
    def shape(self) -> tuple[int, ...]:
        """L, B, S, K, H: of the array that they stand for."""
        return len(self.layers), *self.layers[0].shape

    @property
    def dtype(self) -> Any:
        """Of all blocks."""
        return self.layers[0].dtype

    def each(self, change: Callable[[jax.Array], jax.Array]) -> Self:
        """With `change(block)` in place of each."""
        return dataclasses.replace(self, layers=[layer.each(change) for layer in self.layers])

    def stacked(self) -> jax.Array:
        """The array that they stand for, [L, B, S, K, H]."""
        return jnp.stack([layer.whole() for layer in self.layers])

    def with_layer(self, number: int, layer: LayerBlocks) -> Self:
        """With another one in place of that one."""
        layers = list(self.layers)
        layers[number] = layer
        return dataclasses.replace(self, layers=layers)

    def with_row(self, row: Any, other: Self, source: Any, slots: int) -> Self:
        """With the first slots of a row of another one, or of itself."""
        pairs = zip(self.layers, other.layers, strict=True)
        return dataclasses.replace(
            self, layers=[mine.with_row(row, theirs, source, slots) for mine, theirs in pairs]
        )
