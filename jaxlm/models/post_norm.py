"""What BERT and its descendants share: embeddings, the post-norm block, the token head, and their order.

In: a config derived from `PostNorm`. Out: parts to build a family from; `Encoder` runs them. Guaranteed: items packed
into one row give what they give alone; norms, softmax and logits in float32; no state.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Batch, Kind
from jaxlm.models import checks, kernels, masks, parameters, stack
from jaxlm.models.activations import constrain
from jaxlm.models.dropout import dropout
from jaxlm.models.embed import TokenEmbedding, padded
from jaxlm.models.encoded import Encoded, Extras
from jaxlm.models.heads import Dense, Headed
from jaxlm.models.mlp import Activation, Mlp, activation
from jaxlm.models.norm import LayerNorm
from jaxlm.models.self_attention import SelfAttention

PositionInit = Literal["normal", "sinusoidal"]  # how the learned positions start


@dataclasses.dataclass(kw_only=True)
class PostNorm:
    """Sizes of a post-norm encoder; a family's config adds its own fields."""

    kind: ClassVar[Kind] = "encoder"

    vocab_size: int  # real tokens; the table inside is padded to a multiple of 128
    hidden: int  # width of the residual stream (d_model)
    layers: int  # number of blocks
    heads: int  # attention heads; hidden / heads is the width of each
    mlp: int  # width between the two matrices of an MLP (d_ff)
    max_positions: int  # the longest row: positions are learned, one vector each
    dropout: float  # on embeddings and on what attention and MLP add
    attention_dropout: float  # on attention probabilities; above 0 rules out the fused kernels
    norm_epsilon: float  # added to the variance, under the root
    activation: Activation  # of the MLP: gelu (erf), gelu_tanh, relu, silu
    init_scale: float  # standard deviation of initial weights
    # Operational: the same parameters and, to rounding, the same results.
    layer_loop: stack.Loop = (
        "auto"  # scan compiles one block for all; auto: unrolled where that is faster (GPU, CPU)
    )
    remat: stack.Remat = "none"  # compute parts again in the backward pass: less memory, more time
    stage_repeats: int = 1  # groups of layers on each of mesh.stage: parts of a batch go round so often
    attention: kernels.Implementation = "auto"  # kernel; auto: the fastest that is right for device and rows

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        checks.at_least_one(self, where, "vocab_size", "hidden", "layers", "heads", "mlp", "max_positions")
        checks.divides(self, where)
        checks.rates(self, where, "dropout", "attention_dropout")
        checks.above_zero(self, where, "norm_epsilon", "init_scale")

    def check_row_length(self, row_length: int, where: str) -> None:
        """Raise UserError if a row of that many tokens has positions that this model has no embedding for."""
        checks.row_length(row_length, self.max_positions, where)

    def token_head(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "TokenHead":
        """A fresh head that predicts tokens."""
        return TokenHead(self, rngs, dtype)


class Embeddings(nnx.Module):
    """Tokens + learned positions + types (0: none), then norm. The first `skipped` rows of the positions are unused."""

    def __init__(
        self,
        c: PostNorm,
        rngs: nnx.Rngs,
        dtype: jnp.dtype,
        *,
        types: int,
        width: int = 0,  # 0: that of the blocks
        skipped: int = 0,
        position_init: PositionInit = "normal",
    ):
        self.dtype, self.skipped, width = dtype, skipped, width or c.hidden
        self.tokens = TokenEmbedding(
            rngs, vocab_size=c.vocab_size, width=width, scale=c.init_scale, dtype=dtype
        )
        make = {"normal": parameters.weight, "sinusoidal": parameters.sinusoids}[position_init]
        self.positions = make(rngs, (c.max_positions + skipped, width), ("positions", "embed"), c.init_scale)
        if types:
            self.types = parameters.weight(rngs, (types, width), ("types", "embed"), c.init_scale)
        self.norm = LayerNorm(width, c.norm_epsilon)

    def __call__(self, batch: Batch) -> jax.Array:
        positions_BTD = self.positions[...][batch.positions_BT + self.skipped]
        x_BTD = self.tokens(batch.tokens_BT) + positions_BTD.astype(self.dtype)
        if hasattr(self, "types"):
            # A model with one type has it everywhere, whatever the objective says of sentences.
            one = self.types.shape[0] == 1
            types_BTD = self.types[...][0] if one else self.types[...][batch.types_BT]
            x_BTD = x_BTD + types_BTD.astype(self.dtype)
        return self.norm(constrain(x_BTD, "batch", "stream", None))


class Block(nnx.Module):
    """Attention, then MLP; each is dropped out, added to its input and normed (post-norm)."""

    def __init__(self, c: PostNorm, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.dropout = c.dropout
        self.attention = SelfAttention(
            rngs,
            width=c.hidden,
            heads=c.heads,
            scale=c.init_scale,
            dropout=c.attention_dropout,
            implementation=c.attention,
            dtype=dtype,
        )
        self.norm_attention = LayerNorm(c.hidden, c.norm_epsilon)
        self.mlp = Mlp(
            rngs, width=c.hidden, hidden=c.mlp, activation=c.activation, scale=c.init_scale, dtype=dtype
        )
        self.norm_mlp = LayerNorm(c.hidden, c.norm_epsilon)

    def __call__(self, x_BTD: jax.Array, mask: masks.Mask, key: jax.Array | None) -> jax.Array:
        keys = (None, None, None) if key is None else jax.random.split(key, 3)
        a_BTD = dropout(self.attention(x_BTD, mask, keys[0]), self.dropout, keys[1])
        x_BTD = self.norm_attention(mask.asking(x_BTD) + a_BTD)
        x_BTD = self.norm_mlp(x_BTD + dropout(self.mlp(x_BTD), self.dropout, keys[2]))
        return constrain(x_BTD, "batch", "stream", None)


class TokenHead(Dense):
    """What stands between the encoder and the tied decoder: dense, activation, norm; and the decoder's bias.

    `width` is that of the token embeddings, where it is not that of the blocks.
    """

    def __init__(self, c: PostNorm, rngs: nnx.Rngs, dtype: jnp.dtype, *, width: int = 0):
        super().__init__(c, rngs, c.hidden, width or c.hidden, dtype)
        self.activation: Activation = c.activation
        self.norm = LayerNorm(width or c.hidden, c.norm_epsilon)
        self.b_vocab = parameters.zeros((padded(c.vocab_size),), ("vocab",))

    def __call__(self, x_BMD: jax.Array) -> jax.Array:
        return self.norm(activation(self.activation)(super().__call__(x_BMD)))


class Encoder(Headed):
    """Calls of a family whose module has `config`, `embeddings` and `blocks`."""

    config: Any
    embeddings: Embeddings
    blocks: nnx.Module  # stacked `Block`s

    def embed(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
        """What goes into the blocks, x_BTD; `encode` with the same key takes it, or something near it."""
        key_embed, _ = (None, None) if key is None else jax.random.split(key)
        return dropout(self.embeddings(batch), self.config.dropout, key_embed)

    def encode(
        self,
        batch: Batch,
        key: jax.Array | None = None,
        x_BTD: jax.Array | None = None,
        at_BM: jax.Array | None = None,
    ) -> Encoded:
        """Features in the dtype of the computation, from `embed`'s x_BTD or a given one. `key` None: no dropout."""
        x_BTD = self.embed(batch, key) if x_BTD is None else x_BTD
        _, key_blocks = (None, None) if key is None else jax.random.split(key)
        mask = masks.materialise(masks.within_segments(batch.segments_BT, most_segments=batch.most_segments))
        return Encoded.of(*self.run_blocks(x_BTD, mask, key_blocks, at_BM))

    def run_blocks(
        self, x_BTD: jax.Array, mask: masks.Mask, key: jax.Array | None, at_BM: jax.Array | None
    ) -> tuple[jax.Array, Extras]:
        """What the blocks make of the embedded row."""
        c = self.config
        return stack.run(
            lambda block, x_BTD, mask, key: block(x_BTD, mask, key),
            self.blocks,
            x_BTD,
            mask,
            key,
            layers=c.layers,
            loop=c.layer_loop,
            remat=c.remat,
            repeats=c.stage_repeats,
            at_BM=at_BM,
        )

    def predict_tokens(self, x_BMD: jax.Array) -> jax.Array:
        """Features of M positions -> logits_BMV, float32; V is the padded vocabulary, padding is never predicted."""
        head = self.heads["tokens"]
        return self.embeddings.tokens.logits(head(x_BMD), head.b_vocab[...])
