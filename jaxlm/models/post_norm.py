"""What BERT and its descendants share: embeddings, the post-norm block, the token head, the pooler, and their order.

In: a config derived from `PostNorm`. Out: parts to build a family from; `Encoder` runs them. Guaranteed: items packed
into one row give what they give alone; norms, softmax and logits in float32; no state.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Batch, Head, Kind
from jaxlm.models import checks, kernels, masks, parameters, stack
from jaxlm.models.activations import constrain
from jaxlm.models.dense import dense
from jaxlm.models.dropout import dropout
from jaxlm.models.embed import TokenEmbedding
from jaxlm.models.mlp import Activation, Mlp, activation
from jaxlm.models.norm import LayerNorm
from jaxlm.models.self_attention import SelfAttention

PositionInit = Literal["normal", "sinusoidal"]  # how the learned positions start


def offers(token_head: str, next_sentence: str) -> tuple[Head, ...]:
    """Of an encoder with these settings."""
    there: dict[Head, bool] = {
        "tokens": token_head != "none",
        "pairs": next_sentence == "pooled",
        "pooler": next_sentence != "none",
    }
    return tuple(head for head, given in there.items() if given)


@dataclasses.dataclass(kw_only=True)
class PostNorm:
    """Sizes of a post-norm encoder; a family's config adds its own fields."""

    kind: ClassVar[Kind] = "encoder"

    vocab_size: int  # real tokens; the table inside is padded to a multiple of 128
    hidden: int
    layers: int
    heads: int
    mlp: int
    max_positions: int
    dropout: float  # on embeddings and on what attention and MLP add
    attention_dropout: float  # on attention probabilities; above 0 rules out the fused kernels
    norm_epsilon: float
    activation: Activation
    init_scale: float
    # Operational: the same parameters and, to rounding, the same results.
    layer_loop: stack.Loop = "scan"
    remat: stack.Remat = "none"
    attention: kernels.Implementation = "auto"

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        checks.at_least_one(self, where, "vocab_size", "hidden", "layers", "heads", "mlp", "max_positions")
        checks.divides(self, where)
        checks.rates(self, where, "dropout", "attention_dropout")
        checks.above_zero(self, where, "norm_epsilon", "init_scale")

    def check_row_length(self, row_length: int, where: str) -> None:
        """Raise UserError if a row of that many tokens has positions that this model has no embedding for."""
        checks.row_length(row_length, self.max_positions, where)


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
        return self.norm(constrain(x_BTD, "batch", "length", None))


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
        x_BTD = self.norm_attention(x_BTD + a_BTD)
        x_BTD = self.norm_mlp(x_BTD + dropout(self.mlp(x_BTD), self.dropout, keys[2]))
        return constrain(x_BTD, "batch", "length", None)


class Projection(nnx.Module):
    """A dense layer with bias between two widths."""

    def __init__(self, c: PostNorm, rngs: nnx.Rngs, width: int, result: int, dtype: jnp.dtype):
        self.dtype = dtype
        self.w = parameters.weight(rngs, (width, result), ("embed", None), c.init_scale)
        self.b = parameters.zeros((result,), ("embed",))

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        w_DE, b_E = self.w[...].astype(self.dtype), self.b[...].astype(self.dtype)
        return dense(x_BTD, w_DE) + b_E


class TokenHead(Projection):
    """What stands between the encoder and the tied decoder: dense, activation, norm; and the decoder's bias.

    `width` is that of the token embeddings, where it is not that of the blocks.
    """

    def __init__(self, c: PostNorm, rngs: nnx.Rngs, dtype: jnp.dtype, *, vocab_rows: int, width: int = 0):
        super().__init__(c, rngs, c.hidden, width or c.hidden, dtype)
        self.activation: Activation = c.activation
        self.norm = LayerNorm(width or c.hidden, c.norm_epsilon)
        self.b_vocab = parameters.zeros((vocab_rows,), ("vocab",))

    def __call__(self, x_BMD: jax.Array) -> jax.Array:
        return self.norm(activation(self.activation)(super().__call__(x_BMD)))


class PairHead(nnx.Module):
    """The pooler (dense, tanh) on the first token of an item; and two classes, unless there are none."""

    def __init__(self, c: PostNorm, rngs: nnx.Rngs, dtype: jnp.dtype, *, classes: int):
        self.dtype = dtype
        self.w_pool = parameters.weight(rngs, (c.hidden, c.hidden), ("embed", None), c.init_scale)
        self.b_pool = parameters.zeros((c.hidden,), ("embed",))
        if classes:
            self.w = parameters.weight(rngs, (c.hidden, classes), ("embed", None), c.init_scale)
            self.b = parameters.zeros((classes,), (None,))

    def pool(self, x_BCD: jax.Array) -> jax.Array:
        """What the two classes, and sentence embeddings, are made from."""
        w_DD, b_D = self.w_pool[...].astype(self.dtype), self.b_pool[...].astype(self.dtype)
        return jnp.tanh(x_BCD @ w_DD + b_D)

    def __call__(self, x_BCD: jax.Array) -> jax.Array:
        return self.pool(x_BCD).astype(jnp.float32) @ self.w[...] + self.b[...]


class Encoder(nnx.Module):
    """Calls of a family whose module has `config`, `embeddings`, `blocks` and, to predict tokens, `token_head`."""

    config: Any
    embeddings: Embeddings
    blocks: nnx.Module  # stacked `Block`s
    token_head: TokenHead

    def encode(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
        """x_BTD in the dtype of the computation. `key` None means no dropout."""
        key_embed, key_blocks = (None, None) if key is None else jax.random.split(key)
        x_BTD = dropout(self.embeddings(batch), self.config.dropout, key_embed)
        mask = masks.materialise(masks.within_segments(batch.segments_BT))
        return self.run_blocks(x_BTD, mask, key_blocks)

    def run_blocks(self, x_BTD: jax.Array, mask: masks.Mask, key: jax.Array | None) -> jax.Array:
        """What the blocks make of the embedded row."""
        c = self.config
        return stack.run(
            lambda block, x_BTD, block_key: block(x_BTD, mask, block_key),
            self.blocks,
            x_BTD,
            key,
            layers=c.layers,
            loop=c.layer_loop,
            remat=c.remat,
        )

    def predict_tokens(self, x_BMD: jax.Array) -> jax.Array:
        """Features of M positions -> logits_BMV, float32; V is the padded vocabulary, padding is never predicted."""
        return self.embeddings.tokens.logits(self.token_head(x_BMD), self.token_head.b_vocab[...])


class PairEncoder(Encoder):
    """An `Encoder` with a `PairHead`."""

    next_sentence_head: PairHead

    def classify_pair(self, x_BCD: jax.Array) -> jax.Array:
        """Features of the items' first tokens -> logits_BC2, float32."""
        return self.next_sentence_head(x_BCD)

    def pool(self, x_BCD: jax.Array) -> jax.Array:
        """Features of the items' first tokens through the pooler (dense, tanh): SimCSE's MLP layer."""
        return self.next_sentence_head.pool(x_BCD)
