"""Llama (Touvron et al., 2302.13971; Llama 2, 3) and what shares its shape: SmolLM2, Mistral, Qwen2, Qwen3.

In: a `Llama` config and a `Batch`. Out: x_BTD, float32 logits of the next token, and a cache to generate with.
Guaranteed: documents packed into one row give what they give alone; RoPE, norms, softmax and logits in float32; no
state.
"""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Batch, Kind
from jaxlm.errors import UserError
from jaxlm.models import cache as caches
from jaxlm.models import checks, kernels, masks, rope, self_attention, stack
from jaxlm.models.activations import constrain
from jaxlm.models.embed import TokenEmbedding
from jaxlm.models.encoded import Encoded, Extras
from jaxlm.models.heads import Headed
from jaxlm.models.mlp import Activation, GatedMlp
from jaxlm.models.norm import RmsNorm


@dataclasses.dataclass(kw_only=True)
class Llama:
    """The published Llama-7B is hidden 4096, layers 32, heads 32, kv_heads 32, head_dim 128, mlp 11008, "silu",
    norm_epsilon 1e-6, Rope(base=1e4, scaling=Unscaled()), embeddings "untied", biases "none", qk_norm "none", windows
    (0,)."""

    kind: ClassVar[Kind] = "decoder"

    vocab_size: int  # real tokens; the table inside is padded to a multiple of 128
    hidden: int  # width of the residual stream (d_model)
    layers: int  # number of blocks
    heads: int  # attention heads of the queries
    kv_heads: int  # as many as heads: multi-head; 1: multi-query; between: grouped-query attention
    head_dim: int  # width of one attention head
    mlp: int  # width of the gated hidden units (d_ff)
    activation: Activation  # of the MLP: gelu (erf), gelu_tanh, relu, silu
    max_positions: int  # the longest row; positions are computed, so nothing else depends on it
    rope: rope.Rope  # rotary positions: base frequency and how it is stretched to longer rows
    norm_epsilon: float  # added to the variance, under the root
    embeddings: Literal["tied", "untied"]  # tied: the decoder is the table of token embeddings
    biases: self_attention.Biases  # of attention: "none" Llama, Mistral, Qwen3; "qkv" Qwen2
    qk_norm: Literal["none", "head"]  # head: RMS norm on every head's queries and keys (Qwen3)
    windows: tuple[
        int, ...
    ]  # tokens a layer sees back, itself included, in turns; 0: all. (4096,) is Mistral's
    init_scale: float  # standard deviation of initial weights
    # Operational: the same parameters and, to rounding, the same results.
    layer_loop: stack.Loop = (
        "auto"  # scan compiles one block for all; auto: unrolled where that is faster (GPU, CPU)
    )
    remat: stack.Remat = "none"  # compute parts again in the backward pass: less memory, more time
    stage_repeats: int = 1  # groups of layers on each of mesh.stage: parts of a batch go round so often
    attention: kernels.Implementation = "auto"  # kernel; auto: the fastest that is right for device and rows

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "LlamaModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return LlamaModule(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        names = ("vocab_size", "hidden", "layers", "heads", "kv_heads", "head_dim", "mlp", "max_positions")
        checks.at_least_one(self, where, *names)
        checks.above_zero(self, where, "norm_epsilon", "init_scale")
        if self.heads % self.kv_heads:
            raise UserError(
                f"{where}.heads={self.heads} does not divide by {where}.kv_heads={self.kv_heads}: every key/value head "
                "serves as many query heads. Change one of the two."
            )
        if self.head_dim % 2:
            raise UserError(f"{where}.head_dim={self.head_dim}: must be even, RoPE turns pairs.")
        self.rope.validate(f"{where}.rope")
        if not self.windows or min(self.windows) < 0:
            raise UserError(
                f"{where}.windows={self.windows}: one entry or more; 0 is no window, else 1 or more."
            )

    def check_row_length(self, row_length: int, where: str) -> None:
        """Raise UserError if rows of that many tokens are longer than the model is meant for."""
        checks.row_length(row_length, self.max_positions, where)


