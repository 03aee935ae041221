"""ALBERT (Lan et al., 1909.11942): one block applied L times, token embeddings narrower than it, sentence order.

In: an `Albert` config and a `Batch`. Out: x_BTD, and float32 logits of its heads.
Guaranteed: the number of parameters does not depend on the number of layers.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.models import checks, masks, post_norm, stack
from jaxlm.models.encoded import Extras
from jaxlm.models.heads import Dense


@dataclasses.dataclass(kw_only=True)
class Albert(post_norm.PostNorm):
    """The published ALBERT-base v2 is vocab_size 30000, embedding 128, hidden 768, layers 12, heads 12, mlp 3072,
    max_positions 512, types 2, dropouts 0.0 (v1: 0.1), norm_epsilon 1e-12, "gelu_tanh", init_scale 0.02."""

    embedding: int  # width of the tables of tokens, positions and types
    types: int  # token types (sentence A, sentence B)

    def token_head(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> post_norm.TokenHead:
        """As narrow as the table that decodes."""
        return post_norm.TokenHead(self, rngs, dtype, width=self.embedding)

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> "AlbertModule":
        """The module with fresh parameters; `dtype` is the dtype of the computation."""
        return AlbertModule(self, rngs, dtype)

    def validate(self, where: str) -> None:
        """Raise UserError for what cannot be built; `where` is the key path of this config."""
        super().validate(where)
        checks.at_least_one(self, where, "embedding", "types")


class AlbertModule(post_norm.Encoder):
    """Weights and calls of one ALBERT; made by `Albert.module`, bound by `build.Model.bind`."""

    def __init__(self, c: Albert, rngs: nnx.Rngs, dtype: jnp.dtype):
        self.config = c
        self.embeddings = post_norm.Embeddings(c, rngs, dtype, types=c.types, width=c.embedding)
        self.project = Dense(c, rngs, c.embedding, c.hidden, dtype)
        self.block = post_norm.Block(c, rngs, dtype)

    def run_blocks(
        self, x_BTD: jax.Array, mask: masks.Mask, key: jax.Array | None, at_BM: jax.Array | None
    ) -> tuple[jax.Array, Extras]:
        """The one block, `layers` times."""
        c = self.config
        return stack.repeat(
            lambda block, x_BTD, mask, key: block(x_BTD, mask, key),
            self.block,
            self.project(x_BTD),
            mask,
            key,
            layers=c.layers,
            loop=c.layer_loop,
            remat=c.remat,
            at_BM=at_BM,
        )
