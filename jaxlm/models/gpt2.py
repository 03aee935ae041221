"""GPT-2 (Radford et al., 2019; openai/gpt-2 src/model.py): pre-norm decoder, learned positions, tied decoder.

In: a `Gpt2` config and a `Batch`. Out: x_BTD, float32 logits of the next token, and a cache to generate with.
Guaranteed: documents packed into one row give what they give alone; norms, softmax and logits in float32; no state.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Batch, Kind
from jaxlm.models import cache as caches
from jaxlm.models import checks, kernels, masks, parameters, stack
from jaxlm.models.activations import constrain
from jaxlm.models.dropout import dropout
from jaxlm.models.embed import TokenEmbedding
from jaxlm.models.encoded import Encoded
from jaxlm.models.heads import Headed
from jaxlm.models.mlp import Activation, Mlp
from jaxlm.models.norm import LayerNorm
from jaxlm.models.self_attention import SelfAttention


@dataclasses.dataclass(kw_only=True)
class Gpt2:
    """The published GPT-2 small is hidden 768, layers 12, heads 12, mlp 3072, max_positions 1024, dropouts 0.1,
    norm_epsilon 1e-5, "gelu_tanh", init_scale 0.02."""

    kind: ClassVar[Kind] = "decoder"

    vocab_size: int  # real tokens; the table inside is padded to a multiple of 128
    hidden: int  # width of the residual stream (d_model)
    layers: int  # number of blocks
    heads: int  # attention heads; hidden / heads is the width of each
    mlp: int  # width between the two matrices of an MLP (d_ff)
    max_positions: int  # the longest row: positions are learned, one vector each
    embedding_dropout: float  # on tokens + positions
    dropout: float  # on what attention and MLP add
    attention_dropout: float  # on attention probabilities; above 0 rules out the fused kernels
    norm_epsilon: float  # added to the variance, under the root
    activation: Activation  # of the MLP: gelu (erf), gelu_tanh, relu, silu
    init_scale: float  # what ends a residual branch starts with init_scale / sqrt(2 layers)
    # Operational: the same parameters and, to rounding, the same results.
    layer_loop: stack.Loop = (
        "auto"  # scan compiles one block for all; auto: unrolled where that is faster (GPU, CPU)
    )
    remat: stack.Remat = "none"  # compute parts again in the backward pass: less memory, more time
    stage_repeats: int = 1  # groups of layers on each of mesh.stage: parts of a batch go round so often
    attention: kernels.Implementation = "auto"  # kernel; auto: the fastest that is right for device and rows

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "Gpt2Module":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return Gpt2Module(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        checks.at_least_one(self, where, "vocab_size", "hidden", "layers", "heads", "mlp", "max_positions")
        checks.divides(self, where)
        checks.rates(self, where, "embedding_dropout", "dropout", "attention_dropout")
        checks.above_zero(self, where, "norm_epsilon", "init_scale")

    def check_row_length(self, row_length: int, where: str) -> None:
        """Raise UserError if a row of that many tokens has positions that this model has no embedding for."""
        checks.row_length(row_length, self.max_positions, where)


class Block(nnx.Module):
    """Norm, attention, add; norm, MLP, add (pre-norm)."""

    def __init__(self, c: Gpt2, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.dropout = c.dropout
        # Section 2.3: so that the sum of 2 x layers branches starts with the variance of one.
        out_scale = c.init_scale * (2 * c.layers) ** -0.5
        self.norm_attention = LayerNorm(c.hidden, c.norm_epsilon)
        self.attention = SelfAttention(
            rngs,
            width=c.hidden,
            heads=c.heads,
            scale=c.init_scale,
            out_scale=out_scale,
            dropout=c.attention_dropout,
            implementation=c.attention,
            dtype=dtype,
        )
        self.norm_mlp = LayerNorm(c.hidden, c.norm_epsilon)
        self.mlp = Mlp(
            rngs,
            width=c.hidden,
            hidden=c.mlp,
            activation=c.activation,
            scale=c.init_scale,
            out_scale=out_scale,
            dtype=dtype,
        )

    def __call__(self, x_BTD: jax.Array, mask: masks.Mask, key: jax.Array | None) -> jax.Array:
        keys = (None, None, None) if key is None else jax.random.split(key, 3)
        a_BTD = self.attention(self.norm_attention(x_BTD), mask, keys[0])
        x_BTD = mask.asking(x_BTD) + dropout(a_BTD, self.dropout, keys[1])
        return self._add_mlp(x_BTD, keys[2])

    def extend(
        self, x_BTD: jax.Array, mask: masks.Mask, cache: caches.LayerCache
    ) -> tuple[jax.Array, caches.LayerCache]:
        """The same for the next tokens of a text that `cache` holds."""
        a_BTD, cache = self.attention.extend(self.norm_attention(x_BTD), mask, cache)
        return self._add_mlp(x_BTD + a_BTD, None), cache

    def _add_mlp(self, x_BTD: jax.Array, key: jax.Array | None) -> jax.Array:
        x_BTD = x_BTD + dropout(self.mlp(self.norm_mlp(x_BTD)), self.dropout, key)
        return constrain(x_BTD, "batch", "stream", None)


class Gpt2Module(Headed):
    """Weights and calls of one GPT-2; made by `Gpt2.module`, bound by `build.Model.bind`."""

    def __init__(self, c: Gpt2, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config, self.dtype = c, dtype
        self.tokens = TokenEmbedding(
            rngs, vocab_size=c.vocab_size, width=c.hidden, scale=c.init_scale, dtype=dtype
        )
        self.positions = parameters.weight(
            rngs, (c.max_positions, c.hidden), ("positions", "embed"), c.init_scale
        )
        self.blocks = stack.stacked(lambda r: Block(c, r, dtype), c.layers, rngs)
        self.norm = LayerNorm(c.hidden, c.norm_epsilon)

    def embed(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
        """What goes into the blocks, x_BTD; `encode` with the same key takes it, or something near it."""
        key_embed, _ = (None, None) if key is None else jax.random.split(key)
        x_BTD = self._embed(batch.tokens_BT, batch.positions_BT)
        return dropout(x_BTD, self.config.embedding_dropout, key_embed)

    def encode(
        self,
        batch: Batch,
        key: jax.Array | None = None,
        x_BTD: jax.Array | None = None,
        at_BM: jax.Array | None = None,
    ) -> Encoded:
        """Normed features, from `embed`'s x_BTD or a given one. `key` None means no dropout."""
        c = self.config
        x_BTD = self.embed(batch, key) if x_BTD is None else x_BTD
        _, key_blocks = (None, None) if key is None else jax.random.split(key)
        mask = masks.materialise(
            masks.within_segments(
                batch.segments_BT, causal=True, prefix_BT=batch.prefix_BT, most_segments=batch.most_segments
            )
        )
        x_BTD, extras = stack.run(
            lambda block, x_BTD, mask, key: block(x_BTD, mask, key),
            self.blocks,
            x_BTD,
            mask,
            key_blocks,
            layers=c.layers,
            loop=c.layer_loop,
            remat=c.remat,
            repeats=c.stage_repeats,
            at_BM=at_BM,
        )
        return Encoded.of(self.norm(x_BTD), extras)

    def predict_tokens(self, x_BMD: jax.Array) -> jax.Array:
        """Features of M positions -> logits_BMV of the next token, float32; V is the padded vocabulary."""
        return self.tokens.logits(x_BMD)

    def start_cache(self, batch: Batch, slots: int) -> caches.KVCache:
        """An empty cache for the batch's rows, with room for `slots` tokens a row."""
        c = self.config
        return caches.empty(
            layers=c.layers,
            rows=batch.tokens_BT.shape[0],
            slots=slots,
            kv_heads=c.heads,
            head_dim=c.hidden // c.heads,
            dtype=self.dtype,
            loop=c.layer_loop,
        )

    def extend(
        self, tokens_BT: jax.Array, segments_BT: jax.Array, positions_BT: jax.Array, cache: caches.KVCache
    ) -> tuple[jax.Array, caches.KVCache]:
        """x_BTD of the next T tokens (left-padded: segment 0), and the cache with them in it."""
        mask = cache.mask(segments_BT)
        x_BTD, layers = stack.run_cached(
            lambda block, x_BTD, layers, layer: block.extend(x_BTD, mask, layers.of(layer)),
            self.blocks,
            self._embed(tokens_BT, positions_BT),
            cache.layers(),
            layers=self.config.layers,
            loop=self.config.layer_loop,
        )
        return self.norm(x_BTD), cache.extended(layers, segments_BT)

    def _embed(self, tokens_BT: jax.Array, positions_BT: jax.Array) -> jax.Array:
        x_BTD = self.tokens(tokens_BT) + self.positions[...][positions_BT].astype(self.dtype)
        return constrain(x_BTD, "batch", "stream", None)