class Block(nnx.Module):
    """Norm, attention, add; norm, gated MLP, add (pre-norm). A family with another MLP says what it is."""

    def __init__(self, c: Llama, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.norm_attention = RmsNorm(c.hidden, c.norm_epsilon)
        self.attention = self_attention.SelfAttention(
            rngs,
            width=c.hidden,
            heads=c.heads,
            kv_heads=c.kv_heads,
            head_dim=c.head_dim,
            scale=c.init_scale,
            biases=c.biases,
            qk_norm=c.norm_epsilon if c.qk_norm == "head" else 0.0,
            dropout=0.0,
            implementation=c.attention,
            dtype=dtype,
        )
        self.norm_mlp = RmsNorm(c.hidden, c.norm_epsilon)
        self.make_mlp(c, rngs, dtype)

    def make_mlp(self, c: Llama, rngs: nnx.Rngs, dtype: jnp.dtype) -> None:
        """The parameters that `apply_mlp` has."""
        self.mlp = GatedMlp(
            rngs, width=c.hidden, hidden=c.mlp, activation=c.activation, scale=c.init_scale, dtype=dtype
        )

    def apply_mlp(self, x_BTD: jax.Array, segments_BT: jax.Array) -> tuple[jax.Array, Extras]:
        """What is added to x_BTD, which comes in normed, and what else is said of it."""
        return self.mlp(x_BTD), Extras()

    def __call__(
        self, x_BTD: jax.Array, mask: masks.Mask, rotation: rope.Rotation
    ) -> tuple[jax.Array, Extras]:
        a_BTD = self.attention(self.norm_attention(x_BTD), mask, None, rotation=rotation)
        return self._add_mlp(mask.asking(x_BTD) + a_BTD, mask)

    def extend(
        self, x_BTD: jax.Array, mask: masks.Mask, rotation: rope.Rotation, cache: caches.LayerCache
    ) -> tuple[jax.Array, caches.LayerCache]:
        """The same for the next tokens of a text that `cache` holds."""
        a_BTD, cache = self.attention.extend(self.norm_attention(x_BTD), mask, cache, rotation=rotation)
        return self._add_mlp(x_BTD + a_BTD, mask)[0], cache

    def _add_mlp(self, x_BTD: jax.Array, mask: masks.Mask) -> tuple[jax.Array, Extras]:
        y_BTD, extras = self.apply_mlp(self.norm_mlp(x_BTD), mask.segments_BT)
        return constrain(x_BTD + y_BTD, "batch", "stream", None), extras


class LlamaModule(Headed):
    """Weights and calls of one Llama; made by `Llama.module`, bound by `build.Model.bind`."""

    block: ClassVar[type[Block]] = Block

    def __init__(self, c: Llama, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config, self.dtype = c, dtype
        table = lambda: TokenEmbedding(
            rngs, vocab_size=c.vocab_size, width=c.hidden, scale=c.init_scale, dtype=dtype
        )
        self.tokens = table()
        self.blocks = stack.stacked(lambda r: self.block(c, r, dtype), c.layers, rngs)
        self.norm = RmsNorm(c.hidden, c.norm_epsilon)
        if c.embeddings == "untied":
            self.decoder = table()

    def embed(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
        """What goes into the blocks, x_BTD; `encode` takes it, or something near it."""
        return constrain(self.tokens(batch.tokens_BT), "batch", "stream", None)

    def encode(
        self,
        batch: Batch,
        key: jax.Array | None = None,
        x_BTD: jax.Array | None = None,
        at_BM: jax.Array | None = None,
    ) -> Encoded:
        """Normed features, from `embed`'s x_BTD or a given one. There is no dropout: `key` is not used."""
        c = self.config
        x_BTD = self.embed(batch, key) if x_BTD is None else x_BTD
        rotation = c.rope.rotation(batch.positions_BT, c.head_dim)
        mask = {
            window: masks.materialise(
                masks.within_segments(
                    batch.segments_BT,
                    causal=True,
                    window=_back(window),
                    prefix_BT=batch.prefix_BT,
                    most_segments=batch.most_segments,
                )
            )
            for window in c.windows
        }
        x_BTD, extras = stack.run(
            lambda block, x_BTD, rows, _, window: block(x_BTD, rows[0][window], rows[1]),
            self.blocks,
            x_BTD,
            (mask, rotation),
            None,
            layers=c.layers,
            loop=c.layer_loop,
            remat=c.remat,
            repeats=c.stage_repeats,
            pattern=c.windows,
            at_BM=at_BM,
        )
        return Encoded.of(self.norm(x_BTD), extras)

    def predict_tokens(self, x_BMD: jax.Array) -> jax.Array:
        """Features of M positions -> logits_BMV of the next token, float32; V is the padded vocabulary."""
        table = self.tokens if self.config.embeddings == "tied" else self.decoder
        return table.logits(x_BMD)

    def start_cache(self, batch: Batch, slots: int) -> caches.KVCache:
        """An empty cache for the batch's rows, with room for `slots` tokens a row."""
        c, rows = self.config, batch.tokens_BT.shape[0]
        return caches.empty(
            layers=c.layers,
            rows=rows,
            slots=slots,
            kv_heads=c.kv_heads,
            head_dim=c.head_dim,
            dtype=self.dtype,
            loop=c.layer_loop,
        )

    def extend(
        self, tokens_BT: jax.Array, segments_BT: jax.Array, positions_BT: jax.Array, cache: caches.KVCache
    ) -> tuple[jax.Array, caches.KVCache]:
        """x_BTD of the next T tokens (left-padded: segment 0), and the cache with them in it."""
        c = self.config
        rotation = c.rope.rotation(positions_BT, c.head_dim)
        mask = {window: cache.mask(segments_BT, window=_back(window)) for window in c.windows}
        x_BTD, layers = stack.run_cached(
            lambda block, x_BTD, layers, layer, window: block.extend(
                x_BTD, mask[window], rotation, layers.of(layer)
            ),
            self.blocks,
            self.tokens(tokens_BT),
            cache.layers(),
            layers=c.layers,
            loop=c.layer_loop,
            pattern=c.windows,
        )
        return self.norm(x_BTD), cache.extended(layers, segments_BT)


def _back(window: int) -> tuple[int, int] | None:
    return (window - 1, 0) if window else None
