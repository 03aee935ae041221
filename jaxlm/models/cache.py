"""What generation remembers: keys and values of every layer for the tokens so far.

In: the shape of a model. Out: a `Cache` of zeros, its layers, and the mask of the next tokens. Guaranteed: all rows
write the same slots (shorter prompts are padded on the left, as segment 0), so a write is one slice; a loop that
carries the cache writes in place, and what a token costs grows with what is written, not with the room behind it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.models import blocks, cache_values, kernels, masks, stack, traced


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerCache:
    """What one layer sees and writes of the keys and values of all; S is the number of slots."""

    k_LBSKH: Any  # an array, or what stands for one (`cache_values`)
    v_LBSKH: Any
    used: jax.Array  # int32: slots that were written before this step
    layer: Any  # int32; where layers are unrolled an int

    def of(self, layer: Any) -> "LayerCache":
        """What layer number `layer` sees and writes."""
        return dataclasses.replace(self, layer=layer)

    def append(self, k_BTKH: jax.Array, v_BTKH: jax.Array) -> "LayerCache":
        """The cache with the layer's next T slots written."""
        written = {"k_LBSKH": self._write(self.k_LBSKH, k_BTKH), "v_LBSKH": self._write(self.v_LBSKH, v_BTKH)}
        return dataclasses.replace(self, **written)

    def first(self, slots: int) -> tuple[Any, Any]:
        """k_BSKH, v_BSKH of the layer's first slots, or what stands for them."""
        return self._read(self.k_LBSKH, slots), self._read(self.v_LBSKH, slots)

    def over_written(self, attend: Callable[[int], jax.Array], new: int) -> jax.Array:
        """`attend(slots)` for the smallest of a few sizes that holds what is written, with the `new` slots of now."""
        if not traced.known(room := self.k_LBSKH.shape[2]):
            return attend(room)
        sizes = self._sizes()
        most = self._most() + new
        smaller = sum((most > size).astype(jnp.int32) for size in sizes[:-1])
        return jax.lax.switch(smaller, [functools.partial(attend, size) for size in sizes])

    def _write(self, held: Any, new_BTKH: jax.Array) -> Any:
        """All slots, with those of the next T tokens written in the layer."""
        return cache_values.written(held, self.layer, 0, self.used, new_BTKH)

    def _read(self, held: Any, slots: int) -> Any:
        """The layer's first slots."""
        return cache_values.read(held, self.layer, slots)

    def _sizes(self) -> list[int]:
        """Of these numbers of slots one is attended to."""
        return blocks.ends(self.k_LBSKH.shape[2])

    def _most(self) -> jax.Array:
        """Slots that the longest row has written."""
        return self.used


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """The source of an encoder-decoder, as the cross-attention of every layer sees it."""

    k_LBSKH: jax.Array
    v_LBSKH: jax.Array
    segments_BS: jax.Array

    def of(self, layer: jax.Array) -> tuple[jax.Array, jax.Array]:
        """k_BSKH, v_BSKH that layer number `layer` sees."""
        read = lambda a_LBSKH: jax.lax.dynamic_index_in_dim(a_LBSKH, layer, keepdims=False)
        return read(self.k_LBSKH), read(self.v_LBSKH)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class KVCache:
    """All layers. A slot of segment 0 is unwritten or padding, and is not seen."""

    k_LBSKH: Any  # an array, or what stands for one (`cache_values`)
    v_LBSKH: Any
    segments_BS: jax.Array
    used: jax.Array  # int32
    memory: Memory | None = None
    # slots that their whole text sees, also from before (a model trained with a prefix): nonzero
    prefix_BS: jax.Array | None = None

    def layers(self) -> LayerCache:
        """What `stack.run_cached` hands from layer to layer."""
        return LayerCache(
            k_LBSKH=self.k_LBSKH, v_LBSKH=self.v_LBSKH, used=self.used, layer=jnp.zeros((), jnp.int32)
        )

    def extended(self, layers: LayerCache, segments_BT: jax.Array) -> "KVCache":
        """The cache after a step that wrote these layers and segments."""
        return dataclasses.replace(
            self,
            k_LBSKH=layers.k_LBSKH,
            v_LBSKH=layers.v_LBSKH,
            segments_BS=self._segments(segments_BT),
            used=self.used + segments_BT.shape[1],
        )

    def in_int8(self) -> "KVCache":
        """The same, with keys and values held as int8: a quarter of float32's memory, for errors of a half of a 127th
        of the largest number of a head at a position."""
        held = {name: cache_values.in_int8(getattr(self, name)) for name in ("k_LBSKH", "v_LBSKH")}
        return dataclasses.replace(self, **held)

    def repeated(self, times: int) -> "KVCache":
        """Every row so often, beside each other."""

        longer = lambda a, axis: jnp.repeat(a, times, axis=axis)

        def several(part: Any) -> Any:
            arrays = {
                name: a for name, a in vars(part).items() if name[-3:] in ("SKH", "_BS") and a is not None
            }
            held = {name: cache_values.by_row(a, longer) for name, a in arrays.items() if name[-3:] == "SKH"}
            rest = {name: longer(a, 0) for name, a in arrays.items() if name[-3:] == "_BS"}
            return dataclasses.replace(part, **held, **rest)

        return dataclasses.replace(several(self), memory=self.memory and several(self.memory))

    def reordered(self, parent_BK: jax.Array) -> "KVCache":
        """Of a cache of B x K rows: row b, k gets the keys and values of row b, parent_BK[b, k]. The K rows of each b
        have one prompt, and so one mask and one source."""

        def one(array: jax.Array, axis: int) -> jax.Array:
            before, after = array.shape[:axis], array.shape[axis + 1 :]
            apart = array.reshape(*before, *parent_BK.shape, *after)
            take = lambda rows, parent: jnp.take(rows, parent, axis=axis)
            return jax.vmap(take, (axis, 0), axis)(apart, parent_BK).reshape(array.shape)

        made = {name: cache_values.by_row(getattr(self, name), one) for name in ("k_LBSKH", "v_LBSKH")}
        return dataclasses.replace(self, **made)

    def places(self, tokens: int) -> jax.Array:
        """The slots that so many next tokens are written to, [T]; [B, T] where rows differ."""
        return self.used + jnp.arange(tokens, dtype=jnp.int32)

    def mask(self, segments_BT: jax.Array, *, window: tuple[int, int] | None = None) -> masks.Mask:
        """Who the next T tokens may see, themselves included."""
        places_BT = jnp.atleast_2d(self.places(segments_BT.shape[1]))
        mask = masks.Mask(
            segments_BT=segments_BT,
            segments_BS=self._segments(segments_BT),
            positions_BT=places_BT,
            prefix_BS=self.prefix_BS,
            causal=True,
            window=window,
        )
        return masks.materialise(mask)

    def _segments(self, segments_BT: jax.Array) -> jax.Array:
        """Of all slots, once the next T tokens are written."""
        return jax.lax.dynamic_update_slice_in_dim(self.segments_BS, segments_BT, self.used, axis=1)


def empty(
    *, layers: int, rows: int, slots: int, kv_heads: int, head_dim: int, dtype: jnp.dtype, loop: stack.Loop
) -> KVCache:
    """A cache with nothing in it. Bytes: 2 x layers x rows x slots x kv_heads x head_dim x bytes of the dtype."""
    shape = (layers, rows, slots, kv_heads, head_dim)
    known = traced.known(rows) and traced.known(slots)
    if known and kernels.one_cpu() and stack.resolved(loop, layers) == "unrolled":
        k, v = (blocks.Blocks.empty(shape, dtype, axis) for axis in (blocks.KEYS, blocks.VALUES))
    else:
        k, v = jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)
    return KVCache(
        k_LBSKH=k,
        v_LBSKH=v,
        segments_BS=jnp.zeros((rows, slots), jnp.int32),
        used=jnp.zeros((), jnp.int32),
    )
