"""What encoder-decoders share: the block, the two stacks and the way through them, in training and token by token.

In: a `Batch` with source rows. Out: x_BTD of the decoder, or a cache that holds the source. Guaranteed: a segment of
the decoder's row sees the source segment of its number and nothing else: packed pairs give what they give alone.

A family brings a `Stack` for each side (blocks, and how a row enters and leaves them) and the scores of tokens.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Array, Batch
from jaxlm.errors import UserError
from jaxlm.models import cache as caches
from jaxlm.models import masks, mlp, stack
from jaxlm.models.activations import constrain
from jaxlm.models.dropout import dropout
from jaxlm.models.embed import TokenEmbedding
from jaxlm.models.encoded import Encoded, Extras
from jaxlm.models.heads import Headed
from jaxlm.models.norm import LayerNorm
from jaxlm.models.pipeline import Shared
from jaxlm.models.self_attention import CrossAttention, SelfAttention

Embedded = tuple[
    jax.Array, jax.Array
]  # x_BSD of the source and x_BTD of the decoder's row, before the blocks
Seen = tuple[jax.Array, jax.Array, masks.Mask]  # keys and values of the source, and who sees them


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockParts:
    """What a block is made of."""

    norms: Literal["pre", "post"]  # before a layer, or after what it adds
    norm: Callable[[], Any]
    attention: Callable[[type], Any]  # SelfAttention or CrossAttention -> one of that kind
    mlp: Callable[[], mlp.Mlp | mlp.GatedMlp]
    dropout: float  # on what a layer adds
    mlp_dropout: float  # on the MLP's hidden units


class Block(nnx.Module):
    """Self-attention, in a decoder attention to the source, MLP; each is dropped out and added to its input."""

    def __init__(self, parts: BlockParts, *, cross: bool):
        self.pre = parts.norms == "pre"
        self.dropout, self.mlp_dropout = parts.dropout, parts.mlp_dropout
        self.attention, self.norm_attention = parts.attention(SelfAttention), parts.norm()
        if cross:
            self.cross_attention, self.norm_cross = parts.attention(CrossAttention), parts.norm()
        self.mlp, self.norm_mlp = parts.mlp(), parts.norm()

    def __call__(
        self,
        x_BTD: jax.Array,
        mask: masks.Mask,
        key: jax.Array | None,
        *,
        bias_NTS: jax.Array | None = None,
        source: tuple[jax.Array, masks.Mask] | None = None,  # of a decoder: source_BSD, and who sees it
    ) -> jax.Array:
        keys = (None,) * 4 if key is None else jax.random.split(key, 4)
        h_BTD = self._before(self.norm_attention, x_BTD)
        a_BTD = self.attention(h_BTD, mask, keys[0], bias_NTS=bias_NTS)
        x_BTD = self._after(self.norm_attention, x_BTD, a_BTD, keys[1])
        if source is not None:
            x_BTD = self._add_source(
                x_BTD, (*self.cross_attention.keys_values(source[0]), source[1]), keys[2]
            )
        return self._add_mlp(x_BTD, keys[3])

    def extend(
        self,
        x_BTD: jax.Array,
        mask: masks.Mask,
        cache: caches.LayerCache,
        seen: Seen,
        bias_NTS: jax.Array | None,
    ) -> tuple[jax.Array, caches.LayerCache]:
        """The same for the next tokens of a text that `cache` holds."""
        h_BTD = self._before(self.norm_attention, x_BTD)
        a_BTD, cache = self.attention.extend(h_BTD, mask, cache, bias_NTS=bias_NTS)
        x_BTD = self._after(self.norm_attention, x_BTD, a_BTD, None)
        return self._add_mlp(self._add_source(x_BTD, seen, None), None), cache

    def _add_source(self, x_BTD: jax.Array, seen: Seen, key: jax.Array | None) -> jax.Array:
        keys = (None, None) if key is None else jax.random.split(key)
        h_BTD = self._before(self.norm_cross, x_BTD)
        return self._after(self.norm_cross, x_BTD, self.cross_attention(h_BTD, *seen, keys[0]), keys[1])

    def _add_mlp(self, x_BTD: jax.Array, key: jax.Array | None) -> jax.Array:
        keys = (None, None) if key is None else jax.random.split(key)
        h_BTF = self.mlp.hidden(self._before(self.norm_mlp, x_BTD))
        y_BTD = self.mlp.output(dropout(h_BTF, self.mlp_dropout, keys[0]))
        return constrain(self._after(self.norm_mlp, x_BTD, y_BTD, keys[1]), "batch", "stream", None)

    def _before(self, norm: Any, x_BTD: jax.Array) -> jax.Array:
        return norm(x_BTD) if self.pre else x_BTD

    def _after(self, norm: Any, x_BTD: jax.Array, added_BTD: jax.Array, key: jax.Array | None) -> jax.Array:
        x_BTD = x_BTD + dropout(added_BTD, self.dropout, key)
        return x_BTD if self.pre else norm(x_BTD)


def post_norm(
    c: Any, rngs: nnx.Rngs, dtype: jnp.dtype, *, cross: bool, scale: float, mlp_scale: float
) -> Block:
    """The block of Vaswani et al. (2017), and of BART: biases everywhere, a norm after every addition.

    `c`: a config with hidden, heads, mlp, activation, norm_epsilon, attention and three dropouts.
    """
    parts = BlockParts(
        norms="post",
        norm=lambda: LayerNorm(c.hidden, c.norm_epsilon),
        attention=lambda kind: kind(
            rngs,
            width=c.hidden,
            heads=c.heads,
            scale=scale,
            dropout=c.attention_dropout,
            implementation=c.attention,
            dtype=dtype,
        ),
        mlp=lambda: mlp.Mlp(
            rngs, width=c.hidden, hidden=c.mlp, activation=c.activation, scale=mlp_scale, dtype=dtype
        ),
        dropout=c.dropout,
        mlp_dropout=c.activation_dropout,
    )
    return Block(parts, cross=cross)


class Stack(nnx.Module):
    """`blocks` of one side (stacked `Block`s); a family adds what stands before and behind them."""

    blocks: nnx.Module

    def enter(self, x_BTD: jax.Array, positions_BT: jax.Array, key: jax.Array | None) -> jax.Array:
        """Token vectors -> input of the blocks."""
        raise NotImplementedError

    def bias(self, queries_T: jax.Array, keys_S: jax.Array) -> jax.Array | None:
        """What is added to the scores of self-attention, by the places of queries, [T] or [B, T], and keys."""
        return None

    def leave(self, x_BTD: jax.Array, key: jax.Array | None) -> jax.Array:
        """Output of the blocks -> features."""
        return x_BTD


class Stacked(Headed):
    """The way into a stack, and through it."""

    config: Any
    tokens: TokenEmbedding

    def enter(
        self, side: Stack, tokens_BT: jax.Array, positions_BT: jax.Array, key: jax.Array | None
    ) -> jax.Array:
        """What goes into the blocks."""
        key = None if key is None else jax.random.split(key, 3)[0]
        return constrain(side.enter(self.tokens(tokens_BT), positions_BT, key), "batch", "stream", None)

    def through(
        self, side: Stack, x_BTD: jax.Array, rows: Any, key: jax.Array | None, layers: int
    ) -> tuple[jax.Array, Extras]:
        """The features behind the blocks; `rows`: the mask, and of a decoder the source and who sees it."""
        keys = (None,) * 3 if key is None else jax.random.split(key, 3)
        places_T = jnp.arange(x_BTD.shape[1], dtype=jnp.int32)
        x_BTD, extras = stack.run(
            lambda block, x_BTD, rows, key: block(
                x_BTD, rows[0], key, bias_NTS=rows[2].value, source=rows[1]
            ),
            side.blocks,
            x_BTD,
            (*rows, Shared(side.bias(places_T, places_T))),
            keys[1],
            layers=layers,
            loop=self.config.layer_loop,
            remat=self.config.remat,
            repeats=self.config.stage_repeats,
        )
        return side.leave(x_BTD, keys[2]), extras


class EncoderDecoder(Stacked):
    """The way through both. A family sets these two and those of `Stacked`, and has `predict_tokens`."""

    encoder: Stack
    decoder: Stack

    def embed(self, batch: Batch, key: jax.Array | None = None) -> Embedded:
        """What goes into the blocks of both sides; `encode` with the same key takes it, or something near it."""
        key_source, key_target = (None, None) if key is None else jax.random.split(key)
        x_BSD = self._embed_source(batch, key_source)
        return x_BSD, self.enter(self.decoder, batch.tokens_BT, batch.positions_BT, key_target)

    def encode(
        self,
        batch: Batch,
        key: jax.Array | None = None,
        x_BTD: Embedded | None = None,
        at_BM: jax.Array | None = None,
    ) -> Encoded:
        """Features of the decoder, from what `embed` gives or something near it. `key` None means no dropout."""
        key_source, key_target = (None, None) if key is None else jax.random.split(key)
        x_BSD, entered_BTD = self.embed(batch, key) if x_BTD is None else x_BTD
        segments_BS: Array = batch.source_segments_BS
        source_BSD, of_source = self._encode_source(batch, x_BSD, key_source)
        within = masks.within_segments(batch.segments_BT, causal=True, most_segments=batch.most_segments)
        mask = masks.materialise(within)
        cross = masks.materialise(masks.between_segments(batch.segments_BT, segments_BS))
        rows, layers = (mask, (source_BSD, cross)), self.config.decoder_layers
        features_BTD, extras = self.through(self.decoder, entered_BTD, rows, key_target, layers)
        features_BTD = features_BTD if at_BM is None else masks.at_places(features_BTD, at_BM)
        return Encoded.of(features_BTD, of_source, extras)

    def start_cache(self, batch: Batch, slots: int) -> caches.KVCache:
        """The source of every row as all layers see it, and room for `slots` tokens of the decoder."""
        segments_BS: Array = batch.source_segments_BS
        x_BSD = self._embed_source(batch, None)
        source_BSD, _ = self._encode_source(batch, x_BSD, None)
        k_LBSKH, v_LBSKH = stack.each(
            lambda block: block.cross_attention.keys_values(source_BSD),
            self.decoder.blocks,
            layers=self.config.decoder_layers,
            loop=self.config.layer_loop,
        )
        layers, rows, _, kv_heads, head_dim = k_LBSKH.shape
        memory = caches.Memory(k_LBSKH=k_LBSKH, v_LBSKH=v_LBSKH, segments_BS=segments_BS)
        shape = {"layers": layers, "rows": rows, "slots": slots, "kv_heads": kv_heads, "head_dim": head_dim}
        empty = caches.empty(**shape, dtype=k_LBSKH.dtype, loop=self.config.layer_loop)
        return dataclasses.replace(empty, memory=memory)

    def extend(
        self, tokens_BT: jax.Array, segments_BT: jax.Array, positions_BT: jax.Array, cache: caches.KVCache
    ) -> tuple[jax.Array, caches.KVCache]:
        """x_BTD of the decoder's next T tokens (left-padded: segment 0), and the cache with them in it."""
        memory = cache.memory
        assert memory is not None  # made by start_cache
        mask = cache.mask(segments_BT)
        cross = masks.materialise(masks.between_segments(segments_BT, memory.segments_BS))
        places_T = cache.places(tokens_BT.shape[1])
        bias_NTS = self.decoder.bias(places_T, jnp.arange(cache.segments_BS.shape[1], dtype=jnp.int32))
        x_BTD, layers = stack.run_cached(
            lambda block, x_BTD, layers, layer: block.extend(
                x_BTD, mask, layers.of(layer), (*memory.of(layer), cross), bias_NTS
            ),
            self.decoder.blocks,
            self.decoder.enter(self.tokens(tokens_BT), positions_BT, None),
            cache.layers(),
            layers=self.config.decoder_layers,
            loop=self.config.layer_loop,
        )
        return self.decoder.leave(x_BTD, None), cache.extended(layers, segments_BT)

    def _embed_source(self, batch: Batch, key: jax.Array | None) -> jax.Array:
        if batch.source_tokens_BS is None or batch.source_positions_BS is None:
            raise UserError(
                f"{type(self.config).__name__} is an encoder-decoder, but the rows have no source. Fix: an objective "
                "with one, such as SpanCorruption, Denoising or Translation; or a model without an encoder."
            )
        return self.enter(self.encoder, batch.source_tokens_BS, batch.source_positions_BS, key)

    def _encode_source(
        self, batch: Batch, x_BSD: jax.Array, key: jax.Array | None
    ) -> tuple[jax.Array, Extras]:
        segments_BS: Array = batch.source_segments_BS
        mask = masks.materialise(masks.within_segments(segments_BS, most_segments=batch.most_segments))
        return self.through(self.encoder, x_BSD, (mask, None), key, self.config.encoder_layers)
