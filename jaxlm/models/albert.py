"""ALBERT (Lan et al., 1909.11942): one block applied L times, token embeddings narrower than it, sentence order.

In: an `Albert` config and a `Batch`. Out: x_BTD, and float32 logits of tokens and of the order of two sentences.
Guaranteed: the number of parameters does not depend on the number of layers.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Head
from jaxlm.models import checks, masks, post_norm, stack


@dataclasses.dataclass(kw_only=True)
class Albert(post_norm.PostNorm):
    """The published ALBERT-base v2 is vocab_size 30000, embedding 128, hidden 768, layers 12, heads 12, mlp 3072,
    max_positions 512, types 2, dropouts 0.0 (v1: 0.1), norm_epsilon 1e-12, "gelu_tanh", init_scale 0.02, "pooled"."""

    embedding: int  # width of the tables of tokens, positions and types
    types: int  # token types (sentence A, sentence B)
    # The head for sentence order: "pooler" is a pooler without classes, as bare encoders have it; "none" has neither
    next_sentence: Literal["pooled", "pooler", "none"]
    token_head: Literal["transform", "none"] = "transform"  # "none": a bare encoder, which predicts no tokens

    @property
    def offers(self) -> tuple[Head, ...]:
        """What it can do besides encoding."""
        return post_norm.offers(self.token_head, self.next_sentence)

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "AlbertModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return AlbertModule(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        super().validate(where)
        checks.at_least_one(self, where, "embedding", "types")


class AlbertModule(post_norm.PairEncoder):
    """Weights and calls of one ALBERT; made by `Albert.module`, bound by `build.Model.bind`."""

    def __init__(self, c: Albert, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        self.embeddings = post_norm.Embeddings(c, rngs, dtype, types=c.types, width=c.embedding)
        self.project = post_norm.Projection(c, rngs, c.embedding, c.hidden, dtype)
        self.block = post_norm.Block(c, rngs, dtype)
        if c.token_head == "transform":
            rows = self.embeddings.tokens.table.shape[0]
            self.token_head = post_norm.TokenHead(c, rngs, dtype, vocab_rows=rows, width=c.embedding)
        if c.next_sentence != "none":
            classes = 2 if c.next_sentence == "pooled" else 0
            self.next_sentence_head = post_norm.PairHead(c, rngs, dtype, classes=classes)

    def run_blocks(self, x_BTD: jax.Array, mask: masks.Mask, key: jax.Array | None) -> jax.Array:
        """The one block, `layers` times."""
        c = self.config
        return stack.repeat(
            lambda x_BTD, key: self.block(x_BTD, mask, key),
            self.project(x_BTD),
            key,
            layers=c.layers,
            loop=c.layer_loop,
            remat=c.remat,
        )
