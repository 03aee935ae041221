"""What generation remembers: keys and values of every layer for the tokens so far.

In: the shape of a model. Out: a `Cache` of zeros, its layers, and the mask of the next tokens. Guaranteed: all rows
write the same slots (shorter prompts are padded on the left, as segment 0), so a write is one slice.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlm.models import masks


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerCache:
    """One layer's keys and values; S is the number of slots. `used` slots are written."""

    k_BSKH: jax.Array
    v_BSKH: jax.Array
    used: jax.Array  # int32

    def append(self, k_BTKH: jax.Array, v_BTKH: jax.Array) -> "LayerCache":
        """The cache with T more slots written."""
        write = lambda slots, new: jax.lax.dynamic_update_slice_in_dim(
            slots, new.astype(slots.dtype), self.used, axis=1
        )
        k_BSKH, v_BSKH = write(self.k_BSKH, k_BTKH), write(self.v_BSKH, v_BTKH)
        return LayerCache(k_BSKH=k_BSKH, v_BSKH=v_BSKH, used=self.used + k_BTKH.shape[1])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """The source of an encoder-decoder, as the cross-attention of every layer sees it."""

    k_LBSKH: jax.Array
    v_LBSKH: jax.Array
    segments_BS: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Cache:
    """All layers. A slot of segment 0 is unwritten or padding, and is not seen."""

    k_LBSKH: jax.Array
    v_LBSKH: jax.Array
    segments_BS: jax.Array
    used: jax.Array  # int32
    memory: Memory | None = None
    # slots that their whole text sees, also from before (a model trained with a prefix): nonzero
    prefix_BS: jax.Array | None = None

    def layers(self) -> LayerCache:
        """One LayerCache per layer, stacked: what `stack.run_cached` takes apart."""
        used_L = jnp.broadcast_to(self.used, self.k_LBSKH.shape[:1])
        return LayerCache(k_BSKH=self.k_LBSKH, v_BSKH=self.v_LBSKH, used=used_L)

    def extended(self, layers: LayerCache, segments_BS: jax.Array) -> "Cache":
        """The cache after a step that wrote these layers and segments."""
        return dataclasses.replace(
            self,
            k_LBSKH=layers.k_BSKH,
            v_LBSKH=layers.v_BSKH,
            segments_BS=segments_BS,
            used=layers.used[0],
        )

    def mask(
        self, segments_BT: jax.Array, *, window: tuple[int, int] | None = None
    ) -> tuple[masks.Mask, jax.Array]:
        """Who the next T tokens may see, themselves included; and the slots' segments once they are written."""
        segments_BS = jax.lax.dynamic_update_slice_in_dim(self.segments_BS, segments_BT, self.used, axis=1)
        places_BT = self.used + jnp.arange(segments_BT.shape[1], dtype=jnp.int32)[None]
        mask = masks.Mask(
            segments_BT=segments_BT,
            segments_BS=segments_BS,
            positions_BT=places_BT,
            prefix_BS=self.prefix_BS,
            causal=True,
            window=window,
        )
        return masks.materialise(mask), segments_BS


def empty(*, layers: int, rows: int, slots: int, kv_heads: int, head_dim: int, dtype: jnp.dtype) -> Cache:
    """A cache with nothing in it. Bytes: 2 x layers x rows x slots x kv_heads x head_dim x bytes of the dtype."""
    shape = (layers, rows, slots, kv_heads, head_dim)
    return Cache(
        k_LBSKH=jnp.zeros(shape, dtype),
        v_LBSKH=jnp.zeros(shape, dtype),
        segments_BS=jnp.zeros((rows, slots), jnp.int32),
        used=jnp.zeros((), jnp.int32),
    )
