"""RoBERTa (Liu et al., 1907.11692) and XLM-RoBERTa: BERT's blocks, one token type, no next sentence.

In: a `Roberta` config and a `Batch`. Out: x_BTD and float32 logits of tokens. Guaranteed: position 0 of an item has the
embedding that fairseq gives it, the one behind the padding id; the rows before it exist in files and are never used.
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from flax import nnx

from jaxlm.batch import Head
from jaxlm.errors import UserError
from jaxlm.models import post_norm, stack


@dataclasses.dataclass(kw_only=True)
class Roberta(post_norm.PostNorm):
    """The published RoBERTa-base is vocab_size 50265, hidden 768, layers 12, heads 12, mlp 3072, max_positions 512,
    first_position 2, dropouts 0.1, norm_epsilon 1e-5, "gelu", init_scale 0.02, next_sentence "none"."""

    first_position: int  # rows of the table before that of position 0: padding id + 1; published: 2
    next_sentence: Literal[
        "pooler", "none"
    ]  # a pooler without classes, as bare encoders have it; published: "none"
    token_head: Literal["transform", "none"] = "transform"  # "none": a bare encoder, which predicts no tokens

    @property
    def offers(self) -> tuple[Head, ...]:
        """What it can do besides encoding."""
        return post_norm.offers(self.token_head, self.next_sentence)

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "RobertaModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return RobertaModule(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        super().validate(where)
        if not 1 <= self.first_position <= self.vocab_size:
            raise UserError(
                f"{where}.first_position={self.first_position}: is the padding id + 1, so at least 1 (published: 2)."
            )


class RobertaModule(post_norm.PairEncoder):
    """Weights and calls of one RoBERTa; made by `Roberta.module`, bound by `build.Model.bind`."""

    def __init__(self, c: Roberta, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        self.embeddings = post_norm.Embeddings(c, rngs, dtype, types=1, skipped=c.first_position)
        self.blocks = stack.stacked(lambda r: post_norm.Block(c, r, dtype), c.layers, rngs)
        if c.token_head == "transform":
            rows = self.embeddings.tokens.table.shape[0]
            self.token_head = post_norm.TokenHead(c, rngs, dtype, vocab_rows=rows)
        if c.next_sentence == "pooler":
            self.next_sentence_head = post_norm.PairHead(c, rngs, dtype, classes=0)
