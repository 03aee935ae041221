"""BERT (Devlin et al., 2019; google-research/bert modeling.py): post-norm encoder, masked-LM and next-
sentence heads.

In: a `Bert` config and a `Batch`. Out: x_BTD, and float32 logits of tokens and of the next-sentence question.
Guaranteed: items packed into one row give what they give alone; float32 norms, softmax and logits; no state.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Batch
from jaxlm.models import checks, kernels, masks, parameters, stack
from jaxlm.models.activations import constrain
from jaxlm.models.dense import dense
from jaxlm.models.dropout import dropout
from jaxlm.models.embed import TokenEmbedding
from jaxlm.models.mlp import Activation, Mlp, activation
from jaxlm.models.norm import LayerNorm
from jaxlm.models.self_attention import SelfAttention


@dataclasses.dataclass(kw_only=True)
class Bert:
    """The published BERT-base is hidden 768, layers 12, heads 12, mlp 3072, max_positions 512, types 2,
    dropouts 0.1,
    norm_epsilon 1e-12, "gelu", init_scale 0.02, positions "normal", next_sentence "pooled"."""

    vocab_size: int  # real tokens; the table inside is padded to a multiple of 128
    hidden: int
    layers: int
    heads: int
    mlp: int
    max_positions: int
    types: int  # token types (sentence A, sentence B)
    dropout: float  # on embeddings and on what attention and MLP add
    attention_dropout: float  # on attention probabilities; above 0 rules out the fused kernels
    norm_epsilon: float
    activation: Activation
    init_scale: float
    position_init: Literal["normal", "sinusoidal"]  # how the learned positions start; published: "normal"
    # "pooler" is a pooler without classes, as bare encoders have it; "none" has neither
    next_sentence: Literal["pooled", "pooler", "none"]
    token_head: Literal["transform", "none"] = "transform"  # "none": a bare encoder, which predicts no tokens
    # Operational: the same parameters and, to rounding, the same results.
    layer_loop: stack.Loop = "scan"
    remat: stack.Remat = "none"
    attention: kernels.Implementation = "auto"

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "BertModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return BertModule(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        names = ("vocab_size", "hidden", "layers", "heads", "mlp", "max_positions", "types")
        checks.at_least_one(self, where, *names)
        checks.divides(self, where)
        checks.rates(self, where, "dropout", "attention_dropout")
        checks.above_zero(self, where, "norm_epsilon", "init_scale")

    def check_row_length(self, row_length: int, where: str) -> None:
        """Raise UserError if a row of that many tokens has positions that this model has no embedding for."""
        checks.row_length(row_length, self.max_positions, where)


class Embeddings(nnx.Module):
    """Tokens + learned positions + types, then norm."""

    def __init__(self, c: Bert, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.dtype = dtype
        self.tokens = TokenEmbedding(
            rngs, vocab_size=c.vocab_size, width=c.hidden, scale=c.init_scale, dtype=dtype
        )
        make = {"normal": parameters.weight, "sinusoidal": parameters.sinusoids}[c.position_init]
        self.positions = make(rngs, (c.max_positions, c.hidden), ("positions", "embed"), c.init_scale)
        self.types = parameters.weight(rngs, (c.types, c.hidden), ("types", "embed"), c.init_scale)
        self.norm = LayerNorm(c.hidden, c.norm_epsilon)

    def __call__(self, batch: Batch) -> jax.Array:
        x_BTD = self.tokens(batch.tokens_BT) + self.positions[...][batch.positions_BT].astype(self.dtype)
        x_BTD = x_BTD + self.types[...][batch.types_BT].astype(self.dtype)
        return self.norm(constrain(x_BTD, "batch", "length", None))


class Block(nnx.Module):
    """Attention, then MLP; each is dropped out, added to its input and normed (post-norm)."""

    def __init__(self, c: Bert, rngs: nnx.Rngs, dtype: jnp.dtype):
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


class TokenHead(nnx.Module):
    """What stands between the encoder and the tied decoder: dense, activation, norm; and the decoder's
    bias.
    """

    def __init__(self, c: Bert, rngs: nnx.Rngs, vocab_rows: int, dtype: jnp.dtype):
        self.activation: Activation = c.activation
        self.dtype = dtype
        self.w = parameters.weight(rngs, (c.hidden, c.hidden), ("embed", None), c.init_scale)
        self.b = parameters.zeros((c.hidden,), ("embed",))
        self.norm = LayerNorm(c.hidden, c.norm_epsilon)
        self.b_vocab = parameters.zeros((vocab_rows,), ("vocab",))

    def __call__(self, x_BMD: jax.Array) -> jax.Array:
        w_DD, b_D = self.w[...].astype(self.dtype), self.b[...].astype(self.dtype)
        return self.norm(activation(self.activation)(dense(x_BMD, w_DD) + b_D))


class NextSentenceHead(nnx.Module):
    """The pooler (dense, tanh) on the first token of an item, and two classes: 0 is next, 1 is random."""

    def __init__(self, c: Bert, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.dtype = dtype
        self.w_pool = parameters.weight(rngs, (c.hidden, c.hidden), ("embed", None), c.init_scale)
        self.b_pool = parameters.zeros((c.hidden,), ("embed",))
        if c.next_sentence == "pooled":
            self.w = parameters.weight(rngs, (c.hidden, 2), ("embed", None), c.init_scale)
            self.b = parameters.zeros((2,), (None,))

    def pool(self, x_BCD: jax.Array) -> jax.Array:
        """What the two classes, and sentence embeddings, are made from."""
        w_DD, b_D = self.w_pool[...].astype(self.dtype), self.b_pool[...].astype(self.dtype)
        return jnp.tanh(x_BCD @ w_DD + b_D)

    def __call__(self, x_BCD: jax.Array) -> jax.Array:
        return self.pool(x_BCD).astype(jnp.float32) @ self.w[...] + self.b[...]


class BertModule(nnx.Module):
    """Weights and calls of one BERT; made by `Bert.module`, bound by `build.Model.bind`."""

    def __init__(self, c: Bert, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        self.embeddings = Embeddings(c, rngs, dtype)
        self.blocks = stack.stacked(lambda r: Block(c, r, dtype), c.layers, rngs)
        if c.token_head == "transform":
            self.token_head = TokenHead(c, rngs, self.embeddings.tokens.table.shape[0], dtype)
        if c.next_sentence != "none":
            self.next_sentence_head = NextSentenceHead(c, rngs, dtype)

    def encode(self, batch: Batch, key: jax.Array | None = None) -> jax.Array:
        """x_BTD in the dtype of the computation. `key` None means no dropout."""
        c = self.config
        key_embed, key_blocks = (None, None) if key is None else jax.random.split(key)
        x_BTD = dropout(self.embeddings(batch), c.dropout, key_embed)
        mask = masks.materialise(masks.within_segments(batch.segments_BT))
        return stack.run(
            lambda block, x_BTD, block_key: block(x_BTD, mask, block_key),
            self.blocks,
            x_BTD,
            key_blocks,
            layers=c.layers,
            loop=c.layer_loop,
            remat=c.remat,
        )

    def predict_tokens(self, x_BMD: jax.Array) -> jax.Array:
        """Features of M positions -> logits_BMV, float32; V is the padded vocabulary, padding is never
        predicted.
        """
        return self.embeddings.tokens.logits(self.token_head(x_BMD), self.token_head.b_vocab[...])

    def classify_pair(self, x_BCD: jax.Array) -> jax.Array:
        """Features of the items' first tokens -> logits_BC2, float32."""
        return self.next_sentence_head(x_BCD)

    def pool(self, x_BCD: jax.Array) -> jax.Array:
        """Features of the items' first tokens through the pooler (dense, tanh): SimCSE's MLP layer."""
        return self.next_sentence_head.pool(x_BCD)
