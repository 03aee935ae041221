"""RoBERTa (Liu et al., 1907.11692) and XLM-RoBERTa: BERT's blocks, one token type, no next sentence.

In: a `Roberta` config and a `Batch`. Out: x_BTD and float32 logits of tokens. Guaranteed: position 0 of an item has the
embedding that fairseq gives it, the one behind the padding id; the rows before it exist in files and are never used.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx

from jaxlm.errors import UserError
from jaxlm.models import post_norm, stack
from jaxlm.models.heads import Activated


@dataclasses.dataclass(kw_only=True)
class Roberta(post_norm.PostNorm):
    """The published RoBERTa-base is vocab_size 50265, hidden 768, layers 12, heads 12, mlp 3072, max_positions 512,
    first_position 2, dropouts 0.1, norm_epsilon 1e-5, "gelu", init_scale 0.02."""

    # Choices stand behind the pooler, classes behind a layer of their own.
    choices_pooled: ClassVar[bool] = True

    first_position: int  # rows of the table before that of position 0: padding id + 1; published: 2

    def class_layer(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> Activated:
        """What classes of a text stand behind, in place of a pooler."""
        return Activated(self, rngs, dtype, jnp.tanh)

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


class RobertaModule(post_norm.Encoder):
    """Weights and calls of one RoBERTa; made by `Roberta.module`, bound by `build.Model.bind`."""

    def __init__(self, c: Roberta, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        self.embeddings = post_norm.Embeddings(c, rngs, dtype, types=1, skipped=c.first_position)
        self.blocks = stack.stacked(lambda r: post_norm.Block(c, r, dtype), c.layers, rngs)
