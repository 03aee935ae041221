"""ModernBERT (Warner et al., 2412.13663): pre-norm encoder, RoPE, gated MLPs, local and global attention, no biases.

In: a `ModernBert` config and a `Batch`. Out: x_BTD, normed, and float32 logits of tokens. Guaranteed: items packed into
one row give what they give alone, windows included; RoPE, norms, softmax and logits in float32; no state.
"""

import dataclasses
import functools
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Batch, Kind
from jaxlm.errors import UserError
from jaxlm.models import checks, kernels, masks, parameters, rope, stack
from jaxlm.models.activations import constrain
from jaxlm.models.dense import dense
from jaxlm.models.dropout import dropout
from jaxlm.models.embed import TokenEmbedding, padded
from jaxlm.models.encoded import Encoded
from jaxlm.models.heads import Headed
from jaxlm.models.mlp import Activation, GatedMlp, activation
from jaxlm.models.norm import LayerNorm
from jaxlm.models.self_attention import SelfAttention

Attends = Literal["global", "local"]  # of a layer's attention


@dataclasses.dataclass(kw_only=True)
class ModernBert:
    """The published ModernBERT-base is vocab_size 50368, hidden 768, layers 22, heads 12, mlp 1152, max_positions 8192,
    "gelu", window 128, global_every 3, bases 160000 and 10000, norm_epsilon 1e-5, dropout 0.1, init_scale 0.02."""

    kind: ClassVar[Kind] = "encoder"

    vocab_size: int  # real tokens; the table inside is padded to a multiple of 128
    hidden: int  # width of the residual stream (d_model)
    layers: int  # number of blocks
    heads: int  # attention heads; hidden / heads is the width of each
    mlp: int  # gated hidden units: the published 1152 has matrices of 2304
    activation: Activation  # of the MLP: gelu (erf), gelu_tanh, relu, silu
    max_positions: int  # the longest row; positions are computed, so nothing else depends on it
    window: int  # tokens around its own that a query of a local layer sees, half before and half behind it
    global_every: int  # the first layer and every such one after it see the whole text, the others a window
    global_base: float  # of RoPE in global layers
    local_base: float  # of RoPE in local layers
    dropout: float  # on what attention adds
    norm_epsilon: float  # added to the variance, under the root
    init_scale: float  # what adds to the residual starts smaller, by sqrt(2 * layers)
    # Operational: the same parameters and, to rounding, the same results.
    layer_loop: stack.Loop = (
        "auto"  # scan compiles one block for all; auto: unrolled where that is faster (GPU, CPU)
    )
    remat: stack.Remat = "none"  # compute parts again in the backward pass: less memory, more time
    stage_repeats: int = 1  # groups of layers on each of mesh.stage: parts of a batch go round so often
    attention: kernels.Implementation = "auto"  # kernel; auto: the fastest that is right for device and rows

    @property
    def kinds(self) -> tuple[Attends, ...]:
        """Of every layer."""
        return tuple("local" if i % self.global_every else "global" for i in range(self.layers))

    def token_head(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "TokenHead":
        """A fresh head that predicts tokens."""
        return TokenHead(self, rngs, dtype)

    def class_layer(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "HeadLayer":
        """What classes of a text stand behind, in place of a pooler, and classes of tokens."""
        return HeadLayer(self, rngs, dtype)

    tag_layer = class_layer

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "ModernBertModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return ModernBertModule(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        checks.at_least_one(
            self, where, "vocab_size", "hidden", "heads", "mlp", "max_positions", "global_every"
        )
        checks.above_zero(self, where, "norm_epsilon", "init_scale")
        checks.rates(self, where, "dropout")
        checks.divides(self, where)
        if self.hidden // self.heads % 2:
            raise UserError(
                f"{where}.hidden={self.hidden} over {where}.heads={self.heads} makes heads of "
                f"{self.hidden // self.heads}: must be even, RoPE turns pairs."
            )
        if self.layers < 2:
            raise UserError(f"{where}.layers={self.layers}: must be at least 2, the first one has no norm.")
        if self.window < 0 or self.window % 2:
            raise UserError(
                f"{where}.window={self.window}: must be even, half of it lies to each side (published: 128)."
            )
        for name in ("global_base", "local_base"):
            rope.Rope(base=getattr(self, name), scaling=rope.Unscaled()).validate(f"{where}.{name}")

    def check_row_length(self, row_length: int, where: str) -> None:
        """Raise UserError if rows of that many tokens are longer than the model is meant for."""
        checks.row_length(row_length, self.max_positions, where)


class Block(nnx.Module):
    """Norm, attention, add; norm, gated MLP, add (pre-norm). The first has its attention's norm in the embeddings."""

    def __init__(self, c: ModernBert, rngs: nnx.Rngs, dtype: jnp.dtype, *, first: bool):
        self.dropout, out_scale = c.dropout, c.init_scale / (2 * c.layers) ** 0.5
        if not first:
            self.norm_attention = LayerNorm(c.hidden, c.norm_epsilon, bias=False)
        self.attention = SelfAttention(
            rngs,
            width=c.hidden,
            heads=c.heads,
            scale=c.init_scale,
            out_scale=out_scale,
            biases="none",
            dropout=0.0,
            implementation=c.attention,
            dtype=dtype,
        )
        self.norm_mlp = LayerNorm(c.hidden, c.norm_epsilon, bias=False)
        self.mlp = GatedMlp(
            rngs,
            width=c.hidden,
            hidden=c.mlp,
            activation=c.activation,
            scale=c.init_scale,
            out_scale=out_scale,
            dtype=dtype,
        )

    def __call__(
        self, x_BTD: jax.Array, mask: masks.Mask, rotation: rope.Rotation, key: jax.Array | None
    ) -> jax.Array:
        normed_BTD = self.norm_attention(x_BTD) if hasattr(self, "norm_attention") else x_BTD
        a_BTD = self.attention(normed_BTD, mask, None, rotation=rotation)
        x_BTD = mask.asking(x_BTD) + dropout(a_BTD, self.dropout, key)
        return constrain(x_BTD + self.mlp(self.norm_mlp(x_BTD)), "batch", "stream", None)


class HeadLayer(nnx.Module):
    """What stands between the encoder and whatever is predicted: dense, activation, norm."""

    def __init__(self, c: ModernBert, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.activation: Activation = c.activation
        self.dtype = dtype
        scale = c.init_scale / (2 * c.layers) ** 0.5
        self.w = parameters.weight(rngs, (c.hidden, c.hidden), ("embed", None), scale)
        self.norm = LayerNorm(c.hidden, c.norm_epsilon, bias=False)

    def __call__(self, x_BMD: jax.Array) -> jax.Array:
        return self.norm(activation(self.activation)(dense(x_BMD, self.w[...].astype(self.dtype))))


class TokenHead(HeadLayer):
    """The layer before the tied decoder, and the decoder's bias."""

    def __init__(self, c: ModernBert, rngs: nnx.Rngs, dtype: jnp.dtype):
        super().__init__(c, rngs, dtype)
        self.b_vocab = parameters.zeros((padded(c.vocab_size),), ("vocab",))


class ModernBertModule(Headed):
    """Weights and calls of one ModernBERT; made by `ModernBert.module`, bound by `build.Model.bind`."""

    def __init__(self, c: ModernBert, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        self.tokens = TokenEmbedding(
            rngs, vocab_size=c.vocab_size, width=c.hidden, scale=c.init_scale, dtype=dtype
        )
        self.norm_tokens = LayerNorm(c.hidden, c.norm_epsilon, bias=False)
        make = lambda first: lambda r: Block(c, r, dtype, first=first)
        self.first = stack.stacked(make(True), 1, rngs)  # a stack of one: run like the others
        self.blocks = stack.stacked(make(False), c.layers - 1, rngs)
        self.norm = LayerNorm(c.hidden, c.norm_epsilon, bias=False)

    def embed(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
        """What goes into the blocks, x_BTD, without dropout; `encode` takes it, or something near it."""
        return self.norm_tokens(constrain(self.tokens(batch.tokens_BT), "batch", "stream", None))

    def encode(
        self,
        batch: Batch,
        key: jax.Array | None = None,
        x_BTD: jax.Array | None = None,
        at_BM: jax.Array | None = None,
    ) -> Encoded:
        """Normed features, from `embed`'s x_BTD or a given one. `key` None means no dropout."""
        c, half = self.config, self.config.window // 2
        window: dict[Attends, tuple[int, int] | None] = {"global": None, "local": (half, half)}
        base: dict[Attends, float] = {"global": c.global_base, "local": c.local_base}
        mask, rotation = {}, {}
        for kind in sorted(set(c.kinds)):
            within = masks.within_segments(
                batch.segments_BT, window=window[kind], most_segments=batch.most_segments
            )
            mask[kind] = masks.materialise(within)
            turns = rope.Rope(base=base[kind], scaling=rope.Unscaled())
            rotation[kind] = turns.rotation(batch.positions_BT, c.hidden // c.heads)

        def call(block: Block, x_BTD: jax.Array, rows: Any, key: jax.Array | None, kind: Attends) -> Any:
            mask, rotation = rows
            return block(x_BTD, mask[kind], rotation[kind], key)

        rows = (mask, rotation)
        keys = (None, None) if key is None else jax.random.split(key)
        x_BTD = self.embed(batch) if x_BTD is None else x_BTD
        run = functools.partial(stack.run, call, loop=c.layer_loop, remat=c.remat, repeats=c.stage_repeats)
        x_BTD, first = run(self.first, x_BTD, rows, keys[0], layers=1, pattern=c.kinds[:1])
        pattern = c.kinds[1 : 1 + c.global_every]
        x_BTD, others = run(
            self.blocks, x_BTD, rows, keys[1], layers=c.layers - 1, pattern=pattern, at_BM=at_BM
        )
        return Encoded.of(self.norm(x_BTD), first, others)

    def predict_tokens(self, x_BMD: jax.Array) -> jax.Array:
        """Features of M positions -> logits_BMV, float32; V is the padded vocabulary, padding is never predicted."""
        head = self.heads["tokens"]
        return self.tokens.logits(head(x_BMD), head.b_vocab[...])
